//! Requests on a queue pair: cut into commands, sent, tried again, put together.
//!
//! One worker serves one thread, or several that take turns under a lock. Each of those is an owner with its own
//! completions.

use std::collections::VecDeque;
use std::mem;
use std::time::{Duration, Instant};

use engine_block::cut::{Active, Command, Geometry, Slots, refuse, whole};
use engine_block::{Completion, Request};
use engine_dma::{Buffer, Pool, to_u64, to_usize};

use crate::data::Run;
use crate::errno;
use crate::pair::QueuePair;
use crate::ring::{Completed, Refused};

/// Completions that are taken before what they made room for is sent: bounded batches keep both sides busy.
const BATCH: usize = 10;

/// What a queue pair reads for its owners.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) pair: QueuePair,
    nsid: u32,
    block_shift: u32,
    geometry: Geometry,
    retries: u32,
    /// Bounce memory.
    pool: Pool,
    requests: Slots<Owned>,
    flights: Slots<Flight>,
    /// Requests with commands that found no room yet.
    crowded: VecDeque<usize>,
    /// Flights that wait for their next try, and until when.
    delayed: Vec<(Instant, usize)>,
    owners: Slots<VecDeque<Completion>>,
    landed: Vec<Completed>,
}

/// A request and whose it is.
#[derive(Debug)]
struct Owned {
    active: Active,
    owner: usize,
    /// The controller may still write to its memory.
    held: bool,
}

/// A command that the controller has, or that waits to be tried again.
#[derive(Debug)]
struct Flight {
    request: usize,
    command: Command,
    bounce: Option<Buffer>,
    tries: u32,
}

/// What a worker reads, in which units.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    pub(crate) nsid: u32,
    pub(crate) block_shift: u32,
    pub(crate) geometry: Geometry,
}

impl Worker {
    /// A worker for `requests` requests at a time of at most `owners` owners.
    pub(crate) fn new(pair: QueuePair, target: Target, pool: Pool, requests: usize, owners: usize) -> Self {
        let flights = pair.depth();
        Self {
            nsid: target.nsid,
            block_shift: target.block_shift,
            geometry: target.geometry,
            retries: pair.controller().options().retries,
            pair,
            pool,
            requests: Slots::new(requests),
            flights: Slots::new(flights),
            crowded: VecDeque::with_capacity(requests),
            delayed: Vec::new(),
            owners: Slots::new(owners),
            landed: Vec::with_capacity(BATCH),
        }
    }

    /// A number for a new owner; none where there are as many as can be.
    pub(crate) fn join(&mut self) -> Option<usize> {
        self.owners.insert(VecDeque::new()).ok()
    }

    /// Lets an owner go that has nothing in flight.
    pub(crate) fn leave(&mut self, owner: usize) {
        drop(self.owners.remove(owner));
    }

    /// Starts nothing further of an owner.
    pub(crate) fn stop(&mut self, owner: usize) {
        self.requests.each(|owned| {
            if owned.owner == owner {
                owned.active.stop(errno::ECANCELED);
            }
        });
    }

    /// Takes a request in. It is sent by the next [`step`](Self::step).
    #[allow(clippy::result_large_err, reason = "the buffer comes back with it")]
    pub(crate) fn submit(&mut self, owner: usize, request: Request) -> Result<(), Completion> {
        if self.pair.is_closed() && self.pair.out() == 0 {
            let error = whole(&request, errno::ENODEV);
            return Err(refuse(request, error));
        }
        if self.requests.is_full() {
            let error = whole(&request, errno::EBUSY);
            return Err(refuse(request, error));
        }
        let active = Active::accept(request, self.geometry.size)?;
        match self.requests.insert(Owned { active, owner, held: false }) {
            Ok(number) => {
                self.issue(number);
                Ok(())
            }
            Err(owned) => Err(owned.active.complete()),
        }
    }

    /// Whether an owner's requests find room.
    pub(crate) fn is_full(&self) -> bool {
        self.requests.is_full()
    }

    /// Sends what was taken in, takes what has ended (a batch at most), and sends what that made room for. How many
    /// commands had ended: where there were any there may be more, for which no interrupt comes any more.
    pub(crate) fn step(&mut self) -> usize {
        self.try_again();
        self.pair.ring();
        let mut landed = mem::take(&mut self.landed);
        self.pair.reap(BATCH, |completed| landed.push(completed));
        let count = landed.len();
        for completed in landed.drain(..) {
            self.land(completed);
        }
        self.landed = landed;
        self.feed();
        self.pair.ring();
        count
    }

    /// What has ended of an owner's.
    pub(crate) fn finished(&mut self, owner: usize) -> Option<&mut VecDeque<Completion>> {
        self.owners.get_mut(owner)
    }

    /// How long until something waits to be tried again.
    pub(crate) fn next_try(&self) -> Option<Duration> {
        let soonest = self.delayed.iter().map(|(at, _)| *at).min()?;
        Some(soonest.saturating_duration_since(Instant::now()))
    }

    /// Starts as many commands of a request as there is room for, and ends the request where nothing is left of it.
    fn issue(&mut self, number: usize) {
        while !self.flights.is_full() {
            let Some(owned) = self.requests.get_mut(number) else { return };
            let active = &mut owned.active;
            let Some(command) = active.next(&self.geometry) else { break };
            let bounce = if command.bounce { self.pool.take(command.length).map(Some) } else { Ok(None) };
            let Ok(bounce) = bounce else {
                active.fail(&command, 0, errno::ENOMEM);
                break;
            };
            active.out += 1;
            if let Ok(mark) = self.flights.insert(Flight { request: number, command, bounce, tries: 0 }) {
                self.push(mark);
            }
        }
        let Some(owned) = self.requests.get_mut(number) else { return };
        if owned.active.has_more() && !owned.active.queued {
            owned.active.queued = true;
            self.crowded.push_back(number);
        }
        self.settle(number);
    }

    /// Hands a flight to the queue pair.
    fn push(&mut self, mark: usize) {
        let Some(flight) = self.flights.get_mut(mark) else { return };
        let Some(owned) = self.requests.get_mut(flight.request) else { return };
        let (memory, start) = match &flight.bounce {
            Some(bounce) => (bounce, 0),
            None => (owned.active.buffer(), flight.command.buffer_offset),
        };
        let Some(iova) = bus_address(memory, self.pair.controller().transport().id()) else {
            return self.end(mark, Some(errno::EFAULT));
        };
        let length = to_u64(flight.command.length);
        let (Ok(short), Ok(blocks)) = (u32::try_from(length), u32::try_from(length >> self.block_shift))
        else {
            return self.end(mark, Some(errno::EINVAL));
        };
        let run = Run { iova: iova + to_u64(start), length: short };
        let lba = flight.command.device_offset >> self.block_shift;
        match self.pair.read(to_u64(mark), self.nsid, lba, blocks, run) {
            Ok(()) => {}
            Err(Refused::Closed) => self.end(mark, Some(errno::ENODEV)),
            Err(Refused::Memory(_)) => self.end(mark, Some(errno::EFAULT)),
            // The queue has been created anew with what was out still to be told.
            Err(Refused::Full) => self.delayed.push((Instant::now(), mark)),
        }
    }

    /// Deals with the end of a command.
    fn land(&mut self, completed: Completed) {
        let mark = to_usize(completed.token);
        let closed = self.pair.is_closed();
        let Some(flight) = self.flights.get_mut(mark) else { return };
        let status = completed.status;
        if completed.held {
            mem::forget(flight.bounce.take());
            if let Some(owned) = self.requests.get_mut(flight.request) {
                owned.held = true;
            }
            return self.end(mark, Some(errno::ENODEV));
        }
        if status.is_success() {
            return self.end(mark, None);
        }
        if closed {
            return self.end(mark, Some(errno::ENODEV));
        }
        if !status.do_not_retry() && flight.tries < self.retries {
            flight.tries += 1;
            let controller = self.pair.controller();
            let delay = match status.retry_delay() {
                0 => Duration::ZERO,
                which => {
                    let delays = controller.facts().retry_delays;
                    delays.get(usize::from(which) - 1).copied().unwrap_or_default()
                }
            };
            // A controller may ask for hours.
            let delay = delay.min(controller.options().timeout);
            self.delayed.push((Instant::now() + delay, mark));
            return;
        }
        tracing::warn!(
            device = self.pair.controller().name(),
            namespace = self.nsid,
            lba = flight.command.device_offset >> self.block_shift,
            bytes = flight.command.length,
            tries = flight.tries + 1,
            %status,
            "a read failed"
        );
        self.end(mark, Some(errno(status)));
    }

    /// Sends again what has waited long enough.
    fn try_again(&mut self) {
        if self.delayed.is_empty() {
            return;
        }
        let now = Instant::now();
        let due: Vec<_> = self.delayed.extract_if(.., |(at, _)| *at <= now).collect();
        for (_, mark) in due {
            self.push(mark);
        }
    }

    /// Takes a flight out: all of it arrived, or as far as anybody knows nothing.
    fn end(&mut self, mark: usize, failure: Option<i32>) {
        let Some(flight) = self.flights.remove(mark) else { return };
        let Some(owned) = self.requests.get_mut(flight.request) else { return };
        let active = &mut owned.active;
        match failure {
            Some(errno) => active.fail(&flight.command, 0, errno),
            None => {
                if let Some(bounce) = &flight.bounce {
                    active.copy_out(&flight.command, bounce, flight.command.length);
                }
            }
        }
        active.out -= 1;
        self.settle(flight.request);
    }

    /// Starts what found no room before.
    fn feed(&mut self) {
        while !self.flights.is_full() {
            let Some(crowded) = self.crowded.pop_front() else { return };
            if let Some(owned) = self.requests.get_mut(crowded) {
                owned.active.queued = false;
            }
            self.issue(crowded);
        }
    }

    /// Ends a request of which nothing is left.
    fn settle(&mut self, number: usize) {
        let over = self.requests.get_mut(number).is_some_and(|owned| {
            let active = &owned.active;
            active.out == 0 && !active.queued && !active.has_more()
        });
        if !over {
            return;
        }
        let Some(Owned { active, owner, held }) = self.requests.remove(number) else { return };
        let completion =
            if held { active.abandon(errno::ENODEV, &mut Pool::new(0, 0)) } else { active.complete() };
        if let Some(finished) = self.owners.get_mut(owner) {
            finished.push_back(completion);
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.requests.each(|owned| owned.active.stop(errno::ECANCELED));
        for (_, mark) in mem::take(&mut self.delayed) {
            self.end(mark, Some(errno::ECANCELED));
        }
        // Every command ends: by itself, or since the driver sees to those that are late.
        let mut waiting = crate::Waiting::default();
        while self.flights.taken() > 0 {
            self.retries = 0;
            if self.step() == 0 {
                self.pair.pause(&mut waiting, Duration::from_millis(10));
            }
        }
    }
}

/// The bus address of a buffer, where the controller knows its memory.
fn bus_address(buffer: &Buffer, transport: u64) -> Option<u64> {
    let arena = buffer.arena();
    let known = arena.registration().filter(|known| known.owner == transport)?;
    let within = buffer.address().addr().get() - arena.base().addr().get();
    Some(known.handle + to_u64(within))
}
