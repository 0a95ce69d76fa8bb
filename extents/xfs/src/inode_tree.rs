//! The B-tree of a group's inode chunks (`xfs_inobt`).

use extents_core::Result;
use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::features::Incompat;
use crate::group;
use crate::group_tree::{self, Record};
use crate::volume::{BlockKind, Volume};

const INODES_PER_CHUNK: u32 = 64;

/// `struct xfs_inobt_rec`, in the form that sparse chunks have.
#[derive(Debug, Clone, Copy, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawChunk {
    ir_startino: U32,
    /// Without sparse chunks this and the next two are one number, the free inodes.
    ir_holemask: U16,
    ir_count: u8,
    ir_freecount: u8,
    ir_free: U64,
}
const _: () = assert!(size_of::<RawChunk>() == 16);

impl Record for RawChunk {
    const STRUCTURE: &'static str = "inode B-tree block";
    const KIND: BlockKind = BlockKind::InodeTree;
    const MAGIC_V4: [u8; 4] = *b"IABT";
    const MAGIC_V5: [u8; 4] = *b"IAB3";

    fn start(&self) -> u32 {
        self.ir_startino.get()
    }

    fn end(&self) -> u64 {
        u64::from(self.start()) + u64::from(INODES_PER_CHUNK)
    }
}

/// 64 inodes that were allocated together. Numbers count inodes of their group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chunk {
    start: u32,
    /// Which fours of inodes have no blocks.
    holes: u16,
    /// Which inodes are free.
    free: u64,
}

impl Chunk {
    /// The first inode.
    pub(crate) fn start(&self) -> u64 {
        u64::from(self.start)
    }

    /// The one after the last.
    pub(crate) fn end(&self) -> u64 {
        self.start() + u64::from(INODES_PER_CHUNK)
    }

    /// Whether this inode is of the chunk and in use.
    pub(crate) fn is_allocated(&self, inode: u64) -> bool {
        let place = inode.checked_sub(self.start()).filter(|&place| place < u64::from(INODES_PER_CHUNK));
        place.is_some_and(|place| (self.holes >> (place / 4)) & 1 == 0 && (self.free >> place) & 1 == 0)
    }
}

/// The first chunk of a group that ends after this inode.
pub(crate) fn find(volume: &Volume, group: u32, inode: u32) -> Result<Option<Chunk>> {
    let root = group::inodes(volume, group)?.tree;
    let sparse = volume.geometry().incompat.contains(Incompat::SPINODES);
    Ok(group_tree::find::<RawChunk>(volume, group, root, inode)?.map(|raw| Chunk {
        start: raw.ir_startino.get(),
        holes: if sparse { raw.ir_holemask.get() } else { 0 },
        free: raw.ir_free.get(),
    }))
}
