//! The loads: each runs for a given time and gives a rate.

pub(crate) mod namespace;
pub(crate) mod reads;
pub(crate) mod ring;
pub(crate) mod writes;

use std::time::{Duration, Instant};

/// What was done, and how fast.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Done {
    pub(crate) count: u64,
    pub(crate) per_second: f64,
}

/// Counts what was done until the time is over.
#[derive(Debug)]
pub(crate) struct Clock {
    start: Instant,
    limit: Duration,
}

impl Clock {
    pub(crate) fn start(limit: Duration) -> Self {
        Self { start: Instant::now(), limit }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.start.elapsed() >= self.limit
    }

    pub(crate) fn done(&self, count: u64) -> Done {
        Done { count, per_second: count as f64 / self.start.elapsed().as_secs_f64() }
    }
}
