//! An open file or block device, served through the kernel.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use engine_block::cut::Geometry;
use engine_block::{BlockDevice, BlockQueue, DeviceInfo, IoError, OpenError, Operation, RangeQueue};
use engine_dma::{Pool, Region, to_u64, to_usize};
use rustix::io::{Errno, pread};

use crate::choice::{Choice, Preference, Way, is_in_memory};
use crate::geometry;
use crate::pread_queue::PreadQueue;
use crate::ranges::{CallRanges, MappedRanges, RangeFile, RingRanges, copy, map};
use crate::ring_queue::RingQueue;

/// Most memory that a queue keeps (and has registered, so that it is resident).
const MOST_MEMORY: usize = 16 << 20;

/// What a queue maps at a time is this for each request that it may have in flight, within bounds: even the shortest
/// queue should hold one of the longest reads that FUSE asks for, 1 MiB.
const ARENA_FOR_EACH: usize = 128 << 10;
const SHORTEST_ARENA: usize = 1 << 20;
const LONGEST_ARENA: usize = 4 << 20;

/// How long a queue that is dropped waits for what is in flight. Kernel drivers give up on a device sooner.
const DRAIN_LIMIT: Duration = Duration::from_secs(120);

/// A regular file or block device that the kernel reads for us.
#[derive(Debug)]
pub struct KernelDevice {
    info: DeviceInfo,
    geometry: Geometry,
    way: Way,
    /// The file as the caller opened it, with whatever locks or claims hang on it; reads metadata, through the page
    /// cache. No advice is given about the access: the kernel's own read-ahead does not fire on random 4 KiB reads
    /// (4,000 of them took as long, and read as much, with `POSIX_FADV_RANDOM`), and helps with the runs that inode
    /// tables and directories are (5 to 8 times faster in sequence, twice as fast in runs of 16 blocks).
    held: File,
    /// The same file, opened the way that contents are read.
    data: Arc<File>,
    ranges: Arc<RangeFile>,
    /// The image, where it lies in memory.
    mapped: Option<Arc<Region>>,
    calls_single: bool,
    drain_limit: Duration,
}

impl KernelDevice {
    /// Serves `file`, a regular file or block device open for reading (or for both, to be written too), in the way preferred. `spec` is what the user
    /// called it. Locks and claims on `file` last as long as the device.
    ///
    /// # Errors
    /// Where the file cannot be read in the way preferred.
    pub fn new(file: File, spec: &str, preference: Preference) -> Result<Self, OpenError> {
        let size = geometry::size(&file).map_err(|error| OpenError::System {
            action: "find the size of",
            device: spec.to_owned(),
            source: error.into(),
        })?;
        let Choice { data, writable, geometry, way, path } = Choice::make(&file, size, spec, preference)?;
        let info = DeviceInfo {
            spec: spec.to_owned(),
            path,
            size,
            logical_block: geometry.block.max(geometry::sector(&file)),
            max_transfer: geometry.max_transfer,
            writable,
            // Past the page cache there is still the disk's own, and the metadata of a file.
            volatile_cache: writable,
            discard: writable && geometry::discards(&file),
        };
        let mapped = if way == Way::Pread && is_in_memory(&data) { map(&data, size) } else { None };
        let data = Arc::new(data);
        let ranges = Arc::new(RangeFile::new(Arc::clone(&data), geometry, info.clone()));
        Ok(Self {
            info,
            geometry,
            way,
            held: file,
            data,
            ranges,
            mapped,
            calls_single: false,
            drain_limit: DRAIN_LIMIT,
        })
    }
}

impl KernelDevice {
    /// Lets range queues carry out a request that comes alone by a plain call, during the next poll: for those whose
    /// thread has nothing else to do meanwhile.
    #[must_use]
    pub fn calling_for_single_ranges(self) -> Self {
        Self { calls_single: true, ..self }
    }

    /// Has queues that are dropped wait at most this long for what is in flight, 2 minutes where nothing else is said.
    /// Memory that the kernel uses for longer is [kept](crate::kept_requests) until it does not any more.
    #[must_use]
    pub fn draining_at_most(self, limit: Duration) -> Self {
        Self { drain_limit: limit, ..self }
    }

    fn no_ring(&self, source: io::Error) -> OpenError {
        OpenError::System { action: "make an io_uring for", device: self.info.spec.clone(), source }
    }
}

impl BlockDevice for KernelDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn queue(&self, depth: u32) -> Result<Box<dyn BlockQueue>, OpenError> {
        let arena =
            ARENA_FOR_EACH.saturating_mul(to_usize(depth.into())).clamp(SHORTEST_ARENA, LONGEST_ARENA);
        let pool = Pool::new(arena, MOST_MEMORY / arena);
        let data = Arc::clone(&self.data);
        if self.way == Way::Pread {
            return Ok(Box::new(PreadQueue::new(data, self.geometry, pool, depth)));
        }
        match RingQueue::new(data, self.geometry, pool, depth, self.drain_limit) {
            Ok(queue) => Ok(Box::new(queue)),
            Err(source) => Err(self.no_ring(source)),
        }
    }

    fn ranges(&self, depth: u32) -> Result<Box<dyn RangeQueue>, OpenError> {
        let shared = Arc::clone(&self.ranges);
        if self.way == Way::Pread {
            let calls = CallRanges::new(shared, depth);
            return Ok(match &self.mapped {
                Some(image) => Box::new(MappedRanges::new(Arc::clone(image), calls)),
                None => Box::new(calls),
            });
        }
        match RingRanges::new(shared, depth, self.calls_single, self.drain_limit) {
            Ok(ranges) => Ok(Box::new(ranges)),
            Err(source) => Err(self.no_ring(source)),
        }
    }

    fn copies_now(&self) -> bool {
        self.mapped.is_some()
    }

    fn copy_soon(&self, offset: u64, length: usize) {
        if let Some(image) = &self.mapped {
            image.read_soon(to_usize(offset), length);
        }
    }

    fn copy_later(&self, offset: u64, length: usize) {
        if let Some(image) = &self.mapped {
            image.read_later(to_usize(offset), length);
        }
    }

    fn copy_now(&self, offset: u64, target: &Region, at: usize, length: usize) -> bool {
        self.mapped.as_ref().is_some_and(|image| copy(image, offset, target, at, length))
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), IoError> {
        let length = to_u64(buf.len());
        if offset.checked_add(length).is_none_or(|end| end > self.info.size) {
            return Err(IoError { operation: Operation::Read, offset, length, errno: libc::EINVAL });
        }
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let position = offset + to_u64(done);
            let failed = |errno| IoError {
                operation: Operation::Read,
                offset: position,
                length: length - to_u64(done),
                errno,
            };
            match pread(&self.held, rest, position) {
                // The device has become shorter than it was.
                Ok(0) => return Err(failed(libc::EIO)),
                Ok(newly) => done += newly,
                Err(Errno::INTR) => {}
                Err(error) => return Err(failed(error.raw_os_error())),
            }
        }
        Ok(())
    }
}
