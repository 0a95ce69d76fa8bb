//! Whether a controller lives, for everybody who has queues on it, in one word that is looked at without a lock.

use std::sync::atomic::{AtomicU64, Ordering};

/// How a controller is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It takes commands.
    Live,
    /// Somebody is resetting it.
    Resetting,
    /// It will never take commands again, and had stopped before.
    Stopped,
    /// It will never take commands again, and nobody knows whether it still writes to memory.
    Lost,
}

/// A look at it: how it is, and how often it was reset. Two looks that are equal mean that nothing happened between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look(u64);

/// The word.
#[derive(Debug, Default)]
pub(crate) struct Life(AtomicU64);

impl Look {
    pub(crate) fn state(self) -> State {
        match self.0 & 3 {
            0 => State::Live,
            1 => State::Resetting,
            2 => State::Stopped,
            _ => State::Lost,
        }
    }

    /// How often it was reset.
    pub(crate) fn epoch(self) -> u64 {
        self.0 >> 2
    }
}

impl Life {
    #[inline]
    pub(crate) fn look(&self) -> Look {
        // Acquire: who sees that it was reset sees the queues as they are then.
        Look(self.0.load(Ordering::Acquire))
    }

    /// Called by whoever holds the lock on the controller.
    pub(crate) fn set(&self, epoch: u64, state: State) {
        let state = match state {
            State::Live => 0,
            State::Resetting => 1,
            State::Stopped => 2,
            State::Lost => 3,
        };
        self.0.store(epoch << 2 | state, Ordering::Release);
    }
}
