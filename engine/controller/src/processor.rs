//! Carries out the commands of some queues: the hot path.
//!
//! A processor owns its queues; nothing here takes a lock, allocates or reads the clock for a command that its backing
//! carries out at once.

mod answering;
mod counting;
mod namespaces;
mod queues;

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine_block::Operation;
use engine_dma::{Region, View, to_usize};
use engine_nvme_spec::{Event, NvmOpcode, Sqe, Status};

use crate::ControllerOptions;
use crate::backing::{BackingQueue, Commons, Io, Memory, Started};
use crate::commands::Done;
use crate::controller::Shared;
use crate::data::Runs;
use crate::faults::Effect;
use crate::queue::{CompletionQueue, Entry, SubmissionQueue};
use crate::subsystem::{CountersOfOne, Namespace, NamespaceView};
use crate::tally::{Batch, Late, Tally};

/// Most commands of one queue that are fetched before others have their turn.
const BURST_MOST: u32 = 64;

/// For how many bytes that were copied while a command was started it counts as one more, where rounds are bounded.
const BYTES_AS_COMMAND: u64 = 32 << 10;

/// Entries of a queue that are asked for ahead of their use; the later half of them again and again.
const AHEAD: u32 = 16;

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
    /// Whether a backing did not end what it does to it.
    pub(crate) busy: bool,
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
    pub(crate) step_limit: Duration,
    /// Most commands that are fetched in a round, of all queues together.
    pub(crate) round_most: u32,
    /// Whether only the thread that works on it may take what backings have done: some belong to the thread that they
    /// were first used on, and give up what is in flight where they find themselves on another.
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
    pub(crate) fn new(counters: CountersOfOne, options: &ControllerOptions, stays_on_thread: bool) -> Self {
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
            depth: options.depth,
            step_limit: options.step_limit,
            round_most: u32::MAX,
            stays_on_thread,
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
            expect_entries(queue, completions, 0);
        }
        let (mut left, mut fetched) = (budget, 0_u32);
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
            fetched += 1;
            if fetched.is_multiple_of(AHEAD / 2)
                && let Some(completions) = self.completion_queues.get(completion_place)
            {
                expect_entries(queue, completions, AHEAD / 2);
            }
            let next = if left > 1 { queue.glance() } else { None };
            let next = next.filter(|(opcode, ..)| *opcode == NvmOpcode::READ.0);
            let expected = next.and_then(|(_, nsid, slba, blocks)| self.expect(nsid, slba, blocks));
            left -= 1;
            worked = true;
            if armed {
                self.effect = shared.faults().and_then(|faults| faults.effect(sq_id == 0, &sqe));
            }
            let done = match self.effect {
                Some(Effect::Fail(status)) => Done::Now(status, 0),
                _ => start(self, sq_id, &sqe),
            };
            if let Some(Some(served)) = expected.and_then(|place| self.served.get_mut(place)) {
                served.queue.expect_rest();
            }
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

    /// Lets the backing know of a read that will come next; the backing's place, where that was the one before too.
    #[inline]
    fn expect(&mut self, nsid: u32, slba: u64, blocks: u64) -> Option<usize> {
        if nsid != self.current {
            return None;
        }
        let place = to_usize(u64::from(nsid)).wrapping_sub(1);
        let served = self.served.get_mut(place)?.as_mut()?;
        let (offset, length) = served.namespace.range(slba, blocks).ok()?;
        served.queue.expect(offset, length);
        Some(place)
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
}

/// Asks for the lines of the entries that come next and of those that answer them, [`AHEAD`] of each but for the first
/// `skip`.
#[inline]
fn expect_entries(queue: &SubmissionQueue, completions: &CompletionQueue, skip: u32) {
    let count = (AHEAD - skip).min(queue.waiting().saturating_sub(skip));
    queue.expect(skip, count);
    completions.expect(skip, count);
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
