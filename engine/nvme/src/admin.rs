//! The admin queue: one command at a time, waited for, and the events that the controller tells by itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine_transport::Transport;

use crate::DriverError;
use crate::data::{Limits, Run};
use crate::identify::LENGTH;
use crate::memory::Shared;
use crate::patience::Patience;
use crate::registers::Registers;
use crate::ring::{Completed, Ring, Shape};
use crate::status::Status;
use crate::wire::admin;

/// Commands that can be out on the admin queue.
const SLOTS: u32 = 31;
const ENTRIES: u32 = 32;

/// Asynchronous event requests that are out at a time.
const MOST_EVENTS: u16 = 4;
/// The tokens of asynchronous event requests have this bit.
const EVENT: u64 = 1 << 63;

/// How often a controller that lets a command wait is asked whether it is still well.
const CHECK: Duration = Duration::from_millis(20);

/// Entries that do not belong on the admin queue, after which the controller is not trusted any more.
const MOST_FAULTS: u32 = 8;

/// The longest answer of a command: what is read of a log page or an identify structure at a time.
pub(crate) const ANSWER: usize = LENGTH;

/// An admin command without its identifier.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AdminCommand {
    pub(crate) opcode: u8,
    /// What it is called in errors.
    pub(crate) name: &'static str,
    pub(crate) nsid: u32,
    /// Command dwords 10 to 15.
    pub(crate) dwords: [u32; 6],
}

/// Where an admin command's data is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum AdminData {
    None,
    /// The queue's own page, which is cleared first and read afterwards.
    Answer,
    /// Somewhere else.
    At(u64),
    /// Two pages.
    Pages(u64, u64),
}

/// An event that the controller told: dword 0 of the completion (section 5.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) dw0: u32,
}

/// The admin queue of a controller.
#[derive(Debug)]
pub(crate) struct AdminQueue {
    registers: Registers,
    ring: Ring,
    answer: Shared,
    next: u64,
    limit: Duration,
    /// A command was not answered in time, so that nothing can be said of this queue and its memory before a reset.
    stuck: bool,
    events: Vec<Event>,
}

impl AdminCommand {
    pub(crate) fn new(opcode: u8, name: &'static str) -> Self {
        Self { opcode, name, nsid: 0, dwords: [0; 6] }
    }

    pub(crate) fn on(self, nsid: u32) -> Self {
        Self { nsid, ..self }
    }

    /// With these first dwords from 10 on.
    pub(crate) fn with<const N: usize>(mut self, dwords: [u32; N]) -> Self {
        for (target, source) in self.dwords.iter_mut().zip(dwords) {
            *target = source;
        }
        self
    }

    fn words(&self) -> [u64; 8] {
        let [ten, eleven, twelve, thirteen, fourteen, fifteen] = self.dwords.map(u64::from);
        let first = u64::from(self.opcode) | u64::from(self.nsid) << 32;
        [first, 0, 0, 0, 0, ten | eleven << 32, twelve | thirteen << 32, fourteen | fifteen << 32]
    }
}

impl AdminQueue {
    /// Memory for the admin queue of a controller with these limits.
    pub(crate) fn new(
        registers: Registers,
        stride: u32,
        page_shift: u32,
        entries: u32,
        limit: Duration,
    ) -> Result<Self, DriverError> {
        let transport: &Arc<dyn Transport> = &registers.transport;
        let limits = Limits { page_shift, max_transfer: 2 << page_shift, sgl: false };
        let entries = ENTRIES.min(entries);
        let shape = Shape { queue: 0, slots: SLOTS.min(entries - 1), entries, stride, limits };
        let doorbells = transport.doorbells();
        let ring = Ring::new(transport, doorbells.as_ref(), shape, None)?;
        let answer = Shared::new(&**transport, ANSWER, 1 << page_shift)?;
        Ok(Self { ring, answer, registers, next: 0, limit, stuck: false, events: Vec::new() })
    }

    pub(crate) fn entries(&self) -> u32 {
        self.ring.shape().entries
    }

    /// Bus addresses of the submission and the completion queue.
    pub(crate) fn places(&self) -> (u64, u64) {
        (self.ring.submission_iova(), self.ring.completion_iova())
    }

    /// As new, for a controller that is disabled.
    pub(crate) fn restart(&mut self) {
        self.ring.restart(&mut Vec::new());
        self.stuck = false;
    }

    /// Never lets anybody use the memory again.
    pub(crate) fn give_up(&mut self) {
        self.ring.give_up();
        self.answer.give_up();
    }

    /// Carries out a command and waits for it; dword 0 of what it answered.
    ///
    /// # Errors
    /// Where it fails, is not answered in time, or the controller fails or goes meanwhile. After an error that
    /// [wants a reset](DriverError::wants_reset) the queue is of no use before one.
    pub(crate) fn call(&mut self, command: AdminCommand, data: AdminData) -> Result<u32, DriverError> {
        let limit = self.limit;
        let completed = self.run(command, data, limit)?;
        if !completed.status.is_success() {
            return Err(DriverError::Command {
                device: self.device(),
                command: command.name,
                status: completed.status,
            });
        }
        Ok(completed.dw0)
    }

    /// As [`call`](Self::call), and what it answered in memory.
    pub(crate) fn ask(&mut self, command: AdminCommand) -> Result<[u8; ANSWER], DriverError> {
        self.call(command, AdminData::Answer)?;
        let mut answer = [0; ANSWER];
        self.answer.read(0, &mut answer);
        Ok(answer)
    }

    fn run(
        &mut self,
        command: AdminCommand,
        data: AdminData,
        limit: Duration,
    ) -> Result<Completed, DriverError> {
        let late = |device| DriverError::Late { device, action: "answer an admin command", limit };
        if self.stuck {
            return Err(late(self.device()));
        }
        let page = 1_u32 << self.ring.shape().limits.page_shift;
        let run = |iova| Run { iova, length: page };
        let runs = match data {
            AdminData::None => vec![],
            AdminData::Answer => {
                self.answer.clear(0, ANSWER);
                vec![run(self.answer.iova(0))]
            }
            AdminData::At(iova) => vec![run(iova)],
            AdminData::Pages(first, second) => vec![run(first), run(second)],
        };
        self.next = (self.next + 1) & !EVENT;
        let token = self.next;
        let pushed = self.ring.push_scattered(token, command.words(), &runs);
        // Places are only ever taken by one command and a few events.
        pushed
            .map_err(|refused| DriverError::Memory { device: self.device(), reason: refused.to_string() })?;
        self.ring.ring()?;
        let (start, mut patience, mut checked) = (Instant::now(), Patience::default(), Instant::now());
        let mut found = None;
        loop {
            self.reap(|completed| found = Some(completed).filter(|c| c.token == token).or(found))?;
            if let Some(completed) = found {
                return Ok(completed);
            }
            let left = limit.saturating_sub(start.elapsed());
            if left.is_zero() {
                self.stuck = true;
                return Err(late(self.device()));
            }
            if checked.elapsed() > CHECK {
                self.registers.check().inspect_err(|_| self.stuck = true)?;
                checked = Instant::now();
            }
            patience.pause(&*self.registers.transport, 0, left);
        }
    }

    /// Takes what has completed; events are kept.
    fn reap(&mut self, mut each: impl FnMut(Completed)) -> Result<(), DriverError> {
        let events = &mut self.events;
        self.ring.reap(to_most(), |completed| {
            if completed.token & EVENT == 0 {
                each(completed);
            } else if completed.status.is_success() {
                events.push(Event { dw0: completed.dw0 });
            }
        });
        self.ring.acknowledge(true)?;
        if let Some(fault) = self.ring.take_fault() {
            tracing::error!(
                device = self.registers.transport.name(),
                entry = format_args!("{:#018x}", fault.entry),
                "the controller completed an admin command that was not given to it"
            );
            if fault.count > MOST_FAULTS {
                self.stuck = true;
                return Err(DriverError::Fatal { device: self.device() });
            }
        }
        Ok(())
    }

    /// Lets the controller tell events, as many at a time as it takes.
    pub(crate) fn listen(&mut self, most: u16) -> Result<(), DriverError> {
        let command = AdminCommand::new(admin::ASYNC_EVENT, "an asynchronous event request");
        for number in 0..most.min(MOST_EVENTS) {
            let pushed = self.ring.push(EVENT | u64::from(number), command.words(), None);
            if pushed.is_err() {
                break;
            }
        }
        Ok(self.ring.ring()?)
    }

    /// The events that were told since the last call; each is to be [listened](Self::listen) for again.
    pub(crate) fn events(&mut self) -> Result<Vec<Event>, DriverError> {
        if self.stuck {
            return Ok(Vec::new());
        }
        self.reap(|_| {})?;
        Ok(std::mem::take(&mut self.events))
    }

    pub(crate) fn registers(&self) -> &Registers {
        &self.registers
    }

    pub(crate) fn device(&self) -> String {
        self.registers.transport.name().to_owned()
    }
}

/// Completions taken at a time: no more than the queue has.
fn to_most() -> usize {
    engine_dma::to_usize(ENTRIES.into())
}

/// Queue management (section 5.2).
impl AdminQueue {
    /// Creates the queue pair of a ring whose memory is as new; `vector` is the interrupt of its completions.
    pub(crate) fn create(&mut self, ring: &Ring, vector: Option<u16>) -> Result<(), DriverError> {
        let shape = *ring.shape();
        let queue = u32::from(shape.queue);
        let size = (shape.entries - 1) << 16 | queue;
        // Physically contiguous; interrupts where there is a vector.
        let flags = vector.map_or(1, |vector| u32::from(vector) << 16 | 0b11);
        let command = AdminCommand::new(admin::CREATE_CQ, "creating a completion queue").with([size, flags]);
        self.call(command, AdminData::At(ring.completion_iova()))?;
        let command =
            AdminCommand::new(admin::CREATE_SQ, "creating a submission queue").with([size, queue << 16 | 1]);
        if let Err(error) = self.call(command, AdminData::At(ring.submission_iova())) {
            if !error.wants_reset() {
                self.delete_one(admin::DELETE_CQ, shape.queue)?;
            }
            return Err(error);
        }
        Ok(())
    }

    /// Deletes a queue pair; after this the controller reaches none of its memory any more.
    pub(crate) fn delete(&mut self, queue: u16) -> Result<(), DriverError> {
        self.delete_one(admin::DELETE_SQ, queue)?;
        self.delete_one(admin::DELETE_CQ, queue)
    }

    fn delete_one(&mut self, opcode: u8, queue: u16) -> Result<(), DriverError> {
        let name = if opcode == admin::DELETE_SQ {
            "deleting a submission queue"
        } else {
            "deleting a completion queue"
        };
        self.call(AdminCommand::new(opcode, name).with([queue.into()]), AdminData::None)?;
        Ok(())
    }

    /// Asks the controller to abort a command; whether it says that it did. It completes in any case.
    pub(crate) fn abort(&mut self, queue: u16, cid: u16, limit: Duration) -> Result<bool, DriverError> {
        let which = u32::from(cid) << 16 | u32::from(queue);
        let command = AdminCommand::new(admin::ABORT, "an abort").with([which]);
        let completed = self.run(command, AdminData::None, limit)?;
        // Bit 0 of dword 0 is set where it did not.
        Ok(completed.status == Status::SUCCESS && completed.dw0 & 1 == 0)
    }
}
