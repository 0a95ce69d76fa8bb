//! Devices behind a controller in this process, against the bytes of the file.

use std::io::Write;

use engine_block::{Piece, Pieces, Request, Wait};
use engine_open::{Direct, OpenError, OpenOptions, open};

fn contents(size: usize) -> Vec<u8> {
    (0..size.div_ceil(8)).flat_map(|word| (word * 0x9E37_79B9).to_le_bytes()).take(size).collect()
}

fn image(contents: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(contents).unwrap();
    file.as_file().sync_all().unwrap();
    file
}

#[test]
fn pieces_at_any_place_arrive_as_the_file_has_them() {
    let contents = contents(3 << 20);
    let file = image(&contents);
    let spec = format!("soft:{}", file.path().display());
    for direct in [Direct::On, Direct::Off] {
        let device = open(&spec, &OpenOptions { direct, ..OpenOptions::default() }).unwrap();
        let mut queues: Vec<_> = (0..3).map(|_| device.queue(8).unwrap()).collect();
        // More workers than queue pairs would share; these have their own.
        let mut seed = 7_u64;
        let mut next = |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(seed >> 33).unwrap() % below
        };
        for round in 0..200 {
            let queue = &mut queues[round % 3];
            let lengths = [next(9000) + 1, next(200_000) + 1, 4096];
            let mut pieces = Pieces::new();
            let mut end = 0;
            for length in lengths {
                let start = next(contents.len() - length);
                let start = if round % 2 == 0 { start - start % 4096 } else { start };
                pieces.push(Piece { device_offset: start as u64, buffer_offset: end, length });
                end += length;
            }
            let buffer = queue.buffer(end).unwrap();
            queue.submit(Request { tag: 1, buffer, pieces: pieces.clone() }).unwrap();
            let mut done = Vec::new();
            while queue.in_flight() > 0 {
                queue.poll(Wait::One, &mut done).unwrap();
            }
            let completion = done.pop().unwrap();
            assert_eq!(completion.result, Ok(()));
            for piece in &pieces {
                let start = piece.device_offset as usize;
                let arrived = &completion.buffer[piece.buffer_offset..piece.buffer_offset + piece.length];
                assert!(
                    *arrived == contents[start..start + piece.length],
                    "{piece:?} with direct {direct:?}"
                );
            }
        }
        let mut metadata = [0; 777];
        device.read_at(1001, &mut metadata).unwrap();
        assert!(metadata == contents[1001..1778]);
    }
}

#[test]
fn info_tells_the_whole_chain_and_the_spec_as_it_was_given() {
    let file = image(&contents(1 << 20));
    let spec = format!("soft:{}", file.path().display());
    let device = open(&spec, &OpenOptions::default()).unwrap();
    let info = device.info();
    assert_eq!((info.spec.as_str(), info.size, info.writable), (spec.as_str(), 1 << 20, false));
    for part in ["NVMe driver", "in this process, over ", file.path().to_str().unwrap()] {
        assert!(info.path.contains(part), "{part}: {}", info.path);
    }
}

#[test]
fn image_is_held_below_a_controller_as_it_is_by_itself() {
    let file = image(&contents(1 << 20));
    let path = file.path().to_str().unwrap();
    let soft = open(&format!("soft:{path}"), &OpenOptions::default()).unwrap();
    open(path, &OpenOptions::default()).unwrap();
    let writing = OpenOptions { read_only: false, ..OpenOptions::default() };
    assert!(matches!(open(path, &writing), Err(OpenError::Busy { .. })));
    let refused = open(&format!("soft:{path}"), &writing).unwrap_err().to_string();
    assert!(refused.contains("open it read-only"), "{refused}");
    drop(soft);
    open(path, &writing).unwrap();
}

#[test]
fn image_with_a_last_part_of_a_block_is_served_as_far_as_blocks_go() {
    for size in [(1 << 20) + 512, (1 << 20) + 700, 512] {
        let contents = contents(size);
        let file = image(&contents);
        let device = open(&format!("soft:{}", file.path().display()), &OpenOptions::default()).unwrap();
        let whole = size - size % 512;
        assert_eq!(device.info().size, whole as u64);
        let mut last = [0; 512];
        device.read_at(whole as u64 - 512, &mut last).unwrap();
        assert!(last == contents[whole - 512..whole]);
        assert_eq!(device.read_at(whole as u64, &mut [0]).unwrap_err().errno, libc::EINVAL);
    }
    let empty = image(&[]);
    let refused = open(&format!("soft:{}", empty.path().display()), &OpenOptions::default()).unwrap_err();
    assert!(refused.to_string().starts_with("cannot open soft:"), "{refused}");
}
