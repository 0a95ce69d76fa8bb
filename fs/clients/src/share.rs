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
use homifs_core::Homifs;
use parking_lot::Mutex;

use crate::parts::{Aside, Ranges, Tail};
use crate::scribes::{Answers, Scribes, Task, Work};

/// Blocks that files end in, which are read into memory of ours at a time; others wait for none, but for a scribe.
const TAILS: usize = 64;

/// The engine's queue, and who of its users waits for what.
#[derive(Debug)]
pub(crate) struct Share {
    homifs: Arc<Homifs>,
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
    scribes: Arc<Scribes>,
    /// How many operations wait for scribes, and what those have done.
    with_scribes: usize,
    answers: Arc<Answers>,
    answered: Vec<(u64, Status)>,
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
        homifs: &Arc<Homifs>,
        scribes: &Arc<Scribes>,
        depth: u32,
    ) -> Result<Arc<Mutex<Self>>, ControllerError> {
        if let Some(share) = commons.as_ref().and_then(|any| any.downcast_ref::<Arc<Mutex<Self>>>()) {
            return Ok(Arc::clone(share));
        }
        let device = homifs.shared_device();
        let share = Self {
            homifs: Arc::clone(homifs),
            device: Arc::clone(device),
            ranges: device.ranges(depth)?,
            backlog: VecDeque::new(),
            operations: Vec::new(),
            free: Vec::new(),
            completed: Vec::new(),
            over: Vec::new(),
            bounce: None,
            scribes: Arc::clone(scribes),
            with_scribes: 0,
            answers: Arc::default(),
            answered: Vec::new(),
        };
        let share = Arc::new(Mutex::new(share));
        *commons = Some(Box::new(Arc::clone(&share)) as Box<dyn Any + Send>);
        Ok(share)
    }

    /// Starts the reads of one command, at least one; the tags of ranges are set here.
    pub(crate) fn start(
        &mut self,
        file: u32,
        token: u64,
        ranges: Ranges,
        tails: Vec<Tail>,
        mut asides: Vec<Aside>,
    ) {
        let mut operation = Operation { file, token, left: 0, status: Status::SUCCESS, tails: Vec::new() };
        let place = self.free.pop().unwrap_or_else(|| {
            self.operations.push(None);
            self.operations.len() - 1
        });
        let tag = to_u64(place);
        let plain = tails.is_empty() && asides.is_empty() && ranges.len() == 1;
        if plain && self.backlog.is_empty() && self.ranges.has_room() {
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
            asides.extend(self.start_tail(&mut operation, tag, tail).map(Aside::from));
        }
        if !asides.is_empty() {
            operation.left += 1;
            self.with_scribes += 1;
            let work = Work::Asides { homifs: Arc::clone(&self.homifs), asides };
            self.scribes.add(Task { work, token: tag, answers: Arc::clone(&self.answers) });
        }
        self.operations[place] = Some(operation);
        self.push();
    }

    /// Has a tail read into memory of ours; gives it back where there is no more.
    fn start_tail(&mut self, operation: &mut Operation, tag: u64, tail: Tail) -> Option<Tail> {
        let block = self.device.info().logical_block.max(512);
        if self.bounce.is_none() {
            self.bounce = Bounce::new(block);
        }
        let slot = self.bounce.as_mut().and_then(|bounce| bounce.free.pop());
        let (Some(bounce), Some(slot)) = (&self.bounce, slot) else { return Some(tail) };
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
        None
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
        let read = completion.result.as_ref().map(drop).map_err(|_| Status::UNRECOVERED_READ_ERROR);
        self.end_part(completion.tag, read.err());
    }

    /// A part of an operation is over, with or without a failure.
    fn end_part(&mut self, tag: u64, failure: Option<Status>) {
        let place = to_usize(tag);
        let Some(slot) = self.operations.get_mut(place) else { return };
        let Some(operation) = slot.as_mut() else { return };
        if let Some(status) = failure.filter(|_| operation.status.is_success()) {
            operation.status = status;
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
        if self.with_scribes > 0 {
            self.hear_scribes(if self.over.is_empty() && self.ranges.in_flight() == 0 {
                limit
            } else {
                Duration::ZERO
            });
        }
        self.over.retain(|&(owner, token, status)| {
            if owner == file {
                done.push((token, status));
            }
            owner != file
        });
    }

    fn hear_scribes(&mut self, limit: Duration) {
        let mut answered = std::mem::take(&mut self.answered);
        self.answers.take(limit, &mut answered);
        self.with_scribes -= answered.len();
        for (tag, status) in answered.drain(..) {
            self.end_part(tag, Some(status).filter(|status| !status.is_success()));
        }
        self.answered = answered;
    }
}
