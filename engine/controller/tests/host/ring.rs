//! The host's side of a queue pair.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use engine_dma::Region;
use engine_nvme_spec::{Cqe, Sqe};

use super::Memory;

/// A submission queue and the completion queue of the same number.
#[derive(Debug)]
pub(crate) struct Pair {
    region: Arc<Region>,
    submissions: usize,
    completions: usize,
    submissions_at: u64,
    completions_at: u64,
    submission_entries: u16,
    completion_entries: u16,
    tail: u16,
    head: u16,
    phase: bool,
}

impl Pair {
    pub(crate) fn new(
        memory: &mut Memory,
        _id: u16,
        submission_entries: u16,
        completion_entries: u16,
    ) -> Self {
        let submissions_at = memory.take(usize::from(submission_entries) * 64);
        let completions_at = memory.take(usize::from(completion_entries) * 16);
        Self {
            region: Arc::clone(memory.region()),
            submissions: memory.place(submissions_at),
            completions: memory.place(completions_at),
            submissions_at,
            completions_at,
            submission_entries,
            completion_entries,
            tail: 0,
            head: 0,
            phase: true,
        }
    }

    pub(crate) fn submissions_at(&self) -> u64 {
        self.submissions_at
    }

    pub(crate) fn completions_at(&self) -> u64 {
        self.completions_at
    }

    pub(crate) fn tail(&self) -> u16 {
        self.tail
    }

    pub(crate) fn head(&self) -> u16 {
        self.head
    }

    /// Stores an entry at the tail, in place.
    pub(crate) fn push(&mut self, sqe: Sqe) {
        let at = self.submissions + usize::from(self.tail) * 64;
        for (place, word) in self.region.u64s_at(at, 8).unwrap().iter().zip(sqe.to_words()) {
            place.store(word, Ordering::Relaxed);
        }
        self.tail = if self.tail + 1 == self.submission_entries { 0 } else { self.tail + 1 };
    }

    /// The entry at the head, as it lies there, whether it is new or not.
    pub(crate) fn peek(&self) -> Cqe {
        let at = self.completions + usize::from(self.head) * 16;
        let words = self.region.u64s_at(at, 2).unwrap();
        let second = words[1].load(Ordering::Acquire);
        Cqe::from_words([words[0].load(Ordering::Relaxed), second])
    }

    /// Takes the entry at the head, where it is new.
    pub(crate) fn take(&mut self) -> Option<Cqe> {
        let entry = self.peek();
        if entry.phase() != self.phase {
            return None;
        }
        self.head += 1;
        if self.head == self.completion_entries {
            (self.head, self.phase) = (0, !self.phase);
        }
        Some(entry)
    }
}
