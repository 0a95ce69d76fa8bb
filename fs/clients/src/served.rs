//! What a client has open, as a namespace: a file, or all files of a snapshot.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use engine_block::{BlockDevice, Operation};
use engine_controller::backing::{BitBucket, Io, Memory, Started};
use engine_controller::tally::Tally;
use engine_controller::{Backing, BackingQueue, Commons, ControllerError};
use engine_dma::{Access, to_u64, to_usize};
use engine_nvme_spec::Status;
use homifs_core::{Homifs, Lease};
use parking_lot::Mutex;

use crate::ledger::FileTally;
use crate::parts::Parts;
use crate::scribes::Scribes;
use crate::share::Share;

/// Of a command that comes next, so many bytes are asked for while another one's are copied: enough for the processor's
/// own foresight to have begun, few enough to fit beside what is copied now.
const EXPECTED: u64 = 1024;

/// So many are asked for in all. The others while no bytes are moved: between two copies one command is answered and the
/// next one checked, in which time memory would have nothing to do.
const EXPECTED_AT_MOST: u64 = 4096;

/// What all that is open has.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) homifs: Arc<Homifs>,
    /// Its number among what its client has open.
    pub(crate) number: u32,
    /// Bytes of a block of the namespace.
    pub(crate) block: u32,
    /// Bytes of a block of the device.
    device_block: u32,
    pub(crate) tally: Arc<FileTally>,
    revoked: AtomicBool,
    /// Whether there ever was a lease; where nothing moves, commands need not be counted.
    leased: bool,
    /// Commands that were taken and not answered, by each worker that came by: only it writes its own.
    under_way: Mutex<Vec<Arc<UnderWay>>>,
    /// What keeps its blocks where they are; given back once it is revoked and nothing is under way.
    lease: Mutex<Option<Arc<dyn Lease>>>,
}

/// How many commands one worker has under way, on a line of its own: one count for all would go from core to core with
/// each command.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct UnderWay(AtomicUsize);

/// How much of something open was taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TakenBack {
    /// It has nothing of that file.
    Nothing,
    /// One file of several.
    Part,
    /// All of it.
    Whole,
}

/// Something open.
pub(crate) trait Served: Send + Sync + Debug {
    /// What all have.
    fn common(&self) -> &Common;

    /// Bytes of the namespace, whole blocks.
    fn size(&self) -> u64;

    /// What it is called in logs.
    fn describe(&self) -> String;

    /// Where on the volume a command's `length` bytes from `offset` on lie, where that is one piece of a file, as it is.
    fn lies_at(&self, offset: u64, length: u64) -> Option<u64>;

    /// Finds the parts of a command on `length` bytes from `offset` on, whole blocks within it.
    fn gather(&self, offset: u64, length: u64, parts: &mut Parts<'_>) -> Result<(), Status>;

    /// Whether the file with this inode is in it.
    fn shows(&self, inode: u64) -> bool;

    /// Takes the file with this inode back.
    fn take_back(&self, inode: u64) -> TakenBack;
}

impl Common {
    /// With blocks of `block` bytes; `inode` is what statistics name it by.
    pub(crate) fn new(homifs: Arc<Homifs>, number: u32, block: u32, inode: u64) -> Self {
        let (tally, revoked) = (FileTally::new(inode), AtomicBool::new(false));
        let device_block = homifs.device().info().logical_block.max(512);
        let (under_way, lease) = (Mutex::default(), Mutex::new(None));
        Self { homifs, number, block, device_block, tally, revoked, leased: false, under_way, lease }
    }

    /// Whether it was taken back.
    pub(crate) fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::Acquire)
    }

    /// With a lease on what it reads.
    pub(crate) fn holding(self, lease: Option<Arc<dyn Lease>>) -> Self {
        Self { leased: lease.is_some(), lease: Mutex::new(lease), ..self }
    }

    /// Lets every further command answer Namespace Not Ready; gives the lease back when none is under way.
    pub(crate) fn revoke(&self) {
        self.revoked.store(true, Ordering::SeqCst);
        self.give_back_if_idle();
    }

    /// A count for one more worker.
    fn worker(&self) -> Arc<UnderWay> {
        let own = Arc::<UnderWay>::default();
        let mut all = self.under_way.lock();
        // Those whose workers are gone have nothing under way.
        all.retain(|one| Arc::strong_count(one) > 1);
        all.push(Arc::clone(&own));
        own
    }

    /// Notes a worker's command, unless what it is for was taken back. One of this and [`revoke`](Self::revoke) sees the
    /// other: both store before they load.
    fn enter(&self, own: &UnderWay) -> bool {
        if !self.leased {
            return !self.revoked.load(Ordering::Acquire);
        }
        own.0.fetch_add(1, Ordering::SeqCst);
        let open = !self.revoked.load(Ordering::SeqCst);
        if !open {
            self.leave(own, 1);
        }
        open
    }

    /// Notes that a worker's commands were answered.
    fn leave(&self, own: &UnderWay, commands: usize) {
        if !self.leased {
            return;
        }
        let before = own.0.fetch_sub(commands, Ordering::SeqCst);
        if before == commands && self.revoked.load(Ordering::SeqCst) {
            self.give_back_if_idle();
        }
    }

    /// Once it is revoked, a worker's count rises only until it sees that; so the last one to leave sees all at none.
    fn give_back_if_idle(&self) {
        if self.under_way.lock().iter().all(|one| one.0.load(Ordering::SeqCst) == 0) {
            self.give_back();
        }
    }

    fn give_back(&self) {
        let lease = self.lease.lock().take();
        drop(lease);
    }
}

/// Something open as a backing.
#[derive(Debug, Clone)]
pub(crate) struct ServedBacking {
    pub(crate) served: Arc<dyn Served>,
    pub(crate) scribes: Arc<Scribes>,
}

impl Backing for ServedBacking {
    fn size(&self) -> u64 {
        self.served.size()
    }

    fn block(&self) -> u32 {
        self.served.common().block
    }

    fn is_read_only(&self) -> bool {
        true
    }

    fn describe(&self) -> String {
        self.served.describe()
    }

    fn queue(&self, depth: u32) -> Result<Box<dyn BackingQueue>, ControllerError> {
        self.queue_among(depth, &mut None)
    }

    fn queue_among(
        &self,
        depth: u32,
        commons: &mut Commons,
    ) -> Result<Box<dyn BackingQueue>, ControllerError> {
        let device = self.served.common().homifs.shared_device();
        let share = Share::of(commons, &self.served.common().homifs, &self.scribes, depth)?;
        Ok(Box::new(ServedQueue {
            served: Arc::clone(&self.served),
            memory: device.copies_now().then(|| Arc::clone(device)),
            rest: (0, 0),
            share,
            under_way: self.served.common().worker(),
            in_flight: 0,
            bucket: BitBucket::default(),
        }))
    }

    fn tally(&self) -> Option<Arc<Tally>> {
        Some(self.served.common().tally.shard())
    }
}

#[derive(Debug)]
struct ServedQueue {
    served: Arc<dyn Served>,
    /// The device, where it is memory.
    memory: Option<Arc<dyn BlockDevice>>,
    /// Where on it the later bytes of what is expected lie, and how many.
    rest: (u64, u64),
    share: Arc<Mutex<Share>>,
    under_way: Arc<UnderWay>,
    in_flight: usize,
    bucket: BitBucket,
}

impl ServedQueue {
    /// Copies what lies in memory; whether it does.
    #[inline]
    fn copy(&self, io: &Io, memory: &mut Memory<'_>) -> Result<bool, Status> {
        let Some(device) = &self.memory else { return Ok(false) };
        let Some(place) = self.served.lies_at(io.offset, io.length) else { return Ok(false) };
        let place = self.served.common().homifs.device_offset(place).ok_or(Status::INTERNAL_ERROR)?;
        let (mut at, mut copied) = (place, true);
        memory.pieces(Access::ReadWrite, |place, length| {
            if let Some((mapping, offset)) = place.filter(|_| copied) {
                copied = device.copy_now(at, mapping.region(), offset, length);
            }
            at += to_u64(length);
            Ok(())
        })?;
        Ok(copied)
    }

    fn read(&mut self, io: &Io, memory: &mut Memory<'_>) -> Result<Started, Status> {
        if self.copy(io, memory)? {
            return Ok(Started::Done(Status::SUCCESS));
        }
        let windows = memory.windows(Access::ReadWrite, &mut self.bucket)?;
        let common = self.served.common();
        let mut parts = Parts::new(&common.homifs, common.device_block, windows, io.length);
        self.served.gather(io.offset, io.length, &mut parts)?;
        if parts.ranges.is_empty() && parts.tails.is_empty() && parts.asides.is_empty() {
            return Ok(Started::Done(Status::SUCCESS));
        }
        let Parts { ranges, tails, asides, .. } = parts;
        self.share.lock().start(common.number, io.token, ranges, tails, asides);
        self.in_flight += 1;
        Ok(Started::Pending)
    }
}

impl BackingQueue for ServedQueue {
    fn start(&mut self, io: &Io, memory: &mut Memory<'_>) -> Started {
        if !self.served.common().enter(&self.under_way) {
            return Started::Done(Status::NAMESPACE_NOT_READY.final_());
        }
        let started = match io.operation {
            Operation::Read => self.read(io, memory).unwrap_or_else(Started::Done),
            Operation::Flush => Started::Done(Status::SUCCESS),
            Operation::Write | Operation::WriteZeroes | Operation::Discard => {
                Started::Done(Status::NAMESPACE_WRITE_PROTECTED.final_())
            }
        };
        if let Started::Done(_) = started {
            self.served.common().leave(&self.under_way, 1);
        }
        started
    }

    fn expect(&mut self, offset: u64, length: u64) {
        let Some(device) = &self.memory else { return };
        let length = length.min(EXPECTED_AT_MOST);
        let place = self.served.lies_at(offset, length);
        let Some(place) = place.and_then(|place| self.served.common().homifs.device_offset(place)) else {
            return self.rest = (0, 0);
        };
        let now = length.min(EXPECTED);
        device.copy_soon(place, to_usize(now));
        self.rest = (place + now, length - now);
    }

    fn expect_rest(&mut self) {
        let (place, length) = std::mem::take(&mut self.rest);
        if let Some(device) = &self.memory {
            device.copy_later(place, to_usize(length));
        }
    }

    fn poll(&mut self, limit: Duration, done: &mut Vec<(u64, Status)>) {
        let before = done.len();
        self.share.lock().take(self.served.common().number, limit, done);
        let ended = done.len() - before;
        self.in_flight -= ended;
        if ended > 0 {
            self.served.common().leave(&self.under_way, ended);
        }
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }
}
