//! What a device can reach: the table that an IOMMU would have.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::{Access, Region, to_u64, to_usize};

/// How long a waiting [`Unmapped::settle`] sleeps between looks.
const SETTLE_PAUSE: Duration = Duration::from_micros(50);

/// One range of bus addresses and the memory behind it.
///
/// How many hold it is counted on a line of its own: beside what is only read, it would take those lines from everybody
/// who translates.
#[derive(Debug)]
#[repr(align(128))]
pub struct Mapping {
    iova: u64,
    length: u64,
    region: Arc<Region>,
    offset: usize,
    access: Access,
    /// Of a view's own copy: what it is a copy of, which stays unsettled for as long as anybody holds the copy.
    pub(crate) of: Option<Arc<Mapping>>,
}

impl Mapping {
    /// All of a region, for those who have memory and no address space.
    #[must_use]
    pub fn whole(region: Arc<Region>) -> Arc<Self> {
        let (length, access) = (to_u64(region.length()), region.access());
        Arc::new(Self { iova: 0, length, region, offset: 0, access, of: None })
    }

    /// A copy for one worker. Whoever holds memory for each command counts on the copy, which no other worker does: one
    /// count for all would go from core to core with each command.
    pub(crate) fn copy_of(mapping: &Arc<Self>) -> Arc<Self> {
        let Self { iova, length, ref region, offset, access, .. } = **mapping;
        let (region, of) = (Arc::clone(region), Some(Arc::clone(mapping)));
        Arc::new(Self { iova, length, region, offset, access, of })
    }

    /// Whether both are the same range of bus addresses, mapped once, whichever views they were found by.
    #[must_use]
    pub fn is_same(self: &Arc<Self>, other: &Arc<Self>) -> bool {
        let origin = |mapping: &Arc<Self>| Arc::as_ptr(mapping.of.as_ref().unwrap_or(mapping));
        std::ptr::eq(origin(self), origin(other))
    }

    /// First bus address.
    #[must_use]
    pub fn iova(&self) -> u64 {
        self.iova
    }

    /// Length in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The memory behind it.
    #[must_use]
    pub fn region(&self) -> &Arc<Region> {
        &self.region
    }

    /// Where in the memory it starts.
    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    /// What the device may do there.
    #[must_use]
    pub fn access(&self) -> Access {
        self.access
    }

    pub(crate) fn end(&self) -> u64 {
        self.iova + self.length
    }
}

/// Why a range could not be mapped or unmapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// The range is empty, wraps around, or does not lie within the region.
    #[error("{length} bytes at bus address {iova:#x} are no range that can be mapped")]
    Range {
        /// First bus address.
        iova: u64,
        /// Bytes.
        length: u64,
    },
    /// Part of the range is mapped already.
    #[error("bus address {iova:#x} is mapped already")]
    Overlap {
        /// First address of the mapping that is in the way.
        iova: u64,
    },
    /// As many ranges are mapped as may be.
    #[error("{most} ranges are mapped, which is as many as may be")]
    Full {
        /// The bound.
        most: usize,
    },
    /// A range to be unmapped was not mapped, or cuts a mapping in two.
    #[error("{length} bytes at bus address {iova:#x} were not mapped as such")]
    NotMapped {
        /// First bus address.
        iova: u64,
        /// Bytes.
        length: u64,
    },
}

/// Memory that a command named and the device cannot reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("bus address {iova:#x} is not mapped for this")]
pub struct Unreachable {
    /// The first address that is not.
    pub iova: u64,
}

/// Sorted by address, never overlapping.
pub(crate) type Table = Vec<Arc<Mapping>>;

/// The ranges of bus addresses that a device may reach.
///
/// Those who translate hold a [`View`](crate::View) each, which costs one atomic load to keep up to date and needs no lock.
pub struct AddressSpace {
    table: Mutex<Arc<Table>>,
    pub(crate) generation: AtomicU64,
    most: usize,
}

impl AddressSpace {
    /// An empty one that takes at most `most` ranges.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { table: Mutex::default(), generation: AtomicU64::new(1), most }
    }

    /// Maps `length` bytes of `region` from `offset` on at bus address `iova`.
    ///
    /// # Errors
    /// Where the range is none, does not lie within the region, is mapped already, or allows more than the region.
    pub fn map(
        &self,
        iova: u64,
        length: u64,
        region: Arc<Region>,
        offset: usize,
        access: Access,
    ) -> Result<(), MapError> {
        let refused = MapError::Range { iova, length };
        let end = iova.checked_add(length).filter(|_| length > 0).ok_or(refused)?;
        region.place(offset, to_usize(length), access).map_err(|_| refused)?;
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if table.len() >= self.most {
            return Err(MapError::Full { most: self.most });
        }
        let place = table.partition_point(|mapping| mapping.end() <= iova);
        if let Some(next) = table.get(place).filter(|next| next.iova < end) {
            return Err(MapError::Overlap { iova: next.iova });
        }
        let mut changed = Table::clone(&table);
        changed.insert(place, Arc::new(Mapping { iova, length, region, offset, access, of: None }));
        self.publish(&mut table, changed);
        Ok(())
    }

    /// Takes away every mapping within a range, which must cut none in two. The device may still be using them until
    /// the answer is settled.
    ///
    /// # Errors
    /// Where nothing is mapped there, or a mapping lies there only in part.
    pub fn unmap(&self, iova: u64, length: u64) -> Result<Unmapped, MapError> {
        let refused = MapError::NotMapped { iova, length };
        let end = iova.checked_add(length).ok_or(refused)?;
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let first = table.partition_point(|mapping| mapping.end() <= iova);
        let last = table.partition_point(|mapping| mapping.iova < end);
        let gone = table.get(first..last).filter(|gone| !gone.is_empty()).ok_or(refused)?;
        if gone.iter().any(|mapping| mapping.iova < iova || mapping.end() > end) {
            return Err(refused);
        }
        let gone = gone.to_vec();
        let mut changed = Table::clone(&table);
        changed.drain(first..last);
        self.publish(&mut table, changed);
        Ok(Unmapped { gone })
    }

    /// Takes everything away.
    pub fn clear(&self) -> Unmapped {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = Table::clone(&table);
        self.publish(&mut table, Table::new());
        Unmapped { gone }
    }

    /// How many ranges are mapped.
    #[must_use]
    pub fn len(&self) -> usize {
        self.current().len()
    }

    /// Whether nothing is mapped.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn publish(&self, place: &mut Arc<Table>, table: Table) {
        *place = Arc::new(table);
        // Release: who sees the new number sees the new table.
        self.generation.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn current(&self) -> Arc<Table> {
        Arc::clone(&self.table.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for AddressSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddressSpace").field("ranges", &self.len()).field("most", &self.most).finish()
    }
}

/// Mappings that were taken away.
#[must_use = "the device may still write there until this is settled"]
#[derive(Debug)]
pub struct Unmapped {
    gone: Vec<Arc<Mapping>>,
}

impl Unmapped {
    /// How many bytes they were.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.gone.iter().map(|mapping| mapping.length).sum()
    }

    /// As [`settle`](Self::settle), for those who do something about it before they wait on.
    ///
    /// # Errors
    /// This again, where somebody still holds one of them.
    pub fn try_settle(self, limit: Duration) -> Result<(), Self> {
        if self.is_settled_within(limit) { Ok(()) } else { Err(self) }
    }

    /// Waits until no view and no command holds any of them, but not longer than `limit`; whether that came about.
    pub fn settle(self, limit: Duration) -> bool {
        self.is_settled_within(limit)
    }

    fn is_settled_within(&self, limit: Duration) -> bool {
        let start = Instant::now();
        loop {
            if self.gone.iter().all(|mapping| Arc::strong_count(mapping) == 1) {
                // Counting alone does not say that what the last holder wrote is seen.
                fence(Ordering::Acquire);
                return true;
            }
            if start.elapsed() >= limit {
                return false;
            }
            thread::sleep(SETTLE_PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PAGE;

    fn space_with(ranges: &[(u64, u64)]) -> AddressSpace {
        let space = AddressSpace::new(16);
        for &(iova, length) in ranges {
            let region = Region::private(to_usize(length)).unwrap();
            space.map(iova, length, region, 0, Access::ReadWrite).unwrap();
        }
        space
    }

    #[test]
    fn range_that_is_mapped_already_or_wraps_is_refused() {
        let space = space_with(&[(0x1000, 0x2000)]);
        let region = Region::private(PAGE).unwrap();
        let map = |iova, length| space.map(iova, length, Arc::clone(&region), 0, Access::ReadWrite);
        assert_eq!(map(0x2000, 0x1000), Err(MapError::Overlap { iova: 0x1000 }));
        assert_eq!(map(0, 0), Err(MapError::Range { iova: 0, length: 0 }));
        assert_eq!(map(u64::MAX - 5, 0x1000), Err(MapError::Range { iova: u64::MAX - 5, length: 0x1000 }));
        assert_eq!(map(0x8000, 0x2000), Err(MapError::Range { iova: 0x8000, length: 0x2000 }));
        assert_eq!(map(0x3000, 0x1000), Ok(()));
        assert_eq!(map(0, 0x1000), Ok(()));
        assert_eq!(space.len(), 3);
    }

    #[test]
    fn unmapping_part_of_a_mapping_is_refused_and_of_several_takes_all() {
        let space = space_with(&[(0x1000, 0x1000), (0x2000, 0x1000), (0x4000, 0x2000)]);
        assert!(space.unmap(0x4000, 0x1000).is_err());
        assert!(space.unmap(0x8000, 0x1000).is_err());
        let gone = space.unmap(0x1000, 0x2000).unwrap();
        assert_eq!(gone.bytes(), 0x2000);
        assert!(gone.settle(Duration::ZERO));
        assert_eq!(space.len(), 1);
    }
}
