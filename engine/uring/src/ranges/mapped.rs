//! Ranges of an image that lies in memory: one copy from where it lies to where it is wanted, without a call.
//!
//! A read of 4 KiB from tmpfs by pread(2) takes the kernel several times as long as the copy in it.

use std::fs::File;
use std::sync::Arc;

use engine_block::{IoError, Operation, RangeCompletion, RangeQueue, RangeRequest, Wait};
use engine_dma::{Access, OutOfReach, PAGE, Region, to_usize};

use super::calls::CallRanges;

/// The part of the image that whole pages cover; none where it cannot be mapped.
pub(crate) fn map(file: &File, size: u64) -> Option<Arc<Region>> {
    let length = to_usize(size) / PAGE * PAGE;
    let mapped = file.try_clone().and_then(|file| Region::map(file.into(), 0, length, Access::Read));
    mapped.map_err(|error| tracing::info!(%error, "the image is not mapped; it is read by pread")).ok()
}

/// Copies a range of the image; whether all of it is there.
#[inline]
pub(crate) fn copy(image: &Region, offset: u64, target: &Region, at: usize, length: usize) -> bool {
    let offset = to_usize(offset);
    // Where it became shorter, what is gone reads as zeros; the kernel says how far it still goes.
    !image.is_damaged() && image.copy_to(offset, target, at, length).is_ok() && !image.is_damaged()
}

/// A queue that reads from a mapping while a request is handed over, and does everything else by calls.
#[derive(Debug)]
pub(crate) struct MappedRanges {
    image: Arc<Region>,
    calls: CallRanges,
    read: Vec<RangeCompletion>,
}

impl MappedRanges {
    pub(crate) fn new(image: Arc<Region>, calls: CallRanges) -> Self {
        Self { image, calls, read: Vec::new() }
    }

    fn copy(&self, request: &RangeRequest) -> Result<(), OutOfReach> {
        let mut offset = to_usize(request.offset);
        for window in &request.memory {
            self.image.copy_to(offset, window.mapping.region(), window.offset, window.length)?;
            offset += window.length;
        }
        Ok(())
    }
}

impl RangeQueue for MappedRanges {
    fn submit(&mut self, request: RangeRequest) -> Result<(), RangeCompletion> {
        let refused = |error| RangeCompletion { tag: request.tag, result: Err(error) };
        request.check(self.calls.info()).map_err(refused)?;
        if self.in_flight() >= self.calls.depth() {
            return Err(refused(request.error(libc::EBUSY)));
        }
        let end = request.offset.checked_add(request.length).map(to_usize);
        let mapped = end.is_some_and(|end| end <= self.image.length()) && !self.image.is_damaged();
        if request.operation != Operation::Read || !mapped {
            return self.calls.submit(request);
        }
        let copied = self.copy(&request);
        if self.image.is_damaged() {
            // It became shorter meanwhile, and read as zeros there; the kernel says how far it still goes.
            return self.calls.submit(request);
        }
        let result = copied.map_err(|_| request.error(libc::EFAULT));
        self.read.push(RangeCompletion { tag: request.tag, result });
        Ok(())
    }

    fn poll(&mut self, wait: Wait, done: &mut Vec<RangeCompletion>) -> Result<usize, IoError> {
        let read = self.read.len();
        done.append(&mut self.read);
        let wait = if read > 0 { Wait::No } else { wait };
        Ok(read + self.calls.poll(wait, done)?)
    }

    fn in_flight(&self) -> usize {
        self.read.len() + self.calls.in_flight()
    }
}
