//! Making and deleting I/O queues (Base, sections 5.2.1 to 5.2.4).

use engine_nvme_spec::{Sqe, Status, admin};

use crate::controller::Inner;
use crate::processor::Processor;
use crate::queue::{CompletionQueue, RingMemory, SubmissionQueue, ring_bytes};

/// Which I/O queues there are.
#[derive(Debug)]
pub(crate) struct QueueTable {
    /// By number less one.
    completion_queues: Vec<bool>,
    /// By number less one: the completion queue that it uses.
    submission_queues: Vec<Option<u16>>,
}

impl QueueTable {
    pub(crate) fn new(pairs: u16) -> Self {
        let count = usize::from(pairs);
        Self { completion_queues: vec![false; count], submission_queues: vec![None; count] }
    }

    /// Whether there is such a queue. The admin queues count as there.
    pub(crate) fn exists(&self, queue: u16, completion: bool) -> bool {
        let Some(place) = queue.checked_sub(1).map(usize::from) else { return true };
        if completion {
            self.completion_queues.get(place).is_some_and(|exists| *exists)
        } else {
            self.submission_queues.get(place).is_some_and(Option::is_some)
        }
    }

    pub(crate) fn has_io_queues(&self) -> bool {
        self.completion_queues.iter().any(|exists| *exists)
    }

    pub(crate) fn add_pair(&mut self, pair: u16) {
        self.set_pair(pair, true);
    }

    pub(crate) fn remove_pair(&mut self, pair: u16) {
        self.set_pair(pair, false);
    }

    fn set_pair(&mut self, pair: u16, exists: bool) {
        let Some(place) = pair.checked_sub(1).map(usize::from) else { return };
        if let Some(completions) = self.completion_queues.get_mut(place) {
            *completions = exists;
        }
        if let Some(submissions) = self.submission_queues.get_mut(place) {
            *submissions = exists.then_some(pair);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.completion_queues.fill(false);
        self.submission_queues.fill(None);
    }
}

/// The number and the size, less one, that a queue is to have.
fn queue_and_size(sqe: &Sqe) -> (u16, u16) {
    let [q0, q1, s0, s1] = sqe.cdw10.get().to_le_bytes();
    (u16::from_le_bytes([q0, q1]), u16::from_le_bytes([s0, s1]))
}

/// The upper half of dword 11.
fn upper(sqe: &Sqe) -> u16 {
    let [_, _, low, high] = sqe.cdw11.get().to_le_bytes();
    u16::from_le_bytes([low, high])
}

impl Inner {
    /// What both kinds of queues must be.
    fn check_queue(&self, sqe: &Sqe, exists: bool, granted: u16) -> Result<(u16, u16), Status> {
        let (queue, entries) = queue_and_size(sqe);
        if queue == 0 || queue > granted || exists {
            return Err(Status::INVALID_QUEUE_ID.final_());
        }
        if entries == 0 || u32::from(entries) >= self.shared.options.queue_entries {
            return Err(Status::INVALID_QUEUE_SIZE.final_());
        }
        if sqe.cdw11.get() & admin::CONTIGUOUS == 0 {
            return Err(Status::INVALID_FIELD.final_());
        }
        if !sqe.prp1.get().is_multiple_of(self.shared.page()) {
            return Err(Status::PRP_OFFSET_INVALID.final_());
        }
        Ok((queue, entries))
    }

    fn ring(&self, processor: &mut Processor, sqe: &Sqe, bytes: usize) -> Result<RingMemory, Status> {
        RingMemory::find(&mut processor.view, sqe.prp1.get(), bytes).ok_or(Status::INVALID_FIELD.final_())
    }

    pub(super) fn create_completion_queue(
        &self,
        processor: &mut Processor,
        sqe: &Sqe,
    ) -> Result<Status, Status> {
        let mut table = self.queues.lock();
        let (number, _) = queue_and_size(sqe);
        let (_, granted) = self.shared.state.features().queues(self.shared.options.queue_pairs);
        let (queue, entries) = self.check_queue(sqe, table.exists(number, true), granted)?;
        if !self.shared.entry_sizes_set() {
            return Err(Status::INVALID_QUEUE_SIZE.final_());
        }
        let vector = upper(sqe);
        let interrupts = sqe.cdw11.get() & admin::INTERRUPTS != 0;
        if interrupts && vector >= self.shared.vectors.count() {
            return Err(Status::INVALID_INTERRUPT_VECTOR.final_());
        }
        let memory = self.ring(processor, sqe, ring_bytes(entries, true))?;
        let slot = self.slot(queue).ok_or(Status::INTERNAL_ERROR)?;
        self.shared.clear_doorbell(queue, true);
        let vector = interrupts.then_some(vector);
        slot.lock().add_completion_queue(CompletionQueue::new(queue, entries, memory, vector));
        if let Some(place) = table.completion_queues.get_mut(usize::from(queue) - 1) {
            *place = true;
        }
        Ok(Status::SUCCESS)
    }

    pub(super) fn create_submission_queue(
        &self,
        processor: &mut Processor,
        sqe: &Sqe,
    ) -> Result<Status, Status> {
        let mut table = self.queues.lock();
        let (number, _) = queue_and_size(sqe);
        let (granted, _) = self.shared.state.features().queues(self.shared.options.queue_pairs);
        let (queue, entries) = self.check_queue(sqe, table.exists(number, false), granted)?;
        if !self.shared.entry_sizes_set() {
            return Err(Status::INVALID_QUEUE_SIZE.final_());
        }
        let completion_queue = upper(sqe);
        // The admin queue's number and numbers that none can have are another error than a queue that was not made.
        if completion_queue == 0 || completion_queue > self.shared.options.queue_pairs {
            return Err(Status::INVALID_QUEUE_ID.final_());
        }
        if !table.exists(completion_queue, true) {
            return Err(Status::COMPLETION_QUEUE_INVALID.final_());
        }
        let [flags, ..] = sqe.cdw11.get().to_le_bytes();
        let priority = (flags >> 1) & 3;
        let memory = self.ring(processor, sqe, ring_bytes(entries, false))?;
        // All submission queues of a completion queue have one processor, so that only that one fills it.
        let slot = self.slot(completion_queue).ok_or(Status::INTERNAL_ERROR)?;
        self.shared.clear_doorbell(queue, false);
        let made = SubmissionQueue::new(queue, completion_queue, entries, priority, memory);
        slot.lock().add_submission_queue(made);
        if let Some(place) = table.submission_queues.get_mut(usize::from(queue) - 1) {
            *place = Some(completion_queue);
        }
        Ok(Status::SUCCESS)
    }

    pub(super) fn delete_submission_queue(&self, sqe: &Sqe) -> Result<Status, Status> {
        let (queue, _) = queue_and_size(sqe);
        let completion_queue = self.completion_queue_of(queue).ok_or(Status::INVALID_QUEUE_ID.final_())?;
        let slot = self.slot(completion_queue).ok_or(Status::INTERNAL_ERROR)?;
        slot.lock().forget_submissions(queue);
        let limit = self.shared.options.quiet_limit;
        if !self.settle(&[slot], self.is_own(slot), limit, |slot| slot.in_flight_of(queue) == 0) {
            tracing::error!(queue, "a backing does not end what it does for a queue that is to be deleted");
            self.shared.fail();
            return Err(Status::INTERNAL_ERROR.final_());
        }
        slot.lock().remove_submission_queue(&self.shared, queue);
        if let Some(place) = self.queues.lock().submission_queues.get_mut(usize::from(queue) - 1) {
            *place = None;
        }
        Ok(Status::SUCCESS)
    }

    pub(super) fn delete_completion_queue(&self, sqe: &Sqe) -> Result<Status, Status> {
        let (queue, _) = queue_and_size(sqe);
        let mut table = self.queues.lock();
        if queue == 0 || !table.exists(queue, true) {
            return Err(Status::INVALID_QUEUE_ID.final_());
        }
        if table.submission_queues.contains(&Some(queue)) {
            return Err(Status::INVALID_QUEUE_DELETION.final_());
        }
        let slot = self.slot(queue).ok_or(Status::INTERNAL_ERROR)?;
        slot.lock().remove_completion_queue(queue);
        if let Some(place) = table.completion_queues.get_mut(usize::from(queue) - 1) {
            *place = false;
        }
        Ok(Status::SUCCESS)
    }

    /// The completion queue of an I/O submission queue; none where there is no such queue.
    pub(crate) fn completion_queue_of(&self, queue: u16) -> Option<u16> {
        let place = usize::from(queue.checked_sub(1)?);
        self.queues.lock().submission_queues.get(place).copied().flatten()
    }
}
