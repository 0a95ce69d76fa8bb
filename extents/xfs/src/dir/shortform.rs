//! Directories small enough to lie within their inode (`xfs_dir2_sf_hdr`, `xfs_dir2_sf_entry`).
//!
//! `.` is not stored and `..` is a number in the header. Inode numbers take 8 bytes where any of them needs
//! them, else 4.

use extents_core::{Error, Ino, Result};

use crate::dir::data_block::{Entry, Layout, file_type};
use crate::geometry::Geometry;

const STRUCTURE: &str = "short directory";

/// A directory within an inode.
#[derive(Clone, Copy)]
pub(super) struct Shortform<'a> {
    geometry: &'a Geometry,
    layout: Layout,
    pub(super) parent: Ino,
    count: u8,
    wide: bool,
    entries: &'a [u8],
}

impl<'a> Shortform<'a> {
    pub(super) fn parse(geometry: &'a Geometry, fork: &'a [u8]) -> Result<Self> {
        let Some((&[count, wide], rest)) = fork.split_first_chunk::<2>() else {
            return Err(bad("too short"));
        };
        let wide = wide > 0;
        let (parent, entries) = split_ino(rest, wide)?;
        if geometry.inode_place(parent).is_none() {
            return Err(bad("its parent is an inode that cannot be"));
        }
        Ok(Self { geometry, layout: Layout::new(geometry), parent, count, wide, entries })
    }

    /// The entries, each with the offset that it would have in a block; that is its place in a listing.
    pub(super) fn entries(self) -> impl Iterator<Item = Result<(u16, Entry<'a>)>> {
        let mut rest = self.entries;
        let mut left = self.count;
        // The first entry of a block stands behind `.` and `..`.
        let mut free_from = self.layout.dot_dot() + self.layout.entry_size(2);
        std::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let next = self.split_entry(rest).and_then(|(offset, entry, behind)| {
                if offset < free_from {
                    return Err(bad("entries are not in order"));
                }
                let size = self.layout.entry_size(u8::try_from(entry.name.len()).unwrap_or(u8::MAX));
                free_from = offset.checked_add(size).ok_or_else(|| bad("an entry's place is too large"))?;
                rest = behind;
                Ok((offset, entry))
            });
            if next.is_err() {
                left = 0;
            }
            Some(next)
        })
    }

    fn split_entry(self, bytes: &'a [u8]) -> Result<(u16, Entry<'a>, &'a [u8])> {
        let cut_off = || bad("an entry is cut off");
        let (&[length, high, low], rest) = bytes.split_first_chunk::<3>().ok_or_else(cut_off)?;
        let (name, rest) = rest.split_at_checked(usize::from(length)).ok_or_else(cut_off)?;
        let (file_type, rest) = if self.layout.has_ftype {
            let (&number, rest) = rest.split_first().ok_or_else(cut_off)?;
            (file_type(number)?, rest)
        } else {
            (None, rest)
        };
        let (ino, rest) = split_ino(rest, self.wide)?;
        if name.is_empty() {
            return Err(bad("an entry without a name"));
        }
        if self.geometry.inode_place(ino).is_none() {
            return Err(bad("an entry names an inode that cannot be"));
        }
        Ok((u16::from_be_bytes([high, low]), Entry { name, ino, file_type }, rest))
    }
}

fn split_ino(bytes: &[u8], wide: bool) -> Result<(Ino, &[u8])> {
    let split = if wide {
        bytes.split_first_chunk::<8>().map(|(ino, rest)| (u64::from_be_bytes(*ino), rest))
    } else {
        bytes.split_first_chunk::<4>().map(|(ino, rest)| (u64::from(u32::from_be_bytes(*ino)), rest))
    };
    split.map(|(ino, rest)| (Ino(ino), rest)).ok_or_else(|| bad("an inode number is cut off"))
}

#[cold]
fn bad(problem: &'static str) -> Error {
    Error::corrupt(STRUCTURE, problem)
}
