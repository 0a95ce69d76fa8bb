//! Ranges by an io_uring.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine_block::cut::Slots;
use engine_block::{IoError, Operation, RangeCompletion, RangeQueue, RangeRequest, Wait};
use engine_dma::{Pool, to_u64, to_usize};
use io_uring::types::FsyncFlags;
use io_uring::{opcode, squeue};

use super::RangeFile;
use super::calls::run;
use super::task::{Call, Next, Task};
use crate::ring::{Entered, FILE, Ring};
use crate::rings::Rings;

/// Most requests that one queue has in flight.
const MOST_DEPTH: u32 = 4096;

/// One worker's io_uring for ranges: one call of each request is in flight at a time.
///
/// As with [`RingQueue`](crate::ring_queue::RingQueue), the kernel lets only the thread that first submits use the
/// ring; the queue may move to another thread while nothing is in flight. A request that is in flight all the same
/// fails, once the kernel has ended what it does to its memory.
#[derive(Debug)]
pub(crate) struct RingRanges {
    rings: Rings<Vec<Task>>,
    shared: Arc<RangeFile>,
    pool: Pool,
    tasks: Slots<Task>,
    finished: VecDeque<RangeCompletion>,
    /// Whether a request that comes alone is carried out by a plain call, which takes less time than the ring.
    calls_single: bool,
    /// Then: tasks that were submitted since the last poll.
    fresh: Vec<usize>,
    depth: usize,
    /// How long the end of what is in flight is waited for when it is dropped.
    drain_limit: Duration,
}

impl RingRanges {
    /// A queue for `depth` requests.
    ///
    /// # Errors
    /// Where the kernel grants no further ring.
    pub(crate) fn new(
        shared: Arc<RangeFile>,
        depth: u32,
        calls_single: bool,
        drain_limit: Duration,
    ) -> io::Result<Self> {
        let depth = depth.clamp(1, MOST_DEPTH);
        let rings = Rings::new(depth, Arc::clone(&shared.file))?;
        let pool = shared.bounce();
        let depth = to_usize(depth.into());
        let (tasks, finished) = (Slots::new(depth), VecDeque::with_capacity(depth));
        let fresh = Vec::new();
        Ok(Self { rings, shared, pool, tasks, finished, calls_single, fresh, depth, drain_limit })
    }

    /// Hands the next call of a task to the ring, or ends the task.
    fn advance(&mut self, mark: usize) {
        let Some(task) = self.tasks.get_mut(mark) else { return };
        let Some(call) = task.prepare(&self.shared, &mut self.pool) else { return self.end(mark) };
        let entry = entry(call, task.vectors()).user_data(to_u64(mark));
        let pushed = self.rings.current().is_some_and(|ring| {
            // SAFETY: The task stays in its slot, and with it the vectors and all memory that they name, until the
            // completion of this call was taken; or, where the ring is given up, until that has ended.
            unsafe { ring.push_entry(&entry) }
        });
        // There are as many tasks as places in the submission queue, each has one call, and whoever takes one in has
        // prepared a ring.
        debug_assert!(pushed);
        if !pushed {
            task.stop(libc::EBUSY);
            self.end(mark);
        }
    }

    /// Starts what was submitted since the last poll.
    fn start_fresh(&mut self) {
        if let ([mark], 1) = (&self.fresh[..], self.tasks.taken()) {
            let mark = *mark;
            if let Some(task) = self.tasks.get_mut(mark) {
                run(task, &self.shared, &mut self.pool);
            }
            self.end(mark);
        } else {
            for place in 0..self.fresh.len() {
                if let Some(&mark) = self.fresh.get(place) {
                    self.advance(mark);
                }
            }
        }
        self.fresh.clear();
    }

    fn end(&mut self, mark: usize) {
        if let Some(task) = self.tasks.remove(mark) {
            self.finished.push_back(task.complete());
        }
    }

    /// Takes the completions that are there, and what was given up and is over.
    fn reap(&mut self) {
        while let Some((mark, result)) = self.rings.current().and_then(Ring::completion) {
            let mark = to_usize(mark);
            match self.tasks.get_mut(mark).map(|task| task.after(result, &self.shared)) {
                Some(Next::Again) => self.advance(mark),
                Some(Next::Ended) => self.end(mark),
                None => {}
            }
        }
        while let Some(tasks) = self.rings.ended() {
            self.finished.extend(tasks.into_iter().map(Task::complete));
        }
    }

    /// Gives up the ring, because it has failed or belongs to another thread. What is in flight stays so, and holds
    /// its memory, until the kernel has ended it; then it fails.
    fn abandon(&mut self, errno: i32) {
        let requests = self.tasks.taken();
        tracing::error!(
            errno,
            requests,
            "an io_uring is given up with requests in flight; they fail once it has ended"
        );
        self.fresh.clear();
        self.tasks.each(|task| task.stop(errno));
        self.rings.give_up(requests, self.tasks.drain().collect());
    }

    fn enter(&mut self, want: bool, limit: Option<Duration>) -> Result<Entered, IoError> {
        let failed = |errno| IoError { operation: Operation::Flush, offset: 0, length: 0, errno };
        let busy = self.tasks.taken() > 0;
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

    /// Requests that the kernel has, or may have.
    fn waiting(&self) -> usize {
        self.tasks.taken() + self.rings.given_up()
    }

    fn wait(&mut self, wait: Wait) -> Result<(), IoError> {
        let deadline = match wait {
            Wait::For(time) => Instant::now().checked_add(time),
            Wait::No | Wait::One => None,
        };
        loop {
            self.reap();
            let want = wait != Wait::No && self.finished.is_empty() && self.waiting() > 0;
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

/// The entry of the submission queue that asks for a call.
fn entry(call: Call, vectors: &[libc::iovec]) -> squeue::Entry {
    let count = u32::try_from(vectors.len()).unwrap_or(u32::MAX);
    // One part needs no list, which the kernel would have to fetch.
    let single = match vectors {
        [only] => u32::try_from(only.iov_len).ok().map(|length| (only.iov_base.cast::<u8>(), length)),
        _ => None,
    };
    match (call, single) {
        (Call::Read { offset }, Some((address, length))) => {
            opcode::Read::new(FILE, address, length).offset(offset).build()
        }
        (Call::Read { offset }, None) => {
            opcode::Readv::new(FILE, vectors.as_ptr(), count).offset(offset).build()
        }
        (Call::Write { offset }, Some((address, length))) => {
            opcode::Write::new(FILE, address, length).offset(offset).build()
        }
        (Call::Write { offset }, None) => {
            opcode::Writev::new(FILE, vectors.as_ptr(), count).offset(offset).build()
        }
        (Call::Sync, _) => opcode::Fsync::new(FILE).flags(FsyncFlags::DATASYNC).build(),
        (Call::Allocate { mode, offset, length }, _) => {
            opcode::Fallocate::new(FILE, length).offset(offset).mode(mode).build()
        }
    }
}

impl RangeQueue for RingRanges {
    fn submit(&mut self, request: RangeRequest) -> Result<(), RangeCompletion> {
        let tag = request.tag;
        let refused = |error| RangeCompletion { tag, result: Err(error) };
        request.check(&self.shared.info).map_err(refused)?;
        if self.tasks.taken() > 0 && self.rings.is_foreign() {
            self.abandon(libc::ECANCELED);
        }
        if !self.has_room() {
            return Err(refused(request.error(libc::EBUSY)));
        }
        if let Err(error) = self.rings.prepare() {
            return Err(refused(request.error(error.raw_os_error().unwrap_or(libc::EIO))));
        }
        match self.tasks.insert(Task::new(request)) {
            Ok(mark) => {
                if self.calls_single {
                    self.fresh.push(mark);
                } else {
                    self.advance(mark);
                }
                Ok(())
            }
            Err(mut task) => {
                task.stop(libc::EBUSY);
                Err(task.complete())
            }
        }
    }

    fn has_room(&self) -> bool {
        self.waiting() < self.depth
    }

    fn poll(&mut self, wait: Wait, done: &mut Vec<RangeCompletion>) -> Result<usize, IoError> {
        if !self.fresh.is_empty() {
            self.start_fresh();
        }
        let outcome = self.wait(wait);
        let count = self.finished.len();
        done.extend(self.finished.drain(..));
        // What completed because the ring failed is passed on first; the failure is told with nothing to pass on.
        if count > 0 { Ok(count) } else { outcome.map(|()| 0) }
    }

    fn in_flight(&self) -> usize {
        self.waiting() + self.finished.len()
    }
}

impl Drop for RingRanges {
    fn drop(&mut self) {
        let deadline = Instant::now() + self.drain_limit;
        self.tasks.each(|task| task.stop(libc::ECANCELED));
        for mark in std::mem::take(&mut self.fresh) {
            self.end(mark);
        }
        if self.tasks.taken() > 0 {
            self.rings.cancel();
        }
        self.reap();
        while self.waiting() > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            // A ring that fails is given up, and its end is waited for.
            let _ = self.enter(true, Some(left));
            self.reap();
        }
        if self.tasks.taken() > 0 {
            self.abandon(libc::ETIMEDOUT);
        }
    }
}
