//! Completions that are waited for by interrupts alone, from a controller in this process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine_controller::backing::MemoryBacking;
use engine_controller::{
    Controller as Software, ControllerOptions, Effect, Fault, Faults, InProcess, NamespaceOptions, Subsystem,
};
use engine_dma::{Pool, to_u64};
use engine_nvme::{Controller, DriverOptions, Run, Waiting};
use engine_transport::{Transport, TransportMemory};

const SIZE: u64 = 1 << 20;
const READS: u64 = 50;
/// How long a read waits whose interrupt is lost, and how long one may take that has one.
const LOST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(20);

/// A controller whose reads take a while, so that nobody finds them by looking.
fn slow(threads: usize, slow: Duration) -> (Arc<InProcess>, Faults) {
    let backing = MemoryBacking::new(SIZE).unwrap();
    let blocks: Vec<u8> = (0..SIZE).map(|at| u8::try_from((at / 512) % 251).unwrap()).collect();
    backing.region().write(0, &blocks).unwrap();
    let subsystem = Subsystem::builder().namespace(NamespaceOptions::new(Arc::new(backing))).build().unwrap();
    let faults = Faults::default();
    faults.add(Fault::io(Effect::Delay(slow)).opcode(2).times(u64::MAX));
    let options = ControllerOptions { threads, faults: Some(faults.clone()), ..ControllerOptions::default() };
    (Arc::new(InProcess::new("soft:slow", Software::new(options, subsystem).unwrap())), faults)
}

#[test]
fn reads_that_are_only_waited_for_end_by_their_interrupts() {
    for threads in [1, 2] {
        let (transport, _faults) = slow(threads, Duration::from_millis(2));
        let transport: Arc<dyn Transport> = transport;
        // The clock is of no help: a step of it is longer than the test.
        let options = DriverOptions { timeout: LOST * 32, queues: 2, ..DriverOptions::default() };
        let controller = Controller::open(Arc::clone(&transport), options).unwrap();
        let mut pool = Pool::of(Arc::new(TransportMemory(transport)), 4 << 20, 4);
        let mut pairs = [controller.pair().unwrap(), controller.pair().unwrap()];
        for at in 0..READS {
            for pair in &mut pairs {
                let buffer = pool.take(4096).unwrap();
                let within = buffer.address().addr().get() - buffer.arena().base().addr().get();
                let iova = buffer.arena().registration().unwrap().handle + to_u64(within);
                pair.read(at, 1, at * 8, 8, Run { iova, length: 4096 }).unwrap();
                pair.ring();
                let (start, mut waiting, mut ended) = (Instant::now(), Waiting::default(), None);
                while ended.is_none() {
                    if pair.reap(1, |completed| ended = Some(completed)) == 0 {
                        pair.pause(&mut waiting, LOST);
                    }
                    assert!(start.elapsed() < LONGEST, "read {at} on {threads} threads: no interrupt");
                }
                let ended = ended.unwrap();
                assert!(ended.status.is_success() && ended.token == at, "{ended:?}");
                let wanted: Vec<u8> = (at * 8..at * 8 + 8)
                    .flat_map(|block| [u8::try_from(block % 251).unwrap(); 512])
                    .collect();
                assert!(*buffer == *wanted, "read {at}");
            }
        }
    }
}

#[test]
fn interrupt_of_several_completions_is_enough_for_all_of_them() {
    let (transport, _faults) = slow(1, Duration::from_millis(2));
    let transport: Arc<dyn Transport> = transport;
    let options = DriverOptions { timeout: LOST * 32, queues: 1, ..DriverOptions::default() };
    let controller = Controller::open(Arc::clone(&transport), options).unwrap();
    let mut pool = Pool::of(Arc::new(TransportMemory(transport)), 4 << 20, 4);
    let mut pair = controller.pair().unwrap();
    let buffer = pool.take(4096).unwrap();
    let within = buffer.address().addr().get() - buffer.arena().base().addr().get();
    let iova = buffer.arena().registration().unwrap().handle + to_u64(within);
    for round in 0..20 {
        for token in 0..32 {
            pair.read(token, 1, token, 1, Run { iova, length: 512 }).unwrap();
        }
        pair.ring();
        let (start, mut waiting, mut ended) = (Instant::now(), Waiting::default(), 0);
        while ended < 32 {
            // Three at a time: the rest is found without another interrupt.
            let found = pair.reap(3, |completed| assert!(completed.status.is_success()));
            ended += found;
            if found == 0 {
                pair.pause(&mut waiting, LOST);
            }
            assert!(start.elapsed() < LONGEST, "round {round}: {ended} of 32 ended, and no interrupt");
        }
    }
}
