//! A device in memory.

use std::fmt;
use std::sync::Arc;
use std::thread::ThreadId;

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

/// Something to be done first.
pub(crate) type Hook = Arc<dyn Fn() + Send + Sync>;

/// A device in memory.
pub(crate) struct MemoryDevice {
    image: Image,
    info: DeviceInfo,
    /// Whether it answers while it is asked, or when it is polled.
    at_once: bool,
    before_read: Option<Hook>,
}

impl fmt::Debug for MemoryDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryDevice").field("info", &self.info).finish_non_exhaustive()
    }
}

impl MemoryDevice {
    pub(crate) fn new(image: Image, at_once: bool, before_read: Option<Hook>) -> Self {
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
        Self { image, info, at_once, before_read }
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
        Ok(Box::new(MemoryRanges { image, depth: depth as usize, done, owner: None }))
    }

    fn copies_now(&self) -> bool {
        self.at_once
    }

    fn copy_now(&self, offset: u64, target: &Region, at: usize, length: usize) -> bool {
        self.at_once && self.image.part(offset, length).is_some_and(|bytes| target.write(at, bytes).is_ok())
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), IoError> {
        if let Some(before) = &self.before_read {
            before();
        }
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
    depth: usize,
    done: Vec<RangeCompletion>,
    /// Whose it is while something is in flight: as with an io_uring, what others do ends all that is.
    owner: Option<ThreadId>,
}

impl MemoryRanges {
    fn is_foreign(&self) -> bool {
        !self.done.is_empty() && self.owner != Some(std::thread::current().id())
    }
}

impl RangeQueue for MemoryRanges {
    fn submit(&mut self, request: RangeRequest) -> Result<(), RangeCompletion> {
        const EBUSY: i32 = 16;
        const EFAULT: i32 = 14;
        const ECANCELED: i32 = 125;
        let RangeRequest { tag, offset, length, ref memory, .. } = request;
        let failed = |errno| RangeCompletion { tag, result: Err(request.error(errno)) };
        if self.is_foreign() {
            return Err(failed(ECANCELED));
        }
        self.owner = Some(std::thread::current().id());
        if self.done.len() >= self.depth {
            return Err(failed(EBUSY));
        }
        let Some(mut bytes) = self.image.part(offset, length as usize) else { return Err(failed(EFAULT)) };
        for window in memory {
            let (part, rest) = bytes.split_at(window.length);
            if window.mapping.region().write(window.offset, part).is_err() {
                return Err(failed(EFAULT));
            }
            bytes = rest;
        }
        self.done.push(RangeCompletion { tag, result: Ok(()) });
        Ok(())
    }

    fn has_room(&self) -> bool {
        self.done.len() < self.depth
    }

    fn poll(&mut self, _wait: Wait, done: &mut Vec<RangeCompletion>) -> Result<usize, IoError> {
        const ECANCELED: i32 = 125;
        if self.is_foreign() {
            let (operation, offset, length) = (Operation::Read, 0, 0);
            for completion in &mut self.done {
                completion.result = Err(IoError { operation, offset, length, errno: ECANCELED });
            }
        }
        let count = self.done.len();
        done.append(&mut self.done);
        Ok(count)
    }

    fn in_flight(&self) -> usize {
        self.done.len()
    }
}
