//! One block of a directory: a list of entries (`struct ext4_dir_entry_2` in `fs/ext4/ext4.h`) that fills it.
//!
//! Blocks of the index look like blocks with one unused entry, so that whoever does not know the index can still
//! read every name.

use extents_core::{Error, FileType, Result};
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::checksum::Crc;
use crate::dirhash::DirHash;
use crate::layout::view;

/// What stands before each name.
#[derive(Debug, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawEntry {
    ino: U32,
    length: U16,
    name_len: u8,
    file_type: u8,
}

const HEADER: usize = 8;
const _: () = assert!(size_of::<RawEntry>() == HEADER);

/// What ends a block with a checksum: an unused entry of 12 bytes with this type (`struct ext4_dir_entry_tail`).
const TAIL: usize = 12;
const TAIL_TYPE: u8 = 0xDE;

/// An entry in use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry<'a> {
    pub(crate) ino: u32,
    pub(crate) name: &'a [u8],
    pub(crate) file_type: u8,
    /// The byte after this entry within its block.
    pub(crate) end: usize,
    /// What lies between the name and the entry's end.
    slack: &'a [u8],
}

impl<'a> Entry<'a> {
    /// An entry for a directory that a volume does not store as one: `.` or `..` within an inode.
    pub(crate) fn made_up(name: &'a [u8], ino: u32) -> Self {
        Self::of_type(name, ino, Some(FileType::Directory))
    }

    /// An entry that lies in no block.
    pub(crate) fn of_type(name: &'a [u8], ino: u32, file_type: Option<FileType>) -> Self {
        let file_type = match file_type {
            None => 0,
            Some(FileType::Regular) => 1,
            Some(FileType::Directory) => 2,
            Some(FileType::CharDevice) => 3,
            Some(FileType::BlockDevice) => 4,
            Some(FileType::Fifo) => 5,
            Some(FileType::Socket) => 6,
            Some(FileType::Symlink) => 7,
        };
        Self { ino, name, file_type, end: 0, slack: &[] }
    }

    /// The hash that is stored behind the name, where names are both encrypted and casefolded
    /// (`EXT4_DIRENT_HASH`).
    pub(crate) fn stored_hash(&self) -> DirHash {
        let padding = self.name.len().next_multiple_of(4) - self.name.len();
        let word = |at| view::<U32>(self.slack, padding + at).map_or(0, |word| word.get());
        DirHash { major: word(0), minor: word(4) }
    }

    /// The type by the number in the entry.
    pub(crate) fn file_type(&self) -> Option<FileType> {
        Some(match self.file_type {
            1 => FileType::Regular,
            2 => FileType::Directory,
            3 => FileType::CharDevice,
            4 => FileType::BlockDevice,
            5 => FileType::Fifo,
            6 => FileType::Socket,
            7 => FileType::Symlink,
            _ => return None,
        })
    }
}

/// The entries of a list, those in use only. Stops where the list does not make sense, which [`verify`] has
/// ruled out for blocks from the cache.
#[derive(Debug, Clone)]
pub(crate) struct Entries<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Entries<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    #[inline]
    fn next(&mut self) -> Option<Entry<'a>> {
        loop {
            let rest = self.bytes.get(self.at..)?;
            let raw: &RawEntry = view(rest, 0)?;
            let length = entry_length(raw.length.get(), self.bytes.len());
            if length < HEADER {
                return None;
            }
            self.at += length;
            if raw.ino.get() == 0 {
                continue;
            }
            let name_end = HEADER + usize::from(raw.name_len);
            let name = rest.get(HEADER..name_end)?;
            let slack = rest.get(name_end..length)?;
            return Some(Entry { ino: raw.ino.get(), name, file_type: raw.file_type, end: self.at, slack });
        }
    }
}

/// The length of an entry. In blocks of 64 KiB lengths do not fit in 16 bits, and their two low bits, which are
/// never set otherwise, stand for higher ones (`ext4_rec_len_from_disk`).
pub(crate) fn entry_length(stored: u16, block: usize) -> usize {
    let stored = usize::from(stored);
    if block < 65536 {
        return stored;
    }
    match stored {
        0 | 0xFFFF => block,
        _ => (stored & 0xFFFC) | ((stored & 3) << 16),
    }
}

/// Checks that a list of entries fills its bytes exactly and that each is in order (`__ext4_check_dir_entry`).
/// `inodes` is how many inodes the volume has. Names that are `encrypted` may hold any bytes, for what would be
/// impossible in a name is not so in its cipher text.
pub(crate) fn verify(bytes: &[u8], inodes: u64, encrypted: bool) -> Result<()> {
    let bad = |problem: &'static str, at: usize| {
        Err(Error::corrupt("directory block", format!("{problem} in the entry at its byte {at}")))
    };
    let mut at = 0;
    while at < bytes.len() {
        let Some(raw) = view::<RawEntry>(bytes, at) else { return bad("no room is left", at) };
        let length = entry_length(raw.length.get(), bytes.len());
        let name_end = HEADER + usize::from(raw.name_len);
        if length < 12 || !length.is_multiple_of(4) || length < name_end {
            return bad("the length is impossible", at);
        }
        if length > bytes.len() - at {
            return bad("the length reaches past the block", at);
        }
        if raw.ino.get() != 0 {
            if u64::from(raw.ino.get()) > inodes {
                return bad("the inode number is out of range", at);
            }
            let name = bytes.get(at + HEADER..at + name_end).unwrap_or_default();
            if name.is_empty() || (!encrypted && name.iter().any(|&byte| byte == b'/' || byte == 0)) {
                return bad("the name is impossible", at);
            }
        }
        at += length;
    }
    Ok(())
}

/// Checks the checksum in the tail of a block of names (`ext4_dirblock_csum_verify`).
pub(crate) fn verify_checksum(bytes: &[u8], seed: Crc) -> Result<()> {
    let bad = |problem: &'static str| Error::corrupt("directory block", problem);
    let Some((covered, tail)) = bytes.len().checked_sub(TAIL).and_then(|at| bytes.split_at_checked(at))
    else {
        return Err(bad("it is cut short"));
    };
    let (Some(raw), Some(stored)) = (view::<RawEntry>(tail, 0), view::<U32>(tail, HEADER)) else {
        return Err(bad("it is cut short"));
    };
    if raw.ino.get() != 0
        || usize::from(raw.length.get()) != TAIL
        || raw.name_len != 0
        || raw.file_type != TAIL_TYPE
    {
        return Err(bad("it has no room for its checksum"));
    }
    if seed.over(covered).value() != stored.get() {
        return Err(bad("its checksum does not match"));
    }
    Ok(())
}

/// Whether a block that is not the first of an indexed directory belongs to the index: one unused entry fills
/// it.
pub(crate) fn fills_block(bytes: &[u8]) -> bool {
    view::<RawEntry>(bytes, 0)
        .is_some_and(|raw| raw.ino.get() == 0 && entry_length(raw.length.get(), bytes.len()) == bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_length_of_large_blocks_uses_the_low_bits() {
        assert_eq!(entry_length(12, 4096), 12);
        assert_eq!(entry_length(0, 65536), 65536);
        assert_eq!(entry_length(0xFFFF, 65536), 65536);
        assert_eq!(entry_length(65532, 65536), 65532);
        assert_eq!(entry_length(0, 4096), 0);
    }

    #[test]
    fn verify_entry_that_leads_to_itself_is_refused() {
        let mut block = [0_u8; 1024];
        block[0] = 12;
        block[6] = 1;
        block[8] = b'a';
        assert!(verify(&block, 100, false).is_err());
        assert_eq!(Entries::new(&block).count(), 0);
    }
}
