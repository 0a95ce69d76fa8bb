//! A controller that completes every command at once without looking at it: the least that a driver can be measured
//! against.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, ensure};
use engine_dma::{Access, AddressSpace, Arena, Region, Registration, View, to_u64, to_usize};
use engine_nvme_spec::identify::{Cns, IdentifyController, IdentifyNamespace};
use engine_nvme_spec::{AdminOpcode, Cap, Cc, Cqe, Csts, FeatureId, Sqe, Status, Version, dbbuf, register};
use engine_transport::{Interrupt, Transport, TransportError};
use zerocopy::{FromZeros, IntoBytes};

/// Looks at the I/O queue between two looks at the admin queue.
const LOOKS: u32 = 4096;
const NAME: &str = "null";
/// Blocks of 512 bytes that the namespace has.
const BLOCKS: u64 = 1 << 30;

/// The way to the null controller, and the controller.
#[derive(Debug)]
pub(super) struct Null {
    shared: Arc<Shared>,
    next: AtomicU64,
}

#[derive(Debug)]
struct Shared {
    doorbells: Arc<Region>,
    memory: AddressSpace,
    configuration: AtomicU32,
    admin: [AtomicU64; 2],
    sgl: bool,
    end: AtomicBool,
}

/// The thread that is the controller; it ends with this.
pub(super) struct Running {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Null {
    /// A controller with or without SGLs, and the thread that it works on.
    pub(super) fn start(sgl: bool) -> Result<(Arc<Self>, Running)> {
        let shared = Arc::new(Shared {
            doorbells: Region::private(4096)?,
            memory: AddressSpace::new(1024),
            configuration: AtomicU32::new(0),
            admin: [AtomicU64::new(0), AtomicU64::new(0)],
            sgl,
            end: AtomicBool::new(false),
        });
        let works = Arc::clone(&shared);
        let thread = thread::Builder::new().name("null-controller".to_owned()).spawn(move || works.run())?;
        let null = Self { shared: Arc::clone(&shared), next: AtomicU64::new(1 << 20) };
        Ok((Arc::new(null), Running { shared, thread: Some(thread) }))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A completion queue that no submission queue has yet: where it is, and its entries.
type Completions = ((Arc<Region>, usize), usize);

/// A queue pair as the controller sees it: where it is, and how far it has come.
pub(super) struct Queue {
    number: u16,
    submission: (Arc<Region>, usize),
    completion: (Arc<Region>, usize),
    entries: [usize; 2],
    head: usize,
    tail: usize,
    phase: bool,
}

impl Queue {
    pub(super) fn new(
        number: u16,
        submission: (Arc<Region>, usize),
        completion: (Arc<Region>, usize),
        entries: [usize; 2],
    ) -> Self {
        Self { number, submission, completion, entries, head: 0, tail: 0, phase: true }
    }

    /// Completes what is there; whether there was anything. The loop that every command goes through.
    pub(super) fn work(&mut self, doorbell: &AtomicU32, mut answer: impl FnMut(&[AtomicU64]) -> Cqe) -> bool {
        let [submissions, completions] = self.entries;
        let told = to_usize(doorbell.load(Ordering::Acquire).into());
        if told == self.head || told >= submissions {
            return false;
        }
        let (region, offset) = &self.submission;
        let Some(submission) = region.u64s_at(*offset, submissions * 8) else { return false };
        let (region, offset) = &self.completion;
        let Some(completion) = region.u64s_at(*offset, completions * 2) else { return false };
        while self.head != told {
            let Some(words) = submission.get(self.head * 8..self.head * 8 + 8) else { break };
            self.head = if self.head + 1 == submissions { 0 } else { self.head + 1 };
            let cqe = Cqe { sq_head: (self.head as u16).into(), sq_id: self.number.into(), ..answer(words) };
            let cqe = Cqe { status_and_phase: Cqe::pack(cqe.status(), self.phase), ..cqe };
            let [first, second] = cqe.to_words();
            let Some([low, high]) = completion.get(self.tail * 2..self.tail * 2 + 2) else { break };
            low.store(first, Ordering::Relaxed);
            high.store(second, Ordering::Release);
            self.tail += 1;
            if self.tail == completions {
                (self.tail, self.phase) = (0, !self.phase);
            }
        }
        true
    }
}

/// A command identifier out of the first word of an entry.
pub(super) fn cid(words: &[AtomicU64]) -> u16 {
    (words[0].load(Ordering::Relaxed) >> 16) as u16
}

impl Shared {
    fn run(&self) {
        let mut admin: Option<Queue> = None;
        let mut queue: Option<Queue> = None;
        let mut completion: Option<Completions> = None;
        while !self.end.load(Ordering::Relaxed) {
            if !Cc(self.configuration.load(Ordering::Acquire)).en() {
                (admin, queue) = (None, None);
                thread::yield_now();
                continue;
            }
            let admin = admin.get_or_insert_with(|| self.admin_queue());
            let bell = |number| self.doorbells.u32_at(to_usize(dbbuf::place(number, false, 0)));
            if let Some(bell) = bell(0) {
                let mut changed = None;
                admin.work(bell, |words| {
                    let sqe = Sqe::from_words(std::array::from_fn(|at| words[at].load(Ordering::Relaxed)));
                    let (dw0, status) = self.admin_command(&sqe, &mut completion, &mut changed);
                    let status_and_phase = Cqe::pack(status, false);
                    Cqe { dw0: dw0.into(), cid: sqe.cid, status_and_phase, ..Cqe::default() }
                });
                if let Some(changed) = changed {
                    queue = changed;
                }
            }
            let Some(queue) = &mut queue else {
                thread::yield_now();
                continue;
            };
            let Some(bell) = bell(queue.number) else { continue };
            for _ in 0..LOOKS {
                let worked = queue.work(bell, |words| Cqe { cid: cid(words).into(), ..Cqe::default() });
                if !worked {
                    std::hint::spin_loop();
                }
            }
        }
    }

    fn place(&self, iova: u64) -> (Arc<Region>, usize) {
        let mut view = View::new();
        view.refresh(&self.memory);
        let span = view.span(iova, 1, Access::ReadWrite).expect("the driver names memory that it has");
        (Arc::clone(span.mapping.region()), span.offset)
    }

    fn admin_queue(&self) -> Queue {
        let [submission, completion] =
            [0, 1].map(|at: usize| self.place(self.admin[at].load(Ordering::Acquire)));
        Queue::new(0, submission, completion, [32, 32])
    }

    fn admin_command(
        &self,
        sqe: &Sqe,
        completion: &mut Option<Completions>,
        queue: &mut Option<Option<Queue>>,
    ) -> (u32, Status) {
        let (ten, data) = (sqe.cdw10.get(), sqe.prp1.get());
        let (number, entries) = (ten as u16, to_usize(u64::from(ten >> 16)) + 1);
        match AdminOpcode(sqe.opcode) {
            AdminOpcode::IDENTIFY => {
                let mut view = View::new();
                view.refresh(&self.memory);
                let answer = self.identify(Cns(ten as u8), sqe.nsid.get());
                let _ = view.write(data, &answer);
            }
            AdminOpcode::SET_FEATURES if ten & 0xff == u32::from(FeatureId::NUMBER_OF_QUEUES.0) => {
                return (0, Status::SUCCESS);
            }
            AdminOpcode::CREATE_COMPLETION_QUEUE => *completion = Some((self.place(data), entries)),
            AdminOpcode::CREATE_SUBMISSION_QUEUE => {
                if let Some(bell) = self.doorbells.u32_at(to_usize(dbbuf::place(number, false, 0))) {
                    bell.store(0, Ordering::Relaxed);
                }
                let Some((completion, completions)) = completion.take() else {
                    return (0, Status::COMPLETION_QUEUE_INVALID);
                };
                let submission = self.place(data);
                *queue = Some(Some(Queue::new(number, submission, completion, [entries, completions])));
            }
            AdminOpcode::DELETE_SUBMISSION_QUEUE => *queue = Some(None),
            AdminOpcode::DELETE_COMPLETION_QUEUE | AdminOpcode::SET_FEATURES => {}
            _ => return (0, Status::INVALID_OPCODE.final_()),
        }
        (0, Status::SUCCESS)
    }

    fn identify(&self, cns: Cns, nsid: u32) -> Vec<u8> {
        match cns {
            Cns::CONTROLLER => {
                let mut told = IdentifyController::new_zeroed();
                (told.sqes, told.cqes, told.mdts) = (0x66, 0x44, 8);
                told.nn = 1.into();
                told.sgls = u32::from(self.sgl).into();
                told.mn = [b' '; 40];
                told.as_bytes().to_vec()
            }
            Cns::NAMESPACE if nsid == 1 => {
                let mut told = IdentifyNamespace::new_zeroed();
                (told.nsze, told.ncap) = (BLOCKS.into(), BLOCKS.into());
                told.lbaf[0].lbads = 9;
                told.as_bytes().to_vec()
            }
            _ => vec![0; 4096],
        }
    }
}

impl Transport for Null {
    fn name(&self) -> &str {
        NAME
    }

    fn id(&self) -> u64 {
        u64::MAX
    }

    fn read32(&self, offset: u32) -> Result<u32, TransportError> {
        let configuration = Cc(self.shared.configuration.load(Ordering::Acquire));
        Ok(match offset {
            register::VS => Version::V2_1.0,
            register::CC => configuration.0,
            register::CSTS => {
                let shut_down = if configuration.shn() == 0 { 0 } else { 2 };
                Csts::default().with_rdy(configuration.en()).with_shst(shut_down).0
            }
            _ => 0,
        })
    }

    fn read64(&self, offset: u32) -> Result<u64, TransportError> {
        let capabilities = Cap::default().with_mqes(4095).with_to(10).with_css(1);
        Ok(if offset == register::CAP { capabilities.0 } else { 0 })
    }

    fn write32(&self, offset: u32, value: u32) -> Result<(), TransportError> {
        if offset == register::CC {
            // Queues start anew, before the driver rings for the first time.
            if let (false, Some(bell)) = (Cc(value).en(), self.shared.doorbells.u32_at(0)) {
                bell.store(0, Ordering::Relaxed);
            }
            self.shared.configuration.store(value, Ordering::Release);
        }
        Ok(())
    }

    fn write64(&self, offset: u32, value: u64) -> Result<(), TransportError> {
        match offset {
            register::ASQ => self.shared.admin[0].store(value, Ordering::Release),
            register::ACQ => self.shared.admin[1].store(value, Ordering::Release),
            _ => {}
        }
        Ok(())
    }

    fn doorbells(&self) -> Option<Arc<Region>> {
        Some(Arc::clone(&self.shared.doorbells))
    }

    fn arena(&self, length: usize) -> Result<Arena, TransportError> {
        let failed =
            |source| TransportError::System { device: NAME.to_owned(), action: "map memory", source };
        let region = Region::private(length).map_err(failed)?;
        let length = to_u64(region.length());
        let handle = self.next.fetch_add(length, Ordering::Relaxed);
        let mapped = self.shared.memory.map(handle, length, Arc::clone(&region), 0, Access::ReadWrite);
        mapped.map_err(|error| failed(io::Error::other(error)))?;
        Ok(Arena::registered(region, Registration { owner: self.id(), handle }, Box::new(())))
    }

    fn interrupts(&self) -> u16 {
        0
    }

    fn interrupt(&self, vector: u16) -> Result<Interrupt, TransportError> {
        Err(TransportError::Refused {
            device: NAME.to_owned(),
            action: format!("connect vector {vector}"),
            source: io::ErrorKind::Unsupported.into(),
        })
    }

    fn reset(&self) -> Result<(), TransportError> {
        let source = io::ErrorKind::Unsupported.into();
        Err(TransportError::Refused { device: NAME.to_owned(), action: "reset".to_owned(), source })
    }
}

/// Puts this thread on one core, so that driver and controller do not share one.
pub(super) fn pin(core: usize) -> Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    ensure!(core < rustix::thread::CpuSet::MAX_CPU, "there is no core {core}");
    set.set(core);
    rustix::thread::sched_setaffinity(None, &set).with_context(|| format!("cannot stay on core {core}"))
}
