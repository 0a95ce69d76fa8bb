//! Devices that shrink or go away, and queues that move or are dropped with reads in flight.

mod loops;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use engine_block::{BlockDevice, BlockQueue, Completion, IoError, Operation, Piece, Pieces, Request, Wait};
use engine_uring::{Backend, Direct, KernelDevice, Preference};
use loops::Loop;

const SIZE: usize = 1 << 20;

fn image() -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let contents: Vec<u8> = (0..SIZE).map(|at| (at % 251) as u8).collect();
    file.write_all(&contents).unwrap();
    file.as_file().sync_all().unwrap();
    file
}

fn device(path: &Path, preference: Preference) -> KernelDevice {
    KernelDevice::new(File::open(path).unwrap(), path.to_str().unwrap(), preference).unwrap()
}

fn ways() -> impl Iterator<Item = Preference> {
    [Backend::IoUring, Backend::Pread]
        .into_iter()
        .flat_map(|backend| [Direct::On, Direct::Off].map(|direct| Preference { backend, direct }))
}

fn request(queue: &mut dyn BlockQueue, tag: u64, ranges: &[(usize, usize)]) -> Request {
    let mut end = 0;
    let mut pieces = Pieces::new();
    for &(start, length) in ranges {
        pieces.push(Piece { device_offset: start as u64, buffer_offset: end, length });
        end += length;
    }
    let mut buffer = queue.buffer(end).unwrap();
    buffer.fill(0xEE);
    Request { tag, buffer, pieces }
}

/// By `read`, and by `submit` and `poll`.
fn both_calls(queue: &mut dyn BlockQueue, ranges: &[(usize, usize)]) -> [Completion; 2] {
    let one = request(queue, 1, ranges);
    let one = queue.read(one);
    let two = request(queue, 2, ranges);
    queue.submit(two).unwrap();
    let mut done = Vec::new();
    while queue.in_flight() > 0 {
        queue.poll(Wait::For(Duration::from_secs(10)), &mut done).unwrap();
    }
    assert_eq!(done.len(), 1);
    [one, done.remove(0)]
}

fn right(at: usize) -> u8 {
    (at % 251) as u8
}

fn is_right(buffer: &[u8], start: usize) -> bool {
    buffer.iter().enumerate().all(|(at, &byte)| byte == right(start + at))
}

#[test]
fn image_that_shrank_gives_eio_past_its_new_end_and_goes_on_before_it() {
    for way in ways() {
        let file = image();
        let device = device(file.path(), way);
        let mut queue = device.queue(4).unwrap();
        let cut = SIZE / 2 + 100;
        file.as_file().set_len(cut as u64).unwrap();

        for completion in both_calls(&mut *queue, &[(0, SIZE)]) {
            let missing = IoError {
                operation: Operation::Read,
                offset: cut as u64,
                length: (SIZE - cut) as u64,
                errno: libc::EIO,
            };
            assert_eq!(completion.result, Err(missing), "{way:?}");
        }
        for completion in both_calls(&mut *queue, &[(SIZE - 5000, 4096)]) {
            let missing = IoError {
                operation: Operation::Read,
                offset: (SIZE - 5000) as u64,
                length: 4096,
                errno: libc::EIO,
            };
            assert_eq!(completion.result, Err(missing), "{way:?}");
        }
        // The good piece around the bad one arrives; the bad one is named.
        for completion in both_calls(&mut *queue, &[(0, 4096), (SIZE - 4096, 4096), (8192, 4096)]) {
            let missing = IoError {
                operation: Operation::Read,
                offset: (SIZE - 4096) as u64,
                length: 4096,
                errno: libc::EIO,
            };
            assert_eq!(completion.result, Err(missing), "{way:?}");
            assert!(is_right(&completion.buffer[..4096], 0));
        }
        for completion in both_calls(&mut *queue, &[(cut - 999, 999), (77, 50_000)]) {
            assert_eq!(completion.result, Ok(()), "{way:?}");
            assert!(is_right(&completion.buffer[..999], cut - 999));
            assert!(is_right(&completion.buffer[999..], 77));
        }
        let mut buffer = [0; 200];
        let missing =
            IoError { operation: Operation::Read, offset: cut as u64, length: 100, errno: libc::EIO };
        assert_eq!(device.read_at((cut - 100) as u64, &mut buffer), Err(missing));
        device.read_at((cut - 200) as u64, &mut buffer).unwrap();
        assert!(is_right(&buffer, cut - 200));
    }
}

#[test]
fn loop_device_whose_file_was_cut_gives_eio_and_goes_on_before_the_cut() {
    for way in ways() {
        let file = image();
        let Some(attached) = Loop::attach(file.path(), &["--direct-io=off"]) else { return };
        let device = device(attached.path(), way);
        let mut queue = device.queue(4).unwrap();
        file.as_file().set_len((SIZE / 2) as u64).unwrap();

        for completion in both_calls(&mut *queue, &[(SIZE - 65536, 4096)]) {
            assert_eq!(completion.result.unwrap_err().errno, libc::EIO, "{way:?}");
        }
        for completion in both_calls(&mut *queue, &[(4096, 65536)]) {
            assert_eq!(completion.result, Ok(()), "{way:?}");
            assert!(is_right(&completion.buffer, 4096));
        }
        assert_eq!(device.read_at((SIZE - 4096) as u64, &mut [0; 512]).unwrap_err().errno, libc::EIO);
    }
}

#[test]
fn loop_device_detached_while_open_is_read_to_the_end() {
    for way in ways() {
        let file = image();
        let Some(attached) = Loop::attach(file.path(), &[]) else { return };
        let device = device(attached.path(), way);
        let mut queue = device.queue(4).unwrap();
        // The kernel lets go of it when the last one closes it.
        attached.detach();
        for completion in both_calls(&mut *queue, &[(0, SIZE)]) {
            assert_eq!(completion.result, Ok(()), "{way:?}");
            assert!(is_right(&completion.buffer, 0));
        }
    }
}

#[test]
fn requests_that_cannot_be_taken_come_back_with_the_reason() {
    let file = image();
    for way in ways() {
        let device = device(file.path(), way);
        let mut queue = device.queue(2).unwrap();
        let outside = [
            Piece { device_offset: SIZE as u64 - 10, buffer_offset: 0, length: 11 },
            Piece { device_offset: u64::MAX, buffer_offset: 0, length: 11 },
            Piece { device_offset: 0, buffer_offset: 90, length: 11 },
            Piece { device_offset: 0, buffer_offset: usize::MAX, length: 11 },
            Piece { device_offset: 0, buffer_offset: 0, length: usize::MAX },
        ];
        for piece in outside {
            let buffer = queue.buffer(100).unwrap();
            let refused = queue.submit(Request { tag: 9, buffer, pieces: Pieces::from_slice(&[piece]) });
            let refused = refused.unwrap_err();
            let error = IoError {
                operation: Operation::Read,
                offset: piece.device_offset,
                length: piece.length as u64,
                errno: libc::EINVAL,
            };
            assert_eq!((refused.tag, refused.result, refused.buffer.len()), (9, Err(error), 100));
        }
        for tag in 0..2 {
            let request = request(&mut *queue, tag, &[(0, 4096)]);
            queue.submit(request).unwrap();
        }
        let third = request(&mut *queue, 2, &[(0, 4096)]);
        assert_eq!(queue.submit(third).unwrap_err().result.unwrap_err().errno, libc::EBUSY);
        assert_eq!(queue.in_flight(), 2);
        assert_eq!(device.read_at(SIZE as u64, &mut [0]).unwrap_err().errno, libc::EINVAL);
    }
}

#[test]
fn request_without_bytes_completes() {
    let file = image();
    for way in ways() {
        let device = device(file.path(), way);
        let mut queue = device.queue(2).unwrap();
        for ranges in [&[][..], &[(5, 0), (SIZE, 0)]] {
            for completion in both_calls(&mut *queue, ranges) {
                assert_eq!(completion.result, Ok(()));
            }
        }
        assert_eq!(queue.poll(Wait::One, &mut Vec::new()), Ok(0), "nothing in flight is nothing to wait for");
    }
}

#[test]
fn request_with_more_commands_than_the_ring_holds_arrives_whole() {
    let file = image();
    for way in ways() {
        let device = device(file.path(), way);
        let mut queue = device.queue(3).unwrap();
        // Backwards, so that no two pieces touch; unaligned, so that each needs bounce memory.
        let ranges: Vec<(usize, usize)> = (0..1000).rev().map(|piece| (piece * 1000 + 7, 900)).collect();
        for tag in 0..3 {
            let request = request(&mut *queue, tag, &ranges);
            queue.submit(request).unwrap();
        }
        let mut done = Vec::new();
        while queue.in_flight() > 0 {
            queue.poll(Wait::One, &mut done).unwrap();
        }
        assert_eq!(done.len(), 3);
        for completion in done {
            assert_eq!(completion.result, Ok(()));
            for (place, &(start, length)) in ranges.iter().enumerate() {
                assert!(is_right(&completion.buffer[place * 900..][..length], start));
            }
        }
    }
}

#[test]
fn queue_that_moves_between_threads_while_idle_goes_on() {
    let file = image();
    for way in ways() {
        let device = device(file.path(), way);
        let mut queue = device.queue(4).unwrap();
        for round in 0..5 {
            queue = std::thread::spawn(move || {
                let mut queue = queue;
                for completion in both_calls(&mut *queue, &[(round * 10, 9000), (SIZE / 2, 4096)]) {
                    assert_eq!(completion.result, Ok(()));
                    assert!(is_right(&completion.buffer[..9000], round * 10));
                }
                queue
            })
            .join()
            .unwrap();
        }
    }
}

#[test]
fn queue_that_moves_with_reads_in_flight_completes_each_of_them_once() {
    let file = image();
    for way in ways() {
        let device = device(file.path(), way);
        let mut queue = device.queue(8).unwrap();
        for tag in 0..8 {
            let request = request(&mut *queue, tag, &[(0, SIZE)]);
            queue.submit(request).unwrap();
        }
        std::thread::spawn(move || {
            let mut done = Vec::new();
            while queue.in_flight() > 0 {
                let _ = queue.poll(Wait::One, &mut done);
            }
            done.sort_by_key(|completion| completion.tag);
            assert_eq!(
                done.iter().map(|completion| completion.tag).collect::<Vec<_>>(),
                Vec::from_iter(0..8)
            );
            for completion in &done {
                match &completion.result {
                    Ok(()) => assert!(is_right(&completion.buffer, 0)),
                    Err(error) => assert_eq!(error.errno, libc::ECANCELED),
                }
                assert_eq!(completion.buffer.len(), SIZE);
            }
            for completion in both_calls(&mut *queue, &[(0, SIZE)]) {
                assert_eq!(completion.result, Ok(()));
            }
        })
        .join()
        .unwrap();
    }
}

#[test]
fn queue_dropped_with_reads_in_flight_has_ended_them_before_its_memory_is_used_again() {
    let file = image();
    let device = device(file.path(), Preference { backend: Backend::IoUring, direct: Direct::On });
    for _ in 0..50 {
        let mut queue = device.queue(16).unwrap();
        // Keeps the arena mapped, so that a late write would show instead of ending the process.
        let witness = queue.buffer(1).unwrap();
        let mut places = Vec::new();
        for tag in 0..16 {
            let request = request(&mut *queue, tag, &[(0, 65536)]);
            assert_eq!(request.buffer.arena().base(), witness.arena().base());
            places.push(request.buffer.address());
            queue.submit(request).unwrap();
        }
        queue.poll(Wait::No, &mut Vec::new()).unwrap();
        drop(queue);
        let length = 65536;
        for place in &places {
            // SAFETY: The witness keeps the arena mapped; its buffers are gone, so nobody else uses this place.
            unsafe { place.write_bytes(0xA5, length) };
        }
        std::thread::sleep(Duration::from_millis(5));
        for place in &places {
            // SAFETY: As above.
            let bytes = unsafe { std::slice::from_raw_parts(place.as_ptr(), length) };
            assert!(bytes.iter().all(|&byte| byte == 0xA5), "the kernel wrote after the queue was gone");
        }
    }
}

#[test]
fn image_in_memory_is_read_by_pread_unless_asked_otherwise() {
    let path = Path::new("/dev/shm").join(format!("engine-uring-{}", std::process::id()));
    let made = OpenOptions::new().write(true).create_new(true).open(&path);
    let tmpfs = rustix::fs::statfs("/dev/shm").is_ok_and(|told| told.f_type == 0x0102_1994);
    let (Ok(file), true) = (made, tmpfs) else {
        println!("skipped: no tmpfs on /dev/shm");
        return;
    };
    file.set_len(SIZE as u64).unwrap();
    let paths = [Backend::Auto, Backend::IoUring]
        .map(|backend| device(&path, Preference { backend, ..Preference::default() }).info().path.clone());
    std::fs::remove_file(&path).unwrap();
    assert!(paths[0].starts_with("pread through the page cache"), "{paths:?}");
    assert!(paths[1].starts_with("io_uring"), "{paths:?}");
}
