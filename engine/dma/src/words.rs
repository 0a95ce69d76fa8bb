//! A stretch of a region that is looked at so often that its bounds are checked only once.

use std::fmt;
use std::ops::Deref;
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::Region;

/// 64-bit words of a region, for a queue that is touched for every command. Holds the region.
pub struct Words {
    first: NonNull<AtomicU64>,
    count: usize,
    region: Arc<Region>,
}

// SAFETY: It is nothing but a reference to atomics in a mapping that it keeps.
unsafe impl Send for Words {}
// SAFETY: As above.
unsafe impl Sync for Words {}

impl Words {
    /// The `count` words of `region` from byte `offset` on; none where [`Region::u64s_at`] answers none.
    #[must_use]
    pub fn new(region: Arc<Region>, offset: usize, count: usize) -> Option<Self> {
        let first = NonNull::from(region.u64s_at(offset, count)?).cast();
        Some(Self { first, count, region })
    }

    /// The region.
    #[must_use]
    pub fn region(&self) -> &Arc<Region> {
        &self.region
    }
}

impl Deref for Words {
    type Target = [AtomicU64];

    #[inline]
    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: The pointer and the count are those of a slice that the region gave, and the mapping behind it stays
        // where it is for as long as the region lives, which this holds.
        unsafe { slice::from_raw_parts(self.first.as_ptr(), self.count) }
    }
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Words")
            .field("first", &self.first)
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn words_are_those_of_the_region_and_outlive_other_handles() {
        let region = Region::private(4096).unwrap();
        let words = Words::new(Arc::clone(&region), 64, 8).unwrap();
        words[1].store(0x1122, Ordering::Relaxed);
        assert_eq!(region.u64s_at(72, 1).unwrap()[0].load(Ordering::Relaxed), 0x1122);
        drop(region);
        assert_eq!((words.len(), words[1].load(Ordering::Relaxed)), (8, 0x1122));
    }

    #[test]
    fn words_out_of_reach_or_unaligned_are_none() {
        let region = Region::private(4096).unwrap();
        assert!(Words::new(Arc::clone(&region), 4090, 1).is_none());
        assert!(Words::new(Arc::clone(&region), 4, 1).is_none());
        assert!(Words::new(region, 4088, 2).is_none());
    }
}
