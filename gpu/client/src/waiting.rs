//! Waiting for completions, from a thread of this process.

use std::thread;
use std::time::{Duration, Instant};

use crate::ClientError;
use crate::queue::{Done, QueuePair};

/// How long a command may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often somebody who waits looks whether the daemon is still there.
const GLANCE: Duration = Duration::from_millis(20);
/// How often somebody looks for completions before it lets other threads run.
const SPINS: u32 = 2000;

impl QueuePair {
    /// The next completion of a command that moves data.
    ///
    /// # Errors
    /// Where none comes in time, or the daemon is gone.
    pub(crate) fn wait(&mut self) -> Result<Done, ClientError> {
        self.wait_for(PATIENCE)
    }

    /// The next completion, which may take this long.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub(crate) fn wait_for(&mut self, patience: Duration) -> Result<Done, ClientError> {
        for _ in 0..SPINS {
            if let Some(done) = self.reap() {
                return Ok(done);
            }
            std::hint::spin_loop();
        }
        let start = Instant::now();
        let mut look = start + GLANCE;
        loop {
            if let Some(done) = self.reap() {
                return Ok(done);
            }
            let now = Instant::now();
            if now > start + patience {
                return Err(ClientError::Late(patience));
            }
            if now > look {
                if self.is_abandoned() {
                    return Err(ClientError::Gone);
                }
                look = now + GLANCE;
            }
            thread::yield_now();
        }
    }
}
