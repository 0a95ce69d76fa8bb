//! Which bus addresses a client has mapped.

use std::collections::BTreeMap;

use crate::Errno;

/// Ranges that do not overlap.
#[derive(Debug)]
pub(crate) struct Ranges {
    /// From first address to length, and whether the device was told.
    ranges: BTreeMap<u64, (u64, bool)>,
    most: usize,
}

impl Ranges {
    pub(crate) fn new(most: usize) -> Self {
        Self { ranges: BTreeMap::new(), most }
    }

    /// Whether a range could be added.
    pub(crate) fn check(&self, iova: u64, length: u64) -> Result<(), Errno> {
        let end = iova.checked_add(length).filter(|_| length > 0).ok_or(Errno::INVAL)?;
        let before = self.ranges.range(..end).next_back();
        if before.is_some_and(|(&start, &(length, _))| start + length > iova) {
            return Err(Errno::EXIST);
        }
        if self.ranges.len() >= self.most {
            return Err(Errno::NOSPC);
        }
        Ok(())
    }

    pub(crate) fn add(&mut self, iova: u64, length: u64, told: bool) {
        self.ranges.insert(iova, (length, told));
    }

    /// Removes a range, which must have been added just so; whether the device was told.
    pub(crate) fn remove(&mut self, iova: u64, length: u64) -> Result<bool, Errno> {
        match self.ranges.get(&iova) {
            Some(&(known, told)) if known == length => {
                self.ranges.remove(&iova);
                Ok(told)
            }
            _ => Err(Errno::NOENT),
        }
    }

    /// Removes all, those that the device was told of are answered.
    pub(crate) fn clear(&mut self) -> Vec<(u64, u64)> {
        let ranges = std::mem::take(&mut self.ranges);
        let told = ranges.into_iter().filter(|(_, (_, told))| *told);
        told.map(|(iova, (length, _))| (iova, length)).collect()
    }
}
