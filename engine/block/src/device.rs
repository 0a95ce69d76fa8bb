//! Devices, and the queues through which one worker reads them.

use std::fmt::Debug;
use std::time::Duration;

use engine_dma::{Buffer, Region};

use crate::copied_ranges::CopiedRanges;
use crate::{Completion, IoError, OpenError, RangeQueue, Request};

/// What is known of an open device.
#[derive(Debug, Clone)]
pub struct DeviceInfo {
    /// The spec that it was opened by.
    pub spec: String,
    /// The path that serves it, for a person: "io_uring with O_DIRECT on /dev/vdb".
    pub path: String,
    /// Size in bytes.
    pub size: u64,
    /// Smallest unit that the device reads by itself, in bytes.
    pub logical_block: u32,
    /// Longest single command in bytes; longer pieces are cut by the queue.
    pub max_transfer: u32,
    /// Whether it was opened for writing; [ranges](BlockDevice::ranges) then take every operation.
    pub writable: bool,
    /// Whether what was written may be lost with the power until it is flushed.
    pub volatile_cache: bool,
    /// Whether discarding has an effect.
    pub discard: bool,
}

/// Whether to wait for completions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Take what is there.
    No,
    /// Until at least one request completed.
    One,
    /// Until at least one request completed or the time is over.
    For(Duration),
}

/// An open device, shared by all workers.
pub trait BlockDevice: Send + Sync + Debug {
    /// What is known of it.
    fn info(&self) -> &DeviceInfo;

    /// A queue for one worker that can have `depth` requests in flight.
    ///
    /// # Errors
    /// Where the operating system or the device grants no further queue.
    fn queue(&self, depth: u32) -> Result<Box<dyn BlockQueue>, OpenError>;

    /// A queue for one worker that can have `depth` range requests in flight: memory of others, and writing.
    ///
    /// Made over [`queue`](Self::queue) by copying, and for reading only, where a device has nothing better.
    ///
    /// # Errors
    /// As for [`queue`](Self::queue).
    fn ranges(&self, depth: u32) -> Result<Box<dyn RangeQueue>, OpenError> {
        Ok(Box::new(CopiedRanges::new(self.queue(depth)?, self.info().clone(), depth)))
    }

    /// Fills `buf` from byte `offset` on, from any thread, and waits for it. For metadata: small ranges at any
    /// alignment, which may come through the operating system's page cache.
    ///
    /// # Errors
    /// Where the range lies outside the device or does not arrive.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), IoError>;

    /// Whether [`copy_now`](Self::copy_now) copies most of what it is asked for.
    fn copies_now(&self) -> bool {
        false
    }

    /// Says that `length` bytes from byte `offset` on will be [copied](Self::copy_now) soon.
    fn copy_soon(&self, offset: u64, length: usize) {
        let _ = (offset, length);
    }

    /// As [`copy_soon`](Self::copy_soon), for bytes that are wanted a little later than others, however many they are.
    fn copy_later(&self, offset: u64, length: usize) {
        let _ = (offset, length);
    }

    /// Copies `length` bytes from byte `offset` on into `target`, from its byte `at` on, where that takes a copy from
    /// memory to memory and nothing else: no call, no lock, nobody to wait for. False where it takes more, or the range
    /// cannot be reached: then any of the bytes may have been copied, and a queue does it or says why not.
    fn copy_now(&self, offset: u64, target: &Region, at: usize, length: usize) -> bool {
        let _ = (offset, target, at, length);
        false
    }
}

/// One worker's way to a device. Requests complete in any order.
pub trait BlockQueue: Send + Debug {
    /// A buffer of at least `length` bytes, page-aligned, in memory that this queue's device reaches without a
    /// copy. Its contents are unspecified but initialised. Dropping it gives it back to the pool it came from.
    ///
    /// # Errors
    /// `ENOMEM` where the memory cannot be had.
    fn buffer(&mut self, length: usize) -> Result<Buffer, IoError>;

    /// Starts a request.
    ///
    /// # Errors
    /// Where it cannot be taken (queue full: `EBUSY`; piece outside the device or the buffer: `EINVAL`), it comes
    /// back as a completion that tells why.
    #[allow(clippy::result_large_err, reason = "the buffer comes back with it")]
    fn submit(&mut self, request: Request) -> Result<(), Completion>;

    /// Starts what was submitted and takes completions, adding them to `done`; answers how many were added.
    ///
    /// # Errors
    /// Only where the queue itself has failed; requests then complete with errors on further polls.
    fn poll(&mut self, wait: Wait, done: &mut Vec<Completion>) -> Result<usize, IoError>;

    /// How many requests are in flight.
    fn in_flight(&self) -> usize;

    /// Reads one request to its end, with nothing else in flight on this queue. The short way for a worker that
    /// has one thing to do; implementations may have a shorter one than submitting and polling.
    fn read(&mut self, request: Request) -> Completion {
        let tag = request.tag;
        if let Err(refused) = self.submit(request) {
            return refused;
        }
        let mut done = Vec::with_capacity(1);
        loop {
            // A queue that fails as a whole still completes its requests, each with an error.
            let _ = self.poll(Wait::One, &mut done);
            if let Some(place) = done.iter().position(|completion| completion.tag == tag) {
                return done.swap_remove(place);
            }
        }
    }
}
