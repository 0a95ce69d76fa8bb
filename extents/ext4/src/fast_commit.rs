//! Fast commits: small changes that ext4 notes behind the journal's log between two transactions (kernel:
//! `fs/ext4/fast_commit.c`).
//!
//! The kernel replays them into inodes, extent trees and directory blocks. Here they stay a difference to what
//! the volume holds: inodes that take the place of those in the tables, ranges that take the place of what the
//! extent trees say, and names that come to directories or go.

mod names;
mod ranges;
mod replay;
mod tags;
#[cfg(test)]
mod tests;

use extents_core::{Ino, Result};
use rustc_hash::FxHashMap;

pub(crate) use names::NameChanges;
pub(crate) use ranges::{RangeChanges, Ruling};
pub(crate) use replay::Before;
pub(crate) use tags::{Source, scan};

/// What fast commits changed.
#[derive(Debug, Default)]
pub(crate) struct FastCommits {
    inodes: FxHashMap<Ino, Box<[u8]>>,
    ranges: FxHashMap<Ino, RangeChanges>,
    names: FxHashMap<Ino, NameChanges>,
}

impl FastCommits {
    /// Reads the fast commits behind a recovered log and applies them to what the volume was before them.
    /// Answers also how many changes there were.
    pub(crate) fn replay(source: &Source<'_>, before: &Before<'_>) -> Result<(Self, usize)> {
        let changes = scan(source)?;
        let count = changes.len();
        Ok((replay::apply(changes, before)?, count))
    }

    /// Whether nothing was changed.
    pub(crate) fn is_empty(&self) -> bool {
        self.inodes.is_empty() && self.ranges.is_empty() && self.names.is_empty()
    }

    /// The bytes of an inode that was changed, as many as inodes have on the volume. Its checksum may not match.
    pub(crate) fn inode(&self, ino: Ino) -> Option<&[u8]> {
        self.inodes.get(&ino).map(|bytes| &**bytes)
    }

    /// What takes the place of ranges of a file's blocks.
    pub(crate) fn ranges(&self, ino: Ino) -> Option<&RangeChanges> {
        self.ranges.get(&ino)
    }

    /// The names that came to a directory or went.
    pub(crate) fn names(&self, dir: Ino) -> Option<&NameChanges> {
        self.names.get(&dir)
    }
}
