//! The admin queue: one command at a time, waited for, and the events that the controller tells by itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine_nvme_spec::{Event, Sqe, admin, identify};
use engine_transport::Transport;

use crate::DriverError;
use crate::data::Limits;
use crate::memory::Shared;
use crate::patience::Patience;
use crate::registers::Registers;
use crate::ring::{Completed, Ring, Shape};

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
pub(crate) const ANSWER: usize = identify::SIZE;

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

impl AdminQueue {
    /// Memory for the admin queue of a controller with these limits.
    pub(crate) fn new(
        registers: Registers,
        stride: u8,
        page_shift: u32,
        limit: Duration,
    ) -> Result<Self, DriverError> {
        let transport: &Arc<dyn Transport> = &registers.transport;
        let limits = Limits { page_shift, max_transfer: 2 << page_shift, sgl: false };
        // CAP.MQES bounds I/O queues only (NVMe Base Specification 2.1, section 3.1.4.1).
        let shape =
            Shape { queue: 0, slots: SLOTS, submissions: ENTRIES, completions: ENTRIES, stride, limits };
        let doorbells = transport.doorbells();
        let ring = Ring::new(transport, doorbells.as_ref(), shape, None)?;
        let answer = Shared::new(&**transport, ANSWER, 1 << page_shift)?;
        Ok(Self { ring, answer, registers, next: 0, limit, stuck: false, events: Vec::new() })
    }

    pub(crate) fn entries(&self) -> u32 {
        self.ring.shape().submissions
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

    /// Carries out a command and waits for it; dword 0 of what it answered. `name` is what errors call it.
    ///
    /// # Errors
    /// Where it fails, is not answered in time, or the controller fails or goes meanwhile. After an error that
    /// [wants a reset](DriverError::wants_reset) the queue is of no use before one.
    pub(crate) fn call(&mut self, name: &'static str, command: Sqe) -> Result<u32, DriverError> {
        let completed = self.run(command, self.limit)?;
        if !completed.status.is_success() {
            return Err(DriverError::Command {
                device: self.device(),
                command: name,
                status: completed.status,
            });
        }
        Ok(completed.dw0)
    }

    /// As [`call`](Self::call), and what it answered in memory.
    pub(crate) fn ask(&mut self, name: &'static str, command: Sqe) -> Result<[u8; ANSWER], DriverError> {
        self.answer.clear(0, ANSWER);
        // It is as long as a page at most, and starts at one.
        self.call(name, command.with_prps(self.answer.iova(0), 0))?;
        let mut answer = [0; ANSWER];
        self.answer.read(0, &mut answer);
        Ok(answer)
    }

    fn run(&mut self, command: Sqe, limit: Duration) -> Result<Completed, DriverError> {
        let late = |device| DriverError::Late { device, action: "answer an admin command", limit };
        if self.stuck {
            return Err(late(self.device()));
        }
        self.next = (self.next + 1) & !EVENT;
        let token = self.next;
        let pushed = self.ring.push_entry(token, command.to_words());
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
                events.push(Event::from_dword(completed.dw0));
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
        let words = admin::asynchronous_event_request().to_words();
        for number in 0..most.min(MOST_EVENTS) {
            let pushed = self.ring.push_entry(EVENT | u64::from(number), words);
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
        let (queue, entries) = (shape.queue, shape.completions);
        let command = admin::create_completion_queue(queue, entries, ring.completion_iova(), vector);
        self.call("creating a completion queue", command)?;
        let entries = shape.submissions;
        let command = admin::create_submission_queue(queue, entries, ring.submission_iova(), queue, 0);
        if let Err(error) = self.call("creating a submission queue", command) {
            if !error.wants_reset() {
                self.call("deleting a completion queue", admin::delete_completion_queue(queue))?;
            }
            return Err(error);
        }
        Ok(())
    }

    /// Deletes a queue pair; after this the controller reaches none of its memory any more.
    pub(crate) fn delete(&mut self, queue: u16) -> Result<(), DriverError> {
        self.call("deleting a submission queue", admin::delete_submission_queue(queue))?;
        self.call("deleting a completion queue", admin::delete_completion_queue(queue))?;
        Ok(())
    }

    /// Asks the controller to abort a command; whether it says that it did. It completes in any case.
    pub(crate) fn abort(&mut self, queue: u16, cid: u16, limit: Duration) -> Result<bool, DriverError> {
        let completed = self.run(admin::abort(queue, cid), limit)?;
        // Bit 0 of dword 0 is set where it did not.
        Ok(completed.status.is_success() && completed.dw0 & 1 == 0)
    }
}
