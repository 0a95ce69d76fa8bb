//! A submission queue and its completion queue: the loops that every command goes through.
//!
//! Everything a controller does to this memory is possible: an entry of the completion queue is believed only where
//! it names a command that is out, by the number that it has this time.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use engine_dma::{Region, to_u64, to_usize};
use engine_transport::{Transport, TransportError};
use nvme_spec::Status;

use crate::DriverError;
use crate::data::{Limits, Lists, Pointer, Run, Unfit, list_bytes};
use crate::doorbell::{Doorbell, Shadow};
use crate::memory::Shared;

/// Bytes of a submission queue entry and of a completion queue entry (NVMe Base Specification 2.1, sections 4.1, 4.2).
const SQE: usize = 64;
const CQE: usize = 16;

/// The phase tag in the second half of a completion queue entry, as a 64-bit word.
const PHASE: u32 = 48;

/// Completions are told to the controller when there are this many, or nothing else to do.
const ACKNOWLEDGE: usize = 10;

/// What no completion queue entry can look like: nothing is out.
const NOTHING: u64 = u64::MAX;

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

/// A command that is out, or the place for one.
#[derive(Debug, Clone, Copy)]
struct Slot {
    token: u64,
    /// Submission queue and command identifier as the completion must have them, or [`NOTHING`].
    expected: u64,
    /// The tick at which it was submitted.
    since: u32,
    /// The identifier that its next command has: the place, and above it a number that changes each time.
    cid: u16,
}

/// The shape of a queue pair.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Its number; 0 is the admin queue.
    pub(crate) queue: u16,
    /// Commands that can be out.
    pub(crate) slots: u32,
    /// Entries of each queue; more than `slots`.
    pub(crate) entries: u32,
    /// CAP.DSTRD.
    pub(crate) stride: u8,
    pub(crate) limits: Limits,
}

/// One queue pair in memory. It belongs to one thread at a time.
#[derive(Debug)]
pub(crate) struct Ring {
    shape: Shape,
    memory: Shared,
    /// The same memory, one step closer.
    region: Arc<Region>,
    submission: usize,
    completion: usize,
    entries: usize,
    /// The next entry to write, and as far as the controller was told.
    tail: usize,
    rung: usize,
    /// The next entry to read, the phase it has when it is new, and how many were read that the controller was not
    /// told of.
    head: usize,
    phase: u64,
    unacknowledged: usize,
    acknowledge: usize,
    index: u64,
    slots: Box<[Slot]>,
    free: Box<[u16]>,
    free_count: usize,
    lists: Lists,
    submission_bell: Doorbell,
    completion_bell: Doorbell,
    tick: u32,
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
        let entries = to_usize(shape.entries.into());
        let slots = to_usize(shape.slots.min(MOST_SLOTS).into());
        let submission = (entries * CQE).next_multiple_of(page);
        let lists = (submission + entries * SQE).next_multiple_of(page);
        let length = lists + slots * list_bytes(&shape.limits);
        let memory = Shared::new(&**transport, length, page)?;
        let [for_submission, for_completion] = match shadows {
            Some([submission, completion]) => [Some(submission), Some(completion)],
            None => [None, None],
        };
        let bell = |completion, shadow| {
            Doorbell::new(transport, doorbells, shape.stride, shape.queue, completion, shadow)
        };
        // One place more than there are commands, so that no identifier is all ones: that one is reserved.
        let index = to_u64((slots + 1).next_power_of_two()) - 1;
        let numbered = |place: usize| u16::try_from(place).unwrap_or(0);
        let slot = |place| Slot { token: 0, expected: NOTHING, since: 0, cid: numbered(place) };
        Ok(Self {
            shape,
            region: Arc::clone(memory.region()),
            submission: memory.place(submission),
            completion: memory.place(0),
            entries,
            tail: 0,
            rung: 0,
            head: 0,
            phase: 1,
            unacknowledged: 0,
            // A queue that has just room for what is out must be told of each at once.
            acknowledge: ACKNOWLEDGE.min(entries.saturating_sub(slots)).max(1),
            index,
            slots: (0..slots).map(slot).collect(),
            free: (0..slots).rev().map(numbered).collect(),
            free_count: slots,
            lists: Lists::new(lists, slots, shape.limits),
            submission_bell: bell(false, for_submission),
            completion_bell: bell(true, for_completion),
            tick: 0,
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
        self.memory.iova(self.submission - self.memory.place(0))
    }

    /// Bus address of the completion queue.
    pub(crate) fn completion_iova(&self) -> u64 {
        self.memory.iova(0)
    }

    /// Commands that are out.
    #[inline]
    pub(crate) fn out(&self) -> usize {
        self.slots.len() - self.free_count
    }

    /// Commands that can be out.
    pub(crate) fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// Puts a command into the queue. `words` is the entry but for its identifier and data pointer.
    #[inline]
    pub(crate) fn push(&mut self, token: u64, words: [u64; 8], run: Option<Run>) -> Result<(), Refused> {
        let Some(place) = self.next() else { return Err(Refused::Full) };
        let pointer = match run {
            Some(run) => self.lists.describe(&self.memory, place, run)?,
            None => Pointer::NONE,
        };
        self.store(token, pointed(words, pointer), place)
    }

    /// Puts a command into the queue that says itself where its data is.
    pub(crate) fn push_entry(&mut self, token: u64, words: [u64; 8]) -> Result<(), Refused> {
        let Some(place) = self.next() else { return Err(Refused::Full) };
        self.store(token, words, place)
    }

    /// As [`push`](Self::push), with memory in several runs.
    pub(crate) fn push_scattered(
        &mut self,
        token: u64,
        words: [u64; 8],
        runs: &[Run],
    ) -> Result<(), Refused> {
        let Some(place) = self.next() else { return Err(Refused::Full) };
        let pointer = self.lists.describe_all(&self.memory, place, runs)?;
        self.store(token, pointed(words, pointer), place)
    }

    /// The place that the next command gets.
    #[inline]
    fn next(&self) -> Option<usize> {
        let top = self.free_count.checked_sub(1)?;
        self.free.get(top).map(|&place| usize::from(place))
    }

    #[inline]
    fn store(&mut self, token: u64, words: [u64; 8], place: usize) -> Result<(), Refused> {
        let Some(slot) = self.slots.get_mut(place) else { return Err(Refused::Full) };
        let cid = u64::from(slot.cid);
        slot.token = token;
        slot.since = self.tick;
        slot.expected = cid << 16 | u64::from(self.shape.queue);
        let [first, rest @ ..] = words;
        let [second, metadata, low, high, sixth, seventh, eighth] = rest;
        let entry = [first | cid << 16, second, metadata, low, high, sixth, seventh, eighth];
        let Some(target) = self.region.u64s_at(self.submission + self.tail * SQE, SQE / 8) else {
            return Err(Refused::Full);
        };
        for (word, value) in target.iter().zip(entry) {
            // Plain stores: the doorbell that follows is what lets the controller look.
            word.store(value.to_le(), Ordering::Relaxed);
        }
        self.free_count -= 1;
        self.tail += 1;
        if self.tail == self.entries {
            self.tail = 0;
        }
        Ok(())
    }

    /// Lets the controller see what was put into the queue.
    #[inline]
    pub(crate) fn ring(&mut self) -> Result<(), TransportError> {
        if self.tail == self.rung {
            return Ok(());
        }
        self.rung = self.tail;
        self.submission_bell.ring(low32(to_u64(self.tail)))
    }

    /// Takes at most `max` completions. Where the controller does what it must not, that is kept for
    /// [`take_fault`](Self::take_fault); such an entry ends no command.
    #[inline]
    pub(crate) fn reap(&mut self, max: usize, mut each: impl FnMut(Completed)) -> usize {
        let Some(words) = self.region.u64s_at(self.completion, self.entries * 2) else { return 0 };
        let (mut seen, mut ended) = (0, 0);
        while seen < max {
            let Some(word) = words.get(self.head * 2 + 1) else { break };
            // Acquire: what the controller wrote before (the data, the first half) is there.
            let word = u64::from_le(word.load(Ordering::Acquire));
            if (word >> PHASE) & 1 != self.phase {
                break;
            }
            let first = words.get(self.head * 2).map_or(0, |word| u64::from_le(word.load(Ordering::Relaxed)));
            seen += 1;
            self.head += 1;
            if self.head == self.entries {
                self.head = 0;
                self.phase ^= 1;
            }
            let place = (word >> 32) & self.index;
            let slot = self.slots.get_mut(to_usize(place));
            let slot = slot.filter(|slot| slot.expected == u64::from(low32(word >> 16)));
            let within = to_usize(word & 0xffff) < self.entries;
            let (Some(slot), true) = (slot, within) else {
                self.faults = self.faults.saturating_add(1);
                self.fault = Some(Fault { entry: word, count: self.faults });
                continue;
            };
            slot.expected = NOTHING;
            slot.cid = slot.cid.wrapping_add(low16(self.index + 1));
            let token = slot.token;
            if let Some(free) = self.free.get_mut(self.free_count) {
                *free = low16(place);
                self.free_count += 1;
            }
            ended += 1;
            let status = Status(low16(word >> (PHASE + 1)));
            each(Completed { token, status, dw0: low32(first), held: false });
        }
        self.unacknowledged += seen;
        ended
    }

    /// Tells the controller how far completions were taken, where enough of them were or `all` is said.
    #[inline]
    pub(crate) fn acknowledge(&mut self, all: bool) -> Result<(), TransportError> {
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

    /// The clock by which commands are late.
    pub(crate) fn set_tick(&mut self, tick: u32) {
        self.tick = tick;
    }

    /// The identifiers of commands that were submitted before `tick`.
    pub(crate) fn older_than(&self, tick: u32) -> impl Iterator<Item = u16> {
        let late = move |slot: &&Slot| slot.expected != NOTHING && slot.since < tick;
        self.slots.iter().filter(late).map(|slot| slot.cid)
    }

    /// Takes back every command that is out, and makes the queue as new. For when the controller does not know the
    /// queue any more; where it may still write to it, [give it up](Self::give_up) instead.
    pub(crate) fn restart(&mut self, lost: &mut Vec<u64>) {
        self.take_back(lost);
        self.memory.clear(0, self.submission - self.completion + self.entries * SQE);
        (self.tail, self.rung, self.head, self.phase, self.unacknowledged) = (0, 0, 0, 1, 0);
        self.submission_bell.restart();
        self.completion_bell.restart();
        self.fault = None;
    }

    /// Takes back every command that is out.
    pub(crate) fn take_back(&mut self, lost: &mut Vec<u64>) {
        for (place, slot) in self.slots.iter_mut().enumerate() {
            if slot.expected != NOTHING {
                slot.expected = NOTHING;
                slot.cid = slot.cid.wrapping_add(low16(self.index + 1));
                lost.push(slot.token);
                if let (Some(free), Ok(place)) = (self.free.get_mut(self.free_count), u16::try_from(place)) {
                    *free = place;
                    self.free_count += 1;
                }
            }
        }
    }

    /// Never lets anybody use the memory again.
    pub(crate) fn give_up(&mut self) {
        self.memory.give_up();
    }
}

/// An entry with its data pointer.
#[inline]
fn pointed(words: [u64; 8], pointer: Pointer) -> [u64; 8] {
    let [first, second, metadata, _, _, sixth, seventh, eighth] = words;
    let [low, high] = pointer.words;
    [first | pointer.flags, second, metadata, low, high, sixth, seventh, eighth]
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
    let [a, b, c, d, ..] = word.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// The low quarter.
#[inline]
pub(crate) fn low16(word: u64) -> u16 {
    let [a, b, ..] = word.to_le_bytes();
    u16::from_le_bytes([a, b])
}
