//! A whole queue pair under random schedules (shuttle): submission ring, shadow doorbell with event index, a controller
//! that sleeps, completion ring with phases.
//!
//! The rings of the driver and the controller lie in raw memory that shuttle cannot stand in for, so this is a model of
//! both, with the same steps in the same order, around the packing of entries and the `need_event` that both use.
//! Shuttle knows no weak memory; the models under loom are for that. What it adds is length: rings go round many times.

use engine_nvme_spec::dbbuf::need_event;
use engine_nvme_spec::{Cqe, Sqe, Status, nvm};
use shuttle::sync::Arc;
use shuttle::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use shuttle::sync::mpsc::{Receiver, Sender, channel};
use shuttle::thread;

/// Entries of each queue.
const ENTRIES: u16 = 4;
/// Commands of one run: both rings go round several times.
const COMMANDS: u16 = 14;
const SCHEDULES: usize = 300;

struct Pair {
    submissions: Vec<[AtomicU64; 8]>,
    completions: Vec<[AtomicU64; 2]>,
    tail: AtomicU32,
    tail_event: AtomicU32,
    head: AtomicU32,
    done: AtomicBool,
}

impl Pair {
    fn new() -> Arc<Self> {
        let word = || AtomicU64::new(0);
        Arc::new(Self {
            submissions: (0..ENTRIES).map(|_| std::array::from_fn(|_| word())).collect(),
            completions: (0..ENTRIES).map(|_| [word(), word()]).collect(),
            tail: AtomicU32::new(0),
            tail_event: AtomicU32::new(0),
            head: AtomicU32::new(0),
            done: AtomicBool::new(false),
        })
    }
}

fn short(value: u32) -> u16 {
    u16::try_from(value & 0xffff).unwrap()
}

/// Fetches, answers, and sleeps until the register is written when there is nothing, having said that it must be.
///
/// Channels stand for the register and the interrupt: shuttle's `park` may wake up by itself, which would hide that
/// nobody rang.
fn controller(pair: &Pair, register: &Receiver<()>, interrupt: &Sender<()>, announces: bool) {
    let (mut sq_head, mut cq_tail, mut phase) = (0_u16, 0_u16, true);
    let mut round = || {
        let mut worked = false;
        while sq_head != short(pair.tail.load(Ordering::SeqCst)) {
            let room = (cq_tail + 1) % ENTRIES != short(pair.head.load(Ordering::SeqCst));
            if !room {
                break;
            }
            let words = &pair.submissions[usize::from(sq_head)];
            let sqe = Sqe::from_words(std::array::from_fn(|at| words[at].load(Ordering::SeqCst)));
            sq_head = (sq_head + 1) % ENTRIES;
            let status = if sqe.slba() == u64::from(sqe.cid.get()) * 3 {
                Status::SUCCESS
            } else {
                Status::INVALID_FIELD
            };
            let status_and_phase = Cqe::pack(status, phase);
            let cqe = Cqe { cid: sqe.cid, sq_head: sq_head.into(), status_and_phase, ..Cqe::default() };
            let [first, second] = cqe.to_words();
            pair.completions[usize::from(cq_tail)][0].store(first, Ordering::SeqCst);
            pair.completions[usize::from(cq_tail)][1].store(second, Ordering::SeqCst);
            cq_tail = (cq_tail + 1) % ENTRIES;
            phase ^= cq_tail == 0;
            worked = true;
        }
        (worked, sq_head)
    };
    while !pair.done.load(Ordering::SeqCst) {
        let (worked, seen) = round();
        if worked {
            // The host may have gone with all that it wanted.
            let _ = interrupt.send(());
            continue;
        }
        // A queue with commands that wait for room in the completion queue is not idle.
        let waits_for_room = seen != short(pair.tail.load(Ordering::SeqCst));
        if waits_for_room {
            thread::yield_now();
            continue;
        }
        if announces {
            pair.tail_event.store(seen.into(), Ordering::SeqCst);
        }
        if round().0 {
            let _ = interrupt.send(());
        } else if short(pair.tail.load(Ordering::SeqCst)) == seen && register.recv().is_err() {
            return;
        }
    }
}

/// Gives all commands and takes all answers, each once.
fn host(pair: &Pair, register: &Sender<()>, interrupt: &Receiver<()>) {
    let (mut tail, mut sq_head, mut cq_head, mut phase) = (0_u16, 0_u16, 0_u16, true);
    let (mut given, mut answered) = (0_u16, Vec::new());
    while answered.len() < usize::from(COMMANDS) {
        let after = (tail + 1) % ENTRIES;
        let gives = given < COMMANDS && after != sq_head;
        if gives {
            let sqe = Sqe { cid: given.into(), ..nvm::read(1, u64::from(given) * 3, 1) };
            for (place, word) in pair.submissions[usize::from(tail)].iter().zip(sqe.to_words()) {
                place.store(word, Ordering::SeqCst);
            }
            pair.tail.store(after.into(), Ordering::SeqCst);
            if need_event(short(pair.tail_event.load(Ordering::SeqCst)), after, tail) {
                register.send(()).unwrap();
            }
            tail = after;
            given += 1;
        }
        let [first, second] = &pair.completions[usize::from(cq_head)];
        let cqe = Cqe::from_words([first.load(Ordering::SeqCst), second.load(Ordering::SeqCst)]);
        if cqe.phase() == phase {
            assert!(cqe.status().is_success(), "a command that was not whole: {cqe:?}");
            answered.push(cqe.cid.get());
            sq_head = cqe.sq_head.get();
            cq_head = (cq_head + 1) % ENTRIES;
            phase ^= cq_head == 0;
            pair.head.store(cq_head.into(), Ordering::SeqCst);
        } else if !gives {
            interrupt.recv().unwrap();
        }
    }
    assert_eq!(answered, (0..COMMANDS).collect::<Vec<_>>(), "every command once, in order");
}

fn run(announces: bool) {
    shuttle::check_random(
        move || {
            let pair = Pair::new();
            let theirs = Arc::clone(&pair);
            let (register, heard) = channel();
            let (interrupt, interrupted) = channel();
            let thread = thread::spawn(move || controller(&theirs, &heard, &interrupt, announces));
            host(&pair, &register, &interrupted);
            pair.done.store(true, Ordering::SeqCst);
            drop(register);
            thread.join().unwrap();
        },
        SCHEDULES,
    );
}

#[test]
fn every_command_is_answered_once_however_threads_take_turns() {
    run(true);
}

/// Without the announcement the event index stays where it was, and sooner or later nobody rings.
#[test]
#[should_panic(expected = "deadlock")]
fn controller_that_sleeps_without_saying_so_is_caught() {
    run(false);
}
