//! Queue pairs: where they lie, and how a thread of this process uses one.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use homi_abi::session::{LINE, Queues, QueuesRequest};

use crate::memory::Shared;
use crate::prp::Naming;
use crate::session::Inner;
use crate::{ClientError, NvmeStatus, OpenFile};

const SUBMISSION: usize = 64;
const COMPLETION: usize = 16;

/// Where the parts of a set of queue pairs lie, in bytes: for those who hand them to an accelerator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueuePlaces {
    /// How many pairs there are.
    pub count: u32,
    /// Entries of each queue, a power of two.
    pub entries: u32,
    /// From one pair to the next.
    pub stride: usize,
    /// The submission queue, from the start of its pair.
    pub submissions: usize,
    /// The completion queue.
    pub completions: usize,
    /// All of the queues' memory.
    pub length: usize,
    /// In the doorbells' memory: from one pair to the next.
    pub doorbell_stride: usize,
    /// The tail doorbell of the first pair.
    pub tail_doorbell: usize,
    /// The head doorbell of the first pair.
    pub head_doorbell: usize,
    /// All of the doorbells' memory.
    pub doorbells_length: usize,
}

impl QueuePlaces {
    /// Takes the daemon's word for it only where it makes sense.
    pub(crate) fn checked(queues: &Queues, asked: &QueuesRequest) -> Result<Self, ClientError> {
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let (count, entries) = (queues.count.get(), queues.entries.get());
        let places = Self {
            count,
            entries,
            stride: size(queues.stride.get()),
            submissions: size(queues.submissions.get()),
            completions: size(queues.completions.get()),
            length: size(queues.length.get()),
            doorbell_stride: size(queues.doorbell_stride.get()),
            tail_doorbell: size(queues.tail_doorbell.get()),
            head_doorbell: size(queues.head_doorbell.get()),
            doorbells_length: size(queues.doorbells_length.get()),
        };
        let line = size(LINE.into());
        let all = size(entries.into());
        let (sq, cq) = (all.saturating_mul(SUBMISSION), all.saturating_mul(COMPLETION));
        let apart = |one: usize, length: usize, other: usize, long: usize| {
            one.saturating_add(length) <= other || other.saturating_add(long) <= one
        };
        let within = |start: usize, length: usize| {
            start.is_multiple_of(line) && start.checked_add(length).is_some_and(|end| end <= places.stride)
        };
        let pairs = size(count.into());
        let rung = |doorbell: usize| {
            let last = pairs.saturating_sub(1).checked_mul(places.doorbell_stride);
            let end = last.and_then(|last| last.checked_add(doorbell)?.checked_add(4));
            doorbell.is_multiple_of(line) && end.is_some_and(|end| end <= places.doorbells_length)
        };
        let fits = count == asked.count.get()
            && count > 0
            && entries == asked.entries.get()
            && entries.is_power_of_two()
            && places.stride.is_multiple_of(line)
            && places.doorbell_stride.is_multiple_of(line)
            && pairs.checked_mul(places.stride).is_some_and(|end| end <= places.length)
            && within(places.submissions, sq)
            && within(places.completions, cq)
            && apart(places.submissions, sq, places.completions, cq)
            && rung(places.tail_doorbell)
            && rung(places.head_doorbell)
            && apart(places.tail_doorbell, line, places.head_doorbell, line)
            && (pairs == 1 || places.doorbell_stride >= line.saturating_mul(2));
        if fits {
            Ok(places)
        } else {
            Err(ClientError::Protocol(format!("queues that cannot be: {places:?}")))
        }
    }
}

/// Queue pairs that the daemon gave. Each is for one user at a time: a thread through [`pair`](Self::pair), or an
/// accelerator to which the memory was shown.
#[derive(Debug)]
pub struct QueueSet {
    session: Arc<Inner>,
    memory: Arc<Shared>,
    doorbells: Arc<Shared>,
    places: QueuePlaces,
    taken: Vec<bool>,
}

impl QueueSet {
    pub(crate) fn new(
        session: Arc<Inner>,
        memory: Arc<Shared>,
        doorbells: Arc<Shared>,
        places: QueuePlaces,
    ) -> Self {
        let taken = (0..places.count).map(|_| false).collect();
        Self { session, memory, doorbells, places, taken }
    }

    /// The memory that they lie in.
    #[must_use]
    pub fn memory(&self) -> &Arc<Shared> {
        &self.memory
    }

    /// The memory that their doorbells lie in.
    #[must_use]
    pub fn doorbells(&self) -> &Arc<Shared> {
        &self.doorbells
    }

    /// Where they lie.
    #[must_use]
    pub fn places(&self) -> QueuePlaces {
        self.places
    }

    /// Pair number `number`, for a thread of this process; each can be taken once.
    pub fn pair(&mut self, number: u32) -> Option<QueuePair> {
        let index = usize::try_from(number).ok()?;
        let taken = self.taken.get_mut(index).filter(|taken| !**taken)?;
        *taken = true;
        let (memory, doorbells) = (Arc::clone(&self.memory), Arc::clone(&self.doorbells));
        Some(QueuePair::new(Arc::clone(&self.session), memory, doorbells, self.places, index))
    }
}

/// What a command does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Makes durable what was written.
    Flush,
    /// Writes blocks of a file that was opened to be written.
    Write,
    /// Reads blocks.
    Read,
}

/// A command on blocks of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Command {
    /// The namespace.
    pub nsid: u32,
    /// The first block.
    pub block: u64,
    /// How many, from 1 on.
    pub blocks: u32,
    /// Where the data goes, or comes from.
    pub iova: u64,
    /// Bytes of the data.
    pub length: u32,
}

/// A command that was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    /// What [`QueuePair::read`] answered.
    pub place: u16,
    /// What came of it.
    pub status: NvmeStatus,
}

/// A queue pair in the hands of one thread.
///
/// A command's identifier is the place of its entry in the submission queue, which is used again only when the command
/// was answered.
#[derive(Debug)]
pub struct QueuePair {
    session: Arc<Inner>,
    memory: Arc<Shared>,
    doorbells: Arc<Shared>,
    places: QueuePlaces,
    naming: Naming,
    base: usize,
    tail_doorbell: usize,
    head_doorbell: usize,
    in_flight: Vec<bool>,
    count: u32,
    tail: u32,
    rung: u32,
    head: u32,
    head_told: u32,
    strays: u64,
}

impl QueuePair {
    fn new(
        session: Arc<Inner>,
        memory: Arc<Shared>,
        doorbells: Arc<Shared>,
        places: QueuePlaces,
        number: usize,
    ) -> Self {
        Self {
            session,
            memory,
            doorbells,
            base: number * places.stride,
            tail_doorbell: places.tail_doorbell + number * places.doorbell_stride,
            head_doorbell: places.head_doorbell + number * places.doorbell_stride,
            in_flight: (0..places.entries).map(|_| false).collect(),
            places,
            naming: Naming::Sgl,
            count: 0,
            tail: 0,
            rung: 0,
            head: 0,
            head_told: 0,
            strays: 0,
        }
    }

    /// Has commands name memory so from now on.
    pub(crate) fn name_by(&mut self, naming: Naming) {
        self.naming = naming;
    }

    /// Whether a file is a namespace of this pair's session: its number means another file elsewhere.
    pub(crate) fn is_of_session_of(&self, file: &OpenFile) -> bool {
        file.is_of(&self.session)
    }

    /// Refuses another process than the one that made it.
    pub(crate) fn check_owner(&self) -> Result<(), ClientError> {
        self.session.check_owner()
    }

    /// Whether the daemon is gone, so that nothing is answered any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.session.is_gone()
    }

    /// How many commands are in flight.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.count
    }

    /// Completions that belonged to no command in flight: the daemon is not to be trusted.
    #[must_use]
    pub fn strays(&self) -> u64 {
        self.strays
    }

    /// The place that the next command will have; none where the queue is full.
    #[must_use]
    pub fn next_place(&self) -> Option<u16> {
        let mask = self.places.entries - 1;
        let (place, next) = (self.tail & mask, self.tail.wrapping_add(1) & mask);
        let index = |place: u32| usize::try_from(place).unwrap_or(0);
        // The place after stays free, or a full queue would look like an empty one (Base, section 3.3.1).
        let full = self.in_flight[index(place)] || self.in_flight[index(next)];
        u16::try_from(place).ok().filter(|_| !full)
    }

    /// Writes a read into the queue, as [`submit`](Self::submit) does.
    pub fn read(&mut self, command: Command) -> Option<u16> {
        self.submit(Operation::Read, command)
    }

    /// Writes a command into the queue; the place that its completion will name. None where the queue is full. The daemon
    /// sees it after [`ring`](Self::ring).
    pub fn submit(&mut self, operation: Operation, command: Command) -> Option<u16> {
        let place = self.next_place()?;
        let index = usize::from(place);
        let offset = self.base + self.places.submissions + index * SUBMISSION;
        let words = self.memory.u64s_at(offset, 8);
        for (word, value) in words.iter().zip(entry(operation, &command, place.into(), self.naming)) {
            word.store(value, Ordering::Relaxed);
        }
        self.in_flight[index] = true;
        self.count += 1;
        self.tail = self.tail.wrapping_add(1);
        Some(place)
    }

    /// Lets the daemon see what was written, and wakes it where it sleeps.
    ///
    /// # Errors
    /// Where it cannot be woken.
    pub fn ring(&mut self) -> Result<(), ClientError> {
        if self.rung == self.tail {
            return Ok(());
        }
        self.rung = self.tail;
        let mask = self.places.entries - 1;
        self.doorbells.u32_at(self.tail_doorbell).store(self.tail & mask, Ordering::Release);
        // The daemon says that it sleeps, then looks at the doorbell; we ring, then look whether it sleeps. Each must
        // see the other's store or be seen.
        fence(Ordering::SeqCst);
        if self.session.is_asleep() {
            self.session.wake()?;
        }
        Ok(())
    }

    /// Takes one completion, if there is one.
    pub fn reap(&mut self) -> Option<Done> {
        let mask = self.places.entries - 1;
        loop {
            let index = usize::try_from(self.head & mask).unwrap_or(0);
            let offset = self.base + self.places.completions + index * COMPLETION;
            let word = self.memory.u64s_at(offset, 2).get(1)?.load(Ordering::Acquire);
            let round = self.head / self.places.entries;
            // The phase is 1 in the first round, 0 in the second, and so on (Base, section 4.2.3).
            if (word >> 48) & 1 == u64::from(round & 1) {
                return None;
            }
            self.head = self.head.wrapping_add(1);
            if self.head.wrapping_sub(self.head_told) >= self.places.entries.div_ceil(4) {
                self.head_told = self.head;
                self.doorbells.u32_at(self.head_doorbell).store(self.head & mask, Ordering::Release);
            }
            let place = u16::try_from((word >> 32) & 0xffff).unwrap_or(0);
            let status = NvmeStatus(u16::try_from(word >> 49).unwrap_or(0));
            if let Some(in_flight) = self.in_flight.get_mut(usize::from(place)).filter(|flag| **flag) {
                *in_flight = false;
                self.count -= 1;
                return Some(Done { place, status });
            }
            self.strays += 1;
        }
    }
}

/// The eight words of a command (NVM Command Set Specification, section 3.2).
fn entry(operation: Operation, command: &Command, place: u32, naming: Naming) -> [u64; 8] {
    // Bits 14 and 15 say how data is named: 01b is by SGLs.
    let named = match naming {
        Naming::Sgl => 1 << 14,
        Naming::Prp { .. } => 0,
    };
    let opcode = match operation {
        Operation::Flush => {
            return [u64::from(place) << 16 | u64::from(command.nsid) << 32, 0, 0, 0, 0, 0, 0, 0];
        }
        Operation::Write => 0x01,
        Operation::Read => 0x02,
    };
    let first = opcode | named | u64::from(place) << 16 | u64::from(command.nsid) << 32;
    let blocks = u64::from(command.blocks.wrapping_sub(1) & 0xffff);
    let (one, other) = naming.words(command.iova, command.length);
    [first, 0, 0, one, other, command.block, blocks, 0]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(stride: u64, submissions: u64, completions: u64, tail: u64) -> Queues {
        Queues {
            first: 0.into(),
            count: 2.into(),
            entries: 8.into(),
            flags: 0.into(),
            stride: stride.into(),
            submissions: submissions.into(),
            completions: completions.into(),
            length: 8192.into(),
            doorbell_stride: 256.into(),
            tail_doorbell: tail.into(),
            head_doorbell: 384.into(),
            doorbells_length: 4096.into(),
        }
    }

    #[test]
    fn places_that_overlap_or_leave_the_memory_are_refused() {
        let asked = QueuesRequest { count: 2.into(), entries: 8.into() };
        assert!(QueuePlaces::checked(&told(4096, 0, 512, 256), &asked).is_ok());
        for (stride, submissions, completions, tail) in [
            (4097, 0, 512, 256),
            (8192, 0, 512, 256),
            (4096, 0, 384, 256),
            (4096, 4096, 512, 256),
            (4096, u64::MAX, 512, 256),
            (4096, 0, 512, 384),
            (4096, 0, 512, 3968),
            (4096, 0, 512, u64::MAX),
        ] {
            let queues = told(stride, submissions, completions, tail);
            let checked = QueuePlaces::checked(&queues, &asked);
            assert!(checked.is_err(), "{stride} {submissions} {completions} {tail}");
        }
        let other = QueuesRequest { count: 3.into(), entries: 8.into() };
        assert!(QueuePlaces::checked(&told(4096, 0, 512, 256), &other).is_err(), "another count than asked");
    }
}
