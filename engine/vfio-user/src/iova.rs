//! Which bus addresses the client gives to its memory.

use std::collections::BTreeMap;

/// What ranges are aligned to and counted in, in bytes: others' controllers translate by pages of this size.
pub(crate) const GRAIN: u64 = 2 << 20;
/// The first address given; zero is left to mean nothing.
const FIRST: u64 = GRAIN;
/// The end of what is given: controllers that keep addresses in 48 bits reach all of it.
const END: u64 = 1 << 47;

/// The ranges in use.
#[derive(Debug, Default)]
pub(crate) struct Iovas {
    /// From first address to length.
    used: BTreeMap<u64, u64>,
}

impl Iovas {
    /// Gives the lowest free range of `length` bytes, rounded up to whole grains; none where there is none.
    pub(crate) fn take(&mut self, length: u64) -> Option<u64> {
        let length = length.max(1).checked_next_multiple_of(GRAIN)?;
        let mut start = FIRST;
        for (&used, &taken) in &self.used {
            if used - start >= length {
                break;
            }
            start = used + taken;
        }
        (start.checked_add(length)? <= END).then(|| {
            self.used.insert(start, length);
            start
        })
    }

    /// Takes back the range that starts at `start`.
    pub(crate) fn give(&mut self, start: u64) {
        self.used.remove(&start);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_in_use_are_aligned_and_never_overlap(
            steps in prop::collection::vec((any::<bool>(), 1_u64..9 * GRAIN), 1..200),
        ) {
            let mut iovas = Iovas::default();
            let mut held: Vec<(u64, u64)> = Vec::new();
            for (take, amount) in steps {
                if take || held.is_empty() {
                    let start = iovas.take(amount).unwrap();
                    prop_assert!(start > 0 && start % GRAIN == 0);
                    for &(other, length) in &held {
                        prop_assert!(start + amount <= other || other + length <= start);
                    }
                    held.push((start, amount));
                } else {
                    let (start, _) = held.swap_remove(usize::try_from(amount).unwrap() % held.len());
                    iovas.give(start);
                }
            }
        }
    }

    #[test]
    fn length_beyond_all_addresses_is_refused() {
        let mut iovas = Iovas::default();
        assert_eq!(iovas.take(END), None);
        assert_eq!(iovas.take(u64::MAX), None);
        assert_eq!(iovas.take(END - FIRST), Some(FIRST));
        assert_eq!(iovas.take(1), None);
    }
}
