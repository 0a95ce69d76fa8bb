//! Which files were read from the media before.
//!
//! What is read once does not need the page cache's memory, and what is read again is worth it: the rule by which caches
//! keep out what only passes through (2Q's queue of what was seen once, Johnson and Shasha, VLDB 1994).

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// A power of two: half a megabyte for a writable mount.
const BITS: u32 = 16;

/// 2^64 divided by the golden ratio: spreads numbers that follow each other.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Inode numbers, each at a place of its own or another's, which is then forgotten: nothing but a file's next reads depends
/// on it.
pub(super) struct Seen(Box<[AtomicU64]>);

impl Default for Seen {
    fn default() -> Self {
        Self((0..1 << BITS).map(|_| AtomicU64::new(0)).collect())
    }
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seen").field("places", &self.0.len()).finish()
    }
}

impl Seen {
    fn place(&self, ino: u64) -> Option<&AtomicU64> {
        self.0.get(usize::try_from(ino.wrapping_mul(SPREAD) >> (u64::BITS - BITS)).ok()?)
    }

    /// Remembers a file.
    pub(super) fn note(&self, ino: u64) {
        if let Some(place) = self.place(ino) {
            place.store(ino, Ordering::Relaxed);
        }
    }

    /// Whether it is remembered.
    pub(super) fn has(&self, ino: u64) -> bool {
        self.place(ino).is_some_and(|place| place.load(Ordering::Relaxed) == ino)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_were_noted_are_known_and_others_are_not() {
        let seen = Seen::default();
        let known = |range: std::ops::Range<u64>| range.filter(|&ino| seen.has(ino)).count();
        assert_eq!(known(1..100_000), 0);
        (1..10_001).for_each(|ino| seen.note(ino));
        assert_eq!(known(10_001..100_000), 0, "places that are shared are not taken for each other");
        assert!(known(1..10_001) > 9_900, "neighbours have places of their own");
        (100_000..1_000_000).for_each(|ino| seen.note(ino));
        assert!(known(1..10_001) < 100, "what was long ago is forgotten");
    }
}
