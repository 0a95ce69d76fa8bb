//! What happens to a queue pair when its controller is late, lies, is reset or goes.
//!
//! A late command is aborted; where that does not end it, its queue is deleted, which ends all its commands; where
//! that does not work, the controller is reset. Each step has a deadline.

use crate::DriverError;
use crate::life::State;
use crate::pair::{QueuePair, TICKS};

/// Late commands that are aborted at a time; the deletion of their queue ends the others.
const MOST_ABORTS: usize = 4;
/// Steps of the clock that a controller has to complete what was aborted.
const GRACE: u32 = TICKS / 4;
/// Completions of commands that are not out, after which the controller is reset.
const MOST_FAULTS: u32 = 8;
/// How often the controller may be reset while a pair is created anew, before it gives up.
const MOST_TRIES: u32 = 8;

impl QueuePair {
    /// Deals with commands that were submitted too long ago.
    pub(crate) fn see_to_late(&mut self) {
        let Some(before) = self.tick.checked_sub(TICKS) else { return };
        let late: Vec<u16> = self.ring.older_than(before).take(MOST_ABORTS).collect();
        if late.is_empty() {
            self.aborted = None;
            return;
        }
        match self.aborted {
            None => self.abort(&late),
            Some(since) if self.tick.saturating_sub(since) >= GRACE => self.replace(),
            Some(_) => {}
        }
    }

    fn abort(&mut self, late: &[u16]) {
        let (queue, seen) = (self.number(), self.seen);
        let device = self.controller.name();
        tracing::warn!(device, queue, commands = late.len(), "commands are late and are aborted");
        let limit = self.controller.options().timeout.min(self.controller.options().admin_timeout);
        let most = usize::from(self.controller.facts().aborts);
        let outcome = self.controller.admin_since(seen, |admin| {
            for &cid in late.iter().take(most) {
                admin.abort(queue, cid, limit)?;
            }
            Ok(())
        });
        self.aborted = Some(self.tick);
        if let Err(error) = outcome {
            tracing::warn!(device, queue, %error, "commands could not be aborted");
        }
    }

    /// Deletes the queue pair with all its commands and creates it anew.
    fn replace(&mut self) {
        let (queue, seen) = (self.number(), self.seen);
        let device = self.controller.name().to_owned();
        tracing::warn!(device, queue, "aborted commands did not end; their queue is deleted");
        self.aborted = None;
        match self.controller.admin_since(seen, |admin| admin.delete(queue)) {
            Ok(Some(())) => {
                self.ring.restart(&mut self.lost);
                if let Err(error) = self.create_again() {
                    tracing::warn!(device, queue, %error, "a queue could not be created again");
                    self.controller.reset(seen, "a queue could not be created again");
                    self.changed();
                }
            }
            Ok(None) => self.changed(),
            Err(error) => {
                // Where it was not the admin queue that failed, nobody has reset the controller yet.
                tracing::warn!(device, queue, %error, "a queue could not be deleted");
                self.controller.reset(seen, "a queue could not be deleted");
                self.changed();
            }
        }
    }

    /// Sees what became of the controller, which is not as it was when the pair was created.
    #[cold]
    pub(crate) fn changed(&mut self) {
        for _ in 0..MOST_TRIES {
            let look = self.controller.life.look();
            match look.state() {
                State::Resetting => return,
                State::Live if look == self.seen => return,
                State::Live => {
                    self.aborted = None;
                    self.ring.restart(&mut self.lost);
                    match self.create_again() {
                        Ok(()) => return,
                        Err(error) => {
                            let device = self.controller.name();
                            tracing::warn!(device, queue = self.number(), %error, "a queue could not be created again");
                            self.controller.reset(look, "a queue could not be created again");
                        }
                    }
                }
                State::Stopped => return self.close(false),
                State::Lost => return self.close(true),
            }
        }
        // It is reset for ever; that is as good as gone.
        self.controller.reset(self.controller.life.look(), "a queue could never be created again");
        self.close(self.controller.life.look().state() == State::Lost);
    }

    /// Takes no command any more, and ends those that are out.
    fn close(&mut self, held: bool) {
        self.seen = self.controller.life.look();
        if self.closed {
            return;
        }
        self.closed = true;
        self.held = held;
        let queue = self.number();
        self.ring.take_back(&mut self.lost);
        self.ring.close();
        if held {
            tracing::error!(
                device = self.controller.name(),
                queue,
                commands = self.lost.len(),
                "the controller went without stopping; the memory of its commands is given up"
            );
            self.ring.give_up();
        }
    }

    /// Deals with completions of commands that are not out.
    #[cold]
    pub(crate) fn distrust(&mut self) {
        let Some(fault) = self.ring.take_fault() else { return };
        tracing::error!(
            device = self.controller.name(),
            queue = self.number(),
            entry = format_args!("{:#018x}", fault.entry),
            count = fault.count,
            "the controller completed a command that is not out"
        );
        if fault.count.saturating_sub(self.forgiven) >= MOST_FAULTS {
            self.forgiven = fault.count;
            self.controller.reset(self.seen, "it completes commands that are not out");
            self.changed();
        }
    }

    /// Deals with a way to the controller that has failed.
    #[cold]
    pub(crate) fn failed(&mut self, error: impl Into<DriverError>) {
        self.controller.lost(&error.into());
        self.changed();
    }
}

impl Drop for QueuePair {
    fn drop(&mut self) {
        self.changed_at_last();
        self.controller.give_back(self.number());
    }
}

impl QueuePair {
    /// Lets the controller forget the pair before its memory goes away.
    fn changed_at_last(&mut self) {
        if self.closed {
            return;
        }
        let queue = self.number();
        for _ in 0..MOST_TRIES {
            let look = self.controller.life.look();
            match look.state() {
                State::Live if look != self.seen => return,
                State::Live => match self.controller.admin_since(look, |admin| admin.delete(queue)) {
                    Ok(Some(())) => return,
                    Ok(None) => {}
                    Err(_) => self.controller.reset(look, "a queue could not be deleted"),
                },
                // Whoever resets it holds the lock that deleting needs.
                State::Resetting => drop(self.controller.admin_since(look, |_| Ok(()))),
                State::Stopped => return,
                State::Lost => break,
            }
        }
        self.ring.give_up();
    }
}
