//! What the reader sees when the controller does what it should not: nothing hangs, nothing is answered twice, and
//! nothing that the controller may still write to is used again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use engine_block::{BlockDevice, BlockQueue, Completion, Piece, Pieces, Request, Wait};
use engine_nvme::testing::{Answer, Asked, Mock, MockOptions};
use engine_nvme::{DriverOptions, NvmeDevice, Status, open};

const READ: u8 = 2;
const IDENTIFY: u8 = 6;
const ABORT: u8 = 8;

const EIO: i32 = 5;
const ENODEV: i32 = 19;
const ENODATA: i32 = 61;

const TIMEOUT: Duration = Duration::from_millis(64);

fn options() -> DriverOptions {
    DriverOptions { timeout: TIMEOUT, admin_timeout: TIMEOUT * 2, ..DriverOptions::default() }
}

fn volume() -> Vec<u8> {
    (0..1_u32 << 20).map(|at| u8::try_from((at * 7 + (at >> 9)) % 253).unwrap()).collect()
}

fn device() -> (Arc<Mock>, Arc<NvmeDevice>) {
    let mock = Mock::new(MockOptions { disk: volume(), ..MockOptions::default() });
    let device = open(mock.clone(), options()).unwrap();
    (mock, device)
}

/// Answers the first `count` reads with `answer`, and what comes later as it should be.
fn reads(mock: &Mock, count: u32, answer: Answer) -> Arc<AtomicU32> {
    let seen = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&seen);
    mock.script(move |asked: &Asked| {
        let is_read = !asked.is_admin() && asked.opcode() == READ;
        if is_read && counter.fetch_add(1, Ordering::Relaxed) < count { answer } else { Answer::Right }
    });
    seen
}

/// Answers nothing from the first read on, until Identify says that it was started anew.
fn stick_until_identified(mock: &Mock) {
    let (mut stuck, mut anew) = (false, false);
    mock.script(move |asked| {
        anew |= stuck && asked.is_admin() && asked.opcode() == IDENTIFY;
        stuck |= !asked.is_admin() && asked.opcode() == READ;
        if stuck && !anew { Answer::Never } else { Answer::Right }
    });
}

/// Reads many places at once; every request must end once within `limit`.
fn read_all(device: &NvmeDevice, limit: Duration) -> Vec<Completion> {
    read_through(device.queue(16).unwrap(), limit)
}

fn read_through(mut queue: Box<dyn BlockQueue>, limit: Duration) -> Vec<Completion> {
    let start = Instant::now();
    for tag in 0..16_u64 {
        let mut buffer = queue.buffer(8192).unwrap();
        buffer.fill(0xee);
        let pieces =
            Pieces::from_slice(&[Piece { device_offset: tag * 8192, buffer_offset: 0, length: 8192 }]);
        queue.submit(Request { tag, buffer, pieces }).unwrap();
    }
    let mut done = Vec::new();
    while queue.in_flight() > 0 {
        queue.poll(Wait::For(Duration::from_millis(50)), &mut done).unwrap();
        assert!(start.elapsed() < limit, "{} of 16 after {limit:?}", done.len());
    }
    drop(queue);
    let mut tags: Vec<u64> = done.iter().map(|completion| completion.tag).collect();
    tags.sort_unstable();
    assert_eq!(tags, (0..16).collect::<Vec<_>>(), "each once");
    assert!(start.elapsed() < limit);
    done
}

/// Every request must have ended well, with the right bytes.
fn assert_right(done: &[Completion]) {
    let disk = volume();
    for completion in done {
        assert_eq!(completion.result, Ok(()), "request {}", completion.tag);
        let from = usize::try_from(completion.tag).unwrap() * 8192;
        assert!(completion.buffer[..] == disk[from..from + 8192], "request {}", completion.tag);
    }
}

fn errnos(done: &[Completion]) -> Vec<i32> {
    let mut all: Vec<i32> =
        done.iter().map(|one| one.result.as_ref().map_or_else(|e| e.errno, |()| 0)).collect();
    all.sort_unstable();
    all
}

#[test]
fn completion_twice_answers_once() {
    let (mock, device) = device();
    reads(&mock, 3, Answer::Twice);
    assert_right(&read_all(&device, Duration::from_secs(5)));
    assert_eq!(device.controller().resets(), 0);
}

#[test]
fn completion_of_a_command_that_is_not_out_ends_none() {
    for answer in [
        Answer::WrongIdentifier(0xffff),
        Answer::WrongIdentifier(0x200),
        Answer::WrongQueue(0),
        Answer::WrongQueue(77),
        Answer::WrongHead(0x7fff),
        Answer::WrongPhase,
    ] {
        let (mock, device) = device();
        reads(&mock, 1, answer);
        assert_right(&read_all(&device, Duration::from_secs(5)));
        assert!(mock.count(true, ABORT) > 0, "{answer:?}: the command is late then");
        assert_eq!(mock.stray(), 0, "{answer:?}");
    }
}

#[test]
fn controller_that_completes_what_is_not_out_again_and_again_is_reset() {
    let (mock, device) = device();
    reads(&mock, 12, Answer::WrongIdentifier(0x7f));
    assert_right(&read_all(&device, Duration::from_secs(5)));
    assert!(device.controller().resets() > 0);
}

#[test]
fn command_that_is_dropped_is_aborted_and_read_again() {
    let (mock, device) = device();
    reads(&mock, 1, Answer::Later);
    assert_right(&read_all(&device, Duration::from_secs(5)));
    assert_eq!(mock.count(true, ABORT), 1);
    assert_eq!((device.controller().resets(), mock.starts()), (0, 1));
}

#[test]
fn command_after_a_long_idle_time_has_all_of_its_time() {
    let mock = Mock::new(MockOptions { disk: volume(), ..MockOptions::default() });
    let options = DriverOptions { timeout: Duration::from_millis(320), ..options() };
    let device = open(mock.clone(), options).unwrap();
    reads(&mock, 3, Answer::Later);
    let mut queue = device.queue(1).unwrap();
    for round in 0..3 {
        std::thread::sleep(Duration::from_millis(800));
        let (slow, (over, is_over)) = (Arc::clone(&mock), channel::<()>());
        let releaser = std::thread::spawn(move || {
            while is_over.recv_timeout(Duration::from_millis(30)) == Err(RecvTimeoutError::Timeout) {
                slow.release();
            }
        });
        let buffer = queue.buffer(512).unwrap();
        let pieces = Pieces::from_slice(&[Piece { device_offset: 0, buffer_offset: 0, length: 512 }]);
        let done = queue.read(Request { tag: round, buffer, pieces });
        drop(over);
        releaser.join().unwrap();
        assert_eq!(done.result, Ok(()));
        assert_eq!((mock.count(true, ABORT), mock.count(true, 0)), (0, 0), "round {round}");
    }
}

#[test]
fn command_that_no_abort_ends_goes_with_its_queue() {
    let (mock, device) = device();
    reads(&mock, 2, Answer::Never);
    assert_right(&read_all(&device, Duration::from_secs(5)));
    // The queue of the readers, once more than the queues that are dropped.
    assert!(mock.count(true, 0) > 1);
    assert_eq!(device.controller().resets(), 0);
}

#[test]
fn command_that_no_queue_deletion_ends_goes_with_a_reset() {
    let (mock, device) = device();
    let seen = Arc::new(AtomicU32::new(0));
    let (counter, inner) = (Arc::clone(&seen), Arc::clone(&seen));
    mock.script(move |asked| match (asked.is_admin(), asked.opcode()) {
        (false, READ) if counter.fetch_add(1, Ordering::Relaxed) == 0 => Answer::Never,
        // Deletion is refused while the command is out.
        (true, 0) if inner.load(Ordering::Relaxed) <= 16 => Answer::Status(Status(6), 0),
        _ => Answer::Right,
    });
    assert_right(&read_all(&device, Duration::from_secs(5)));
    assert_eq!((device.controller().resets(), mock.starts()), (1, 2));
}

#[test]
fn controller_that_answers_nothing_any_more_is_reset_and_read_again() {
    let (mock, device) = device();
    stick_until_identified(&mock);
    assert_right(&read_all(&device, Duration::from_secs(5)));
    assert_eq!((device.controller().resets(), mock.starts()), (1, 2));
}

#[test]
fn reads_that_are_never_answered_end_in_an_error() {
    let (mock, device) = device();
    reads(&mock, u32::MAX, Answer::Never);
    let errnos = errnos(&read_all(&device, Duration::from_secs(20)));
    assert_eq!(errnos, [EIO; 16]);
    mock.script(|_| Answer::Right);
    assert_right(&read_all(&device, Duration::from_secs(5)));
}

#[test]
fn fatal_status_is_mended_by_a_reset() {
    let (mock, device) = device();
    reads(&mock, 1, Answer::Fail);
    assert_right(&read_all(&device, Duration::from_secs(5)));
    assert_eq!((device.controller().resets(), mock.starts()), (1, 2));
}

#[test]
fn fatal_status_is_mended_for_who_asks_for_a_queue() {
    let (mock, device) = device();
    mock.fail(false);
    assert_right(&read_all(&device, Duration::from_secs(5)));
    assert_eq!((device.controller().resets(), mock.starts()), (1, 2));
}

#[test]
fn fatal_status_that_stays_ends_everything_with_enodev() {
    let (mock, device) = device();
    let queue = device.queue(16).unwrap();
    mock.fail(true);
    let done = read_through(queue, Duration::from_secs(5));
    assert_eq!(errnos(&done), [ENODEV; 16]);
    let start = Instant::now();
    assert_eq!(device.read_at(0, &mut [0; 512]).unwrap_err().errno, ENODEV);
    assert!(start.elapsed() < Duration::from_millis(100), "what is gone fails at once");
    assert!(device.controller().is_gone());
}

#[test]
fn controller_that_vanishes_ends_everything_with_enodev_and_its_memory_is_given_up() {
    let (mock, device) = device();
    let mut queue = device.queue(16).unwrap();
    reads(&mock, 5, Answer::Vanish);
    let addresses: Vec<_> = (0..16_u64)
        .map(|tag| {
            let buffer = queue.buffer(8192).unwrap();
            let address = buffer.address().addr();
            let pieces =
                Pieces::from_slice(&[Piece { device_offset: tag * 8192, buffer_offset: 0, length: 8192 }]);
            queue.submit(Request { tag, buffer, pieces }).unwrap();
            address
        })
        .collect();
    let (start, mut done) = (Instant::now(), Vec::new());
    while queue.in_flight() > 0 {
        queue.poll(Wait::One, &mut done).unwrap();
    }
    assert!(start.elapsed() < Duration::from_secs(2));
    assert_eq!(errnos(&done), [ENODEV; 16]);
    for completion in &done {
        assert_eq!(completion.buffer.len(), 8192);
        assert!(!addresses.contains(&completion.buffer.address().addr()), "its own memory is not given back");
    }
    let fresh = queue.buffer(8192).unwrap();
    assert!(!addresses.contains(&fresh.address().addr()), "nor to anybody else");
    drop((queue, device));
    assert!(mock.ranges() > 0, "the controller still reaches it");
}

#[test]
fn controller_that_is_cut_off_ends_everything_with_enodev() {
    let (mock, device) = device();
    let mut queue = device.queue(1).unwrap();
    mock.cut_off();
    let buffer = queue.buffer(512).unwrap();
    let pieces = Pieces::from_slice(&[Piece { device_offset: 0, buffer_offset: 0, length: 512 }]);
    let done = queue.read(Request { tag: 1, buffer, pieces });
    assert_eq!(done.result.unwrap_err().errno, ENODEV);
}

#[test]
fn controller_that_does_not_stop_is_reset_by_its_function() {
    let (mock, device) = device();
    mock.thaw_by_reset();
    stick_until_identified(&mock);
    mock.freeze();
    assert_right(&read_all(&device, Duration::from_secs(30)));
    assert_eq!((device.controller().resets(), mock.starts()), (1, 2), "the function's reset brought it back");
}

#[test]
fn status_without_do_not_retry_is_tried_again_and_with_it_told() {
    let (mock, device) = device();
    let internal = 0x06;
    reads(&mock, 16, Answer::Status(Status(internal), 0));
    assert_right(&read_all(&device, Duration::from_secs(5)));

    let media = 0x281;
    let seen = reads(&mock, 1, Answer::Status(Status(media | 0x4000), 0));
    let done = read_all(&device, Duration::from_secs(5));
    let failed: Vec<_> = done.iter().filter(|one| one.result.is_err()).collect();
    assert_eq!(failed.len(), 1);
    let error = failed[0].result.as_ref().unwrap_err();
    assert_eq!((error.errno, error.offset, error.length), (ENODATA, failed[0].tag * 8192, 8192));
    assert_eq!(seen.load(Ordering::Relaxed), 16, "it is not tried again");
}

#[test]
fn retry_delay_is_kept_to() {
    let (mock, device) = {
        let mock = Mock::new(MockOptions { disk: volume(), ..MockOptions::default() });
        // CRDT2 is 100 ms, more than the timeout of a command, which bounds it.
        mock.lie(1, 130, &1_u16.to_le_bytes());
        let options = DriverOptions { timeout: Duration::from_secs(2), ..options() };
        let device = open(mock.clone(), options).unwrap();
        (mock, device)
    };
    let (internal, second) = (0x06, 2 << 11);
    reads(&mock, 1, Answer::Status(Status(internal | second), 0));
    let start = Instant::now();
    device.read_at(0, &mut [0; 512]).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(100), "{:?}", start.elapsed());
}

#[test]
fn status_that_stays_is_told_after_a_bounded_number_of_tries() {
    let (mock, device) = device();
    let seen = reads(&mock, u32::MAX, Answer::Status(Status(0x06), 0));
    let error = device.read_at(4096, &mut [0; 512]).unwrap_err();
    assert_eq!((error.errno, error.offset, error.length), (EIO, 4096, 512));
    assert_eq!(seen.load(Ordering::Relaxed), 1 + options().retries);
}

#[test]
fn queue_dropped_with_reads_in_flight_ends_them_first() {
    let (mock, device) = device();
    reads(&mock, 4, Answer::Later);
    let mut queue = device.queue(8).unwrap();
    for tag in 0..8 {
        let buffer = queue.buffer(4096).unwrap();
        let pieces = Pieces::from_slice(&[Piece { device_offset: 0, buffer_offset: 0, length: 4096 }]);
        queue.submit(Request { tag, buffer, pieces }).unwrap();
    }
    let mut done = Vec::new();
    queue.poll(Wait::No, &mut done).unwrap();
    let start = Instant::now();
    drop((queue, done));
    assert!(start.elapsed() < Duration::from_secs(2));
    drop(device);
    mock.release();
    assert_eq!((mock.stray(), mock.ranges()), (0, 0));
}

#[test]
fn events_are_listened_for_again() {
    let (mock, device) = device();
    for round in 0..12 {
        // A temperature warning with the SMART log page.
        let told = (0..100).any(|_| {
            let told = mock.tell(0x0002_0101);
            if !told {
                std::thread::sleep(Duration::from_millis(20));
            }
            told
        });
        assert!(told, "round {round}");
    }
    device.read_at(0, &mut [0; 512]).unwrap();
}
