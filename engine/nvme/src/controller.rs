//! One controller, shared by all who have queues on it: its admin queue, its life and its resets.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine_dma::{Region, to_usize};
use engine_nvme_spec::Version;
use engine_nvme_spec::dbbuf::place;
use engine_transport::{Assist, Interrupt, Transport};
use parking_lot::{Mutex, MutexGuard};

use crate::admin::AdminQueue;
use crate::bring_up::{Properties, Shadows, disable, enable};
use crate::doorbell::Shadow;
use crate::life::{Life, Look, State};
use crate::options::DriverOptions;
use crate::registers::Registers;
use crate::{DriverError, QueuePair, keeper};

/// A controller that needed this many resets within [`RESETS_WITHIN`] is given up.
const MOST_RESETS: usize = 8;
const RESETS_WITHIN: Duration = Duration::from_secs(60);

/// How long a shutdown may take where the controller does not say (RTD3E).
const SHUTDOWN: Duration = Duration::from_secs(5);
const LONGEST_SHUTDOWN: Duration = Duration::from_secs(60);

/// A controller that was brought up. Dropping the last handle, the queues' own among them, shuts it down.
#[derive(Debug)]
pub struct Controller {
    transport: Arc<dyn Transport>,
    options: DriverOptions,
    properties: Properties,
    doorbells: Option<Arc<Region>>,
    assisted: bool,
    pub(crate) life: Life,
    inner: Mutex<Inner>,
    interrupts: Mutex<BTreeMap<u16, Interrupt>>,
    _keeper: keeper::Stop,
}

#[derive(Debug)]
struct Inner {
    admin: AdminQueue,
    shadows: Option<Shadows>,
    /// Numbers of queue pairs that nobody has.
    free: Vec<u16>,
    /// When it was reset lately.
    resets: VecDeque<Instant>,
    /// Why it was given up.
    reason: String,
}

impl Controller {
    /// Brings the controller behind a transport up: disables it where it runs, gives it an admin queue, enables it and
    /// learns what it is.
    ///
    /// # Errors
    /// Where it is not there, does not become ready in time, lies about itself, or cannot be driven.
    pub fn open(transport: Arc<dyn Transport>, options: DriverOptions) -> Result<Arc<Self>, DriverError> {
        let registers = Registers { transport: Arc::clone(&transport) };
        let capabilities = registers.capabilities()?;
        if let Err(error) = disable(&registers, &capabilities) {
            // What is below its own reset may still get it to stop.
            if !error.wants_reset() || transport.reset().is_err() {
                return Err(error);
            }
            disable(&registers, &capabilities)?;
        }
        let mut admin =
            AdminQueue::new(registers, capabilities.stride, capabilities.page_shift, options.admin_timeout)?;
        let mut shadows = None;
        let properties = match enable(&mut admin, capabilities, &options, &mut shadows) {
            Ok(properties) => properties,
            Err(error) => {
                // Whoever gave up on it must not leave it writing to memory that is somebody else's by then.
                if disable(admin.registers(), &capabilities).is_err() && transport.reset().is_err() {
                    admin.give_up();
                    give_up_shadows(&mut shadows);
                }
                return Err(error);
            }
        };
        let assisted = transport.assist(0, Duration::ZERO) != Assist::NotNeeded;
        let inner = Inner {
            admin,
            shadows,
            free: (1..=properties.queues).rev().collect(),
            resets: VecDeque::new(),
            reason: String::new(),
        };
        let (stop, keeper) = keeper::pair();
        let controller = Arc::new(Self {
            doorbells: transport.doorbells(),
            transport,
            options,
            properties,
            assisted,
            life: Life::default(),
            inner: Mutex::new(inner),
            interrupts: Mutex::default(),
            _keeper: stop,
        });
        keeper.start(&controller)?;
        Ok(controller)
    }

    /// What the user called it.
    #[must_use]
    pub fn name(&self) -> &str {
        self.transport.name()
    }

    /// What it says of itself.
    #[must_use]
    pub fn facts(&self) -> &crate::ControllerFacts {
        &self.properties.facts
    }

    /// The version of the specification that it implements.
    #[must_use]
    pub fn version(&self) -> Version {
        self.properties.version
    }

    /// I/O queue pairs that it granted.
    #[must_use]
    pub fn queues(&self) -> u16 {
        self.properties.queues
    }

    /// Most bytes of one command.
    #[must_use]
    pub fn max_transfer(&self) -> u32 {
        self.properties.limits.max_transfer
    }

    /// Whether commands say by SGLs where their data is.
    #[must_use]
    pub fn uses_sgl(&self) -> bool {
        self.properties.limits.sgl
    }

    /// Whether shadow doorbells save most writes of registers.
    #[must_use]
    pub fn uses_shadow_doorbells(&self) -> bool {
        self.properties.shadow
    }

    /// How often it had to be reset.
    #[must_use]
    pub fn resets(&self) -> u64 {
        self.life.look().epoch()
    }

    /// Whether it was given up or went away: nothing that is asked of it will be done any more.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self.life.look().state(), State::Stopped | State::Lost)
    }

    /// A queue pair of its own for whoever asks. Its number goes back when it is dropped.
    ///
    /// # Errors
    /// [`DriverError::Queues`] where none is left; where the controller refuses to create it.
    pub fn pair(self: &Arc<Self>) -> Result<QueuePair, DriverError> {
        let number = self.locked()?.free.pop();
        let Some(number) = number else {
            let reason = format!("all of the {} that it has are in use; ask for more queues", self.queues());
            return Err(DriverError::Queues { device: self.name().to_owned(), reason });
        };
        QueuePair::new(Arc::clone(self), number).inspect_err(|_| self.give_back(number))
    }

    pub(crate) fn give_back(&self, number: u16) {
        self.inner.lock().free.push(number);
    }

    pub(crate) fn transport(&self) -> &Arc<dyn Transport> {
        &self.transport
    }

    pub(crate) fn options(&self) -> &DriverOptions {
        &self.options
    }

    pub(crate) fn properties(&self) -> &Properties {
        &self.properties
    }

    pub(crate) fn doorbells(&self) -> Option<&Arc<Region>> {
        self.doorbells.as_ref()
    }

    /// Whether it works only on the threads of those who wait for it.
    pub(crate) fn is_assisted(&self) -> bool {
        self.assisted
    }

    /// The shadow doorbells of a queue pair.
    pub(crate) fn shadows(&self, queue: u16) -> Option<[Shadow; 2]> {
        let inner = self.inner.lock();
        let shadows = inner.shadows.as_ref().filter(|_| self.properties.shadow)?;
        let of = |completion| {
            let offset = to_usize(place(queue, completion, self.properties.capabilities.stride));
            Shadow {
                value: shadows.values.place(offset),
                values: Arc::clone(shadows.values.region()),
                event: shadows.events.place(offset),
                events: Arc::clone(shadows.events.region()),
            }
        };
        Some([of(false), of(true)])
    }

    /// The interrupt of a queue pair, and its vector; none where completions are polled for.
    pub(crate) fn interrupt(&self, queue: u16) -> Option<(u16, Interrupt)> {
        // Vector 0 is the admin queue's.
        if !self.options.interrupts || self.assisted || queue >= self.transport.interrupts() {
            return None;
        }
        let mut connected = self.interrupts.lock();
        if let Some(interrupt) = connected.get(&queue) {
            return Some((queue, interrupt.another().ok()?));
        }
        let interrupt = self.transport.interrupt(queue);
        let interrupt = interrupt.inspect_err(|error| {
            tracing::warn!(device = self.name(), %error, queue, "no interrupt for a queue; polling");
        });
        let interrupt = interrupt.ok()?;
        let ours = interrupt.another().ok()?;
        connected.insert(queue, interrupt);
        Some((queue, ours))
    }

    fn locked(&self) -> Result<MutexGuard<'_, Inner>, DriverError> {
        let inner = self.inner.lock();
        if self.is_gone() {
            return Err(DriverError::Gone { device: self.name().to_owned(), reason: inner.reason.clone() });
        }
        Ok(inner)
    }

    /// Does something with the admin queue, which belongs to the caller meanwhile. A controller that does not answer
    /// is reset before this returns.
    ///
    /// # Errors
    /// What `act` answers; where the controller is gone.
    pub(crate) fn admin<T>(
        &self,
        act: impl FnOnce(&mut AdminQueue) -> Result<T, DriverError>,
    ) -> Result<T, DriverError> {
        let mut inner = self.locked()?;
        let outcome = act(&mut inner.admin);
        if let Err(error) = &outcome {
            self.note(&mut inner, error);
        }
        outcome
    }

    /// As [`admin`](Self::admin) for a queue pair that was made when the controller was last looked at as `seen`; none
    /// where it was reset since, so that the queue is not there any more.
    pub(crate) fn admin_since<T>(
        &self,
        seen: Look,
        act: impl FnOnce(&mut AdminQueue) -> Result<T, DriverError>,
    ) -> Result<Option<T>, DriverError> {
        let mut inner = self.locked()?;
        if self.life.look() != seen {
            return Ok(None);
        }
        let outcome = act(&mut inner.admin);
        if let Err(error) = &outcome {
            self.note(&mut inner, error);
        }
        outcome.map(Some)
    }

    /// Deals with an error of the admin queue: reset, or gone.
    fn note(&self, inner: &mut Inner, error: &DriverError) {
        match error {
            DriverError::Transport(_) | DriverError::Gone { .. } => {
                self.lose(inner, State::Lost, error.to_string());
            }
            error if error.wants_reset() => self.reset_now(inner, &error.to_string()),
            _ => {}
        }
    }

    /// Resets the controller, unless somebody else has since it was last looked at as `seen`.
    pub(crate) fn reset(&self, seen: Look, why: &str) {
        let Ok(mut inner) = self.locked() else { return };
        if self.life.look() == seen {
            self.reset_now(&mut inner, why);
        }
    }

    /// Notes that the way to the controller has failed.
    pub(crate) fn lost(&self, why: &DriverError) {
        if let Ok(mut inner) = self.locked() {
            self.lose(&mut inner, State::Lost, why.to_string());
        }
    }

    fn lose(&self, inner: &mut Inner, state: State, reason: String) {
        tracing::error!(device = self.name(), reason, "the controller is given up");
        inner.reason = reason;
        let epoch = self.life.look().epoch();
        self.life.set(epoch + 1, state);
    }

    fn reset_now(&self, inner: &mut Inner, why: &str) {
        let now = Instant::now();
        inner.resets.retain(|at| now.duration_since(*at) < RESETS_WITHIN);
        let epoch = self.life.look().epoch() + 1;
        self.life.set(epoch, State::Resetting);
        let registers = inner.admin.registers().clone();
        let capabilities = self.properties.capabilities;
        let mut stopped = disable(&registers, &capabilities);
        let is_gone =
            |error: &DriverError| matches!(error, DriverError::Gone { .. } | DriverError::Transport(_));
        if stopped.as_ref().is_err_and(|error| !is_gone(error)) && self.transport.reset().is_ok() {
            // Below the controller's own reset there is the function's, after which nothing of it is in flight.
            stopped = disable(&registers, &capabilities);
        }
        if let Err(error) = stopped {
            let reason = format!("{why}, and then it could not be reset: {error}");
            return self.lose(inner, State::Lost, reason);
        }
        if inner.resets.len() >= MOST_RESETS {
            let reason = format!("{why}, after {MOST_RESETS} resets within {RESETS_WITHIN:?}");
            return self.lose(inner, State::Stopped, reason);
        }
        inner.resets.push_back(now);
        tracing::warn!(device = self.name(), why, "the controller was reset");
        let mut started = self.start(inner);
        if started.as_ref().is_err_and(|error| !is_gone(error))
            && self.transport.reset().is_ok()
            && disable(&registers, &capabilities).is_ok()
        {
            started = self.start(inner);
        }
        match started {
            Ok(()) => self.life.set(epoch, State::Live),
            Err(error) => {
                // Queues of old it forgot; what it may still write to is the admin queue's own memory.
                inner.admin.give_up();
                give_up_shadows(&mut inner.shadows);
                let reason = format!("{why}, and then it did not start again: {error}");
                self.lose(inner, State::Stopped, reason);
            }
        }
    }

    /// Brings a controller up that was stopped, as what it was before.
    fn start(&self, inner: &mut Inner) -> Result<(), DriverError> {
        inner.admin.restart();
        let Inner { admin, shadows, .. } = inner;
        let capabilities = self.properties.capabilities;
        let properties = enable(admin, capabilities, &self.options, shadows)?;
        let before = &self.properties;
        if properties.limits != before.limits
            || properties.queues < before.queues
            || properties.shadow != before.shadow
        {
            return Err(DriverError::Lies {
                device: self.name().to_owned(),
                reason: "after a reset it is another than before".to_owned(),
            });
        }
        Ok(())
    }

    /// Looks whether it is well, and at what it has to tell. Done by the keeper now and then, and by those who wait for
    /// a controller that works on their threads.
    pub(crate) fn look_after(&self) {
        let Some(mut inner) = self.inner.try_lock() else { return };
        if self.is_gone() {
            return;
        }
        if self.assisted {
            // It tells of nothing before it has worked.
            self.transport.assist(0, Duration::ZERO);
        }
        let outcome = inner.admin.registers().check().and_then(|()| inner.admin.events());
        let outcome = outcome.and_then(|events| {
            let count = u16::try_from(events.len()).unwrap_or(u16::MAX);
            for event in events {
                crate::events::attend(&mut inner.admin, event)?;
            }
            inner.admin.listen(count)
        });
        if let Err(error) = outcome {
            self.note(&mut inner, &error);
        }
    }
}

fn give_up_shadows(shadows: &mut Option<Shadows>) {
    if let Some(Shadows { values, events }) = shadows {
        values.give_up();
        events.give_up();
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        let state = self.life.look().state();
        let inner = self.inner.get_mut();
        let registers = inner.admin.registers().clone();
        let limit = self.properties.facts.shutdown.map_or(SHUTDOWN, |limit| limit.max(SHUTDOWN));
        let stopped = match state {
            State::Stopped => return,
            State::Lost => Err(DriverError::Gone { device: String::new(), reason: String::new() }),
            State::Live | State::Resetting => {
                if let Err(error) = registers.shut_down(limit.min(LONGEST_SHUTDOWN)) {
                    tracing::warn!(device = registers.transport.name(), %error, "no clean shutdown");
                }
                disable(&registers, &self.properties.capabilities)
                    .or_else(|error| registers.transport.reset().map_err(|_| error))
            }
        };
        if stopped.is_err() {
            // It may still write there.
            inner.admin.give_up();
            give_up_shadows(&mut inner.shadows);
        }
    }
}
