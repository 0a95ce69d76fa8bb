//! Against the software controller, through every way that it works and is reached: what is written arrives, what is
//! read is what was written, and every command does what it says.

mod soft;

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine_block::{BlockDevice, Piece, Pieces, Request};
use engine_controller::backing::MemoryBacking;
use engine_controller::{Effect, Fault, NamespaceOptions};
use engine_dma::to_u64;
use engine_nvme::{Controller, DriverOptions, NvmeDevice, Refused, Run, Status, Waiting};
use engine_nvme_spec::nvm::{CopyRange, DsmRange};
use engine_nvme_spec::{AdminOpcode, FeatureId, LogPage};
use soft::{FAULTY, Hand, SIZE, driver, setup, volume, ways, with_faults};
use zerocopy::IntoBytes;

#[test]
fn every_io_command_does_what_it_says() {
    for way in ways() {
        let (setup, name) = (setup(&way, 512), way.name);
        let device = setup.open();
        let mut hand = Hand::new(&setup, device.controller());
        let mut model = volume();

        let (written, run) = hand.buffer(&[0xab; 4096]);
        assert!(hand.one(|pair| pair.write(1, 1, 16, 8, run)).is_success(), "{name}");
        model[8192..12288].fill(0xab);
        assert!(hand.one(|pair| pair.flush(2, 1)).is_success());
        assert!(hand.one(|pair| pair.verify(3, 1, 0, 16)).is_success());
        assert!(hand.one(|pair| pair.compare(4, 1, 16, 8, run)).is_success());
        assert!(hand.one(|pair| pair.compare(5, 1, 17, 8, run)).is(Status::COMPARE_FAILURE), "{name}");
        assert!(hand.one(|pair| pair.write_zeroes(6, 1, 20, 2)).is_success());
        model[10240..11264].fill(0);
        let ranges = [DsmRange { attributes: 0.into(), blocks: 4.into(), slba: 4000.into() }];
        let (list, run) = hand.buffer(ranges.as_bytes());
        assert!(hand.one(|pair| pair.deallocate(7, 1, 0, run)).is_success());
        let copy = |slba: u64, blocks: u16| CopyRange {
            slba: slba.into(),
            blocks: blocks.into(),
            ..CopyRange::default()
        };
        let (sources, run) = hand.buffer([copy(16, 2), copy(100, 0)].as_bytes());
        let copied = hand.one(|pair| pair.copy(8, 1, 200, 1, run));
        if way.options.mdts > 1 {
            assert_eq!(copied, Status::SUCCESS, "{name}");
            model.copy_within(8192..9728, 102_400);
            model.copy_within(51_200..51_712, 103_936);
        } else {
            assert!(copied.is(Status::COMMAND_SIZE_LIMIT_EXCEEDED), "{name}: {copied}");
        }
        let (read, run) = hand.buffer(&[0; 8192]);
        assert!(hand.one(|pair| pair.read(9, 1, 16, 16, run)).is_success());
        assert!(read[..] == model[8192..16384], "{name}");
        assert!(hand.one(|pair| pair.read(10, 1, to_u64(SIZE / 512), 16, run)).is(Status::LBA_OUT_OF_RANGE));
        assert!(hand.one(|pair| pair.read(11, 9, 0, 16, run)).is(Status::INVALID_NAMESPACE));
        let bytes = setup.bytes();
        let discarded = 4000 * 512..4004 * 512;
        assert!(bytes[..discarded.start] == model[..discarded.start], "{name}");
        assert!(bytes[discarded.end..] == model[discarded.end..], "{name}");
        drop((hand, device, written, list, sources, read));
        setup.assert_nothing_left();
    }
}

#[test]
fn scattered_memory_is_filled_in_order() {
    for way in ways() {
        let (setup, name, mdts) = (setup(&way, 512), way.name, way.options.mdts);
        for sgl in [true, false] {
            let options = DriverOptions { sgl, ..driver() };
            let controller = Controller::open(Arc::clone(&setup.transport), options).unwrap();
            let mut hand = Hand::new(&setup, &controller);
            let (first, a) = hand.buffer(&[0; 4096]);
            let (second, b) = hand.buffer(&[0; 4096]);
            let runs = [Run { iova: a.iova + 2048, length: 2048 }, b];
            assert!(
                hand.one(|pair| pair.read_scattered(1, 1, 3, 12, &runs)).is_success(),
                "{name}, SGL {sgl}"
            );
            assert!(first[2048..] == volume()[1536..3584], "{name}, SGL {sgl}");
            assert!(second[..] == volume()[3584..7680], "{name}, SGL {sgl}");
            assert!(hand.one(|pair| pair.write_scattered(2, 1, 100, 12, &runs)).is_success());
            assert!(setup.bytes()[51_200..57_344] == volume()[1536..7680], "{name}, SGL {sgl}");
            let uneven = [Run { iova: a.iova, length: 512 }, b];
            let refused = hand.pair.read_scattered(3, 1, 0, 9, &uneven);
            assert_eq!(refused.is_ok(), sgl && controller.uses_sgl(), "without SGLs only pages: {refused:?}");
            let long = Run { iova: a.iova, length: (4096 << mdts) + 512 };
            if controller.max_transfer() < long.length {
                assert!(matches!(hand.pair.read(4, 1, 0, 1, long), Err(Refused::Memory(_))), "{name}");
            }
        }
    }
}

#[test]
fn eight_queues_write_and_read_at_random_and_both_ends_agree() {
    for way in ways() {
        let (setup, name) = (setup(&way, 512), way.name);
        let controller = Controller::open(
            Arc::clone(&setup.transport),
            DriverOptions { timeout: Duration::from_secs(20), ..driver() },
        )
        .unwrap();
        let most = usize::try_from(controller.max_transfer()).unwrap().min(64 << 10);
        let parts: Vec<Vec<u8>> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..8_u64)
                .map(|worker| {
                    let (setup, controller) = (&setup, &controller);
                    scope.spawn(move || one_of_eight(Hand::new(setup, controller), worker, most))
                })
                .collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).collect()
        });
        assert!(setup.bytes() == parts.concat(), "{name}");
        drop(controller);
        setup.assert_nothing_left();
    }
}

/// Writes and reads back at random within an eighth of the volume; what it must hold then.
fn one_of_eight(mut hand: Hand, worker: u64, most: usize) -> Vec<u8> {
    let blocks = SIZE / 512 / 8;
    let base = worker * to_u64(blocks);
    let from = usize::try_from(base).unwrap() * 512;
    let mut model = volume()[from..from + SIZE / 8].to_vec();
    let mut state = worker * 7919 + 1;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    for round in 0..120 {
        // Several commands at a time, to places that do not overlap.
        let mut out = Vec::new();
        let lanes = 4;
        for lane in 0..lanes {
            let (start, room) = (lane * blocks / lanes, blocks / lanes);
            let first = start + random(room - 1);
            let count = 1 + random((start + room - first).min(most / 512));
            let place = first * 512..(first + count) * 512;
            let writes = random(2) == 0;
            let fill = u8::try_from(random(256)).unwrap();
            let bytes: Vec<u8> = if writes {
                (0..count * 512).map(|at| fill.wrapping_add(u8::try_from(at % 241).unwrap())).collect()
            } else {
                vec![0xee; count * 512]
            };
            let (buffer, run) = hand.buffer(&bytes);
            let (lba, count) = (base + to_u64(first), u32::try_from(count).unwrap());
            let token = to_u64(lane);
            if writes {
                hand.pair.write(token, 1, lba, count, run).unwrap();
                model[place.clone()].copy_from_slice(&bytes);
            } else {
                hand.pair.read(token, 1, lba, count, run).unwrap();
            }
            out.push((writes, place, buffer));
        }
        hand.pair.ring();
        let (mut ended, mut waiting) = (0, Waiting::default());
        let start = Instant::now();
        while ended < lanes {
            ended +=
                hand.pair.reap(lanes, |completed| assert!(completed.status.is_success(), "{completed:?}"));
            hand.pair.pause(&mut waiting, Duration::from_millis(1));
            assert!(start.elapsed() < Duration::from_secs(20), "round {round} of worker {worker}");
        }
        for (writes, place, buffer) in out {
            assert!(
                writes || buffer[..] == model[place.clone()],
                "worker {worker}, round {round}, {place:?}"
            );
        }
    }
    model
}

#[test]
fn device_reads_any_range_as_the_volume_has_it() {
    for way in ways() {
        for block_size in [512, 4096] {
            let (setup, name) = (setup(&way, block_size), way.name);
            let device = setup.open();
            assert_eq!(device.info().logical_block, block_size);
            let (bytes, mut queue) = (volume(), device.queue(8).unwrap());
            let mut place = 12_345_usize;
            for round in 0..60_usize {
                let mut pieces = Pieces::new();
                let mut end = 0;
                for _ in 0..1 + round % 5 {
                    place = (place * 48_271) % (SIZE - 1);
                    let length = (place % 100_000).min(SIZE - place);
                    pieces.push(Piece { device_offset: to_u64(place), buffer_offset: end, length });
                    end += length;
                }
                let buffer = queue.buffer(end).unwrap();
                let done = queue.read(Request { tag: 1, buffer, pieces: pieces.clone() });
                assert_eq!(done.result, Ok(()), "{name}");
                for piece in pieces {
                    let from = usize::try_from(piece.device_offset).unwrap();
                    let got = &done.buffer[piece.buffer_offset..piece.buffer_offset + piece.length];
                    assert!(got == &bytes[from..from + piece.length], "{name}, {piece:?}");
                }
            }
            let mut read = vec![0; 70_001];
            device.read_at(99, &mut read).unwrap();
            assert!(read == bytes[99..70_100], "{name}");
        }
    }
}

#[test]
fn health_features_errors_and_namespaces_are_told() {
    for way in [FAULTY[0], FAULTY[2]] {
        let (setup, _) = with_faults(way);
        let device = setup.open();
        let controller = device.controller();
        assert_eq!(controller.namespaces().unwrap(), [1]);
        let before = controller.health().unwrap().host_reads.get();
        device.read_at(0, &mut [0; 512]).unwrap();
        assert!(controller.health().unwrap().host_reads.get() > before);
        controller.set_feature(FeatureId::VOLATILE_WRITE_CACHE, 0).unwrap();
        assert_eq!(controller.feature(FeatureId::VOLATILE_WRITE_CACHE).unwrap() & 1, 0);
        let mut hand = Hand::new(&setup, controller);
        assert!(hand.one(|pair| pair.verify(1, 1, 1 << 40, 1)).is(Status::LBA_OUT_OF_RANGE));
        let errors = controller.errors().unwrap();
        assert!(errors.iter().any(|entry| entry.lba.get() == 1 << 40), "{errors:?}");
        assert!(controller.log_page(LogPage(0x70), 512).is_err());
        setup
            .subsystem
            .add_namespace(NamespaceOptions {
                nsid: Some(3),
                ..NamespaceOptions::new(Arc::new(MemoryBacking::new(1 << 20).unwrap()))
            })
            .unwrap();
        assert_eq!(controller.namespaces().unwrap(), [1, 3]);
        let second = NvmeDevice::new(Arc::clone(controller), Some(3)).unwrap();
        assert_eq!(second.info().size, 1 << 20);
    }
}

#[test]
fn namespace_that_comes_changes_and_goes_is_heard_of_each_time() {
    for way in FAULTY {
        let (setup, faults) = with_faults(way);
        let device = setup.open();
        let heard = |change: &dyn Fn()| {
            // The driver reads the list of those that changed, without which it is not told again.
            faults.add(Fault::admin(Effect::Delay(Duration::ZERO)).opcode(AdminOpcode::GET_LOG_PAGE.0));
            change();
            let start = Instant::now();
            while faults.left() > 0 {
                assert!(start.elapsed() < Duration::from_secs(20), "{way:?}: the driver did not hear of it");
                std::thread::sleep(Duration::from_millis(5));
            }
            let [a, b, c, d, ..] = device.controller().log_page(LogPage::CHANGED_NAMESPACES, 4096).unwrap();
            assert_eq!([a, b, c, d], [0; 4], "{way:?}: the list was read");
        };
        let backing = Arc::new(MemoryBacking::new(1 << 20).unwrap());
        heard(&|| {
            let options = NamespaceOptions { nsid: Some(3), ..NamespaceOptions::new(backing.clone()) };
            setup.subsystem.add_namespace(options).unwrap();
        });
        for blocks in [100, 200] {
            heard(&|| setup.subsystem.resize_namespace(3, blocks).unwrap());
            assert_eq!(device.controller().namespace(3).unwrap().size(), blocks * 512);
        }
        heard(&|| drop(setup.subsystem.remove_namespace(3).unwrap()));
        assert_eq!(device.controller().namespaces().unwrap(), [1]);
        drop(device);
        setup.assert_nothing_left();
    }
}

#[test]
fn read_at_depth_one_costs_little_more_than_its_copy() {
    let (setup, _) = with_faults(FAULTY[0]);
    let device = setup.open();
    let mut queue = device.queue(1).unwrap();
    let mut times: Vec<Duration> = (0..2000_u64)
        .map(|round| {
            let buffer = queue.buffer(4096).unwrap();
            let pieces = Pieces::from_slice(&[Piece {
                device_offset: round % 1000 * 4096,
                buffer_offset: 0,
                length: 4096,
            }]);
            let start = Instant::now();
            let done = queue.read(Request { tag: 0, buffer, pieces });
            let taken = start.elapsed();
            assert_eq!(done.result, Ok(()));
            taken
        })
        .collect();
    times.sort_unstable();
    // Bounds are generous, for machines that are busy; what it really takes is printed.
    println!("4 KiB at depth 1: median {:?}, best {:?}", times[1000], times[0]);
    assert!(times[1000] < Duration::from_micros(50), "{:?}", times[1000]);
}
