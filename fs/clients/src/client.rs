//! One client: its queues, its memory, its files.

mod files;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use engine_controller::{ClientQueues, ControllerOptions, Subsystem};
use engine_dma::{Access, PAGE, Region, to_u64, to_usize};
use homi_abi::session::{
    ASLEEP, BufferReply, BufferRequest, LEASE_REVOKED, QUEUES_MEDIATED, Queues, QueuesRequest, STATE_ENDING,
    STATE_SERVING, Status, WELCOME_SGL, Welcome,
};
use homifs_core::{Caller, ClientCounters, Homifs};
use parking_lot::Mutex;

use crate::ClientLimits;
use crate::ledger::{Account, Ledger};
use crate::lent::Lent;
use crate::refusal::Refusal;
use crate::scribes::Scribes;
use crate::served::Served;

/// Where data buffers lie on a client's bus, from the first to below the last address.
const BUFFERS: std::ops::Range<u64> = 1 << 32..1 << 62;
/// Where its queues lie.
const QUEUES: u64 = 1 << 62;
/// What addresses of buffers are multiples of.
const STEP: u64 = 2 << 20;
/// Doorbells are `4 << STRIDE` bytes apart: each has a line of 128 bytes.
const STRIDE: u8 = 5;
const LINE: u64 = 128;

/// A client and what it has.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) id: u64,
    homifs: Arc<Homifs>,
    caller: Caller,
    limits: ClientLimits,
    subsystem: Arc<Subsystem>,
    pub(crate) queues: ClientQueues,
    status: Arc<Region>,
    counters: Arc<ClientCounters>,
    ledger: Arc<Ledger>,
    account: Arc<Account>,
    held: Mutex<Held>,
    /// Carry out what may block.
    scribes: Arc<Scribes>,
}

/// What a client was given.
#[derive(Debug, Default)]
struct Held {
    pairs: u16,
    /// Memory of queues, which its pairs use.
    rings: Vec<Arc<Region>>,
    ring_bytes: u64,
    /// Buffers by bus address: their bytes, and what memory they are.
    buffers: HashMap<u64, (u64, Lent)>,
    buffer_bytes: u64,
    next_iova: u64,
    files: HashMap<u32, Arc<dyn Served>>,
    /// Bytes of the arenas among them, by number.
    snapshots: HashMap<u32, u64>,
}

impl Client {
    /// A client that was let in.
    pub(crate) fn new(
        id: u64,
        homifs: Arc<Homifs>,
        caller: Caller,
        limits: ClientLimits,
        workers: usize,
        ledger: Arc<Ledger>,
    ) -> Result<Self, Refusal> {
        let failed = |error: &dyn std::error::Error| {
            Refusal::new(libc::ENOMEM, format!("no room for a client: {error}"))
        };
        let subsystem =
            Subsystem::builder().model("homifs client").build().map_err(|error| failed(&error))?;
        let options = ControllerOptions {
            queue_pairs: u16::try_from(limits.queues).unwrap_or(u16::MAX - 1),
            queue_entries: limits.entries,
            vectors: 1,
            mdts: u8::try_from((limits.transfer / 4096).ilog2()).unwrap_or(8),
            doorbell_stride: STRIDE,
            shadow_doorbells: false,
            ..ControllerOptions::default()
        };
        let queues =
            ClientQueues::new(options, workers, Arc::clone(&subsystem)).map_err(|error| failed(&error))?;
        let length = size_of::<Status>() + to_usize(limits.files.into()) * 8;
        let status = Region::shown(c"homi-status", length).map_err(|error| failed(&error))?;
        let counters = homifs.client_counters();
        counters.clients.fetch_add(1, Ordering::Relaxed);
        let held = Held { next_iova: BUFFERS.start, ..Held::default() };
        let account = ledger.open(id, &caller);
        let held = Mutex::new(held);
        let client = Self {
            id,
            homifs,
            caller,
            limits,
            subsystem,
            queues,
            status,
            counters,
            ledger,
            account,
            held,
            scribes: Arc::default(),
        };
        client.set_state(STATE_SERVING);
        Ok(client)
    }

    fn set_state(&self, state: u32) {
        if let Some(word) = self.status.u32_at(0) {
            word.store(state, Ordering::Release);
        }
    }

    /// Says that one more thread that works for it sleeps, or one fewer.
    pub(crate) fn note_sleep(&self, asleep: bool) {
        let Some(word) = self.status.u32_at(ASLEEP) else { return };
        if asleep {
            word.fetch_add(1, Ordering::SeqCst);
        } else {
            word.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// The answer to the first request, and the status page.
    pub(crate) fn welcome(&self) -> (Welcome, Arc<Region>) {
        let limits = &self.limits;
        let welcome = Welcome {
            client: self.id.into(),
            status_length: to_u64(self.status.length()).into(),
            max_buffer_bytes: limits.memory.into(),
            max_buffers: limits.buffers.into(),
            max_queues: limits.queues.into(),
            max_entries: limits.entries.into(),
            lease_slots: limits.files.into(),
            max_transfer: limits.transfer.into(),
            page_size: u32::try_from(PAGE).unwrap_or(4096).into(),
            flags: WELCOME_SGL.into(),
            ..Welcome::default()
        };
        (welcome, Arc::clone(&self.status))
    }

    /// Makes queue pairs; the answer, the queues' memory, and the doorbells'.
    pub(crate) fn make_queues(&self, request: &QueuesRequest) -> Result<(Queues, [Arc<Region>; 2]), Refusal> {
        let (count, entries) = (request.count.get(), request.entries.get());
        let mut held = self.held.lock();
        let most = self.limits.queues - u32::from(held.pairs);
        if count == 0 || count > most {
            let text = format!("{count} queue pairs cannot be had: this client may have {most} more");
            return Err(Refusal::new(libc::EDQUOT, text));
        }
        if !entries.is_power_of_two() || entries < 2 || entries > self.limits.entries {
            let text =
                format!("queues of {entries} entries: give a power of two from 2 to {}", self.limits.entries);
            return Err(Refusal::new(libc::EINVAL, text));
        }
        let submissions = (u64::from(entries) * 64).next_multiple_of(to_u64(PAGE));
        let completions = (u64::from(entries) * 16).next_multiple_of(to_u64(PAGE));
        let stride = submissions + completions;
        let length = stride * u64::from(count);
        let left = self.limits.memory.saturating_sub(held.buffer_bytes + held.ring_bytes);
        if length > left {
            let text = format!(
                "{count} queue pairs of {entries} entries take {length} bytes: this client may have {left} more"
            );
            return Err(Refusal::new(libc::EDQUOT, text));
        }
        let memory = Region::shared(c"homi-queues", to_usize(length)).map_err(Refusal::from_system)?;
        let first = held.pairs + 1;
        // Pairs are never given back one by one, so their addresses are never used twice.
        let base = QUEUES + u64::from(first) * (1 << 24);
        let space = self.queues.address_space();
        space
            .map(base, length, Arc::clone(&memory), 0, Access::ReadWrite)
            .map_err(|error| Refusal::new(libc::ENOMEM, error.to_string()))?;
        for number in 0..count {
            let start = base + u64::from(number) * stride;
            let pair = first + u16::try_from(number).unwrap_or(u16::MAX - first);
            let made = self.queues.create_pair(pair, entries, start, start + submissions);
            let tally = made.map_err(|status| {
                Refusal::new(libc::EIO, format!("queue pair {pair} cannot be made: {status}"))
            })?;
            self.account.add_queue(tally);
            held.pairs = pair;
        }
        held.rings.push(Arc::clone(&memory));
        held.ring_bytes += length;
        self.counters.queue_pairs.fetch_add(count.into(), Ordering::Relaxed);
        let doorbells = Arc::clone(self.queues.doorbells());
        // Where they begin in the file that the client gets.
        let before = doorbells.file().map_or(0, |(_, offset)| offset);
        let queues = Queues {
            first: u32::from(first).into(),
            count: count.into(),
            entries: entries.into(),
            flags: QUEUES_MEDIATED.into(),
            stride: stride.into(),
            submissions: 0.into(),
            completions: submissions.into(),
            length: to_u64(memory.length()).into(),
            doorbell_stride: (2 * LINE).into(),
            tail_doorbell: (before + u64::from(first) * 2 * LINE).into(),
            head_doorbell: (before + (u64::from(first) * 2 + 1) * LINE).into(),
            doorbells_length: (before + to_u64(doorbells.length())).into(),
        };
        Ok((queues, [memory, doorbells]))
    }

    /// Registers memory of the client's.
    pub(crate) fn register(&self, request: &BufferRequest, memory: OwnedFd) -> Result<BufferReply, Refusal> {
        let (offset, length) = (request.offset.get(), request.length.get());
        let lent = Lent::of(&memory, offset, length, &**self.homifs.shared_device())?;
        let mut held = self.held.lock();
        let left = self.limits.memory.saturating_sub(held.buffer_bytes + held.ring_bytes);
        if held.buffers.len() >= to_usize(self.limits.buffers.into()) || length > left {
            let text = format!("{length} bytes cannot be registered: this client may register {left} more");
            return Err(Refusal::new(libc::EDQUOT, text));
        }
        let region = Region::map(memory, offset, to_usize(length), Access::ReadWrite);
        let region = region.map_err(|error| lent.not_mapped(error))?;
        let iova = held.next_iova;
        let next = iova.checked_add(length.next_multiple_of(STEP)).and_then(|end| end.checked_add(STEP));
        let next = next.filter(|&end| end <= BUFFERS.end);
        let next = next.ok_or_else(|| Refusal::new(libc::ENOSPC, "all bus addresses are used up".into()))?;
        self.queues
            .address_space()
            .map(iova, length, region, 0, Access::ReadWrite)
            .map_err(|error| Refusal::new(libc::ENOMEM, error.to_string()))?;
        held.next_iova = next;
        let kind = lent.kind().into();
        held.buffers.insert(iova, (length, lent));
        held.buffer_bytes += length;
        self.counters.buffer_bytes.fetch_add(length, Ordering::Relaxed);
        Ok(BufferReply { iova: iova.into(), length: length.into(), kind, reserved: 0.into() })
    }

    /// Takes registered memory back; only when nothing reaches it any more does this return.
    pub(crate) fn release(&self, request: &BufferReply) -> Result<(), Refusal> {
        let iova = request.iova.get();
        let (length, lent) = {
            let mut held = self.held.lock();
            let found = held.buffers.remove(&iova);
            let found =
                found.ok_or_else(|| Refusal::new(libc::ENOENT, format!("no buffer lies at {iova:#x}")))?;
            held.buffer_bytes -= found.0;
            found
        };
        self.counters.buffer_bytes.fetch_sub(length, Ordering::Relaxed);
        let unmapped = self.queues.unmap(iova, length);
        // Access to it ends when nobody writes to it any more.
        drop(lent);
        match unmapped {
            Ok(true) => Ok(()),
            Ok(false) => Err(Refusal::new(libc::ETIMEDOUT, "commands that use the memory do not end".into())),
            Err(error) => Err(Refusal::new(libc::EIO, error.to_string())),
        }
    }

    /// Takes everything back, in this order: nothing more is granted, queues are drained and deleted, and only then
    /// memory and files go. Where commands do not end, this waits for them until `stop` says that nobody can: the threads
    /// that carry out its commands must not have to.
    pub(crate) fn end(&self, stop: impl Fn() -> bool) {
        self.set_state(STATE_ENDING);
        // Somebody who takes a file back from everybody needs the lock, and must not wait for a client that goes.
        let gone = {
            let mut held = self.held.lock();
            for file in held.files.values() {
                file.common().revoke();
                self.set_lease(file.common().number, LEASE_REVOKED);
            }
            std::mem::take(&mut *held)
        };
        self.drain(stop);
        for pair in 1..=gone.pairs {
            self.queues.delete_pair(pair);
        }
        self.counters.queue_pairs.fetch_sub(gone.pairs.into(), Ordering::Relaxed);
        for &nsid in gone.files.keys() {
            let _ = self.subsystem.remove_namespace(nsid);
        }
        // Nobody lets a file go later, on a thread that others need: closing one may take its time.
        if !self.queues.unmap_all() {
            tracing::error!(
                client = self.id,
                "memory of a client is given back while the device works on it"
            );
        }
        self.counters.buffer_bytes.fetch_sub(gone.buffer_bytes, Ordering::Relaxed);
        for nsid in gone.files.into_keys() {
            self.forget(nsid);
        }
        self.ledger.close(self.id);
        self.counters.clients.fetch_sub(1, Ordering::Relaxed);
    }

    fn drain(&self, stop: impl Fn() -> bool) {
        if self.queues.drain() {
            return;
        }
        tracing::error!(client = self.id, "commands of a client do not end");
        // What it asked to have written and nobody began is not: it was told of nothing.
        self.scribes.give_up();
        while !stop() && !self.queues.drain() {}
    }
}

/// A number that no client had before.
pub(crate) fn next_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
