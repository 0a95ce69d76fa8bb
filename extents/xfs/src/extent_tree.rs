//! The B-tree that holds a fork's extents when they no longer fit into the inode (`xfs_bmbt`).
//!
//! Its root lies in the fork (`xfs_bmdr_block`), every other block is a file-system block of its own. Levels
//! count down to 0 at the leaves, so no cycle can be walked; ranges of keys are handed down and records must lie
//! within them, so that no block can be visited twice with success.

use std::sync::Arc;

use extents_core::{Error, FileBlock, Flow, Ino, Result};
use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::checksum::SelfDescription;
use crate::fork::{ForkExtent, Order, PackedExtent, find_in_records};
use crate::volume::{BlockKind, BlockRun, Volume};

const STRUCTURE: &str = "extent B-tree block";
const MAGIC_V4: u32 = u32::from_be_bytes(*b"BMAP");
const MAGIC_V5: u32 = u32::from_be_bytes(*b"BMA3");
const NO_BLOCK: u64 = u64::MAX;
/// No volume needs as many: the kernel's own bound is 9 (`XFS_BTREE_MAXLEVELS`).
const LEVELS_MAX: u16 = 9;
const LEVELS: usize = 9;

const DESCRIPTION: SelfDescription =
    SelfDescription { structure: STRUCTURE, crc: 64, blkno: 24, uuid: 40, owner: 56, owner_bytes: 8 };

/// Header of a block (`xfs_btree_block`, long form); version 5 adds 48 bytes.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    bb_magic: U32,
    bb_level: U16,
    bb_numrecs: U16,
    bb_leftsib: U64,
    bb_rightsib: U64,
}
const _: () = assert!(size_of::<Header>() == 24);
const HEADER_V5: usize = 72;

/// Header of the root within the inode (`xfs_bmdr_block`).
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RootHeader {
    bb_level: U16,
    bb_numrecs: U16,
}
const _: () = assert!(size_of::<RootHeader>() == 4);

fn bad<T>(problem: &'static str) -> Result<T> {
    Err(Error::corrupt(STRUCTURE, problem))
}

/// The keys of a node and the blocks below them.
struct Node<'a> {
    level: u16,
    keys: &'a [U64],
    pointers: &'a [U64],
}

impl<'a> Node<'a> {
    /// Takes the keys from the front of `body` and the pointers from where they begin: behind as many keys as
    /// would fit.
    fn parse(level: u16, count: u16, body: &'a [u8]) -> Result<Self> {
        let most = body.len() / 16;
        let count = usize::from(count);
        if count == 0 || count > most {
            return bad("impossible number of keys");
        }
        let list = |from: usize| {
            let bytes = body.get(from * 8..)?;
            <[U64]>::ref_from_prefix_with_elems(bytes, count).ok().map(|(list, _)| list)
        };
        match (list(0), list(most)) {
            (Some(keys), Some(pointers)) => Ok(Self { level, keys, pointers }),
            _ => bad("keys or pointers reach past the end"),
        }
    }

    fn root(bytes: &'a [u8]) -> Result<Self> {
        let Ok((header, body)) = RootHeader::ref_from_prefix(bytes) else {
            return bad("no room for the root");
        };
        let level = header.bb_level.get();
        if level == 0 || level > LEVELS_MAX {
            return bad("impossible height");
        }
        Self::parse(level, header.bb_numrecs.get(), body)
    }

    /// The child at a place, and the range of file blocks that it may hold: within that of its parent.
    fn child(&self, place: usize, range: (u64, u64)) -> Result<Child> {
        let (Some(key), Some(pointer)) = (self.keys.get(place), self.pointers.get(place)) else {
            return bad("fewer children than it counts");
        };
        let next = self.keys.get(place + 1).map_or(range.1, |next| next.get());
        if key.get() < range.0 || next <= key.get() || next > range.1 {
            return bad("keys are not in order");
        }
        Ok(Child { pointer: pointer.get(), level: self.level - 1, range: (key.get(), next) })
    }
}

/// A block to be read: where it is, and what must be in it.
struct Child {
    pointer: u64,
    level: u16,
    /// First file block, and the one after the last, of all records below.
    range: (u64, u64),
}

/// A block that was read, with its header taken apart.
struct Block {
    bytes: Arc<[u8]>,
    body: usize,
    count: u16,
    left: u64,
    right: u64,
}

impl Block {
    fn read(volume: &Volume, ino: Ino, child: &Child) -> Result<Self> {
        let geometry = volume.geometry();
        let Some(start) = geometry.decode_block(child.pointer, 1) else {
            return bad("pointer leads outside the volume");
        };
        let run = BlockRun { start, count: 1 };
        let bytes = volume.read_verified(run, BlockKind::ExtentTree, ino.0, |block, offset| {
            volume.check_self(&DESCRIPTION, block, offset, ino.0)
        })?;
        let at = |error: Error| error.at(start.to_bytes(geometry.block_size).unwrap_or_default());
        let Ok((header, _)) = Header::ref_from_prefix(&bytes) else { return bad("too short").map_err(at) };
        let (magic, body) =
            if geometry.is_v5() { (MAGIC_V5, HEADER_V5) } else { (MAGIC_V4, size_of::<Header>()) };
        if header.bb_magic.get() != magic {
            return bad("wrong magic number").map_err(at);
        }
        if header.bb_level.get() != child.level {
            return bad("wrong level").map_err(at);
        }
        let (count, left, right) =
            (header.bb_numrecs.get(), header.bb_leftsib.get(), header.bb_rightsib.get());
        Ok(Self { bytes, body, count, left, right })
    }

    fn body(&self) -> &[u8] {
        self.bytes.get(self.body..).unwrap_or_default()
    }

    fn records(&self, range: (u64, u64)) -> Result<&[PackedExtent]> {
        let count = usize::from(self.count);
        let Ok((records, _)) = <[PackedExtent]>::ref_from_prefix_with_elems(self.body(), count) else {
            return bad("impossible number of records");
        };
        match (records.first(), records.last()) {
            (Some(first), Some(last)) if first.file_block() >= range.0 && last.file_block() < range.1 => {
                Ok(records)
            }
            (None, _) => bad("a leaf without records"),
            _ => bad("records lie outside the range of their parent's keys"),
        }
    }
}

/// The whole range of file blocks: 54 bits.
const WHOLE: (u64, u64) = (0, 1 << 54);

/// Gives all extents in order until `visit` breaks; answers whether it did.
pub(crate) fn walk(
    volume: &Volume,
    ino: Ino,
    root: &[u8],
    visit: &mut dyn FnMut(ForkExtent) -> Result<Flow>,
) -> Result<Flow> {
    let node = Node::root(root)?;
    let mut walk = Walk { volume, ino, visit, order: Order::default(), last: [(NO_BLOCK, NO_BLOCK); LEVELS] };
    walk.node(&node, WHOLE)
}

struct Walk<'a> {
    volume: &'a Volume,
    ino: Ino,
    visit: &'a mut dyn FnMut(ForkExtent) -> Result<Flow>,
    order: Order,
    /// For each level, the block visited last and the right sibling that it named.
    last: [(u64, u64); LEVELS],
}

impl Walk<'_> {
    fn node(&mut self, node: &Node<'_>, range: (u64, u64)) -> Result<Flow> {
        for place in 0..node.keys.len() {
            let child = node.child(place, range)?;
            let block = Block::read(self.volume, self.ino, &child)?;
            self.check_siblings(&child, &block)?;
            let flow = if child.level == 0 {
                self.leaf(block.records(child.range)?)?
            } else {
                self.node(&Node::parse(child.level, block.count, block.body())?, child.range)?
            };
            if flow.is_break() {
                return Ok(flow);
            }
        }
        Ok(Flow::Continue(()))
    }

    fn leaf(&mut self, records: &[PackedExtent]) -> Result<Flow> {
        for record in records {
            let extent = record.decode(self.volume.geometry())?;
            self.order.check(&extent)?;
            if (self.visit)(extent)?.is_break() {
                return Ok(Flow::Break(()));
            }
        }
        Ok(Flow::Continue(()))
    }

    /// Blocks of a level are chained both ways, and in the same order as their parents name them.
    fn check_siblings(&mut self, child: &Child, block: &Block) -> Result<()> {
        let Some(last) = self.last.get_mut(usize::from(child.level)) else { return bad("wrong level") };
        let (before, expected) = *last;
        if block.left != before || (before != NO_BLOCK && expected != child.pointer) {
            return bad("its siblings are not its parent's children");
        }
        *last = (child.pointer, block.right);
        Ok(())
    }
}

/// The first extent that ends after block `at`.
pub(crate) fn find(volume: &Volume, ino: Ino, root: &[u8], at: FileBlock) -> Result<Option<ForkExtent>> {
    let (found, next) = find_in_leaf(volume, ino, root, at)?;
    match next {
        // The leaf that would hold it ends before; then it is the first record of the next leaf.
        Some(next) if found.is_none() => Ok(find_in_leaf(volume, ino, root, FileBlock(next))?.0),
        _ => Ok(found),
    }
}

/// Searches the one leaf whose range holds `at`; also tells where the range of the next leaf begins.
fn find_in_leaf(
    volume: &Volume,
    ino: Ino,
    root: &[u8],
    at: FileBlock,
) -> Result<(Option<ForkExtent>, Option<u64>)> {
    let mut child = pick(&Node::root(root)?, WHOLE, at)?;
    loop {
        let block = Block::read(volume, ino, &child)?;
        if child.level == 0 {
            let found = find_in_records(volume.geometry(), block.records(child.range)?, at)?;
            return Ok((found, (child.range.1 < WHOLE.1).then_some(child.range.1)));
        }
        child = pick(&Node::parse(child.level, block.count, block.body())?, child.range, at)?;
    }
}

/// The child whose range holds `at`, or the first one where all begin later.
fn pick(node: &Node<'_>, range: (u64, u64), at: FileBlock) -> Result<Child> {
    let started = node.keys.partition_point(|key| key.get() <= at.0);
    node.child(started.saturating_sub(1), range)
}

#[cfg(test)]
mod tests;
