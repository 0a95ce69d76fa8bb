//! The client whose throughput is looked at.

use std::fs::File;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use homi_client::{Buffer, Command, OpenFile, QueuePair, QueueSet, Session};

/// How long a command may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// What a client that reads now and then does between two reads: long enough that the mediators sleep meanwhile.
const PAUSE: Duration = Duration::from_micros(500);

/// How it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Load {
    /// With a queue that is always full.
    Full,
    /// One block, then a pause, in which whoever serves it goes to sleep. What is counted is the time from a ring to its
    /// answer.
    Now,
}

impl Load {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Full => "full queue",
            Self::Now => "now and then",
        }
    }
}

/// A client with a queue pair.
pub(super) struct Victim {
    file: OpenFile,
    buffer: Buffer,
    pair: QueuePair,
    load: Load,
    session: Session,
    _queues: QueueSet,
}

impl Victim {
    pub(super) fn new(path: &Path, load: Load) -> Result<Self> {
        let file = File::open(path)?;
        let session = Session::of_file(&file)?;
        let mut queues = session.queues(1, 64)?;
        let pair = queues.pair(0).context("no queue pair")?;
        let (file, buffer) = (session.open(file)?, session.buffer(1 << 20)?);
        Ok(Self { file, buffer, pair, load, session, _queues: queues })
    }

    /// Reads for this long; commands a second, and how long it was in seconds.
    pub(super) fn work(&mut self, length: Duration) -> Result<(f64, f64)> {
        let (start, mut done, mut waited) = (Instant::now(), 0_u64, Duration::ZERO);
        while start.elapsed() < length {
            match self.load {
                Load::Full => done += self.turn(32)?,
                Load::Now => {
                    thread::sleep(PAUSE);
                    let rung = Instant::now();
                    self.send()?;
                    self.pair.ring()?;
                    self.session.wake()?;
                    while self.pair.in_flight() > 0 {
                        done += self.turn(0)?;
                        ensure!(rung.elapsed() < PATIENCE, "a command was not answered");
                    }
                    waited += rung.elapsed();
                }
            }
        }
        let time = start.elapsed().as_secs_f64();
        self.settle()?;
        let counted = if self.load == Load::Now { waited.as_secs_f64() } else { time };
        Ok((done as f64 / counted, time))
    }

    fn send(&mut self) -> Result<()> {
        let command = Command {
            nsid: self.file.nsid(),
            block: 8,
            blocks: 4096 >> self.file.block_shift(),
            iova: self.buffer.iova(),
            length: 4096,
        };
        self.pair.read(command).context("the queue is full")?;
        Ok(())
    }

    /// Takes what is answered, and fills the queue up to this many; lets others run where there was nothing.
    fn turn(&mut self, depth: u32) -> Result<u64> {
        let mut done = 0;
        while let Some(answer) = self.pair.reap() {
            ensure!(answer.status.code() == 0, "{:?}", answer.status);
            done += 1;
        }
        while self.pair.in_flight() < depth {
            self.send()?;
        }
        self.pair.ring()?;
        if done == 0 {
            thread::yield_now();
        }
        Ok(done)
    }

    fn settle(&mut self) -> Result<()> {
        let start = Instant::now();
        while self.pair.in_flight() > 0 {
            self.turn(0)?;
            ensure!(start.elapsed() < PATIENCE, "a command was not answered");
        }
        Ok(())
    }
}
