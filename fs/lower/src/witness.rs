//! A second opinion on where files lie: the volume itself, read by our own parser, beside what the kernel's driver says.
//!
//! `FIEMAP` decides. But a map that the volume contradicts means that one of the two is wrong about it, and then nobody
//! shall read the media by it: the dispute is counted and logged with both answers, and the file is read through the
//! kernel's driver.
//!
//! ext4 keeps its metadata in the page cache of its block device, so whoever reads the device through that cache sees
//! what ext4 sees: a map is checked when it is taken. XFS keeps its own, and writes it to its log first: what the media say
//! may be older, by as long as the driver's worker takes to come by (`xfssyncd_centisecs`). So its maps are looked at by a
//! thread, again after that time where they differ, and seldom enough that it costs at most a few hundredths of a core.

mod comparison;
mod queue;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use extents_core::{ExtentMap, FileSystem, Ino};

use crate::Lower;
use comparison::{Difference, difference};
use queue::{Claim, Queue};

/// Opens the volume as the media have it, anew, so that nothing is remembered; nothing where it cannot be read just now.
pub type Opener = Box<dyn Fn() -> Option<Arc<dyn FileSystem>> + Send + Sync>;

/// What was found, in files' maps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WitnessCounts {
    /// Maps that the volume confirms.
    pub confirmed: u64,
    /// Maps that the volume contradicts.
    pub disputed: u64,
    /// Maps that changed before they were looked at, or that could not be looked at.
    pub unchecked: u64,
}

#[derive(Debug, Default)]
struct Counters {
    confirmed: AtomicU64,
    disputed: AtomicU64,
    unchecked: AtomicU64,
}

/// Compares maps with the volume.
pub struct Witness {
    shared: Arc<Shared>,
    /// Maps are looked at later, since the media may be behind.
    later: bool,
}

struct Shared {
    open: Opener,
    counters: Counters,
    queue: Queue,
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Witness").field("counters", &self.shared.counters).finish_non_exhaustive()
    }
}

/// How often a map is compared again where a neighbour's change was caught halfway.
const TRIES: u32 = 3;
/// Claims wait this long for others, since one opening of the volume serves them all.
const GATHER: Duration = Duration::from_millis(500);
/// A claim that differs this often, with the driver's worker between, is disputed.
const LOOKS: u32 = 3;
/// Looking takes at most one part in this many of a core.
const SHARE: u32 = 50;

impl Lower {
    /// Has maps compared with the volume from now on, which `open` opens.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn compare_maps(self: &Arc<Self>, open: Opener) -> std::io::Result<()> {
        let shared = Arc::new(Shared { open, counters: Counters::default(), queue: Queue::default() });
        let later = self.format == "xfs";
        if later {
            let (shared, lower) = (Arc::clone(&shared), Arc::downgrade(self));
            let work = move || {
                while let Some(claims) = shared.queue.next() {
                    let Some(lower) = lower.upgrade() else { return };
                    let start = Instant::now();
                    shared.look_at(&lower, claims);
                    drop(lower);
                    thread::sleep(start.elapsed() * SHARE);
                }
            };
            thread::Builder::new().name("homifs-witness".into()).spawn(work)?;
        }
        // Said once, when the mount is made.
        let _ = self.witness.set(Witness { shared, later });
        Ok(())
    }

    /// What was found when maps were compared with the volume.
    #[must_use]
    pub fn witness_counts(&self) -> WitnessCounts {
        let Some(witness) = self.witness.get() else { return WitnessCounts::default() };
        let counters = &witness.shared.counters;
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WitnessCounts {
            confirmed: of(&counters.confirmed),
            disputed: of(&counters.disputed),
            unchecked: of(&counters.unchecked),
        }
    }
}

impl Witness {
    /// Whether the volume contradicts a map that was just taken, while nobody may change the file. Where that cannot be
    /// told now, it is looked at later.
    pub(crate) fn disputes(&self, lower: &Lower, ino: u64, map: &ExtentMap) -> bool {
        if self.later {
            let claim = Claim { ino, map: map.clone(), looks: 0 };
            if !self.shared.queue.add(claim, GATHER) {
                self.shared.unchecked();
            }
            return false;
        }
        match self.shared.compare(ino, map) {
            Verdict::Confirmed => {
                self.shared.counters.confirmed.fetch_add(1, Ordering::Relaxed);
                false
            }
            Verdict::Unknown => {
                self.shared.unchecked();
                false
            }
            Verdict::Disputed(difference) => {
                self.shared.dispute(lower, ino, &difference);
                true
            }
        }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.shared.queue.close();
    }
}

enum Verdict {
    Confirmed,
    Disputed(Difference),
    /// The volume could not be read.
    Unknown,
}

impl Shared {
    fn unchecked(&self) {
        self.counters.unchecked.fetch_add(1, Ordering::Relaxed);
    }

    fn dispute(&self, lower: &Lower, ino: u64, difference: &Difference) {
        self.counters.disputed.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(
            ino,
            device = %lower.device().display(),
            kernel = %difference.kernel,
            volume = %difference.volume,
            "the kernel's driver and the volume itself disagree on where a file lies; it is read through the kernel"
        );
    }

    fn compare(&self, ino: u64, map: &ExtentMap) -> Verdict {
        let mut last = Verdict::Unknown;
        for _ in 0..TRIES {
            let Some(volume) = (self.open)() else { continue };
            last = verdict(&*volume, ino, map);
            if matches!(last, Verdict::Confirmed) {
                break;
            }
        }
        last
    }

    /// Looks at maps of a volume whose media may be behind.
    fn look_at(&self, lower: &Lower, claims: Vec<Claim>) {
        let still = |claim: &Claim| lower.contents().changes_so_far(claim.ino) == changes_of(&claim.map);
        // What the driver has not told its log yet, its worker cannot bring to its place.
        for claim in claims.iter().filter(|claim| claim.looks == 0 && still(claim)) {
            let _ = lower.make_durable(claim.ino);
        }
        let volume = (self.open)();
        for claim in claims {
            let found = match &volume {
                Some(volume) if still(&claim) => verdict(&**volume, claim.ino, &claim.map),
                _ => Verdict::Unknown,
            };
            match found {
                Verdict::Confirmed => {
                    self.counters.confirmed.fetch_add(1, Ordering::Relaxed);
                }
                // Whoever changed it meanwhile made the difference.
                _ if !still(&claim) => self.unchecked(),
                Verdict::Disputed(difference) if claim.looks + 1 >= LOOKS => {
                    self.dispute(lower, claim.ino, &difference);
                    lower.contents().dispute(claim.ino);
                }
                Verdict::Disputed(_) | Verdict::Unknown => {
                    let again = Claim { looks: claim.looks + 1, ..claim };
                    if again.looks >= LOOKS || !self.queue.add(again, worker_period()) {
                        self.unchecked();
                    }
                }
            }
        }
    }
}

/// How long the driver's worker takes to bring all metadata to its place at most, and time for the media.
fn worker_period() -> Duration {
    let told = std::fs::read_to_string("/proc/sys/fs/xfs/xfssyncd_centisecs");
    let centiseconds = told.ok().and_then(|text| text.trim().parse::<u64>().ok()).unwrap_or(3000);
    Duration::from_millis(centiseconds.min(60 * 60 * 100) * 10) + Duration::from_secs(5)
}

fn changes_of(map: &ExtentMap) -> u32 {
    u32::try_from(map.generation() >> 32).unwrap_or(0)
}

fn verdict(volume: &dyn FileSystem, ino: u64, map: &ExtentMap) -> Verdict {
    match volume.extents(Ino(ino)) {
        Ok(ours) => difference(map, &ours).map_or(Verdict::Confirmed, Verdict::Disputed),
        // Read while it was being written, most likely.
        Err(error) => {
            tracing::debug!(ino, %error, "the volume cannot be read to compare a map with it");
            Verdict::Unknown
        }
    }
}
