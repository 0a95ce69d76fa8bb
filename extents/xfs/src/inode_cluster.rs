//! Neighbouring inodes, read and cached together.

use std::ops::Range;
use std::sync::Arc;

use extents_core::{Error, Ino, Result, to_usize};

use crate::inode_tree;
use crate::volume::{BlockKind, BlockRun, Volume};

/// Bytes of inodes read together, or one block where that is larger.
const CLUSTER_BYTES: u32 = 16 << 10;

/// The bytes of one inode within its cluster.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    cluster: Arc<[u8]>,
    place: Range<usize>,
}

impl Slot {
    pub(crate) fn bytes(&self) -> &[u8] {
        self.cluster.get(self.place.clone()).unwrap_or_default()
    }
}

impl Volume {
    /// The bytes of an inode; all zeros where the inode B-tree knows it as free.
    ///
    /// Numbers come from directories, but also from file handles that a client made up; and where a chunk of
    /// inodes was given back, a file's contents may look like inodes, checksum and all. So every cluster is held
    /// against the inode B-tree when it is read, and slots that are not allocated are wiped. The kernel does so
    /// for numbers from outside only; here it costs one search for each cluster, and all numbers are covered.
    ///
    /// While the log holds newer metadata the tree may be older than the inodes, so nothing is wiped then.
    pub(crate) fn inode_slot(&self, ino: Ino) -> Result<Slot> {
        let geometry = self.geometry();
        let place = geometry.inode_place(ino).ok_or(Error::NoSuchInode(ino))?;
        let window = (CLUSTER_BYTES >> geometry.block_log).max(1);
        let first = place.group_block & !(window - 1);
        let count = window.min(geometry.blocks_of_group(place.group) - first);
        let start = geometry.group_block(place.group, first).ok_or(Error::NoSuchInode(ino))?;
        let run = BlockRun { start, count: u64::from(count) };
        let cluster = self.read_prepared(run, BlockKind::Inodes, |bytes| {
            if self.is_recovered() { self.wipe_free_inodes(place.group, first, count, bytes) } else { Ok(()) }
        })?;
        let index =
            u64::from(place.group_block - first) << geometry.inodes_per_block_log | u64::from(place.index);
        let offset = to_usize(index << geometry.inode_log);
        Ok(Slot { cluster, place: offset..offset + to_usize(u64::from(geometry.inode_size)) })
    }

    /// Wipes every slot of the `count` blocks from block `first` of a group on that no chunk has in use.
    fn wipe_free_inodes(&self, group: u32, first: u32, count: u32, bytes: &mut [u8]) -> Result<()> {
        let geometry = self.geometry();
        let per_block = geometry.inodes_per_block_log;
        let (from, end) = (u64::from(first) << per_block, u64::from(first + count) << per_block);
        let mut wipe = |inodes: Range<u64>| {
            let byte = |inode: u64| to_usize((inode - from) << geometry.inode_log);
            if let Some(slots) = bytes.get_mut(byte(inodes.start)..byte(inodes.end)) {
                slots.fill(0);
            }
        };
        let mut done = from;
        while done < end {
            // A number that does not fit in 32 bits belongs to no inode.
            let chunk = match u32::try_from(done) {
                Ok(inode) => inode_tree::find(self, group, inode)?,
                Err(_) => None,
            };
            let inodes = chunk.map_or(end..end, |chunk| chunk.start().clamp(done, end)..chunk.end().min(end));
            wipe(done..inodes.start);
            for inode in inodes.clone() {
                if chunk.is_none_or(|chunk| !chunk.is_allocated(inode)) {
                    wipe(inode..inode + 1);
                }
            }
            done = inodes.end.max(inodes.start);
        }
        Ok(())
    }
}
