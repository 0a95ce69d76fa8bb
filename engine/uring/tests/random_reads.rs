//! Random pieces against the bytes of the file: every way to read, on files and on block devices.

mod loops;

use std::fs::File;
use std::io::Write;
use std::path::Path;

use engine_block::{BlockDevice, BlockQueue, Piece, Request, Wait};
use engine_uring::{Backend, Direct, KernelDevice, Preference};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use loops::Loop;

/// Long enough for several longest commands in one piece.
const SIZE: usize = (5 << 20) + 3 * 4096;

/// Bytes that tell where they lie.
fn pattern(length: usize) -> Vec<u8> {
    (0..length.div_ceil(8))
        .flat_map(|word| word.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes())
        .take(length)
        .collect()
}

#[derive(Debug, Clone)]
struct Ask {
    /// Start, length and the gap before it in the buffer, for each piece.
    pieces: Vec<(usize, usize, usize)>,
}

fn asks() -> impl Strategy<Value = Vec<Ask>> {
    let length = prop_oneof![
        4 => 0_usize..9000,
        2 => (1_usize..40).prop_map(|blocks| blocks * 4096),
        1 => 0_usize..300_000,
        1 => 1_000_000_usize..3_000_000,
    ];
    let start = prop_oneof![
        (0_usize..SIZE / 4096).prop_map(|block| block * 4096),
        (0_usize..SIZE / 512).prop_map(|sector| sector * 512),
        0..SIZE,
        Just(usize::MAX), // up to the very end
    ];
    let gap = prop_oneof![Just(0_usize), Just(4096), Just(512), 1_usize..700];
    let ask = prop::collection::vec((start, length, gap), 1..9).prop_map(|pieces| Ask { pieces });
    prop::collection::vec(ask, 1..40)
}

fn requests(queue: &mut dyn BlockQueue, ask: &Ask, tag: u64, size: usize) -> Request {
    let mut end = 0;
    let pieces = ask.pieces.iter().map(|&(start, length, gap)| {
        let length = length.min(size);
        let start = start.min(size - length);
        let piece = Piece { device_offset: start as u64, buffer_offset: end + gap, length };
        end = end + gap + length;
        piece
    });
    let pieces = pieces.collect();
    let mut buffer = queue.buffer(end).unwrap();
    buffer.fill(0xEE);
    Request { tag, buffer, pieces }
}

/// The buffer that a request should come back with.
fn expected(request: &Request, contents: &[u8]) -> Vec<u8> {
    let mut buffer = vec![0xEE; request.buffer.len()];
    for piece in &request.pieces {
        let start = piece.device_offset as usize;
        buffer[piece.buffer_offset..piece.buffer_offset + piece.length]
            .copy_from_slice(&contents[start..start + piece.length]);
    }
    buffer
}

fn check(path: &Path, contents: &[u8], preference: Preference, cases: u32) {
    let file = File::open(path).unwrap();
    let device = KernelDevice::new(file, path.to_str().unwrap(), preference).unwrap();
    assert_eq!(device.info().size, contents.len() as u64);
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let run = runner.run(&(1_u32..65, asks(), any::<bool>()), |(depth, asks, by_read)| {
        let mut queue = device.queue(depth).unwrap();
        let mut wanted = std::collections::HashMap::new();
        let mut done = Vec::new();
        for (tag, ask) in asks.iter().enumerate() {
            let request = requests(&mut *queue, ask, tag as u64, contents.len());
            let right = expected(&request, contents);
            if by_read {
                let completion = queue.read(request);
                prop_assert_eq!(completion.result, Ok(()));
                prop_assert!(*completion.buffer == right[..], "{:?} differs", ask);
                continue;
            }
            while queue.in_flight() >= depth as usize {
                queue.poll(Wait::One, &mut done).unwrap();
            }
            wanted.insert(tag as u64, right);
            queue.submit(request).unwrap();
        }
        while queue.in_flight() > 0 {
            let added = queue.poll(Wait::One, &mut done).unwrap();
            prop_assert!(added > 0);
        }
        prop_assert_eq!(done.len(), wanted.len());
        for completion in done {
            let right = wanted.remove(&completion.tag).unwrap();
            prop_assert_eq!(completion.result, Ok(()));
            prop_assert!(*completion.buffer == right[..], "request {} differs", completion.tag);
        }
        Ok(())
    });
    if let Err(error) = run {
        panic!("{preference:?} on {}: {error}", device.info().path);
    }
}

fn every_way(path: &Path, contents: &[u8], cases: u32) {
    for backend in [Backend::IoUring, Backend::Pread] {
        for direct in [Direct::On, Direct::Off] {
            check(path, contents, Preference { backend, direct }, cases);
        }
    }
}

#[test]
fn random_pieces_of_an_image_arrive_as_the_file_has_them() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    // Neither end of the last sector nor of the last page.
    let contents = pattern(SIZE - 333);
    file.write_all(&contents).unwrap();
    every_way(file.path(), &contents, 24);
}

#[test]
fn random_pieces_of_a_loop_device_arrive_as_the_file_has_them() {
    for sector in ["512", "4096"] {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let contents = pattern(SIZE);
        file.write_all(&contents).unwrap();
        let Some(device) = Loop::attach(file.path(), &["--read-only", "--sector-size", sector]) else {
            return;
        };
        every_way(device.path(), &contents, 12);
        let opened = File::open(device.path()).unwrap();
        let opened = KernelDevice::new(opened, device.name(), Preference::default()).unwrap();
        assert_eq!(opened.info().logical_block.to_string(), sector);
        assert_eq!(opened.info().path, format!("io_uring with O_DIRECT on {}", device.name()));
    }
}

#[test]
fn image_that_cannot_be_read_directly_is_read_through_the_page_cache() {
    // Files of procfs have no O_DIRECT; this one is regular and has a size.
    let path = Path::new("/proc/self/maps");
    let file = File::open(path).unwrap();
    let direct = Preference { direct: Direct::On, ..Preference::default() };
    KernelDevice::new(file, "maps", direct).unwrap_err();
    let file = File::open(path).unwrap();
    let device = KernelDevice::new(file, "maps", Preference::default()).unwrap();
    assert!(device.info().path.contains("no direct reads"), "{}", device.info().path);
}
