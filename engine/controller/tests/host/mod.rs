//! A host that builds every entry by hand: what a driver is under its manners.
#![allow(dead_code, reason = "each test program uses what it needs")]

pub(crate) mod held;
mod memory;
pub(crate) mod ring;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use engine_controller::backing::{Backing, MemoryBacking};
use engine_controller::{Controller, ControllerOptions, InProcess, NamespaceOptions, Subsystem};
use engine_nvme_spec::identify::Cns;
use engine_nvme_spec::{Aqa, Cap, Cc, Cqe, Csts, DOORBELLS, Sqe, Status, admin, doorbell, register};
use engine_transport::Transport;

pub(crate) use memory::Memory;
use ring::Pair;

/// Longest that anything may take before a test fails.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);

/// A host of one controller. Queue pair 0 is the admin queue's.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) controller: Arc<Controller>,
    pub(crate) transport: Arc<InProcess>,
    pub(crate) memory: Memory,
    pairs: Vec<Option<Pair>>,
    next_cid: u16,
    stride: u8,
}

/// One namespace of `bytes` in memory, and the memory.
pub(crate) fn memory_subsystem(bytes: u64) -> (Arc<Subsystem>, MemoryBacking) {
    let backing = MemoryBacking::new(bytes).unwrap();
    (subsystem(Arc::new(backing.clone())), backing)
}

/// One namespace over a backing.
pub(crate) fn subsystem(backing: Arc<dyn Backing>) -> Arc<Subsystem> {
    Subsystem::builder().namespace(NamespaceOptions::new(backing)).build().unwrap()
}

impl Host {
    /// A host of a new controller, which is not enabled yet.
    pub(crate) fn new(options: ControllerOptions, subsystem: Arc<Subsystem>) -> Self {
        Self::of(Controller::new(options, subsystem).unwrap())
    }

    /// A host of this controller.
    pub(crate) fn of(controller: Arc<Controller>) -> Self {
        let transport = Arc::new(InProcess::new("soft:test", Arc::clone(&controller)));
        let memory = Memory::new(&*transport, 24 << 20);
        let stride = Cap(transport.read64(register::CAP).unwrap()).dstrd();
        Self { controller, transport, memory, pairs: Vec::new(), next_cid: 1, stride }
    }

    /// An enabled controller over 16 MiB of memory that works on this thread, with one I/O queue pair of 64 entries.
    pub(crate) fn ready() -> (Self, MemoryBacking) {
        Self::ready_with(ControllerOptions::default())
    }

    /// The same with these options.
    pub(crate) fn ready_with(options: ControllerOptions) -> (Self, MemoryBacking) {
        let (subsystem, backing) = memory_subsystem(16 << 20);
        let mut host = Self::new(options, subsystem);
        host.enable();
        host.create_pair(1, 64);
        (host, backing)
    }

    pub(crate) fn read32(&self, offset: u32) -> u32 {
        self.transport.read32(offset).unwrap()
    }

    pub(crate) fn write32(&self, offset: u32, value: u32) {
        self.transport.write32(offset, value).unwrap();
    }

    pub(crate) fn status(&self) -> Csts {
        Csts(self.read32(register::CSTS))
    }

    /// Waits until the status register is as wanted; what it is then.
    pub(crate) fn await_status(&self, wanted: impl Fn(Csts) -> bool) -> Csts {
        let start = Instant::now();
        loop {
            let status = self.status();
            if wanted(status) {
                return status;
            }
            assert!(start.elapsed() < LIMIT, "the controller stays at {status:?}");
            self.transport.assist(0, Duration::from_millis(1));
        }
    }

    /// What is written to CC to enable a controller.
    pub(crate) fn enabling() -> Cc {
        Cc::default().with_en(true).with_iosqes(6).with_iocqes(4)
    }

    /// Describes admin queues of 32 entries.
    pub(crate) fn place_admin_queues(&mut self) {
        let pair = Pair::new(&mut self.memory, 0, 32, 32);
        let aqa = Aqa::default().with_asqs(31).with_acqs(31);
        self.write32(register::AQA, aqa.0);
        self.transport.write64(register::ASQ, pair.submissions_at()).unwrap();
        self.transport.write64(register::ACQ, pair.completions_at()).unwrap();
        self.put(0, Some(pair));
    }

    /// Enables the controller with admin queues of 32 entries.
    pub(crate) fn enable(&mut self) {
        self.place_admin_queues();
        self.write32(register::CC, Self::enabling().0);
        let status = self.await_status(|status| status.rdy() || status.cfs());
        assert_eq!(status, Csts::default().with_rdy(true));
    }

    /// Takes CC.EN away, and waits for CSTS.RDY to follow.
    pub(crate) fn disable(&mut self) {
        self.write32(register::CC, Self::enabling().with_en(false).0);
        self.await_status(|status| !status.rdy());
        self.pairs.clear();
    }

    /// Makes queue pair `id` with queues of `entries`, without interrupts.
    pub(crate) fn create_pair(&mut self, id: u16, entries: u16) {
        self.create_pair_with(id, entries, entries, None);
    }

    pub(crate) fn create_pair_with(
        &mut self,
        id: u16,
        submissions: u16,
        completions: u16,
        vector: Option<u16>,
    ) {
        let pair = Pair::new(&mut self.memory, id, submissions, completions);
        let create = admin::create_completion_queue(id, completions.into(), pair.completions_at(), vector);
        self.admin_ok(create);
        self.admin_ok(admin::create_submission_queue(id, submissions.into(), pair.submissions_at(), id, 2));
        self.put(id, Some(pair));
    }

    /// Knows a pair that was created by hand.
    pub(crate) fn put(&mut self, id: u16, pair: Option<Pair>) {
        let place = usize::from(id);
        if self.pairs.len() <= place {
            self.pairs.resize_with(place + 1, || None);
        }
        self.pairs[place] = pair;
    }

    pub(crate) fn pair(&mut self, id: u16) -> &mut Pair {
        self.pairs[usize::from(id)].as_mut().unwrap()
    }

    /// Writes a doorbell, as memory where it is mapped.
    pub(crate) fn ring(&self, queue: u16, completion: bool, value: u32) {
        let offset = u32::try_from(doorbell(queue, completion, self.stride)).unwrap();
        let mapped = self.transport.doorbells().unwrap();
        match mapped.u32_at(usize::try_from(offset - DOORBELLS).unwrap()) {
            Some(word) => word.store(value, Ordering::Release),
            None => self.write32(offset, value),
        }
    }

    /// Puts a command into a queue and rings; its identifier.
    pub(crate) fn submit(&mut self, queue: u16, sqe: Sqe) -> u16 {
        let cid = self.push(queue, sqe);
        let tail = self.pair(queue).tail();
        self.ring(queue, false, tail.into());
        cid
    }

    /// Puts a command into a queue without ringing.
    pub(crate) fn push(&mut self, queue: u16, sqe: Sqe) -> u16 {
        let cid = self.next_cid;
        self.next_cid = self.next_cid.wrapping_add(1);
        self.pair(queue).push(Sqe { cid: cid.into(), ..sqe });
        cid
    }

    /// The next completion, where there is one, after letting the controller work once.
    pub(crate) fn look(&mut self, queue: u16) -> Option<Cqe> {
        self.transport.assist(queue, Duration::from_millis(1));
        let entry = self.pair(queue).take()?;
        let head = self.pair(queue).head();
        self.ring(queue, true, head.into());
        Some(entry)
    }

    /// The next completion of a queue.
    ///
    /// # Panics
    /// Where there is none within the limit.
    pub(crate) fn wait(&mut self, queue: u16) -> Cqe {
        let start = Instant::now();
        loop {
            if let Some(entry) = self.look(queue) {
                return entry;
            }
            assert!(start.elapsed() < LIMIT, "nothing on queue {queue}: {:?}", self.status());
        }
    }

    /// Nothing completes on a queue for a while.
    pub(crate) fn is_quiet(&mut self, queue: u16) -> bool {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(30) {
            if self.look(queue).is_some() {
                return false;
            }
        }
        true
    }

    /// Carries out one command.
    pub(crate) fn run(&mut self, queue: u16, sqe: Sqe) -> Cqe {
        let cid = self.submit(queue, sqe);
        let entry = self.wait(queue);
        assert_eq!((entry.cid.get(), entry.sq_id.get()), (cid, queue), "{sqe:?} {entry:?}");
        entry
    }

    /// The status of one command, without what is said about more and about retrying.
    pub(crate) fn code(&mut self, queue: u16, sqe: Sqe) -> Status {
        Status(self.run(queue, sqe).status().0 & Status::CODE)
    }

    /// Carries out an admin command that must succeed; the first dword of its completion.
    pub(crate) fn admin_ok(&mut self, sqe: Sqe) -> u32 {
        let entry = self.run(0, sqe);
        assert!(entry.status().is_success(), "{sqe:?}: {}", entry.status());
        entry.dw0.get()
    }

    /// Carries out an I/O command that must succeed.
    pub(crate) fn io_ok(&mut self, sqe: Sqe) {
        let entry = self.run(1, sqe);
        assert!(entry.status().is_success(), "{sqe:?}: {}", entry.status());
    }

    pub(crate) fn identify(&mut self, cns: Cns, nsid: u32) -> Vec<u8> {
        let at = self.memory.take(4096);
        self.admin_ok(admin::identify(cns, nsid).with_prps(at, 0));
        self.memory.read(at, 4096)
    }
}

/// Bytes that tell where they are from, different for each seed.
pub(crate) fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
