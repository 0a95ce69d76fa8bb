//! How reads of an image in tmpfs scale with mediators: some threads fill queues, others carry out what they ask for.
//!
//! All is as on a mount but for the mount itself: the engine's own device, a file system that is parsed, sessions on a
//! socket, sealed memory. Every thousandth answer is compared with what the file has there.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use homi_client::{Buffer, Command as Read, OpenFile, QueuePair, Session};
use homifs_clients::ClientLimits;

use super::Served;
use super::tmpfs::TmpfsImage;
use crate::arguments::ClientArguments;
use crate::generator::Generator;
use crate::report::{number, right, table};

/// One answer of so many is compared.
const COMPARED: u64 = 1000;
/// How long a thread waits for an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs it and prints its table.
pub(super) fn run(arguments: &ClientArguments) -> Result<()> {
    let image = TmpfsImage::new(arguments.data_mib)?;
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let mut rows = table(&[
        "bytes",
        "mediators",
        "clients",
        "pairs",
        "depth",
        "reads/s",
        "for each mediator",
        "ns",
        "GB/s",
    ]);
    for &bytes in &arguments.bytes {
        ensure!(bytes.is_power_of_two() && bytes >= 512, "--bytes takes powers of two from 512 on");
        for &mediators in &arguments.mediators {
            let clients = arguments.clients.unwrap_or_else(|| processors.saturating_sub(mediators)).max(1);
            let rate = measure(&image, mediators, clients, bytes, arguments)?;
            let each = rate / mediators as f64;
            rows.add_row([
                right(bytes),
                right(mediators),
                right(clients),
                right(arguments.pairs * u32::try_from(clients)?),
                right(arguments.depth),
                right(number(rate)),
                right(number(each)),
                right(number(1e9 / each)),
                right(number(rate * f64::from(bytes) / 1e9)),
            ]);
        }
    }
    println!("{rows}");
    Ok(())
}

/// What one client thread has.
struct Client {
    file: OpenFile,
    buffer: Buffer,
    pairs: Vec<QueuePair>,
    depth: u32,
    bytes: u32,
    generator: Generator,
    /// Which block each command in flight asked for, by pair and place.
    asked: Vec<Vec<u64>>,
}

/// Reads a second.
fn measure(
    image: &TmpfsImage,
    mediators: usize,
    clients: usize,
    bytes: u32,
    arguments: &ClientArguments,
) -> Result<f64> {
    let limits = ClientLimits { transfer: bytes.max(1 << 20), ..ClientLimits::default() };
    let served = Served::of(image.mount()?, mediators, limits)?;
    let handle = served.handle_of(served.find(b"large")?)?;
    let shared = Session::connect(served.server.path())?;
    let mut all = Vec::new();
    let (depth, pairs) = (arguments.depth, arguments.pairs);
    // As a program with an accelerator has it: one buffer and one set of queues for all, unless asked otherwise.
    for number in 0..clients {
        let own = if arguments.sessions { Some(Session::connect(served.server.path())?) } else { None };
        let session = own.as_ref().unwrap_or(&shared);
        let mut queues = session.queues(pairs, (depth + 1).next_power_of_two())?;
        let pairs: Vec<QueuePair> = (0..pairs).filter_map(|pair| queues.pair(pair)).collect();
        let places = pairs.iter().map(|_| vec![0; (depth + 1).next_power_of_two() as usize]).collect();
        all.push(Client {
            file: session.open_handle(&handle)?,
            buffer: session
                .buffer(pairs.len() * (depth + 1).next_power_of_two() as usize * bytes as usize)?,
            pairs,
            depth,
            bytes,
            generator: Generator::new(number as u64 + 1),
            asked: places,
        });
    }
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let threads: Vec<_> =
            all.into_iter().map(|client| scope.spawn(|| client.read(&image.large, &stop, &done))).collect();
        // Caches, tables and page tables fill first.
        thread::sleep(Duration::from_secs_f64(arguments.seconds / 4.0));
        let (start, before) = (Instant::now(), done.load(Ordering::Relaxed));
        thread::sleep(Duration::from_secs_f64(arguments.seconds));
        let rate = (done.load(Ordering::Relaxed) - before) as f64 / start.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().map_err(|_| anyhow::anyhow!("a client thread panicked"))??;
        }
        Ok(rate)
    })
}

impl Client {
    fn read(mut self, contents: &File, stop: &AtomicBool, done: &AtomicU64) -> Result<()> {
        let blocks = self.bytes >> self.file.block_shift();
        let units = self.file.size() / u64::from(self.bytes);
        let (mut count, mut told, mut heard) = (0_u64, 0_u64, Instant::now());
        loop {
            let stopping = stop.load(Ordering::Relaxed);
            let mut flying = 0;
            for number in 0..self.pairs.len() {
                let before = count;
                while let Some(answer) = self.pairs[number].reap() {
                    ensure!(answer.status.code() == 0, "{:?}", answer.status);
                    count += 1;
                    if count.is_multiple_of(COMPARED) {
                        self.compare(contents, number, answer.place)?;
                    }
                }
                if count != before {
                    heard = Instant::now();
                }
                while !stopping && self.pairs[number].in_flight() < self.depth {
                    let block = self.generator.next() % units * u64::from(blocks);
                    let Some(place) = self.send(number, block, blocks) else { break };
                    self.asked[number][usize::from(place)] = block;
                }
                self.pairs[number].ring()?;
                flying += self.pairs[number].in_flight();
            }
            if count - told > 1000 || stopping {
                done.fetch_add(count - told, Ordering::Relaxed);
                told = count;
            }
            if stopping && flying == 0 {
                return Ok(());
            }
            ensure!(heard.elapsed() < PATIENCE, "a command was not answered");
        }
    }

    fn send(&mut self, number: usize, block: u64, blocks: u32) -> Option<u16> {
        let place = self.pairs[number].next_place()?;
        let iova = self.buffer.iova() + self.slot(number, place) as u64;
        let command = Read { nsid: self.file.nsid(), block, blocks, iova, length: self.bytes };
        self.pairs[number].read(command)
    }

    fn slot(&self, number: usize, place: u16) -> usize {
        (number * self.asked[number].len() + usize::from(place)) * self.bytes as usize
    }

    fn compare(&self, contents: &File, number: usize, place: u16) -> Result<()> {
        let mut got = vec![0; self.bytes as usize];
        let mut wanted = got.clone();
        self.buffer.memory().read(self.slot(number, place), &mut got);
        let block = self.asked[number][usize::from(place)];
        contents.read_exact_at(&mut wanted, block << self.file.block_shift())?;
        ensure!(got == wanted, "block {block} differs");
        Ok(())
    }
}
