//! What the NVMe driver costs for each read, against a controller that completes everything at once on another core.
//!
//! Counted is the time inside of submitting, ringing and reaping; looks that find nothing are waiting and not counted.
//! Virtual machines have no counters of instructions, so those are counted by valgrind in runs of their own.

mod bare;
mod instructions;
mod null;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use engine_dma::{Pool, to_u64};
use engine_nvme::{Controller, DriverOptions, QueuePair, Run};
use engine_transport::{Transport, TransportMemory};

use crate::arguments::DriverArguments;
use crate::report::{machine, number, right, table};
use crate::samples::Samples;

use null::Null;

/// Reads that go out, and completions that are taken, at a time.
const BATCH: usize = 10;
/// Figures to reach, in nanoseconds, at depth 128 in batches.
const REACH: [(u32, f64); 2] = [(4096, 10.0), (128 << 10, 20.0)];

/// What is measured in one row.
#[derive(Debug, Clone, Copy)]
struct Case {
    bytes: u32,
    depth: usize,
    batched: bool,
    sgl: bool,
}

/// Runs the benchmark and prints its table.
pub(crate) fn run(arguments: &DriverArguments) -> Result<()> {
    if arguments.solo {
        return solo(arguments);
    }
    println!("{}", machine());
    let mut rows = table(&[
        "read",
        "depth",
        "data",
        "doorbell",
        "ns",
        "lowest",
        "waiting",
        "of bare",
        "reach",
        "instructions",
    ]);
    let mut bare = BTreeMap::new();
    for depth in [32, 128, 256] {
        let times = bare::measure(depth, arguments)?;
        let (lowest, median, _) = times.busy.spread().context("no round was measured")?;
        bare.insert(depth, median);
        rows.add_row([
            right("bare loop"),
            right(depth),
            right("-"),
            right("for a batch"),
            right(number(median)),
            right(number(lowest)),
            right(number(times.waiting.median().unwrap_or(0.0))),
            right(""),
            right(""),
            right(""),
        ]);
    }
    for case in cases(arguments) {
        let times = measure(case, arguments)?;
        let (lowest, median, _) = times.busy.spread().context("no round was measured")?;
        let goal = REACH.iter().find(|(bytes, _)| *bytes == case.bytes);
        let goal = goal.filter(|_| case.depth == 128 && case.batched).map(|(_, most)| *most);
        let reach = goal.map_or(String::new(), |most| {
            format!("<= {most:.0}: {}", if median <= most { "yes" } else { "no" })
        });
        // How far apart the two cores are decides what a line costs on its way, for both alike.
        let of_bare = bare.get(&case.depth).filter(|_| case.batched).map(|bare| median / bare);
        let counted = if arguments.instructions { number(instructions::count(case)?) } else { String::new() };
        rows.add_row([
            right(bytes(case.bytes)),
            right(case.depth),
            right(if case.sgl { "SGL" } else { "PRP" }),
            right(if case.batched { "for a batch" } else { "for each" }),
            right(number(median)),
            right(number(lowest)),
            right(number(times.waiting.median().unwrap_or(0.0))),
            right(of_bare.map_or(String::new(), |times| format!("{times:.2}x"))),
            right(reach),
            right(counted),
        ]);
    }
    println!("{rows}");
    if arguments.instructions {
        println!("instructions: for each read, with those of the benchmark that choose its block and memory");
    }
    Ok(())
}

fn cases(arguments: &DriverArguments) -> Vec<Case> {
    let mut cases = Vec::new();
    for bytes in [512, 4096, 128 << 10] {
        for sgl in [false, true] {
            // SGLs are used from three pages on.
            if sgl && bytes <= 8192 {
                continue;
            }
            for depth in [1, 32, 128, 256] {
                for batched in [true, false] {
                    if depth > 1 || !batched {
                        cases.push(Case { bytes, depth, batched, sgl });
                    }
                }
            }
        }
    }
    cases.retain(|case| {
        arguments.only.is_empty() || arguments.only.iter().any(|part| name(*case).contains(part))
    });
    cases
}

/// What a row is called; no name is a part of another.
fn name(case: Case) -> String {
    let (doorbell, data) =
        (if case.batched { "batch" } else { "each" }, if case.sgl { "SGL" } else { "PRP" });
    format!("{} {} {doorbell} {data}", bytes(case.bytes), case.depth)
}

fn bytes(count: u32) -> String {
    if count < 1024 { format!("{count} B") } else { format!("{} KiB", count >> 10) }
}

/// Nanoseconds for each read, a sample for each round.
#[derive(Debug, Default)]
struct Times {
    /// Submitting, ringing and reaping: what is told as the driver's.
    busy: Samples,
    /// Looking for the next completion: what the controller and the way between the cores took longer.
    waiting: Samples,
}

/// A queue pair and memory for each of its reads.
struct Bench {
    pair: QueuePair,
    runs: Vec<Run>,
    free: Vec<usize>,
    _buffers: Vec<engine_dma::Buffer>,
    lba: u64,
}

impl Bench {
    fn new(transport: Arc<Null>, case: Case) -> Result<Self> {
        let options = DriverOptions {
            queue_depth: u32::try_from(case.depth)?,
            queues: 1,
            sgl: case.sgl,
            ..DriverOptions::default()
        };
        let id = transport.id();
        let transport: Arc<dyn Transport> = transport;
        let pair = Controller::open(Arc::clone(&transport), options)?.pair()?;
        let mut pool = Pool::of(Arc::new(TransportMemory(transport)), 64 << 20, 4);
        let (mut runs, mut buffers) = (Vec::new(), Vec::new());
        for _ in 0..case.depth {
            let buffer = pool.take(usize::try_from(case.bytes)?)?;
            let arena = buffer.arena();
            let known = arena.registration().filter(|known| known.owner == id).context("unknown memory")?;
            let within = buffer.address().addr().get() - arena.base().addr().get();
            runs.push(Run { iova: known.handle + to_u64(within), length: case.bytes });
            buffers.push(buffer);
        }
        Ok(Self { pair, free: (0..case.depth).collect(), runs, _buffers: buffers, lba: 0 })
    }
}

/// One turn of a driver that keeps a queue full: takes what has ended, sends as much. How many ended.
#[inline(never)]
fn turn(bench: &mut Bench, case: Case) -> usize {
    let Bench { pair, runs, free, lba, .. } = bench;
    let batch = if case.batched { BATCH } else { 1 };
    let ended = pair.reap(batch, |completed| {
        if completed.status.is_success() {
            free.push(completed.token as usize);
        }
    });
    let blocks = case.bytes >> 9;
    for _ in 0..batch {
        let Some(index) = free.pop() else { break };
        // Blocks all over the namespace, as a program that reads at random would name them.
        *lba = lba.wrapping_add(0x9e37_79b9) & 0x1fff_ffff;
        let Some(&run) = runs.get(index) else { break };
        if pair.read(index as u64, 1, *lba, blocks, run).is_err() {
            free.push(index);
            break;
        }
    }
    pair.ring();
    ended
}

fn measure(case: Case, arguments: &DriverArguments) -> Result<Times> {
    let (transport, _running) = {
        // The controller's thread inherits where it may run.
        null::pin(arguments.cores.controller)?;
        let started = Null::start(case.sgl)?;
        null::pin(arguments.cores.driver)?;
        started
    };
    let mut bench = Bench::new(transport, case)?;
    let clock = clock_cost();
    let mut times = Times::default();
    for round in 0..=arguments.rounds {
        let (mut ended, mut idle, mut waits) = (0, 0.0, 0_u32);
        let start = Instant::now();
        while ended < arguments.commands {
            let found = turn(&mut bench, case);
            ended += found;
            if found == 0 {
                let empty = Instant::now();
                // Only looking: what is found here counts from the next turn on.
                while !bench.pair.is_ready() {
                    std::hint::spin_loop();
                }
                idle += empty.elapsed().as_nanos() as f64;
                waits += 1;
            }
        }
        let busy = start.elapsed().as_nanos() as f64 - idle - f64::from(waits) * clock;
        // The first round is for caches.
        if round > 0 {
            times.busy.push(busy / ended as f64);
            times.waiting.push(idle / ended as f64);
        }
    }
    while bench.pair.out() > 0 {
        bench.pair.reap(BATCH, |_| {});
    }
    Ok(times)
}

/// What reading the clock twice takes of the time that is not between the two, in nanoseconds.
fn clock_cost() -> f64 {
    const TIMES: u32 = 100_000;
    let (start, mut within) = (Instant::now(), 0.0);
    for _ in 0..TIMES {
        let empty = Instant::now();
        within += empty.elapsed().as_nanos() as f64;
    }
    (start.elapsed().as_nanos() as f64 - within) / f64::from(TIMES)
}

/// For counting instructions: the controller works between the driver's turns.
fn solo(arguments: &DriverArguments) -> Result<()> {
    for case in cases(arguments) {
        let (transport, _running) = Null::start(case.sgl)?;
        let mut bench = Bench::new(transport, case)?;
        let (mut ended, mut turns) = (0, 0_u64);
        while ended < arguments.commands {
            while bench.pair.out() > 0 && !bench.pair.is_ready() {
                std::thread::yield_now();
            }
            ended += turn(&mut bench, case);
            turns += 1;
        }
        println!("{} at depth {}: {ended} reads in {turns} turns", bytes(case.bytes), case.depth);
        while bench.pair.out() > 0 {
            bench.pair.reap(BATCH, |_| {});
        }
    }
    Ok(())
}
