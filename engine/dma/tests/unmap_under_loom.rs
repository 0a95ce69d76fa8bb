//! Taking memory away from workers under every order of execution and of memory that the language allows (loom).
//!
//! `AddressSpace` and `View` use the standard library's types, which loom does not see into, so this is a model of both
//! with the same steps: a table under a lock, a generation that says when to look again, and references that are counted
//! as `Arc` counts them. Where one of them changes, this must follow.

use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use loom::sync::{Arc, Mutex};
use loom::thread;

/// The space: whether the memory is mapped, and how many tables and workers hold the mapping.
struct Space {
    mapped: Mutex<bool>,
    generation: AtomicU64,
    holders: AtomicU32,
    /// What lies in the memory.
    memory: AtomicU64,
}

/// As `View`, with the mapping that its table has.
#[derive(Default)]
struct View {
    holds: bool,
    generation: u64,
}

impl View {
    fn refresh(&mut self, space: &Space) {
        let generation = space.generation.load(Ordering::Acquire);
        if generation != self.generation {
            let mapped = space.mapped.lock().unwrap();
            if *mapped && !self.holds {
                space.holders.fetch_add(1, Ordering::Relaxed);
            }
            let held = std::mem::replace(&mut self.holds, *mapped);
            drop(mapped);
            if held && !self.holds {
                space.holders.fetch_sub(1, Ordering::Release);
            }
            self.generation = generation;
        }
    }

    fn release(&mut self, space: &Space) {
        if std::mem::take(&mut self.holds) {
            space.holders.fetch_sub(1, Ordering::Release);
        }
        self.generation = 0;
    }
}

impl Space {
    /// As `unmap`: the table without the mapping, then the new generation. The old table's own reference goes with it.
    fn unmap(&self) {
        let mut mapped = self.mapped.lock().unwrap();
        *mapped = false;
        self.generation.fetch_add(1, Ordering::Release);
        self.holders.fetch_sub(1, Ordering::Release);
    }

    /// As `settle`, for one look.
    fn is_settled(&self, with_fence: bool) -> bool {
        let settled = self.holders.load(Ordering::Relaxed) == 0;
        if settled && with_fence {
            fence(Ordering::Acquire);
        }
        settled
    }
}

fn run(with_fence: bool) {
    loom::model(move || {
        let space = Arc::new(Space {
            mapped: Mutex::new(true),
            generation: AtomicU64::new(1),
            holders: AtomicU32::new(1),
            memory: AtomicU64::new(0),
        });
        let worker = {
            let space = Arc::clone(&space);
            thread::spawn(move || {
                let mut view = View::default();
                view.refresh(&space);
                if view.holds {
                    space.memory.store(7, Ordering::Relaxed);
                }
                view.refresh(&space);
                let wrote = view.holds;
                if wrote {
                    space.memory.store(8, Ordering::Relaxed);
                }
                view.release(&space);
            })
        };
        space.unmap();
        while !space.is_settled(with_fence) {
            thread::yield_now();
        }
        // The memory is the owner's alone now: what is there stays.
        let first = space.memory.load(Ordering::Relaxed);
        worker.join().unwrap();
        assert_eq!(first, space.memory.load(Ordering::Relaxed), "memory changed after it was settled");
    });
}

#[test]
fn memory_that_is_settled_changes_no_more() {
    run(true);
}

/// Why `settle` has a fence: counting alone does not say that what was written before is seen.
#[test]
#[should_panic(expected = "changed after it was settled")]
fn settling_without_a_fence_is_caught() {
    run(false);
}
