//! How often files changed, also those that nobody has open.

use std::sync::atomic::{AtomicU32, Ordering};

use dashmap::DashMap;
use rustc_hash::FxBuildHasher;

/// Counts of files that are closed are kept up to this number.
const KEPT: usize = 1 << 20;

/// By inode number.
#[derive(Debug, Default)]
pub(super) struct Changes {
    closed: DashMap<u64, u32, FxBuildHasher>,
    /// What stands for every file that is not kept: above all counts that were dropped.
    base: AtomicU32,
}

impl Changes {
    /// The count of a file that is not open.
    pub(super) fn of(&self, ino: u64) -> u32 {
        self.closed.get(&ino).map_or_else(|| self.base.load(Ordering::Relaxed), |count| *count)
    }

    /// Remembers the count of a file that is being closed.
    pub(super) fn keep(&self, ino: u64, count: u32) {
        if count == self.base.load(Ordering::Relaxed) {
            return;
        }
        self.closed.insert(ino, count);
        if self.closed.len() > KEPT {
            // All files then seem to have changed, which costs those who hold maps a look.
            let highest = self.closed.iter().map(|entry| *entry).max().unwrap_or(0);
            self.base.fetch_max(highest.wrapping_add(1), Ordering::Relaxed);
            self.closed.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn count_of_a_file_never_returns_to_an_earlier_one() {
        let changes = Changes::default();
        assert_eq!(changes.of(7), 0);
        changes.keep(7, 3);
        assert_eq!(changes.of(7), 3);
        for ino in 0..=u64::try_from(KEPT).unwrap() {
            changes.keep(1000 + ino, 1);
        }
        assert_eq!((changes.of(7), changes.of(8)), (4, 4));
        assert!(changes.closed.len() <= KEPT);
    }
}
