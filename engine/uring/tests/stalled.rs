//! Devices that do not end what they were asked for: nothing says that memory is free while the kernel may write to it.

mod stalls;

use std::fs::File;
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::{Duration, Instant};

use engine_block::{
    BlockDevice, BlockQueue, Completion, Operation, Piece, Pieces, RangeCompletion, RangeQueue, RangeRequest,
    Request, Wait, Window, Windows,
};
use engine_dma::{Mapping, Region};
use engine_uring::{Backend, Direct, KernelDevice, Preference, kept_requests};
use stalls::{SIZE, Stalling, right};

const BYTES: usize = 65536;
const LIMIT: Duration = Duration::from_secs(30);
/// Long enough for the kernel to have cancelled what it can.
const WHILE: Duration = Duration::from_millis(500);
/// A part of the file that never stalls.
const ELSEWHERE: u64 = SIZE / 2;

/// They count requests of the whole process.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn device(file: &Stalling) -> KernelDevice {
    let preference = Preference { backend: Backend::IoUring, direct: Direct::Off };
    let device = KernelDevice::new(File::open(file.path()).unwrap(), "stalling", preference).unwrap();
    // So that a test that fails lets go of the file soon.
    device.draining_at_most(Duration::from_secs(5))
}

fn is_right(bytes: &[u8], start: usize) -> bool {
    bytes.iter().enumerate().all(|(at, &byte)| byte == right(start + at))
}

fn range(tag: u64, offset: u64, mapping: Arc<Mapping>) -> RangeRequest {
    let memory = Windows::from_iter([Window { mapping, offset: 0, length: BYTES }]);
    RangeRequest { tag, operation: Operation::Read, offset, length: BYTES as u64, memory }
}

/// Memory full of one byte, and whether anybody holds the mapping of it.
fn memory(byte: u8) -> (Arc<Region>, Arc<Mapping>, Weak<Mapping>) {
    let region = Region::private(BYTES).unwrap();
    region.write(0, &[byte; BYTES]).unwrap();
    let mapping = Mapping::whole(Arc::clone(&region));
    let held = Arc::downgrade(&mapping);
    (region, mapping, held)
}

fn bytes_of(region: &Region) -> Vec<u8> {
    let mut bytes = vec![0; BYTES];
    region.read(0, &mut bytes).unwrap();
    bytes
}

fn wait_until(what: &str, mut is: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < LIMIT, "{what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Ranges with one read in flight that stalls; the memory that it goes to.
fn stalled_range(
    file: &Stalling,
    device: &KernelDevice,
) -> (Box<dyn RangeQueue>, Arc<Region>, Weak<Mapping>) {
    let mut queue = device.ranges(2).unwrap();
    let (region, mapping, held) = memory(0xEE);
    queue.submit(range(1, 0, mapping)).unwrap();
    // The kernel tries again and again in this call before it leaves the read to a thread of its own.
    assert_eq!(queue.poll(Wait::For(Duration::from_millis(200)), &mut Vec::new()), Ok(0));
    file.await_stalled(1);
    (queue, region, held)
}

/// Polls for a while, and whether each call failed at most once.
fn poll_for_a_while(queue: &mut dyn RangeQueue) -> Vec<RangeCompletion> {
    let (start, mut done, mut failures) = (Instant::now(), Vec::new(), 0);
    while start.elapsed() < WHILE {
        failures += usize::from(queue.poll(Wait::For(Duration::from_millis(20)), &mut done).is_err());
    }
    assert!(failures <= 1, "the queue itself failed {failures} times");
    done
}

#[test]
fn range_of_a_queue_that_moved_is_over_only_when_the_kernel_has_let_go_of_its_memory() {
    let _alone = ONE_AT_A_TIME.lock();
    let Some(file) = Stalling::mount() else { return };
    let device = device(&file);
    file.stall();
    let (mut queue, region, held) = stalled_range(&file, &device);
    thread::scope(|scope| {
        let other = scope.spawn(|| {
            assert!(poll_for_a_while(&mut *queue).is_empty(), "over, and the kernel may still write");
            assert_eq!(queue.in_flight(), 1);
            assert!(held.upgrade().is_some(), "the mapping is held");

            // The queue goes on beside it, and counts it.
            let (elsewhere, mapping, _) = memory(0);
            queue.submit(range(2, ELSEWHERE, Arc::clone(&mapping))).unwrap();
            assert!(!queue.has_room());
            let refused = queue.submit(range(3, ELSEWHERE, mapping)).unwrap_err();
            assert_eq!(refused.result.unwrap_err().errno, libc::EBUSY);
            let mut done = Vec::new();
            wait_until("the second read", || {
                queue.poll(Wait::One, &mut done).unwrap();
                !done.is_empty()
            });
            assert_eq!((done[0].tag, &done[0].result, done.len()), (2, &Ok(()), 1));
            assert!(is_right(&bytes_of(&elsewhere), ELSEWHERE as usize));
            assert!(bytes_of(&region).iter().all(|&byte| byte == 0xEE));

            file.let_go();
            done.clear();
            wait_until("the first read", || {
                queue.poll(Wait::One, &mut done).unwrap();
                !done.is_empty()
            });
            assert_eq!((done[0].tag, done.len(), queue.in_flight()), (1, 1, 0));
            assert_eq!(done[0].result.as_ref().unwrap_err().errno, libc::ECANCELED);
            assert!(held.upgrade().is_none());
            region.write(0, &[0xA5; BYTES]).unwrap();
            thread::sleep(Duration::from_millis(50));
            assert!(bytes_of(&region).iter().all(|&byte| byte == 0xA5), "the kernel wrote later");
        });
        other.join().unwrap();
    });
}

#[test]
fn ranges_dropped_while_the_kernel_works_for_them_hold_their_memory_until_it_has_ended() {
    let _alone = ONE_AT_A_TIME.lock();
    let Some(file) = Stalling::mount() else { return };
    for moved in [false, true] {
        // Pages that were read are forgotten when the file is opened again.
        let device = device(&file).draining_at_most(Duration::from_millis(50));
        file.stall();
        let (queue, region, held) = stalled_range(&file, &device);
        let start = Instant::now();
        if moved {
            thread::scope(|scope| scope.spawn(|| drop(queue)).join().unwrap());
        } else {
            drop(queue);
        }
        assert!(start.elapsed() < Duration::from_secs(10), "moved {moved}: {:?}", start.elapsed());
        thread::sleep(WHILE);
        assert!(held.upgrade().is_some(), "moved {moved}: the mapping is held");
        assert_eq!(kept_requests(), 1);
        assert!(bytes_of(&region).iter().all(|&byte| byte == 0xEE));
        file.let_go();
        wait_until("the mapping is given back", || held.upgrade().is_none());
        wait_until("nothing is kept", || kept_requests() == 0);
    }
}

/// A queue with one read in flight that stalls.
fn stalled_read(file: &Stalling, device: &KernelDevice) -> (Box<dyn BlockQueue>, std::ptr::NonNull<u8>) {
    let mut queue = device.queue(2).unwrap();
    let mut buffer = queue.buffer(BYTES).unwrap();
    buffer.fill(0xEE);
    let address = buffer.address();
    // Two pieces, one of which needs bounce memory where the device has blocks.
    let half = BYTES / 2;
    let pieces = [(0, 0, half), (4096 * 20 + 1, half, half)]
        .map(|(device_offset, buffer_offset, length)| Piece { device_offset, buffer_offset, length });
    queue.submit(Request { tag: 1, buffer, pieces: Pieces::from_slice(&pieces) }).unwrap();
    // The kernel tries again and again in this call before it leaves the read to a thread of its own.
    assert_eq!(queue.poll(Wait::For(Duration::from_millis(200)), &mut Vec::new()), Ok(0));
    file.await_stalled(1);
    (queue, address)
}

#[test]
fn read_of_a_queue_that_moved_is_over_only_when_the_kernel_has_let_go_of_its_buffer() {
    let _alone = ONE_AT_A_TIME.lock();
    let Some(file) = Stalling::mount() else { return };
    let device = device(&file);
    file.stall();
    let (mut queue, address) = stalled_read(&file, &device);
    let address = address.addr();
    thread::scope(|scope| {
        let other = scope.spawn(|| {
            let (start, mut done) = (Instant::now(), Vec::<Completion>::new());
            while start.elapsed() < WHILE {
                let _ = queue.poll(Wait::For(Duration::from_millis(20)), &mut done);
            }
            assert!(done.is_empty(), "over, and the kernel may still write");
            assert_eq!(queue.in_flight(), 1);

            let buffer = queue.buffer(BYTES).unwrap();
            assert_ne!(buffer.address().addr(), address);
            let pieces = [Piece { device_offset: ELSEWHERE, buffer_offset: 0, length: BYTES }];
            let second = queue.read(Request { tag: 2, buffer, pieces: Pieces::from_slice(&pieces) });
            assert_eq!(second.result, Ok(()));
            assert!(is_right(&second.buffer, ELSEWHERE as usize));

            file.let_go();
            wait_until("the first read", || {
                queue.poll(Wait::One, &mut done).unwrap();
                !done.is_empty()
            });
            let mut first = done.remove(0);
            assert_eq!((first.tag, first.result.unwrap_err().errno), (1, libc::ECANCELED));
            assert_eq!(first.buffer.address().addr(), address);
            first.buffer.fill(0xA5);
            thread::sleep(Duration::from_millis(50));
            assert!(first.buffer.iter().all(|&byte| byte == 0xA5), "the kernel wrote later");
        });
        other.join().unwrap();
    });
}

#[test]
fn queue_dropped_while_the_kernel_reads_for_it_keeps_the_buffer_until_it_has_ended() {
    let _alone = ONE_AT_A_TIME.lock();
    let Some(file) = Stalling::mount() else { return };
    let device = device(&file).draining_at_most(Duration::from_millis(50));
    file.stall();
    let (mut queue, address) = stalled_read(&file, &device);
    let witness = queue.buffer(1).unwrap();
    let start = Instant::now();
    drop(queue);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(kept_requests(), 1);
    thread::sleep(WHILE);
    assert_eq!(kept_requests(), 1);
    file.let_go();
    wait_until("nothing is kept", || kept_requests() == 0);
    let arena = witness.arena();
    let within = arena.base().addr().get()..arena.base().addr().get() + arena.length();
    assert!(within.contains(&address.addr().get()), "the witness keeps the arena mapped");
    // SAFETY: The witness keeps the arena mapped, and nobody has the buffer any more.
    let bytes = unsafe { std::slice::from_raw_parts(address.as_ptr(), BYTES / 2) };
    assert!(is_right(bytes, 0), "it was there for the kernel to write to");
}
