//! What a reader sees of the faults that the software controller shows, through each of its doors.

mod soft;

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine_block::{BlockDevice, BlockQueue, Piece, Pieces, Request, Wait};
use engine_controller::{Effect, Fault, Faults};
use engine_dma::Buffer;
use engine_nvme::{DriverOptions, Status};
use soft::{FAULTY, driver, volume, with_faults, with_faults_and};

const ENODEV: i32 = 19;
const ENODATA: i32 = 61;

/// After this a thread of the controller's is not in the middle of a round any more that it began before.
const ROUND: Duration = Duration::from_millis(30);

/// Lets the controller take no commands any more.
fn stick(faults: &Faults) {
    faults.stick(true);
    std::thread::sleep(ROUND);
}

/// What a request of [`read_all`] is for.
fn part(bytes: &[u8], tag: u64) -> &[u8] {
    let from = usize::try_from(tag).unwrap() * 4096;
    &bytes[from..from + 4096]
}

/// Reads many places at once; every request ends once, within the limit. The errnos, 0 for success.
fn read_all(mut queue: Box<dyn BlockQueue>) -> Vec<(u64, i32, Buffer)> {
    let start = Instant::now();
    for tag in 0..16_u64 {
        let buffer = queue.buffer(4096).unwrap();
        let pieces =
            Pieces::from_slice(&[Piece { device_offset: tag * 4096, buffer_offset: 0, length: 4096 }]);
        queue.submit(Request { tag, buffer, pieces }).unwrap();
    }
    let mut done = Vec::new();
    while queue.in_flight() > 0 {
        queue.poll(Wait::For(Duration::from_millis(50)), &mut done).unwrap();
        assert!(start.elapsed() < Duration::from_secs(20), "{} of 16", done.len());
    }
    let errno = |result: &Result<(), engine_block::IoError>| result.as_ref().map_or_else(|e| e.errno, |()| 0);
    let mut all: Vec<_> = done.into_iter().map(|one| (one.tag, errno(&one.result), one.buffer)).collect();
    all.sort_by_key(|(tag, _, _)| *tag);
    assert!(all.iter().map(|(tag, _, _)| *tag).eq(0..16), "each once");
    all
}

#[test]
fn faults_that_lose_no_data_are_not_seen_by_the_reader() {
    let effects = [
        Effect::Drop,
        Effect::Delay(Duration::from_millis(30)),
        Effect::Delay(Duration::from_millis(400)),
        Effect::Reorder,
        Effect::Fail(Status::COMMAND_INTERRUPTED),
        Effect::Duplicate,
        Effect::WrongPhase,
        Effect::WrongCommand(0xffff),
        Effect::WrongQueue(0),
        Effect::WrongHead(0xffff),
    ];
    let bytes = volume();
    for way in FAULTY {
        for effect in effects {
            let (setup, faults) = with_faults(way);
            let device = setup.open();
            let queue = device.queue(16).unwrap();
            faults.add(Fault::io(effect).opcode(2).after(3).times(2));
            let done = read_all(queue);
            for (tag, errno, buffer) in &done {
                assert_eq!(*errno, 0, "{effect:?}, {way:?}, request {tag}");
                assert!(buffer[..] == *part(&bytes, *tag), "{effect:?}, {way:?}, request {tag}");
            }
            assert_eq!(faults.left(), 0, "{effect:?}, {way:?}: it was shown");
            faults.heal();
            device.read_at(0, &mut [0; 512]).unwrap();
            drop((done, device));
            setup.assert_nothing_left();
        }
    }
}

#[test]
fn byte_that_is_corrupted_is_seen_in_its_request_and_in_no_other() {
    let bytes = volume();
    for way in FAULTY {
        let (setup, faults) = with_faults(way);
        let device = setup.open();
        faults.add(Fault::io(Effect::Corrupt).opcode(2).after(5));
        let done = read_all(device.queue(16).unwrap());
        assert!(done.iter().all(|(_, errno, _)| *errno == 0), "nobody but the reader can know");
        let wrong = |(tag, _, buffer): &(u64, i32, Buffer)| {
            buffer.iter().zip(part(&bytes, *tag)).filter(|(a, b)| a != b).count()
        };
        let mut wrong: Vec<usize> = done.iter().map(wrong).collect();
        wrong.sort_unstable();
        assert_eq!(wrong, [[0; 15].as_slice(), &[1]].concat(), "{way:?}");
        drop((done, device));
        setup.assert_nothing_left();
    }
}

#[test]
fn media_error_is_told_with_its_place_and_only_there() {
    for way in FAULTY {
        let (setup, faults) = with_faults(way);
        let device = setup.open();
        faults
            .add(Fault::io(Effect::Fail(Status::UNRECOVERED_READ_ERROR.final_())).blocks(24..32).times(100));
        for (tag, errno, _) in read_all(device.queue(16).unwrap()) {
            assert_eq!(errno, if tag == 3 { ENODATA } else { 0 }, "{way:?}, request {tag}");
        }
        drop(device);
        setup.assert_nothing_left();
    }
}

#[test]
fn controller_that_sticks_is_reset_and_when_it_works_again_so_do_reads() {
    for way in FAULTY {
        let (setup, faults) = with_faults(way);
        let device = setup.open();
        let queue = device.queue(16).unwrap();
        stick(&faults);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let start = Instant::now();
                while device.controller().resets() == 0 && start.elapsed() < Duration::from_secs(15) {
                    std::thread::sleep(Duration::from_millis(5));
                }
                faults.stick(false);
            });
            assert!(read_all(queue).iter().all(|(_, errno, _)| *errno == 0), "{way:?}");
        });
        assert!(device.controller().resets() > 0, "{way:?}");
        drop(device);
        setup.assert_nothing_left();
    }
}

#[test]
fn controller_that_sticks_for_ever_is_given_up() {
    for way in FAULTY {
        let (setup, faults) = with_faults(way);
        let options = DriverOptions { admin_timeout: Duration::from_millis(320), ..driver() };
        let device = engine_nvme::open(Arc::clone(&setup.transport), options).unwrap();
        let queue = device.queue(16).unwrap();
        stick(&faults);
        assert!(read_all(queue).iter().all(|(_, errno, _)| *errno == ENODEV), "{way:?}");
        assert!(device.controller().is_gone() && device.controller().resets() > 0, "{way:?}");
        let start = Instant::now();
        assert_eq!(device.read_at(0, &mut [0; 512]).unwrap_err().errno, ENODEV);
        assert!(start.elapsed() < Duration::from_secs(2));
    }
}

#[test]
fn controller_that_breaks_down_is_reset_and_that_vanishes_is_gone() {
    for way in FAULTY {
        let (setup, faults) = with_faults(way);
        let device = setup.open();
        let queue = device.queue(16).unwrap();
        faults.break_down();
        assert!(read_all(queue).iter().all(|(_, errno, _)| *errno == 0), "{way:?}");
        assert!(device.controller().resets() > 0);

        let queue = device.queue(16).unwrap();
        faults.vanish();
        std::thread::sleep(ROUND);
        assert!(read_all(queue).iter().all(|(_, errno, _)| *errno == ENODEV), "{way:?}");
        let start = Instant::now();
        assert_eq!(device.read_at(0, &mut [0; 512]).unwrap_err().errno, ENODEV);
        assert!(start.elapsed() < Duration::from_secs(2));
    }
}

#[test]
fn controller_that_is_never_ready_is_refused() {
    for way in FAULTY {
        let (setup, faults) = with_faults_and(way, |options| options.quiet_limit = Duration::ZERO);
        faults.never_ready(true);
        let error = engine_nvme::open(Arc::clone(&setup.transport), driver()).unwrap_err();
        assert!(error.to_string().contains("did not become ready"), "{way:?}: {error}");
        setup.assert_nothing_left();
        faults.heal();
        setup.open().read_at(0, &mut [0; 512]).unwrap();
        setup.assert_nothing_left();
    }
}
