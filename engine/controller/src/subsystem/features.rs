//! The features of one controller, as values (Base, section 5.1.25.1). What may be set to what stands in
//! [`feature_commands`](super::feature_commands).

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::smart::warning;

/// Asynchronous events that a controller can tell of: critical warnings, and changed namespaces.
pub(crate) const EVENTS_KNOWN: u32 =
    engine_nvme_spec::feature::EVENT_SMART_WARNINGS | engine_nvme_spec::feature::EVENT_NAMESPACE_ATTRIBUTE;

/// The features of a controller. Those that commands depend on are atomics; the rest is behind a lock that no I/O
/// takes.
#[derive(Debug)]
pub struct Features {
    values: Mutex<Values>,
    write_cache: AtomicBool,
    retry_delays: AtomicBool,
    coalescing: AtomicU32,
    arbitration: AtomicU32,
    events: AtomicU32,
}

#[derive(Debug, Clone)]
pub(crate) struct Values {
    pub(crate) arbitration: u32,
    pub(crate) power: u32,
    /// In Kelvin; reaching it is too hot.
    pub(crate) over: u16,
    /// In Kelvin; reaching it is too cold.
    pub(crate) under: u16,
    pub(crate) write_cache: bool,
    /// Submission and completion queues that were granted, where they were asked for.
    pub(crate) queues: Option<(u16, u16)>,
    pub(crate) coalescing: u32,
    /// Vectors for which coalescing is off.
    pub(crate) uncoalesced: BTreeSet<u16>,
    pub(crate) write_atomicity: u32,
    pub(crate) events: u32,
    pub(crate) timestamp: Timestamp,
    /// 16 bytes, of which a short identifier takes the first 8.
    pub(crate) host_id: [u8; 16],
    /// The first bytes of Host Behavior Support: ACRE, ETDAS, LBAFEE.
    pub(crate) behavior: [u8; 3],
    /// Whether the temperature was beyond a threshold when it was last looked at.
    pub(crate) beyond: bool,
}

/// The clock that the host sets (Base, section 5.1.25.1.8).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timestamp {
    /// Milliseconds since 1970 at `since`.
    milliseconds: u64,
    since: Instant,
    set: bool,
}

impl Timestamp {
    /// By this machine's clock; the host did not set it.
    fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let milliseconds = u64::try_from(now.as_millis()).unwrap_or_default();
        Self { milliseconds, since: Instant::now(), set: false }
    }

    /// As the host sets it: 6 bytes.
    pub(crate) fn from_host([a, b, c, d, e, f, _, _]: [u8; 8]) -> Self {
        let milliseconds = u64::from_le_bytes([a, b, c, d, e, f, 0, 0]);
        Self { milliseconds, since: Instant::now(), set: true }
    }

    /// As the host reads it: 6 bytes of time, a byte that says where it came from, a reserved one.
    pub(crate) fn to_host(self) -> [u8; 8] {
        let elapsed = u64::try_from(self.since.elapsed().as_millis()).unwrap_or_default();
        let [a, b, c, d, e, f, _, _] = self.milliseconds.wrapping_add(elapsed).to_le_bytes();
        [a, b, c, d, e, f, if self.set { 0b0010 } else { 0 }, 0]
    }
}

impl Default for Values {
    fn default() -> Self {
        Self {
            // No limit to a burst; all weights the same.
            arbitration: 0b111,
            power: 0,
            over: u16::MAX,
            under: 0,
            write_cache: true,
            queues: None,
            coalescing: 0,
            uncoalesced: BTreeSet::new(),
            write_atomicity: 0,
            events: EVENTS_KNOWN,
            timestamp: Timestamp::new(),
            host_id: [0; 16],
            behavior: [0; 3],
            beyond: false,
        }
    }
}

impl Values {
    /// Whether a temperature in Kelvin is beyond a threshold.
    pub(crate) fn is_beyond(&self, kelvin: u16) -> bool {
        kelvin >= self.over || kelvin <= self.under
    }
}

impl Default for Features {
    fn default() -> Self {
        let features = Self {
            values: Mutex::default(),
            write_cache: AtomicBool::default(),
            retry_delays: AtomicBool::default(),
            coalescing: AtomicU32::default(),
            arbitration: AtomicU32::default(),
            events: AtomicU32::default(),
        };
        features.change(|_| ());
        features
    }
}

impl Features {
    /// Whether writes may stay in a volatile cache; where not, each is to be made durable before it completes.
    #[must_use]
    #[inline]
    pub fn write_cache(&self) -> bool {
        self.write_cache.load(Ordering::Relaxed)
    }

    /// Whether the host understands retry delays (ACRE); without it completions carry none.
    #[must_use]
    #[inline]
    pub fn retry_delays(&self) -> bool {
        self.retry_delays.load(Ordering::Relaxed)
    }

    /// Interrupt coalescing: how many completions may gather, at least 1, and for how long, in units of 100
    /// microseconds, 0 where no time was set. Both must be set for it to be in force.
    #[must_use]
    #[inline]
    pub fn coalescing(&self) -> (u16, u8) {
        let [threshold, time, ..] = self.coalescing.load(Ordering::Relaxed).to_le_bytes();
        (u16::from(threshold) + 1, time)
    }

    /// Whether coalescing is off for a vector whatever [`coalescing`](Self::coalescing) says.
    #[must_use]
    pub fn is_uncoalesced(&self, vector: u16) -> bool {
        self.values().uncoalesced.contains(&vector)
    }

    /// Arbitration: burst and weights, as the feature's dword has them.
    #[must_use]
    #[inline]
    pub fn arbitration(&self) -> u32 {
        self.arbitration.load(Ordering::Relaxed)
    }

    /// How many commands of a queue may start before the next queue's turn; none for no limit.
    #[must_use]
    #[inline]
    pub fn burst(&self) -> Option<u32> {
        let exponent = self.arbitration() & 7;
        (exponent < 7).then(|| 1 << exponent)
    }

    /// The queues that were granted, submission and completion; all that there are where none were asked for.
    #[must_use]
    pub fn queues(&self, most: u16) -> (u16, u16) {
        self.values().queues.unwrap_or((most, most))
    }

    pub(crate) fn tells_namespace_changes(&self) -> bool {
        self.events.load(Ordering::Relaxed) & engine_nvme_spec::feature::EVENT_NAMESPACE_ATTRIBUTE != 0
    }

    /// Of these critical warnings, those that the host wants to hear of.
    pub(crate) fn warnings_told(&self, warnings: u8) -> u8 {
        let [wanted, ..] = self.events.load(Ordering::Relaxed).to_le_bytes();
        warnings & wanted
    }

    /// Looks at a temperature in Kelvin; whether it is beyond a threshold since this look, and the host wants to know.
    pub(crate) fn look_at_temperature(&self, kelvin: u16) -> bool {
        let mut values = self.values();
        let before = std::mem::replace(&mut values.beyond, false);
        values.beyond = values.is_beyond(kelvin);
        let news = values.beyond && !before;
        drop(values);
        news && self.warnings_told(warning::TEMPERATURE) != 0
    }

    pub(crate) fn reset(&self) {
        self.change(|values| {
            // The clock goes on (Base, section 5.1.25.1.8).
            *values = Values { timestamp: values.timestamp, beyond: values.beyond, ..Values::default() };
        });
    }

    pub(crate) fn values(&self) -> MutexGuard<'_, Values> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes values, and what follows from them.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Values) -> T) -> T {
        let mut values = self.values();
        let answer = change(&mut values);
        self.write_cache.store(values.write_cache, Ordering::Relaxed);
        let [acre, ..] = values.behavior;
        self.retry_delays.store(acre != 0, Ordering::Relaxed);
        self.coalescing.store(values.coalescing, Ordering::Relaxed);
        self.arbitration.store(values.arbitration, Ordering::Relaxed);
        self.events.store(values.events, Ordering::Relaxed);
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamp_goes_on_from_what_was_set() {
        let set = Timestamp::from_host([0x10, 0x32, 0x54, 0x76, 0x01, 0x00, 0xff, 0xff]);
        let [a, b, c, d, e, f, origin, reserved] = set.to_host();
        let now = u64::from_le_bytes([a, b, c, d, e, f, 0, 0]);
        assert!((0x1_7654_3210..0x1_7654_3210 + 60_000).contains(&now), "{now:#x}");
        assert_eq!((origin, reserved), (0b0010, 0));
        assert_eq!(Timestamp::new().to_host()[6], 0);
    }

    #[test]
    fn what_commands_depend_on_follows_the_values_and_a_reset() {
        let features = Features::default();
        assert!(features.write_cache() && !features.retry_delays());
        assert_eq!((features.burst(), features.coalescing()), (None, (1, 0)));
        features.change(|values| {
            values.arbitration = 3;
            values.write_cache = false;
            values.behavior = [1, 0, 0];
            values.coalescing = 0x0507;
        });
        assert!(!features.write_cache() && features.retry_delays());
        assert_eq!((features.burst(), features.coalescing()), (Some(8), (8, 5)));
        features.reset();
        assert!(features.write_cache() && !features.retry_delays());
    }

    #[test]
    fn temperature_is_news_once_until_it_is_right_again() {
        let features = Features::default();
        features.change(|values| values.over = 330);
        let news: Vec<bool> = [298, 330, 340, 329, 331]
            .into_iter()
            .map(|kelvin| features.look_at_temperature(kelvin))
            .collect();
        assert_eq!(news, [false, true, false, false, true]);
        features.change(|values| values.events = 0);
        features.look_at_temperature(298);
        assert!(!features.look_at_temperature(400), "not wanted");
    }
}
