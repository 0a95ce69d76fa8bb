//! Carries out the commands of some queues: the hot path.
//!
//! A processor owns its queues; nothing here takes a lock, allocates or reads the clock for a command that its backing
//! carries out at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine_block::Operation;
use engine_dma::{AddressSpace, Region, View, to_usize};
use engine_nvme_spec::{Event, NvmOpcode, Sqe, Status};

use crate::backing::{BackingQueue, Commons, Io, Memory, Started};
use crate::commands::Done;
use crate::controller::Shared;
use crate::data::Runs;
use crate::faults::Effect;
use crate::queue::{CompletionQueue, Entry, SubmissionQueue};
use crate::subsystem::{CountersOfOne, ErrorRecord, Namespace, NamespaceView};
use crate::tally::{Batch, Late, Tally};

/// Most commands of one queue that are fetched before others have their turn.
const BURST_MOST: u32 = 64;

/// For how many bytes that were copied while a command was started it counts as one more, where rounds are bounded.
const BYTES_AS_COMMAND: u64 = 32 << 10;

/// How many queues ahead a doorbell is asked for.
const DOORBELLS_AHEAD: usize = 3;

/// In which the time of interrupt coalescing is told.
const COALESCING_UNIT: Duration = Duration::from_micros(100);

/// A command that its backing is still working on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pending {
    pub(crate) sq_id: u16,
    pub(crate) cid: u16,
    pub(crate) opcode: u8,
    pub(crate) nsid: u32,
    pub(crate) slba: u64,
    pub(crate) bytes: u64,
    pub(crate) operation: Operation,
    pub(crate) effect: Option<Effect>,
    /// Whether it is answered only once a flush is over that follows it.
    pub(crate) then_flush: bool,
    /// Whether nobody wants to hear of it any more.
    pub(crate) orphaned: bool,
    /// When it was fetched, where its queue is counted, in the nanoseconds of its processor's clock.
    pub(crate) fetched: u64,
}

/// A namespace, and this processor's way to its blocks.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) namespace: Arc<Namespace>,
    pub(crate) queue: Box<dyn BackingQueue>,
    tally: Option<Arc<Tally>>,
}

/// An answer that is held back by a fault.
#[derive(Debug)]
struct Held {
    /// None: until another answer was given.
    until: Option<Instant>,
    answer: Answer,
}

/// An answer to a command.
#[derive(Debug, Clone, Copy)]
struct Answer {
    sq_id: u16,
    cid: u16,
    status: Status,
    dw0: u32,
    effect: Option<Effect>,
}

/// Memory of a processor's own that commands can be carried out on, for those that need the bytes themselves.
#[derive(Debug)]
pub(crate) struct Scratch {
    pub(crate) region: Arc<Region>,
    pub(crate) view: View,
}

/// Works on some queues, on one thread at a time. Several lie beside each other and share no line.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Processor {
    pub(crate) view: View,
    pub(crate) runs: Runs,
    namespaces: NamespaceView,
    /// By number less one; made when a namespace is first named.
    pub(crate) served: Vec<Option<Served>>,
    /// The namespace that was found last, where that still holds; 0 for none.
    current: u32,
    submission_queues: Vec<SubmissionQueue>,
    completion_queues: Vec<CompletionQueue>,
    /// Which submission queue goes first in the next round.
    first: usize,
    pub(crate) pending: Vec<Option<Pending>>,
    pub(crate) free: Vec<u32>,
    pub(crate) over: Vec<(u64, Status)>,
    /// Operations of several steps that are over while one waits for its own.
    pub(crate) stray: Vec<(u64, Status)>,
    held: Vec<Held>,
    /// What fault the command that is being started is to show.
    pub(crate) effect: Option<Effect>,
    pub(crate) moved: Moved,
    counters: CountersOfOne,
    scratch: Option<Scratch>,
    /// How many operations were waited for.
    pub(crate) steps: u64,
    depth: u32,
    /// Most commands that are fetched in a round, of all queues together.
    pub(crate) round_most: u32,
    /// Whether only the thread that works on it may take what backings have done: some belong to the thread that they
    /// were first used on.
    pub(crate) stays_on_thread: bool,
    /// How many the last look at a queue fetched.
    taken: u32,
    commons: Commons,
    /// What the clock counts from.
    epoch: Instant,
    /// When the commands that are being started were fetched.
    pub(crate) fetched: u64,
    /// When what is being collected was over; 0 until somebody asks.
    collected: u64,
    batch: Batch,
    /// What was moved by commands whose backings took their time, since it was last counted.
    late: Moved,
    /// Those of them that are alike and not counted yet.
    alike: Option<Late>,
    /// Where the submission queue lies that was last looked for.
    last_place: usize,
}

impl Processor {
    pub(crate) fn new(counters: CountersOfOne, depth: u32) -> Self {
        Self {
            view: View::new(),
            runs: Runs::default(),
            namespaces: NamespaceView::default(),
            served: Vec::new(),
            current: 0,
            submission_queues: Vec::new(),
            completion_queues: Vec::new(),
            first: 0,
            pending: Vec::new(),
            free: Vec::new(),
            over: Vec::new(),
            stray: Vec::new(),
            held: Vec::new(),
            effect: None,
            moved: Moved::default(),
            counters,
            scratch: None,
            steps: 0,
            depth,
            round_most: u32::MAX,
            stays_on_thread: false,
            taken: 0,
            commons: None,
            epoch: Instant::now(),
            fetched: 0,
            collected: 0,
            batch: Batch::default(),
            late: Moved::default(),
            alike: None,
            last_place: 0,
        }
    }

    /// Looks at every queue once, and starts what is there as I/O commands; whether there was anything to do. Where there
    /// was not, waits at most `limit` for the backings.
    pub(crate) fn round(&mut self, shared: &Shared, limit: Duration) -> bool {
        self.round_of(shared, limit, |processor, sq_id, sqe| processor.start(shared, sq_id, sqe))
    }

    /// As [`round`](Self::round), for queues of other commands.
    pub(crate) fn round_of(
        &mut self,
        shared: &Shared,
        limit: Duration,
        mut start: impl FnMut(&mut Self, u16, &Sqe) -> Done,
    ) -> bool {
        let mut worked = self.collect(shared, Duration::ZERO);
        worked |= if shared.is_weighted() {
            self.serve_by_class(shared, &mut start)
        } else {
            self.serve_in_turn(shared, &mut start)
        };
        if !worked && !limit.is_zero() && self.in_flight() > 0 {
            worked = self.collect(shared, limit);
        }
        self.signal(shared);
        worked
    }

    /// Round robin (Base, section 3.4.4.1).
    fn serve_in_turn(
        &mut self,
        shared: &Shared,
        start: &mut impl FnMut(&mut Self, u16, &Sqe) -> Done,
    ) -> bool {
        let count = self.submission_queues.len();
        let burst = shared.state.features().burst().map_or(BURST_MOST, |burst| burst.min(BURST_MOST));
        let mut worked = false;
        let mut left = self.round_most;
        let mut place = self.first;
        for _ in 0..count {
            if place >= count {
                place = 0;
            }
            // Each doorbell lies on a line of its own, which the host wrote last.
            if let Some(later) = self.submission_queues.get(place + DOORBELLS_AHEAD) {
                shared.expect_doorbell(later.id);
            }
            worked |= self.serve(shared, place, burst.min(left), start);
            left = left.saturating_sub(self.taken);
            place += 1;
            if left == 0 {
                // Those that had no turn go first in the next round.
                self.first = if place < count { place } else { 0 };
                return worked;
            }
        }
        self.first = if self.first + 1 < count { self.first + 1 } else { 0 };
        worked
    }

    /// Weighted round robin (Base, section 3.4.4.2): while there are urgent commands nothing else is served; the other
    /// classes have as many commands in a round as their weights say.
    fn serve_by_class(
        &mut self,
        shared: &Shared,
        start: &mut impl FnMut(&mut Self, u16, &Sqe) -> Done,
    ) -> bool {
        let arbitration = shared.arbitration();
        let weight = |shift: u32| (arbitration >> shift & 0xff) + 1;
        let mut worked = false;
        // They are sorted by class.
        for place in 0..self.submission_queues.len() {
            let Some(queue) = self.submission_queues.get(place) else { break };
            let budget = match queue.priority {
                0 => BURST_MOST,
                _ if worked && self.submission_queues.first().is_some_and(|first| first.priority == 0) => {
                    // Something urgent was there, and more may have come.
                    if self.has_urgent(shared) {
                        break;
                    }
                    weight(8 * (4 - u32::from(queue.priority)))
                }
                class => weight(8 * (4 - u32::from(class))),
            };
            worked |= self.serve(shared, place, budget, start);
        }
        worked
    }

    /// Whether commands of the urgent class wait and could be answered.
    fn has_urgent(&self, shared: &Shared) -> bool {
        let room = |id: u16| self.completion_queues.iter().any(|queue| queue.id == id && queue.room() > 0);
        self.submission_queues.iter().take_while(|queue| queue.priority == 0).any(|queue| {
            shared.doorbell(queue.id, false) != u32::from(queue.head) && room(queue.completion_queue)
        })
    }

    /// Sees what is mapped and which namespaces there are now.
    pub(crate) fn look(&mut self, shared: &Shared) {
        if self.view.refresh(&shared.space) {
            self.renew_rings(shared);
        }
        self.namespaces.refresh(shared.subsystem.namespaces());
        self.current = 0;
    }

    /// Lets go of every mapping and namespace that nothing in flight needs, so that they can be taken away. Rings whose
    /// memory is gone stop the controller.
    pub(crate) fn let_go(&mut self, shared: &Shared) {
        if !self.stays_on_thread {
            self.collect(shared, Duration::ZERO);
        }
        if self.view.refresh(&shared.space) {
            self.renew_rings(shared);
        }
        self.signal(shared);
        self.namespaces.refresh(shared.subsystem.namespaces());
        let namespaces = &self.namespaces;
        for slot in &mut self.served {
            let gone = slot.as_ref().is_some_and(|served| {
                let now = namespaces.get(served.namespace.nsid());
                served.queue.in_flight() == 0 && !now.is_some_and(|now| Arc::ptr_eq(now, &served.namespace))
            });
            if gone {
                *slot = None;
            }
        }
        self.current = 0;
        self.view.release();
        self.namespaces.release();
    }

    fn renew_rings(&mut self, shared: &Shared) {
        let view = &mut self.view;
        let submissions = self.submission_queues.iter_mut().map(|queue| &mut queue.memory);
        let completions = self.completion_queues.iter_mut().map(|queue| &mut queue.memory);
        let mut lost = false;
        for memory in submissions.chain(completions) {
            lost |= !memory.is_current(view) && !memory.renew(view);
        }
        if lost {
            tracing::warn!("the host took away the memory of a queue in use");
            self.submission_queues.clear();
            self.completion_queues.clear();
            shared.fail();
        }
    }

    /// Fetches commands of one queue and starts them.
    #[inline]
    fn serve(
        &mut self,
        shared: &Shared,
        place: usize,
        budget: u32,
        start: &mut impl FnMut(&mut Self, u16, &Sqe) -> Done,
    ) -> bool {
        self.taken = 0;
        let Some(queue) = self.submission_queues.get_mut(place) else { return false };
        let value = shared.doorbell(queue.id, false);
        if value != u32::from(queue.tail) && !queue.ring(value) {
            if queue.refused != Some(value) {
                queue.refused = Some(value);
                shared.event(Event::INVALID_DOORBELL_VALUE);
            }
            return false;
        }
        if queue.head == queue.tail {
            return false;
        }
        // After the doorbell was read, and not before: what a host maps before it rings is there for its commands.
        self.look(shared);
        let Some(queue) = self.submission_queues.get_mut(place) else { return false };
        let (id, sq_id) = (queue.completion_queue, queue.id);
        let tally = queue.tally.clone();
        let Some(completion_place) = self.completion_queues.iter().position(|queue| queue.id == id) else {
            return false;
        };
        let Some(completions) = self.completion_queues.get_mut(completion_place) else { return false };
        if completions.room() < budget {
            Self::hear(shared, completions);
        }
        if let Some(queue) = self.submission_queues.get(place) {
            queue.expect();
            completions.expect(queue.waiting());
        }
        let mut left = budget;
        // Whether no answer is held back, which any other answer could set free.
        let mut plain = self.held.is_empty();
        let armed = shared.faults().is_some_and(crate::Faults::is_armed);
        let mut worked = false;
        let (bounded, mut before) = (self.round_most != u32::MAX, 0);
        if tally.is_some() {
            self.fetched = self.clock();
        }
        while left > 0 && !self.free.is_empty() {
            // Each takes a place among the completions, now or later.
            if self.completion_queues.get(completion_place).is_none_or(|queue| queue.room() == 0) {
                break;
            }
            let Some(queue) = self.submission_queues.get_mut(place) else { break };
            let Some(sqe) = queue.fetch() else { break };
            let head = queue.head;
            if left > 1
                && let Some((opcode, nsid, slba, blocks)) = queue.glance()
                && opcode == NvmOpcode::READ.0
            {
                self.expect(nsid, slba, blocks);
            }
            left -= 1;
            worked = true;
            if armed {
                self.effect = shared.faults().and_then(|faults| faults.effect(sq_id == 0, &sqe));
            }
            let done = match self.effect {
                Some(Effect::Fail(status)) => Done::Now(status, 0),
                _ => start(self, sq_id, &sqe),
            };
            if bounded {
                let copied = self.moved.bytes().wrapping_sub(before) / BYTES_AS_COMMAND;
                left = left.saturating_sub(u32::try_from(copied).unwrap_or(u32::MAX));
                before = self.moved.bytes();
            }
            match done {
                Done::Now(status, dw0) if status.is_success() && self.effect.is_none() && plain => {
                    let Some(completions) = self.completion_queues.get_mut(completion_place) else { break };
                    let entry = Entry { sq_id, sq_head: head, cid: sqe.cid.get(), status, dw0 };
                    completions.post(&entry, false);
                    if tally.is_some() {
                        self.batch.note(sqe.nsid.get(), self.moved.bytes());
                    }
                }
                Done::Now(status, dw0) => {
                    if tally.is_some() {
                        self.batch.note(sqe.nsid.get(), self.moved.bytes());
                    }
                    let effect = self.effect;
                    self.answer(shared, sq_id, &sqe, status, dw0, effect);
                    plain = self.held.is_empty();
                }
                Done::Later => {}
                Done::Pending => {
                    if let Some(completions) = self.completion_queues.get_mut(completion_place) {
                        completions.promised += 1;
                    }
                }
            }
        }
        self.effect = None;
        self.taken = budget - left;
        if let Some(tally) = tally {
            self.count_batch(&tally);
        }
        let moved = std::mem::take(&mut self.moved);
        self.count_moved(moved);
        worked
    }

    /// Lets the backing know of a command that will come next.
    #[inline]
    fn expect(&self, nsid: u32, slba: u64, blocks: u64) {
        let place = to_usize(u64::from(nsid)).wrapping_sub(1);
        if nsid == self.current
            && let Some(Some(served)) = self.served.get(place)
            && let Ok((offset, length)) = served.namespace.range(slba, blocks)
        {
            served.queue.expect(offset, length);
        }
    }

    fn count_moved(&self, moved: Moved) {
        let Moved { reads, bytes_read, writes, bytes_written } = moved;
        if reads > 0 {
            self.counters.read(reads, bytes_read);
        }
        if writes > 0 {
            self.counters.written(writes, bytes_written);
        }
    }

    /// Takes in the head doorbell of a completion queue.
    fn hear(shared: &Shared, queue: &mut CompletionQueue) {
        let value = shared.doorbell(queue.id, true);
        if value != u32::from(queue.head) && !queue.ring(value) && queue.refused != Some(value) {
            queue.refused = Some(value);
            shared.event(Event::INVALID_DOORBELL_VALUE);
        }
    }

    /// The namespace of a command, with this processor's way to it.
    ///
    /// # Errors
    /// The status of a command that names one that there is not.
    #[inline]
    pub(crate) fn namespace(&mut self, nsid: u32) -> Result<&mut Served, Status> {
        // Most commands are for the namespace of the one before, and a look at what there is comes before each batch.
        if self.current == nsid
            && let Some(Some(_)) = self.served.get(to_usize(u64::from(nsid)).wrapping_sub(1))
        {
            let place = to_usize(u64::from(nsid)).wrapping_sub(1);
            return self.served.get_mut(place).and_then(Option::as_mut).ok_or(Status::INTERNAL_ERROR);
        }
        self.find_namespace(nsid)
    }

    #[inline(never)]
    fn find_namespace(&mut self, nsid: u32) -> Result<&mut Served, Status> {
        let invalid = Status::INVALID_NAMESPACE.final_();
        let namespace = self.namespaces.get(nsid).ok_or(invalid)?;
        let place = to_usize(u64::from(nsid)).checked_sub(1).ok_or(invalid)?;
        if self.served.len() <= place {
            self.served.resize_with(place + 1, || None);
        }
        let slot = self.served.get_mut(place).ok_or(invalid)?;
        let current = slot.as_ref().is_some_and(|served| Arc::ptr_eq(&served.namespace, namespace));
        if !current {
            if slot.as_ref().is_some_and(|served| served.queue.in_flight() > 0) {
                // One number, two namespaces: the old one's commands come to their end first.
                return Err(Status::NAMESPACE_NOT_READY);
            }
            let depth = self.depth.saturating_add(1);
            let made = namespace.backing().queue_among(depth, &mut self.commons);
            let queue = made.map_err(|error| {
                tracing::warn!(nsid, %error, "no queue to the backing of a namespace");
                Status::INTERNAL_ERROR
            })?;
            let tally = namespace.backing().tally();
            *slot = Some(Served { namespace: Arc::clone(namespace), queue, tally });
        }
        self.current = nsid;
        slot.as_mut().ok_or(invalid)
    }

    /// All namespaces that there are.
    pub(crate) fn namespace_numbers(shared: &Shared) -> Vec<u32> {
        shared.subsystem.namespaces().all().iter().map(|namespace| namespace.nsid()).collect()
    }

    /// Memory of this processor's own, as much as one command moves.
    pub(crate) fn scratch(&mut self, shared: &Shared) -> Result<Scratch, Status> {
        if let Some(scratch) = self.scratch.take() {
            return Ok(scratch);
        }
        let length = shared.options.transfer_most();
        let region = Region::private(to_usize(length)).map_err(|_| Status::INTERNAL_ERROR)?;
        let space = AddressSpace::new(1);
        let access = region.access();
        space.map(0, length, Arc::clone(&region), 0, access).map_err(|_| Status::INTERNAL_ERROR)?;
        let mut view = View::new();
        view.refresh(&space);
        Ok(Scratch { region, view })
    }

    /// Gives the memory back for the next command.
    pub(crate) fn give_back(&mut self, scratch: Scratch) {
        self.scratch = Some(scratch);
    }

    /// Takes what the backings have done; waits at most `limit` where they have done nothing yet.
    pub(crate) fn collect(&mut self, shared: &Shared, limit: Duration) -> bool {
        let mut over = std::mem::take(&mut self.over);
        over.append(&mut self.stray);
        let mut wait = if over.is_empty() { limit } else { Duration::ZERO };
        for served in self.served.iter_mut().flatten() {
            if served.queue.in_flight() > 0 {
                served.queue.poll(wait, &mut over);
                wait = if over.is_empty() { wait } else { Duration::ZERO };
            }
        }
        let mut worked = !over.is_empty();
        self.collected = 0;
        for (token, status) in over.drain(..) {
            self.finish(shared, token, status);
        }
        self.over = over;
        self.count_alike();
        let late = std::mem::take(&mut self.late);
        self.count_moved(late);
        if !self.held.is_empty() {
            worked |= self.release_due();
        }
        worked
    }

    fn finish(&mut self, shared: &Shared, token: u64, status: Status) {
        let slot = usize::try_from(token).ok().and_then(|place| self.pending.get_mut(place));
        let Some(slot) = slot else { return };
        let mut status = status;
        if let Some(pending) = slot
            && pending.then_flush
            && status.is_success()
            && !pending.orphaned
        {
            pending.then_flush = false;
            let place = to_usize(u64::from(pending.nsid)).wrapping_sub(1);
            let served = self.served.get_mut(place).and_then(Option::as_mut);
            match served.map(|served| flush(&mut *served.queue, token)) {
                Some(Started::Pending) => return,
                Some(Started::Done(flushed)) => status = flushed,
                Some(Started::Full) | None => status = Status::COMMAND_INTERRUPTED,
            }
        }
        let Some(pending) = slot.take() else { return };
        self.free.push(u32::try_from(token).unwrap_or(0));
        if pending.orphaned {
            return;
        }
        if status.is_success() {
            match pending.operation {
                Operation::Read => {
                    self.late.reads += 1;
                    self.late.bytes_read += pending.bytes;
                }
                Operation::Write => {
                    self.late.writes += 1;
                    self.late.bytes_written += pending.bytes;
                }
                _ => {}
            }
            if pending.effect.is_none() && self.held.is_empty() {
                return self.finish_plainly(&pending);
            }
        }
        self.unpromise(pending.sq_id);
        self.count_late(&pending, status);
        let sqe = Sqe {
            opcode: pending.opcode,
            cid: pending.cid.into(),
            nsid: pending.nsid.into(),
            ..Sqe::default().with_slba(pending.slba)
        };
        self.answer(shared, pending.sq_id, &sqe, status, 0, pending.effect);
    }

    /// Nanoseconds since this processor was made.
    fn clock(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1)
    }

    fn tally_of(&self, nsid: u32) -> Option<&Tally> {
        let place = to_usize(u64::from(nsid)).checked_sub(1)?;
        self.served.get(place)?.as_ref()?.tally.as_deref()
    }

    /// Counts what a batch of one queue did at once. Its commands were carried out one after another, so each took its
    /// share of the time that the batch took.
    fn count_batch(&mut self, tally: &Tally) {
        let commands = self.batch.commands();
        if commands == 0 {
            return;
        }
        let each = self.clock().saturating_sub(self.fetched) / commands;
        for group in self.batch.groups() {
            tally.count(group.commands, group.bytes, each);
            if let Some(of_backing) = self.tally_of(group.nsid) {
                of_backing.count(group.commands, group.bytes, each);
            }
        }
        self.batch.clear();
    }

    /// Counts a command whose backing took its time, by the moment at which it was heard that it is over.
    fn count_late(&mut self, pending: &Pending, status: Status) {
        let Some(place) = self.place_of(pending.sq_id) else { return };
        let Some(queue) = self.submission_queues.get(place) else { return };
        let Some(tally) = &queue.tally else { return };
        if self.collected == 0 {
            self.collected = self.clock();
        }
        let taken = self.collected.saturating_sub(pending.fetched);
        let bytes = if status.is_success() { pending.bytes } else { 0 };
        tally.count(1, bytes, taken);
        if let Some(of_backing) = self.tally_of(pending.nsid) {
            of_backing.count(1, bytes, taken);
        }
    }

    fn count_failure(&self, sq_id: u16, nsid: u32, status: Status) {
        let queue = self.submission_queues.iter().find(|queue| queue.id == sq_id);
        let Some(tally) = queue.and_then(|queue| queue.tally.as_deref()) else { return };
        tally.fail(status);
        if let Some(of_backing) = self.tally_of(nsid) {
            of_backing.fail(status);
        }
    }

    /// Answers a command that succeeded, where nothing else is to be thought of.
    fn finish_plainly(&mut self, pending: &Pending) {
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

    /// Notes a command that succeeded; those that are alike are counted together.
    #[inline]
    fn note_late(&mut self, pending: &Pending) {
        let Pending { sq_id, nsid, fetched, bytes, .. } = *pending;
        match &mut self.alike {
            Some(late) if (late.sq_id, late.nsid, late.fetched) == (sq_id, nsid, fetched) => {
                late.commands += 1;
                late.bytes += bytes;
            }
            _ => {
                self.count_alike();
                self.alike = Some(Late { sq_id, nsid, fetched, commands: 1, bytes });
            }
        }
    }

    /// Counts those that were noted.
    fn count_alike(&mut self) {
        let Some(late) = self.alike.take() else { return };
        let Some(place) = self.place_of(late.sq_id) else { return };
        if self.collected == 0 {
            self.collected = self.clock();
        }
        let taken = self.collected.saturating_sub(late.fetched);
        if let Some(tally) = self.submission_queues.get(place).and_then(|queue| queue.tally.as_ref()) {
            tally.count(late.commands, late.bytes, taken);
        }
        if let Some(of_backing) = self.tally_of(late.nsid) {
            of_backing.count(late.commands, late.bytes, taken);
        }
    }

    /// The place of a submission queue; that of the last one that was asked for is found at once.
    #[inline]
    fn place_of(&mut self, sq_id: u16) -> Option<usize> {
        if self.submission_queues.get(self.last_place).is_none_or(|queue| queue.id != sq_id) {
            self.last_place = self.submission_queues.iter().position(|queue| queue.id == sq_id)?;
        }
        Some(self.last_place)
    }

    fn completions_of(&mut self, sq_id: u16) -> Option<&mut CompletionQueue> {
        let id = self.submission_queues.iter().find(|queue| queue.id == sq_id)?.completion_queue;
        self.completion_queues.iter_mut().find(|queue| queue.id == id)
    }

    fn unpromise(&mut self, sq_id: u16) {
        if let Some(completions) = self.completions_of(sq_id) {
            completions.promised = completions.promised.saturating_sub(1);
        }
    }

    /// Answers a command, with the fault that was chosen for it.
    fn answer(
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

    fn hold(&mut self, until: Option<Instant>, answer: Answer) {
        let answer = Answer { effect: None, ..answer };
        if let Some(completions) = self.completions_of(answer.sq_id) {
            completions.promised += 1;
        }
        self.held.push(Held { until, answer });
    }

    /// Gives an answer that was held back.
    fn give_held(&mut self, answer: Answer) {
        self.unpromise(answer.sq_id);
        self.give(answer);
    }

    fn release_due(&mut self) -> bool {
        let now = Instant::now();
        let due = |held: &mut Held| held.until.is_some_and(|until| until <= now);
        let answers: Vec<Answer> = self.held.extract_if(.., due).map(|held| held.answer).collect();
        for answer in &answers {
            self.give_held(*answer);
        }
        !answers.is_empty()
    }

    /// Puts an answer into its queue, if that still exists.
    fn give(&mut self, answer: Answer) {
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
    fn signal(&mut self, shared: &Shared) {
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

    /// How many commands are with backings or held back.
    pub(crate) fn in_flight(&self) -> usize {
        self.pending.len() - self.free.len() + self.held.len()
    }

    /// How many commands of one submission queue are with backings.
    fn in_flight_of(&self, sq_id: u16) -> usize {
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

    /// Takes a submission queue away once its commands are answered, for which it waits at most `limit`; what is not
    /// answered by then never is. Commands that were not fetched are forgotten (Base, section 3.3.1.3).
    pub(crate) fn remove_submission_queue(&mut self, shared: &Shared, id: u16, limit: Duration) {
        let start = Instant::now();
        if let Some(queue) = self.submission_queues.iter_mut().find(|queue| queue.id == id) {
            queue.head = queue.tail;
        }
        while !self.stays_on_thread && self.in_flight_of(id) > 0 && start.elapsed() < limit {
            self.collect(shared, Duration::from_millis(10));
        }
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

    /// Ends everything, as a reset does: nothing is answered any more, and what backings still do reaches no memory of
    /// the host once this returns, unless they did not come to an end within `limit`.
    pub(crate) fn reset(&mut self, shared: &Shared, limit: Duration) {
        self.submission_queues.clear();
        self.completion_queues.clear();
        self.held.clear();
        for pending in self.pending.iter_mut().flatten() {
            pending.orphaned = true;
        }
        let start = Instant::now();
        while self.in_flight() > 0 && start.elapsed() < limit {
            self.collect(shared, Duration::from_millis(10));
        }
        if self.in_flight() > 0 {
            tracing::error!(commands = self.in_flight(), "a backing did not come to an end before a reset");
        }
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

/// Starts a flush.
pub(crate) fn flush(queue: &mut dyn BackingQueue, token: u64) -> Started {
    let io = Io { token, operation: Operation::Flush, offset: 0, length: 0 };
    queue.start(&io, &mut Memory::new(&mut View::new(), &Runs::default()))
}

/// What was moved since it was last counted.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Moved {
    pub(crate) reads: u64,
    pub(crate) bytes_read: u64,
    pub(crate) writes: u64,
    pub(crate) bytes_written: u64,
}

impl Moved {
    #[inline]
    fn bytes(&self) -> u64 {
        self.bytes_read + self.bytes_written
    }
}
