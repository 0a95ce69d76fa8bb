//! One mediator's way to the device, which all files of a client share.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use engine_block::{
    BlockDevice, Operation as DeviceOperation, RangeCompletion, RangeQueue, RangeRequest, Wait, Window,
    Windows,
};
use engine_controller::{Commons, ControllerError};
use engine_dma::{Mapping, Region, to_u64, to_usize};
use engine_nvme_spec::Status;
use parking_lot::Mutex;

use crate::parts::{Ranges, Tail, copy_in};

/// Blocks that files end in, which are read into memory of ours at a time; others wait for none and are read at once.
const TAILS: usize = 64;

/// The engine's queue, and who of its users waits for what.
#[derive(Debug)]
pub(crate) struct Share {
    device: Arc<dyn BlockDevice>,
    ranges: Box<dyn RangeQueue>,
    /// Ranges that found no room.
    backlog: VecDeque<RangeRequest>,
    operations: Vec<Option<Operation>>,
    free: Vec<usize>,
    completed: Vec<RangeCompletion>,
    /// Operations that are over, by the file that started them.
    over: Vec<(u32, u64, Status)>,
    /// Memory of ours for the blocks that files end in, made when the first is read.
    bounce: Option<Bounce>,
}

/// A command of a client that reads some ranges.
#[derive(Debug)]
struct Operation {
    file: u32,
    token: u64,
    left: u32,
    status: Status,
    tails: Vec<Bounced>,
}

/// A tail that is being read.
#[derive(Debug)]
struct Bounced {
    slot: usize,
    target: Windows,
}

/// Blocks of memory.
#[derive(Debug)]
struct Bounce {
    memory: Arc<Mapping>,
    block: usize,
    free: Vec<usize>,
}

impl Bounce {
    fn new(block: u32) -> Option<Self> {
        let block = to_usize(block.into());
        let region = Region::private(block * TAILS).ok()?;
        Some(Self { memory: Mapping::whole(region), block, free: (0..TAILS).collect() })
    }

    fn window(&self, slot: usize) -> Window {
        Window { mapping: Arc::clone(&self.memory), offset: slot * self.block, length: self.block }
    }

    /// Hands the file's part of a block over.
    fn deliver(&self, bounced: &Bounced) -> Result<(), Status> {
        let mut at = bounced.slot * self.block;
        for window in &bounced.target {
            let copied =
                self.memory.region().copy_to(at, window.mapping.region(), window.offset, window.length);
            copied.map_err(|_| Status::DATA_TRANSFER_ERROR)?;
            at += window.length;
        }
        Ok(())
    }
}

impl Share {
    /// The share of a worker, made where it has none.
    pub(crate) fn of(
        commons: &mut Commons,
        device: &Arc<dyn BlockDevice>,
        depth: u32,
    ) -> Result<Arc<Mutex<Self>>, ControllerError> {
        if let Some(share) = commons.as_ref().and_then(|any| any.downcast_ref::<Arc<Mutex<Self>>>()) {
            return Ok(Arc::clone(share));
        }
        let share = Self {
            device: Arc::clone(device),
            ranges: device.ranges(depth)?,
            backlog: VecDeque::new(),
            operations: Vec::new(),
            free: Vec::new(),
            completed: Vec::new(),
            over: Vec::new(),
            bounce: None,
        };
        let share = Arc::new(Mutex::new(share));
        *commons = Some(Box::new(Arc::clone(&share)) as Box<dyn Any + Send>);
        Ok(share)
    }

    /// Starts the reads of one command, at least one; the tags of ranges are set here.
    pub(crate) fn start(&mut self, file: u32, token: u64, ranges: Ranges, tails: Vec<Tail>) {
        let mut operation = Operation { file, token, left: 0, status: Status::SUCCESS, tails: Vec::new() };
        let place = self.free.pop().unwrap_or_else(|| {
            self.operations.push(None);
            self.operations.len() - 1
        });
        let tag = to_u64(place);
        if tails.is_empty() && ranges.len() == 1 && self.backlog.is_empty() && self.ranges.has_room() {
            operation.left = 1;
            self.operations[place] = Some(operation);
            for mut range in ranges {
                range.tag = tag;
                if let Err(refused) = self.ranges.submit(range) {
                    self.land(&refused);
                }
            }
            return;
        }
        for range in ranges {
            operation.left += 1;
            self.backlog.push_back(RangeRequest { tag, ..range });
        }
        for tail in tails {
            self.start_tail(&mut operation, tag, tail);
        }
        if operation.left == 0 {
            self.over.push((file, token, operation.status));
            self.free.push(place);
            return;
        }
        self.operations[place] = Some(operation);
        self.push();
    }

    fn start_tail(&mut self, operation: &mut Operation, tag: u64, tail: Tail) {
        let block = self.device.info().logical_block.max(512);
        if self.bounce.is_none() {
            self.bounce = Bounce::new(block);
        }
        let slot = self.bounce.as_mut().and_then(|bounce| bounce.free.pop());
        let (Some(bounce), Some(slot)) = (&self.bounce, slot) else {
            let mut bytes = vec![0; tail.kept()];
            let read = self.device.read_at(tail.block, &mut bytes);
            let read = read.map_err(|_| Status::UNRECOVERED_READ_ERROR);
            if let Err(status) = read.and_then(|_| copy_in(&tail.target, &bytes)) {
                operation.status = status;
            }
            return;
        };
        let memory = Windows::from_iter([bounce.window(slot)]);
        let (offset, length) = (tail.block, u64::from(block));
        self.backlog.push_back(RangeRequest {
            tag,
            operation: DeviceOperation::Read,
            offset,
            length,
            memory,
        });
        operation.tails.push(Bounced { slot, target: tail.target });
        operation.left += 1;
    }

    /// Hands over what there is room for.
    fn push(&mut self) {
        while let Some(range) = self.backlog.pop_front() {
            // What a refused request was is not given back, so it is remembered.
            let again = RangeRequest { memory: range.memory.clone(), ..range };
            match self.ranges.submit(range) {
                Ok(()) => {}
                Err(RangeCompletion { result: Err(error), .. }) if error.errno == libc::EBUSY => {
                    self.backlog.push_front(again);
                    return;
                }
                Err(refused) => self.land(&refused),
            }
        }
    }

    fn land(&mut self, completion: &RangeCompletion) {
        let place = to_usize(completion.tag);
        let Some(slot) = self.operations.get_mut(place) else { return };
        let Some(operation) = slot.as_mut() else { return };
        if completion.result.is_err() && operation.status.is_success() {
            operation.status = Status::UNRECOVERED_READ_ERROR;
        }
        operation.left -= 1;
        if operation.left > 0 {
            return;
        }
        if let Some(bounce) = &mut self.bounce {
            for bounced in operation.tails.drain(..) {
                if operation.status.is_success()
                    && let Err(status) = bounce.deliver(&bounced)
                {
                    operation.status = status;
                }
                bounce.free.push(bounced.slot);
            }
        }
        self.over.push((operation.file, operation.token, operation.status));
        *slot = None;
        self.free.push(place);
    }

    /// Takes what is over of one file's commands; waits at most `limit` where nothing of anybody's is.
    pub(crate) fn take(&mut self, file: u32, limit: Duration, done: &mut Vec<(u64, Status)>) {
        if self.over.is_empty() && self.ranges.in_flight() > 0 {
            let wait = if limit.is_zero() { Wait::No } else { Wait::For(limit) };
            let mut completed = std::mem::take(&mut self.completed);
            if let Err(error) = self.ranges.poll(wait, &mut completed) {
                tracing::warn!(%error, "a queue to the device failed");
            }
            for completion in completed.drain(..) {
                self.land(&completion);
            }
            self.completed = completed;
            self.push();
        }
        self.over.retain(|&(owner, token, status)| {
            if owner == file {
                done.push((token, status));
            }
            owner != file
        });
    }
}
