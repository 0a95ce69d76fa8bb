//! The B-tree over hashes of names that large directories and large attribute forks share (`xfs_da_btree`).
//!
//! Its blocks are named by the fork's block where they begin. Inner nodes hold, for each child, the largest hash
//! below it; what the leaves hold is the affair of the directory or of the attributes. Leaves are chained both
//! ways. Structures are those of `xfs_da_format.h`.

use std::sync::Arc;

use extents_core::{Error, FileBlock, Result};
use zerocopy::byteorder::big_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::checksum::SelfDescription;
use crate::fork::{Fork, read_fork_blocks};
use crate::inode::Inode;
use crate::volume::{BlockKind, Volume};

const STRUCTURE: &str = "hash tree node";
const NODE_V4: u16 = 0xfebe;
const NODE_V5: u16 = 0x3ebe;
/// Nodes above the leaves (`XFS_DA_NODE_MAXDEPTH`).
const LEVELS_MAX: u16 = 5;

/// What every block of the tree begins with (`xfs_da_blkinfo`).
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct BlockInfo {
    /// The next block of the same level; 0 where there is none.
    pub(crate) forw: U32,
    /// The block before; 0 where there is none.
    pub(crate) back: U32,
    pub(crate) magic: U16,
    pad: U16,
}
const _: () = assert!(size_of::<BlockInfo>() == 12);

/// Bytes that version 5 adds behind [`BlockInfo`] (`xfs_da3_blkinfo`).
const SELF_BYTES: usize = 44;

/// Where `xfs_da3_blkinfo` describes its block.
pub(crate) fn self_description(structure: &'static str) -> SelfDescription {
    SelfDescription { structure, crc: 12, blkno: 16, uuid: 32, owner: 48, owner_bytes: 8 }
}

/// Header of a node behind the block information (`xfs_da_node_hdr`); version 5 pads it to 8 bytes.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct NodeHeader {
    count: U16,
    level: U16,
}
const _: () = assert!(size_of::<NodeHeader>() == 4);

/// A child of a node (`xfs_da_node_entry`).
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct NodeEntry {
    /// The largest hash below.
    hashval: U32,
    /// The block of the fork where the child begins.
    before: U32,
}
const _: () = assert!(size_of::<NodeEntry>() == 8);

/// The block information at the front of a block, and what follows it.
pub(crate) fn split_info<'a>(
    volume: &Volume,
    block: &'a [u8],
    structure: &'static str,
) -> Result<(&'a BlockInfo, &'a [u8])> {
    let more = if volume.geometry().is_v5() { SELF_BYTES } else { 0 };
    BlockInfo::ref_from_prefix(block)
        .ok()
        .and_then(|(info, rest)| Some((info, rest.get(more..)?)))
        .ok_or_else(|| Error::corrupt(structure, "too short"))
}

struct Node<'a> {
    level: u16,
    entries: &'a [NodeEntry],
}

impl<'a> Node<'a> {
    /// The node in a block; `None` where the block is no node.
    fn parse(volume: &Volume, block: &'a [u8]) -> Result<Option<Self>> {
        let bad = |problem: &'static str| Error::corrupt(STRUCTURE, problem);
        let v5 = volume.geometry().is_v5();
        let (info, rest) = split_info(volume, block, STRUCTURE)?;
        if info.magic.get() != if v5 { NODE_V5 } else { NODE_V4 } {
            return Ok(None);
        }
        let (header, rest) = NodeHeader::ref_from_prefix(rest).map_err(|_| bad("too short"))?;
        let entries = rest.get(if v5 { 4 } else { 0 }..).ok_or_else(|| bad("too short"))?;
        let count = usize::from(header.count.get());
        let (entries, _) = <[NodeEntry]>::ref_from_prefix_with_elems(entries, count)
            .map_err(|_| bad("more children than fit"))?;
        Ok(Some(Self { level: header.level.get(), entries }))
    }

    fn check(&self) -> Result<()> {
        let bad = |problem: &'static str| Err(Error::corrupt(STRUCTURE, problem));
        if self.entries.is_empty() {
            return bad("no children");
        }
        if self.level == 0 || self.level > LEVELS_MAX {
            return bad("impossible level");
        }
        if !self.entries.is_sorted_by_key(|entry| entry.hashval.get()) {
            return bad("hashes are not in order");
        }
        Ok(())
    }

    /// The first child that can hold `hash`; the last one where all hashes are smaller.
    fn child(&self, hash: u32) -> Option<FileBlock> {
        let place = self.entries.partition_point(|entry| entry.hashval.get() < hash);
        let entry = self.entries.get(place).or(self.entries.last())?;
        Some(FileBlock(u64::from(entry.before.get())))
    }
}

/// The tree of one fork.
#[derive(Clone, Copy)]
pub(crate) struct HashTree<'a> {
    pub(crate) volume: &'a Volume,
    pub(crate) inode: &'a Inode,
    pub(crate) fork: Fork<'a>,
    /// Where the root is.
    pub(crate) root: FileBlock,
    /// File-system blocks in a block of the tree.
    pub(crate) blocks: u64,
    /// What the blocks of this tree are cached as, nodes and leaves alike: which one a block is shows only when
    /// it was read.
    pub(crate) kind: BlockKind,
    /// Checks a leaf.
    pub(crate) verify_leaf: fn(&Volume, &Inode, &[u8], u64) -> Result<()>,
}

/// A leaf, and the block of the fork where it begins.
#[derive(Debug, Clone)]
pub(crate) struct TreeLeaf {
    pub(crate) at: FileBlock,
    pub(crate) block: Arc<[u8]>,
}

impl HashTree<'_> {
    /// The first leaf that can hold `hash`; `None` where the root's place is a hole.
    pub(crate) fn find_leaf(&self, hash: u32) -> Result<Option<TreeLeaf>> {
        let Some(mut block) = self.read(self.root)? else { return Ok(None) };
        let mut at = self.root;
        // Every step goes down by a level, so this ends.
        let mut level = None;
        loop {
            let Some(node) = Node::parse(self.volume, &block)? else {
                return match level {
                    None | Some(0) => Ok(Some(TreeLeaf { at, block })),
                    Some(_) => Err(self.bad("a leaf where a node belongs")),
                };
            };
            if level.is_some_and(|level| level != node.level) {
                return Err(self.bad("wrong level"));
            }
            level = Some(node.level.saturating_sub(1));
            at = node.child(hash).ok_or_else(|| self.bad("no children"))?;
            block = self.read(at)?.ok_or_else(|| self.bad("points into a hole"))?;
            if level == Some(0) && Node::parse(self.volume, &block)?.is_some() {
                return Err(self.bad("a node where a leaf belongs"));
            }
        }
    }

    /// The leaf after `leaf`. `first` is where the walk along the leaves began.
    ///
    /// Each leaf must name the one before it, so two leaves cannot lead to the same one, and a walk that does
    /// not come back to where it began does not go in circles.
    pub(crate) fn next_leaf(&self, leaf: &TreeLeaf, first: FileBlock) -> Result<Option<TreeLeaf>> {
        let (info, _) = split_info(self.volume, &leaf.block, STRUCTURE)?;
        let at = FileBlock(u64::from(info.forw.get()));
        if at.0 == 0 {
            return Ok(None);
        }
        let block = self.read(at)?.ok_or_else(|| self.bad("a leaf's successor lies in a hole"))?;
        let (info, _) = split_info(self.volume, &block, STRUCTURE)?;
        if at == first || u64::from(info.back.get()) != leaf.at.0 {
            return Err(self.bad("the chain of leaves is broken"));
        }
        if Node::parse(self.volume, &block)?.is_some() {
            return Err(self.bad("a node where a leaf belongs"));
        }
        Ok(Some(TreeLeaf { at, block }))
    }

    fn read(&self, at: FileBlock) -> Result<Option<Arc<[u8]>>> {
        read_fork_blocks(self.volume, self.inode, self.fork, at, self.blocks, self.kind, |block, offset| {
            self.verify(block, offset).map_err(|error| error.at(offset))
        })
    }

    fn verify(&self, block: &[u8], offset: u64) -> Result<()> {
        match Node::parse(self.volume, block)? {
            Some(node) => {
                let description = self_description(STRUCTURE);
                self.volume.check_self(&description, block, offset, self.inode.ino.0)?;
                node.check()
            }
            None => (self.verify_leaf)(self.volume, self.inode, block, offset),
        }
    }

    #[cold]
    fn bad(&self, problem: &'static str) -> Error {
        Error::corrupt(STRUCTURE, problem).in_inode(self.inode.ino)
    }
}
