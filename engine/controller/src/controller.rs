//! A controller: its state, its queues and who works on them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use engine_dma::{Access, AddressSpace, MapError, Region, to_usize};
use engine_nvme_spec::{Cc, Csts, DOORBELLS, Event, doorbell, register};
use engine_transport::{Assist, Interrupt};
use parking_lot::{Mutex, RwLock};

use crate::admin::{QueueTable, ShadowDoorbells};
use crate::interrupts::Vectors;
use crate::processor::Processor;
use crate::queue::{CompletionQueue, RingMemory, SubmissionQueue, ring_bytes};
use crate::registers::{Registers, Request, Reset, Stopping};
use crate::subsystem::{ControllerFacts, ControllerState, CopyLimits, ErrorRecord, Subsystem};
use crate::threads::Crew;
use crate::{ControllerError, ControllerOptions, Faults};

/// Most ranges of bus addresses that a host may map.
const MAPS_MOST: usize = 1 << 16;
/// How long the host waits in its write of CC.EN for backings to come to their end. Where that takes longer, it sees in
/// CSTS when it is over.
const DISABLE_WAIT: Duration = Duration::from_millis(50);
/// How long a backing is waited for at a time while others may have something, and a thread of the controller's.
const BACKING_WAIT: Duration = Duration::from_millis(10);
const THREAD_WAIT: Duration = Duration::from_micros(200);

/// What all parts of a controller see.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: ControllerOptions,
    pub(crate) facts: ControllerFacts,
    pub(crate) subsystem: Arc<Subsystem>,
    pub(crate) state: Arc<ControllerState>,
    pub(crate) space: Arc<AddressSpace>,
    pub(crate) vectors: Vectors,
    doorbells: Arc<Region>,
    shadow_in_use: AtomicBool,
    pub(crate) shadow: RwLock<Option<ShadowDoorbells>>,
    page: AtomicU64,
    weighted: AtomicBool,
    entry_sizes_set: AtomicBool,
    fatal: AtomicBool,
}

impl Shared {
    /// The value of a doorbell: the host's own copy where it keeps one.
    #[inline]
    pub(crate) fn doorbell(&self, queue: u16, completion: bool) -> u32 {
        if self.uses_shadow() {
            let shadow = self.shadow.read();
            if let Some(value) =
                shadow.as_ref().and_then(|shadow| shadow.value(queue, completion, self.stride()))
            {
                return value;
            }
        }
        self.register(queue, completion).map_or(0, |word| word.load(Ordering::Acquire))
    }

    /// Whether the host keeps doorbells of its own.
    #[inline]
    pub(crate) fn uses_shadow(&self) -> bool {
        self.shadow_in_use.load(Ordering::Relaxed)
    }

    /// Asks for the line of a queue's tail doorbell.
    #[inline]
    pub(crate) fn expect_doorbell(&self, queue: u16) {
        if let Some(word) = self.register(queue, false) {
            engine_dma::read_soon(word);
        }
    }

    fn register(&self, queue: u16, completion: bool) -> Option<&std::sync::atomic::AtomicU32> {
        let offset = doorbell(queue, completion, self.stride()) - u64::from(DOORBELLS);
        self.doorbells.u32_at(to_usize(offset))
    }

    /// Sets the doorbells of a queue that is made back to the beginning.
    pub(crate) fn clear_doorbell(&self, queue: u16, completion: bool) {
        if let Some(word) = self.register(queue, completion) {
            word.store(0, Ordering::Release);
        }
        if let Some(shadow) = &*self.shadow.read() {
            shadow.clear(queue, completion, self.stride());
        }
    }

    pub(crate) fn stride(&self) -> u8 {
        self.options.doorbell_stride
    }

    /// Takes the host's own doorbells into use.
    pub(crate) fn use_shadow(&self, shadow: Option<ShadowDoorbells>) {
        self.shadow_in_use.store(shadow.is_some(), Ordering::Release);
        *self.shadow.write() = shadow;
    }

    /// Bytes of a memory page.
    #[inline]
    pub(crate) fn page(&self) -> u64 {
        self.page.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn is_weighted(&self) -> bool {
        self.weighted.load(Ordering::Relaxed)
    }

    pub(crate) fn entry_sizes_set(&self) -> bool {
        self.entry_sizes_set.load(Ordering::Relaxed)
    }

    /// The arbitration feature.
    #[inline]
    pub(crate) fn arbitration(&self) -> u32 {
        self.state.features().arbitration()
    }

    pub(crate) fn copy_limits(&self) -> CopyLimits {
        self.facts.copy.unwrap_or(CopyLimits { ranges: 1, range_blocks: 1, blocks: 1 })
    }

    pub(crate) fn faults(&self) -> Option<&Faults> {
        self.options.faults.as_ref()
    }

    /// Tells the host of something.
    #[cold]
    pub(crate) fn event(&self, event: Event) {
        if event.kind == engine_nvme_spec::EventType::ERROR {
            self.error(&ErrorRecord {
                command: None,
                opcode: 0,
                status: engine_nvme_spec::Status::INTERNAL_ERROR,
                location: None,
                lba: 0,
                nsid: 0,
            });
        }
        self.state.events().raise(event);
    }

    #[cold]
    pub(crate) fn error(&self, record: &ErrorRecord) {
        self.subsystem.record_error(&self.state, record);
    }

    /// Says that the controller cannot go on until it is reset.
    #[cold]
    pub(crate) fn fail(&self) {
        self.fatal.store(true, Ordering::Release);
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.fatal.load(Ordering::Acquire) || self.faults().is_some_and(Faults::is_broken)
    }

    /// What a reset leaves behind it.
    fn mend(&self) {
        self.fatal.store(false, Ordering::Release);
        if let Some(faults) = self.faults() {
            faults.mend();
        }
    }
}

/// The parts of a controller that its threads work on.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) shared: Shared,
    registers: Mutex<Registers>,
    /// Works on the admin queue.
    pub(crate) admin: Mutex<Processor>,
    pub(crate) queues: Mutex<QueueTable>,
    /// Work on I/O queues: one for each thread, or for each queue pair where there are no threads.
    pub(crate) slots: Vec<Mutex<Processor>>,
}

impl Inner {
    /// Who works on a queue pair.
    pub(crate) fn slot(&self, queue: u16) -> Option<&Mutex<Processor>> {
        let place = usize::from(queue.checked_sub(1)?);
        self.slots.get(place % self.slots.len().max(1))
    }

    /// Whether a processor belongs to the thread that works on the admin queue: to the first, where there are threads.
    pub(crate) fn is_own(&self, slot: &Mutex<Processor>) -> bool {
        self.shared.options.threads == 0 || self.slots.first().is_some_and(|first| std::ptr::eq(first, slot))
    }

    /// Waits at most `limit`, for all of them together, until all `processors` are `over`; whether they are. Where they
    /// are not the caller's `own`, their threads take what backings have done.
    pub(crate) fn settle(
        &self,
        processors: &[&Mutex<Processor>],
        own: bool,
        limit: Duration,
        over: impl Fn(&Processor) -> bool,
    ) -> bool {
        let start = Instant::now();
        loop {
            let (mut all, mut waited) = (true, false);
            for processor in processors {
                let mut processor = processor.lock();
                if !over(&processor) && (own || !processor.stays_on_thread) {
                    let left = limit.saturating_sub(start.elapsed());
                    processor.collect(&self.shared, left.min(BACKING_WAIT));
                    waited = true;
                }
                all &= over(&processor);
            }
            if all || start.elapsed() >= limit {
                return all;
            }
            if !waited {
                std::thread::sleep(THREAD_WAIT);
            }
        }
    }

    /// Whether the fault of being stuck or gone is shown.
    pub(crate) fn is_idle(&self) -> bool {
        self.shared.faults().is_some_and(Faults::is_idle)
    }
}

/// A software NVMe controller: one host's way to a [`Subsystem`].
#[derive(Debug)]
pub struct Controller {
    pub(crate) inner: Arc<Inner>,
    crew: Crew,
}

impl Controller {
    /// A controller that is not enabled yet, with its threads at work.
    ///
    /// # Errors
    /// Where the options cannot be, or the system gives no memory or threads.
    pub fn new(options: ControllerOptions, subsystem: Arc<Subsystem>) -> Result<Arc<Self>, ControllerError> {
        let pairs = usize::from(options.queue_pairs);
        let slots = if options.threads > 0 { options.threads.min(pairs) } else { pairs };
        Self::with_slots(options, subsystem, slots)
    }

    /// As [`new`](Self::new), with `slots` processors that share the queues.
    pub(crate) fn with_slots(
        options: ControllerOptions,
        subsystem: Arc<Subsystem>,
        slots: usize,
    ) -> Result<Arc<Self>, ControllerError> {
        options.check()?;
        let system = |action| move |source| ControllerError::System { action, source };
        let pairs = usize::from(options.queue_pairs);
        let doorbells = (pairs + 1) * 2 * (4 << options.doorbell_stride);
        let doorbells = doorbells_of_bar(doorbells).map_err(system("make doorbells"))?;
        let most = options.transfer_most();
        let facts = ControllerFacts {
            mdts: options.mdts,
            shadow_doorbells: options.shadow_doorbells && options.threads > 0,
            queues: options.queue_pairs,
            vectors: options.vectors,
            copy: Some(CopyLimits {
                ranges: 128,
                range_blocks: u16::try_from(most / 4096).unwrap_or(u16::MAX),
                blocks: u32::try_from(most / 4096).unwrap_or(u32::MAX),
            }),
            ..ControllerFacts::default()
        };
        let health = subsystem.health();
        let processor =
            |stays_on_thread| Mutex::new(Processor::new(health.counters(), &options, stays_on_thread));
        let inner = Arc::new(Inner {
            registers: Mutex::new(Registers::new(&options)),
            // Whoever has its lock works on it.
            admin: processor(false),
            queues: Mutex::new(QueueTable::new(options.queue_pairs)),
            slots: (0..slots).map(|_| processor(options.threads > 0)).collect(),
            shared: Shared {
                facts,
                state: subsystem.attach_controller()?,
                space: Arc::new(AddressSpace::new(MAPS_MOST)),
                vectors: Vectors::new(options.vectors),
                doorbells,
                shadow_in_use: AtomicBool::new(false),
                shadow: RwLock::new(None),
                page: AtomicU64::new(4096),
                weighted: AtomicBool::new(false),
                entry_sizes_set: AtomicBool::new(false),
                fatal: AtomicBool::new(false),
                subsystem,
                options,
            },
        });
        let threads = if inner.shared.options.threads > 0 { slots } else { 0 };
        let crew = Crew::start(&inner, threads).map_err(system("start a thread"))?;
        let waker = crew.waker();
        inner.shared.state.events().wake_by(Some(Arc::new(move || waker.wake_all())));
        Ok(Arc::new(Self { inner, crew }))
    }

    /// Bytes of BAR0.
    #[must_use]
    pub fn bar_size(&self) -> u64 {
        let end = u64::from(DOORBELLS) + engine_dma::to_u64(self.inner.shared.doorbells.length());
        end.next_power_of_two().max(16384)
    }

    /// The doorbells, whose first byte is BAR0's offset 1000h: a memfd, which another process may map.
    #[must_use]
    pub fn doorbells(&self) -> &Arc<Region> {
        &self.inner.shared.doorbells
    }

    /// What the host's bus addresses mean. To take a range away, use [`unmap`](Self::unmap).
    #[must_use]
    pub fn address_space(&self) -> &Arc<AddressSpace> {
        &self.inner.shared.space
    }

    /// Takes a range of bus addresses away; whether nothing reaches the memory any more. It waits for commands in
    /// flight, but not for ever: false says that a backing still works on it.
    ///
    /// # Errors
    /// Where nothing is mapped there, or a mapping lies there only in part.
    pub fn unmap(&self, iova: u64, length: u64) -> Result<bool, MapError> {
        let gone = self.inner.shared.space.unmap(iova, length)?;
        let gone = self.let_go(gone);
        Ok(gone)
    }

    /// As [`unmap`](Self::unmap), of everything.
    pub fn unmap_all(&self) -> bool {
        let gone = self.inner.shared.space.clear();
        self.let_go(gone)
    }

    fn let_go(&self, gone: engine_dma::Unmapped) -> bool {
        let shared = &self.inner.shared;
        let start = Instant::now();
        let mut gone = gone;
        loop {
            {
                let mut view = engine_dma::View::new();
                view.refresh(&shared.space);
                let lost = shared.shadow.read().as_ref().is_some_and(|shadow| !shadow.is_current(&mut view));
                if lost {
                    tracing::warn!("the host took away the memory of its doorbells");
                    shared.use_shadow(None);
                    shared.fail();
                }
            }
            for processor in std::iter::once(&self.inner.admin).chain(&self.inner.slots) {
                processor.lock().let_go(shared);
            }
            match gone.try_settle(Duration::from_millis(1)) {
                Ok(()) => return true,
                Err(_) if start.elapsed() > shared.options.quiet_limit => return false,
                Err(still) => gone = still,
            }
        }
    }

    /// How many interrupt vectors there are.
    #[must_use]
    pub fn vectors(&self) -> u16 {
        self.inner.shared.vectors.count()
    }

    /// Connects an interrupt vector, or takes the connection away.
    pub fn set_interrupt(&self, vector: u16, interrupt: Option<Interrupt>) {
        self.inner.shared.vectors.connect(vector, interrupt);
    }

    /// Reads from BAR0. Any offset and length may be asked for; what is no register reads as zeros, and doorbells do.
    pub fn read_register(&self, offset: u32, data: &mut [u8]) {
        if self.inner.shared.faults().is_some_and(Faults::is_gone) {
            data.fill(0xff);
            return;
        }
        let mut registers = self.inner.registers.lock();
        self.go_on_stopping(&mut registers, Duration::ZERO);
        for (at, byte) in (offset..=u32::MAX).zip(data) {
            let mut word = registers.word(at & !3);
            if at & !3 == register::CSTS && self.inner.shared.has_failed() {
                word = Csts(word).with_cfs(true).0;
            }
            let [b0, b1, b2, b3] = word.to_le_bytes();
            *byte = match at & 3 {
                0 => b0,
                1 => b1,
                2 => b2,
                _ => b3,
            };
        }
    }

    /// Writes to BAR0. Registers take aligned words of 32 or 64 bits; anything else is ignored, as hardware may.
    pub fn write_register(&self, offset: u32, data: &[u8]) {
        if self.inner.shared.faults().is_some_and(Faults::is_gone) {
            return;
        }
        if !offset.is_multiple_of(4) || !matches!(data.len(), 4 | 8) {
            tracing::debug!(
                offset,
                length = data.len(),
                "a register write that is no aligned word was ignored"
            );
            return;
        }
        let words = data.as_chunks::<4>().0.iter().zip([offset, offset.saturating_add(4)]);
        for (word, at) in words {
            self.write_word(at, u32::from_le_bytes(*word));
        }
    }

    fn write_word(&self, offset: u32, value: u32) {
        if offset >= DOORBELLS {
            self.ring(offset, value);
            return;
        }
        let mut registers = self.inner.registers.lock();
        if offset == register::CC && Cc(value).en() && !self.go_on_stopping(&mut registers, Duration::ZERO) {
            tracing::warn!("the host enabled the controller before it had stopped, which is ignored");
            return;
        }
        match registers.set_word(offset, value) {
            Request::None => {}
            Request::Enable => self.enable(&mut registers),
            Request::Disable => {
                self.begin_reset(&mut registers, Reset::Controller, DISABLE_WAIT);
            }
            Request::ShutDown => {
                self.flush_all();
                registers.shut_down();
            }
            Request::SubsystemReset => {
                self.begin_reset(&mut registers, Reset::Subsystem, DISABLE_WAIT);
            }
        }
        let shared = &self.inner.shared;
        shared.entry_sizes_set.store(registers.entry_sizes_set(), Ordering::Relaxed);
        if matches!(offset, register::INTMS | register::INTMC) || !registers.status().rdy() {
            shared.vectors.mask(registers.interrupt_mask());
        }
    }

    /// A doorbell that was written as a register: stored, and whoever sleeps is woken.
    fn ring(&self, offset: u32, value: u32) {
        let shared = &self.inner.shared;
        let place = to_usize(u64::from(offset - DOORBELLS));
        let stride = 4 << shared.stride();
        let index = place / stride;
        let queue = u16::try_from(index / 2).unwrap_or(u16::MAX);
        let exists = place.is_multiple_of(stride) && self.inner.queues.lock().exists(queue, index % 2 == 1);
        if !exists {
            shared.event(Event::INVALID_DOORBELL);
            return;
        }
        if let Some(word) = shared.doorbells.u32_at(place) {
            word.store(value, Ordering::Release);
        }
        // Whoever fills the completion queue also works on the submission queue.
        self.crew.wake(self.inner.completion_queue_of(queue).unwrap_or(queue));
    }

    fn enable(&self, registers: &mut Registers) {
        let shared = &self.inner.shared;
        shared.fatal.store(false, Ordering::Release);
        if shared.faults().is_some_and(Faults::is_never_ready) {
            return;
        }
        let Some(queues) = registers.admin_queues() else {
            tracing::warn!("the host enabled the controller with settings that it does not have");
            *registers.status_mut() = registers.status().with_cfs(true);
            return;
        };
        shared.page.store(queues.page, Ordering::Relaxed);
        shared.weighted.store(queues.weighted, Ordering::Relaxed);
        let mut view = engine_dma::View::new();
        view.refresh(&shared.space);
        let (sq, cq) = (queues.submission_entries, queues.completion_entries);
        let submissions = RingMemory::find(&mut view, queues.submissions, ring_bytes(sq, false));
        let completions = RingMemory::find(&mut view, queues.completions, ring_bytes(cq, true));
        let (Some(submissions), Some(completions)) = (submissions, completions) else {
            tracing::warn!("the host enabled the controller with admin queues in memory that it did not map");
            *registers.status_mut() = registers.status().with_cfs(true);
            return;
        };
        shared.clear_doorbell(0, false);
        shared.clear_doorbell(0, true);
        let mut admin = self.inner.admin.lock();
        admin.add_completion_queue(CompletionQueue::new(0, cq, completions, Some(0)));
        admin.add_submission_queue(SubmissionQueue::new(0, 0, sq, 0, submissions));
        drop(admin);
        *registers.status_mut() = registers.status().with_rdy(true);
    }

    /// Starts a reset, and waits at most `limit` for its end; whether that has come. It never comes before all backings
    /// have let go of the host's memory.
    fn begin_reset(&self, registers: &mut Registers, reset: Reset, limit: Duration) -> bool {
        let since = registers.stopping.map_or_else(Instant::now, |stopping| stopping.since);
        registers.stopping = Some(Stopping { reset, since });
        self.go_on_stopping(registers, limit)
    }

    /// Ends a reset, where one was begun and backings let it; whether there is none any more.
    fn go_on_stopping(&self, registers: &mut Registers, limit: Duration) -> bool {
        let Some(Stopping { reset, since }) = registers.stopping else { return true };
        if self.stop(limit) {
            registers.reset(reset);
            return true;
        }
        let shared = &self.inner.shared;
        if since.elapsed() >= shared.options.quiet_limit && !shared.has_failed() {
            tracing::error!(
                "a backing does not end what it does to a host's memory; the controller cannot be reset"
            );
            shared.fail();
        }
        false
    }

    /// Ends all queues, within `limit`; whether nothing reaches the host's memory any more.
    fn stop(&self, limit: Duration) -> bool {
        let inner = &self.inner;
        let processors: Vec<_> = std::iter::once(&inner.admin).chain(&inner.slots).collect();
        for processor in &processors {
            processor.lock().begin_reset();
        }
        self.crew.waker().wake_all();
        if !inner.settle(&processors, !self.crew.is_at_work(), limit, Processor::is_quiet) {
            return false;
        }
        for processor in &processors {
            processor.lock().end_reset();
        }
        inner.queues.lock().clear();
        inner.shared.use_shadow(None);
        inner.shared.state.reset();
        inner.shared.mend();
        let _ = inner.shared.doorbells.fill(0, inner.shared.doorbells.length(), 0);
        true
    }

    fn flush_all(&self) {
        let mut admin = self.inner.admin.lock();
        for nsid in Processor::namespace_numbers(&self.inner.shared) {
            admin.look(&self.inner.shared);
            if let Err(status) = admin.step(nsid, engine_block::Operation::Flush, 0, 0, None) {
                tracing::warn!(nsid, %status, "a namespace could not be flushed at shutdown");
            }
        }
    }

    /// Lets a controller without threads work on a queue pair, on the caller's thread. Waits at most `limit` for its
    /// backing where there is nothing else to do.
    pub fn assist(&self, queue: u16, limit: Duration) -> Assist {
        let inner = &self.inner;
        if inner.shared.options.threads > 0 {
            return Assist::NotNeeded;
        }
        if inner.is_idle() {
            std::thread::sleep(limit.min(Duration::from_millis(1)));
            return Assist::Idle;
        }
        let worked = match inner.slot(queue) {
            Some(slot) => slot.lock().round(&inner.shared, limit),
            None => inner.work_on_admin(),
        };
        if worked { Assist::Worked } else { Assist::Idle }
    }

    /// Resets the function: everything is as at the beginning, and nothing that was in flight reaches memory any more.
    /// False where a backing did not let go in time: then the controller has failed, and is reset once it does.
    #[must_use]
    pub fn reset(&self) -> bool {
        let mut registers = self.inner.registers.lock();
        if registers.status().rdy() && registers.status().shst() == 0 {
            self.inner.shared.subsystem.health().unsafe_shutdown();
        }
        let limit = self.inner.shared.options.quiet_limit;
        self.begin_reset(&mut registers, Reset::Function, limit)
    }

    /// Ends the controller's threads. Nothing is answered any more.
    pub fn shut_down(&self) {
        self.crew.end();
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.inner.shared.state.events().wake_by(None);
        self.crew.end();
        if !self.stop(self.inner.shared.options.quiet_limit) {
            tracing::error!("a controller goes while a backing works on the memory of its host");
        }
    }
}

/// Memory for doorbells, as far into its file as they are into BAR0: clients of vfio-user are told where in a file BAR0
/// begins, and some refuse a BAR that begins before its file.
fn doorbells_of_bar(length: usize) -> std::io::Result<Arc<Region>> {
    let before = to_usize(u64::from(DOORBELLS));
    let bar = Region::shared(c"nvme-bar0", before + length)?;
    let (file, _) = bar.file().ok_or(std::io::ErrorKind::Unsupported)?;
    Region::map(file.try_clone_to_owned()?, u64::from(DOORBELLS), bar.length() - before, Access::ReadWrite)
}
