//! An I/O queue pair: commands in, completions out, on one thread and without a lock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine_nvme_spec::{NvmOpcode, Status, nvm};
use engine_transport::{Interrupt, Transport};

use crate::DriverError;
use crate::controller::Controller;
use crate::data::{Run, Unfit};
use crate::life::Look;
use crate::patience::Patience;
use crate::ring::{Command, Completed, MOST_SLOTS, Refused, Ring, Shape};

/// Steps in which a command becomes late.
pub(crate) const TICKS: u32 = 16;
/// The clock is read once in so many batches...
const BATCHES: u32 = 64;
/// ...and once in so many looks that found nothing.
const LOOKS: u32 = 256;

/// Entries of a completion queue beyond those that commands need, so that the controller seldom has to be told how far
/// its completions were taken.
const SPARE: u32 = 64;

/// One I/O queue pair of a controller, owned by one thread at a time.
///
/// A command that was taken ends exactly once, by [`reap`](Self::reap), whatever the controller does. Its memory must
/// stay until then; and for ever where [`Completed::held`] says so. A [`token`](Completed::token) is the caller's own.
#[derive(Debug)]
pub struct QueuePair {
    pub(crate) controller: Arc<Controller>,
    pub(crate) ring: Ring,
    /// The controller as it was when this pair was created on it.
    pub(crate) seen: Look,
    pub(crate) interrupt: Option<Interrupt>,
    vector: Option<u16>,
    /// Commands that ended without the controller having said so, and what is told of them.
    pub(crate) lost: Vec<u64>,
    /// Whether the controller may still write to memory of theirs.
    pub(crate) held: bool,
    /// No command is taken any more.
    pub(crate) closed: bool,
    /// The tick at which late commands were aborted.
    pub(crate) aborted: Option<u32>,
    /// Completions of commands that were not out, up to the last reset for their sake.
    pub(crate) forgiven: u32,
    pub(crate) start: Instant,
    pub(crate) step: Duration,
    pub(crate) tick: u32,
    countdown: u32,
}

impl QueuePair {
    /// Creates pair `number` on the controller.
    pub(crate) fn new(controller: Arc<Controller>, number: u16) -> Result<Self, DriverError> {
        let properties = controller.properties();
        let capabilities = &properties.capabilities;
        let wanted = controller.options().queue_depth.clamp(1, MOST_SLOTS);
        let slots = wanted.min(capabilities.entries - 1);
        let shape = Shape {
            queue: number,
            slots,
            // Not one entry more than there can be commands: each line of the queue that is touched in a round travels
            // between two cores twice.
            submissions: slots + 1,
            completions: (slots + 1 + SPARE).min(capabilities.entries),
            stride: capabilities.stride,
            limits: properties.limits,
        };
        let shadows = controller.shadows(number);
        let ring = Ring::new(controller.transport(), controller.doorbells(), shape, shadows)?;
        let (vector, interrupt) = controller.interrupt(number).unzip();
        let step = (controller.options().timeout / TICKS).max(Duration::from_millis(1));
        let seen = controller.life.look();
        let mut pair = Self {
            ring,
            seen,
            interrupt,
            vector,
            lost: Vec::new(),
            held: false,
            closed: false,
            aborted: None,
            forgiven: 0,
            start: Instant::now(),
            step,
            tick: 0,
            countdown: LOOKS,
            controller,
        };
        pair.create()?;
        Ok(pair)
    }

    /// Tells the controller of the queues, whose memory is as new.
    fn create(&mut self) -> Result<(), DriverError> {
        // Whoever resets it meanwhile makes us look again.
        for _ in 0..4 {
            let seen = self.controller.life.look();
            let (ring, vector) = (&self.ring, self.vector);
            match self.controller.admin_since(seen, |admin| admin.create(ring, vector)) {
                Ok(Some(())) => {
                    self.seen = seen;
                    return Ok(());
                }
                Ok(None) => {}
                // It was reset for that, and may do better now.
                Err(error) if error.wants_reset() && !self.controller.is_gone() => {}
                Err(error) => return Err(error),
            }
        }
        Err(DriverError::Gone {
            device: self.controller.name().to_owned(),
            reason: "it is reset again and again".to_owned(),
        })
    }

    /// As [`create`](Self::create), for a pair that was created before.
    pub(crate) fn create_again(&mut self) -> Result<(), DriverError> {
        self.create()
    }

    /// The controller that it belongs to.
    #[must_use]
    pub fn controller(&self) -> &Arc<Controller> {
        &self.controller
    }

    /// Its number: the submission and the completion queue identifier.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.ring.shape().queue
    }

    /// Commands that can be out at a time.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.ring.capacity()
    }

    /// Commands that are out: taken, and not yet ended by [`reap`](Self::reap).
    #[must_use]
    #[inline]
    pub fn out(&self) -> usize {
        self.ring.out() + self.lost.len()
    }

    /// Whether it takes no command any more, since the controller is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Reads `blocks` blocks (1 to 65536) from `lba` on into `memory`, which has as many bytes.
    ///
    /// # Errors
    /// Where no place is free, or the memory cannot be given to the controller as it is.
    #[inline]
    pub fn read(&mut self, token: u64, nsid: u32, lba: u64, blocks: u32, memory: Run) -> Result<(), Refused> {
        self.push(token, blocks_command(NvmOpcode::READ, nsid, lba, blocks)?, Some(memory))
    }

    /// Writes `blocks` blocks from `lba` on out of `memory`.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    #[inline]
    pub fn write(
        &mut self,
        token: u64,
        nsid: u32,
        lba: u64,
        blocks: u32,
        memory: Run,
    ) -> Result<(), Refused> {
        self.push(token, blocks_command(NvmOpcode::WRITE, nsid, lba, blocks)?, Some(memory))
    }

    /// As [`read`](Self::read), into several runs of memory, one after the other.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub fn read_scattered(
        &mut self,
        token: u64,
        nsid: u32,
        lba: u64,
        blocks: u32,
        memory: &[Run],
    ) -> Result<(), Refused> {
        self.check_open()?;
        self.ring.push_scattered(token, blocks_command(NvmOpcode::READ, nsid, lba, blocks)?, memory)
    }

    /// As [`write`](Self::write), out of several runs of memory.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub fn write_scattered(
        &mut self,
        token: u64,
        nsid: u32,
        lba: u64,
        blocks: u32,
        memory: &[Run],
    ) -> Result<(), Refused> {
        self.check_open()?;
        self.ring.push_scattered(token, blocks_command(NvmOpcode::WRITE, nsid, lba, blocks)?, memory)
    }

    /// Compares blocks with memory; a difference ends in status 2/85h.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub fn compare(
        &mut self,
        token: u64,
        nsid: u32,
        lba: u64,
        blocks: u32,
        memory: Run,
    ) -> Result<(), Refused> {
        self.push(token, blocks_command(NvmOpcode::COMPARE, nsid, lba, blocks)?, Some(memory))
    }

    /// Lets the controller check that blocks can be read, without moving them. It may take no more at a time than it
    /// says (Verify Size Limit), and refuses what is longer.
    ///
    /// # Errors
    /// Where no place is free.
    pub fn verify(&mut self, token: u64, nsid: u32, lba: u64, blocks: u32) -> Result<(), Refused> {
        self.push(token, blocks_command(NvmOpcode::VERIFY, nsid, lba, blocks)?, None)
    }

    /// Makes blocks zero; the controller may deallocate them.
    ///
    /// # Errors
    /// Where no place is free.
    pub fn write_zeroes(&mut self, token: u64, nsid: u32, lba: u64, blocks: u32) -> Result<(), Refused> {
        let mut command = blocks_command(NvmOpcode::WRITE_ZEROES, nsid, lba, blocks)?;
        command.twelve |= u64::from(nvm::DEALLOCATE);
        self.push(token, command, None)
    }

    /// Makes what was written before durable.
    ///
    /// # Errors
    /// Where no place is free.
    pub fn flush(&mut self, token: u64, nsid: u32) -> Result<(), Refused> {
        self.push(token, command(NvmOpcode::FLUSH, nsid, 0, 0), None)
    }

    /// Tells the controller that what ranges hold does not matter any more. `memory` holds
    /// `ranges` + 1 [`DsmRange`](nvm::DsmRange)s.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub fn deallocate(&mut self, token: u64, nsid: u32, ranges: u8, memory: Run) -> Result<(), Refused> {
        self.push(
            token,
            command(
                NvmOpcode::DATASET_MANAGEMENT,
                nsid,
                u64::from(ranges) | u64::from(nvm::DSM_DEALLOCATE) << 32,
                0,
            ),
            Some(memory),
        )
    }

    /// Copies ranges of the namespace, one after the other, to `lba` on. `memory` holds `ranges` + 1
    /// [`CopyRange`](nvm::CopyRange)s.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub fn copy(&mut self, token: u64, nsid: u32, lba: u64, ranges: u8, memory: Run) -> Result<(), Refused> {
        self.push(token, command(NvmOpcode::COPY, nsid, lba, u64::from(ranges)), Some(memory))
    }

    #[inline]
    fn push(&mut self, token: u64, command: Command, memory: Option<Run>) -> Result<(), Refused> {
        match self.ring.push(token, command, memory) {
            Err(Refused::Full) => Err(self.full()),
            outcome => outcome,
        }
    }

    /// Why no place is free.
    #[cold]
    fn full(&self) -> Refused {
        if self.closed { Refused::Closed } else { Refused::Full }
    }

    fn check_open(&self) -> Result<(), Refused> {
        if self.closed { Err(Refused::Closed) } else { Ok(()) }
    }

    /// Lets the controller see the commands that were taken since the last call: one doorbell for all of them.
    #[inline]
    pub fn ring(&mut self) {
        if self.controller.life.look() != self.seen {
            return self.changed();
        }
        self.countdown = self.countdown.saturating_sub(LOOKS / BATCHES);
        if self.countdown == 0 {
            self.clock();
        }
        if let Err(error) = self.ring.ring() {
            self.failed(error);
        }
    }

    /// Takes at most `max` commands that have ended; answers how many. Where there are none, a controller that works on
    /// its callers' threads does some of its work, and commands that are late are dealt with.
    #[inline]
    pub fn reap(&mut self, max: usize, mut each: impl FnMut(Completed)) -> usize {
        let found = self.ring.reap(max, &mut each);
        if found == 0 || self.ring.has_fault() {
            return found + self.look_closer(max - found, &mut each);
        }
        if let Err(error) = self.ring.acknowledge(false) {
            self.failed(error);
        }
        found
    }

    /// Whether [`reap`](Self::reap) would find a completion that the controller has made; changes nothing.
    #[inline]
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ring.is_ready()
    }

    #[inline(never)]
    fn look_closer(&mut self, max: usize, each: &mut impl FnMut(Completed)) -> usize {
        if self.ring.has_fault() {
            self.distrust();
        }
        if let Err(error) = self.ring.acknowledge(true) {
            self.failed(error);
        }
        if self.controller.life.look() != self.seen {
            self.changed();
        }
        let mut found = self.tell_lost(max, each);
        if found < max && self.controller.is_assisted() && self.ring.out() > 0 {
            self.controller.transport().assist(self.number(), Duration::ZERO);
            found += self.ring.reap(max - found, &mut *each);
        }
        self.countdown = self.countdown.saturating_sub(1);
        if self.countdown == 0 {
            self.clock();
            found += self.tell_lost(max - found, each);
        }
        found
    }

    fn tell_lost(&mut self, max: usize, each: &mut impl FnMut(Completed)) -> usize {
        let mut told = 0;
        while told < max {
            let Some(token) = self.lost.pop() else { break };
            each(Completed { token, status: Status::ABORTED_SQ_DELETION, dw0: 0, held: self.held });
            told += 1;
        }
        told
    }

    /// Lets some time pass in which the controller may complete something: for those who found nothing. It does not
    /// wait longer than `limit`.
    pub fn pause(&mut self, patience: &mut Waiting, limit: Duration) {
        if !self.lost.is_empty() {
            return;
        }
        if patience.0.is_over() {
            // Sleeps take as long as many batches.
            self.countdown = 1;
            let limit = limit.min(self.step);
            if let Some(interrupt) = &self.interrupt {
                if let Err(error) = interrupt.wait(limit) {
                    tracing::warn!(device = self.controller.name(), %error, "an interrupt cannot be waited for");
                    self.interrupt = None;
                }
                return;
            }
        }
        patience.0.pause(&**self.controller.transport(), self.ring.shape().queue, limit);
    }

    /// Lets the next look that finds nothing read the clock.
    pub(crate) fn hurry(&mut self) {
        self.countdown = 1;
    }

    /// Reads the clock, and sees to commands that are late.
    #[cold]
    fn clock(&mut self) {
        self.countdown = LOOKS;
        let passed = self.start.elapsed().as_nanos() / self.step.as_nanos().max(1);
        let tick = u32::try_from(passed).unwrap_or(u32::MAX);
        if tick == self.tick {
            return;
        }
        self.tick = tick;
        self.ring.see(tick);
        if self.controller.is_assisted() {
            self.controller.look_after();
        }
        self.see_to_late();
    }
}

/// How long a caller of [`QueuePair::pause`] has been waiting.
#[derive(Debug, Default)]
pub struct Waiting(Patience);

impl Waiting {
    /// Whether it waits by sleeping from now on.
    pub(crate) fn sleeps(&self) -> bool {
        self.0.is_over()
    }

    /// As [`QueuePair::pause`], for those who share the pair and do not have it at the moment.
    pub(crate) fn pause(&mut self, transport: &dyn Transport, queue: u16, limit: Duration) {
        self.0.pause(transport, queue, limit);
    }
}

/// A command with its dwords 10 to 13.
#[inline]
fn command(opcode: NvmOpcode, nsid: u32, ten: u64, twelve: u64) -> Command {
    Command { first: u64::from(opcode.0) | u64::from(nsid) << 32, ten, twelve }
}

/// A command on a range of blocks.
#[inline]
fn blocks_command(opcode: NvmOpcode, nsid: u32, lba: u64, blocks: u32) -> Result<Command, Refused> {
    // Zero-based, in 16 bits.
    let Ok(last) = u16::try_from(blocks.wrapping_sub(1)) else { return Err(Unfit::TooLong.into()) };
    Ok(command(opcode, nsid, lba, last.into()))
}
