//! Reading files with a queue pair, from a thread of this process.

use std::thread;
use std::time::{Duration, Instant};

use crate::queue::{Command, Done, QueuePair};
use crate::session::{Buffer, Session};
use crate::{ClientError, NvmeStatus, OpenFile};

/// Entries of a reader's queue.
const ENTRIES: u32 = 256;
/// How long a command may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a reader looks for completions before it lets other threads run.
const SPINS: u32 = 2000;

/// A queue pair and registered memory, for one thread.
#[derive(Debug)]
pub struct Reader {
    pair: QueuePair,
    staging: Buffer,
    /// Bytes of one piece of the staging memory: what one command brings.
    piece: usize,
    pieces: usize,
    flights: Vec<Flight>,
}

/// Which command is behind a place of the submission queue.
#[derive(Debug, Clone, Copy, Default)]
struct Flight {
    piece: usize,
    /// First byte in the file, and bytes of it that are wanted.
    offset: u64,
    skip: usize,
    target: usize,
    length: usize,
}

impl Reader {
    pub(crate) fn new(session: &Session, staging: usize) -> Result<Self, ClientError> {
        let limits = session.limits();
        let transfer = usize::try_from(limits.transfer).unwrap_or(usize::MAX);
        let page = usize::try_from(limits.page).unwrap_or(4096);
        // Some commands should be in flight at a time, even with little memory.
        let piece = (staging / 8).next_multiple_of(page).clamp(page, transfer.max(page));
        let staging = session.buffer(staging.max(piece))?;
        let pieces = (staging.memory().length() / piece).min(usize::try_from(ENTRIES - 1).unwrap_or(1));
        let mut queues = session.queues(1, ENTRIES.min(limits.entries))?;
        let pair = queues.pair(0).ok_or_else(|| ClientError::Protocol("it gave no queue".into()))?;
        let flights = vec![Flight::default(); usize::try_from(ENTRIES).unwrap_or(0)];
        Ok(Self { pair, staging, piece, pieces, flights })
    }

    /// Fills `target` from byte `offset` of a file on; how many bytes there were, fewer than asked for only at its end.
    ///
    /// # Errors
    /// Where a command failed or was not answered. Nothing is in flight then, unless it was not answered.
    pub fn read(&mut self, file: &OpenFile, offset: u64, target: &mut [u8]) -> Result<usize, ClientError> {
        let there = file.size().saturating_sub(offset);
        let length = usize::try_from(there).unwrap_or(usize::MAX).min(target.len());
        let target = &mut target[..length];
        let mut free: Vec<usize> = (0..self.pieces).collect();
        let mut failure = None;
        let mut started = 0;
        loop {
            while failure.is_none() && started < length {
                let Some(piece) = free.pop() else { break };
                match self.start(file, offset, started, length, piece) {
                    Some(bytes) => started += bytes,
                    None => {
                        free.push(piece);
                        break;
                    }
                }
            }
            self.pair.ring()?;
            if self.pair.in_flight() == 0 {
                break;
            }
            let Done { place, status } = self.wait()?;
            let flight = self.flights[usize::from(place)];
            free.push(flight.piece);
            if status == NvmeStatus::SUCCESS {
                let part = &mut target[flight.target..flight.target + flight.length];
                self.staging.memory().read(flight.piece * self.piece + flight.skip, part);
            } else if failure.is_none() {
                let length = u64::try_from(flight.length).unwrap_or(u64::MAX);
                failure = Some(ClientError::Command { offset: flight.offset, length, status });
            }
        }
        failure.map_or(Ok(length), Err)
    }

    /// Starts the command for what follows the first `started` bytes; how many bytes it will bring.
    fn start(
        &mut self,
        file: &OpenFile,
        offset: u64,
        started: usize,
        length: usize,
        piece: usize,
    ) -> Option<usize> {
        let at = offset + u64::try_from(started).ok()?;
        let block = at >> file.block_shift();
        let skip = usize::try_from(at - (block << file.block_shift())).ok()?;
        let wanted = (length - started).min(self.piece - skip);
        let blocks = (skip + wanted).div_ceil(usize::try_from(file.block_size()).ok()?);
        let blocks = u32::try_from(blocks).ok()?;
        let command = Command {
            nsid: file.nsid(),
            block,
            blocks,
            iova: self.staging.iova() + u64::try_from(piece * self.piece).ok()?,
            length: blocks << file.block_shift(),
        };
        let place = self.pair.read(command)?;
        self.flights[usize::from(place)] =
            Flight { piece, offset: at, skip, target: started, length: wanted };
        Some(wanted)
    }

    fn wait(&mut self) -> Result<Done, ClientError> {
        for _ in 0..SPINS {
            if let Some(done) = self.pair.reap() {
                return Ok(done);
            }
            std::hint::spin_loop();
        }
        let start = Instant::now();
        loop {
            if let Some(done) = self.pair.reap() {
                return Ok(done);
            }
            if start.elapsed() > PATIENCE {
                return Err(ClientError::Late(PATIENCE));
            }
            thread::yield_now();
        }
    }
}
