//! A queue that is an io_uring of its own.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine_block::cut::{Active, Command, Geometry, Progress, Slots, refuse, whole};
use engine_block::{BlockQueue, Completion, IoError, Operation, Request, Wait};
use engine_dma::{Buffer, Pool, to_u64, to_usize};

use crate::pread_queue::{read_now, take};
use crate::ring::{Entered, Ring, Target};
use crate::rings::Rings;

/// Bounds on the commands that one queue has in flight: a single request with many pieces should not have to wait
/// for itself, and a table of commands should not grow without end.
const FEWEST_COMMANDS: u32 = 64;
const MOST_COMMANDS: u32 = 4096;

/// A command that was interrupted this often is told as failed.
const MOST_RETRIES: u32 = 1000;

/// One worker's io_uring.
///
/// The kernel lets only the thread that first submits use the ring. The queue may move to another thread while
/// nothing is in flight; it then gets a new ring. What is in flight all the same fails, once the kernel has ended it.
#[derive(Debug)]
pub(crate) struct RingQueue {
    // First, so that they are closed before the memory that they were told of goes away.
    rings: Rings<GivenUp>,
    file: Arc<File>,
    geometry: Geometry,
    depth: usize,
    pool: Pool,
    /// How many of the pool's arenas were offered to the ring.
    offered: usize,
    requests: Slots<Active>,
    flights: Slots<Flight>,
    /// Requests with commands that found no room yet.
    crowded: VecDeque<usize>,
    finished: VecDeque<Completion>,
    /// For `read`, kept so that it need not be allocated.
    taken: Vec<Completion>,
    /// How long the end of what is in flight is waited for when it is dropped.
    drain_limit: Duration,
    /// Whether it is being dropped: what is cancelled then is not tried again.
    stopping: bool,
}

/// Requests of a ring that was given up, and the commands of theirs that the kernel may still have.
#[derive(Debug)]
struct GivenUp {
    requests: Vec<Active>,
    flights: Vec<Flight>,
}

/// A command that the kernel has.
#[derive(Debug)]
struct Flight {
    request: usize,
    command: Command,
    bounce: Option<Buffer>,
    arrived: usize,
    retries: u32,
}

impl RingQueue {
    /// A queue for `depth` requests.
    ///
    /// # Errors
    /// Where the kernel grants no further ring.
    pub(crate) fn new(
        file: Arc<File>,
        geometry: Geometry,
        pool: Pool,
        depth: u32,
        drain_limit: Duration,
    ) -> io::Result<Self> {
        let rings = Rings::new(entries(depth), Arc::clone(&file))?;
        let commands = to_usize(rings.entries().into());
        let depth = to_usize(depth.into()).max(1);
        Ok(Self {
            rings,
            file,
            geometry,
            depth,
            pool,
            offered: 0,
            requests: Slots::new(depth),
            flights: Slots::new(commands),
            crowded: VecDeque::with_capacity(depth),
            finished: VecDeque::with_capacity(depth),
            taken: Vec::with_capacity(depth),
            drain_limit,
            stopping: false,
        })
    }

    /// Starts as many commands of a request as there is room for, and ends the request where nothing is left of it.
    fn issue(&mut self, number: usize) {
        while !self.flights.is_full() {
            let Some(active) = self.requests.get_mut(number) else { return };
            let Some(command) = active.next(&self.geometry) else { break };
            let bounce = if command.bounce { self.pool.take(command.length).map(Some) } else { Ok(None) };
            let Ok(bounce) = bounce else {
                active.fail(&command, 0, libc::ENOMEM);
                break;
            };
            active.out += 1;
            let flight = Flight { request: number, command, bounce, arrived: 0, retries: 0 };
            if let Ok(mark) = self.flights.insert(flight) {
                self.push(mark);
            }
        }
        let Some(active) = self.requests.get_mut(number) else { return };
        if active.has_more() && !active.queued {
            active.queued = true;
            self.crowded.push_back(number);
        }
        self.settle(number);
    }

    /// Hands the rest of a flight to the ring.
    fn push(&mut self, mark: usize) {
        let Some(flight) = self.flights.get_mut(mark) else { return };
        let Some(active) = self.requests.get_mut(flight.request) else { return };
        let (memory, start) = match &flight.bounce {
            Some(bounce) => (bounce, flight.arrived),
            None => (active.buffer(), flight.command.buffer_offset + flight.arrived),
        };
        let length = flight.command.length - flight.arrived;
        debug_assert!(start + length <= memory.len());
        // SAFETY: The place lies within the buffer: pieces were checked against it, and bounce memory is as long as
        // its command.
        let address = unsafe { memory.address().add(start) }.as_ptr();
        let target = Target { address, length, registration: memory.arena().registration() };
        let offset = flight.command.device_offset + to_u64(flight.arrived);
        let pushed = self.rings.current().is_some_and(|ring| {
            // SAFETY: The buffer stays in `requests` or in `flights`, untouched, until the completion of this flight
            // was taken; or, where the ring is given up, until that has ended.
            unsafe { ring.push(offset, target, to_u64(mark)) }
        });
        // There are as many flights as places in the submission queue, and a ring whenever something is issued.
        debug_assert!(pushed);
        if !pushed {
            self.land(mark, -libc::EBUSY);
        }
    }

    /// Deals with the end of a flight.
    fn land(&mut self, mark: usize, result: i32) {
        let Some(flight) = self.flights.get_mut(mark) else { return };
        let Ok(newly) = usize::try_from(result) else {
            let interrupted = matches!(-result, libc::EINTR | libc::EAGAIN);
            if interrupted && !self.stopping && flight.retries < MOST_RETRIES {
                flight.retries += 1;
                return self.push(mark);
            }
            return self.end(mark, 0, Some(-result));
        };
        match flight.command.after(flight.arrived, newly, &self.geometry) {
            Progress::Done => self.end(mark, newly, None),
            Progress::Ended => self.end(mark, newly, Some(libc::EIO)),
            Progress::From(next) => {
                flight.arrived = next;
                flight.retries = 0;
                self.push(mark);
            }
        }
    }

    /// Takes a flight out, `newly` bytes after what had arrived.
    fn end(&mut self, mark: usize, newly: usize, failure: Option<i32>) {
        let Some(flight) = self.flights.remove(mark) else { return };
        let Some(active) = self.requests.get_mut(flight.request) else { return };
        let arrived = flight.arrived + newly;
        if let Some(bounce) = &flight.bounce {
            active.copy_out(&flight.command, bounce, arrived);
        }
        if let Some(errno) = failure {
            active.fail(&flight.command, arrived, errno);
        }
        active.out -= 1;
        self.settle(flight.request);
        if let Some(crowded) = self.crowded.pop_front() {
            if let Some(active) = self.requests.get_mut(crowded) {
                active.queued = false;
            }
            self.issue(crowded);
        }
    }

    /// Ends a request of which nothing is left.
    fn settle(&mut self, number: usize) {
        let over = self.requests.get_mut(number).is_some_and(|a| a.out == 0 && !a.queued && !a.has_more());
        if over && let Some(active) = self.requests.remove(number) {
            self.finished.push_back(active.complete());
        }
    }

    /// Takes the completions that are there, and what was given up and is over.
    fn reap(&mut self) {
        while let Some((mark, result)) = self.rings.current().and_then(Ring::completion) {
            self.land(to_usize(mark), result);
        }
        while let Some(GivenUp { requests, flights }) = self.rings.ended() {
            drop(flights);
            self.finished.extend(requests.into_iter().map(Active::complete));
        }
    }

    /// Makes a ring usable by this thread, a new one where there is none or it belongs to another. Nothing is in flight
    /// on it.
    fn prepare(&mut self) -> io::Result<()> {
        if self.rings.prepare()? {
            // Arenas remember the ring that they were registered with.
            self.pool = self.pool.another();
            self.offered = 0;
        }
        Ok(())
    }

    /// Registers arenas that the ring was not told of. Only when a request goes through the ring: pinning an arena
    /// takes longer than many reads, and a worker that reads one piece at a time never needs it.
    fn offer(&mut self) {
        let Some(ring) = self.rings.current() else { return };
        while let Some(arena) = self.pool.arenas().get(self.offered) {
            if let Err(error) = ring.register(self.offered, arena) {
                tracing::info!(%error, length = arena.length(), "memory not registered with io_uring; reads name it anew each time");
            }
            self.offered += 1;
        }
    }

    /// Gives up the ring, because it has failed or belongs to another thread. What is in flight stays so, and keeps
    /// its memory, until the kernel has ended it; then it fails.
    fn abandon(&mut self, errno: i32) {
        let requests = self.requests.taken();
        tracing::error!(
            errno,
            requests,
            "an io_uring is given up with reads in flight; they fail once it has ended"
        );
        self.crowded.clear();
        self.requests.each(|active| active.fail_whole(errno));
        let given_up =
            GivenUp { requests: self.requests.drain().collect(), flights: self.flights.drain().collect() };
        self.rings.give_up(requests, given_up);
    }

    fn enter(&mut self, want: bool, limit: Option<Duration>) -> Result<Entered, IoError> {
        let failed = |errno| IoError { operation: Operation::Read, offset: 0, length: 0, errno };
        let busy = self.flights.taken() > 0;
        if busy && self.rings.is_foreign() {
            self.abandon(libc::ECANCELED);
            return Err(failed(libc::ECANCELED));
        }
        self.rings.enter(want, busy, limit).map_err(|error| {
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            self.abandon(errno);
            failed(errno)
        })
    }

    /// Whether the kernel has, or may have, commands.
    fn is_waiting(&self) -> bool {
        self.flights.taken() > 0 || self.rings.given_up() > 0
    }

    fn wait(&mut self, wait: Wait) -> Result<(), IoError> {
        let deadline = match wait {
            Wait::For(time) => Instant::now().checked_add(time),
            Wait::No | Wait::One => None,
        };
        loop {
            self.reap();
            let want = wait != Wait::No && self.finished.is_empty() && self.is_waiting();
            let limit = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            let entered = self.enter(want, limit.filter(|_| want))?;
            self.reap();
            let over = entered == Entered::TimeOver || limit.is_some_and(|left| left.is_zero());
            if !want || !self.finished.is_empty() || over {
                return Ok(());
            }
        }
    }
}

impl BlockQueue for RingQueue {
    fn buffer(&mut self, length: usize) -> Result<Buffer, IoError> {
        take(&mut self.pool, length)
    }

    fn submit(&mut self, request: Request) -> Result<(), Completion> {
        if self.in_flight() >= self.depth {
            let error = whole(&request, libc::EBUSY);
            return Err(refuse(request, error));
        }
        if self.flights.taken() > 0 && self.rings.is_foreign() {
            self.abandon(libc::ECANCELED);
        }
        if let Err(error) = self.prepare() {
            let error = whole(&request, error.raw_os_error().unwrap_or(libc::EIO));
            return Err(refuse(request, error));
        }
        self.offer();
        let active = Active::accept(request, self.geometry.size)?;
        match self.requests.insert(active) {
            Ok(number) => {
                self.issue(number);
                Ok(())
            }
            Err(active) => Err(active.complete()),
        }
    }

    fn poll(&mut self, wait: Wait, done: &mut Vec<Completion>) -> Result<usize, IoError> {
        let outcome = self.wait(wait);
        let count = self.finished.len();
        done.extend(self.finished.drain(..));
        // What completed because the ring failed is passed on first; the failure is told with nothing to pass on.
        if count > 0 { Ok(count) } else { outcome.map(|()| 0) }
    }

    fn in_flight(&self) -> usize {
        self.requests.taken() + self.rings.given_up() + self.finished.len()
    }

    fn read(&mut self, request: Request) -> Completion {
        if request.pieces.len() == 1 {
            return match Active::accept(request, self.geometry.size) {
                Ok(active) => read_now(&self.file, &self.geometry, &mut self.pool, active),
                Err(refused) => refused,
            };
        }
        let tag = request.tag;
        if let Err(refused) = self.submit(request) {
            return refused;
        }
        let mut taken = mem::take(&mut self.taken);
        loop {
            // A ring that fails still completes its requests, each with an error.
            let _ = self.poll(Wait::One, &mut taken);
            if let Some(place) = taken.iter().position(|completion| completion.tag == tag) {
                let completion = taken.swap_remove(place);
                self.finished.extend(taken.drain(..));
                self.taken = taken;
                return completion;
            }
        }
    }
}

impl Drop for RingQueue {
    fn drop(&mut self) {
        let deadline = Instant::now() + self.drain_limit;
        self.stopping = true;
        self.requests.each(|active| active.fail_whole(libc::ECANCELED));
        if self.flights.taken() > 0 {
            self.rings.cancel();
        }
        self.reap();
        while self.is_waiting() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            // A ring that fails is given up, and its end is waited for.
            let _ = self.enter(true, Some(left));
            self.reap();
        }
        if self.flights.taken() > 0 {
            self.abandon(libc::ETIMEDOUT);
        }
    }
}

fn entries(depth: u32) -> u32 {
    depth.clamp(FEWEST_COMMANDS, MOST_COMMANDS).next_power_of_two()
}
