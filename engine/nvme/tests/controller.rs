//! Against the software controller, through every way that it works: what is written arrives, what is read is what
//! was written, and every command does what it says.

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine_block::{BlockDevice, BlockQueue, Piece, Pieces, Request, Wait};
use engine_controller::backing::MemoryBacking;
use engine_controller::{
    Controller as Software, ControllerOptions, Effect, Fault, Faults, InProcess, NamespaceOptions, Subsystem,
};
use engine_dma::{Buffer, Pool, to_u64};
use engine_nvme::{Controller, DriverOptions, NvmeDevice, QueuePair, Refused, Run, Status, Waiting};
use engine_nvme_spec::FeatureId;
use engine_nvme_spec::nvm::{CopyRange, DsmRange};
use engine_transport::{Transport, TransportMemory};
use zerocopy::IntoBytes;

const SIZE: usize = 4 << 20;

fn volume() -> Vec<u8> {
    (0..u32::try_from(SIZE).unwrap())
        .map(|at| u8::try_from((at * 13 + (at >> 9) * 5) % 251).unwrap())
        .collect()
}

/// The ways in which the controller works.
fn ways() -> [(&'static str, ControllerOptions); 4] {
    let threads = |threads| ControllerOptions { threads, ..ControllerOptions::default() };
    [
        ("on the caller's thread", threads(0)),
        ("on two threads", threads(2)),
        (
            "on one thread without shadow doorbells",
            ControllerOptions { shadow_doorbells: false, ..threads(1) },
        ),
        (
            "with spread doorbells and short queues",
            ControllerOptions { doorbell_stride: 4, queue_entries: 16, mdts: 1, vectors: 1, ..threads(2) },
        ),
    ]
}

struct Setup {
    subsystem: Arc<Subsystem>,
    backing: MemoryBacking,
    transport: Arc<InProcess>,
}

fn setup(options: ControllerOptions, block_size: u32) -> Setup {
    let backing = MemoryBacking::new(to_u64(SIZE)).unwrap();
    backing.region().write(0, &volume()).unwrap();
    let namespace = NamespaceOptions { block_size, ..NamespaceOptions::new(Arc::new(backing.clone())) };
    let subsystem = Subsystem::builder().namespace(namespace).build().unwrap();
    let software = Software::new(options, Arc::clone(&subsystem)).unwrap();
    let transport = Arc::new(InProcess::new("soft:test", software));
    Setup { subsystem, backing, transport }
}

fn driver() -> DriverOptions {
    DriverOptions {
        timeout: Duration::from_millis(320),
        admin_timeout: Duration::from_secs(2),
        ..DriverOptions::default()
    }
}

impl Setup {
    fn open(&self) -> Arc<NvmeDevice> {
        engine_nvme::open(self.transport.clone(), driver()).unwrap()
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; SIZE];
        self.backing.region().read(0, &mut bytes).unwrap();
        bytes
    }
}

/// A queue pair, and memory for its commands.
struct Hand {
    pair: QueuePair,
    pool: Pool,
}

impl Hand {
    fn new(setup: &Setup, controller: &Arc<Controller>) -> Self {
        let transport: Arc<dyn Transport> = setup.transport.clone();
        let pool = Pool::of(Arc::new(TransportMemory(transport)), 4 << 20, 4);
        Self { pair: controller.pair().unwrap(), pool }
    }

    fn buffer(&mut self, bytes: &[u8]) -> (Buffer, Run) {
        let mut buffer = self.pool.take(bytes.len()).unwrap();
        buffer.copy_from_slice(bytes);
        let within = buffer.address().addr().get() - buffer.arena().base().addr().get();
        let iova = buffer.arena().registration().unwrap().handle + to_u64(within);
        (buffer, Run { iova, length: u32::try_from(bytes.len()).unwrap() })
    }

    /// Carries out one command; its status.
    fn one(&mut self, command: impl FnOnce(&mut QueuePair) -> Result<(), Refused>) -> Status {
        command(&mut self.pair).unwrap();
        self.pair.ring();
        let (start, mut ended, mut waiting) = (Instant::now(), None, Waiting::default());
        while ended.is_none() {
            self.pair.reap(1, |completed| ended = Some(completed.status));
            self.pair.pause(&mut waiting, Duration::from_millis(10));
            assert!(start.elapsed() < Duration::from_secs(10));
        }
        ended.unwrap()
    }
}

#[test]
fn every_io_command_does_what_it_says() {
    for (way, options) in ways() {
        let setup = setup(options.clone(), 512);
        let device = setup.open();
        let mut hand = Hand::new(&setup, device.controller());
        let mut model = volume();

        let (_written, run) = hand.buffer(&[0xab; 4096]);
        assert!(hand.one(|pair| pair.write(1, 1, 16, 8, run)).is_success(), "{way}");
        model[8192..12288].fill(0xab);
        assert!(hand.one(|pair| pair.flush(2, 1)).is_success());
        assert!(hand.one(|pair| pair.verify(3, 1, 0, 16)).is_success());
        assert!(hand.one(|pair| pair.compare(4, 1, 16, 8, run)).is_success());
        assert!(hand.one(|pair| pair.compare(5, 1, 17, 8, run)).is(Status::COMPARE_FAILURE), "{way}");
        assert!(hand.one(|pair| pair.write_zeroes(6, 1, 20, 2)).is_success());
        model[10240..11264].fill(0);
        let ranges = [DsmRange { attributes: 0.into(), blocks: 4.into(), slba: 4000.into() }];
        let (_ranges, run) = hand.buffer(ranges.as_bytes());
        assert!(hand.one(|pair| pair.deallocate(7, 1, 0, run)).is_success());
        let copy = |slba: u64, blocks: u16| CopyRange {
            slba: slba.into(),
            blocks: blocks.into(),
            ..CopyRange::default()
        };
        let (_sources, run) = hand.buffer([copy(16, 2), copy(100, 0)].as_bytes());
        let copied = hand.one(|pair| pair.copy(8, 1, 200, 1, run));
        if options.mdts > 1 {
            assert_eq!(copied, Status::SUCCESS, "{way}");
            model.copy_within(8192..9728, 102_400);
            model.copy_within(51_200..51_712, 103_936);
        } else {
            assert!(copied.is(Status::COMMAND_SIZE_LIMIT_EXCEEDED), "{way}: {copied}");
        }
        let (read, run) = hand.buffer(&[0; 8192]);
        assert!(hand.one(|pair| pair.read(9, 1, 16, 16, run)).is_success());
        assert!(read[..] == model[8192..16384], "{way}");
        assert!(hand.one(|pair| pair.read(10, 1, to_u64(SIZE / 512), 16, run)).is(Status::LBA_OUT_OF_RANGE));
        assert!(hand.one(|pair| pair.read(11, 9, 0, 16, run)).is(Status::INVALID_NAMESPACE));
        let bytes = setup.bytes();
        let discarded = 4000 * 512..4004 * 512;
        assert!(bytes[..discarded.start] == model[..discarded.start], "{way}");
        assert!(bytes[discarded.end..] == model[discarded.end..], "{way}");
    }
}

#[test]
fn scattered_memory_is_filled_in_order() {
    for (way, options) in ways() {
        let mdts = options.mdts;
        let setup = setup(options, 512);
        for sgl in [true, false] {
            let options = DriverOptions { sgl, ..driver() };
            let controller = Controller::open(setup.transport.clone(), options).unwrap();
            let mut hand = Hand::new(&setup, &controller);
            let (first, a) = hand.buffer(&[0; 4096]);
            let (second, b) = hand.buffer(&[0; 4096]);
            let runs = [Run { iova: a.iova + 2048, length: 2048 }, b];
            assert!(
                hand.one(|pair| pair.read_scattered(1, 1, 3, 12, &runs)).is_success(),
                "{way}, SGL {sgl}"
            );
            assert!(first[2048..] == volume()[1536..3584], "{way}, SGL {sgl}");
            assert!(second[..] == volume()[3584..7680], "{way}, SGL {sgl}");
            assert!(hand.one(|pair| pair.write_scattered(2, 1, 100, 12, &runs)).is_success());
            assert!(setup.bytes()[51_200..57_344] == volume()[1536..7680], "{way}, SGL {sgl}");
            let uneven = [Run { iova: a.iova, length: 512 }, b];
            let refused = hand.pair.read_scattered(3, 1, 0, 9, &uneven);
            assert_eq!(refused.is_ok(), sgl && controller.uses_sgl(), "without SGLs only pages: {refused:?}");
            let long = Run { iova: a.iova, length: (4096 << mdts) + 512 };
            if controller.max_transfer() < long.length {
                assert!(matches!(hand.pair.read(4, 1, 0, 1, long), Err(Refused::Memory(_))), "{way}");
            }
        }
    }
}

#[test]
fn eight_queues_write_and_read_at_random_and_both_ends_agree() {
    for (way, options) in ways() {
        let setup = setup(options, 512);
        let controller = Controller::open(
            setup.transport.clone(),
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
        assert!(setup.bytes() == parts.concat(), "{way}");
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
    for (way, options) in ways() {
        for block_size in [512, 4096] {
            let setup = setup(options.clone(), block_size);
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
                assert_eq!(done.result, Ok(()), "{way}");
                for piece in pieces {
                    let from = usize::try_from(piece.device_offset).unwrap();
                    let got = &done.buffer[piece.buffer_offset..piece.buffer_offset + piece.length];
                    assert!(got == &bytes[from..from + piece.length], "{way}, {piece:?}");
                }
            }
            let mut read = vec![0; 70_001];
            device.read_at(99, &mut read).unwrap();
            assert!(read == bytes[99..70_100], "{way}");
        }
    }
}

#[test]
fn health_features_errors_and_namespaces_are_told() {
    let setup = setup(ControllerOptions::default(), 512);
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
    assert!(controller.log_page(engine_nvme_spec::LogPage(0x70), 512).is_err());
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

fn with_faults(threads: usize) -> (Setup, Faults) {
    let faults = Faults::default();
    let options = ControllerOptions { threads, faults: Some(faults.clone()), ..ControllerOptions::default() };
    (setup(options, 512), faults)
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
    for threads in [0, 1] {
        for effect in effects {
            let (setup, faults) = with_faults(threads);
            let device = setup.open();
            let queue = device.queue(16).unwrap();
            faults.add(Fault::io(effect).opcode(2).after(3).times(2));
            for (tag, errno, buffer) in read_all(queue) {
                assert_eq!(errno, 0, "{effect:?} on {threads} threads, request {tag}");
                let from = usize::try_from(tag).unwrap() * 4096;
                assert!(
                    buffer[..] == bytes[from..from + 4096],
                    "{effect:?} on {threads} threads, request {tag}"
                );
            }
            faults.heal();
            device.read_at(0, &mut [0; 512]).unwrap();
        }
    }
}

#[test]
fn media_error_is_told_with_its_place_and_only_there() {
    let (setup, faults) = with_faults(0);
    let device = setup.open();
    faults.add(Fault::io(Effect::Fail(Status::UNRECOVERED_READ_ERROR.final_())).blocks(24..32).times(100));
    for (tag, errno, _) in read_all(device.queue(16).unwrap()) {
        assert_eq!(errno, if tag == 3 { 61 } else { 0 }, "request {tag}");
    }
}

#[test]
fn controller_that_sticks_is_reset_and_when_it_works_again_so_do_reads() {
    for threads in [0, 1] {
        let (setup, faults) = with_faults(threads);
        let device = setup.open();
        let queue = device.queue(16).unwrap();
        faults.stick(true);
        let healer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            faults.stick(false);
        });
        assert!(read_all(queue).iter().all(|(_, errno, _)| *errno == 0), "{threads} threads");
        healer.join().unwrap();
    }
}

#[test]
fn controller_that_breaks_down_is_reset_and_that_vanishes_is_gone() {
    for threads in [0, 1] {
        let (setup, faults) = with_faults(threads);
        let device = setup.open();
        let queue = device.queue(16).unwrap();
        faults.break_down();
        assert!(read_all(queue).iter().all(|(_, errno, _)| *errno == 0), "{threads} threads");
        assert!(device.controller().resets() > 0);

        let queue = device.queue(16).unwrap();
        faults.vanish();
        let errnos: Vec<i32> = read_all(queue).iter().map(|(_, errno, _)| *errno).collect();
        // A thread of the controller's may be in the middle of its last round.
        assert!(errnos.iter().all(|errno| [0, 19].contains(errno)), "{threads} threads: {errnos:?}");
        let start = Instant::now();
        assert_eq!(device.read_at(0, &mut [0; 512]).unwrap_err().errno, 19);
        assert!(start.elapsed() < Duration::from_secs(2));
    }
}

#[test]
fn controller_that_is_never_ready_is_refused() {
    let (setup, faults) = with_faults(1);
    faults.never_ready(true);
    let error = engine_nvme::open(setup.transport.clone(), driver()).unwrap_err();
    assert!(error.to_string().contains("did not become ready"), "{error}");
    faults.heal();
    setup.open().read_at(0, &mut [0; 512]).unwrap();
}

#[test]
fn read_at_depth_one_costs_little_more_than_its_copy() {
    let setup = setup(ControllerOptions::default(), 512);
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
