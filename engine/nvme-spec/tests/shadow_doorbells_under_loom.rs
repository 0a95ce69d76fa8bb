//! Shadow doorbells under every order of execution and of memory that the language allows (loom).
//!
//! The driver's and the controller's own code works on raw memory that loom cannot stand in for, so this is a model of
//! both: the same loads, stores and fences in the same order and with the same orderings, around the `need_event` that
//! both use. Where one of them changes, this must follow.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
use loom::thread;

use engine_nvme_spec::dbbuf::need_event;

/// Commands that the host gives.
const COMMANDS: u32 = 2;

/// What the host and a controller thread share.
struct Shared {
    /// The host's doorbell in memory.
    value: AtomicU32,
    /// The controller's event index.
    event: AtomicU32,
    /// Whether the register was written since the controller woke up last (what `unpark` keeps).
    rung: AtomicBool,
    /// Whether the controller has gone to sleep for good, since nobody rang.
    asleep: AtomicBool,
    entries: [AtomicU64; 2],
}

impl Shared {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            value: AtomicU32::new(0),
            event: AtomicU32::new(0),
            rung: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            entries: [AtomicU64::new(0), AtomicU64::new(0)],
        })
    }

    /// As the driver's `Doorbell::ring` with a shadow.
    fn give(&self, index: u32, host_fence: bool) {
        self.entries[usize::try_from(index).unwrap()].store(u64::from(index) + 100, Ordering::Relaxed);
        let (before, after) = (index, index + 1);
        self.value.store(after, Ordering::Release);
        if host_fence {
            fence(Ordering::SeqCst);
        }
        let event = self.event.load(Ordering::Relaxed);
        let short = |value: u32| u16::try_from(value & 0xffff).unwrap();
        if need_event(short(event), short(after), short(before)) {
            // As `unpark`: an exchange, so that it comes before or after the one of `park`.
            self.rung.swap(true, Ordering::AcqRel);
        }
    }

    /// As a processor that looks at a doorbell: takes what is there and answers the tail that it saw.
    fn take(&self, head: u32) -> u32 {
        let tail = self.value.load(Ordering::Acquire);
        for index in head..tail {
            let entry = self.entries[usize::try_from(index).unwrap()].load(Ordering::Relaxed);
            assert_eq!(entry, u64::from(index) + 100, "an entry was seen before it was there");
        }
        tail
    }

    /// As a controller's thread: polls, says that it will sleep, looks again, sleeps until it is rung. Answers how many
    /// commands it took before it slept with nobody to wake it.
    fn serve(&self, controller_fence: bool) -> u32 {
        let mut head = 0;
        loop {
            head = self.take(head);
            if head == COMMANDS {
                return head;
            }
            // `announce` with `wake`: whoever goes on from here rings.
            self.event.store(head, Ordering::Release);
            if controller_fence {
                fence(Ordering::SeqCst);
            }
            let tail = self.take(head);
            if tail != head {
                head = tail;
                continue;
            }
            // `park`: goes on at once where the register was written, sleeps for good where it never is.
            if !self.rung.swap(false, Ordering::AcqRel) {
                self.asleep.store(true, Ordering::Release);
                return head;
            }
        }
    }
}

/// Runs the host beside the controller. Where the controller slept before everything was taken, somebody must still be
/// going to ring: the register is written when the host is done.
fn run(host_fence: bool, controller_fence: bool) {
    loom::model(move || {
        let shared = Shared::new();
        let host = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || (0..COMMANDS).for_each(|index| shared.give(index, host_fence)))
        };
        let taken = shared.serve(controller_fence);
        host.join().unwrap();
        let slept = shared.asleep.load(Ordering::Acquire);
        assert!(
            !slept || shared.rung.swap(false, Ordering::AcqRel) || taken == COMMANDS,
            "it sleeps with {taken} of {COMMANDS} commands taken, and nobody will ring"
        );
    });
}

#[test]
fn controller_that_sleeps_is_rung_for_every_command_that_it_did_not_see() {
    run(true, true);
}

#[test]
#[should_panic(expected = "nobody will ring")]
fn host_without_its_fence_is_caught() {
    run(false, true);
}

#[test]
#[should_panic(expected = "nobody will ring")]
fn controller_without_its_fence_is_caught() {
    run(true, false);
}
