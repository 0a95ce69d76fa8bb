//! The extent tree: `struct ext4_extent_header`, `ext4_extent` and `ext4_extent_idx` in
//! `fs/ext4/ext4_extents.h`.
//!
//! A node is verified when it is loaded: its header, the order of its entries, its checksum. What binds it to its
//! parent — that it begins with the block the parent says — is checked on each step, and is also what bounds a
//! walk: entries of one level rise, so no node can be visited twice, however a tree refers to itself.

use std::sync::Arc;

use extents_core::{CacheKey, Error, FileBlock, FsBlock, Result, to_usize};
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::geometry::Geometry;
use crate::inode::Inode;
use crate::layout::{view, views};
use crate::volume::{Ext4, Kind};

const MAGIC: u16 = 0xF30A;
/// `EXT4_MAX_EXTENT_DEPTH`: five levels of 4-byte blocks cover every file.
const DEPTH_MAX: u16 = 5;
/// `EXT_INIT_MAX_LEN`: longer lengths stand for unwritten extents of so much less.
const WRITTEN_MAX: u16 = 32768;

#[derive(Debug, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Header {
    magic: U16,
    entries: U16,
    max: U16,
    depth: U16,
    generation: U32,
}

/// An entry of a leaf.
#[derive(Debug, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct Leaf {
    block: U32,
    length: U16,
    start_hi: U16,
    start_lo: U32,
}

/// An entry of a node above the leaves.
#[derive(Debug, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Index {
    block: U32,
    child_lo: U32,
    child_hi: U16,
    unused: U16,
}

const ENTRY: usize = 12;
const _: () = assert!(size_of::<Header>() == ENTRY && size_of::<Leaf>() == ENTRY);
const _: () = assert!(size_of::<Index>() == ENTRY);

/// A run of blocks, as a block map or an extent tree gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockRun {
    pub(crate) logical: FileBlock,
    pub(crate) physical: FsBlock,
    pub(crate) blocks: u64,
    pub(crate) unwritten: bool,
}

impl Leaf {
    /// The run of this entry. A length above 32768 means unwritten, and exactly 32768 a full written extent.
    pub(crate) fn run(&self) -> BlockRun {
        let length = self.length.get();
        let (blocks, unwritten) = match length.checked_sub(WRITTEN_MAX) {
            None | Some(0) => (length, false),
            Some(blocks) => (blocks, true),
        };
        BlockRun {
            logical: FileBlock(u64::from(self.block.get())),
            physical: FsBlock(u64::from(self.start_lo.get()) | (u64::from(self.start_hi.get()) << 32)),
            blocks: u64::from(blocks),
            unwritten,
        }
    }
}

impl Index {
    fn child(&self) -> FsBlock {
        FsBlock(u64::from(self.child_lo.get()) | (u64::from(self.child_hi.get()) << 32))
    }
}

/// A node whose own contents were found to be in order.
struct Node<'a> {
    depth: u16,
    bytes: &'a [u8],
    entries: usize,
}

impl<'a> Node<'a> {
    /// Takes a node that was verified before, or the root once it is verified.
    fn of(bytes: &'a [u8]) -> Result<Self> {
        let header: &Header = view(bytes, 0).ok_or_else(|| bad("it is cut short"))?;
        Ok(Self { depth: header.depth.get(), bytes, entries: usize::from(header.entries.get()) })
    }

    fn leaves(&self) -> &'a [Leaf] {
        views(self.bytes, ENTRY, self.entries).unwrap_or_default()
    }

    fn indexes(&self) -> &'a [Index] {
        views(self.bytes, ENTRY, self.entries).unwrap_or_default()
    }

    /// Checks header and entries as `__ext4_ext_check` does. `room` is how many entries fit.
    fn verify(bytes: &'a [u8], room: usize) -> Result<Self> {
        let header: &Header = view(bytes, 0).ok_or_else(|| bad("it is cut short"))?;
        if header.magic.get() != MAGIC {
            return Err(bad("its magic number is wrong"));
        }
        let node = Self::of(bytes)?;
        let max = usize::from(header.max.get());
        if node.depth > DEPTH_MAX {
            return Err(bad("it is deeper than five levels"));
        }
        if max == 0 || max > room || node.entries > max {
            return Err(bad("it claims more entries than it has room for"));
        }
        if node.entries == 0 && node.depth > 0 {
            return Err(bad("it has no entries though it is no leaf"));
        }
        let mut end = 0_u64;
        if node.depth == 0 {
            for leaf in node.leaves() {
                let run = leaf.run();
                let after = run.logical.0 + run.blocks;
                // The last block a file can have is 2^32 - 2 (`EXT_MAX_BLOCKS`).
                if run.blocks == 0 || after > u64::from(u32::MAX) {
                    return Err(bad("an extent has an impossible length"));
                }
                if run.logical.0 < end {
                    return Err(bad("extents overlap"));
                }
                end = after;
            }
        } else {
            for index in node.indexes() {
                if u64::from(index.block.get()) < end {
                    return Err(bad("index entries do not rise"));
                }
                end = u64::from(index.block.get()) + 1;
            }
        }
        Ok(node)
    }

    /// The first block of the file that this node speaks of.
    fn first(&self) -> Option<u64> {
        let block = if self.depth == 0 {
            self.leaves().first().map(|leaf| leaf.block)
        } else {
            self.indexes().first().map(|index| index.block)
        };
        block.map(|block| u64::from(block.get()))
    }
}

#[cold]
fn bad(problem: &'static str) -> Error {
    Error::corrupt("extent node", problem)
}

impl Ext4 {
    /// Gives the runs of a file in the order of the file.
    pub(crate) fn walk_extents(
        &self,
        inode: &Inode,
        visit: &mut dyn FnMut(BlockRun) -> Result<()>,
    ) -> Result<()> {
        let root = root(inode).map_err(|error| error.in_inode(inode.ino).at(inode.at))?;
        self.walk_node(inode, &root, visit)
    }

    /// Depth is verified to fall by one from each node to its children, so this recurses five times at most.
    fn walk_node(
        &self,
        inode: &Inode,
        node: &Node<'_>,
        visit: &mut dyn FnMut(BlockRun) -> Result<()>,
    ) -> Result<()> {
        if node.depth == 0 {
            return node.leaves().iter().try_for_each(|leaf| visit(leaf.run()));
        }
        for index in node.indexes() {
            let bytes = self.child(inode, index, node.depth - 1)?;
            self.walk_node(inode, &Node::of(&bytes)?, visit)?;
        }
        Ok(())
    }

    /// The run that holds a block of a file; `None` in a hole.
    pub(crate) fn find_extent(&self, inode: &Inode, block: FileBlock) -> Result<Option<BlockRun>> {
        let mut bytes;
        let mut node = root(inode).map_err(|error| error.in_inode(inode.ino).at(inode.at))?;
        while node.depth > 0 {
            let after = node.indexes().partition_point(|index| u64::from(index.block.get()) <= block.0);
            let Some(index) = after.checked_sub(1).and_then(|at| node.indexes().get(at)) else {
                return Ok(None);
            };
            bytes = self.child(inode, index, node.depth - 1)?;
            node = Node::of(&bytes)?;
        }
        let after = node.leaves().partition_point(|leaf| u64::from(leaf.block.get()) <= block.0);
        let leaf = after.checked_sub(1).and_then(|at| node.leaves().get(at));
        Ok(leaf.map(Leaf::run).filter(|run| block.0 - run.logical.0 < run.blocks))
    }

    /// The verified node that an index entry points to.
    fn child(&self, inode: &Inode, index: &Index, depth: u16) -> Result<Arc<[u8]>> {
        let block = index.child();
        let Some(at) = self.geometry.byte_of(block) else {
            return Err(bad("it points past the end of the volume").in_inode(inode.ino));
        };
        let key = CacheKey { offset: at, kind: Kind::ExtentNode.number(), owner: inode.ino.0 };
        let bytes = self.cache.get_or_load(key, || {
            let bytes = self.media.read_vec(at, self.geometry.block_len())?;
            verify_block(inode, &bytes, &self.geometry).map_err(|error| error.in_inode(inode.ino).at(at))?;
            Ok(bytes.into())
        })?;
        let node = Node::of(&bytes)?;
        if node.depth != depth {
            return Err(bad("its depth is not one less than its parent's").in_inode(inode.ino).at(at));
        }
        if node.first() != Some(u64::from(index.block.get())) {
            return Err(bad("it does not begin where its parent says").in_inode(inode.ino).at(at));
        }
        Ok(bytes)
    }
}

fn root(inode: &Inode) -> Result<Node<'_>> {
    let area = inode.block_area();
    Node::verify(area, (area.len() - area.len().min(ENTRY)) / ENTRY)
}

/// Checks a node that fills a block, its checksum first (`ext4_extent_block_csum`): it covers what lies before
/// it, up to the end of the room for entries.
fn verify_block(inode: &Inode, bytes: &[u8], geometry: &Geometry) -> Result<()> {
    let room = (bytes.len() - bytes.len().min(ENTRY)) / ENTRY;
    if geometry.checksums {
        let header: &Header = view(bytes, 0).ok_or_else(|| bad("it is cut short"))?;
        let tail = ENTRY + usize::from(header.max.get()) * ENTRY;
        let stored: Option<&U32> = view(bytes, tail);
        let (Some(stored), Some(covered)) = (stored, bytes.get(..tail)) else {
            return Err(bad("it claims more entries than it has room for"));
        };
        if inode.seed(geometry).over(covered).value() != stored.get() {
            return Err(bad("its checksum does not match"));
        }
    }
    Node::verify(bytes, room).map(drop)
}

/// Bytes of a run of blocks; `None` where the numbers do not fit.
pub(crate) fn bytes_of(blocks: u64, geometry: &Geometry) -> Option<u64> {
    blocks.checked_mul(u64::from(geometry.block_size))
}

/// The block of a file that holds byte `offset`.
pub(crate) fn block_of(offset: u64, geometry: &Geometry) -> FileBlock {
    FileBlock(offset >> geometry.block_bits)
}

/// How far byte `offset` lies within its block.
pub(crate) fn within_block(offset: u64, geometry: &Geometry) -> usize {
    to_usize(offset & (u64::from(geometry.block_size) - 1))
}
