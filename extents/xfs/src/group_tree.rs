//! B-trees within one allocation group, whose pointers and keys have 32 bits (`xfs_btree_block`, short form).
//!
//! Only searches are needed. Levels count down to 0 at the leaves and keys must lie within the range that the
//! parent gives, so a search reads at most as many blocks as the tree has levels.

use std::sync::Arc;

use extents_core::{Error, Result};
use zerocopy::byteorder::big_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::checksum::SelfDescription;
use crate::volume::{BlockKind, BlockRun, Volume};

/// The kernel's bound (`XFS_BTREE_MAXLEVELS`).
const LEVELS_MAX: u32 = 9;

/// Header of a block; version 5 adds 40 bytes.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    bb_magic: [u8; 4],
    bb_level: U16,
    bb_numrecs: U16,
    bb_leftsib: U32,
    bb_rightsib: U32,
}
const _: () = assert!(size_of::<Header>() == 16);
const HEADER_V5: usize = 56;

/// Where the root of a tree lies, and how many levels it has: 1 where the root is a leaf.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Root {
    pub(crate) block: u32,
    pub(crate) levels: u32,
}

/// A record of a tree.
pub(crate) trait Record: FromBytes + Immutable + KnownLayout + Unaligned + Copy {
    /// The structure's name, for errors.
    const STRUCTURE: &'static str;
    const KIND: BlockKind;
    const MAGIC_V4: [u8; 4];
    const MAGIC_V5: [u8; 4];

    /// The key: the first of what the record covers.
    fn start(&self) -> u32;

    /// The one after the last of what it covers.
    fn end(&self) -> u64;
}

fn bad<R: Record, T>(problem: &'static str) -> Result<T> {
    Err(Error::corrupt(R::STRUCTURE, problem))
}

/// The first record that ends after `at`: the one that covers it, or the next one.
pub(crate) fn find<R: Record>(volume: &Volume, group: u32, root: Root, at: u32) -> Result<Option<R>> {
    let leaf = Leaf::<R>::holding(volume, group, root, at)?;
    match (leaf.find(at)?, leaf.next) {
        // The leaf that would hold it ends before; then it is the first record of the next leaf.
        (None, Some(next)) => Leaf::<R>::holding(volume, group, root, next)?.find(next),
        (found, _) => Ok(found),
    }
}

/// A leaf, and where the range of the next one begins.
struct Leaf<R> {
    block: Block,
    range: (u32, Option<u32>),
    next: Option<u32>,
    record: std::marker::PhantomData<R>,
}

impl<R: Record> Leaf<R> {
    /// The leaf whose range holds `at`, or the first one.
    fn holding(volume: &Volume, group: u32, root: Root, at: u32) -> Result<Self> {
        if root.levels == 0 || root.levels > LEVELS_MAX {
            return bad::<R, _>("impossible height");
        }
        let (mut level, mut pointer) = (root.levels - 1, root.block);
        let mut range = (0, None);
        loop {
            let block = Block::read::<R>(volume, group, pointer, level)?;
            if level == 0 {
                return Ok(Self { block, range, next: range.1, record: std::marker::PhantomData });
            }
            (pointer, range) = block.child::<R>(at, range)?;
            level -= 1;
        }
    }

    fn find(&self, at: u32) -> Result<Option<R>> {
        let count = usize::from(self.block.count);
        let Ok((records, _)) = <[R]>::ref_from_prefix_with_elems(self.block.body(), count) else {
            return bad::<R, _>("impossible number of records");
        };
        let (from, to) = self.range;
        let inside = |record: &R| record.start() >= from && to.is_none_or(|to| record.start() < to);
        if !records.first().is_none_or(inside) || !records.last().is_none_or(inside) {
            return bad::<R, _>("records lie outside the range of their parent's keys");
        }
        let started = records.partition_point(|record| record.start() <= at);
        let ends_after = |record: &R| u64::from(at) < record.end();
        let held =
            started.checked_sub(1).and_then(|place| records.get(place)).filter(|record| ends_after(record));
        Ok(held.or_else(|| records.get(started).filter(|record| ends_after(record))).copied())
    }
}

struct Block {
    bytes: Arc<[u8]>,
    body: usize,
    count: u16,
}

impl Block {
    fn read<R: Record>(volume: &Volume, group: u32, pointer: u32, level: u32) -> Result<Self> {
        let geometry = volume.geometry();
        let Some(start) = geometry.group_block(group, pointer) else {
            return bad::<R, _>("pointer leads outside the group");
        };
        let description = SelfDescription {
            structure: R::STRUCTURE,
            crc: 52,
            blkno: 16,
            uuid: 32,
            owner: 48,
            owner_bytes: 4,
        };
        let bytes = volume.read_verified(BlockRun { start, count: 1 }, R::KIND, 0, |block, offset| {
            volume.check_self(&description, block, offset, u64::from(group))
        })?;
        let Ok((header, _)) = Header::ref_from_prefix(&bytes) else { return bad::<R, _>("too short") };
        let (magic, body) =
            if geometry.is_v5() { (R::MAGIC_V5, HEADER_V5) } else { (R::MAGIC_V4, size_of::<Header>()) };
        if header.bb_magic != magic || u32::from(header.bb_level.get()) != level {
            return bad::<R, _>("wrong magic number or level")
                .map_err(|error| error.at(start.to_bytes(geometry.block_size).unwrap_or_default()));
        }
        let count = header.bb_numrecs.get();
        Ok(Self { bytes, body, count })
    }

    fn body(&self) -> &[u8] {
        self.bytes.get(self.body..).unwrap_or_default()
    }

    /// The child whose range holds `at` or else the first one, and its range: within that of its parent.
    fn child<R: Record>(&self, at: u32, range: (u32, Option<u32>)) -> Result<(u32, (u32, Option<u32>))> {
        let body = self.body();
        let (most, count) = (body.len() / 8, usize::from(self.count));
        if count == 0 || count > most {
            return bad::<R, _>("impossible number of keys");
        }
        let list = |from: usize| {
            let bytes = body.get(from * 4..).unwrap_or_default();
            <[U32]>::ref_from_prefix_with_elems(bytes, count).map_or(&[][..], |(list, _)| list)
        };
        let (keys, pointers) = (list(0), list(most));
        let place = keys.partition_point(|key| key.get() <= at).saturating_sub(1);
        let (Some(key), Some(pointer)) = (keys.get(place), pointers.get(place)) else {
            return bad::<R, _>("fewer children than it counts");
        };
        let next = keys.get(place + 1).map(|next| next.get()).or(range.1);
        if key.get() < range.0
            || next.is_some_and(|next| next <= key.get() || range.1.is_some_and(|end| next > end))
        {
            return bad::<R, _>("keys are not in order");
        }
        Ok((pointer.get(), (key.get(), next)))
    }
}
