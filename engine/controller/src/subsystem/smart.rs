//! Health and counters (Base, section 5.1.12.1.3).

use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use engine_nvme_spec::SmartLog;
use zerocopy::FromZeros;

/// Bits of Critical Warning.
pub mod warning {
    /// Spare space fell below its threshold.
    pub const SPARE: u8 = 1 << 0;
    /// A temperature is beyond a threshold.
    pub const TEMPERATURE: u8 = 1 << 1;
    /// Less reliable than it was.
    pub const RELIABILITY: u8 = 1 << 2;
    /// All media take no more writes.
    pub const READ_ONLY: u8 = 1 << 3;
}

/// What a software controller says its temperature is until it is told otherwise: 25 degrees Celsius, in Kelvin.
const NOMINAL_TEMPERATURE: u16 = 298;

/// What one processor counts. Only that processor adds, so adding needs no locked instruction; anybody may look.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct IoCounters {
    read_commands: AtomicU64,
    read_sectors: AtomicU64,
    write_commands: AtomicU64,
    written_sectors: AtomicU64,
    busy_nanoseconds: AtomicU64,
}

impl IoCounters {
    /// Counts read commands (Compare and Verify count as reads too) that moved `bytes` in all.
    #[inline]
    pub fn read(&self, commands: u64, bytes: u64) {
        add(&self.read_commands, commands);
        add(&self.read_sectors, bytes / 512);
    }

    /// Counts write commands that moved `bytes` in all.
    #[inline]
    pub fn written(&self, commands: u64, bytes: u64) {
        add(&self.write_commands, commands);
        add(&self.written_sectors, bytes / 512);
    }

    /// Counts time in which commands were outstanding.
    #[inline]
    pub fn busy(&self, time: Duration) {
        add(&self.busy_nanoseconds, u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }
}

/// Adds without a locked instruction: right as long as one thread adds.
#[inline]
fn add(counter: &AtomicU64, number: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(number), Ordering::Relaxed);
}

/// Sums of counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IoTotals {
    /// Read commands.
    pub read_commands: u64,
    /// Units of 512 bytes read.
    pub read_sectors: u64,
    /// Write commands.
    pub write_commands: u64,
    /// Units of 512 bytes written.
    pub written_sectors: u64,
    /// Time in which processors were busy, added up.
    pub busy: Duration,
}

impl IoTotals {
    fn add(&mut self, counters: &IoCounters) {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        self.read_commands = self.read_commands.wrapping_add(of(&counters.read_commands));
        self.read_sectors = self.read_sectors.wrapping_add(of(&counters.read_sectors));
        self.write_commands = self.write_commands.wrapping_add(of(&counters.write_commands));
        self.written_sectors = self.written_sectors.wrapping_add(of(&counters.written_sectors));
        self.busy = self.busy.saturating_add(Duration::from_nanos(of(&counters.busy_nanoseconds)));
    }
}

/// The health of a subsystem and what it has done since it was made.
#[derive(Debug)]
pub struct Health {
    since: Instant,
    temperature: AtomicU16,
    warnings: AtomicU8,
    unsafe_shutdowns: AtomicU64,
    media_errors: AtomicU64,
    counters: Mutex<Counters>,
}

#[derive(Debug, Default)]
struct Counters {
    /// Of processors that are gone.
    past: IoTotals,
    present: Vec<Weak<Handed>>,
}

/// Counters of a processor, which are added to the sum of the past when it lets go of them.
#[derive(Debug)]
struct Handed {
    counters: IoCounters,
    health: Weak<Health>,
}

/// Counters in the hands of a processor.
#[derive(Debug)]
pub struct CountersOfOne(Arc<Handed>);

impl std::ops::Deref for CountersOfOne {
    type Target = IoCounters;

    fn deref(&self) -> &IoCounters {
        &self.0.counters
    }
}

impl Drop for CountersOfOne {
    fn drop(&mut self) {
        let Some(health) = self.0.health.upgrade() else { return };
        let mut counters = health.counters.lock().unwrap_or_else(PoisonError::into_inner);
        counters.past.add(&self.0.counters);
        let gone = Arc::downgrade(&self.0);
        counters.present.retain(|one| !one.ptr_eq(&gone));
    }
}

impl Health {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            since: Instant::now(),
            temperature: AtomicU16::new(NOMINAL_TEMPERATURE),
            warnings: AtomicU8::new(0),
            unsafe_shutdowns: AtomicU64::new(0),
            media_errors: AtomicU64::new(0),
            counters: Mutex::default(),
        })
    }

    /// Counters for one more processor, for as long as it keeps them.
    pub fn counters(self: &Arc<Self>) -> CountersOfOne {
        let handed = Arc::new(Handed { counters: IoCounters::default(), health: Arc::downgrade(self) });
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        counters.present.push(Arc::downgrade(&handed));
        CountersOfOne(handed)
    }

    /// What all processors did.
    #[must_use]
    pub fn totals(&self) -> IoTotals {
        let counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let mut totals = counters.past;
        for one in counters.present.iter().filter_map(Weak::upgrade) {
            totals.add(&one.counters);
        }
        totals
    }

    /// Counts a controller whose host went without shutting it down.
    pub fn unsafe_shutdown(&self) {
        self.unsafe_shutdowns.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts data that was found to be lost.
    pub fn media_error(&self) {
        self.media_errors.fetch_add(1, Ordering::Relaxed);
    }

    /// The temperature in Kelvin.
    #[must_use]
    pub fn temperature(&self) -> u16 {
        self.temperature.load(Ordering::Relaxed)
    }

    pub(crate) fn set_temperature(&self, kelvin: u16) {
        self.temperature.store(kelvin, Ordering::Relaxed);
    }

    /// The critical warnings that hold now, without that of the temperature, which depends on each controller's
    /// thresholds.
    #[must_use]
    pub fn warnings(&self) -> u8 {
        self.warnings.load(Ordering::Relaxed)
    }

    /// Sets the warnings, and answers those that are new.
    pub(crate) fn set_warnings(&self, bits: u8) -> u8 {
        let bits = bits & !warning::TEMPERATURE;
        bits & !self.warnings.swap(bits, Ordering::Relaxed)
    }

    /// The SMART log page of a controller that has written `error_entries` errors and for which the temperature is
    /// critical or not.
    #[must_use]
    pub(crate) fn log(&self, error_entries: u64, too_hot_or_cold: bool) -> SmartLog {
        let totals = self.totals();
        let wide = |number: u64| u128::from(number).into();
        let mut log = SmartLog::new_zeroed();
        log.critical_warning = self.warnings() | if too_hot_or_cold { warning::TEMPERATURE } else { 0 };
        log.temperature = self.temperature().into();
        log.spare = 100;
        log.spare_threshold = 10;
        // In thousands of 512 bytes, rounded up: one byte moved is not none.
        log.data_units_read = wide(totals.read_sectors.div_ceil(1000));
        log.data_units_written = wide(totals.written_sectors.div_ceil(1000));
        log.host_reads = wide(totals.read_commands);
        log.host_writes = wide(totals.write_commands);
        log.busy_minutes = wide(totals.busy.as_secs() / 60);
        log.power_cycles = wide(1);
        log.power_on_hours = wide(self.since.elapsed().as_secs() / 3600);
        log.unsafe_shutdowns = wide(self.unsafe_shutdowns.load(Ordering::Relaxed));
        log.media_errors = wide(self.media_errors.load(Ordering::Relaxed));
        log.error_entries = wide(error_entries);
        log
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::IntoBytes;

    use super::*;

    /// A number of 16 bytes at an offset that figure 207 gives.
    fn number(log: &SmartLog, at: usize) -> u128 {
        u128::from_le_bytes(log.as_bytes()[at..at + 16].try_into().unwrap())
    }

    #[test]
    fn data_units_are_thousands_of_sectors_rounded_up() {
        let health = Health::new();
        let counters = health.counters();
        counters.read(1, 512);
        counters.written(3, 512 * 1000);
        let log = health.log(0, false);
        assert_eq!((number(&log, 32), number(&log, 48)), (1, 1));
        counters.read(1, 512 * 999);
        counters.written(1, 512);
        let log = health.log(0, false);
        assert_eq!((number(&log, 32), number(&log, 48)), (1, 2));
        assert_eq!((number(&log, 64), number(&log, 80)), (2, 4));
    }

    #[test]
    fn counters_of_processors_that_are_gone_stay_in_the_sum() {
        let health = Health::new();
        let (one, other) = (health.counters(), health.counters());
        one.read(2, 1024);
        other.read(3, 512);
        drop(one);
        assert_eq!(health.totals().read_commands, 5);
        assert_eq!(health.totals().read_sectors, 3);
        drop(other);
        assert_eq!(health.totals().read_commands, 5);
    }

    #[test]
    fn warnings_answer_what_is_new_and_leave_the_temperature_alone() {
        let health = Health::new();
        assert_eq!(health.set_warnings(warning::RELIABILITY | warning::TEMPERATURE), warning::RELIABILITY);
        assert_eq!(health.set_warnings(warning::RELIABILITY | warning::SPARE), warning::SPARE);
        let log = health.log(7, true);
        assert_eq!(log.as_bytes()[0], 0b111);
        assert_eq!(u16::from_le_bytes([log.as_bytes()[1], log.as_bytes()[2]]), 298);
        assert_eq!(number(&log, 176), 7);
    }

    #[test]
    fn time_in_which_processors_were_busy_is_told_in_minutes() {
        let health = Health::new();
        let counters = health.counters();
        counters.busy(Duration::from_secs(119));
        assert_eq!(number(&health.log(0, false), 96), 1);
        health.unsafe_shutdown();
        health.media_error();
        let log = health.log(0, false);
        assert_eq!((number(&log, 144), number(&log, 160)), (1, 1));
    }
}
