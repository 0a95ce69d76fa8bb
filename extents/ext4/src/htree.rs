//! The index of a directory: a tree of name hashes, up to three levels above the blocks of names
//! (`struct dx_root` and `dx_node` in `fs/ext4/namei.c`).

use std::sync::Arc;

use extents_core::{CacheKey, Error, FileBlock, Ino, Result};
use smallvec::SmallVec;
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::checksum::Crc;
use crate::dir_block::{Entries, entry_length, fills_block};
use crate::dirhash::HashVersion;
use crate::features::Incompat;
use crate::inode::{Flags, Inode};
use crate::layout::{view, views};
use crate::sought::Sought;
use crate::volume::{Ext4, Kind};

/// The root lies behind the entries of `.` and `..`.
const ROOT_INFO_AT: usize = 24;
const ROOT_ENTRIES_AT: usize = 32;
/// A node lies behind the head of one unused entry.
const NODE_ENTRIES_AT: usize = 8;
/// `struct dx_tail`, where blocks carry checksums.
const TAIL: usize = 8;
/// The upper bits of a block number are reserved.
const BLOCK_MASK: u32 = 0x0FFF_FFFF;

/// `struct dx_root_info`.
#[derive(Debug, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RootInfo {
    reserved: U32,
    hash_version: u8,
    info_length: u8,
    indirect_levels: u8,
    unused_flags: u8,
}

/// `struct dx_entry`; in the first of a block, `limit` and `count` stand in place of the hash.
#[derive(Debug, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct IndexEntry {
    hash: U32,
    block: U32,
}

#[derive(Debug, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Limits {
    limit: U16,
    count: U16,
}

const _: () = assert!(size_of::<RootInfo>() == 8 && size_of::<IndexEntry>() == 8 && size_of::<Limits>() == 4);

/// A block of the index and the entry taken in it.
struct Frame {
    block: Arc<[u8]>,
    entries_at: usize,
    taken: usize,
}

impl Frame {
    fn new(block: Arc<[u8]>, entries_at: usize) -> Self {
        Self { block, entries_at, taken: 0 }
    }

    fn entries(&self) -> &[IndexEntry] {
        let count = view::<Limits>(&self.block, self.entries_at).map_or(0, |limits| limits.count.get());
        views(&self.block, self.entries_at, usize::from(count)).unwrap_or_default()
    }

    /// Takes the last entry whose hash is not above `hash`; the first one stands for all below the second.
    fn take(&mut self, hash: u32) {
        let behind = self.entries().get(1..).unwrap_or_default();
        self.taken = behind.partition_point(|entry| entry.hash.get() <= hash);
    }

    /// Takes the next entry and answers its hash.
    fn take_next(&mut self) -> Option<u32> {
        let hash = self.entries().get(self.taken + 1)?.hash.get();
        self.taken += 1;
        Some(hash)
    }

    fn child(&self) -> Option<u64> {
        self.entries().get(self.taken).map(|entry| u64::from(entry.block.get() & BLOCK_MASK))
    }
}

/// What errors in an index call it; the names can be had without it then.
pub(crate) const INDEX: &str = "directory index";

#[cold]
fn broken(problem: &'static str) -> Error {
    Error::corrupt(INDEX, problem)
}

impl Ext4 {
    /// Whether names can be looked for by hash.
    pub(crate) fn is_indexed(&self, dir: &Inode) -> bool {
        dir.has(Flags::INDEX) && !dir.has(Flags::INLINE_DATA) && self.geometry.has_dir_index()
    }

    /// The hash that a directory's index is made by; `None` where it has no index that can be read.
    pub(crate) fn indexed_version(&self, dir: &Inode) -> Option<HashVersion> {
        if !self.is_indexed(dir) {
            return None;
        }
        let root = self.index_block(dir, 0).ok()?;
        HashVersion::from_disk(root_info(&root).ok()?.hash_version, self.geometry.hash_unsigned)
    }

    /// Finds a name through the index.
    ///
    /// # Errors
    /// `Corrupt` in an [`INDEX`] where the index cannot be used and every entry must be looked at
    /// instead.
    pub(crate) fn find_by_hash(&self, dir: &Inode, sought: &Sought<'_>) -> Result<Option<Ino>> {
        let root = self.index_block(dir, 0)?;
        let info = root_info(&root)?;
        let version = HashVersion::from_disk(info.hash_version, self.geometry.hash_unsigned)
            .ok_or_else(|| broken("its hash version is unknown"))?;
        let levels = if self.geometry.features.has(Incompat::LARGE_DIR) { 3 } else { 2 };
        if info.unused_flags & 1 != 0 || info.indirect_levels >= levels {
            return Err(broken("it has flags or levels that are not known"));
        }
        let depth = info.indirect_levels;
        let hash = sought
            .hash(version, &self.geometry.hash_seed)
            .ok_or_else(|| broken("its hash cannot be computed"))?
            .major
            & !1;
        let mut frames: SmallVec<[Frame; 3]> = SmallVec::new();
        let mut frame = Frame::new(root, ROOT_ENTRIES_AT);
        frame.take(hash);
        for _ in 0..depth {
            let child = frame.child().ok_or_else(|| broken("it has no entries"))?;
            frames.push(frame);
            frame = Frame::new(self.index_block(dir, child)?, NODE_ENTRIES_AT);
            frame.take(hash);
        }
        frames.push(frame);
        // Names of one hash may go on over many blocks, but not over more than there are.
        let mut left = (dir.length >> self.geometry.block_bits).min(self.geometry.blocks);
        loop {
            let leaf = frames.last().and_then(Frame::child).ok_or_else(|| broken("it has no entries"))?;
            if let Some(ino) = self.find_in_leaf(dir, leaf, sought)? {
                return Ok(Some(ino));
            }
            left = left.saturating_sub(1);
            if left == 0 || !self.next_leaf(dir, &mut frames, hash)? {
                return Ok(None);
            }
        }
    }

    fn find_in_leaf(&self, dir: &Inode, leaf: u64, sought: &Sought<'_>) -> Result<Option<Ino>> {
        let Some(block) = self.dir_block(dir, leaf)? else {
            return Err(broken("it leads to a block that the directory does not have"));
        };
        let mut entries = Entries::new(&block);
        let found = match sought {
            // By far the most frequent kind, compared here without a decision for each entry.
            Sought::Exact(name) => entries.find(|entry| entry.name == *name),
            other => entries.find(|entry| other.matches(entry.name)),
        };
        Ok(found.map(|entry| Ino(u64::from(entry.ino))))
    }

    /// Moves on to the next block of names, if names of this hash go on there: its hash then has the lowest bit
    /// set (`ext4_htree_next_block`).
    fn next_leaf(&self, dir: &Inode, frames: &mut SmallVec<[Frame; 3]>, hash: u32) -> Result<bool> {
        let depth = frames.len();
        let next = loop {
            let Some(frame) = frames.last_mut() else { return Ok(false) };
            match frame.take_next() {
                Some(next) => break next,
                None => frames.pop(),
            };
        };
        if next & !1 != hash {
            return Ok(false);
        }
        while frames.len() < depth {
            let child = frames.last().and_then(Frame::child).ok_or_else(|| broken("it has no entries"))?;
            frames.push(Frame::new(self.index_block(dir, child)?, NODE_ENTRIES_AT));
        }
        Ok(true)
    }

    /// A verified block of the index: the root, or a node.
    fn index_block(&self, dir: &Inode, block: u64) -> Result<Arc<[u8]>> {
        let Some(place) = self.find_block(dir, FileBlock(block))? else {
            return Err(broken("it leads to a block that the directory does not have"));
        };
        let Some(at) = self.geometry.byte_of(place) else {
            return Err(broken("a block lies past the end of the volume"));
        };
        let kind = if block == 0 { Kind::IndexRoot } else { Kind::IndexNode };
        let key = CacheKey { offset: at, kind: kind.number(), owner: dir.ino.0 };
        self.cache.get_or_load(key, || {
            let bytes = self.media.read_vec(at, self.geometry.block_len())?;
            let seed = self.geometry.checksums.then(|| dir.seed(&self.geometry));
            verify(&bytes, block == 0, seed).map_err(|error| error.in_inode(dir.ino).at(at))?;
            Ok(bytes.into())
        })
    }
}

fn root_info(root: &[u8]) -> Result<&RootInfo> {
    let info: &RootInfo = view(root, ROOT_INFO_AT).ok_or_else(|| broken("its root is cut short"))?;
    if info.reserved.get() != 0 || usize::from(info.info_length) != size_of::<RootInfo>() {
        return Err(broken("its root is not laid out as known"));
    }
    Ok(info)
}

/// Checks the limits of a block of the index, and its checksum where there is one (`ext4_dx_csum`): it covers
/// the entries in use, and four bytes of the tail.
fn verify(bytes: &[u8], root: bool, seed: Option<Crc>) -> Result<()> {
    let entries_at = if root {
        root_info(bytes)?;
        let dot: &U16 = view(bytes, 4).ok_or_else(|| broken("its root is cut short"))?;
        if entry_length(dot.get(), bytes.len()) != 12 {
            return Err(broken("its root does not begin with an entry for itself"));
        }
        ROOT_ENTRIES_AT
    } else if fills_block(bytes) {
        NODE_ENTRIES_AT
    } else {
        return Err(broken("it leads to a block that is not part of it"));
    };
    let limits: &Limits = view(bytes, entries_at).ok_or_else(|| broken("a block is cut short"))?;
    let (limit, count) = (usize::from(limits.limit.get()), usize::from(limits.count.get()));
    let tail = if seed.is_some() { TAIL } else { 0 };
    if limit != (bytes.len() - entries_at - tail) / 8 || count == 0 || count > limit {
        return Err(broken("a block claims another number of entries than it has room for"));
    }
    let Some(seed) = seed else { return Ok(()) };
    let tail_at = entries_at + limit * 8;
    let covered = bytes.get(..entries_at + count * 8);
    let (Some(covered), Some(reserved), Some(stored)) =
        (covered, bytes.get(tail_at..tail_at + 4), view::<U32>(bytes, tail_at + 4))
    else {
        return Err(broken("a block is cut short"));
    };
    if seed.over(covered).over(reserved).over(&[0; 4]).value() != stored.get() {
        return Err(broken("a block's checksum does not match"));
    }
    Ok(())
}
