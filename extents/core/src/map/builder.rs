//! Builds maps, and refuses what no map may hold.

use smallvec::SmallVec;

use super::{Extent, ExtentFlags, ExtentMap, LENGTH_MAX, Placed};
use crate::{Error, Result};

/// Takes extents in the order of the file and makes a map of them.
#[derive(Debug)]
pub struct ExtentMapBuilder {
    map: ExtentMap,
    /// One past the last byte that any extent may occupy on the volume.
    volume_end: u64,
    /// One past the last byte of the file that was pushed.
    end: u64,
}

impl ExtentMapBuilder {
    /// A map for a file of `size` bytes and of this generation, on a volume of `volume_size` bytes.
    #[must_use]
    pub fn new(size: u64, generation: impl Into<u64>, volume_size: u64) -> Self {
        let generation = generation.into();
        let map = ExtentMap { starts: SmallVec::new(), placed: SmallVec::new(), size, generation };
        Self { map, volume_end: volume_size, end: 0 }
    }

    /// Adds an extent behind those added before.
    ///
    /// # Errors
    /// `Corrupt` where it overlaps or precedes the last one, is empty, or does not lie within the volume.
    pub fn push(&mut self, extent: Extent) -> Result<()> {
        let Extent { logical, physical, length, flags } = extent;
        if length == 0 || length > LENGTH_MAX {
            return Err(Error::corrupt("extent", format!("impossible length of {length} bytes")));
        }
        if logical < self.end {
            return Err(Error::corrupt(
                "extent",
                format!("byte {logical} of the file is mapped behind byte {}", self.end),
            ));
        }
        let Some(end) = logical.checked_add(length) else {
            return Err(Error::corrupt("extent", "reaches past the largest file"));
        };
        if physical.checked_add(length).is_none_or(|end| end > self.volume_end) {
            return Err(Error::corrupt(
                "extent",
                format!("{length} bytes at byte {physical} reach past the end of the volume"),
            ));
        }
        if !self.continues_last(&extent) {
            self.map.starts.push(logical);
            self.map.placed.push(Placed::new(physical, length, flags));
        }
        self.end = end;
        Ok(())
    }

    /// Lengthens the last extent by this one, where it goes on in the file and on the volume alike.
    fn continues_last(&mut self, extent: &Extent) -> bool {
        let Some(last) = self.map.placed.last_mut() else { return false };
        let longer = last.length() + extent.length;
        let continues = self.end == extent.logical
            && last.physical.checked_add(last.length()) == Some(extent.physical)
            && last.flags() == extent.flags
            && !extent.flags.contains(ExtentFlags::INLINE)
            && longer <= LENGTH_MAX;
        if continues {
            *last = Placed::new(last.physical, longer, extent.flags);
        }
        continues
    }

    /// How many extents the map has so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether nothing was added yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// The map, in no more memory than it needs.
    #[must_use]
    pub fn finish(mut self) -> ExtentMap {
        self.map.starts.shrink_to_fit();
        self.map.placed.shrink_to_fit();
        self.map
    }
}
