//! Faults that a controller shows on purpose, so that drivers can be held against them.
//!
//! ```
//! use std::time::Duration;
//! use engine_controller::{Effect, Fault, Faults};
//!
//! let faults = Faults::default();
//! // The third read from now on is answered late; after that, one write is lost.
//! faults.add(Fault::io(Effect::Delay(Duration::from_millis(50))).opcode(2).after(2));
//! faults.add(Fault::io(Effect::Drop).opcode(1));
//! ```

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use engine_nvme_spec::{Sqe, Status};
use parking_lot::Mutex;

/// What is done to a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It is carried out and never answered.
    Drop,
    /// It is carried out and answered this much later.
    Delay(Duration),
    /// It is answered after the next command that is answered.
    Reorder,
    /// It is not carried out, and fails with this status.
    Fail(Status),
    /// A byte of what a read brings is changed.
    Corrupt,
    /// It is answered twice.
    Duplicate,
    /// Its answer has the phase tag of the round before.
    WrongPhase,
    /// Its answer names this command.
    WrongCommand(u16),
    /// Its answer names this submission queue.
    WrongQueue(u16),
    /// Its answer says that the submission queue's head is here.
    WrongHead(u16),
}

/// A command to look for, and what to do to it.
#[derive(Debug, Clone)]
pub struct Fault {
    effect: Effect,
    admin: bool,
    opcode: Option<u8>,
    nsid: Option<u32>,
    blocks: Option<Range<u64>>,
    skip: u64,
    times: u64,
}

impl Fault {
    /// For one command on an I/O queue.
    #[must_use]
    pub fn io(effect: Effect) -> Self {
        Self { effect, admin: false, opcode: None, nsid: None, blocks: None, skip: 0, times: 1 }
    }

    /// For one command on the admin queue.
    #[must_use]
    pub fn admin(effect: Effect) -> Self {
        Self { admin: true, ..Self::io(effect) }
    }

    /// Only for this opcode.
    #[must_use]
    pub fn opcode(self, opcode: u8) -> Self {
        Self { opcode: Some(opcode), ..self }
    }

    /// Only for this namespace.
    #[must_use]
    pub fn namespace(self, nsid: u32) -> Self {
        Self { nsid: Some(nsid), ..self }
    }

    /// Only for commands whose first block is one of these.
    #[must_use]
    pub fn blocks(self, blocks: Range<u64>) -> Self {
        Self { blocks: Some(blocks), ..self }
    }

    /// Only after this many commands that match.
    #[must_use]
    pub fn after(self, skip: u64) -> Self {
        Self { skip, ..self }
    }

    /// For this many commands.
    #[must_use]
    pub fn times(self, times: u64) -> Self {
        Self { times, ..self }
    }

    fn matches(&self, admin: bool, sqe: &Sqe) -> bool {
        self.admin == admin
            && self.opcode.is_none_or(|opcode| opcode == sqe.opcode)
            && self.nsid.is_none_or(|nsid| nsid == sqe.nsid.get())
            && self.blocks.as_ref().is_none_or(|blocks| blocks.contains(&sqe.slba()))
    }
}

/// The faults of a controller, set and taken away from any thread while it works.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    armed: AtomicBool,
    stuck: AtomicBool,
    gone: AtomicBool,
    never_ready: AtomicBool,
    fatal: AtomicBool,
    rules: Mutex<Vec<Fault>>,
}

impl Faults {
    /// Adds a fault. Where several match a command, the oldest is shown.
    pub fn add(&self, fault: Fault) {
        let mut rules = self.inner.rules.lock();
        rules.push(fault);
        self.inner.armed.store(true, Ordering::Release);
    }

    /// How many commands are still to be shown a fault.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.inner.rules.lock().iter().map(|rule| rule.times).sum()
    }

    /// Lets the controller take no commands any more, or again.
    pub fn stick(&self, stuck: bool) {
        self.inner.stuck.store(stuck, Ordering::Release);
    }

    /// Lets the controller vanish as one that was pulled out: registers read as ones, nothing happens any more.
    pub fn vanish(&self) {
        self.inner.gone.store(true, Ordering::Release);
    }

    /// Lets the controller not become ready when it is enabled next.
    pub fn never_ready(&self, never: bool) {
        self.inner.never_ready.store(never, Ordering::Release);
    }

    /// Lets the controller say that it cannot go on (CSTS.CFS), until it is reset.
    pub fn break_down(&self) {
        self.inner.fatal.store(true, Ordering::Release);
    }

    /// Takes all faults away but that of having vanished.
    pub fn heal(&self) {
        self.inner.rules.lock().clear();
        self.inner.armed.store(false, Ordering::Release);
        self.stick(false);
        self.never_ready(false);
        self.mend();
    }

    /// A reset takes the fatal state away.
    pub(crate) fn mend(&self) {
        self.inner.fatal.store(false, Ordering::Release);
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.inner.fatal.load(Ordering::Acquire)
    }

    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.inner.stuck.load(Ordering::Relaxed) || self.is_gone() || self.is_broken()
    }

    #[inline]
    pub(crate) fn is_gone(&self) -> bool {
        self.inner.gone.load(Ordering::Relaxed)
    }

    pub(crate) fn is_never_ready(&self) -> bool {
        self.inner.never_ready.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn is_armed(&self) -> bool {
        self.inner.armed.load(Ordering::Acquire)
    }

    /// What is to be done to a command.
    pub(crate) fn effect(&self, admin: bool, sqe: &Sqe) -> Option<Effect> {
        let mut rules = self.inner.rules.lock();
        let mut chosen = None;
        for rule in rules.iter_mut().filter(|rule| rule.matches(admin, sqe)) {
            if rule.skip > 0 {
                rule.skip -= 1;
            } else if chosen.is_none() && rule.times > 0 {
                rule.times -= 1;
                chosen = Some(rule.effect);
            }
        }
        rules.retain(|rule| rule.times > 0);
        self.inner.armed.store(!rules.is_empty(), Ordering::Release);
        chosen
    }
}

#[cfg(test)]
mod tests {
    use engine_nvme_spec::nvm;

    use super::*;

    #[test]
    fn fault_is_shown_to_the_command_that_it_is_for_and_no_other() {
        let faults = Faults::default();
        let fail = Effect::Fail(Status::UNRECOVERED_READ_ERROR);
        faults.add(Fault::io(fail).opcode(2).namespace(1).blocks(10..20).after(1).times(2));
        let effect = |sqe| faults.effect(false, &sqe);
        assert_eq!(effect(nvm::write(1, 10, 1)), None);
        assert_eq!(effect(nvm::read(2, 10, 1)), None);
        assert_eq!(effect(nvm::read(1, 20, 1)), None);
        assert_eq!(faults.effect(true, &nvm::read(1, 10, 1)), None);
        assert_eq!(effect(nvm::read(1, 10, 1)), None, "the first that matches is passed over");
        assert_eq!(effect(nvm::read(1, 19, 1)), Some(fail));
        assert_eq!(effect(nvm::read(1, 10, 1)), Some(fail));
        assert_eq!(effect(nvm::read(1, 10, 1)), None);
        assert!(!faults.is_armed());
    }
}
