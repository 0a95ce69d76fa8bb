//! A submission queue and its completion queue: the loops that every command goes through.
//!
//! Everything a controller does to this memory is possible: an entry of the completion queue is believed only where
//! it names a command that is out, by the number that it has this time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use engine_dma::{Region, Words, read_soon, to_u64, to_usize, write_soon};
use engine_nvme_spec::Status;
use engine_transport::Transport;

use crate::DriverError;
use crate::data::{Limits, Lists, Pointer, Run, Unfit, list_bytes};
use crate::doorbell::{Doorbell, Failure, Shadow};
use crate::memory::Shared;

/// Bytes of a submission queue entry and of a completion queue entry (NVMe Base Specification 2.1, sections 4.1, 4.2).
const SQE: usize = 64;
const CQE: usize = 16;

/// The phase tag in the second half of a completion queue entry, as a 64-bit word, and where the status starts.
const PHASE: u64 = 1 << 48;
const STATUS: u32 = 49;

/// Completions are told to the controller when there are this many, or nothing else to do. The word that this writes
/// lies beside the one that a software controller looks at all the time.
const ACKNOWLEDGE: usize = 64;

/// Words in a cache line, and lines of completions that are asked for at once.
const LINE: usize = 64 / 8;
const LINES: usize = 3;

/// Lines of a submission queue that are asked for at once.
const MOST_LINES: usize = 16;

/// No place.
const NONE: u32 = u32::MAX;
/// No tick: the clock was not read since the command was submitted.
const UNSEEN: u32 = u32::MAX;

/// Most commands that a queue can have out: the other bits of a command's number tell its uses apart.
pub(crate) const MOST_SLOTS: u32 = 2047;

/// A command that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completed {
    /// The caller's own number.
    pub token: u64,
    /// What came of it.
    pub status: Status,
    /// Dword 0 of the completion: what a few commands answer.
    pub dw0: u32,
    /// Whether the controller may still use the command's memory: it is gone, and did not say that it stopped. That
    /// memory must never be used again.
    pub held: bool,
}

/// What a controller did that none may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The second half of the completion queue entry.
    pub(crate) entry: u64,
    /// How many there were on this queue, with this one.
    pub(crate) count: u32,
}

impl Fault {
    /// Keeps it, and counts it.
    #[cold]
    fn note(last: &mut Option<Self>, count: &mut u32, entry: u64) {
        *count = count.wrapping_add(1);
        *last = Some(Self { entry, count: *count });
    }
}

/// A command of the NVM command set, but for its identifier and data pointer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Command {
    /// Opcode and namespace: the first word of the entry.
    pub(crate) first: u64,
    /// Command dwords 10 and 11.
    pub(crate) ten: u64,
    /// Command dwords 12 and 13.
    pub(crate) twelve: u64,
}

/// A command that is out, or the place for one.
#[derive(Debug, Clone, Copy)]
struct Slot {
    token: u64,
    /// What the second half of its completion is under [`Ring::known`]: the submission queue and the command
    /// identifier, which is the place and above it a number that grows with every command. With [`FREE`], which no
    /// completion has there, the place is free.
    answer: u64,
    /// The tick at which the command was first [seen](Ring::see) to be out; or the next place that is free.
    since: u32,
}

/// A bit that is not looked at in completions.
const FREE: u64 = 1;

/// The shape of a queue pair.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Its number; 0 is the admin queue.
    pub(crate) queue: u16,
    /// Commands that can be out.
    pub(crate) slots: u32,
    /// Entries of the submission queue: more than `slots`, so that there is room for whatever has a place.
    pub(crate) submissions: u32,
    /// Entries of the completion queue: more than `slots`. With some to spare, the controller need not be told of each
    /// completion that was taken.
    pub(crate) completions: u32,
    /// CAP.DSTRD.
    pub(crate) stride: u8,
    pub(crate) limits: Limits,
}

/// One queue pair in memory. It belongs to one thread at a time.
#[derive(Debug)]
pub(crate) struct Ring {
    shape: Shape,
    memory: Shared,
    submission: Words,
    completion: Words,
    submission_offset: usize,
    submissions: usize,
    completions: usize,
    /// The next entry to write, and as far as the controller was told.
    tail: usize,
    rung: usize,
    /// The next entry to read, the phase it has when it is new, and how many were read that the controller was not
    /// told of.
    head: usize,
    phase: u64,
    unacknowledged: usize,
    acknowledge: usize,
    /// The bits of an identifier that are the place, and the lowest one above them, as a slot's answer has it.
    index: u64,
    step: u64,
    /// The bits of a completion's second half that must be as the slot's answer: identifier, queue, and of the
    /// submission queue's head those that no place in it has.
    known: u64,
    slots: Box<[Slot]>,
    /// The place that the next command gets.
    free: u32,
    out: usize,
    lists: Lists,
    submission_bell: Doorbell,
    completion_bell: Doorbell,
    faults: u32,
    fault: Option<Fault>,
}

impl Ring {
    /// Memory for a queue pair, which the controller was not told of.
    ///
    /// # Errors
    /// Where there is no memory.
    pub(crate) fn new(
        transport: &Arc<dyn Transport>,
        doorbells: Option<&Arc<Region>>,
        shape: Shape,
        shadows: Option<[Shadow; 2]>,
    ) -> Result<Self, DriverError> {
        let page = 1_usize << shape.limits.page_shift;
        let submissions = to_usize(shape.submissions.into());
        let completions = to_usize(shape.completions.into());
        let slots = to_usize(shape.slots.min(MOST_SLOTS).into());
        let submission = (completions * CQE).next_multiple_of(page);
        let lists = (submission + submissions * SQE).next_multiple_of(page);
        let length = lists + slots * list_bytes(&shape.limits);
        let memory = Shared::new(&**transport, length, page)?;
        let words = |offset, length| {
            let words = Words::new(Arc::clone(memory.region()), memory.place(offset), length / 8);
            words.ok_or_else(|| DriverError::Memory {
                device: transport.name().to_owned(),
                reason: "it cannot be written".to_owned(),
            })
        };
        let [for_submission, for_completion] = match shadows {
            Some([submission, completion]) => [Some(submission), Some(completion)],
            None => [None, None],
        };
        let bell = |completion, shadow| {
            Doorbell::new(transport, doorbells, shape.stride, shape.queue, completion, shadow)
        };
        // One place more than there are commands, so that no identifier is all ones: that one is reserved.
        let index = to_u64((slots + 1).next_power_of_two()) - 1;
        let queue = u64::from(shape.queue) << 16;
        let slot =
            |place: u32| Slot { token: 0, answer: u64::from(place) << 32 | queue | FREE, since: place + 1 };
        let beyond = !(to_u64(submissions.next_power_of_two()) - 1) & 0xffff;
        let mut places: Box<[Slot]> = (0..low32(to_u64(slots))).map(slot).collect();
        if let Some(last) = places.last_mut() {
            last.since = NONE;
        }
        Ok(Self {
            shape,
            submission: words(submission, submissions * SQE)?,
            completion: words(0, completions * CQE)?,
            submission_offset: submission,
            submissions,
            completions,
            tail: 0,
            rung: 0,
            head: 0,
            phase: PHASE,
            unacknowledged: 0,
            // A queue that has just room for what is out must be told of each at once.
            acknowledge: ACKNOWLEDGE.min(completions.saturating_sub(slots + 1)).max(1),
            index,
            step: (index + 1) << 32,
            known: 0xffff_ffff_0000 | beyond,
            slots: places,
            free: 0,
            out: 0,
            lists: Lists::new(lists, slots, shape.limits),
            submission_bell: bell(false, for_submission),
            completion_bell: bell(true, for_completion),
            faults: 0,
            fault: None,
            memory,
        })
    }

    pub(crate) fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Bus address of the submission queue.
    pub(crate) fn submission_iova(&self) -> u64 {
        self.memory.iova(self.submission_offset)
    }

    /// Bus address of the completion queue.
    pub(crate) fn completion_iova(&self) -> u64 {
        self.memory.iova(0)
    }

    /// Commands that are out.
    #[inline]
    pub(crate) fn out(&self) -> usize {
        self.out
    }

    /// Commands that can be out.
    pub(crate) fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// Puts a command of the NVM command set into the queue, which has nothing but those.
    #[inline]
    pub(crate) fn push(&mut self, token: u64, command: Command, run: Option<Run>) -> Result<(), Refused> {
        let pointer = match run {
            Some(run) => self.lists.describe(&self.memory, self.free, run)?,
            None => Pointer::NONE,
        };
        self.store(token, command, pointer)
    }

    /// As [`push`](Self::push), with memory in several runs.
    pub(crate) fn push_scattered(
        &mut self,
        token: u64,
        command: Command,
        runs: &[Run],
    ) -> Result<(), Refused> {
        if self.free == NONE {
            return Err(Refused::Full);
        }
        let pointer = self.lists.describe_all(&self.memory, self.free, runs)?;
        self.store(token, command, pointer)
    }

    #[inline]
    fn store(&mut self, token: u64, command: Command, pointer: Pointer) -> Result<(), Refused> {
        let Some((entry, cid)) = self.claim(token) else { return Err(Refused::Full) };
        let [low, high] = pointer.words;
        let [opcode, _, _, prp1, prp2, ten, twelve, _] = entry;
        // Plain stores: the doorbell that follows is what lets the controller look. The words that no command here has
        // are zero since the queue was made.
        opcode.store((command.first | pointer.flags | cid).to_le(), Ordering::Relaxed);
        prp1.store(low.to_le(), Ordering::Relaxed);
        prp2.store(high.to_le(), Ordering::Relaxed);
        ten.store(command.ten.to_le(), Ordering::Relaxed);
        twelve.store(command.twelve.to_le(), Ordering::Relaxed);
        Ok(())
    }

    /// Puts any command into the queue, which says itself where its data is.
    pub(crate) fn push_entry(&mut self, token: u64, words: [u64; 8]) -> Result<(), Refused> {
        let Some((entry, cid)) = self.claim(token) else { return Err(Refused::Full) };
        let [first, rest @ ..] = words;
        let words = [first | cid].into_iter().chain(rest);
        for (place, word) in entry.iter().zip(words) {
            place.store(word.to_le(), Ordering::Relaxed);
        }
        Ok(())
    }

    /// Gives the next free place to a command: where its entry goes, and its identifier as the first word has it.
    #[inline]
    fn claim(&mut self, token: u64) -> Option<(&[AtomicU64; SQE / 8], u64)> {
        let (places, _) = self.submission.as_chunks::<{ SQE / 8 }>();
        let entry = places.get(self.tail)?;
        // There is no place of the number that says that none is free.
        let slot = self.slots.get_mut(to_usize(self.free.into()))?;
        self.free = slot.since;
        self.out += 1;
        slot.token = token;
        // What the clock said last may be long ago, and reading it takes longer than all the rest.
        slot.since = UNSEEN;
        slot.answer = slot.answer.wrapping_add(self.step) & self.known;
        self.tail = if self.tail + 1 == self.submissions { 0 } else { self.tail + 1 };
        Some((entry, slot.answer >> 16 & 0xffff_0000))
    }

    /// Lets the controller see what was put into the queue.
    #[inline]
    pub(crate) fn ring(&mut self) -> Result<(), Failure> {
        if self.tail == self.rung {
            return Ok(());
        }
        let batch = self.tail.checked_sub(self.rung).unwrap_or(self.tail);
        self.rung = self.tail;
        // As many lines again come from the controller's core while this batch's completions are taken.
        let (places, _) = self.submission.as_chunks::<{ SQE / 8 }>();
        for [word, ..] in places.get(self.tail..self.tail + batch.min(MOST_LINES)).unwrap_or_default() {
            write_soon(word);
        }
        self.submission_bell.ring(low32(to_u64(self.tail)))
    }

    /// Takes at most `max` completions; `each` must not panic. Where the controller does what it must not, that is kept for
    /// [`take_fault`](Self::take_fault); such an entry ends no command.
    #[inline]
    pub(crate) fn reap(&mut self, max: usize, mut each: impl FnMut(Completed)) -> usize {
        let before = self.faults;
        let mut seen = self.reap_straight(max, &mut each);
        while self.head == self.completions {
            (self.head, self.phase) = (0, self.phase ^ PHASE);
            seen += self.reap_straight(max - seen, &mut each);
        }
        self.unacknowledged += seen;
        let ended = seen - to_usize(self.faults.wrapping_sub(before).into());
        self.out -= ended;
        ended
    }

    /// As [`reap`](Self::reap), as far as the end of the queue; counts entries that end no command too.
    #[inline]
    fn reap_straight(&mut self, max: usize, each: &mut impl FnMut(Completed)) -> usize {
        let (places, _) = self.completion.as_chunks::<{ CQE / 8 }>();
        let (slots, index, known, phase) = (&mut *self.slots, self.index, self.known, self.phase);
        let (mut free, mut seen) = (self.free, 0);
        let end = self.completions.min(self.head.saturating_add(max));
        for [first, word] in places.get(self.head..end).unwrap_or_default() {
            // Acquire: what the controller wrote before (the data, the first half) is there.
            let word = u64::from_le(word.load(Ordering::Acquire));
            if (word ^ phase) & PHASE != 0 {
                break;
            }
            seen += 1;
            let place = (word >> 32) & index;
            let slot = slots.get_mut(to_usize(place)).filter(|slot| slot.answer == word & known);
            let Some(slot) = slot else {
                Fault::note(&mut self.fault, &mut self.faults, word);
                continue;
            };
            slot.answer |= FREE;
            slot.since = free;
            free = low32(place);
            let status = Status(low16(word >> STATUS));
            let dw0 = low32(u64::from_le(first.load(Ordering::Relaxed)));
            each(Completed { token: slot.token, status, dw0, held: false });
        }
        self.free = free;
        self.head += seen;
        seen
    }

    /// Whether there is an entry to be taken.
    #[inline]
    pub(crate) fn is_ready(&self) -> bool {
        let word = self.completion.get(self.head * (CQE / 8) + 1);
        word.is_some_and(|word| (u64::from_le(word.load(Ordering::Relaxed)) ^ self.phase) & PHASE == 0)
    }

    /// Tells the controller how far completions were taken, where enough of them were or `all` is said.
    #[inline]
    pub(crate) fn acknowledge(&mut self, all: bool) -> Result<(), Failure> {
        // The next completions come from the controller's core while the places of these are used again.
        for word in self.completion.iter().skip(self.head * (CQE / 8)).step_by(LINE).take(LINES) {
            read_soon(word);
        }
        if self.unacknowledged >= if all { 1 } else { self.acknowledge } {
            self.unacknowledged = 0;
            return self.completion_bell.ring(low32(to_u64(self.head)));
        }
        Ok(())
    }

    /// Whether it did something that none may do.
    #[inline]
    pub(crate) fn has_fault(&self) -> bool {
        self.fault.is_some()
    }

    /// What the controller did last that none may do.
    pub(crate) fn take_fault(&mut self) -> Option<Fault> {
        self.fault.take()
    }

    /// Counts the time of the commands that are out and were not counted yet from `tick` on.
    pub(crate) fn see(&mut self, tick: u32) {
        let unseen = |slot: &&mut Slot| slot.answer & FREE == 0 && slot.since == UNSEEN;
        self.slots.iter_mut().filter(unseen).for_each(|slot| slot.since = tick);
    }

    /// The identifiers of commands that were seen before `tick`.
    pub(crate) fn older_than(&self, tick: u32) -> impl Iterator<Item = u16> {
        let late = move |slot: &&Slot| slot.answer & FREE == 0 && slot.since < tick;
        self.slots.iter().filter(late).map(|slot| low16(slot.answer >> 32))
    }

    /// Takes back every command that is out, and makes the queue as new. For when the controller does not know the
    /// queue any more; where it may still write to it, [give it up](Self::give_up) instead.
    pub(crate) fn restart(&mut self, lost: &mut Vec<u64>) {
        self.take_back(lost);
        self.memory.clear(0, self.submission_offset + self.submissions * SQE);
        (self.tail, self.rung, self.head, self.phase, self.unacknowledged) = (0, 0, 0, PHASE, 0);
        self.submission_bell.restart();
        self.completion_bell.restart();
        self.fault = None;
    }

    /// Takes back every command that is out.
    pub(crate) fn take_back(&mut self, lost: &mut Vec<u64>) {
        for (place, slot) in (0..).zip(&mut self.slots) {
            if slot.answer & FREE == 0 {
                slot.answer |= FREE;
                slot.since = self.free;
                self.free = place;
                lost.push(slot.token);
            }
        }
        self.out = 0;
    }

    /// Takes no command any more.
    pub(crate) fn close(&mut self) {
        self.free = NONE;
    }

    /// Never lets anybody use the memory again.
    pub(crate) fn give_up(&mut self) {
        self.memory.give_up();
    }
}

/// Why a command was not put into the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Every place is taken.
    #[error("as many commands are out as the queue has places for")]
    Full,
    /// The memory cannot be given to the controller.
    #[error(transparent)]
    Memory(#[from] Unfit),
    /// The controller is gone.
    #[error("the controller is gone")]
    Closed,
}

/// The low half.
#[inline]
pub(crate) fn low32(word: u64) -> u32 {
    u32::try_from(word & 0xffff_ffff).unwrap_or(0)
}

/// The low quarter.
#[inline]
pub(crate) fn low16(word: u64) -> u16 {
    u16::try_from(word & 0xffff).unwrap_or(0)
}

#[cfg(test)]
mod tests;
