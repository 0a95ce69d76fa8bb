//! Queues that come and go, and the end of what is in flight when they do.

use engine_dma::to_usize;
use engine_nvme_spec::Status;

use super::{Answer, Held, Pending, Processor};
use crate::controller::Shared;
use crate::queue::{CompletionQueue, SubmissionQueue};

impl Processor {
    /// How many commands are with backings or held back.
    pub(crate) fn in_flight(&self) -> usize {
        self.pending.len() - self.free.len() + self.held.len()
    }

    /// How many commands of one submission queue are with backings.
    pub(crate) fn in_flight_of(&self, sq_id: u16) -> usize {
        let of = |pending: &&Pending| pending.sq_id == sq_id && !pending.orphaned;
        self.pending.iter().flatten().filter(of).count()
    }

    /// Takes in a completion queue.
    pub(crate) fn add_completion_queue(&mut self, queue: CompletionQueue) {
        self.completion_queues.push(queue);
    }

    /// Takes in a submission queue. Queues of higher priority go first.
    pub(crate) fn add_submission_queue(&mut self, queue: SubmissionQueue) {
        if self.pending.is_empty() {
            self.pending.resize(to_usize(u64::from(self.depth)), None);
            self.free.extend((0..self.depth).rev());
        }
        self.submission_queues.push(queue);
        self.submission_queues.sort_by_key(|queue| queue.priority);
    }

    /// Forgets the commands of a submission queue that were not fetched (Base, section 3.3.1.3).
    pub(crate) fn forget_submissions(&mut self, id: u16) {
        if let Some(queue) = self.submission_queues.iter_mut().find(|queue| queue.id == id) {
            queue.head = queue.tail;
        }
    }

    /// Takes a submission queue away. Commands that are still with backings are answered as aborted, which they must
    /// not be where the host takes that for the end of what is done to their memory.
    pub(crate) fn remove_submission_queue(&mut self, shared: &Shared, id: u16) {
        self.forget_submissions(id);
        for held in self.held.extract_if(.., |held| held.answer.sq_id == id).collect::<Vec<_>>() {
            self.give_held(Answer { status: Status::ABORTED_SQ_DELETION, ..held.answer });
        }
        let mut late = Vec::new();
        for pending in self.pending.iter_mut().flatten() {
            if pending.sq_id == id && !pending.orphaned {
                pending.orphaned = true;
                late.push(pending.cid);
            }
        }
        for cid in late {
            let (sq_id, status) = (id, Status::ABORTED_SQ_DELETION);
            self.give_held(Answer { sq_id, cid, status, dw0: 0, effect: None });
        }
        self.signal(shared);
        self.submission_queues.retain(|queue| queue.id != id);
    }

    /// Takes a completion queue away.
    pub(crate) fn remove_completion_queue(&mut self, id: u16) {
        self.completion_queues.retain(|queue| queue.id != id);
    }

    /// Ends a command that is held back, answered as aborted; whether it was there.
    pub(crate) fn abort(&mut self, shared: &Shared, sq_id: u16, cid: u16) -> bool {
        let this = |held: &Held| held.answer.sq_id == sq_id && held.answer.cid == cid;
        let Some(place) = self.held.iter().position(this) else { return false };
        let held = self.held.swap_remove(place);
        self.give_held(Answer { status: Status::ABORT_REQUESTED, ..held.answer });
        self.signal(shared);
        true
    }

    /// Answers nothing any more, and fetches nothing.
    pub(crate) fn begin_reset(&mut self) {
        self.submission_queues.clear();
        self.completion_queues.clear();
        self.held.clear();
        for pending in self.pending.iter_mut().flatten() {
            pending.orphaned = true;
        }
    }

    /// Whether no backing does anything, so that no memory of the host is reached.
    pub(crate) fn is_quiet(&self) -> bool {
        self.in_flight() == 0 && self.served.iter().flatten().all(|served| served.queue.in_flight() == 0)
    }

    /// Lets go of everything, as the end of a reset.
    pub(crate) fn end_reset(&mut self) {
        self.view.release();
        self.namespaces.release();
        self.served.clear();
        self.current = 0;
        self.commons = None;
        self.scratch = None;
    }

    /// The numbers and indices of the queues, for those who say up to where they were heard.
    pub(crate) fn heard(&self) -> impl Iterator<Item = (u16, u16)> + '_ {
        self.submission_queues.iter().map(|queue| (queue.id, queue.tail))
    }
}
