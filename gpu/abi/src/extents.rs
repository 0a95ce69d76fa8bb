//! The extent map of a file, as the attribute `homi.extents` gives it: version 1.
//!
//! A [`Header`], then [`Header::entries`] times [`Entry`], sorted by `logical`, without overlap; what no entry
//! covers is a hole. All offsets and lengths are bytes.

use zerocopy::FromBytes;

layout! {
    /// What stands before the entries.
    Header = "homi_extents_header", 72 bytes {
        /// "homiext" and a zero byte.
        magic: u8[8],
        /// 1 for the layout described here. A reader must refuse others.
        version: u16,
        /// Size of this header in bytes; entries start there.
        header_length: u16,
        /// Distance from one entry to the next in bytes.
        entry_length: u16,
        /// 0.
        reserved: u16,
        /// HOMI_EXTENTS_*.
        flags: u32,
        /// Block size of the file system in bytes; extents that are not inline are multiples of it.
        block_size: u32,
        /// The generation of the file that the map belongs to.
        generation: u64,
        /// Size of the file in bytes; the last entry may reach past it.
        file_size: u64,
        /// Byte of the device where the volume starts (0 without a partition table). The device's byte of an
        /// extent is volume_start + physical.
        volume_start: u64,
        /// Entries that the whole map has.
        total: u64,
        /// Place of the first entry given here within the whole map.
        first: u64,
        /// Entries given here.
        entries: u64,
    }
}

layout! {
    /// A contiguous piece of the file.
    Entry = "homi_extent", 32 bytes {
        /// First byte within the file.
        logical: u64,
        /// First byte on the volume.
        physical: u64,
        /// Length in bytes, not 0.
        length: u64,
        /// HOMI_EXTENT_*; 0 is written data that lies on the media as the file has it.
        flags: u32,
        /// 0.
        reserved: u32,
    }
}

/// What stands in [`Header::magic`].
pub const MAGIC: [u8; 8] = *b"homiext\0";
/// What stands in [`Header::version`].
pub const VERSION: u16 = 1;
/// Size of a [`Header`] in bytes.
pub const HEADER_LENGTH: u16 = 72;
/// Size of an [`Entry`] in bytes.
pub const ENTRY_LENGTH: u16 = 32;

/// In [`Header::flags`]: entries follow that are not given here. The attribute `homi.extents@N` gives those from
/// place N on.
pub const MORE: u32 = 1 << 0;
/// In [`Header::flags`]: some entry of the whole map is not plain data (see the entries' flags).
pub const SPECIAL: u32 = 1 << 1;

/// In [`Entry::flags`]: allocated but never written; reads as zeros, and the media holds old bytes.
pub const UNWRITTEN: u32 = 1 << 0;
/// In [`Entry::flags`]: kept within metadata; read it through the file.
pub const INLINE: u32 = 1 << 1;
/// In [`Entry::flags`]: other files share these blocks; never write them.
pub const SHARED: u32 = 1 << 2;
/// In [`Entry::flags`]: the media's bytes are not the file's; read it through the file.
pub const ENCODED: u32 = 1 << 3;

/// Why bytes are no extent map of version 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeError {
    /// Shorter than a header, or than its header says.
    Truncated,
    /// Another magic.
    NotAMap,
    /// A version that this library does not know.
    Version(u16),
}

impl core::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Truncated => f.write_str("the extent map is cut short"),
            Self::NotAMap => f.write_str("this is no homi.extents map"),
            Self::Version(version) => {
                write!(f, "homi.extents version {version} is not known, only {VERSION}")
            }
        }
    }
}

impl core::error::Error for DecodeError {}

/// Takes a map apart: its header and its entries, read in place.
///
/// # Errors
/// Where the bytes are no map of version 1 or fewer than the header says.
pub fn decode(bytes: &[u8]) -> Result<(Header, impl Iterator<Item = Entry> + '_), DecodeError> {
    let (header, _) = Header::read_from_prefix(bytes).map_err(|_| DecodeError::Truncated)?;
    if header.magic != MAGIC {
        return Err(DecodeError::NotAMap);
    }
    if header.version.get() != VERSION {
        return Err(DecodeError::Version(header.version.get()));
    }
    let (start, step) = (usize::from(header.header_length.get()), usize::from(header.entry_length.get()));
    if start < size_of::<Header>() || step < size_of::<Entry>() {
        return Err(DecodeError::Truncated);
    }
    let entries = bytes.get(start..).ok_or(DecodeError::Truncated)?;
    let count = usize::try_from(header.entries.get()).map_err(|_| DecodeError::Truncated)?;
    if count.checked_mul(step).is_none_or(|needed| needed > entries.len()) {
        return Err(DecodeError::Truncated);
    }
    let entries = entries.chunks_exact(step).take(count);
    Ok((header, entries.filter_map(|entry| Entry::read_from_prefix(entry).ok().map(|(entry, _)| entry))))
}
