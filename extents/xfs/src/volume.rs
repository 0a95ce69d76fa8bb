//! An open volume as every part of this crate sees it: geometry, and blocks that passed their checks.

use std::sync::Arc;

use extents_core::{BlockCache, BlockRead, CacheKey, Error, FsBlock, Result, to_usize};

use crate::checksum::SelfDescription;
use crate::geometry::Geometry;

/// How to open a volume.
#[derive(Debug, Clone, Copy)]
pub struct OpenOptions {
    /// Read what is on the disk even where the log holds newer metadata.
    pub norecovery: bool,
    /// Most bytes of metadata blocks to keep.
    pub cache_bytes: u64,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self { norecovery: false, cache_bytes: 64 << 20 }
    }
}

/// What a cached block was verified as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlockKind {
    /// A range of blocks with inodes, each of which is verified when it is parsed.
    Inodes,
    /// AG headers.
    GroupSpace,
    GroupInodes,
    /// A block of an inode B-tree.
    InodeTree,
    /// A block of a reference count B-tree.
    ReferenceTree,
    /// A block of an extent B-tree.
    ExtentTree,
    /// A directory block with a block's whole directory, or with data.
    DirData,
    /// A directory leaf, LEAF1 or LEAFN.
    DirLeaf,
    /// A block of the free index of a directory.
    DirFree,
    /// An inner node of a directory's or an attribute fork's hash tree.
    DaNode,
    /// An attribute leaf.
    AttrLeaf,
    /// A block of a remote attribute value.
    AttrRemote,
    /// A block of a remote symbolic link.
    Symlink,
}

impl BlockKind {
    #[allow(clippy::as_conversions, reason = "an enum without fields has no other way to its number")]
    fn number(self) -> u8 {
        self as u8
    }
}

/// Contiguous blocks of the volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockRun {
    pub(crate) start: FsBlock,
    /// At least 1.
    pub(crate) count: u64,
}

/// An open volume.
pub(crate) struct Volume {
    device: Box<dyn BlockRead>,
    geometry: Geometry,
    cache: BlockCache,
}

/// The most blocks of metadata that are read as one: a directory block or an inode cluster.
const LARGEST_READ: u64 = 1 << 20;

impl Volume {
    pub(crate) fn new(device: Box<dyn BlockRead>, geometry: Geometry, cache_bytes: u64) -> Self {
        Self { device, geometry, cache: BlockCache::new(cache_bytes) }
    }

    pub(crate) fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    pub(crate) fn cache(&self) -> &BlockCache {
        &self.cache
    }

    /// The bytes of contiguous blocks, from the cache or read and then verified. `verify` gets them and their
    /// byte offset on the volume, and is not called again for what is cached under the same kind and owner.
    pub(crate) fn read_verified(
        &self,
        run: BlockRun,
        kind: BlockKind,
        owner: u64,
        verify: impl FnOnce(&[u8], u64) -> Result<()>,
    ) -> Result<Arc<[u8]>> {
        self.read_gathered(&[run], kind, owner, verify)
    }

    /// As [`read_verified`](Self::read_verified), for a structure whose blocks may lie in several places (a
    /// directory block larger than a block). The offset given to `verify` is that of the first block.
    pub(crate) fn read_gathered(
        &self,
        runs: &[BlockRun],
        kind: BlockKind,
        owner: u64,
        verify: impl FnOnce(&[u8], u64) -> Result<()>,
    ) -> Result<Arc<[u8]>> {
        let outside = || Error::corrupt("block pointer", "points outside the volume");
        let block_size = self.geometry.block_size;
        let first = runs.first().ok_or_else(outside)?;
        let offset = first.start.to_bytes(block_size).ok_or_else(outside)?;
        self.cache.get_or_load(CacheKey { offset, kind: kind.number(), owner }, || {
            let total = runs
                .iter()
                .try_fold(0_u64, |sum, run| sum.checked_add(run.count.checked_mul(u64::from(block_size))?))
                .filter(|&total| total <= LARGEST_READ)
                .ok_or_else(outside)?;
            let mut block: Arc<[u8]> = std::iter::repeat_n(0, to_usize(total)).collect();
            let mut rest = Arc::get_mut(&mut block).ok_or_else(outside)?;
            for run in runs {
                let length = to_usize(run.count * u64::from(block_size));
                let (piece, behind) = rest.split_at_mut_checked(length).ok_or_else(outside)?;
                self.device.read_at(run.start.to_bytes(block_size).ok_or_else(outside)?, piece)?;
                rest = behind;
            }
            verify(&block, offset)?;
            Ok(block)
        })
    }

    /// Checks a block of version 5 against its description of itself; every block of version 4 passes.
    pub(crate) fn check_self(
        &self,
        layout: &SelfDescription,
        block: &[u8],
        offset: u64,
        owner: u64,
    ) -> Result<()> {
        if !self.geometry.is_v5() {
            return Ok(());
        }
        layout.check(block, offset, &self.geometry.meta_uuid, owner)
    }

    /// Bytes of the device as they are, neither cached nor verified.
    pub(crate) fn read_raw(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        Ok(self.device.read_at(offset, buf)?)
    }
}
