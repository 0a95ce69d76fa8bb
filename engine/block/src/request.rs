//! What is asked of a queue and what it answers.

use engine_dma::{Buffer, to_u64};
use smallvec::SmallVec;

use crate::IoError;

/// One contiguous range of the device, and where in the buffer it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// First byte on the device.
    pub device_offset: u64,
    /// First byte in the buffer.
    pub buffer_offset: usize,
    /// Length in bytes.
    pub length: usize,
}

impl Piece {
    /// Whether it lies within a device of `device_size` bytes and a buffer of `buffer_length`, as a queue demands.
    #[must_use]
    pub fn fits(&self, device_size: u64, buffer_length: usize) -> bool {
        self.device_offset.checked_add(to_u64(self.length)).is_some_and(|end| end <= device_size)
            && self.buffer_offset.checked_add(self.length).is_some_and(|end| end <= buffer_length)
    }
}

/// The scatter list of a request. Most have one piece.
pub type Pieces = SmallVec<[Piece; 4]>;

/// A read: every piece of the device into its place in the buffer.
///
/// Pieces may have any offset and length; those that the device cannot serve as they are (because of its logical
/// block size or the alignment of memory) are served through the queue's own bounce memory. Pieces must lie
/// within the buffer and must not overlap there.
#[derive(Debug)]
pub struct Request {
    /// The caller's own number, returned with the completion.
    pub tag: u64,
    /// Memory from the [`BlockQueue`](crate::BlockQueue) that the request goes to.
    pub buffer: Buffer,
    /// What to read where.
    pub pieces: Pieces,
}

/// The end of a request: every request that was accepted completes exactly once.
#[derive(Debug)]
pub struct Completion {
    /// The number of the request.
    pub tag: u64,
    /// The buffer, filled where the result is good; otherwise with whatever arrived before the failure. Where the device
    /// may still write to it after a failure, this is another one, and an empty one where there is no memory.
    pub buffer: Buffer,
    /// Whether all pieces arrived; if not, what happened to the first one that failed.
    pub result: Result<(), IoError>,
}
