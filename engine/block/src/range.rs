//! Ranges of a device and memory of somebody else's: what a controller moves for its clients.

use std::fmt::Debug;
use std::sync::Arc;

use engine_dma::{Access, Mapping, to_u64};
use smallvec::SmallVec;

use crate::{DeviceInfo, IoError, Wait};

const EFAULT: i32 = 14;
const EINVAL: i32 = 22;
const EROFS: i32 = 30;
const EOPNOTSUPP: i32 = 95;

/// What to do with a range of the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// From the device into memory.
    Read,
    /// From memory to the device.
    Write,
    /// Make durable what was completed before. Takes no range and no memory.
    Flush,
    /// Zeros from now on. Takes no memory.
    WriteZeroes,
    /// What the range holds does not matter any more. Takes no memory.
    Discard,
}

impl Operation {
    /// Whether the device is another afterwards.
    #[must_use]
    pub fn changes(self) -> bool {
        matches!(self, Self::Write | Self::WriteZeroes | Self::Discard)
    }

    /// Whether it goes to or comes from memory.
    #[must_use]
    pub fn moves(self) -> bool {
        matches!(self, Self::Read | Self::Write)
    }

    /// What is done to `length` bytes from `offset` on, in words.
    pub(crate) fn on(self, offset: u64, length: u64) -> String {
        let verb = match self {
            Self::Read => "reading",
            Self::Write => "writing",
            Self::Flush => return "flushing the device".to_owned(),
            Self::WriteZeroes => "zeroing",
            Self::Discard => "discarding",
        };
        format!("{verb} {length} bytes at byte {offset} of the device")
    }
}

/// A run of bytes in memory that others may change at any moment. Whoever has it holds the mapping.
#[derive(Debug, Clone)]
pub struct Window {
    /// Whose memory.
    pub mapping: Arc<Mapping>,
    /// First byte, in the mapping's region.
    pub offset: usize,
    /// Bytes.
    pub length: usize,
}

/// The scatter list of a range. Most have one window.
pub type Windows = SmallVec<[Window; 2]>;

/// One contiguous range of the device, and the memory that it goes to or comes from.
#[derive(Debug)]
pub struct RangeRequest {
    /// The caller's own number, returned with the completion.
    pub tag: u64,
    /// What to do.
    pub operation: Operation,
    /// First byte on the device, a multiple of its logical block.
    pub offset: u64,
    /// Bytes, a multiple of the logical block; for reads and writes as many as the windows have together.
    pub length: u64,
    /// The memory, in order. Windows may have any alignment.
    pub memory: Windows,
}

impl RangeRequest {
    /// The error that blames all of it.
    #[must_use]
    pub fn error(&self, errno: i32) -> IoError {
        IoError { operation: self.operation, offset: self.offset, length: self.length, errno }
    }

    /// Whether a device takes it, for those who implement queues.
    ///
    /// # Errors
    /// What [`RangeQueue::submit`] says, and `EFAULT` where a window does not lie within its region or may not be used
    /// for this.
    pub fn check(&self, info: &DeviceInfo) -> Result<(), IoError> {
        let refuse = |errno| Err(self.error(errno));
        if self.operation == Operation::Flush {
            return if self.length == 0 && self.memory.is_empty() { Ok(()) } else { refuse(EINVAL) };
        }
        let block = u64::from(info.logical_block.max(1));
        let within = self.offset.checked_add(self.length).is_some_and(|end| end <= info.size);
        if !within || !self.offset.is_multiple_of(block) || !self.length.is_multiple_of(block) {
            return refuse(EINVAL);
        }
        if self.operation.changes() && !info.writable {
            return refuse(EROFS);
        }
        if self.operation == Operation::Discard && !info.discard {
            return refuse(EOPNOTSUPP);
        }
        let wanted = if self.operation.moves() { self.length } else { 0 };
        let total = self.memory.iter().try_fold(0_u64, |sum, window| sum.checked_add(to_u64(window.length)));
        if total != Some(wanted) {
            return refuse(EINVAL);
        }
        let access = if self.operation == Operation::Read { Access::ReadWrite } else { Access::Read };
        let reached =
            |window: &Window| window.mapping.region().place(window.offset, window.length, access).is_ok();
        if self.memory.iter().all(reached) { Ok(()) } else { refuse(EFAULT) }
    }
}

/// The end of a range request: every request that was accepted completes exactly once, and only when nothing reaches its
/// memory any more, whether it failed or not. Until then it is in flight, and the mappings of its windows are held; so they
/// are where the queue is dropped first.
#[derive(Debug)]
pub struct RangeCompletion {
    /// The number of the request.
    pub tag: u64,
    /// What came of it. Where it failed, any part of it may have been done.
    pub result: Result<(), IoError>,
}

/// One worker's way to a device for memory of others. Requests complete in any order.
pub trait RangeQueue: Send + Debug {
    /// Starts a request.
    ///
    /// # Errors
    /// Where it cannot be taken, as a completion that tells why: queue full (`EBUSY`); outside the device, not
    /// whole blocks, or windows of another length (`EINVAL`); device for reading only (`EROFS`); an operation that
    /// the device does not know (`EOPNOTSUPP`); memory that is not there or not for this (`EFAULT`).
    fn submit(&mut self, request: RangeRequest) -> Result<(), RangeCompletion>;

    /// Whether the next request will not be refused as one too many (`EBUSY`). False where that is not known: then what
    /// is submitted may have to be submitted again.
    fn has_room(&self) -> bool {
        false
    }

    /// Starts what was submitted and takes completions, adding them to `done`; answers how many were added.
    ///
    /// # Errors
    /// Only where the queue itself has failed; requests then complete with errors on further polls, each when its memory
    /// is free.
    fn poll(&mut self, wait: Wait, done: &mut Vec<RangeCompletion>) -> Result<usize, IoError>;

    /// How many requests are in flight.
    fn in_flight(&self) -> usize;
}
