//! The B-tree of a group's blocks that belong to more than one file (`xfs_refcountbt`).

use extents_core::{FsBlock, Result};
use zerocopy::byteorder::big_endian::U32;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::group;
use crate::group_tree::{self, Record};
use crate::volume::{BlockKind, BlockRun, Volume};

/// Set in the first block of records that are about copies being made (`XFS_REFC_COWFLAG`); sorts behind all others.
const COPY_STAGING: u32 = 1 << 31;

/// `struct xfs_refcount_rec`.
#[derive(Debug, Clone, Copy, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawReferences {
    rc_startblock: U32,
    rc_blockcount: U32,
    rc_refcount: U32,
}
const _: () = assert!(size_of::<RawReferences>() == 12);

impl Record for RawReferences {
    const STRUCTURE: &'static str = "reference count B-tree block";
    const KIND: BlockKind = BlockKind::ReferenceTree;
    /// Came with version 5.
    const MAGIC_V4: [u8; 4] = [0; 4];
    const MAGIC_V5: [u8; 4] = *b"R3FC";

    fn start(&self) -> u32 {
        self.rc_startblock.get()
    }

    fn end(&self) -> u64 {
        u64::from(self.start()) + u64::from(self.rc_blockcount.get())
    }
}

/// Gives the pieces of a run of blocks in order, each either shared or not, as `xfs_reflink_trim_around_shared`
/// cuts them.
pub(crate) fn split(
    volume: &Volume,
    run: BlockRun,
    mut visit: impl FnMut(BlockRun, bool) -> Result<()>,
) -> Result<()> {
    let group_blocks = u64::from(volume.geometry().group_blocks);
    // A decoded run lies within one group, so both numbers fit.
    let group = u32::try_from(run.start.0 / group_blocks).unwrap_or(u32::MAX);
    let first = u32::try_from(run.start.0 % group_blocks).unwrap_or(u32::MAX);
    let root = group::space(volume, group)?.reference_tree;
    let end = u64::from(first) + run.count;
    let mut at = first;
    let mut give = |from: u32, to: u64, shared: bool| {
        let start = FsBlock(run.start.0 + u64::from(from - first));
        visit(BlockRun { start, count: to - u64::from(from) }, shared)
    };
    while u64::from(at) < end {
        let found = group_tree::find::<RawReferences>(volume, group, root, at)?
            .filter(|record| record.start() & COPY_STAGING == 0 && u64::from(record.start()) < end);
        let Some(record) = found else { return give(at, end, false) };
        if record.start() > at {
            give(at, u64::from(record.start()), false)?;
            at = record.start();
        }
        let until = record.end().min(end);
        give(at, until, true)?;
        // Within the run, thus within 32 bits; a record that would not advance was not found.
        at = u32::try_from(until).unwrap_or(u32::MAX);
    }
    Ok(())
}
