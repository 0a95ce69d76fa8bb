//! Random ranges in memory of others, written and read back: against the bytes that a second descriptor sees.

mod loops;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine_block::{
    BlockDevice, IoError, Operation, RangeCompletion, RangeQueue, RangeRequest, Wait, Window, Windows,
};
use engine_dma::{Access, Mapping, Region};
use engine_uring::{Backend, Direct, KernelDevice, Preference};
use loops::Loop;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// Each request in flight keeps to a lane of its own, so that it is certain what must come of it.
const LANES: usize = 8;
const LANE: usize = 640 << 10;
const SIZE: usize = LANES * LANE;
/// The memory of the client, with room between windows.
const MEMORY: usize = 2 * SIZE;

#[derive(Debug, Clone)]
struct Ask {
    operation: Operation,
    /// In blocks, within the lane.
    start: usize,
    blocks: usize,
    /// Where windows end, in thousandths of the request, and the gap before each in memory.
    cuts: Vec<(usize, usize)>,
}

fn asks() -> impl Strategy<Value = Vec<Ask>> {
    let operation = prop_oneof![
        4 => Just(Operation::Read),
        5 => Just(Operation::Write),
        1 => Just(Operation::WriteZeroes),
        1 => Just(Operation::Discard),
        1 => Just(Operation::Flush),
    ];
    let blocks = prop_oneof![4 => 1_usize..9, 2 => 9_usize..100, 1 => 500_usize..1280];
    let gap = prop_oneof![Just(0_usize), Just(512), Just(4096), Just(4), 1_usize..700];
    let cuts = prop::collection::vec((0_usize..1000, gap), 0..6);
    let ask = (operation, 0_usize..1280, blocks, cuts).prop_map(|(operation, start, blocks, mut cuts)| {
        cuts.sort_unstable();
        Ask { operation, start, blocks, cuts }
    });
    prop::collection::vec(ask, 1..80)
}

/// A request that was made, and where its bytes lie.
struct Made {
    request: RangeRequest,
    offset: usize,
    length: usize,
    places: Vec<(usize, usize)>,
}

fn make(ask: &Ask, lane: usize, block: usize, memory: &Arc<Mapping>) -> Made {
    let tag = lane as u64;
    let flush = ask.operation == Operation::Flush;
    let blocks_there = LANE / block;
    let start = ask.start % blocks_there;
    let length = if flush { 0 } else { ask.blocks.min(blocks_there - start) * block };
    let offset = if flush { 0 } else { lane * LANE + start * block };
    let mut places = Vec::new();
    if matches!(ask.operation, Operation::Read | Operation::Write) {
        let (mut at, mut covered) = (lane * 2 * LANE, 0);
        for &(cut, gap) in ask.cuts.iter().chain(&[(1000, 0)]) {
            // Cuts at blocks and anywhere.
            let end = length * cut / 1000;
            let end = if gap % 2 == 0 { end - end % block } else { end }.max(covered);
            at += gap;
            places.push((at, end - covered));
            at += end - covered;
            covered = end;
        }
    }
    let windows =
        places.iter().map(|&(offset, length)| Window { mapping: Arc::clone(memory), offset, length });
    let memory: Windows = windows.collect();
    let request =
        RangeRequest { tag, operation: ask.operation, offset: offset as u64, length: length as u64, memory };
    Made { request, offset, length, places }
}

fn gather(region: &Region, places: &[(usize, usize)]) -> Vec<u8> {
    let mut all = Vec::new();
    for &(offset, length) in places {
        let mut part = vec![0; length];
        region.read(offset, &mut part).unwrap();
        all.extend(part);
    }
    all
}

fn take_all(queue: &mut dyn RangeQueue) -> Vec<RangeCompletion> {
    let mut done = Vec::new();
    while queue.in_flight() > 0 {
        queue.poll(Wait::For(Duration::from_secs(20)), &mut done).unwrap();
    }
    done
}

fn check(path: &Path, preference: Preference, cases: u32) {
    check_device(path, preference, cases, |device| device);
    check_device(path, preference, cases, KernelDevice::calling_for_single_ranges);
}

fn check_device(path: &Path, preference: Preference, cases: u32, way: fn(KernelDevice) -> KernelDevice) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let device = way(KernelDevice::new(file, path.to_str().unwrap(), preference).unwrap());
    let info = device.info().clone();
    assert!(info.writable && info.volatile_cache);
    let block = info.logical_block as usize;
    let other = File::open(path).unwrap();
    let memory = Mapping::whole(Region::private(MEMORY).unwrap());
    let region = memory.region();
    let noise: Vec<u8> = (0..MEMORY / 8)
        .flat_map(|word| (word as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes())
        .collect();
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let mut model = vec![0; SIZE];
    other.read_exact_at(&mut model, 0).unwrap();
    let model = std::cell::RefCell::new(model);
    let run = runner.run(&(asks(), 0_usize..MEMORY), |(asks, turn)| {
        let mut model = model.borrow_mut();
        let mut queue = device.ranges(LANES as u32).unwrap();
        region.write(0, &noise[turn..]).unwrap();
        region.write(MEMORY - turn, &noise[..turn]).unwrap();
        for batch in asks.chunks(LANES) {
            let mut all = Vec::new();
            for (lane, ask) in batch.iter().enumerate() {
                let Made { request, offset, length, places } = make(ask, lane, block, &memory);
                let bytes = gather(region, &places);
                if let Err(refused) = queue.submit(request) {
                    prop_assert!(
                        ask.operation == Operation::Discard && !info.discard,
                        "{:?}",
                        refused.result
                    );
                    continue;
                }
                all.push((lane, ask.operation, offset, length, places, bytes));
            }
            let done = take_all(&mut *queue);
            prop_assert_eq!(done.len(), all.len());
            for (lane, operation, offset, length, places, bytes) in all {
                let completion = done.iter().find(|completion| completion.tag == lane as u64).unwrap();
                prop_assert_eq!(&completion.result, &Ok(()));
                let place = &mut model[offset..offset + length];
                match operation {
                    Operation::Read => {
                        prop_assert!(gather(region, &places) == *place, "{} at {}", length, offset);
                    }
                    Operation::Write => place.copy_from_slice(&bytes),
                    Operation::WriteZeroes => place.fill(0),
                    Operation::Flush => {}
                    Operation::Discard => {
                        // Either zeros or what was there.
                        let mut now = vec![0; length];
                        other.read_exact_at(&mut now, offset as u64).unwrap();
                        for (now, before) in now.chunks(block).zip(place.chunks_mut(block)) {
                            prop_assert!(now == before || now.iter().all(|&byte| byte == 0));
                            before.copy_from_slice(now);
                        }
                    }
                }
            }
        }
        let mut now = vec![0; SIZE];
        other.read_exact_at(&mut now, 0).unwrap();
        prop_assert!(
            now == *model,
            "first difference at {:?}",
            now.iter().zip(&*model).position(|(a, b)| a != b)
        );
        Ok(())
    });
    if let Err(error) = run {
        panic!("{preference:?} on {}: {error}", info.path);
    }
}

fn ways() -> impl Iterator<Item = Preference> {
    [Backend::IoUring, Backend::Pread]
        .into_iter()
        .flat_map(|backend| [Direct::On, Direct::Off].map(|direct| Preference { backend, direct }))
}

fn image(size: usize) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let contents: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
    file.write_all(&contents).unwrap();
    file.as_file().sync_all().unwrap();
    file
}

fn writable(path: &Path, preference: Preference) -> KernelDevice {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    KernelDevice::new(file, path.to_str().unwrap(), preference).unwrap()
}

/// One request by itself.
fn one(
    queue: &mut dyn RangeQueue,
    operation: Operation,
    offset: usize,
    length: usize,
    memory: Windows,
) -> Result<(), IoError> {
    let request = RangeRequest { tag: 7, operation, offset: offset as u64, length: length as u64, memory };
    if let Err(refused) = queue.submit(request) {
        return refused.result;
    }
    let mut done = take_all(queue);
    assert_eq!((done.len(), done[0].tag), (1, 7));
    done.remove(0).result
}

fn window(region: &Arc<Region>, offset: usize, length: usize) -> Windows {
    Windows::from_iter([Window { mapping: Mapping::whole(Arc::clone(region)), offset, length }])
}

#[test]
fn random_ranges_of_an_image_change_and_give_the_bytes_that_the_file_has() {
    let file = image(SIZE);
    for way in ways() {
        check(file.path(), way, 12);
    }
}

#[test]
fn random_ranges_of_an_image_in_memory_change_and_give_the_bytes_that_the_file_has() {
    // No call zeroes ranges on tmpfs, so zeros are written.
    let Ok(mut file) = tempfile::NamedTempFile::new_in("/dev/shm") else {
        println!("skipped: no /dev/shm");
        return;
    };
    file.write_all(&vec![1; SIZE]).unwrap();
    for backend in [Backend::IoUring, Backend::Pread] {
        check(file.path(), Preference { backend, direct: Direct::Off }, 8);
    }
}

#[test]
fn random_ranges_of_a_loop_device_change_and_give_the_bytes_that_the_device_has() {
    for sector in ["512", "4096"] {
        let file = image(SIZE);
        let Some(device) = Loop::attach(file.path(), &["--sector-size", sector]) else { return };
        for way in ways() {
            check(device.path(), way, 5);
        }
    }
}

#[test]
fn flushed_bytes_are_seen_below_the_loop_device_and_flush_needs_no_range() {
    let file = image(1 << 20);
    let Some(device) = Loop::attach(file.path(), &[]) else { return };
    for way in ways() {
        let device = writable(device.path(), way);
        let mut queue = device.ranges(2).unwrap();
        let region = Region::private(8192).unwrap();
        let byte = 1 + u8::from(way.backend == Backend::Pread) + 2 * u8::from(way.direct == Direct::On);
        region.fill(0, 8192, byte).unwrap();
        one(&mut *queue, Operation::Write, 4096, 8192, window(&region, 0, 8192)).unwrap();
        one(&mut *queue, Operation::Flush, 0, 0, Windows::new()).unwrap();
        let mut below = vec![0; 8192];
        file.as_file().read_exact_at(&mut below, 4096).unwrap();
        assert!(below.iter().all(|&at| at == byte), "{way:?}");
        let refused = one(&mut *queue, Operation::Flush, 0, 512, Windows::new());
        assert_eq!(refused.unwrap_err().errno, libc::EINVAL);
    }
}

#[test]
fn device_opened_for_reading_takes_reads_and_flushes_and_refuses_the_rest() {
    let file = image(1 << 20);
    for way in ways() {
        let opened = File::open(file.path()).unwrap();
        let device = KernelDevice::new(opened, "image", way).unwrap();
        assert!(!device.info().writable && !device.info().discard && !device.info().volatile_cache);
        let mut queue = device.ranges(2).unwrap();
        let region = Region::private(4096).unwrap();
        one(&mut *queue, Operation::Read, 4096, 4096, window(&region, 0, 4096)).unwrap();
        one(&mut *queue, Operation::Flush, 0, 0, Windows::new()).unwrap();
        for operation in [Operation::Write, Operation::WriteZeroes, Operation::Discard] {
            let memory =
                if operation == Operation::Write { window(&region, 0, 4096) } else { Windows::new() };
            let refused = one(&mut *queue, operation, 4096, 4096, memory).unwrap_err();
            assert_eq!((refused.operation, refused.errno), (operation, libc::EROFS), "{way:?}");
        }
    }
}

#[test]
fn image_that_shrank_gives_eio_for_reads_past_its_end_from_there_on() {
    for way in ways() {
        let file = image(1 << 20);
        let device = writable(file.path(), way);
        let mut queue = device.ranges(2).unwrap();
        file.as_file().set_len(512 << 10).unwrap();
        let region = Region::private(1 << 20).unwrap();
        for skew in [0, 4] {
            let length = (1 << 20) - 4096;
            let missing = IoError {
                operation: Operation::Read,
                offset: 512 << 10,
                length: length as u64 - (512 << 10),
                errno: libc::EIO,
            };
            let outcome = one(&mut *queue, Operation::Read, 0, length, window(&region, skew, length));
            assert_eq!(outcome, Err(missing), "{way:?}");
            one(&mut *queue, Operation::Read, 4096, 4096, window(&region, skew, 4096)).unwrap();
        }
    }
}

#[test]
fn image_on_a_full_file_system_gives_enospc_for_writes_into_holes_and_goes_on() {
    let below = image(0);
    below.as_file().set_len(16 << 20).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (image, point) = (below.path().to_str().unwrap(), directory.path().to_str().unwrap());
    if !loops::run("mkfs.ext4", &["-q", "-m0", image]) || !loops::run("mount", &["-o", "loop", image, point])
    {
        println!("skipped: no ext4 to fill");
        return;
    }
    let path = directory.path().join("disk.img");
    let outcomes: Vec<_> = ways()
        .map(|way| {
            File::create(&path).unwrap().set_len(64 << 20).unwrap();
            let device = writable(&path, way);
            let mut queue = device.ranges(2).unwrap();
            let region = Region::private(32 << 20).unwrap();
            region.fill(0, 32 << 20, 3).unwrap();
            let full = one(&mut *queue, Operation::Write, 0, 32 << 20, window(&region, 0, 32 << 20))
                .and_then(|()| one(&mut *queue, Operation::Flush, 0, 0, Windows::new()));
            let still = one(&mut *queue, Operation::Read, 0, 4096, window(&region, 0, 4096));
            (way, full, still)
        })
        .collect();
    assert!(loops::run("umount", &[point]));
    for (way, full, still) in outcomes {
        assert_eq!(full.map_err(|error| error.errno), Err(libc::ENOSPC), "{way:?}");
        assert_eq!(still, Ok(()), "{way:?}");
    }
}

#[test]
fn memory_whose_owner_took_it_away_gives_efault_and_the_queue_goes_on() {
    let file = image(1 << 20);
    for way in ways() {
        let device = writable(file.path(), way);
        let mut queue = device.ranges(2).unwrap();
        let owner = tempfile::tempfile().unwrap();
        owner.set_len(8192).unwrap();
        let region = Region::map(owner.try_clone().unwrap().into(), 0, 8192, Access::ReadWrite).unwrap();
        owner.set_len(0).unwrap();
        for operation in [Operation::Read, Operation::Write] {
            let outcome = one(&mut *queue, operation, 0, 8192, window(&region, 0, 8192));
            assert_eq!(outcome.unwrap_err().errno, libc::EFAULT, "{way:?}");
        }
        let good = Region::private(8192).unwrap();
        one(&mut *queue, Operation::Read, 0, 8192, window(&good, 0, 8192)).unwrap();
    }
}

#[test]
fn poll_with_a_limit_comes_back_at_the_limit_and_with_nothing_in_flight_at_once() {
    let file = image(1 << 20);
    for way in ways() {
        let device = writable(file.path(), way);
        let mut queue = device.ranges(2).unwrap();
        let start = Instant::now();
        assert_eq!(queue.poll(Wait::For(Duration::from_secs(5)), &mut Vec::new()), Ok(0));
        assert_eq!(queue.poll(Wait::One, &mut Vec::new()), Ok(0));
        assert!(start.elapsed() < Duration::from_secs(1));
    }
}

#[test]
fn queue_that_moves_or_is_dropped_with_requests_in_flight_ends_each_once() {
    let file = image(1 << 20);
    for way in ways() {
        let device = writable(file.path(), way);
        for round in 0..20 {
            let region = Region::private(1 << 20).unwrap();
            let mut queue = device.ranges(8).unwrap();
            for tag in 0..8 {
                let memory = window(&region, 0, 1 << 20);
                queue
                    .submit(RangeRequest {
                        tag,
                        operation: Operation::Read,
                        offset: 0,
                        length: 1 << 20,
                        memory,
                    })
                    .unwrap();
            }
            let memory = window(&region, 0, 4096);
            let ninth = queue.submit(RangeRequest {
                tag: 8,
                operation: Operation::Read,
                offset: 0,
                length: 4096,
                memory,
            });
            assert_eq!(ninth.unwrap_err().result.unwrap_err().errno, libc::EBUSY);
            if round % 2 == 0 {
                continue;
            }
            let moved = std::thread::spawn(move || {
                let mut done = Vec::new();
                while queue.in_flight() > 0 {
                    let _ = queue.poll(Wait::One, &mut done);
                }
                one(&mut *queue, Operation::Flush, 0, 0, Windows::new()).unwrap();
                done
            });
            let mut tags: Vec<u64> = moved.join().unwrap().iter().map(|completion| completion.tag).collect();
            tags.sort_unstable();
            assert_eq!(tags, Vec::from_iter(0..8));
        }
    }
}
