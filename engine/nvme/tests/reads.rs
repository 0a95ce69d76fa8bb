//! What is read through the driver is what the volume holds.

use std::sync::Arc;
use std::time::Duration;

use engine_block::{BlockDevice, Completion, Piece, Pieces, Request, Wait};
use engine_nvme::testing::{Mock, MockOptions};
use engine_nvme::{DriverOptions, NvmeDevice, open};
use proptest::prelude::*;

/// Bytes that tell where they are.
fn volume(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from((at * 31 + (at >> 9) * 7 + (at >> 16)) % 251).unwrap()).collect()
}

fn quick() -> DriverOptions {
    DriverOptions {
        timeout: Duration::from_millis(200),
        admin_timeout: Duration::from_millis(400),
        ..DriverOptions::default()
    }
}

fn device(options: MockOptions) -> (Arc<Mock>, Arc<NvmeDevice>) {
    let mock = Mock::new(options);
    let device = open(mock.clone(), quick()).unwrap();
    (mock, device)
}

/// One for each way of saying where data is and of being told about it.
fn kinds() -> Vec<MockOptions> {
    let base = || MockOptions { disk: volume(3 << 20), ..MockOptions::default() };
    vec![
        base(),
        MockOptions { sgl: true, ..base() },
        MockOptions { shadow_doorbells: true, ..base() },
        MockOptions { assisted: true, block_shift: 12, ..base() },
        MockOptions { assisted: true, shadow_doorbells: true, sgl: true, max_transfer_pages: 0, ..base() },
        // Pages of 16 KiB, doorbells 16 bytes apart, queues of 32 entries.
        MockOptions {
            capabilities: 31 | 1 << 16 | 1 << 24 | 2 << 32 | 1 << 37 | 2 << 48 | 4 << 52,
            ..base()
        },
        MockOptions { queues: 1, max_transfer_pages: 1, ..base() },
    ]
}

fn read(device: &NvmeDevice, pieces: &[(u64, usize)]) -> Completion {
    let mut queue = device.queue(4).unwrap();
    let mut scatter = Pieces::new();
    let mut end = 0;
    for &(device_offset, length) in pieces {
        scatter.push(Piece { device_offset, buffer_offset: end, length });
        end += length;
    }
    let buffer = queue.buffer(end).unwrap();
    queue.read(Request { tag: 9, buffer, pieces: scatter })
}

#[test]
fn pieces_of_any_kind_of_controller_arrive_as_the_volume_has_them() {
    for options in kinds() {
        let text = format!("{:?}", MockOptions { disk: Vec::new(), ..options.clone() });
        let (mock, device) = device(options);
        let disk = mock.disk();
        let pieces = [(0, 4096), (512, 512), (5, 1), (1 << 20, 1 << 20), (4095, 70_000), (123_456, 0)];
        let done = read(&device, &pieces);
        assert_eq!((done.tag, &done.result), (9, &Ok(())), "{text}");
        let mut at = 0;
        for (offset, length) in pieces {
            let from = usize::try_from(offset).unwrap();
            assert!(done.buffer[at..at + length] == disk[from..from + length], "{offset}+{length} of {text}");
            at += length;
        }
        let mut bytes = vec![0; 1_500_000];
        device.read_at(777, &mut bytes).unwrap();
        assert!(bytes == disk[777..777 + bytes.len()], "{text}");
        assert_eq!(mock.stray(), 0, "{text}");
        drop((done, device));
        assert!(mock.is_shut_down(), "{text}");
        assert_eq!((mock.ranges(), mock.starts()), (0, 1), "{text}");
    }
}

#[test]
fn workers_beyond_the_queue_pairs_share_them_and_read_right() {
    let (mock, device) = device(MockOptions { disk: volume(1 << 20), queues: 3, ..MockOptions::default() });
    let disk = mock.disk();
    std::thread::scope(|scope| {
        for worker in 0..12_u64 {
            let (device, disk) = (&device, &disk);
            scope.spawn(move || {
                let mut queue = device.queue(8).unwrap();
                let mut done = Vec::new();
                let mut place = worker * 7919;
                for round in 0..50_u64 {
                    for tag in 0..8 {
                        place = (place * 25_173 + 13_849) % (1 << 20);
                        let length = usize::try_from((place % 9000).min((1 << 20) - place)).unwrap();
                        let buffer = queue.buffer(length).unwrap();
                        let pieces =
                            Pieces::from_slice(&[Piece { device_offset: place, buffer_offset: 0, length }]);
                        queue.submit(Request { tag: tag << 32 | place, buffer, pieces }).unwrap();
                    }
                    while queue.in_flight() > 0 {
                        queue.poll(Wait::One, &mut done).unwrap();
                    }
                    assert_eq!(done.len(), 8, "worker {worker} round {round}");
                    for completion in done.drain(..) {
                        assert_eq!(completion.result, Ok(()));
                        let from = usize::try_from(completion.tag & 0xffff_ffff).unwrap();
                        assert!(completion.buffer[..] == disk[from..from + completion.buffer.len()]);
                    }
                }
            });
        }
    });
    assert_eq!(mock.stray(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Against the bytes: any pieces of any kind of controller.
    #[test]
    fn any_pieces_arrive_as_the_volume_has_them(
        kind in 0_usize..7,
        pieces in prop::collection::vec((0_u64..3 << 20, prop_oneof![0_usize..5000, 0_usize..400_000]), 1..12),
    ) {
        let (mock, device) = device(kinds().swap_remove(kind));
        let disk = mock.disk();
        let pieces: Vec<_> = pieces
            .into_iter()
            .map(|(offset, length)| (offset, length.min((3 << 20) - usize::try_from(offset).unwrap())))
            .collect();
        let done = read(&device, &pieces);
        prop_assert_eq!(done.result, Ok(()));
        let mut at = 0;
        for (offset, length) in pieces {
            let from = usize::try_from(offset).unwrap();
            prop_assert!(done.buffer[at..at + length] == disk[from..from + length], "{}+{}", offset, length);
            at += length;
        }
        prop_assert_eq!(mock.stray(), 0);
    }
}
