//! A part of a directory, as large as the kernel has room for.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use zerocopy::IntoBytes;

use crate::attributes::Entry;
use crate::wire::{Dirent, EntryOut};

/// Entries of a directory, in the order in which they were added.
#[derive(Debug)]
pub struct Listing {
    bytes: Vec<u8>,
    room: usize,
}

impl Listing {
    pub(crate) fn new(room: u32) -> Self {
        let room = usize::try_from(room).unwrap_or(0);
        Self { bytes: Vec::new(), room }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Adds a name without attributes. `mode` tells its type, `next` the place after it. False where it does not fit: it
    /// is to be the first of the next part.
    pub fn add(&mut self, ino: u64, next: u64, mode: u32, name: &OsStr) -> bool {
        self.push(None, ino, next, mode, name)
    }

    /// Adds a name with attributes, whose type and inode number it has. False as for [`add`](Self::add).
    pub fn add_entry(&mut self, entry: &Entry, next: u64, name: &OsStr) -> bool {
        let wire = entry.wire();
        self.push(Some(&wire), entry.attributes.ino, next, entry.attributes.mode, name)
    }

    fn push(&mut self, entry: Option<&EntryOut>, ino: u64, next: u64, mode: u32, name: &OsStr) -> bool {
        let head = entry.map_or(0, |_| size_of::<EntryOut>()) + size_of::<Dirent>();
        let length = (head + name.len()).next_multiple_of(8);
        let (start, Ok(name_length)) = (self.bytes.len(), u32::try_from(name.len())) else { return false };
        if length > self.room.saturating_sub(start) {
            return false;
        }
        if start == 0 {
            self.bytes.reserve_exact(self.room);
        }
        if let Some(entry) = entry {
            self.bytes.extend_from_slice(entry.as_bytes());
        }
        // Types are the upper bits of a mode (`DT_*`, include/linux/fs_types.h).
        let dirent = Dirent { ino, next, name_length, kind: (mode >> 12) & 0xf };
        self.bytes.extend_from_slice(dirent.as_bytes());
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.resize(start + length, 0);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn entries_are_aligned_and_what_does_not_fit_is_left() {
        let mut listing = Listing::new(24 + 8 + 24 + 8);
        assert!(listing.add(11, 1, 0o040_755, OsStr::new("a")));
        assert_eq!(listing.bytes().len(), 32);
        assert!(listing.add(12, 2, 0o100_644, OsStr::new("12345678")));
        assert_eq!(listing.bytes().len(), 64);
        assert!(!listing.add(13, 3, 0o100_644, OsStr::new("")));
        // struct fuse_dirent: ino, off, namelen, type.
        assert_eq!(listing.bytes()[..8], 11_u64.to_ne_bytes());
        assert_eq!(listing.bytes()[8..16], 1_u64.to_ne_bytes());
        assert_eq!(listing.bytes()[16..20], 1_u32.to_ne_bytes());
        assert_eq!(listing.bytes()[20..24], 4_u32.to_ne_bytes());
        assert_eq!(&listing.bytes()[24..32], b"a\0\0\0\0\0\0\0");
    }

    #[test]
    fn entries_with_attributes_have_the_room_they_need() {
        let mut listing = Listing::new(128 + 24 + 8);
        let entry = Entry::absent(Duration::ZERO);
        assert!(!listing.add_entry(&entry, 1, OsStr::new("ninebytes")));
        assert!(listing.add_entry(&entry, 1, OsStr::new("eight888")));
        assert_eq!(listing.bytes().len(), 160);
    }
}
