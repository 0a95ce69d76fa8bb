//! Ranges of the device in memory.

use std::thread;
use std::time::Instant;

use engine_dma::{to_u64, to_usize};

use super::{EBUSY, EINVAL, MemoryDevice};
use crate::{IoError, Operation, RangeCompletion, RangeQueue, RangeRequest, Wait};

const EFAULT: i32 = 14;

/// Range requests that are carried out when they are polled for, the latest first.
#[derive(Debug)]
pub(super) struct MemoryRanges {
    device: MemoryDevice,
    depth: usize,
    waiting: Vec<(Instant, RangeRequest)>,
}

impl MemoryRanges {
    pub(super) fn new(device: MemoryDevice, depth: u32) -> Self {
        Self { device, depth: to_usize(depth.into()).max(1), waiting: Vec::new() }
    }
}

impl RangeQueue for MemoryRanges {
    fn submit(&mut self, request: RangeRequest) -> Result<(), RangeCompletion> {
        let refused = |error| RangeCompletion { tag: request.tag, result: Err(error) };
        request.check(&self.device.info).map_err(refused)?;
        if self.waiting.len() >= self.depth {
            return Err(refused(request.error(EBUSY)));
        }
        let ready = Instant::now() + self.device.faults().delay;
        self.waiting.push((ready, request));
        Ok(())
    }

    fn poll(&mut self, wait: Wait, done: &mut Vec<RangeCompletion>) -> Result<usize, IoError> {
        let Some(soonest) = self.waiting.iter().map(|(ready, _)| *ready).min() else { return Ok(0) };
        let left = soonest.saturating_duration_since(Instant::now());
        match wait {
            Wait::No => {}
            Wait::One => thread::sleep(left),
            Wait::For(limit) => thread::sleep(left.min(limit)),
        }
        let (now, before) = (Instant::now(), done.len());
        let ready = self.waiting.extract_if(.., |(ready, _)| *ready <= now).collect::<Vec<_>>();
        for (_, request) in ready.into_iter().rev() {
            done.push(RangeCompletion { tag: request.tag, result: self.device.carry_out(&request) });
        }
        Ok(done.len() - before)
    }

    fn in_flight(&self) -> usize {
        self.waiting.len()
    }
}

impl MemoryDevice {
    /// Does what a request asks for, as far as faults let it.
    fn carry_out(&self, request: &RangeRequest) -> Result<(), IoError> {
        if request.operation == Operation::Flush {
            if let Some(errno) = self.faults().flush {
                return Err(request.error(errno));
            }
            self.held().unflushed.clear();
            return Ok(());
        }
        let (good, outcome) = self.good(request.operation, request.offset, request.length);
        let usable = to_usize(good - request.offset);
        match request.operation {
            Operation::Write => {
                let mut bytes = vec![0; to_usize(request.length)];
                gather(request, &mut bytes)?;
                self.change(request.offset, bytes.get(..usable).unwrap_or_default());
            }
            Operation::WriteZeroes | Operation::Discard => self.change(request.offset, &vec![0; usable]),
            Operation::Read | Operation::Flush => self.scatter(request, usable)?,
        }
        outcome
    }

    fn change(&self, offset: u64, bytes: &[u8]) {
        let mut held = self.held();
        let offset = to_usize(offset);
        let Some(place) = held.now.get_mut(offset..offset + bytes.len()) else { return };
        let before = place.to_vec();
        place.copy_from_slice(bytes);
        held.unflushed.push((offset, before));
    }

    fn scatter(&self, request: &RangeRequest, usable: usize) -> Result<(), IoError> {
        let held = self.held();
        let start = to_usize(request.offset);
        let mut source = held.now.get(start..start + usable).unwrap_or_default();
        for window in &request.memory {
            let (part, rest) = source.split_at(window.length.min(source.len()));
            let written = window.mapping.region().write(window.offset, part);
            written.map_err(|_| request.error(EFAULT))?;
            source = rest;
        }
        Ok(())
    }
}

/// Copies a request's windows into one piece.
fn gather(request: &RangeRequest, mut target: &mut [u8]) -> Result<(), IoError> {
    for window in &request.memory {
        let (part, rest) = target.split_at_mut_checked(window.length).ok_or_else(|| request.error(EINVAL))?;
        window.mapping.region().read(window.offset, part).map_err(|_| request.error(EFAULT))?;
        target = rest;
    }
    debug_assert_eq!(to_u64(target.len()), 0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use engine_dma::{Mapping, Region};

    use super::*;
    use crate::testing::EIO;
    use crate::{BlockDevice, Window, Windows};

    fn run(device: &MemoryDevice, operation: Operation, offset: u64, bytes: &[u8]) -> Result<(), IoError> {
        let region = Region::private(bytes.len()).unwrap();
        region.write(0, bytes).unwrap();
        let length = if operation == Operation::Flush { 0 } else { to_u64(bytes.len()) };
        let window = Window { mapping: Mapping::whole(region), offset: 0, length: bytes.len() };
        let memory = if operation.moves() { Windows::from_iter([window]) } else { Windows::new() };
        let mut ranges = device.ranges(1).unwrap();
        ranges.submit(RangeRequest { tag: 4, operation, offset, length, memory }).unwrap();
        let mut done = Vec::new();
        assert_eq!(ranges.poll(Wait::One, &mut done), Ok(1));
        assert_eq!(done[0].tag, 4);
        done.remove(0).result
    }

    #[test]
    fn write_zeroes_and_discard_change_their_range_and_lost_power_brings_back_what_was_flushed() {
        let device = MemoryDevice::new(vec![1; 8192]).writable();
        run(&device, Operation::Write, 512, &[2; 1024]).unwrap();
        run(&device, Operation::Flush, 0, &[]).unwrap();
        run(&device, Operation::WriteZeroes, 1024, &[0; 1024]).unwrap();
        run(&device, Operation::Discard, 4096, &[0; 512]).unwrap();
        let runs = |device: &MemoryDevice| {
            let contents = device.contents();
            contents.chunk_by(|a, b| a == b).map(|run| (run[0], run.len())).collect::<Vec<_>>()
        };
        assert_eq!(runs(&device), [(1, 512), (2, 512), (0, 1024), (1, 2048), (0, 512), (1, 3584)]);
        device.lose_power();
        assert_eq!(runs(&device), [(1, 512), (2, 1024), (1, 6656)]);
    }

    #[test]
    fn write_that_touches_a_bad_range_stops_there_and_a_flush_fails_when_told_to() {
        let device = MemoryDevice::new(vec![1; 8192]).writable();
        device.fail(1024..1025, EIO);
        device.fail_flushes(28);
        let error = run(&device, Operation::Write, 512, &[2; 1024]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "writing 512 bytes at byte 1024 of the device failed: Input/output error (os error 5)"
        );
        assert_eq!(device.contents()[512..1536], [[2; 512], [1; 512]].concat());
        let error = run(&device, Operation::Flush, 0, &[]).unwrap_err();
        assert_eq!(error.to_string(), "flushing the device failed: No space left on device (os error 28)");
    }
}
