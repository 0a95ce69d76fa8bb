//! Waiting for a controller without asking it too often.

use std::hint;
use std::thread;
use std::time::Duration;

use engine_transport::{Assist, Transport};

/// Looks at memory that come before the first sleep: some microseconds, in which most reads of a fast device end.
const SPINS: u32 = 2000;
/// The longest sleep between two looks.
const LONGEST: Duration = Duration::from_micros(500);
/// How long a controller without threads of its own may wait for its backing before the driver looks at the clock.
pub(crate) const ASSIST: Duration = Duration::from_millis(2);

/// How long has been waited, as far as it decides on what to do next.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    looks: u32,
}

impl Patience {
    /// For what takes milliseconds: sleeps from the first look on.
    pub(crate) fn sleeping() -> Self {
        Self { looks: SPINS }
    }

    /// Whether it is time to wait by other means than looking.
    pub(crate) fn is_over(&self) -> bool {
        self.looks >= SPINS
    }

    /// Lets the controller work, or a little time pass; at most about `limit`.
    #[inline]
    pub(crate) fn pause(&mut self, transport: &dyn Transport, queue: u16, limit: Duration) {
        match transport.assist(queue, limit.min(ASSIST)) {
            Assist::Worked => {}
            Assist::NotNeeded if self.looks < SPINS => {
                self.looks += 1;
                hint::spin_loop();
            }
            Assist::Idle | Assist::NotNeeded => {
                // A controller that had nothing to do will not have something at once either.
                self.looks = self.looks.max(SPINS).saturating_add(1);
                let steps = (self.looks - SPINS).min(16);
                thread::sleep(Duration::from_micros(1 << steps).min(LONGEST).min(limit));
            }
        }
    }
}
