//! Finds inodes in the inode tables of the block groups.
//!
//! Tables are read in pieces larger than a block, since inodes that are used together lie together, and each
//! piece is cached with one byte behind it for each of its inodes that says whether the inode may be believed.
//! So one damaged inode costs its neighbours nothing, and a cached inode is not verified again.

use std::sync::Arc;

use extents_core::{CacheKey, Error, FileType, Ino, Result, to_u64, to_usize};

use crate::geometry::ROOT_INO;
use crate::inode::{Flags, Inode, count_in, is_blank, is_sound};
use crate::volume::{Ext4, Kind};

/// How much of a table is read at once, where a block is not larger.
const PIECE: u64 = 16 << 10;

const SOUND: u8 = 1;
const DAMAGED: u8 = 0;
const BLANK: u8 = 2;

impl Ext4 {
    /// An inode in use that names may lead to: what the kernel's `ext4_iget` accepts from a directory entry.
    pub(crate) fn inode(&self, ino: Ino) -> Result<Inode> {
        let geometry = &self.geometry;
        let hidden = (ino.0 < geometry.first_ino && ino != ROOT_INO)
            || geometry.hidden_inodes.iter().any(|&hidden| u64::from(hidden) == ino.0);
        if hidden {
            return Err(Error::NoSuchInode(ino));
        }
        let inode = self.any_inode(ino)?;
        if inode.raw()?.links.get() == 0 {
            return Err(Error::NoSuchInode(ino));
        }
        if inode.file_type().is_none() {
            return Err(inode.corrupt("its mode names no file type"));
        }
        if inode.has(Flags::EA_INODE) {
            return Err(inode.corrupt("it holds the value of an extended attribute and must have no name"));
        }
        if i64::try_from(inode.length).is_err() {
            return Err(inode.corrupt("its size is negative"));
        }
        if ino == ROOT_INO && inode.file_type() != Some(FileType::Directory) {
            return Err(inode.corrupt("the root is not a directory"));
        }
        Ok(inode)
    }

    /// Any inode that was ever written, the file system's own ones included.
    pub(crate) fn any_inode(&self, ino: Ino) -> Result<Inode> {
        let geometry = &self.geometry;
        let Some(index) = ino.0.checked_sub(1).filter(|index| *index < geometry.inodes) else {
            return Err(Error::NoSuchInode(ino));
        };
        let within = index % geometry.inodes_per_group;
        let group = self.groups.get(index / geometry.inodes_per_group, geometry, &self.media)?;
        // What recovery wrote may lie behind the count of a descriptor that it did not write.
        let recovered = !self.media.overlay.is_empty() || !self.fast_commits.is_empty();
        if within >= u64::from(group.written_inodes) && !recovered {
            return Err(Error::NoSuchInode(ino));
        }
        // The table lies within the volume, so none of this can exceed its size.
        let table = group.inode_table << geometry.block_bits;
        let table_end = table + geometry.inodes_per_group * u64::from(geometry.inode_size);
        let offset = within * u64::from(geometry.inode_size);
        let piece = offset - offset % PIECE.max(u64::from(geometry.block_size));
        let length = PIECE.max(u64::from(geometry.block_size)).min(table_end - table - piece);
        let first = Ino(ino.0 - (offset - piece) / u64::from(geometry.inode_size));
        let (bytes, start) = match self.table_piece(Kind::InodePiece, table + piece, length, first) {
            Ok(bytes) => (bytes, offset - piece),
            // Where the device fails within the piece, the inode's own block may still be readable.
            Err(Error::Read(_)) => {
                let block = offset - offset % u64::from(geometry.block_size);
                let length = u64::from(geometry.block_size).min(table_end - table - block);
                let first = Ino(ino.0 - (offset - block) / u64::from(geometry.inode_size));
                (self.table_piece(Kind::InodeBlock, table + block, length, first)?, offset - block)
            }
            Err(error) => return Err(error),
        };
        let states = bytes.len() - to_usize(count_of_states(bytes.len(), geometry.inode_size));
        let place = states + to_usize(start / u64::from(geometry.inode_size));
        match bytes.get(place) {
            Some(&SOUND) => Inode::new(ino, table + offset, bytes, to_usize(start), geometry),
            Some(&BLANK) => Err(Error::NoSuchInode(ino)),
            _ => Err(Error::corrupt("inode", "its checksum does not match").in_inode(ino).at(table + offset)),
        }
    }

    /// The bytes of an inode as they lie in the table, sound or not; `None` where the number is out of range.
    pub(crate) fn inode_bytes(&self, ino: Ino) -> Result<Option<Vec<u8>>> {
        let geometry = &self.geometry;
        let Some(index) = ino.0.checked_sub(1).filter(|index| *index < geometry.inodes) else {
            return Ok(None);
        };
        let group = self.groups.get(index / geometry.inodes_per_group, geometry, &self.media)?;
        let within = index % geometry.inodes_per_group * u64::from(geometry.inode_size);
        let at = (group.inode_table << geometry.block_bits) + within;
        self.media.read_vec(at, to_usize(u64::from(geometry.inode_size))).map(Some)
    }

    /// A piece of an inode table whose first inode is `first`, and behind it the state of each inode.
    fn table_piece(&self, kind: Kind, at: u64, length: u64, first: Ino) -> Result<Arc<[u8]>> {
        let key = CacheKey { offset: at, kind: kind.number(), owner: first.0 };
        self.cache.get_or_load(key, || {
            let geometry = &self.geometry;
            let length = to_usize(length);
            let count = to_usize(count_in(length, geometry));
            let mut bytes = vec![0; length + count];
            let (table, states) = bytes.split_at_mut(length);
            self.media.read(at, table)?;
            let inodes = table.chunks_exact_mut(to_usize(u64::from(geometry.inode_size)));
            for (place, (inode, state)) in inodes.zip(states).enumerate() {
                let ino = Ino(first.0 + to_u64(place));
                if let Some(changed) =
                    self.fast_commits.inode(ino).filter(|changed| changed.len() == inode.len())
                {
                    // Its checksum was not computed again, as it would be on the volume.
                    inode.copy_from_slice(changed);
                    *state = SOUND;
                    continue;
                }
                *state = if is_sound(ino, inode, geometry) {
                    SOUND
                } else if is_blank(inode) {
                    BLANK
                } else {
                    DAMAGED
                };
            }
            Ok(bytes.into())
        })
    }
}

/// How many state bytes stand behind a piece, from the length of both together: each inode takes its own size
/// and one byte more.
fn count_of_states(total: usize, inode_size: u32) -> u64 {
    to_u64(total) / (u64::from(inode_size) + 1)
}
