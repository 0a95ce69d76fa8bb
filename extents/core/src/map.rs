//! Where the bytes of a file lie.

mod builder;
mod cursor;

use bitflags::bitflags;
use smallvec::SmallVec;

pub use builder::ExtentMapBuilder;
pub use cursor::{MapCursor, Run};

use crate::to_u64;

bitflags! {
    /// What is special about an extent. No flag: written data that lies on the media as the file has it.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct ExtentFlags: u8 {
        /// Allocated, never written: reads as zeros, and the media's bytes are somebody else's old ones.
        const UNWRITTEN = 1 << 0;
        /// Kept within metadata, at no block boundary, perhaps in pieces.
        const INLINE = 1 << 1;
        /// Also part of another file (reflink): never to be written in place.
        const SHARED = 1 << 2;
        /// The media's bytes are not the file's: encrypted, or newer in a journal that was replayed in memory.
        const ENCODED = 1 << 3;
    }
}

/// A contiguous piece of a file, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// First byte within the file.
    pub logical: u64,
    /// First byte on the volume.
    pub physical: u64,
    /// Length in bytes; never 0, below 2^56.
    pub length: u64,
    /// What is special about it.
    pub flags: ExtentFlags,
}

impl Extent {
    /// The byte of the file after the last one of this extent.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.logical + self.length
    }

    /// Whether the media's bytes are the file's bytes.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        !self.flags.intersects(ExtentFlags::UNWRITTEN | ExtentFlags::INLINE | ExtentFlags::ENCODED)
    }
}

const LENGTH_BITS: u32 = 56;
const LENGTH_MAX: u64 = (1 << LENGTH_BITS) - 1;

/// Where a piece lies, how long it is, what it is: 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Placed {
    physical: u64,
    /// Length in the low 56 bits, flags in the upper 8.
    length_and_flags: u64,
}

impl Placed {
    fn new(physical: u64, length: u64, flags: ExtentFlags) -> Self {
        debug_assert!(length <= LENGTH_MAX);
        Self { physical, length_and_flags: (u64::from(flags.bits()) << LENGTH_BITS) | (length & LENGTH_MAX) }
    }

    fn length(self) -> u64 {
        self.length_and_flags & LENGTH_MAX
    }

    fn flags(self) -> ExtentFlags {
        let [.., top] = self.length_and_flags.to_le_bytes();
        ExtentFlags::from_bits_retain(top)
    }
}

/// The extents of a file, sorted by place in the file, without overlap; what lies between them is a hole.
///
/// Neighbours that continue each other in the file and on the volume, with the same flags, are one extent here
/// even where the format had to cut them. An extent takes 24 bytes, and the first two take no allocation. The
/// starts stand in an array of their own, so that a search touches a third of the memory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExtentMap {
    starts: SmallVec<[u64; 2]>,
    placed: SmallVec<[Placed; 2]>,
    size: u64,
    generation: u64,
}

impl ExtentMap {
    /// The file's size in bytes. Reads end here, whatever is allocated behind it.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The generation of the file that the map belongs to: the inode's in the low 32 bits; above them, where the file can
    /// change, how often it may have.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// How many extents there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether the whole file is a hole.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// The extent at place `index` of the map.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Extent> {
        let (&logical, &placed) = (self.starts.get(index)?, self.placed.get(index)?);
        Some(Extent { logical, physical: placed.physical, length: placed.length(), flags: placed.flags() })
    }

    /// All extents in the order of the file.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Extent> + '_ {
        self.starts.iter().zip(&self.placed).map(|(&logical, placed)| Extent {
            logical,
            physical: placed.physical,
            length: placed.length(),
            flags: placed.flags(),
        })
    }

    /// The place of the first extent that ends after byte `offset`: the one that holds it, or the next one.
    /// Equals [`len`](Self::len) where there is none.
    #[must_use]
    pub fn position(&self, offset: u64) -> usize {
        // The number of extents that start at or before the offset; only the last of them can hold it.
        let started = self.starts.partition_point(|&start| start <= offset);
        match started.checked_sub(1).and_then(|last| self.get(last)) {
            Some(extent) if offset < extent.end() => started - 1,
            _ => started,
        }
    }

    /// The extent that holds byte `offset` of the file.
    #[must_use]
    pub fn find(&self, offset: u64) -> Option<Extent> {
        let last = self.starts.partition_point(|&start| start <= offset).checked_sub(1)?;
        self.get(last).filter(|extent| offset < extent.end())
    }

    /// The runs that cover `length` bytes from byte `offset` on, holes among them, without a gap.
    pub fn runs(&self, offset: u64, length: u64) -> impl Iterator<Item = Run> + '_ {
        let mut cursor = MapCursor::at(self, self.position(offset));
        let end = offset.saturating_add(length);
        let mut at = offset;
        std::iter::from_fn(move || {
            let run = (at < end).then(|| cursor.run(at, end - at))?;
            at += run.length;
            Some(run)
        })
    }

    /// A cursor, which remembers its place so that reading on costs no search.
    #[must_use]
    pub fn cursor(&self) -> MapCursor<'_> {
        MapCursor::at(self, usize::MAX)
    }

    /// The first byte at or after `offset` that is not in a hole; `None` where only a hole follows before the
    /// end of the file. Unwritten extents count as holes, as `SEEK_DATA` has it.
    #[must_use]
    pub fn next_data(&self, offset: u64) -> Option<u64> {
        (self.position(offset)..self.len())
            .filter_map(|index| self.get(index))
            .find(|extent| !extent.flags.contains(ExtentFlags::UNWRITTEN))
            .map(|extent| extent.logical.max(offset))
            .filter(|&at| at < self.size)
    }

    /// The first byte at or after `offset` that is in a hole or unwritten; the end of the file where none is.
    #[must_use]
    pub fn next_hole(&self, offset: u64) -> u64 {
        let mut at = offset;
        for extent in (self.position(offset)..self.len()).filter_map(|index| self.get(index)) {
            if extent.logical > at || extent.flags.contains(ExtentFlags::UNWRITTEN) {
                break;
            }
            at = extent.end();
        }
        at.min(self.size)
    }

    /// Bytes of memory that this map holds.
    #[must_use]
    pub fn memory(&self) -> u64 {
        let heap = |spilled, capacity, each| if spilled { to_u64(capacity) * to_u64(each) } else { 0 };
        to_u64(size_of::<Self>())
            + heap(self.starts.spilled(), self.starts.capacity(), size_of::<u64>())
            + heap(self.placed.spilled(), self.placed.capacity(), size_of::<Placed>())
    }
}

#[cfg(test)]
mod tests;
