//! What the commands of one queue, or on one backing, came to: for those who watch many of them at work.
//!
//! A [`Tally`] has one writer at a time, the processor whose queue or whose way to a backing it belongs to, so counting
//! is loads and stores and nothing that other processors wait for. Anyone may read it meanwhile.

use std::sync::atomic::{AtomicU64, Ordering};

use engine_nvme_spec::Status;

/// Latencies are counted in powers of two, from 2^7 ns to 2^31 ns (about 2 s) and above.
const FIRST_BUCKET: u32 = 7;
/// How many bounded buckets there are.
pub const BUCKETS: usize = 25;
/// Different errors that are told apart; what comes after these is counted as [`OTHER_STATUS`].
const ERRORS: usize = 15;
/// Where statuses stand that found no place of their own.
pub const OTHER_STATUS: u16 = u16::MAX;
/// By how many bits the status stands above the count.
const CODE_SHIFT: u32 = 48;

/// Counts of commands, with one writer, on lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Tally {
    bytes: AtomicU64,
    nanoseconds: AtomicU64,
    buckets: [AtomicU64; BUCKETS + 1],
    /// Status in the upper 16 bits, how many in the others. The last place is for all others.
    errors: [AtomicU64; ERRORS + 1],
}

/// What tallies hold, added up.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct TallySum {
    /// Bytes that successful commands moved.
    pub bytes: u64,
    /// Nanoseconds of all commands from fetch to completion, together.
    pub nanoseconds: u64,
    /// Commands by latency: place `n` holds those of at most `bucket_limit(n)` ns, the last one all others.
    pub buckets: [u64; BUCKETS + 1],
    /// Failed commands by status code and type (bits 0 to 10 of the status).
    pub errors: Vec<(u16, u64)>,
}

/// The most nanoseconds of a command in a bucket; none for the last one.
#[must_use]
pub fn bucket_limit(bucket: usize) -> Option<u64> {
    let shift = u32::try_from(bucket).ok().filter(|_| bucket < BUCKETS)?;
    Some(1 << (FIRST_BUCKET + shift))
}

/// The first bucket whose limit is not below the latency.
fn bucket_of(nanoseconds: u64) -> usize {
    let bits = u64::BITS - nanoseconds.saturating_sub(1).leading_zeros();
    usize::try_from(bits.saturating_sub(FIRST_BUCKET)).unwrap_or(BUCKETS).min(BUCKETS)
}

/// One writer: no read-modify-write is needed.
#[inline]
fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
}

impl Tally {
    /// Counts commands that took `nanoseconds` each and moved `bytes` together.
    #[inline]
    pub(crate) fn count(&self, commands: u64, bytes: u64, nanoseconds: u64) {
        add(&self.bytes, bytes);
        add(&self.nanoseconds, nanoseconds.saturating_mul(commands));
        if let Some(bucket) = self.buckets.get(bucket_of(nanoseconds)) {
            add(bucket, commands);
        }
    }

    /// Counts that a command, which [`count`](Self::count) is told of too, failed.
    pub(crate) fn fail(&self, status: Status) {
        let code = status.0 & Status::CODE;
        let (own, rest) = self.errors.split_at(ERRORS);
        for place in own {
            let value = place.load(Ordering::Relaxed);
            if value == 0 {
                place.store(u64::from(code) << CODE_SHIFT | 1, Ordering::Relaxed);
                return;
            }
            if value >> CODE_SHIFT == u64::from(code) {
                return add(place, 1);
            }
        }
        rest.iter().for_each(|place| add(place, 1));
    }

    /// What it holds now.
    #[must_use]
    pub fn sum(&self) -> TallySum {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut errors: Vec<(u16, u64)> = Vec::new();
        for (at, place) in self.errors.iter().enumerate() {
            let value = of(place);
            if value != 0 {
                let code = u16::try_from(value >> CODE_SHIFT).ok().filter(|_| at < ERRORS);
                errors.push((code.unwrap_or(OTHER_STATUS), value & ((1 << CODE_SHIFT) - 1)));
            }
        }
        TallySum {
            bytes: of(&self.bytes),
            nanoseconds: of(&self.nanoseconds),
            buckets: std::array::from_fn(|at| self.buckets.get(at).map_or(0, of)),
            errors,
        }
    }
}

impl TallySum {
    /// Commands, successful or not.
    #[must_use]
    pub fn commands(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Adds what others came to.
    pub fn add(&mut self, other: &Self) {
        self.bytes = self.bytes.wrapping_add(other.bytes);
        self.nanoseconds = self.nanoseconds.saturating_add(other.nanoseconds);
        for (ours, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *ours = ours.wrapping_add(*theirs);
        }
        for &(code, count) in &other.errors {
            match self.errors.iter_mut().find(|(known, _)| *known == code) {
                Some((_, sum)) => *sum = sum.wrapping_add(count),
                None => self.errors.push((code, count)),
            }
        }
        self.errors.sort_unstable();
    }
}

/// Commands of one batch that were over at once, by what they named.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    groups: Vec<Group>,
    /// Bytes that were moved before the group that is being counted.
    moved: u64,
}

/// Commands of one queue on one namespace, fetched in one batch, that were heard of together as over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Late {
    pub(crate) sq_id: u16,
    pub(crate) nsid: u32,
    pub(crate) fetched: u64,
    pub(crate) commands: u64,
    pub(crate) bytes: u64,
}

/// Commands on one namespace in a row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group {
    pub(crate) nsid: u32,
    pub(crate) commands: u64,
    pub(crate) bytes: u64,
}

impl Batch {
    /// One more command on `nsid`, after which `moved` bytes were moved in this batch.
    #[inline]
    pub(crate) fn note(&mut self, nsid: u32, moved: u64) {
        let bytes = moved.wrapping_sub(self.moved);
        self.moved = moved;
        match self.groups.last_mut() {
            Some(group) if group.nsid == nsid => {
                group.commands += 1;
                group.bytes += bytes;
            }
            _ => self.groups.push(Group { nsid, commands: 1, bytes }),
        }
    }

    /// How many were noted.
    pub(crate) fn commands(&self) -> u64 {
        self.groups.iter().map(|group| group.commands).sum()
    }

    /// What was noted.
    pub(crate) fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Forgets it all.
    pub(crate) fn clear(&mut self) {
        self.groups.clear();
        self.moved = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_at_a_limit_belongs_to_its_own_bucket() {
        for bucket in 0..BUCKETS {
            let limit = bucket_limit(bucket).unwrap();
            assert_eq!((bucket_of(limit), bucket_of(limit + 1)), (bucket, bucket + 1));
        }
        assert_eq!((bucket_of(0), bucket_of(u64::MAX), bucket_limit(BUCKETS)), (0, BUCKETS, None));
    }

    #[test]
    fn sums_of_tallies_are_what_was_counted_in_each() {
        let (one, two) = (Tally::default(), Tally::default());
        one.count(3, 4096, 100);
        one.fail(Status::LBA_OUT_OF_RANGE);
        two.count(1, 512, 1 << 40);
        two.fail(Status::LBA_OUT_OF_RANGE.final_());
        two.fail(Status::NAMESPACE_NOT_READY);
        let mut sum = one.sum();
        sum.add(&two.sum());
        assert_eq!((sum.commands(), sum.bytes, sum.nanoseconds), (4, 4608, 300 + (1 << 40)));
        assert_eq!((sum.buckets[0], sum.buckets[BUCKETS]), (3, 1));
        assert_eq!(sum.errors, [(0x80, 2), (0x82, 1)]);
    }

    #[test]
    fn more_kinds_of_errors_than_places_are_counted_together() {
        let tally = Tally::default();
        for code in 1..40 {
            tally.fail(Status(code));
            tally.fail(Status(code));
        }
        let sum = tally.sum();
        assert_eq!(sum.errors.len(), ERRORS + 1);
        assert_eq!(sum.errors.iter().map(|(_, count)| count).sum::<u64>(), 78);
        assert!(sum.errors.contains(&(OTHER_STATUS, 2 * (39 - 15))));
    }

    #[test]
    fn batch_groups_commands_in_a_row_on_one_namespace() {
        let mut batch = Batch::default();
        for (nsid, moved) in [(1, 512), (1, 1024), (2, 1024), (1, 1536)] {
            batch.note(nsid, moved);
        }
        let groups: Vec<_> =
            batch.groups().iter().map(|group| (group.nsid, group.commands, group.bytes)).collect();
        assert_eq!(groups, [(1, 2, 1024), (2, 1, 0), (1, 1, 512)]);
        assert_eq!(batch.commands(), 4);
        batch.clear();
        assert_eq!(batch.commands(), 0);
    }
}
