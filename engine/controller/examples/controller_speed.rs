//! How many commands one core of a controller carries out, by backing.
//!
//! `cargo run --release -p engine-controller --example controller_speed [-- SECONDS [ROWS]]`
//!
//! with ROWS a part of the names of those rows that are wanted: "null", "memory read 4096".
//!
//! The host's side runs on the same thread: it fills a queue with 128 commands and rings once, lets the controller
//! work, and takes the completions. Only the controller's work counts. Backings and buffers fit into the cache; memory that
//! does not costs what memory costs.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use engine_controller::backing::{Backing, BlockBacking, MemoryBacking, NullBacking};
use engine_controller::{Controller, ControllerOptions, InProcess, NamespaceOptions, Subsystem};
use engine_dma::{Arena, Region, to_u64, to_usize};
use engine_nvme_spec::{Aqa, Cc, Cqe, Csts, NvmOpcode, Sqe, admin, nvm, register};
use engine_transport::Transport;
use engine_uring::{KernelDevice, Preference};

const ENTRIES: u16 = 256;
const DEPTH: u16 = 128;
const ROUNDS: usize = 5;
/// Where things lie in the host's memory, in bytes.
const ADMIN: u64 = 0;
const SUBMISSIONS: u64 = 64 << 10;
const COMPLETIONS: u64 = 128 << 10;
const LISTS: u64 = 256 << 10;
const DATA: u64 = 2 << 20;
/// Bytes of the data buffers, which commands use in turn.
const BUFFERS: u64 = 512 << 10;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// One row of the table.
struct Row {
    name: &'static str,
    backing: Arc<dyn Backing>,
    opcode: NvmOpcode,
    bytes: u64,
    figures: Vec<f64>,
}

fn main() -> Outcome<()> {
    let seconds: f64 = std::env::args().nth(1).map_or(Ok(0.5), |text| text.parse())?;
    let filter = std::env::args().nth(2).unwrap_or_default();
    let each = Duration::from_secs_f64(seconds);
    let size = 4 << 20;
    let null: Arc<dyn Backing> = Arc::new(NullBacking::new(size));
    let memory: Arc<dyn Backing> = Arc::new(MemoryBacking::new(size)?);
    let place = tempfile::tempdir()?;
    let path = place.path().join("disk.img");
    let mut file = File::create(&path)?;
    for _ in 0..size >> 20 {
        file.write_all(&[0x5a; 1 << 20])?;
    }
    file.sync_all()?;
    let device = KernelDevice::new(File::open(&path)?, "disk.img", Preference::default())?;
    let path = engine_block::BlockDevice::info(&device).path.clone();
    let block: Arc<dyn Backing> = Arc::new(BlockBacking::new(Arc::new(device)));
    let mut rows = Vec::new();
    for (name, backing) in [("null", null), ("memory", memory), ("block device", block)] {
        for (opcode, bytes) in [
            (NvmOpcode::READ, 512),
            (NvmOpcode::READ, 4096),
            (NvmOpcode::READ, 128 << 10),
            (NvmOpcode::WRITE, 4096),
        ] {
            let verb = if opcode == NvmOpcode::READ { "read" } else { "write" };
            let wanted = format!("{name} {verb} {bytes}").contains(&filter);
            if wanted && (opcode == NvmOpcode::READ || !backing.is_read_only()) {
                rows.push(Row { name, backing: Arc::clone(&backing), opcode, bytes, figures: Vec::new() });
            }
        }
    }
    // Rounds are interleaved, and the median counts, since machines are noisy.
    for _ in 0..ROUNDS {
        for row in &mut rows {
            row.figures.push(measure(&row.backing, row.opcode, row.bytes, each)?);
        }
    }
    println!("block device: {path}\n");
    println!(
        "{:14} {:6} {:>8} {:>16} {:>10} {:>8}",
        "backing", "", "bytes", "commands/s/core", "ns each", "GB/s"
    );
    for row in &mut rows {
        row.figures.sort_by(f64::total_cmp);
        let nanoseconds = row.figures.get(ROUNDS / 2).copied().unwrap_or(f64::NAN);
        let verb = if row.opcode == NvmOpcode::READ { "read" } else { "write" };
        let bytes = f64::from(u32::try_from(row.bytes)?);
        println!(
            "{:14} {verb:6} {:8} {:13.2} M {nanoseconds:10.1} {:8.1}",
            row.name,
            row.bytes,
            1e3 / nanoseconds,
            bytes / nanoseconds
        );
    }
    Ok(())
}

/// Nanoseconds of the controller's for each command.
fn measure(backing: &Arc<dyn Backing>, opcode: NvmOpcode, bytes: u64, time: Duration) -> Outcome<f64> {
    let subsystem = Subsystem::builder().namespace(NamespaceOptions::new(Arc::clone(backing))).build()?;
    let options = ControllerOptions { queue_pairs: 1, depth: DEPTH.into(), ..ControllerOptions::default() };
    let mut host = Host::new(Controller::new(options, subsystem)?)?;
    let blocks = u16::try_from(bytes / 512)?;
    let (mut block, last) = (0, backing.size() / 512 - u64::from(blocks));
    let mut buffer = 0;
    let mut batches = Vec::new();
    let start = Instant::now();
    while start.elapsed() < time {
        for _ in 0..DEPTH {
            // A step that is no multiple of anything, so that blocks come in no order.
            block = (block + 977 * u64::from(blocks)) % last / u64::from(blocks) * u64::from(blocks);
            let sqe = if opcode == NvmOpcode::READ {
                nvm::read(1, block, blocks.into())
            } else {
                nvm::write(1, block, blocks.into())
            };
            host.push(host.with_data(sqe, buffer, bytes));
            buffer = (buffer + bytes) % BUFFERS;
        }
        host.ring(2, host.tail.into());
        let (mut taken, mut busy) = (0, Duration::ZERO);
        while taken < DEPTH {
            let before = Instant::now();
            host.transport.assist(1, Duration::from_millis(1));
            busy += before.elapsed();
            while let Some(entry) = host.take() {
                if !entry.status().is_success() {
                    return Err(format!("a command failed: {}", entry.status()).into());
                }
                taken += 1;
            }
        }
        host.ring(3, host.head.into());
        batches.push(busy);
    }
    // The median, since whatever else runs on this core counts as time too.
    batches.sort_unstable();
    let middle = batches.get(batches.len() / 2).copied().unwrap_or_default();
    Ok(middle.as_secs_f64() * 1e9 / f64::from(DEPTH))
}

/// The host's side: one I/O queue pair, and the memory.
struct Host {
    transport: InProcess,
    arena: Arena,
    region: Arc<Region>,
    base: u64,
    doorbells: Arc<Region>,
    tail: u16,
    head: u16,
    phase: bool,
}

impl Host {
    fn new(controller: Arc<Controller>) -> Outcome<Self> {
        let transport = InProcess::new("soft:speed", controller);
        let arena = transport.arena(to_usize(DATA + BUFFERS + (1 << 20)))?;
        let base = arena.registration().ok_or("memory without a bus address")?.handle;
        let (region, doorbells) = (Arc::clone(arena.region()), transport.doorbells().ok_or("no doorbells")?);
        let host = Self { transport, arena, region, base, doorbells, tail: 0, head: 0, phase: true };
        host.transport.write32(register::AQA, Aqa::default().with_asqs(7).with_acqs(7).0)?;
        host.transport.write64(register::ASQ, host.base + ADMIN)?;
        host.transport.write64(register::ACQ, host.base + ADMIN + 4096)?;
        host.transport.write32(register::CC, Cc::default().with_en(true).with_iosqes(6).with_iocqes(4).0)?;
        if !Csts(host.transport.read32(register::CSTS)?).rdy() {
            return Err("the controller is not ready".into());
        }
        let entries = u32::from(ENTRIES);
        let completions = admin::create_completion_queue(1, entries, host.base + COMPLETIONS, None);
        let submissions = admin::create_submission_queue(1, entries, host.base + SUBMISSIONS, 1, 0);
        for (place, sqe) in [completions, submissions].into_iter().enumerate() {
            host.store(ADMIN + to_u64(place) * 64, sqe);
            host.ring(0, u32::try_from(place)? + 1);
            host.transport.assist(0, Duration::ZERO);
        }
        // The lists of every place of the queue: pages that follow each other.
        Ok(host)
    }

    fn store(&self, at: u64, sqe: Sqe) {
        let Some(words) = self.region.u64s_at(to_usize(at), 8) else { return };
        for (place, word) in words.iter().zip(sqe.to_words()) {
            place.store(word, Ordering::Relaxed);
        }
    }

    fn ring(&self, index: usize, value: u32) {
        if let Some(word) = self.doorbells.u32_at(index * 4) {
            word.store(value, Ordering::Release);
        }
    }

    /// The command with its data at `offset` of the buffers, by PRPs.
    fn with_data(&self, sqe: Sqe, offset: u64, bytes: u64) -> Sqe {
        let at = self.base + DATA + offset;
        if bytes <= 4096 {
            return sqe.with_prps(at, 0);
        }
        let list = LISTS + u64::from(self.tail) * 4096;
        let pages = to_usize(bytes / 4096 - 1);
        if let Some(words) = self.region.u64s_at(to_usize(list), pages) {
            for (word, page) in words.iter().zip(1_u64..) {
                word.store(at + page * 4096, Ordering::Relaxed);
            }
        }
        sqe.with_prps(at, self.base + list)
    }

    fn push(&mut self, sqe: Sqe) {
        self.store(SUBMISSIONS + u64::from(self.tail) * 64, Sqe { cid: self.tail.into(), ..sqe });
        self.tail = (self.tail + 1) % ENTRIES;
    }

    fn take(&mut self) -> Option<Cqe> {
        let at = COMPLETIONS + u64::from(self.head) * 16;
        let [first, second] = self.arena.region().u64s_at(to_usize(at), 2)? else { return None };
        let last = second.load(Ordering::Acquire);
        let entry = Cqe::from_words([first.load(Ordering::Relaxed), last]);
        if entry.phase() != self.phase {
            return None;
        }
        self.head += 1;
        if self.head == ENTRIES {
            (self.head, self.phase) = (0, !self.phase);
        }
        Some(entry)
    }
}
