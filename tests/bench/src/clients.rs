//! What clients with queues of their own cost the daemon: checked commands for each second and core on an engine that
//! moves nothing, and small files for each second and core through a snapshot of a volume in memory.
//!
//! Client and mediator take turns on one thread, and only the mediator's turns are counted; so one core's worth is
//! measured whatever else the machine does, and `valgrind --tool=callgrind --toggle-collect='*clients::mediate*'` counts
//! the mediator's instructions alone.

mod device;
mod scaling;
mod tmpfs;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use extents_core::Ino;
use homi_client::{Command as Read, QueuePair, Session};
use homifs_clients::{ClientLimits, Server};
use homifs_core::{Caller, Homifs, NodeId, VolumeParts};
use homifs_options::MountOptions;

use crate::arguments::ClientArguments;
use crate::generator::Generator;
use crate::report::{machine, number, reached, right, table};
use crate::samples::Samples;

use device::{Image, MemoryDevice, Way};
pub(crate) use tmpfs::TmpfsImage;

/// Bytes of a file of the tree: many data sets have pictures of this size.
const FILE: usize = 110_000;
/// Figures to reach, for each second and core.
const COMMANDS: f64 = 10e6;
const FILES: f64 = 40_000.0;
const COPIES: f64 = 3e6;
/// Longest command of the reads of files.
const TRANSFER: u32 = 128 << 10;

/// Runs the benchmark and prints its table.
pub(crate) fn run(arguments: &ClientArguments) -> Result<()> {
    println!("{}", machine());
    if !arguments.mediators.is_empty() {
        return scaling::run(arguments);
    }
    let image = make_image(arguments.files)?;
    let mut rows = table(&["what", "pairs", "depth", "ns", "lowest", "for each s and core", "reach"]);
    let is_wanted = |name: &str| {
        arguments.only.is_empty() || arguments.only.iter().any(|part| name.contains(part.as_str()))
    };
    for (pairs, depth) in [(1, 1), (1, 32), (1, 64), (4, 64), (32, 32)] {
        // Answered by the engine at once, as one does whose device is memory, or when it is asked again.
        for (name, way) in [("commands", Way::Null), ("commands, queued", Way::Queued)] {
            if is_wanted(name) {
                let times = commands(&Served::new(&image, way)?, pairs, depth, arguments)?;
                rows.add_row(row(name, pairs, depth, &times, COMMANDS)?);
            }
        }
    }
    if is_wanted("copies") {
        let image = TmpfsImage::new(arguments.data_mib)?;
        let times = tmpfs::copies(&image, arguments)?;
        rows.add_row(row("copies alone", 1, 1, &times, COPIES)?);
        for (pairs, depth) in [(1, 64), (32, 32)] {
            let served = Served::of(image.mount()?, 0, ClientLimits::default())?;
            let times = commands(&served, pairs, depth, arguments)?;
            rows.add_row(row("copies of 4 KiB", pairs, depth, &times, COPIES)?);
        }
    }
    if is_wanted("files") {
        let times = files(&image, arguments)?;
        rows.add_row(row("files", 1, 32, &times, FILES)?);
    }
    println!("{rows}");
    Ok(())
}

fn row(what: &str, pairs: u32, depth: u32, times: &Samples, reach: f64) -> Result<Vec<comfy_table::Cell>> {
    let (lowest, median, _) = times.spread().context("no round was measured")?;
    let each = 1e9 / median;
    Ok(vec![
        right(what),
        right(pairs),
        right(depth),
        right(number(median)),
        right(number(lowest)),
        right(number(each)),
        right(format!("{}: {}", number(reach), reached(each >= reach))),
    ])
}

/// A volume with a large file and a folder of small ones, made without mounting anything.
fn make_image(files: u32) -> Result<Image> {
    let folder = tempfile::tempdir()?;
    let tree = folder.path().join("tree");
    std::fs::create_dir_all(tree.join("small"))?;
    let mut generator = Generator::new(7);
    let mut bytes = vec![0; 8 << 20];
    generator.fill(&mut bytes);
    std::fs::write(tree.join("large"), &bytes)?;
    for number in 0..files {
        let start = usize::try_from(number)? * 4096 % (bytes.len() - FILE);
        std::fs::write(tree.join(format!("small/{number:06}.jpg")), &bytes[start..start + FILE])?;
    }
    let image = folder.path().join("image");
    let size = 64 + u64::from(files) * 120_000 / (1 << 20);
    let made = Command::new("mkfs.ext4")
        .args(["-q", "-F", "-d"])
        .arg(&tree)
        .arg(&image)
        .arg(format!("{size}M"))
        .output()
        .context("mkfs.ext4 is needed")?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Ok(Image(Arc::new(std::fs::read(Path::new(&image))?)))
}

/// A mount without a mount, that lets clients in.
struct Served {
    homifs: Arc<Homifs>,
    server: Server,
}

impl Served {
    fn new(image: &Image, way: Way) -> Result<Self> {
        let fs = extents_ext4::Ext4::open(image.clone(), &extents_ext4::OpenOptions::default())?;
        let device = Arc::new(MemoryDevice::new(image.clone(), way));
        let parts = VolumeParts { fs: Arc::new(fs), device, start: 0 };
        let homifs = Homifs::new(parts, "memory".into(), MountOptions::default());
        Self::of(homifs, 0, ClientLimits::default())
    }

    fn of(homifs: Arc<Homifs>, mediators: usize, limits: ClientLimits) -> Result<Self> {
        let server = Server::start(&homifs, mediators, limits)?;
        Ok(Self { homifs, server })
    }

    fn handle_of(&self, ino: Ino) -> Result<homi_abi::session::Handle> {
        let caller = Caller { uid: 0, gid: 0, pid: 0, groups: Some(Vec::new()) };
        let node = NodeId(ino.0);
        let bytes = self.homifs.xattr(node, b"homi.handle", &caller)?;
        zerocopy::FromBytes::read_from_bytes(&bytes).map_err(|_| anyhow::anyhow!("a handle of another size"))
    }

    fn find(&self, name: &[u8]) -> Result<Ino> {
        let volume = self.homifs.volume();
        volume.lookup(volume.root(), name)?.context("the volume lacks a name")
    }
}

/// The mediator's turn: until `wanted` commands are answered by it, of which nothing is known here but that it then has
/// nothing to do.
#[inline(never)]
fn mediate(server: &Server) -> Duration {
    let start = Instant::now();
    while server.work() {}
    start.elapsed()
}

/// Nanoseconds for each checked command that moves nothing.
fn commands(served: &Served, pairs: u32, depth: u32, arguments: &ClientArguments) -> Result<Samples> {
    let session = Session::connect(served.server.path())?;
    let file = session.open_handle(&served.handle_of(served.find(b"large")?)?)?;
    let buffer = session.buffer(1 << 20)?;
    let mut queues = session.queues(pairs, (depth + 1).next_power_of_two().max(2))?;
    let mut pairs: Vec<QueuePair> = (0..pairs).filter_map(|number| queues.pair(number)).collect();
    let blocks = 4096 >> file.block_shift();
    let mut generator = Generator::new(3);
    let mut samples = Samples::default();
    for _ in 0..arguments.rounds {
        let (mut done, mut time) = (0, Duration::ZERO);
        while done < arguments.commands {
            for pair in &mut pairs {
                for number in 0..depth {
                    let block = generator.next() % (file.blocks() - u64::from(blocks));
                    let iova = buffer.iova() + u64::from(number % 256) * 4096;
                    let command = Read { nsid: file.nsid(), block, blocks, iova, length: 4096 };
                    ensure!(pair.read(command).is_some(), "the queue is full");
                }
                pair.ring()?;
            }
            time += mediate(&served.server);
            for pair in &mut pairs {
                for _ in 0..depth {
                    let answer = pair.reap().context("a command was not answered")?;
                    ensure!(answer.status.code() == 0, "{:?}", answer.status);
                    done += 1;
                }
            }
        }
        samples.push(time.as_secs_f64() * 1e9 / done as f64);
    }
    Ok(samples)
}

/// Nanoseconds for each file of 110 KB that is read through a snapshot.
fn files(image: &Image, arguments: &ClientArguments) -> Result<Samples> {
    let served = Served::new(image, Way::Moves)?;
    let session = Session::connect(served.server.path())?;
    let directory = served.handle_of(served.find(b"small")?)?;
    let snapshot = session.snapshot_of_handle(&directory)?;
    let view = snapshot.view()?;
    let namespace = snapshot.namespace();
    let depth = 32_usize;
    let buffer = session.buffer(depth * TRANSFER as usize)?;
    let mut queues = session.queues(1, 64)?;
    let mut pair = queues.pair(0).context("no pair")?;
    let mut samples = Samples::default();
    let mut check = true;
    for _ in 0..(arguments.rounds / 10).max(3) {
        let (mut count, mut time) = (0, Duration::ZERO);
        for some in view.files().chunks(depth) {
            for (number, file) in some.iter().enumerate() {
                let block = snapshot.start_of(file) >> namespace.block_shift();
                let blocks = u32::try_from(file.size.get().div_ceil(u64::from(namespace.block_size())))?;
                let iova = buffer.iova() + (number * TRANSFER as usize) as u64;
                let length = blocks << namespace.block_shift();
                let command = Read { nsid: namespace.nsid(), block, blocks, iova, length };
                ensure!(pair.read(command).is_some(), "the queue is full");
            }
            pair.ring()?;
            time += mediate(&served.server);
            for _ in some {
                let answer = pair.reap().context("a file was not answered")?;
                ensure!(answer.status.code() == 0, "{:?}", answer.status);
                count += 1;
            }
            if check {
                compare(&served, some, &buffer)?;
            }
        }
        check = false;
        samples.push(time.as_secs_f64() * 1e9 / f64::from(count));
    }
    Ok(samples)
}

/// What arrived is what the file's extents hold.
fn compare(served: &Served, files: &[homi_abi::snapshot::File], buffer: &homi_client::Buffer) -> Result<()> {
    for (number, file) in files.iter().enumerate() {
        let mut got = vec![0; usize::try_from(file.size.get())?];
        buffer.memory().read(number * TRANSFER as usize, &mut got);
        let map = served.homifs.volume().extents(Ino(file.inode.get()))?;
        let mut wanted = vec![0; got.len()];
        for run in map.runs(0, map.size()) {
            let Some(physical) = run.physical() else { continue };
            let start = usize::try_from(run.offset)?;
            let part = &mut wanted[start..start + usize::try_from(run.length)?];
            served.homifs.device().read_at(physical, part)?;
        }
        ensure!(wanted == got, "inode {} differs", file.inode.get());
    }
    Ok(())
}
