//! Ranges of a device and memory of somebody else's: what a controller moves for its clients.

use std::fmt::Debug;
use std::sync::Arc;

use engine_dma::Mapping;
use smallvec::SmallVec;

use crate::{IoError, Wait};

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

/// The end of a range request: every request that was accepted completes exactly once.
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
    /// the device does not know (`EOPNOTSUPP`).
    fn submit(&mut self, request: RangeRequest) -> Result<(), RangeCompletion>;

    /// Starts what was submitted and takes completions, adding them to `done`; answers how many were added.
    ///
    /// # Errors
    /// Only where the queue itself has failed; requests then complete with errors on further polls.
    fn poll(&mut self, wait: Wait, done: &mut Vec<RangeCompletion>) -> Result<usize, IoError>;

    /// How many requests are in flight.
    fn in_flight(&self) -> usize;
}
