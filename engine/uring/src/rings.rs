//! The ring that a queue uses, and the rings that it gave up while the kernel still worked for them.

use std::fs::File;
use std::io;
use std::mem::{self, ManuallyDrop};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::ring::{End, Entered, Ring};

/// How long a queue waits for its ring before it looks at those that it gave up, whose ends the ring does not tell.
const LOOK: Duration = Duration::from_millis(2);

/// Threads that wait for the end of a ring do nothing else.
const STACK: usize = 64 << 10;

static KEPT: AtomicUsize = AtomicUsize::new(0);

/// How many requests of queues that are gone keep their memory, since the kernel may still use it.
#[must_use]
pub fn kept_requests() -> usize {
    KEPT.load(Ordering::Acquire)
}

/// A ring that was closed, and what the kernel may use until it has ended.
#[derive(Debug)]
struct Closing<T> {
    end: End,
    requests: usize,
    /// Never dropped but by who saw the end.
    memory: ManuallyDrop<T>,
}

impl<T> Closing<T> {
    fn into_memory(self) -> T {
        ManuallyDrop::into_inner(self.memory)
    }
}

/// The rings of one queue. `T` is what the queue holds for the calls of one ring, with all memory that they use.
#[derive(Debug)]
pub(crate) struct Rings<T: Send + 'static> {
    // First, so that it is closed before the memory that it was told of goes away.
    current: Option<Ring>,
    file: Arc<File>,
    entries: u32,
    closing: Vec<Closing<T>>,
}

impl<T: Send + 'static> Rings<T> {
    /// One ring for `entries` calls of `file`.
    ///
    /// # Errors
    /// Where the kernel grants no further ring.
    pub(crate) fn new(entries: u32, file: Arc<File>) -> io::Result<Self> {
        let ring = Ring::new(entries, &file)?;
        let entries = ring.entries();
        Ok(Self { current: Some(ring), file, entries, closing: Vec::new() })
    }

    /// How many calls can be in flight.
    pub(crate) fn entries(&self) -> u32 {
        self.entries
    }

    /// The ring in use; none from when it was given up until the next request.
    pub(crate) fn current(&mut self) -> Option<&mut Ring> {
        self.current.as_mut()
    }

    /// Makes a ring usable by this thread, with nothing in flight; whether it is a new one.
    pub(crate) fn prepare(&mut self) -> io::Result<bool> {
        if let Some(ring) = &mut self.current
            && ring.claim()?
        {
            return Ok(false);
        }
        let mut ring = Ring::new(self.entries, &self.file)?;
        ring.claim()?;
        self.current = Some(ring);
        Ok(true)
    }

    /// Whether another thread is the only one that may use the ring.
    pub(crate) fn is_foreign(&self) -> bool {
        self.current.as_ref().is_some_and(Ring::is_foreign)
    }

    /// How many requests the rings hold that were given up.
    pub(crate) fn given_up(&self) -> usize {
        self.closing.iter().map(|closing| closing.requests).sum()
    }

    /// Closes the ring. `memory` is all that its calls use, for this many requests; it comes back from
    /// [`ended`](Self::ended).
    pub(crate) fn give_up(&mut self, requests: usize, memory: T) {
        if let Some(ring) = self.current.take() {
            self.closing.push(Closing { end: ring.end(), requests, memory: ManuallyDrop::new(memory) });
        }
    }

    /// What a ring used that was given up and has ended since: the kernel does nothing to it any more.
    pub(crate) fn ended(&mut self) -> Option<T> {
        let place = self.closing.iter().position(|closing| closing.end.came(Some(Duration::ZERO)))?;
        Some(self.closing.swap_remove(place).into_memory())
    }

    /// Asks the kernel to end what it does for the ring.
    pub(crate) fn cancel(&mut self) {
        if let Some(ring) = self.current.as_mut().filter(|ring| !ring.is_foreign()) {
            ring.cancel();
        }
    }

    /// Starts what was pushed and, where `want` is set, waits for a completion or the end of a ring that was given up,
    /// at most as long as `limit` says. `busy` says whether there is anything in flight on the ring in use.
    ///
    /// # Errors
    /// Where the ring in use has failed as a whole.
    pub(crate) fn enter(&mut self, want: bool, busy: bool, limit: Option<Duration>) -> io::Result<Entered> {
        let Some(closing) = self.closing.first() else {
            return self.current.as_mut().map_or(Ok(Entered::Back), |ring| ring.enter(want, limit));
        };
        let ring = self.current.as_mut().filter(|_| busy);
        let look = limit.map_or(LOOK, |limit| limit.min(LOOK));
        let entered = match ring {
            Some(ring) => ring.enter(want, want.then_some(look))?,
            None if want && !closing.end.came(Some(look)) => Entered::TimeOver,
            None => Entered::Back,
        };
        let later = entered == Entered::TimeOver && limit != Some(look);
        Ok(if later { Entered::Later } else { entered })
    }
}

impl<T: Send + 'static> Drop for Rings<T> {
    fn drop(&mut self) {
        self.current = None;
        mem::take(&mut self.closing).into_iter().for_each(keep);
    }
}

/// Keeps memory until the kernel has ended what it does to it, however long that takes; for ever where it cannot be
/// waited for.
fn keep<T: Send + 'static>(closing: Closing<T>) {
    let requests = closing.requests;
    KEPT.fetch_add(requests, Ordering::Release);
    tracing::error!(
        requests,
        "the kernel does not end requests of a queue that is gone; their memory is kept"
    );
    let since = Instant::now();
    let wait = move || {
        if closing.end.came(None) {
            drop(closing.into_memory());
            KEPT.fetch_sub(requests, Ordering::Release);
            tracing::warn!(requests, after = ?since.elapsed(), "the kernel has ended requests of a queue that is gone");
        }
    };
    if let Err(error) = thread::Builder::new().name("uring-memory".into()).stack_size(STACK).spawn(wait) {
        tracing::error!(%error, requests, "no thread to wait for them; their memory is never used again");
    }
}

#[cfg(test)]
mod tests {
    use engine_block::cut::Geometry;
    use engine_block::{
        BlockQueue, DeviceInfo, Operation, Piece, Pieces, RangeQueue, RangeRequest, Request, Wait, Window,
        Windows,
    };
    use engine_dma::{Mapping, Pool, Region};
    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;
    use crate::ranges::{RangeFile, RingRanges};
    use crate::ring_queue::RingQueue;

    const GEOMETRY: Geometry = Geometry { size: 8192, block: 1, memory: 1, max_transfer: 4096 };
    const DRAIN_LIMIT: Duration = Duration::from_secs(60);

    /// What never has anything to read, with its other end.
    fn silent() -> (Arc<File>, File) {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        (Arc::new(read.into()), write.into())
    }

    #[test]
    fn ranges_dropped_have_what_is_in_flight_cancelled() {
        let (file, _other) = silent();
        let info = DeviceInfo {
            spec: String::new(),
            path: String::new(),
            size: 8192,
            logical_block: 1,
            max_transfer: 4096,
            writable: false,
            volatile_cache: false,
            discard: false,
        };
        let shared = Arc::new(RangeFile::new(file, GEOMETRY, info));
        let mapping = Mapping::whole(Region::private(4096).unwrap());
        let held = Arc::downgrade(&mapping);
        let start = Instant::now();
        let mut queue = RingRanges::new(shared, 2, false, DRAIN_LIMIT).unwrap();
        let memory = Windows::from_iter([Window { mapping, offset: 0, length: 4096 }]);
        queue
            .submit(RangeRequest { tag: 1, operation: Operation::Read, offset: 0, length: 4096, memory })
            .unwrap();
        assert_eq!(queue.poll(Wait::For(Duration::from_millis(20)), &mut Vec::new()), Ok(0));
        drop(queue);
        assert!(start.elapsed() < DRAIN_LIMIT / 2, "{:?}", start.elapsed());
        assert!(held.upgrade().is_none());
    }

    #[test]
    fn queue_dropped_has_what_is_in_flight_cancelled() {
        let (file, _other) = silent();
        let start = Instant::now();
        let mut queue = RingQueue::new(file, GEOMETRY, Pool::new(65536, 1), 2, DRAIN_LIMIT).unwrap();
        let buffer = queue.buffer(8192).unwrap();
        let pieces = Pieces::from_slice(&[Piece { device_offset: 0, buffer_offset: 0, length: 8192 }]);
        queue.submit(Request { tag: 1, buffer, pieces }).unwrap();
        assert_eq!(queue.poll(Wait::For(Duration::from_millis(20)), &mut Vec::new()), Ok(0));
        drop(queue);
        assert!(start.elapsed() < DRAIN_LIMIT / 2, "{:?}", start.elapsed());
    }
}
