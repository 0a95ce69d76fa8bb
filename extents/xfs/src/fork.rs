//! The two forks of an inode, data and attributes: where their blocks lie.

use std::sync::Arc;

use extents_core::{Error, FileBlock, Flow, FsBlock, Result};
use smallvec::SmallVec;
use zerocopy::byteorder::big_endian::U64;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::extent_tree;
use crate::geometry::Geometry;
use crate::inode::Inode;
use crate::volume::{BlockKind, BlockRun, Volume};

/// How a fork is stored (`xfs_dinode_fmt`, those that have contents).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ForkFormat {
    Local,
    Extents,
    Btree,
}

/// The bytes of a fork within its inode.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fork<'a> {
    /// The contents themselves.
    Local(&'a [u8]),
    /// All extents, packed.
    Extents(&'a [PackedExtent]),
    /// The root of a B-tree of extents, and how many it holds.
    Btree(&'a [u8], u64),
}

impl<'a> Fork<'a> {
    pub(crate) fn new(format: ForkFormat, bytes: &'a [u8], extents: u64) -> Self {
        match format {
            ForkFormat::Local => Self::Local(bytes),
            ForkFormat::Extents => {
                let count = usize::try_from(extents).unwrap_or(usize::MAX);
                Self::Extents(
                    <[PackedExtent]>::ref_from_prefix_with_elems(bytes, count)
                        .map(|(records, _)| records)
                        .unwrap_or_default(),
                )
            }
            ForkFormat::Btree => Self::Btree(bytes, extents),
        }
    }
}

/// An extent as it is stored (`xfs_bmbt_rec`): from the top 1 bit unwritten, 54 bits file block, 52 bits
/// volume block, 21 bits length.
#[derive(Debug, Clone, Copy, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct PackedExtent {
    l0: U64,
    l1: U64,
}
const _: () = assert!(size_of::<PackedExtent>() == 16);

/// An extent of a fork, checked to lie within the volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ForkExtent {
    /// First block in the fork.
    pub(crate) file: FileBlock,
    /// The blocks of the volume.
    pub(crate) run: BlockRun,
    /// Allocated, never written.
    pub(crate) unwritten: bool,
}

impl PackedExtent {
    /// First block of the extent in the fork.
    pub(crate) fn file_block(&self) -> u64 {
        (self.l0.get() & !UNWRITTEN) >> 9
    }

    /// The extent, checked to lie within one allocation group of the volume.
    pub(crate) fn decode(&self, geometry: &Geometry) -> Result<ForkExtent> {
        let (l0, l1) = (self.l0.get(), self.l1.get());
        let packed = ((l0 & 0x1ff) << 43) | (l1 >> 21);
        let count = l1 & 0x1f_ffff;
        let start = geometry.decode_block(packed, count).filter(|_| count > 0).ok_or_else(|| {
            Error::corrupt("extent", format!("{count} blocks at {packed:#x} are not on the volume"))
        })?;
        Ok(ForkExtent {
            file: FileBlock(self.file_block()),
            run: BlockRun { start, count },
            unwritten: l0 & UNWRITTEN != 0,
        })
    }
}

const UNWRITTEN: u64 = 1 << 63;

impl ForkExtent {
    /// The block of the fork after the last one.
    pub(crate) fn end(&self) -> u64 {
        self.file.0 + self.run.count
    }

    /// The part from block `at` of the fork on; `None` where `at` is not within.
    pub(crate) fn after(self, at: FileBlock) -> Option<BlockRun> {
        let skipped = at.0.checked_sub(self.file.0).filter(|&skipped| skipped < self.run.count)?;
        Some(BlockRun { start: FsBlock(self.run.start.0 + skipped), count: self.run.count - skipped })
    }
}

/// Gives all extents of a fork in the order of the fork, checked to lie on the volume and not to overlap in the
/// fork, until `visit` breaks.
///
/// # Errors
/// `Corrupt`, without the inode's number; also what `visit` answers.
pub(crate) fn walk_extents(
    volume: &Volume,
    inode: &Inode,
    fork: Fork<'_>,
    visit: &mut dyn FnMut(ForkExtent) -> Result<Flow>,
) -> Result<()> {
    match fork {
        Fork::Local(_) => Ok(()),
        Fork::Extents(records) => {
            let mut order = Order::default();
            for record in records {
                let extent = record.decode(volume.geometry())?;
                order.check(&extent)?;
                if visit(extent)?.is_break() {
                    break;
                }
            }
            Ok(())
        }
        Fork::Btree(root, count) => {
            let mut found = 0;
            let flow = extent_tree::walk(volume, inode.ino, root, &mut |extent| {
                found += 1;
                visit(extent)
            })?;
            if flow.is_continue() && found != count {
                return Err(Error::corrupt(
                    "extent B-tree",
                    format!("holds {found} extents where the inode counts {count}"),
                ));
            }
            Ok(())
        }
    }
}

/// The first extent of a fork that ends after block `at`: the one that holds it, or the next one.
pub(crate) fn find_extent(
    volume: &Volume,
    inode: &Inode,
    fork: Fork<'_>,
    at: FileBlock,
) -> Result<Option<ForkExtent>> {
    match fork {
        Fork::Local(_) => Ok(None),
        Fork::Extents(records) => find_in_records(volume.geometry(), records, at),
        Fork::Btree(root, _) => extent_tree::find(volume, inode.ino, root, at),
    }
}

/// The first of sorted records that ends after block `at`.
pub(crate) fn find_in_records(
    geometry: &Geometry,
    records: &[PackedExtent],
    at: FileBlock,
) -> Result<Option<ForkExtent>> {
    let started = records.partition_point(|record| record.file_block() <= at.0);
    for place in [started.checked_sub(1), Some(started)].into_iter().flatten() {
        let Some(record) = records.get(place) else { continue };
        let extent = record.decode(geometry)?;
        if at.0 < extent.end() {
            return Ok(Some(extent));
        }
    }
    Ok(None)
}

/// The contiguous blocks from block `at` of a fork on; `None` in a hole. Blocks of an unwritten extent are
/// `Corrupt`, since only regular files may have such.
pub(crate) fn map_fork_block(
    volume: &Volume,
    inode: &Inode,
    fork: Fork<'_>,
    at: FileBlock,
) -> Result<Option<BlockRun>> {
    let Some(extent) = find_extent(volume, inode, fork, at)? else { return Ok(None) };
    let run = extent.after(at);
    if extent.unwritten && run.is_some() {
        return Err(
            Error::corrupt("extent", "metadata in blocks that were never written").in_inode(inode.ino)
        );
    }
    Ok(run)
}

/// `count` blocks of a fork from block `at` on, as one structure that `verify` accepts; `None` where `at` is in a
/// hole. The blocks are cached under the inode as owner.
///
/// # Errors
/// `Corrupt` where only some of the blocks are mapped, and what `verify` answers.
pub(crate) fn read_fork_blocks(
    volume: &Volume,
    inode: &Inode,
    fork: Fork<'_>,
    at: FileBlock,
    count: u64,
    kind: BlockKind,
    verify: impl FnOnce(&[u8], u64) -> Result<()>,
) -> Result<Option<Arc<[u8]>>> {
    let mut in_hole = false;
    let read = volume.cached_in_fork(at, kind, inode.ino.0, || {
        let runs = whole_run(volume, inode, fork, at, count)?;
        in_hole = runs.is_empty();
        volume.gather(&runs, verify)
    });
    match read {
        Err(_) if in_hole => Ok(None),
        read => read.map(Some).map_err(|error| error.in_inode(inode.ino)),
    }
}

/// Where `count` blocks of a fork from block `at` on lie; none where `at` is in a hole.
fn whole_run(
    volume: &Volume,
    inode: &Inode,
    fork: Fork<'_>,
    at: FileBlock,
    count: u64,
) -> Result<SmallVec<[BlockRun; 2]>> {
    let mut runs: SmallVec<[BlockRun; 2]> = SmallVec::new();
    let mut done = 0;
    while done < count {
        let place = at.0.checked_add(done).map(FileBlock);
        let run = match place {
            Some(place) => map_fork_block(volume, inode, fork, place)?,
            None => None,
        };
        match run {
            Some(run) => {
                let taken = run.count.min(count - done);
                runs.push(BlockRun { start: run.start, count: taken });
                done += taken;
            }
            None if done == 0 => break,
            None => return Err(Error::corrupt("directory or attribute block", "ends in a hole")),
        }
    }
    Ok(runs)
}

/// Checks that extents come in the order of the fork and do not overlap.
#[derive(Debug, Default)]
pub(crate) struct Order {
    end: u64,
}

impl Order {
    pub(crate) fn check(&mut self, extent: &ForkExtent) -> Result<()> {
        if extent.file.0 < self.end {
            return Err(Error::corrupt(
                "extent list",
                format!("block {} comes behind block {}", extent.file, self.end),
            ));
        }
        self.end = extent.end();
        Ok(())
    }
}
