//! An open volume as every part of this crate sees it: geometry, and blocks that passed their checks.

use std::sync::Arc;

use extents_core::{BlockCache, BlockRead, CacheKey, Error, FileBlock, FsBlock, Result, to_usize};

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
    /// A block of a directory's leaf space: a leaf, or an inner node of the hash tree.
    DirLeaf,
    /// A block of the free index of a directory.
    DirFree,
    /// An attribute leaf, or an inner node of the hash tree above.
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
    /// Whether nothing in the log is newer than what is on the disk.
    recovered: bool,
}

/// The most bytes of metadata that are read as one: any structure has at most 64 KiB, a remote attribute value
/// or symbolic link a header for each of its blocks in addition.
const LARGEST_READ: u64 = 1 << 18;

#[cold]
fn outside() -> Error {
    Error::corrupt("block pointer", "points outside the volume")
}

impl Volume {
    pub(crate) fn new(device: Box<dyn BlockRead>, geometry: Geometry, options: &OpenOptions) -> Self {
        Self { device, geometry, cache: BlockCache::new(options.cache_bytes), recovered: !options.norecovery }
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
        let offset = run.start.to_bytes(self.geometry.block_size).ok_or_else(outside)?;
        let length = run.count.saturating_mul(u64::from(self.geometry.block_size));
        self.cached(CacheKey { offset, kind: kind.number(), owner }, length, |bytes| {
            self.device.read_at(offset, bytes)?;
            verify(bytes, offset)
        })
    }

    /// A structure of a fork, from the cache or by `load`. It is cached under its place in the fork, so that one
    /// at hand costs no search for where it lies. A kind that is read so is never read otherwise, and stands for
    /// one of the inode's forks.
    pub(crate) fn cached_in_fork(
        &self,
        at: FileBlock,
        kind: BlockKind,
        owner: u64,
        load: impl FnOnce() -> Result<Arc<[u8]>>,
    ) -> Result<Arc<[u8]>> {
        self.cache.get_or_load(CacheKey { offset: at.0, kind: kind.number(), owner }, load)
    }

    /// The bytes of a structure whose blocks may lie in several places (a directory block larger than a block),
    /// read and then verified. The offset given to `verify` is that of the first block.
    pub(crate) fn gather(
        &self,
        runs: &[BlockRun],
        verify: impl FnOnce(&[u8], u64) -> Result<()>,
    ) -> Result<Arc<[u8]>> {
        let block_size = self.geometry.block_size;
        let first = runs.first().ok_or_else(outside)?;
        let offset = first.start.to_bytes(block_size).ok_or_else(outside)?;
        let blocks =
            runs.iter().try_fold(0_u64, |sum, run| sum.checked_add(run.count)).ok_or_else(outside)?;
        zeroed_and_filled(blocks.saturating_mul(u64::from(block_size)), |block| {
            let mut rest = &mut *block;
            for run in runs {
                let length = run.count.saturating_mul(u64::from(block_size));
                let (piece, behind) = rest.split_at_mut_checked(to_usize(length)).ok_or_else(outside)?;
                self.device.read_at(run.start.to_bytes(block_size).ok_or_else(outside)?, piece)?;
                rest = behind;
            }
            verify(block, offset)
        })
    }

    /// As [`read_verified`](Self::read_verified), for what lies at a byte and not at a block. The owner is that
    /// which its place implies.
    pub(crate) fn read_bytes_verified(
        &self,
        offset: u64,
        length: u32,
        kind: BlockKind,
        verify: impl FnOnce(&[u8]) -> Result<()>,
    ) -> Result<Arc<[u8]>> {
        self.cached(CacheKey { offset, kind: kind.number(), owner: 0 }, u64::from(length), |bytes| {
            self.device.read_at(offset, bytes)?;
            verify(bytes)
        })
    }

    /// Contiguous blocks that `prepare` may change before they are kept.
    pub(crate) fn read_prepared(
        &self,
        run: BlockRun,
        kind: BlockKind,
        prepare: impl FnOnce(&mut [u8]) -> Result<()>,
    ) -> Result<Arc<[u8]>> {
        let offset = run.start.to_bytes(self.geometry.block_size).ok_or_else(outside)?;
        let length = run.count.saturating_mul(u64::from(self.geometry.block_size));
        self.cached(CacheKey { offset, kind: kind.number(), owner: 0 }, length, |bytes| {
            self.device.read_at(offset, bytes)?;
            prepare(bytes)
        })
    }

    fn cached(
        &self,
        key: CacheKey,
        length: u64,
        fill: impl FnOnce(&mut [u8]) -> Result<()>,
    ) -> Result<Arc<[u8]>> {
        self.cache.get_or_load(key, || zeroed_and_filled(length, fill))
    }

    /// Notes that nothing in the log is newer than what is on the disk.
    pub(crate) fn set_recovered(&mut self) {
        self.recovered = true;
    }

    /// Whether nothing in the log is newer than what is on the disk, so that all structures agree.
    pub(crate) fn is_recovered(&self) -> bool {
        self.recovered
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

/// Memory for a structure, filled by `fill`.
fn zeroed_and_filled(length: u64, fill: impl FnOnce(&mut [u8]) -> Result<()>) -> Result<Arc<[u8]>> {
    if length > LARGEST_READ {
        return Err(Error::corrupt("block pointer", "a structure larger than any may be"));
    }
    let mut block: Arc<[u8]> = std::iter::repeat_n(0, to_usize(length)).collect();
    fill(Arc::get_mut(&mut block).ok_or_else(outside)?)?;
    Ok(block)
}
