//! One mediator's way to the device, which all files of a client share.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use engine_block::{BlockDevice, RangeCompletion, RangeQueue, RangeRequest, Wait};
use engine_controller::{Commons, ControllerError};
use engine_nvme_spec::Status;
use parking_lot::Mutex;

/// The engine's queue, and who of its users waits for what.
#[derive(Debug)]
pub(crate) struct Share {
    ranges: Box<dyn RangeQueue>,
    /// Ranges that found no room.
    backlog: VecDeque<RangeRequest>,
    operations: Vec<Option<Operation>>,
    free: Vec<usize>,
    completed: Vec<RangeCompletion>,
    /// Operations that are over, by the file that started them.
    over: Vec<(u32, u64, Status)>,
}

/// A command of a client that reads some ranges.
#[derive(Debug)]
struct Operation {
    file: u32,
    token: u64,
    left: u32,
    status: Status,
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
            ranges: device.ranges(depth)?,
            backlog: VecDeque::new(),
            operations: Vec::new(),
            free: Vec::new(),
            completed: Vec::new(),
            over: Vec::new(),
        };
        let share = Arc::new(Mutex::new(share));
        *commons = Some(Box::new(Arc::clone(&share)) as Box<dyn Any + Send>);
        Ok(share)
    }

    /// Starts the ranges of one command, at least one; their tags are set here.
    pub(crate) fn start(
        &mut self,
        file: u32,
        token: u64,
        ranges: impl ExactSizeIterator<Item = RangeRequest>,
    ) {
        let left = u32::try_from(ranges.len()).unwrap_or(u32::MAX);
        let operation = Operation { file, token, left, status: Status::SUCCESS };
        let place = match self.free.pop() {
            Some(place) => {
                self.operations[place] = Some(operation);
                place
            }
            None => {
                self.operations.push(Some(operation));
                self.operations.len() - 1
            }
        };
        let tag = engine_dma::to_u64(place);
        for range in ranges {
            self.backlog.push_back(RangeRequest { tag, ..range });
        }
        self.push();
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
        let place = engine_dma::to_usize(completion.tag);
        let Some(slot) = self.operations.get_mut(place) else { return };
        let Some(operation) = slot.as_mut() else { return };
        if completion.result.is_err() && operation.status.is_success() {
            operation.status = Status::UNRECOVERED_READ_ERROR;
        }
        operation.left -= 1;
        if operation.left == 0 {
            self.over.push((operation.file, operation.token, operation.status));
            *slot = None;
            self.free.push(place);
        }
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
