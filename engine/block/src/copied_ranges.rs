//! Ranges for devices that only have queues of buffers: what is read is copied to where it is wanted.

use engine_dma::{to_u64, to_usize};

use crate::{
    BlockQueue, Completion, DeviceInfo, IoError, Operation, Piece, Pieces, RangeCompletion, RangeQueue,
    RangeRequest, Request, Wait,
};

const EIO: i32 = 5;
const EBUSY: i32 = 16;
const EFAULT: i32 = 14;

/// Range requests made over a queue of buffers. They only read.
#[derive(Debug)]
pub(crate) struct CopiedRanges {
    queue: Box<dyn BlockQueue>,
    info: DeviceInfo,
    /// What is in flight, each at the place that its tag in the queue says.
    requests: Vec<Option<RangeRequest>>,
    free: Vec<usize>,
    /// Requests that need nothing of the device.
    finished: Vec<RangeCompletion>,
    taken: Vec<Completion>,
}

impl CopiedRanges {
    /// Ranges of a device with this `info`, over a queue of it that can have `depth` requests in flight.
    pub(crate) fn new(queue: Box<dyn BlockQueue>, info: DeviceInfo, depth: u32) -> Self {
        let depth = to_usize(depth.into()).max(1);
        Self {
            queue,
            info: DeviceInfo { writable: false, volatile_cache: false, discard: false, ..info },
            requests: (0..depth).map(|_| None).collect(),
            free: (0..depth).rev().collect(),
            finished: Vec::new(),
            taken: Vec::with_capacity(depth),
        }
    }

    fn start(&mut self, request: &RangeRequest, place: usize) -> Result<(), IoError> {
        let length = usize::try_from(request.length).map_err(|_| request.error(EIO))?;
        let buffer = self.queue.buffer(length).map_err(|error| request.error(error.errno))?;
        let piece = Piece { device_offset: request.offset, buffer_offset: 0, length };
        let started = Request { tag: to_u64(place), buffer, pieces: Pieces::from_slice(&[piece]) };
        self.queue.submit(started).map_err(|refused| refused.result.err().unwrap_or(request.error(EIO)))
    }

    /// Ends the request that a completion of the queue is for.
    fn end(&mut self, completion: &Completion) -> Option<RangeCompletion> {
        let place = to_usize(completion.tag);
        let request = self.requests.get_mut(place)?.take()?;
        self.free.push(place);
        let result = completion.result.clone().and_then(|()| scatter(&request, &completion.buffer));
        Some(RangeCompletion { tag: request.tag, result })
    }
}

/// Copies what was read to the windows.
fn scatter(request: &RangeRequest, mut source: &[u8]) -> Result<(), IoError> {
    for window in &request.memory {
        let (part, rest) = source.split_at_checked(window.length).ok_or_else(|| request.error(EIO))?;
        source = rest;
        window.mapping.region().write(window.offset, part).map_err(|_| request.error(EFAULT))?;
    }
    Ok(())
}

impl RangeQueue for CopiedRanges {
    fn submit(&mut self, request: RangeRequest) -> Result<(), RangeCompletion> {
        let tag = request.tag;
        let refused = |error| RangeCompletion { tag, result: Err(error) };
        request.check(&self.info).map_err(refused)?;
        let Some(place) = self.free.pop() else { return Err(refused(request.error(EBUSY))) };
        if request.operation == Operation::Flush || request.length == 0 {
            self.free.push(place);
            self.finished.push(RangeCompletion { tag, result: Ok(()) });
            return Ok(());
        }
        let started = self.start(&request, place);
        match (started, self.requests.get_mut(place)) {
            (Ok(()), Some(room)) => {
                *room = Some(request);
                Ok(())
            }
            (started, _) => {
                self.free.push(place);
                Err(refused(started.err().unwrap_or(request.error(EIO))))
            }
        }
    }

    fn poll(&mut self, wait: Wait, done: &mut Vec<RangeCompletion>) -> Result<usize, IoError> {
        let before = done.len();
        done.append(&mut self.finished);
        let wait = if done.len() > before { Wait::No } else { wait };
        let mut taken = std::mem::take(&mut self.taken);
        let outcome = self.queue.poll(wait, &mut taken);
        done.extend(taken.drain(..).filter_map(|completion| self.end(&completion)));
        self.taken = taken;
        let count = done.len() - before;
        // What completed is passed on first; a failure is told with nothing to pass on.
        if count > 0 { Ok(count) } else { outcome.map(|_| 0) }
    }

    fn in_flight(&self) -> usize {
        self.requests.len() - self.free.len() + self.finished.len()
    }
}

#[cfg(test)]
mod tests {
    use engine_dma::{Access, Mapping, Region};
    use smallvec::smallvec;

    use super::*;
    use crate::testing::MemoryDevice;
    use crate::{BlockDevice, Window};

    fn bytes() -> Vec<u8> {
        (0..64_u32 << 10).map(|at| u8::try_from(at % 251).unwrap()).collect()
    }

    /// Ranges that nobody made better.
    fn copied(device: &MemoryDevice, depth: u32) -> CopiedRanges {
        CopiedRanges::new(device.queue(depth).unwrap(), device.info().clone(), depth)
    }

    fn whole(region: &std::sync::Arc<Region>, offset: usize, length: usize) -> Window {
        Window { mapping: Mapping::whole(std::sync::Arc::clone(region)), offset, length }
    }

    #[test]
    fn range_read_arrives_in_its_windows_and_nowhere_else() {
        let device = MemoryDevice::new(bytes());
        let region = Region::private(8192).unwrap();
        let mut ranges = copied(&device, 2);
        let memory = smallvec![whole(&region, 5000, 700), whole(&region, 3, 324)];
        let request = RangeRequest { tag: 9, operation: Operation::Read, offset: 1024, length: 1024, memory };
        ranges.submit(request).unwrap();
        assert_eq!(ranges.in_flight(), 1);
        let mut done = Vec::new();
        assert_eq!(ranges.poll(Wait::One, &mut done), Ok(1));
        assert_eq!((done[0].tag, &done[0].result, ranges.in_flight()), (9, &Ok(()), 0));
        let mut now = vec![0; 8192];
        region.read(0, &mut now).unwrap();
        let mut right = vec![0; 8192];
        right[5000..5700].copy_from_slice(&bytes()[1024..1724]);
        right[3..327].copy_from_slice(&bytes()[1724..2048]);
        assert!(now == right);
    }

    #[test]
    fn range_that_fails_tells_where_and_that_it_was_reading() {
        let device = MemoryDevice::new(bytes());
        device.fail(4096..4097, EIO);
        let region = Region::private(8192).unwrap();
        let mut ranges = copied(&device, 1);
        let memory = smallvec![whole(&region, 0, 8192)];
        let request = RangeRequest { tag: 1, operation: Operation::Read, offset: 0, length: 8192, memory };
        ranges.submit(request).unwrap();
        let mut done = Vec::new();
        ranges.poll(Wait::One, &mut done).unwrap();
        let error = done[0].result.clone().unwrap_err();
        assert_eq!((error.operation, error.offset, error.errno), (Operation::Read, 4096, EIO));
        assert!(error.to_string().starts_with("reading 4096 bytes at byte 4096 of the device failed: "));
    }

    #[test]
    fn ranges_that_cannot_be_taken_come_back_with_the_reason() {
        let device = MemoryDevice::new(bytes()).writable();
        let region = Region::private(4096).unwrap();
        let mut ranges = copied(&device, 1);
        let mut refused = |operation, offset, length, memory: &[(usize, usize)]| {
            let memory = memory.iter().map(|&(offset, length)| whole(&region, offset, length)).collect();
            ranges.submit(RangeRequest { tag: 0, operation, offset, length, memory }).unwrap_err().result
        };
        let errno = |result: Result<(), IoError>| result.unwrap_err().errno;
        assert_eq!(errno(refused(Operation::Read, 100, 512, &[(0, 512)])), 22);
        assert_eq!(errno(refused(Operation::Read, 0, 512, &[(0, 500)])), 22);
        assert_eq!(errno(refused(Operation::Read, 64 << 10, 512, &[(0, 512)])), 22);
        assert_eq!(errno(refused(Operation::Read, u64::MAX - 511, 512, &[(0, 512)])), 22);
        assert_eq!(errno(refused(Operation::Read, 0, 1024, &[(3584, 1024)])), EFAULT);
        assert_eq!(errno(refused(Operation::Write, 0, 512, &[(0, 512)])), 30, "it only reads");
        assert_eq!(errno(refused(Operation::WriteZeroes, 0, 512, &[])), 30);
        let readable = Region::map(
            Region::shared(c"ranges", 4096).unwrap().file().unwrap().0.try_clone_to_owned().unwrap(),
            0,
            4096,
            Access::Read,
        )
        .unwrap();
        let request = |tag, region| RangeRequest {
            tag,
            operation: Operation::Read,
            offset: 0,
            length: 512,
            memory: smallvec![whole(region, 0, 512)],
        };
        assert_eq!(errno(ranges.submit(request(0, &readable)).unwrap_err().result), EFAULT);
        ranges.submit(request(1, &region)).unwrap();
        assert_eq!(errno(ranges.submit(request(2, &region)).unwrap_err().result), EBUSY);
        let mut done = Vec::new();
        ranges.poll(Wait::One, &mut done).unwrap();
        let flush =
            RangeRequest { tag: 3, operation: Operation::Flush, offset: 0, length: 0, memory: smallvec![] };
        ranges.submit(flush).unwrap();
        assert_eq!((ranges.in_flight(), ranges.poll(Wait::One, &mut done)), (1, Ok(1)));
    }
}
