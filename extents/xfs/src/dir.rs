//! Directories, in all their forms.
//!
//! A directory's fork is divided into three spaces of 32 GiB each: data blocks with the names, leaves with the
//! hashes of the names, and an index of free room. The form follows from what is there:
//!
//! | form | data | leaves | free index |
//! |---|---|---|---|
//! | short | within the inode | | |
//! | block | one block, hashes at its end | | |
//! | leaf | several blocks | one | in the leaf |
//! | node | several blocks | several, under a tree of hashes | blocks of its own |
//!
//! A directory block may be larger than a block of the volume, and then lie in several places.

mod data_block;
mod free_index;
mod leaf_block;
pub(crate) mod name;
mod shortform;

use std::sync::Arc;

use extents_core::{DirEntry, Error, FileBlock, FileType, Flow, Ino, Result, to_u64, to_usize};

use crate::dir::data_block::{DataBlock, Entry, Layout};
use crate::dir::leaf_block::{LeafBlock, LeafEntry};
use crate::dir::name::{Likeness, NameRules};
use crate::dir::shortform::Shortform;
use crate::features::VersionBits;
use crate::fork::{Fork, find_extent, map_fork_block, read_fork_blocks};
use crate::hash_tree::HashTree;
use crate::inode::Inode;
use crate::volume::{BlockKind, Volume};

/// Bytes of each of the three spaces (`XFS_DIR2_SPACE_SIZE`).
const SPACE: u64 = 1 << 35;
const NAME_MAX: usize = 255;

/// The inode that `name` stands for in a directory.
///
/// # Errors
/// `Corrupt` where a structure on the way contradicts itself.
pub(crate) fn lookup(volume: &Volume, dir: &Inode, name: &[u8]) -> Result<Option<Ino>> {
    if name.is_empty() || name.len() > NAME_MAX {
        return Ok(None);
    }
    let found = match dir.data_fork() {
        Fork::Local(bytes) => lookup_short(volume, dir, bytes, name),
        fork => Blocks::new(volume, dir, fork).lookup(name),
    };
    found.map_err(|error| error.in_inode(dir.ino))
}

/// Gives the names of a directory from position `from` on.
///
/// A position is where an entry begins in the directory's data, in units of 8 bytes (`xfs_dir2_dataptr_t`), plus
/// one. So a position stays good whatever form the directory has, and no entry has position 0.
///
/// # Errors
/// `Corrupt` at the first structure or name that contradicts itself.
pub(crate) fn read(
    volume: &Volume,
    dir: &Inode,
    from: u64,
    visit: &mut dyn FnMut(DirEntry<'_>) -> Flow,
) -> Result<()> {
    let mut visit = |at: u64, entry: Entry<'_>| {
        name::check_name(entry.name)?;
        let next = at / 8 + 1;
        Ok(visit(DirEntry { name: entry.name, ino: entry.ino, file_type: entry.file_type, next }))
    };
    let from = from.saturating_mul(8);
    let result = match dir.data_fork() {
        Fork::Local(bytes) => read_short(volume, dir, bytes, from, &mut visit),
        fork => Blocks::new(volume, dir, fork).read(from, &mut visit),
    };
    result.map_err(|error| error.in_inode(dir.ino))
}

type Visit<'a> = dyn FnMut(u64, Entry<'_>) -> Result<Flow> + 'a;

fn rules(volume: &Volume) -> NameRules {
    NameRules { ignore_case: volume.geometry().version_bits.contains(VersionBits::BORG) }
}

fn lookup_short(volume: &Volume, dir: &Inode, bytes: &[u8], name: &[u8]) -> Result<Option<Ino>> {
    let short = Shortform::parse(volume.geometry(), bytes)?;
    match name {
        b"." => return Ok(Some(dir.ino)),
        b".." => return Ok(Some(short.parent)),
        _ => {}
    }
    let mut search = Search::new(rules(volume), name);
    for entry in short.entries() {
        if search.is_found(&entry?.1) {
            break;
        }
    }
    Ok(search.best)
}

fn read_short(volume: &Volume, dir: &Inode, bytes: &[u8], from: u64, visit: &mut Visit<'_>) -> Result<()> {
    let short = Shortform::parse(volume.geometry(), bytes)?;
    let layout = Layout::new(volume.geometry());
    let directory = |name, ino| Entry { name, ino, file_type: Some(FileType::Directory) };
    let own =
        [(layout.header, directory(&b"."[..], dir.ino)), (layout.dot_dot(), directory(b"..", short.parent))];
    for entry in own.into_iter().map(Ok).chain(short.entries()) {
        let (at, entry) = entry?;
        if u64::from(at) >= from && visit(u64::from(at), entry)?.is_break() {
            break;
        }
    }
    Ok(())
}

/// The best match for a name among the entries seen so far: on a volume that ignores case, a name that is
/// written the same goes before one that only differs in case.
struct Search<'a> {
    rules: NameRules,
    name: &'a [u8],
    best: Option<Ino>,
}

impl<'a> Search<'a> {
    fn new(rules: NameRules, name: &'a [u8]) -> Self {
        Self { rules, name, best: None }
    }

    /// Looks at an entry; answers whether no better one can come.
    fn is_found(&mut self, entry: &Entry<'_>) -> bool {
        match self.rules.compare(self.name, entry.name) {
            Likeness::Different => false,
            Likeness::ButForCase => {
                self.best.get_or_insert(entry.ino);
                false
            }
            Likeness::Same => {
                self.best = Some(entry.ino);
                true
            }
        }
    }
}

/// A directory that has blocks.
struct Blocks<'a> {
    volume: &'a Volume,
    dir: &'a Inode,
    fork: Fork<'a>,
    /// Bytes of a directory block.
    size: u64,
    /// File-system blocks in a directory block.
    count: u64,
}

impl<'a> Blocks<'a> {
    fn new(volume: &'a Volume, dir: &'a Inode, fork: Fork<'a>) -> Self {
        let geometry = volume.geometry();
        let size = u64::from(geometry.dir_block_size());
        Self { volume, dir, fork, size, count: 1 << geometry.dir_block_log }
    }

    /// The block of the fork where a space begins.
    fn space(&self, number: u64) -> FileBlock {
        FileBlock(number * SPACE / u64::from(self.volume.geometry().block_size))
    }

    /// Whether the directory has leaves apart from its data.
    fn has_leaves(&self) -> Result<bool> {
        Ok(map_fork_block(self.volume, self.dir, self.fork, self.space(1))?.is_some())
    }

    fn lookup(&self, name: &[u8]) -> Result<Option<Ino>> {
        let rules = rules(self.volume);
        let hash = rules.hash(name);
        let mut search = Search::new(rules, name);
        let Some(mut leaf) = self.tree().find_leaf(hash)? else {
            let block = self.whole()?;
            let data = DataBlock::parse(self.volume.geometry(), &block)?;
            let mut last = Some((0, Arc::clone(&block)));
            // No other leaf follows, whatever it answers.
            let _ = self.search_leaf(data.leaf().unwrap_or_default(), hash, &mut search, &mut last)?;
            return Ok(search.best);
        };
        let mut last = None;
        let first = leaf.at;
        loop {
            let parsed = LeafBlock::parse(self.volume, &leaf.block)?;
            if self.search_leaf(parsed.entries, hash, &mut search, &mut last)?.is_break() || parsed.single {
                return Ok(search.best);
            }
            match self.tree().next_leaf(&leaf, first)? {
                Some(next) => leaf = next,
                None => return Ok(search.best),
            }
        }
    }

    /// Looks at the names of a leaf that have this hash. Breaks unless the next leaf may have more of them.
    fn search_leaf(
        &self,
        entries: &[LeafEntry],
        hash: u32,
        search: &mut Search<'_>,
        last: &mut Option<(u64, Arc<[u8]>)>,
    ) -> Result<Flow> {
        for entry in leaf_block::at_or_after(entries, hash) {
            if entry.hashval.get() != hash {
                return Ok(Flow::Break(()));
            }
            let Some(byte) = entry.byte() else { continue };
            let (number, within) = (byte / self.size, to_usize(byte % self.size));
            let block = match last.take() {
                Some((held, block)) if held == number => block,
                _ => self.data(number)?.ok_or_else(|| {
                    Error::corrupt("directory leaf", format!("leads to data block {number} in a hole"))
                })?,
            };
            let found = search.is_found(&DataBlock::parse(self.volume.geometry(), &block)?.entry(within)?);
            *last = Some((number, block));
            if found {
                return Ok(Flow::Break(()));
            }
        }
        Ok(Flow::Continue(()))
    }

    fn read(&self, from: u64, visit: &mut Visit<'_>) -> Result<()> {
        if !self.has_leaves()? {
            let block = self.whole()?;
            return self.read_block(0, &block, from, visit).map(drop);
        }
        if from == 0 {
            self.check_free_index();
        }
        let mut number = from / self.size;
        // Every round takes a later block, and there are at most as many as the fork maps.
        while number < SPACE / self.size {
            let at = FileBlock(number * self.count);
            let Some(extent) = find_extent(self.volume, self.dir, self.fork, at)? else { break };
            if extent.file >= self.space(1) {
                break;
            }
            number = number.max(extent.file.0 / self.count);
            let block = self.data(number)?.ok_or_else(|| {
                Error::corrupt("directory block", format!("data block {number} begins in a hole"))
            })?;
            if self.read_block(number, &block, from, visit)?.is_break() {
                break;
            }
            number += 1;
        }
        Ok(())
    }

    fn read_block(&self, number: u64, block: &[u8], from: u64, visit: &mut Visit<'_>) -> Result<Flow> {
        let start = number * self.size;
        let within = to_usize(from.saturating_sub(start).min(self.size));
        for entry in DataBlock::parse(self.volume.geometry(), block)?.entries(within) {
            let (offset, entry) = entry?;
            if visit(start + to_u64(offset), entry)?.is_break() {
                return Ok(Flow::Break(()));
            }
        }
        Ok(Flow::Continue(()))
    }

    /// The tree whose leaves have the hashes. With one leaf, that is its root.
    fn tree(&self) -> HashTree<'_> {
        HashTree {
            volume: self.volume,
            inode: self.dir,
            fork: self.fork,
            root: self.space(1),
            blocks: self.count,
            kind: BlockKind::DirLeaf,
            verify_leaf: leaf_block::verify,
        }
    }

    /// The only block of a directory without leaves.
    fn whole(&self) -> Result<Arc<[u8]>> {
        let bad = |problem: &'static str| Err(Error::corrupt("directory block", problem));
        let Some(block) = self.verified(0)? else { return bad("there is none") };
        if DataBlock::parse(self.volume.geometry(), &block)?.leaf().is_none() {
            return bad("no hashes, neither in it nor elsewhere");
        }
        Ok(block)
    }

    /// Data block `number` of a directory with leaves; `None` where it is a hole.
    fn data(&self, number: u64) -> Result<Option<Arc<[u8]>>> {
        let block = self.verified(number)?;
        if let Some(block) = &block
            && DataBlock::parse(self.volume.geometry(), block)?.leaf().is_some()
        {
            return Err(Error::corrupt("directory block", "hashes in it, although there are leaves"));
        }
        Ok(block)
    }

    fn verified(&self, number: u64) -> Result<Option<Arc<[u8]>>> {
        let at = FileBlock(number * self.count);
        let verify = |block: &[u8], offset: u64| {
            data_block::verify(self.volume, self.dir, block, offset).map_err(|error| error.at(offset))
        };
        read_fork_blocks(self.volume, self.dir, self.fork, at, self.count, BlockKind::DirData, verify)
    }

    /// Checks the free index and tells of damage. Readers do not need it, so that damage does not stop them.
    fn check_free_index(&self) {
        let mut place = 0;
        loop {
            let at = FileBlock(self.space(2).0 + place * self.count);
            let verify = |block: &[u8], offset: u64| {
                free_index::verify(self.volume, self.dir, place, block, offset)
                    .map_err(|error| error.at(offset))
            };
            let kind = BlockKind::DirFree;
            match read_fork_blocks(self.volume, self.dir, self.fork, at, self.count, kind, verify) {
                Ok(Some(_)) => place += 1,
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(%error, "the volume has damage that reading does not touch");
                    break;
                }
            }
        }
    }
}
