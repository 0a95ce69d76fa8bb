//! A device in memory that fails when told to.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use engine_dma::{Buffer, Pool, to_u64, to_usize};

use crate::{
    BlockDevice, BlockQueue, Completion, DeviceInfo, IoError, OpenError, Operation, Piece, RangeQueue,
    Request, Wait,
};

mod ranges;

const EIO: i32 = 5;
const ENOMEM: i32 = 12;
const EBUSY: i32 = 16;
const EINVAL: i32 = 22;

/// A volume held in memory. Faults can be set and cleared while it is in use, from any clone.
///
/// Its queues complete the latest request first, since no order is promised.
#[derive(Debug, Clone)]
pub struct MemoryDevice {
    info: DeviceInfo,
    contents: Arc<Mutex<Contents>>,
    faults: Arc<Mutex<Faults>>,
}

struct Contents {
    now: Vec<u8>,
    /// What was there before each write since the last flush, oldest first.
    unflushed: Vec<(usize, Vec<u8>)>,
}

#[derive(Debug, Default)]
struct Faults {
    bad: Vec<(Range<u64>, i32)>,
    flush: Option<i32>,
    delay: Duration,
    end: Option<u64>,
    read: Vec<Piece>,
}

impl MemoryDevice {
    /// A device with these bytes and no faults, for reading only.
    #[must_use]
    pub fn new(contents: impl Into<Vec<u8>>) -> Self {
        let contents = contents.into();
        let info = DeviceInfo {
            spec: "memory".into(),
            path: "bytes in memory, for tests".into(),
            size: to_u64(contents.len()),
            logical_block: 512,
            max_transfer: 1 << 20,
            writable: false,
            volatile_cache: false,
            discard: false,
        };
        let contents = Contents { now: contents, unflushed: Vec::new() };
        Self { info, contents: Arc::new(Mutex::new(contents)), faults: Arc::default() }
    }

    /// The same device for writing: with a cache that loses what was not flushed, and discards that leave zeros.
    #[must_use]
    pub fn writable(self) -> Self {
        let info = DeviceInfo { writable: true, volatile_cache: true, discard: true, ..self.info };
        Self { info, ..self }
    }

    /// The same device with logical blocks of `bytes`.
    #[must_use]
    pub fn with_blocks(self, bytes: u32) -> Self {
        Self { info: DeviceInfo { logical_block: bytes, ..self.info }, ..self }
    }

    /// A copy of what it holds now.
    #[must_use]
    pub fn contents(&self) -> Vec<u8> {
        self.held().now.clone()
    }

    /// Takes back what was written since the last flush, as a power cut does at its worst.
    pub fn lose_power(&self) {
        let mut held = self.held();
        while let Some((offset, before)) = held.unflushed.pop() {
            if let Some(place) = held.now.get_mut(offset..offset + before.len()) {
                place.copy_from_slice(&before);
            }
        }
    }

    /// Lets every flush fail with `errno`.
    pub fn fail_flushes(&self, errno: i32) {
        self.faults().flush = Some(errno);
    }

    /// Lets everything that touches `range` fail with `errno`.
    pub fn fail(&self, range: Range<u64>, errno: i32) {
        self.faults().bad.push((range, errno));
    }

    /// Lets every request of a queue take at least this long.
    pub fn delay(&self, time: Duration) {
        self.faults().delay = time;
    }

    /// Ends the device at `size`, though it still says that it is as long as before: reads past it give `EIO`.
    pub fn shrink(&self, size: u64) {
        self.faults().end = Some(size);
    }

    /// Takes all faults away.
    pub fn heal(&self) {
        let mut faults = self.faults();
        let read = std::mem::take(&mut faults.read);
        *faults = Faults { read, ..Faults::default() };
    }

    /// The pieces that queues were asked for since the last call, in the order of asking.
    #[must_use]
    pub fn taken(&self) -> Vec<Piece> {
        std::mem::take(&mut self.faults().read)
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a range ends that may be used, which is before its end where there is a failure, and that failure.
    fn good(&self, operation: Operation, offset: u64, length: u64) -> (u64, Result<(), IoError>) {
        let failed = |at: u64, errno| {
            let at = at.max(offset);
            IoError { operation, offset: at, length: length - (at - offset), errno }
        };
        let end = offset.checked_add(length).filter(|&end| end <= self.info.size);
        let Some(end) = end else { return (offset, Err(failed(offset, EINVAL))) };
        let faults = self.faults();
        let bad = faults.bad.iter().filter(|(range, _)| range.start < end && offset < range.end);
        let bad = bad.map(|(range, errno)| failed(range.start, *errno));
        let past = faults.end.filter(|&last| last < end).map(|last| failed(last, EIO));
        match bad.chain(past).min_by_key(|error| error.offset) {
            Some(error) => (error.offset, Err(error)),
            None => (end, Ok(())),
        }
    }

    fn copy(&self, offset: u64, target: &mut [u8]) -> Result<(), IoError> {
        let (good, outcome) = self.good(Operation::Read, offset, to_u64(target.len()));
        let held = self.held();
        let source = held.now.get(to_usize(offset)..to_usize(good)).unwrap_or_default();
        if let Some(target) = target.get_mut(..source.len()) {
            target.copy_from_slice(source);
        }
        outcome
    }
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unflushed = self.unflushed.len();
        f.debug_struct("Contents").field("length", &self.now.len()).field("unflushed", &unflushed).finish()
    }
}

impl BlockDevice for MemoryDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn queue(&self, depth: u32) -> Result<Box<dyn BlockQueue>, OpenError> {
        let depth = to_usize(depth.into()).max(1);
        let pool = Pool::new(1 << 20, 4);
        Ok(Box::new(MemoryQueue { device: self.clone(), pool, depth, waiting: Vec::new() }))
    }

    fn ranges(&self, depth: u32) -> Result<Box<dyn RangeQueue>, OpenError> {
        Ok(Box::new(ranges::MemoryRanges::new(self.clone(), depth)))
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), IoError> {
        self.copy(offset, buf)
    }
}

#[derive(Debug)]
struct MemoryQueue {
    device: MemoryDevice,
    pool: Pool,
    depth: usize,
    waiting: Vec<(Instant, Request)>,
}

impl MemoryQueue {
    fn finish(&self, mut request: Request) -> Completion {
        let mut result = Ok(());
        for piece in &request.pieces {
            let place = piece.buffer_offset..piece.buffer_offset + piece.length;
            let Some(target) = request.buffer.get_mut(place) else { continue };
            result = result.and(self.device.copy(piece.device_offset, target));
        }
        Completion { tag: request.tag, buffer: request.buffer, result }
    }
}

impl BlockQueue for MemoryQueue {
    fn buffer(&mut self, length: usize) -> Result<Buffer, IoError> {
        self.pool.take(length).map_err(|_| IoError {
            operation: Operation::Read,
            offset: 0,
            length: to_u64(length),
            errno: ENOMEM,
        })
    }

    fn submit(&mut self, request: Request) -> Result<(), Completion> {
        let refused = |request: Request, piece: Option<Piece>, errno| {
            let (offset, length) = piece.map_or((0, 0), |piece| (piece.device_offset, to_u64(piece.length)));
            Err(Completion {
                tag: request.tag,
                buffer: request.buffer,
                result: Err(IoError { operation: Operation::Read, offset, length, errno }),
            })
        };
        if self.waiting.len() >= self.depth {
            let first = request.pieces.first().copied();
            return refused(request, first, EBUSY);
        }
        let (size, buffer) = (self.device.info.size, request.buffer.len());
        if let Some(piece) = request.pieces.iter().copied().find(|piece| !piece.fits(size, buffer)) {
            return refused(request, Some(piece), EINVAL);
        }
        let ready = {
            let mut faults = self.device.faults();
            faults.read.extend(&request.pieces);
            Instant::now() + faults.delay
        };
        self.waiting.push((ready, request));
        Ok(())
    }

    fn poll(&mut self, wait: Wait, done: &mut Vec<Completion>) -> Result<usize, IoError> {
        let now = Instant::now();
        let Some(soonest) = self.waiting.iter().map(|(ready, _)| *ready).min() else { return Ok(0) };
        let left = soonest.saturating_duration_since(now);
        match wait {
            Wait::No => {}
            Wait::One => thread::sleep(left),
            Wait::For(limit) => thread::sleep(left.min(limit)),
        }
        let now = Instant::now();
        let before = done.len();
        let ready = self.waiting.extract_if(.., |(ready, _)| *ready <= now).collect::<Vec<_>>();
        done.extend(ready.into_iter().rev().map(|(_, request)| self.finish(request)));
        Ok(done.len() - before)
    }

    fn in_flight(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pieces;

    fn device() -> MemoryDevice {
        MemoryDevice::new((0..8192_u32).map(|at| u8::try_from(at % 251).unwrap()).collect::<Vec<_>>())
    }

    fn read(device: &MemoryDevice, ranges: &[(u64, usize)]) -> Completion {
        let mut queue = device.queue(1).unwrap();
        let mut pieces = Pieces::new();
        let mut end = 0;
        for &(device_offset, length) in ranges {
            pieces.push(Piece { device_offset, buffer_offset: end, length });
            end += length;
        }
        let buffer = queue.buffer(end).unwrap();
        queue.read(Request { tag: 3, buffer, pieces })
    }

    #[test]
    fn read_without_faults_gathers_the_pieces() {
        let device = device();
        let done = read(&device, &[(5000, 100), (7, 50)]);
        assert_eq!((done.tag, &done.result), (3, &Ok(())));
        assert_eq!(done.buffer[..100], device.contents()[5000..5100]);
        assert_eq!(done.buffer[100..], device.contents()[7..57]);
        assert_eq!(device.taken().len(), 2);
        assert!(device.taken().is_empty());
    }

    #[test]
    fn read_that_touches_a_bad_range_tells_where_it_starts() {
        let device = device();
        device.fail(1000..2000, 5);
        let error = |offset, length| Err(IoError { operation: Operation::Read, offset, length, errno: 5 });
        let done = read(&device, &[(0, 4096)]);
        assert_eq!(done.result, error(1000, 3096));
        assert_eq!(done.buffer[..1000], device.contents()[..1000]);
        assert_eq!(device.read_at(1999, &mut [0; 2]), error(1999, 2));
        assert_eq!(device.read_at(2000, &mut [0; 2]), Ok(()));
        device.heal();
        assert_eq!(read(&device, &[(0, 4096)]).result, Ok(()));
    }

    #[test]
    fn read_past_the_end_of_a_shrunken_device_is_eio_and_past_the_known_end_einval() {
        let device = device();
        device.shrink(5000);
        let error =
            |offset, length, errno| Err(IoError { operation: Operation::Read, offset, length, errno });
        assert_eq!(read(&device, &[(4096, 4096)]).result, error(5000, 3192, EIO));
        assert_eq!(read(&device, &[(8000, 193)]).result, error(8000, 193, EINVAL));
    }

    #[test]
    fn poll_waits_as_long_as_it_was_told() {
        let device = device();
        device.delay(Duration::from_millis(50));
        let mut queue = device.queue(1).unwrap();
        let buffer = queue.buffer(1).unwrap();
        let (start, mut done) = (Instant::now(), Vec::new());
        queue.submit(Request { tag: 0, buffer, pieces: Pieces::new() }).unwrap();
        assert_eq!(queue.poll(Wait::No, &mut done), Ok(0));
        assert_eq!(queue.poll(Wait::For(Duration::from_millis(1)), &mut done), Ok(0));
        assert_eq!(queue.poll(Wait::One, &mut done), Ok(1));
        assert!(start.elapsed() >= Duration::from_millis(50));
    }
}
