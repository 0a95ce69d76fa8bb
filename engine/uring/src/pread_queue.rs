//! Reads by pread(2), one after the other, for kernels without io_uring.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;

use engine_block::cut::{Active, Command, Geometry, Progress, refuse, whole};
use engine_block::{BlockQueue, Completion, IoError, Operation, Request, Wait};
use engine_dma::{Buffer, Pool, to_u64, to_usize};
use rustix::io::{Errno, pread};

/// A call that was interrupted this often without a byte in between is told as failed.
const MOST_RETRIES: u32 = 1000;

/// A queue that reads each request to its end when it is polled.
#[derive(Debug)]
pub(crate) struct PreadQueue {
    file: Arc<File>,
    geometry: Geometry,
    pool: Pool,
    depth: usize,
    waiting: VecDeque<Active>,
}

impl PreadQueue {
    pub(crate) fn new(file: Arc<File>, geometry: Geometry, pool: Pool, depth: u32) -> Self {
        let depth = to_usize(depth.into());
        Self { file, geometry, pool, depth, waiting: VecDeque::with_capacity(depth) }
    }
}

impl BlockQueue for PreadQueue {
    fn buffer(&mut self, length: usize) -> Result<Buffer, IoError> {
        take(&mut self.pool, length)
    }

    fn submit(&mut self, request: Request) -> Result<(), Completion> {
        if self.waiting.len() >= self.depth {
            let error = whole(&request, libc::EBUSY);
            return Err(refuse(request, error));
        }
        self.waiting.push_back(Active::accept(request, self.geometry.size)?);
        Ok(())
    }

    fn poll(&mut self, _wait: Wait, done: &mut Vec<Completion>) -> Result<usize, IoError> {
        // One at a time, so that whoever polls can pass on the first while the others still have to be read.
        let Some(active) = self.waiting.pop_front() else { return Ok(0) };
        done.push(read_now(&self.file, &self.geometry, &mut self.pool, active));
        Ok(1)
    }

    fn in_flight(&self) -> usize {
        self.waiting.len()
    }

    fn read(&mut self, request: Request) -> Completion {
        match Active::accept(request, self.geometry.size) {
            Ok(active) => read_now(&self.file, &self.geometry, &mut self.pool, active),
            Err(refused) => refused,
        }
    }
}

/// A buffer of the queue's pool.
pub(crate) fn take(pool: &mut Pool, length: usize) -> Result<Buffer, IoError> {
    pool.take(length).map_err(|_| IoError {
        operation: Operation::Read,
        offset: 0,
        length: to_u64(length),
        errno: libc::ENOMEM,
    })
}

/// Reads all of a request, command by command.
pub(crate) fn read_now(file: &File, geometry: &Geometry, pool: &mut Pool, mut active: Active) -> Completion {
    while let Some(command) = active.next(geometry) {
        if let Err((arrived, errno)) = run(file, geometry, pool, &mut active, &command) {
            active.fail(&command, arrived, errno);
        }
    }
    active.complete()
}

/// Carries out one command; where it fails, how much of it had arrived and why it failed.
fn run(
    file: &File,
    geometry: &Geometry,
    pool: &mut Pool,
    active: &mut Active,
    command: &Command,
) -> Result<(), (usize, i32)> {
    if !command.bounce {
        let place = command.buffer_offset..command.buffer_offset + command.length;
        let target = active.buffer_mut().get_mut(place).ok_or((0, libc::EINVAL))?;
        return fill(file, geometry, command, target);
    }
    let mut bounce = pool.take(command.length).map_err(|_| (0, libc::ENOMEM))?;
    let outcome = fill(file, geometry, command, &mut bounce);
    let arrived = outcome.err().map_or(command.length, |(arrived, _)| arrived);
    active.copy_out(command, &bounce, arrived);
    outcome
}

fn fill(file: &File, geometry: &Geometry, command: &Command, target: &mut [u8]) -> Result<(), (usize, i32)> {
    let (mut arrived, mut retries) = (0, 0);
    loop {
        let rest = target.get_mut(arrived..).ok_or((arrived, libc::EINVAL))?;
        match pread(file, rest, command.device_offset + to_u64(arrived)) {
            Ok(newly) => match command.after(arrived, newly, geometry) {
                Progress::Done => return Ok(()),
                Progress::From(next) => (arrived, retries) = (next, 0),
                Progress::Ended => return Err((arrived + newly, libc::EIO)),
            },
            Err(Errno::INTR | Errno::AGAIN) if retries < MOST_RETRIES => retries += 1,
            Err(error) => return Err((arrived, error.raw_os_error())),
        }
    }
}
