//! One namespace as a block device.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use engine_block::cut::{Geometry, refuse, whole};
use engine_block::{
    BlockDevice, BlockQueue, Completion, DeviceInfo, IoError, OpenError, Operation, Piece, Pieces, Request,
    Wait,
};
use engine_dma::{Buffer, Pool, to_u64, to_usize};
use engine_transport::{Transport, TransportMemory};
use parking_lot::{Mutex, MutexGuard};

use crate::pair::Waiting;
use crate::worker::{Target, Worker};
use crate::{Controller, DriverError, DriverOptions, NamespaceFacts, errno};

/// Memory that a queue maps at a time for each request that it may have in flight, within bounds; and at most.
const ARENA_FOR_EACH: usize = 128 << 10;
const SHORTEST_ARENA: usize = 1 << 20;
const LONGEST_ARENA: usize = 4 << 20;
const MOST_MEMORY: usize = 16 << 20;

/// Owners of a queue pair that is shared, and requests that they can have in flight together.
const MOST_OWNERS: usize = 1024;
const MOST_REQUESTS: usize = 4096;

/// What `read_at` reads at a time.
const READ_AT: usize = 1 << 20;

/// A namespace of a controller, served by the user-space driver.
///
/// Workers that ask for a queue get a queue pair of their own as long as there are any; the others, and
/// [`read_at`](BlockDevice::read_at), share a few that are kept for that.
#[derive(Debug)]
pub struct NvmeDevice {
    info: DeviceInfo,
    namespace: NamespaceFacts,
    target: Target,
    controller: Arc<Controller>,
    shared: Vec<Arc<Mutex<Worker>>>,
    next: AtomicUsize,
}

/// Brings the controller behind a transport up and serves one of its namespaces.
///
/// # Errors
/// Where the controller cannot be used, or has no such namespace.
pub fn open(transport: Arc<dyn Transport>, options: DriverOptions) -> Result<Arc<NvmeDevice>, DriverError> {
    let wanted = options.namespace;
    let controller = Controller::open(transport, options)?;
    NvmeDevice::new(controller, wanted).map(Arc::new)
}

impl NvmeDevice {
    /// Serves namespace `wanted` of a controller, or its first.
    ///
    /// # Errors
    /// Where there is no such namespace, none that can be read, or no queue pair left.
    pub fn new(controller: Arc<Controller>, wanted: Option<u32>) -> Result<Self, DriverError> {
        let id = match wanted {
            Some(id) => id,
            None => controller.namespaces()?.first().copied().ok_or_else(|| DriverError::Namespace {
                device: controller.name().to_owned(),
                namespace: 1,
                reason: "the controller has no active namespace; attach or create one".to_owned(),
            })?,
        };
        let namespace = controller.namespace(id)?;
        let block = 1_u32 << namespace.block_shift;
        if controller.max_transfer() < block {
            return Err(DriverError::Namespace {
                device: controller.name().to_owned(),
                namespace: id,
                reason: format!(
                    "its blocks of {block} bytes are longer than the controller moves at once ({})",
                    controller.max_transfer()
                ),
            });
        }
        // A command has at most 65536 blocks.
        let max_transfer = controller.max_transfer().min(block << 16_u32.min(31 - namespace.block_shift));
        let geometry = Geometry { size: namespace.size(), block, memory: 4, max_transfer };
        let target = Target { nsid: id, block_shift: namespace.block_shift, geometry };
        let info = DeviceInfo {
            spec: controller.name().to_owned(),
            path: describe(&controller, id),
            size: namespace.size(),
            logical_block: block,
            max_transfer,
            // Queues of this device read.
            writable: false,
            volatile_cache: controller.facts().write_cache,
            discard: false,
        };
        // Where there are few pairs, most of them are for workers alone.
        let count = if controller.queues() >= 8 { 2 } else { 1 };
        let share = |_| {
            let pair = controller.pair()?;
            let pool = pool(&controller, MOST_REQUESTS);
            Ok(Arc::new(Mutex::new(Worker::new(pair, target, pool, MOST_REQUESTS, MOST_OWNERS))))
        };
        let shared = (0..count).map(share).collect::<Result<Vec<_>, DriverError>>()?;
        Ok(Self { info, namespace, target, controller, shared, next: AtomicUsize::new(0) })
    }

    /// The controller.
    #[must_use]
    pub fn controller(&self) -> &Arc<Controller> {
        &self.controller
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &NamespaceFacts {
        &self.namespace
    }

    fn share(&self, depth: usize) -> Result<SharedQueue, DriverError> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        for place in 0..self.shared.len() {
            let Some(worker) = self.shared.get((first + place) % self.shared.len()) else { continue };
            let mut locked = worker.lock();
            let queue = locked.pair.number();
            if let Some(owner) = locked.join() {
                drop(locked);
                let worker = Arc::clone(worker);
                return Ok(SharedQueue {
                    queue,
                    transport: Arc::clone(self.controller.transport()),
                    pool: pool(&self.controller, depth),
                    worker,
                    owner,
                    depth,
                    in_flight: 0,
                });
            }
        }
        Err(DriverError::Queues {
            device: self.controller.name().to_owned(),
            reason: format!("{MOST_OWNERS} workers share each of its queues already"),
        })
    }
}

/// The path in words.
fn describe(controller: &Controller, namespace: u32) -> String {
    let facts = controller.facts();
    let (major, minor) = (controller.version().major(), controller.version().minor());
    let mut path = format!(
        "user-space NVMe driver: {} (NVMe {major}.{minor}, namespace {namespace}), {} queue pair{}, {}",
        facts.model,
        controller.queues(),
        if controller.queues() == 1 { "" } else { "s" },
        if controller.uses_sgl() { "SGL" } else { "PRP" },
    );
    if controller.uses_shadow_doorbells() {
        path += ", shadow doorbells";
    }
    path
}

/// Memory for a queue of `depth` requests.
fn pool(controller: &Controller, depth: usize) -> Pool {
    let arena = ARENA_FOR_EACH.saturating_mul(depth).clamp(SHORTEST_ARENA, LONGEST_ARENA);
    let source = TransportMemory(Arc::clone(controller.transport()));
    Pool::of(Arc::new(source), arena, MOST_MEMORY / arena)
}

impl BlockDevice for NvmeDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn queue(&self, depth: u32) -> Result<Box<dyn BlockQueue>, OpenError> {
        let depth = to_usize(depth.into()).max(1);
        match self.controller.pair() {
            Ok(pair) => {
                let bounce = pool(&self.controller, depth);
                let memory = bounce.another();
                let mut worker = Worker::new(pair, self.target, bounce, depth, 1);
                let owner = worker.join().unwrap_or_default();
                Ok(Box::new(NvmeQueue { worker, owner, pool: memory, depth, in_flight: 0 }))
            }
            Err(DriverError::Queues { .. } | DriverError::Command { .. }) => Ok(Box::new(self.share(depth)?)),
            Err(error) => Err(error.into()),
        }
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), IoError> {
        let failed = |offset, length: usize, errno| IoError {
            operation: Operation::Read,
            offset,
            length: to_u64(length),
            errno,
        };
        let mut queue = self.share(1).map_err(|error| failed(offset, buf.len(), error.errno()))?;
        let mut at = offset;
        for part in buf.chunks_mut(READ_AT) {
            let buffer = queue.buffer(part.len()).map_err(|error| failed(at, part.len(), error.errno))?;
            let piece = Piece { device_offset: at, buffer_offset: 0, length: part.len() };
            let done = queue.read(Request { tag: 0, buffer, pieces: Pieces::from_slice(&[piece]) });
            done.result?;
            if let Some(bytes) = done.buffer.get(..part.len()) {
                part.copy_from_slice(bytes);
            }
            at = at.saturating_add(to_u64(part.len()));
        }
        Ok(())
    }
}

/// One worker's queue pair.
#[derive(Debug)]
struct NvmeQueue {
    worker: Worker,
    owner: usize,
    pool: Pool,
    depth: usize,
    in_flight: usize,
}

/// Moves what has ended to the caller; how many those are.
fn hand_over(worker: &mut Worker, owner: usize, done: &mut Vec<Completion>) -> usize {
    let Some(finished) = worker.finished(owner) else { return 0 };
    let count = finished.len();
    done.extend(finished.drain(..));
    count
}

/// How long a poll may still wait; none once it may not.
fn time_left(wait: Wait, start: Option<Instant>) -> Option<Duration> {
    match (wait, start) {
        (Wait::One, _) => Some(Duration::MAX),
        (Wait::For(limit), Some(start)) => Some(limit.saturating_sub(start.elapsed())),
        (Wait::No | Wait::For(_), _) => None,
    }
    .filter(|left| !left.is_zero())
}

fn take(pool: &mut Pool, length: usize) -> Result<Buffer, IoError> {
    pool.take(length).map_err(|error| IoError {
        operation: Operation::Read,
        offset: 0,
        length: to_u64(length),
        // Memory is made known to the controller, which may not be there any more.
        errno: match error.kind() {
            io::ErrorKind::NotConnected => errno::ENODEV,
            io::ErrorKind::TimedOut => errno::ETIMEDOUT,
            _ => errno::ENOMEM,
        },
    })
}

impl BlockQueue for NvmeQueue {
    fn buffer(&mut self, length: usize) -> Result<Buffer, IoError> {
        take(&mut self.pool, length)
    }

    fn submit(&mut self, request: Request) -> Result<(), Completion> {
        if self.in_flight >= self.depth {
            let error = whole(&request, errno::EBUSY);
            return Err(refuse(request, error));
        }
        self.worker.submit(self.owner, request)?;
        self.in_flight += 1;
        Ok(())
    }

    fn poll(&mut self, wait: Wait, done: &mut Vec<Completion>) -> Result<usize, IoError> {
        if self.in_flight == 0 {
            return Ok(0);
        }
        let start = matches!(wait, Wait::For(_)).then(Instant::now);
        let mut waiting = Waiting::default();
        loop {
            let landed = self.worker.step();
            let count = hand_over(&mut self.worker, self.owner, done);
            if count > 0 {
                self.in_flight -= count;
                return Ok(count);
            }
            let Some(left) = time_left(wait, start) else { return Ok(0) };
            if landed > 0 {
                waiting = Waiting::default();
                continue;
            }
            let left = self.worker.next_try().map_or(left, |next| left.min(next));
            self.worker.pair.pause(&mut waiting, left);
        }
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }
}

/// A share of a queue pair. Those who share it take turns: each does the work of all while it has the lock.
#[derive(Debug)]
struct SharedQueue {
    worker: Arc<Mutex<Worker>>,
    transport: Arc<dyn Transport>,
    queue: u16,
    owner: usize,
    pool: Pool,
    depth: usize,
    in_flight: usize,
}

impl SharedQueue {
    /// One turn: how many of our requests have ended, and how many commands of anybody's.
    fn turn(&mut self, done: &mut Vec<Completion>, sleeps: bool) -> (usize, usize) {
        let mut worker = self.worker.lock();
        if sleeps {
            worker.pair.hurry();
        }
        let landed = worker.step();
        let count = hand_over(&mut worker, self.owner, done);
        // Whoever waits for the lock gets it, rather than who asks again first.
        MutexGuard::unlock_fair(worker);
        self.in_flight -= count;
        (count, landed)
    }
}

impl BlockQueue for SharedQueue {
    fn buffer(&mut self, length: usize) -> Result<Buffer, IoError> {
        take(&mut self.pool, length)
    }

    fn submit(&mut self, request: Request) -> Result<(), Completion> {
        let mut worker = self.worker.lock();
        if self.in_flight >= self.depth || worker.is_full() {
            let error = whole(&request, errno::EBUSY);
            return Err(refuse(request, error));
        }
        worker.submit(self.owner, request)?;
        drop(worker);
        self.in_flight += 1;
        Ok(())
    }

    fn poll(&mut self, wait: Wait, done: &mut Vec<Completion>) -> Result<usize, IoError> {
        if self.in_flight == 0 {
            return Ok(0);
        }
        let start = matches!(wait, Wait::For(_)).then(Instant::now);
        let mut waiting = Waiting::default();
        loop {
            let (count, landed) = self.turn(done, waiting.sleeps());
            if count > 0 {
                return Ok(count);
            }
            let Some(left) = time_left(wait, start) else { return Ok(0) };
            if landed > 0 {
                waiting = Waiting::default();
                continue;
            }
            waiting.pause(&*self.transport, self.queue, left);
        }
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }
}

impl Drop for SharedQueue {
    fn drop(&mut self) {
        self.worker.lock().stop(self.owner);
        let mut done = Vec::new();
        let mut waiting = Waiting::default();
        while self.in_flight > 0 {
            if self.turn(&mut done, waiting.sleeps()).1 == 0 {
                waiting.pause(&*self.transport, self.queue, Duration::from_millis(1));
            }
            done.clear();
        }
        self.worker.lock().leave(self.owner);
    }
}
