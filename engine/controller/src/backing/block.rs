//! A backing on a block device of the engine: clients' memory goes to it as it is.

use std::sync::Arc;
use std::time::Duration;

use engine_block::{BlockDevice, Operation, RangeCompletion, RangeQueue, RangeRequest, Wait, Windows};
use engine_dma::Access;
use engine_nvme_spec::Status;

use super::{Backing, BackingQueue, BitBucket, Io, Memory, Started, status_of};
use crate::ControllerError;

/// The blocks of a device.
#[derive(Debug, Clone)]
pub struct BlockBacking {
    device: Arc<dyn BlockDevice>,
}

impl BlockBacking {
    /// Over an open device.
    #[must_use]
    pub fn new(device: Arc<dyn BlockDevice>) -> Self {
        Self { device }
    }
}

impl Backing for BlockBacking {
    fn size(&self) -> u64 {
        self.device.info().size
    }

    fn block(&self) -> u32 {
        self.device.info().logical_block
    }

    fn is_read_only(&self) -> bool {
        !self.device.info().writable
    }

    fn describe(&self) -> String {
        self.device.info().spec.clone()
    }

    fn queue(&self, depth: u32) -> Result<Box<dyn BackingQueue>, ControllerError> {
        let ranges = self.device.ranges(depth)?;
        Ok(Box::new(BlockQueue {
            ranges,
            operations: Vec::new(),
            done: Vec::new(),
            bucket: BitBucket::default(),
        }))
    }
}

#[derive(Debug)]
struct BlockQueue {
    ranges: Box<dyn RangeQueue>,
    /// What the operations in flight are, by token, for the words in which a failure is told.
    operations: Vec<(u64, Operation)>,
    done: Vec<RangeCompletion>,
    bucket: BitBucket,
}

impl BlockQueue {
    fn windows(&mut self, io: &Io, memory: &mut Memory<'_>) -> Result<Windows, Status> {
        let access = match io.operation {
            Operation::Read => Access::ReadWrite,
            Operation::Write => Access::Read,
            Operation::Flush | Operation::WriteZeroes | Operation::Discard => return Ok(Windows::new()),
        };
        memory.windows(access, &mut self.bucket)
    }
}

impl BackingQueue for BlockQueue {
    fn start(&mut self, io: &Io, memory: &mut Memory<'_>) -> Started {
        let windows = match self.windows(io, memory) {
            Ok(windows) => windows,
            Err(status) => return Started::Done(status),
        };
        let Io { token, operation, offset, length } = *io;
        let request = RangeRequest { tag: token, operation, offset, length, memory: windows };
        match self.ranges.submit(request) {
            Ok(()) => {
                self.operations.push((token, operation));
                Started::Pending
            }
            Err(RangeCompletion { result: Ok(()), .. }) => Started::Done(Status::SUCCESS),
            Err(RangeCompletion { result: Err(error), .. }) if error.errno == EBUSY => Started::Full,
            Err(RangeCompletion { result: Err(error), .. }) => Started::Done(status_of(operation, &error)),
        }
    }

    fn poll(&mut self, limit: Duration, done: &mut Vec<(u64, Status)>) {
        if self.ranges.in_flight() == 0 {
            return;
        }
        let wait = if limit.is_zero() { Wait::No } else { Wait::For(limit) };
        if let Err(error) = self.ranges.poll(wait, &mut self.done) {
            tracing::warn!(%error, "a queue of the backing failed");
        }
        for RangeCompletion { tag, result } in self.done.drain(..) {
            let place = self.operations.iter().position(|(token, _)| *token == tag);
            let operation = place.map_or(Operation::Read, |place| self.operations.swap_remove(place).1);
            done.push((tag, result.map_or_else(|error| status_of(operation, &error), |()| Status::SUCCESS)));
        }
    }

    fn in_flight(&self) -> usize {
        self.ranges.in_flight()
    }
}

const EBUSY: i32 = 16;
