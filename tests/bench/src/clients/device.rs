//! Devices in memory: one that brings the bytes, and one that only says so.

use std::sync::Arc;

use engine_block::{
    BlockDevice, BlockQueue, DeviceInfo, IoError, OpenError, Operation, RangeCompletion, RangeQueue,
    RangeRequest, Wait,
};
use engine_dma::Region;
use extents_core::{BlockRead, ReadError};

/// A volume's bytes.
#[derive(Debug, Clone)]
pub(crate) struct Image(pub(crate) Arc<Vec<u8>>);

impl Image {
    fn part(&self, offset: u64, length: usize) -> Option<&[u8]> {
        self.0.get(usize::try_from(offset).ok()?..)?.get(..length)
    }
}

impl BlockRead for Image {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let part = self.part(offset, buf.len()).ok_or_else(|| ReadError::io(offset, buf.len() as u64))?;
        buf.copy_from_slice(part);
        Ok(())
    }

    fn size(&self) -> u64 {
        self.0.len() as u64
    }
}

/// A device in memory.
#[derive(Debug)]
pub(crate) struct MemoryDevice {
    image: Image,
    info: DeviceInfo,
    way: Way,
}

/// What a device in memory does with a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Says that it is there, at once.
    Null,
    /// Says so when it is polled, as devices do that take their time.
    Queued,
    /// Brings it.
    Moves,
}

impl MemoryDevice {
    pub(crate) fn new(image: Image, way: Way) -> Self {
        let info = DeviceInfo {
            spec: "memory".into(),
            path: "memory".into(),
            size: image.size(),
            logical_block: 512,
            max_transfer: 1 << 20,
            writable: false,
            volatile_cache: false,
            discard: false,
        };
        Self { image, info, way }
    }
}

impl BlockDevice for MemoryDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn queue(&self, _depth: u32) -> Result<Box<dyn BlockQueue>, OpenError> {
        Err(OpenError::Spec("memory has ranges only".into()))
    }

    fn ranges(&self, depth: u32) -> Result<Box<dyn RangeQueue>, OpenError> {
        let (image, done) = (self.image.clone(), Vec::with_capacity(depth as usize));
        Ok(Box::new(MemoryRanges { image, moves: self.way == Way::Moves, depth: depth as usize, done }))
    }

    fn copies_now(&self) -> bool {
        self.way != Way::Queued
    }

    fn copy_now(&self, offset: u64, target: &Region, at: usize, length: usize) -> bool {
        match self.way {
            Way::Queued => false,
            Way::Moves => {
                self.image.part(offset, length).is_some_and(|bytes| target.write(at, bytes).is_ok())
            }
            Way::Null => self.image.part(offset, length).is_some(),
        }
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), IoError> {
        BlockRead::read_at(&self.image, offset, buf).map_err(|_| IoError {
            operation: Operation::Read,
            offset,
            length: buf.len() as u64,
            errno: 5,
        })
    }
}

#[derive(Debug)]
struct MemoryRanges {
    image: Image,
    moves: bool,
    depth: usize,
    done: Vec<RangeCompletion>,
}

impl RangeQueue for MemoryRanges {
    fn submit(&mut self, request: RangeRequest) -> Result<(), RangeCompletion> {
        const EBUSY: i32 = 16;
        const EFAULT: i32 = 14;
        let RangeRequest { tag, offset, length, ref memory, .. } = request;
        let failed = |errno| RangeCompletion { tag, result: Err(request.error(errno)) };
        if self.done.len() >= self.depth {
            return Err(failed(EBUSY));
        }
        let Some(mut bytes) = self.image.part(offset, length as usize) else { return Err(failed(EFAULT)) };
        if self.moves {
            for window in memory {
                let (part, rest) = bytes.split_at(window.length);
                if window.mapping.region().write(window.offset, part).is_err() {
                    return Err(failed(EFAULT));
                }
                bytes = rest;
            }
        }
        self.done.push(RangeCompletion { tag, result: Ok(()) });
        Ok(())
    }

    fn has_room(&self) -> bool {
        self.done.len() < self.depth
    }

    fn poll(&mut self, _wait: Wait, done: &mut Vec<RangeCompletion>) -> Result<usize, IoError> {
        let count = self.done.len();
        done.append(&mut self.done);
        Ok(count)
    }

    fn in_flight(&self) -> usize {
        self.done.len()
    }
}
