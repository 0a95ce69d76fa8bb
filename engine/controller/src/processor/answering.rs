//! Answering commands: completions are put into their queues, held back where a fault says so, and told by interrupts.

use std::time::Instant;

use engine_nvme_spec::{Sqe, Status};

use super::{Answer, COALESCING_UNIT, Held, Pending, Processor};
use crate::controller::Shared;
use crate::faults::Effect;
use crate::queue::{CompletionQueue, Entry};
use crate::subsystem::ErrorRecord;

impl Processor {
    /// Answers a command that succeeded, where nothing else is to be thought of.
    pub(super) fn finish_plainly(&mut self, pending: &Pending) {
        let Some(place) = self.place_of(pending.sq_id) else { return };
        let Some(queue) = self.submission_queues.get(place) else { return };
        let (id, head, counted) = (queue.completion_queue, queue.head, queue.tally.is_some());
        if counted {
            self.note_late(pending);
        }
        // Those of a pair lie at the same place, where each has one of its own.
        let at_place = self.completion_queues.get(place).is_some_and(|queue| queue.id == id);
        let place = if at_place {
            Some(place)
        } else {
            self.completion_queues.iter().position(|queue| queue.id == id)
        };
        let Some(completions) = place.and_then(|place| self.completion_queues.get_mut(place)) else { return };
        completions.promised = completions.promised.saturating_sub(1);
        let (sq_id, cid, status) = (pending.sq_id, pending.cid, Status::SUCCESS);
        completions.post(&Entry { sq_id, sq_head: head, cid, status, dw0: 0 }, false);
    }

    /// The place of a submission queue; that of the last one that was asked for is found at once.
    #[inline]
    pub(super) fn place_of(&mut self, sq_id: u16) -> Option<usize> {
        if self.submission_queues.get(self.last_place).is_none_or(|queue| queue.id != sq_id) {
            self.last_place = self.submission_queues.iter().position(|queue| queue.id == sq_id)?;
        }
        Some(self.last_place)
    }

    pub(super) fn completions_of(&mut self, sq_id: u16) -> Option<&mut CompletionQueue> {
        let id = self.submission_queues.iter().find(|queue| queue.id == sq_id)?.completion_queue;
        self.completion_queues.iter_mut().find(|queue| queue.id == id)
    }

    pub(super) fn unpromise(&mut self, sq_id: u16) {
        if let Some(completions) = self.completions_of(sq_id) {
            completions.promised = completions.promised.saturating_sub(1);
        }
    }

    /// Answers a command, with the fault that was chosen for it.
    pub(super) fn answer(
        &mut self,
        shared: &Shared,
        sq_id: u16,
        sqe: &Sqe,
        status: Status,
        dw0: u32,
        effect: Option<Effect>,
    ) {
        let mut status = status;
        if !status.is_success() {
            shared.error(&ErrorRecord {
                command: Some((sq_id, sqe.cid.get())),
                opcode: sqe.opcode,
                status,
                location: None,
                lba: sqe.slba(),
                nsid: sqe.nsid.get(),
            });
            self.count_failure(sq_id, sqe.nsid.get(), status);
            status = status.with_more();
        }
        let answer = Answer { sq_id, cid: sqe.cid.get(), status, dw0, effect };
        match effect {
            Some(Effect::Drop) => {}
            Some(Effect::Delay(time)) => self.hold(Instant::now().checked_add(time), answer),
            Some(Effect::Reorder) => self.hold(None, answer),
            _ => self.give(answer),
        }
    }

    pub(super) fn hold(&mut self, until: Option<Instant>, answer: Answer) {
        let answer = Answer { effect: None, ..answer };
        if let Some(completions) = self.completions_of(answer.sq_id) {
            completions.promised += 1;
        }
        self.held.push(Held { until, answer });
    }

    /// Gives an answer that was held back.
    pub(super) fn give_held(&mut self, answer: Answer) {
        self.unpromise(answer.sq_id);
        self.give(answer);
    }

    pub(super) fn release_due(&mut self) -> bool {
        let now = Instant::now();
        let due = |held: &mut Held| held.until.is_some_and(|until| until <= now);
        let answers: Vec<Answer> = self.held.extract_if(.., due).map(|held| held.answer).collect();
        for answer in &answers {
            self.give_held(*answer);
        }
        !answers.is_empty()
    }

    /// Puts an answer into its queue, if that still exists.
    pub(super) fn give(&mut self, answer: Answer) {
        let Some(queue) = self.submission_queues.iter().find(|queue| queue.id == answer.sq_id) else {
            return;
        };
        let (id, head) = (queue.completion_queue, queue.head);
        let Some(completions) = self.completion_queues.iter_mut().find(|queue| queue.id == id) else {
            return;
        };
        let Answer { sq_id, cid, status, dw0, .. } = answer;
        let mut entry = Entry { sq_id, sq_head: head, cid, status, dw0 };
        match answer.effect {
            Some(Effect::WrongCommand(cid)) => entry.cid = cid,
            Some(Effect::WrongQueue(queue)) => entry.sq_id = queue,
            Some(Effect::WrongHead(head)) => entry.sq_head = head,
            _ => {}
        }
        completions.post(&entry, answer.effect == Some(Effect::WrongPhase));
        if answer.effect == Some(Effect::Duplicate) && completions.room() > 0 {
            completions.post(&entry, false);
        }
        while let Some(place) = self.held.iter().position(|held| held.until.is_none()) {
            let held = self.held.swap_remove(place);
            self.give_held(held.answer);
        }
    }

    /// Answers a command that was to be answered later.
    pub(crate) fn answer_later(&mut self, shared: &Shared, sq_id: u16, cid: u16, status: Status, dw0: u32) {
        self.give(Answer { sq_id, cid, status, dw0, effect: None });
        self.signal(shared);
    }

    /// Whether [`answer_later`](Self::answer_later) would find room, and leave `spare` places.
    pub(crate) fn has_room(&mut self, shared: &Shared, sq_id: u16, spare: u32) -> bool {
        self.completions_of(sq_id).is_some_and(|completions| {
            Self::hear(shared, completions);
            completions.room() > spare
        })
    }

    /// Interrupts for what was put into completion queues, gathered as the host wants it (Base, section 5.1.25.1.6).
    pub(super) fn signal(&mut self, shared: &Shared) {
        for queue in &mut self.completion_queues {
            if queue.news == 0 {
                continue;
            }
            let Some(vector) = queue.vector else {
                queue.news = 0;
                continue;
            };
            let (threshold, time) = shared.state.features().coalescing();
            let gathers = queue.id != 0 && time > 0 && queue.news < u32::from(threshold);
            if gathers && !shared.state.features().is_uncoalesced(vector) {
                let since = *queue.since.get_or_insert_with(Instant::now);
                if since.elapsed() < COALESCING_UNIT * u32::from(time) {
                    continue;
                }
            }
            (queue.news, queue.since) = (0, None);
            shared.vectors.signal(vector);
        }
    }
}
