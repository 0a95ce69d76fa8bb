//! What a namespace's blocks are made of.

mod block;
mod memory;
mod null;
mod windows;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use engine_block::{IoError, Operation};
use engine_nvme_spec::Status;

use crate::ControllerError;
pub use crate::data::Memory;
use crate::tally::Tally;

pub use block::BlockBacking;
pub use memory::MemoryBacking;
pub use null::NullBacking;
pub use windows::BitBucket;

/// One operation on a backing. Offsets and lengths are bytes, whole blocks, and within the backing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Io {
    /// The processor's own number for it.
    pub token: u64,
    /// What to do.
    pub operation: Operation,
    /// First byte.
    pub offset: u64,
    /// Bytes; 0 for a flush.
    pub length: u64,
}

/// What became of an operation that was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Started {
    /// It is over, with this status.
    Done(Status),
    /// It will be told of by [`BackingQueue::poll`].
    Pending,
    /// There is no room; try again when something is over.
    Full,
}

/// Blocks to make a namespace of, shared by all who serve it.
pub trait Backing: Send + Sync + Debug {
    /// Size in bytes.
    fn size(&self) -> u64;

    /// Smallest unit that can be read or written, in bytes.
    fn block(&self) -> u32;

    /// Whether it cannot be written.
    fn is_read_only(&self) -> bool;

    /// What a person calls it. Identifiers of namespaces follow from it, so it should be the same in every run.
    fn describe(&self) -> String;

    /// A way in for one worker that has at most `depth` operations in flight.
    ///
    /// # Errors
    /// Where there is none to be had.
    fn queue(&self, depth: u32) -> Result<Box<dyn BackingQueue>, ControllerError>;

    /// As [`queue`](Self::queue), for a worker that serves many backings of one kind, which may share what they need.
    ///
    /// # Errors
    /// Where there is none to be had.
    fn queue_among(
        &self,
        depth: u32,
        commons: &mut Commons,
    ) -> Result<Box<dyn BackingQueue>, ControllerError> {
        let _ = commons;
        self.queue(depth)
    }

    /// A new tally for one worker to count the commands on this backing in, where whoever made the backing wants to
    /// know. Commands of queues that are not counted are not counted here either.
    fn tally(&self) -> Option<Arc<Tally>> {
        None
    }
}

/// What the backings of one worker share, whatever that is; the first that needs it makes it.
pub type Commons = Option<Box<dyn std::any::Any + Send>>;

/// One worker's way to a backing.
pub trait BackingQueue: Send + Debug {
    /// Starts an operation on a client's memory (for reads and writes).
    fn start(&mut self, io: &Io, memory: &mut Memory<'_>) -> Started;

    /// Says that a read of `length` bytes from `offset` on, which may lie anywhere, is likely to be started next. Something
    /// else is started before.
    fn expect(&mut self, offset: u64, length: u64) {
        let _ = (offset, length);
    }

    /// Says that nothing else is started any more before what was expected.
    fn expect_rest(&mut self) {}

    /// Adds what is over to `done`, by token. Waits at most `limit` where nothing is over yet and something is in
    /// flight.
    fn poll(&mut self, limit: Duration, done: &mut Vec<(u64, Status)>);

    /// How many operations are in flight.
    fn in_flight(&self) -> usize;
}

/// The status of a failed operation: what the system said, in NVMe's words.
pub(crate) fn status_of(operation: Operation, error: &IoError) -> Status {
    // As errno(3) numbers them on Linux.
    const EROFS: i32 = 30;
    const ENOSPC: i32 = 28;
    const EOPNOTSUPP: i32 = 95;
    const EINVAL: i32 = 22;
    match (error.errno, operation) {
        (EROFS, _) => Status::NAMESPACE_WRITE_PROTECTED.final_(),
        (ENOSPC, _) => Status::CAPACITY_EXCEEDED,
        (EOPNOTSUPP, _) => Status::INVALID_OPCODE.final_(),
        (EINVAL, _) => Status::INVALID_FIELD.final_(),
        (_, Operation::Read) => Status::UNRECOVERED_READ_ERROR,
        (_, Operation::Write | Operation::WriteZeroes) => Status::WRITE_FAULT,
        (_, Operation::Flush | Operation::Discard) => Status::INTERNAL_ERROR,
    }
}
