//! Submission and completion queues as a controller sees them: rings in memory that the host may change or take away.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use engine_dma::{Access, Mapping, View, Words, read_soon, to_u64, to_usize, write_soon};
use engine_nvme_spec::{Sqe, Status};
use smallvec::SmallVec;

use crate::tally::Tally;

const SUBMISSION: usize = 64;
const COMPLETION: usize = 16;
/// Bytes of a cache line, as far as asking for some of them goes.
const LINE: usize = 64;

/// The memory of a ring. It is contiguous on the bus, but may lie in several mappings.
#[derive(Debug)]
pub(crate) struct RingMemory {
    iova: u64,
    bytes: usize,
    /// All of it, where it lies in one mapping, as rings do nearly always.
    whole: Option<Words>,
    parts: SmallVec<[Part; 1]>,
}

#[derive(Debug)]
struct Part {
    /// First byte of the ring that lies here.
    start: usize,
    length: usize,
    mapping: Arc<Mapping>,
    offset: usize,
}

impl RingMemory {
    /// Finds the memory of a ring; none where some of it is not mapped.
    pub(crate) fn find(view: &mut View, iova: u64, bytes: usize) -> Option<Self> {
        let mut parts: SmallVec<[Part; 1]> = SmallVec::new();
        let mut start = 0;
        while start < bytes {
            let at = iova.checked_add(to_u64(start))?;
            let span = view.span(at, bytes - start, Access::ReadWrite).ok()?;
            let (mapping, offset, length) = (Arc::clone(span.mapping), span.offset, span.length);
            // Entries lie in one part each and are seen as words; memory that is mapped otherwise is none for a ring.
            if !offset.is_multiple_of(8) || !start.is_multiple_of(SUBMISSION) {
                return None;
            }
            parts.push(Part { start, length, mapping, offset });
            start += length;
        }
        let whole = match &*parts {
            [only] => Some(Words::new(Arc::clone(only.mapping.region()), only.offset, only.length / 8)?),
            _ => None,
        };
        Some(Self { iova, bytes, whole, parts })
    }

    /// Whether the view still shows the same memory.
    pub(crate) fn is_current(&self, view: &mut View) -> bool {
        self.parts.iter().all(|part| {
            let at = self.iova + to_u64(part.start);
            view.span(at, part.length, Access::ReadWrite)
                .is_ok_and(|span| span.mapping.is_same(&part.mapping))
        })
    }

    /// Finds the memory again after mappings changed; whether it is there.
    pub(crate) fn renew(&mut self, view: &mut View) -> bool {
        match Self::find(view, self.iova, self.bytes) {
            Some(found) => {
                *self = found;
                true
            }
            None => false,
        }
    }

    /// The 32-bit word at a byte of the ring.
    #[inline]
    pub(crate) fn word32(&self, offset: usize) -> Option<&AtomicU32> {
        let part = self.part(offset)?;
        part.mapping.region().u32_at(part.offset + (offset - part.start))
    }

    #[inline]
    fn part(&self, offset: usize) -> Option<&Part> {
        match &*self.parts {
            [only] => Some(only),
            parts => parts.iter().find(|part| offset >= part.start && offset - part.start < part.length),
        }
    }

    #[inline]
    fn words(&self, offset: usize, count: usize) -> Option<&[AtomicU64]> {
        if let Some(words) = &self.whole {
            return words.get(offset / 8..offset / 8 + count);
        }
        let part = self.part(offset)?;
        part.mapping.region().u64s_at(part.offset + (offset - part.start), count)
    }
}

/// A submission queue.
#[derive(Debug)]
pub(crate) struct SubmissionQueue {
    pub(crate) id: u16,
    pub(crate) completion_queue: u16,
    pub(crate) entries: u16,
    /// 0 urgent, 1 high, 2 medium, 3 low.
    pub(crate) priority: u8,
    pub(crate) memory: RingMemory,
    pub(crate) head: u16,
    pub(crate) tail: u16,
    /// A doorbell value that was told of as wrong, so that it is told once.
    pub(crate) refused: Option<u32>,
    /// Where its commands are counted, if anybody wants to know.
    pub(crate) tally: Option<Arc<Tally>>,
}

impl SubmissionQueue {
    pub(crate) fn new(
        id: u16,
        completion_queue: u16,
        entries: u16,
        priority: u8,
        memory: RingMemory,
    ) -> Self {
        Self { id, completion_queue, entries, priority, memory, head: 0, tail: 0, refused: None, tally: None }
    }

    /// Takes the next entry, once, whatever happens to the memory afterwards; none where there is none, or where its
    /// memory is gone.
    #[inline]
    pub(crate) fn fetch(&mut self) -> Option<Sqe> {
        if self.head == self.tail {
            return None;
        }
        let words = self.memory.words(usize::from(self.head) * SUBMISSION, 8)?;
        let mut copy = [0; 8];
        for (word, place) in words.iter().zip(&mut copy) {
            *place = word.load(Ordering::Relaxed).to_le();
        }
        // `entries` is one less than the number, so that 65536 fits.
        self.head = if self.head == self.entries { 0 } else { self.head + 1 };
        // The same bytes, seen as fields.
        Some(zerocopy::transmute!(copy))
    }

    /// What the next entry seems to ask for: opcode, namespace, first block and blocks. It is fetched once more when its
    /// turn comes, and only what is fetched then counts.
    #[inline]
    pub(crate) fn glance(&self) -> Option<(u8, u32, u64, u64)> {
        if self.head == self.tail {
            return None;
        }
        let words = self.memory.words(usize::from(self.head) * SUBMISSION, 8)?;
        let word = |at: usize| words.get(at).map_or(0, |word| word.load(Ordering::Relaxed)).to_le_bytes();
        let [opcode, _, _, _, n0, n1, n2, n3] = word(0);
        let [b0, b1, ..] = word(6);
        let blocks = u64::from(u16::from_le_bytes([b0, b1])) + 1;
        Some((opcode, u32::from_le_bytes([n0, n1, n2, n3]), u64::from_le_bytes(word(5)), blocks))
    }

    /// How many entries wait.
    #[inline]
    pub(crate) fn waiting(&self) -> u32 {
        let (head, tail) = (u32::from(self.head), u32::from(self.tail));
        if tail >= head { tail - head } else { tail + u32::from(self.entries) + 1 - head }
    }

    /// Asks for the lines of entries that wait: `count` of them, from the one after the next `skip` on. What lies beyond the
    /// end of the queue's memory is left out.
    #[inline]
    pub(crate) fn expect(&self, skip: u32, count: u32) {
        let (first, count) = stretch(self.entries, self.head, skip, count);
        if let Some(words) = self.memory.words(first * SUBMISSION, count * SUBMISSION / 8) {
            words.iter().step_by(SUBMISSION / 8).for_each(read_soon);
        }
    }

    /// Takes a doorbell's value; false where it cannot be.
    #[inline]
    pub(crate) fn ring(&mut self, value: u32) -> bool {
        match u16::try_from(value) {
            Ok(tail) if tail <= self.entries => {
                self.tail = tail;
                true
            }
            _ => false,
        }
    }
}

/// A completion queue.
#[derive(Debug)]
pub(crate) struct CompletionQueue {
    pub(crate) id: u16,
    pub(crate) entries: u16,
    pub(crate) memory: RingMemory,
    pub(crate) tail: u16,
    pub(crate) head: u16,
    pub(crate) phase: bool,
    /// Places promised to commands that are being carried out.
    pub(crate) promised: u32,
    pub(crate) vector: Option<u16>,
    /// How many were put in since the last interrupt.
    pub(crate) news: u32,
    /// When the first of those that wait for others before an interrupt was put in, as far as that was looked at.
    pub(crate) since: Option<Instant>,
    pub(crate) refused: Option<u32>,
}

impl CompletionQueue {
    pub(crate) fn new(id: u16, entries: u16, memory: RingMemory, vector: Option<u16>) -> Self {
        let (phase, promised, news, since) = (true, 0, 0, None);
        Self { id, entries, memory, tail: 0, head: 0, phase, promised, vector, news, since, refused: None }
    }

    /// How many more commands can be carried out with a place for their completions.
    #[inline]
    pub(crate) fn room(&self) -> u32 {
        // One place stays empty, so that full and empty are told apart.
        u32::from(self.entries).saturating_sub(self.distance(self.head, self.tail) + self.promised)
    }

    /// How many places on `to` is from `from`.
    #[inline]
    fn distance(&self, from: u16, to: u16) -> u32 {
        let (from, to) = (u32::from(from), u32::from(to));
        if to >= from { to - from } else { to + u32::from(self.entries) + 1 - from }
    }

    /// Takes a doorbell's value; false where it cannot be: past the tail.
    #[inline]
    pub(crate) fn ring(&mut self, value: u32) -> bool {
        match u16::try_from(value) {
            Ok(head)
                if head <= self.entries
                    && self.distance(self.head, head) <= self.distance(self.head, self.tail) =>
            {
                self.head = head;
                true
            }
            _ => false,
        }
    }

    /// Asks for the lines of `count` entries, from the one after the next `skip` on; of those the host has what it looked at
    /// last. What lies beyond the end of the queue's memory is left out.
    #[inline]
    pub(crate) fn expect(&self, skip: u32, count: u32) {
        let (first, count) = stretch(self.entries, self.tail, skip, count);
        if let Some(words) = self.memory.words(first * COMPLETION, count * COMPLETION / 8) {
            words.iter().step_by(LINE / 8).for_each(write_soon);
        }
    }

    /// Puts an entry in, with the phase that it must have, or the other one for a controller that errs.
    #[inline]
    pub(crate) fn post(&mut self, entry: &Entry, wrong_phase: bool) {
        let Entry { sq_id, sq_head, cid, status, dw0 } = *entry;
        let last = u64::from(status.0 << 1 | u16::from(self.phase != wrong_phase));
        let second = u64::from(sq_head) | u64::from(sq_id) << 16 | u64::from(cid) << 32 | last << 48;
        if let Some([low, high]) = self.memory.words(usize::from(self.tail) * COMPLETION, 2) {
            low.store(u64::from(dw0), Ordering::Relaxed);
            // Release: who sees the phase sees the rest, and the data.
            high.store(second, Ordering::Release);
        }
        if self.tail == self.entries {
            self.tail = 0;
            self.phase = !self.phase;
        } else {
            self.tail += 1;
        }
        self.news = self.news.saturating_add(1);
    }
}

/// What a completion says, without its phase (Base, section 4.2.1).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) sq_id: u16,
    pub(crate) sq_head: u16,
    pub(crate) cid: u16,
    pub(crate) status: Status,
    pub(crate) dw0: u32,
}

/// Which places of a ring are the `count` that follow the `skip` from `from` on, which are no more than it has: the first, and
/// how many lie there before its memory ends. `entries` is one less than it has.
#[inline]
fn stretch(entries: u16, from: u16, skip: u32, count: u32) -> (usize, usize) {
    let places = u32::from(entries) + 1;
    let first = u32::from(from) + skip;
    let first = if first >= places { first - places } else { first };
    (to_usize(first.into()), to_usize(count.min(places.saturating_sub(first)).into()))
}

/// Bytes of a ring.
pub(crate) fn ring_bytes(entries: u16, completion: bool) -> usize {
    let entry = if completion { COMPLETION } else { SUBMISSION };
    (to_usize(u64::from(entries)) + 1) * entry
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use engine_dma::{AddressSpace, Region};
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Promise,
        /// A command that was promised a place is answered.
        Keep,
        Post,
        /// The host has taken so many of those that lie there, and says so.
        Take(u32),
        /// It says what it cannot have: so many more than lie there.
        Lie(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            2 => Just(Step::Promise),
            2 => Just(Step::Keep),
            3 => Just(Step::Post),
            3 => (0_u32..40).prop_map(Step::Take),
            1 => (1_u32..100_000).prop_map(Step::Lie),
        ]
    }

    proptest! {
        /// Against a list of what lies there: the room is what is left of it, nothing is overwritten that the host has not
        /// taken, the phase turns with each round, and a head that cannot be changes nothing.
        #[test]
        fn completion_queue_agrees_with_a_list(entries in 1_u16..40, steps in prop::collection::vec(step(), 1..300)) {
            let bytes = ring_bytes(entries, true);
            let space = AddressSpace::new(1);
            let region = Region::private(bytes).unwrap();
            space.map(0, to_u64(region.length()), Arc::clone(&region), 0, Access::ReadWrite).unwrap();
            let mut view = View::new();
            view.refresh(&space);
            let memory = RingMemory::find(&mut view, 0, bytes).unwrap();
            let mut queue = CompletionQueue::new(1, entries, memory, None);
            let places = u64::from(entries) + 1;
            let (mut lying, mut promised) = (VecDeque::new(), 0_u32);
            // How many were put in, and taken, ever.
            let (mut put, mut taken) = (0_u64, 0_u64);
            for step in steps {
                let left = u32::from(entries) - u32::try_from(lying.len()).unwrap() - promised;
                prop_assert_eq!(queue.room(), left);
                match step {
                    Step::Promise if left > 0 => {
                        queue.promised += 1;
                        promised += 1;
                    }
                    Step::Keep | Step::Post => {
                        if matches!(step, Step::Keep) && promised > 0 {
                            queue.promised -= 1;
                            promised -= 1;
                        } else if left == 0 {
                            continue;
                        }
                        let cid = u16::try_from(put % 60_000).unwrap();
                        let entry = Entry { sq_id: 1, sq_head: 0, cid, status: Status::SUCCESS, dw0: 0 };
                        queue.post(&entry, false);
                        lying.push_back(cid);
                        put += 1;
                    }
                    Step::Take(count) => {
                        let count = to_usize(count.into()).min(lying.len());
                        lying.drain(..count);
                        taken += to_u64(count);
                        prop_assert!(queue.ring(u32::try_from(taken % places).unwrap()));
                    }
                    Step::Lie(more) => {
                        let beyond = to_u64(lying.len()) + u64::from(more);
                        // So many more may be a place that there is, seen from the other side.
                        let head = if beyond < places { (taken + beyond) % places } else { places + u64::from(more) };
                        prop_assert!(!queue.ring(u32::try_from(head).unwrap()));
                    }
                    Step::Promise => {}
                }
                for (at, cid) in (taken..put).zip(&lying) {
                    let offset = to_usize(at % places) * COMPLETION + 8;
                    let second = region.u64s_at(offset, 1).unwrap()[0].load(Ordering::Relaxed);
                    prop_assert_eq!(second >> 32 & 0xffff, u64::from(*cid));
                    prop_assert_eq!(second >> 48 & 1 == 1, (at / places).is_multiple_of(2), "the phase of its round");
                }
            }
        }
    }
}
