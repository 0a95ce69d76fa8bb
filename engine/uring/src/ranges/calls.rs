//! Ranges by plain calls, one after the other, for kernels without io_uring.

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use engine_block::{DeviceInfo, IoError, RangeCompletion, RangeQueue, RangeRequest, Wait};
use engine_dma::{Pool, to_usize};

use super::RangeFile;
use super::task::{Call, Next, Task};

/// A queue that carries each request out when it is polled.
#[derive(Debug)]
pub(crate) struct CallRanges {
    shared: Arc<RangeFile>,
    pool: Pool,
    depth: usize,
    waiting: VecDeque<Task>,
}

impl CallRanges {
    pub(crate) fn new(shared: Arc<RangeFile>, depth: u32) -> Self {
        let depth = to_usize(depth.into()).max(1);
        let pool = shared.bounce();
        Self { shared, pool, depth, waiting: VecDeque::with_capacity(depth) }
    }
}

impl CallRanges {
    pub(super) fn info(&self) -> &DeviceInfo {
        &self.shared.info
    }

    pub(super) fn depth(&self) -> usize {
        self.depth
    }
}

impl RangeQueue for CallRanges {
    fn submit(&mut self, request: RangeRequest) -> Result<(), RangeCompletion> {
        let refused = |error| RangeCompletion { tag: request.tag, result: Err(error) };
        request.check(&self.shared.info).map_err(refused)?;
        if self.waiting.len() >= self.depth {
            return Err(refused(request.error(libc::EBUSY)));
        }
        self.waiting.push_back(Task::new(request));
        Ok(())
    }

    fn has_room(&self) -> bool {
        self.waiting.len() < self.depth
    }

    fn poll(&mut self, _wait: Wait, done: &mut Vec<RangeCompletion>) -> Result<usize, IoError> {
        // One at a time, so that whoever polls can pass on the first while the others still have to be moved.
        let Some(mut task) = self.waiting.pop_front() else { return Ok(0) };
        run(&mut task, &self.shared, &mut self.pool);
        done.push(task.complete());
        Ok(1)
    }

    fn in_flight(&self) -> usize {
        self.waiting.len()
    }
}

/// Carries out all of a task.
pub(super) fn run(task: &mut Task, shared: &RangeFile, pool: &mut Pool) {
    while let Some(call) = task.prepare(shared, pool) {
        let result = carry_out(call, &shared.file, task);
        if task.after(result, shared) == Next::Ended {
            break;
        }
    }
}

/// What the call came to, as io_uring tells it: bytes, or an errno below zero.
fn carry_out(call: Call, file: &File, task: &Task) -> i32 {
    let vectors = task.vectors();
    // There are at most as many as one call takes.
    let count = i32::try_from(vectors.len()).unwrap_or(i32::MAX);
    let at = |offset: u64| libc::off_t::try_from(offset).unwrap_or(libc::off_t::MAX);
    let descriptor = file.as_raw_fd();
    let result: isize = match call {
        // SAFETY: The task points its vectors at memory that it holds, mapped for writing over their whole length,
        // and that the compiler believes nothing about: regions of others, or a buffer of its own.
        Call::Read { offset } => unsafe { libc::preadv(descriptor, vectors.as_ptr(), count, at(offset)) },
        // SAFETY: As above, mapped for reading.
        Call::Write { offset } => unsafe { libc::pwritev(descriptor, vectors.as_ptr(), count, at(offset)) },
        Call::Sync => return told(rustix::fs::fdatasync(file).map(|()| 0)),
        Call::Allocate { mode, offset, length } => {
            // SAFETY: Plain arguments.
            let result = unsafe { libc::fallocate(descriptor, mode, at(offset), at(length)) };
            isize::try_from(result).unwrap_or(-1)
        }
    };
    if result < 0 {
        return -std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
    }
    i32::try_from(result).unwrap_or(i32::MAX)
}

fn told(result: rustix::io::Result<i32>) -> i32 {
    result.unwrap_or_else(|error| -error.raw_os_error())
}
