//! A completion queue under every order of execution and of memory that the language allows (loom).
//!
//! Rings lie in raw memory that loom cannot stand in for, so this is a model of the controller's `CompletionQueue::post`
//! and the driver's look at the phase: the same loads and stores with the same orderings, around the packing of entries
//! that both use. Where one of them changes, this must follow.

use engine_nvme_spec::{Cqe, Status};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use loom::thread;

/// Entries of the queue, of which one is always free.
const ENTRIES: u16 = 2;
/// Completions, which go round the queue once and a half.
const COMPLETIONS: u16 = 3;

struct Ring {
    words: [[AtomicU64; 2]; 2],
    /// The head doorbell.
    head: AtomicU32,
    /// What commands brought into the host's memory.
    data: [AtomicU64; 3],
}

impl Ring {
    fn new() -> Arc<Self> {
        let word = || AtomicU64::new(0);
        let words = [[word(), word()], [word(), word()]];
        Arc::new(Self { words, head: AtomicU32::new(0), data: [word(), word(), word()] })
    }

    /// The controller: data, then the entry's first word, then the word with the phase.
    fn post_all(&self, last_store: Ordering) {
        let (mut tail, mut phase) = (0_u16, true);
        for cid in 0..COMPLETIONS {
            self.data[usize::from(cid)].store(u64::from(cid) + 1, Ordering::Relaxed);
            while (tail + 1) % ENTRIES == u16::try_from(self.head.load(Ordering::Acquire)).unwrap() {
                thread::yield_now();
            }
            let status_and_phase = Cqe::pack(Status::SUCCESS, phase);
            let dw0 = (u32::from(cid) + 7).into();
            let cqe = Cqe { dw0, cid: cid.into(), status_and_phase, ..Cqe::default() };
            let [first, second] = cqe.to_words();
            let [low, high] = &self.words[usize::from(tail)];
            low.store(first, Ordering::Relaxed);
            high.store(second, last_store);
            tail = (tail + 1) % ENTRIES;
            phase ^= tail == 0;
        }
    }

    /// The host: the word with the phase, then the rest, then the head doorbell.
    fn reap_all(&self, first_load: Ordering) {
        let (mut head, mut phase) = (0_u16, true);
        for expected in 0..COMPLETIONS {
            let [low, high] = &self.words[usize::from(head)];
            let second = loop {
                let second = high.load(first_load);
                if Cqe::from_words([0, second]).phase() == phase {
                    break second;
                }
                thread::yield_now();
            };
            let cqe = Cqe::from_words([low.load(Ordering::Relaxed), second]);
            assert_eq!(cqe.cid.get(), expected, "an entry of another round");
            assert_eq!(cqe.dw0.get(), u32::from(expected) + 7, "half an entry");
            let data = self.data[usize::from(expected)].load(Ordering::Relaxed);
            assert_eq!(data, u64::from(expected) + 1, "an answer before its data");
            head = (head + 1) % ENTRIES;
            phase ^= head == 0;
            self.head.store(head.into(), Ordering::Release);
        }
    }
}

fn run(last_store: Ordering, first_load: Ordering) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        let ring = Ring::new();
        let controller = {
            let ring = Arc::clone(&ring);
            thread::spawn(move || ring.post_all(last_store))
        };
        ring.reap_all(first_load);
        controller.join().unwrap();
    });
}

#[test]
fn whole_entries_arrive_in_order_after_their_data() {
    run(Ordering::Release, Ordering::Acquire);
}

#[test]
#[should_panic(expected = "an entry")]
fn entry_whose_phase_is_stored_without_release_is_caught() {
    run(Ordering::Relaxed, Ordering::Acquire);
}

#[test]
#[should_panic(expected = "an entry")]
fn entry_whose_phase_is_loaded_without_acquire_is_caught() {
    run(Ordering::Release, Ordering::Relaxed);
}
