//! Directories: reading them in order, and finding a name where no index helps.

use std::sync::Arc;

use extents_core::{CacheKey, DirEntry, Error, FileBlock, Flow, Ino, Result, to_u64, to_usize};
use smallvec::SmallVec;
use zerocopy::little_endian::U32;

use crate::dir_block::{self, Entries, Entry};
use crate::dirhash::{DirHash, hash};
use crate::extent_tree::BlockRun;
use crate::fast_commit::NameChanges;
use crate::features::Incompat;
use crate::inode::{BLOCK_AREA, Flags, Inode};
use crate::layout::view;
use crate::nokey;
use crate::sought::Sought;
use crate::volume::{Ext4, Kind};

/// Longest name (`EXT4_NAME_LEN`).
pub(crate) const NAME_MAX: usize = 255;

/// Within an inline directory the parent's number stands before the entries (`EXT4_INLINE_DOTDOT_SIZE`).
const INLINE_PARENT: usize = 4;
/// Positions in an inline directory: `.` and `..` are not stored, and come first.
const AFTER_DOT: u64 = 1;
const AFTER_DOTDOT: u64 = 2;
/// Positions of names that fast commits added begin behind those of any block.
const AFTER_STORED: u64 = 1 << 62;

/// Receives entries, each with the position after it.
type Visit<'a> = &'a mut dyn FnMut(Entry<'_>, u64) -> Result<Flow>;

impl Ext4 {
    /// The directory of this number.
    pub(crate) fn directory(&self, ino: Ino) -> Result<Inode> {
        let inode = self.inode(ino)?;
        if inode.is_directory() { Ok(inode) } else { Err(Error::NotADirectory(ino)) }
    }

    /// Gives the names of a directory from a position on.
    pub(crate) fn list(
        &self,
        dir: &Inode,
        from: u64,
        visit: &mut dyn FnMut(DirEntry<'_>) -> Flow,
    ) -> Result<()> {
        let types = self.geometry.features.has(Incompat::FILETYPE);
        let encrypted = dir.has(Flags::ENCRYPT);
        self.each_entry(dir, from, &mut |entry, next| {
            let ino = Ino(u64::from(entry.ino));
            let file_type = if types { entry.file_type() } else { None };
            if !encrypted {
                return Ok(visit(DirEntry { name: entry.name, ino, file_type, next }));
            }
            let Some(name) = nokey::encode(entry.name, self.shown_hash(dir, &entry)) else {
                let error = Error::corrupt("directory block", "an encrypted name is too short to be one");
                return Err(error.in_inode(dir.ino));
            };
            Ok(visit(DirEntry { name: &name, ino, file_type, next }))
        })
    }

    /// The hash within the name that is shown for an encrypted one: the kernel computes it where it walks a
    /// directory by hash (`is_dx_dir`), and otherwise uses none.
    fn shown_hash(&self, dir: &Inode, entry: &Entry<'_>) -> DirHash {
        if dir.has(Flags::CASEFOLD) {
            return entry.stored_hash();
        }
        let by_hash = self.geometry.has_dir_index()
            && (dir.has(Flags::INDEX)
                || dir.has(Flags::INLINE_DATA)
                || dir.length >> self.geometry.block_bits == 1);
        match self.geometry.default_hash {
            Some(version) if by_hash => {
                let version = self.indexed_version(dir).unwrap_or(version);
                hash(entry.name, version, &self.geometry.hash_seed)
            }
            _ => DirHash::default(),
        }
    }

    /// Finds a name by looking at every entry.
    pub(crate) fn find_linearly(&self, dir: &Inode, sought: &Sought<'_>) -> Result<Option<Ino>> {
        let mut found = None;
        self.each_entry(dir, 0, &mut |entry, _| {
            if sought.matches(entry.name) {
                found = Some(Ino(u64::from(entry.ino)));
                return Ok(Flow::Break(()));
            }
            Ok(Flow::Continue(()))
        })?;
        Ok(found)
    }

    /// The parent that a directory names.
    pub(crate) fn find_parent(&self, dir: &Inode) -> Result<Option<Ino>> {
        if let Some(parent) = self.fast_commits.names(dir.ino).and_then(NameChanges::fresh_parent) {
            return Ok(Some(parent));
        }
        if dir.has(Flags::INLINE_DATA) {
            return Ok(Some(self.inline_parent(dir)?));
        }
        let Some(block) = self.dir_block(dir, 0)? else { return Ok(None) };
        let parent = Entries::new(&block).find(|entry| entry.name == b"..");
        Ok(parent.map(|entry| Ino(u64::from(entry.ino))))
    }

    fn each_entry(&self, dir: &Inode, from: u64, visit: Visit<'_>) -> Result<()> {
        let Some(changes) = self.fast_commits.names(dir.ino) else {
            return self.each_stored_entry(dir, from, visit);
        };
        let mut flow = Flow::Continue(());
        let mut remaining = |entry: Entry<'_>, next| {
            if !changes.hides(entry.name) {
                flow = visit(entry, next)?;
            }
            Ok(flow)
        };
        match changes.fresh_parent() {
            Some(parent) => {
                for (name, ino, next) in [(&b"."[..], dir.ino, AFTER_DOT), (b"..", parent, AFTER_DOTDOT)] {
                    let ino = u32::try_from(ino.0).unwrap_or_default();
                    if next > from && remaining(Entry::made_up(name, ino), next)?.is_break() {
                        break;
                    }
                }
            }
            None => self.each_stored_entry(dir, from, &mut remaining)?,
        }
        for (added, next) in changes.added().iter().zip(AFTER_STORED..) {
            if flow.is_break() {
                break;
            }
            if next > from {
                let ino = u32::try_from(added.ino.0).unwrap_or_default();
                flow = visit(Entry::of_type(&added.name, ino, added.file_type), next)?;
            }
        }
        Ok(())
    }

    fn each_stored_entry(&self, dir: &Inode, from: u64, visit: Visit<'_>) -> Result<()> {
        if dir.has(Flags::INLINE_DATA) {
            return self.each_inline_entry(dir, from, visit);
        }
        for run in self.dir_runs(dir)? {
            let first = run.logical.0.max(from >> self.geometry.block_bits);
            for block in first..run.logical.0 + run.blocks {
                let Some(bytes) = self.dir_block(dir, block)? else { continue };
                let start = block << self.geometry.block_bits;
                for entry in Entries::new(&bytes) {
                    let next = start + to_u64(entry.end);
                    if next > from && visit(entry, next)?.is_break() {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// The runs of a directory's blocks up to its size. A directory cannot have more blocks than the volume, so
    /// one that maps the same blocks over and over is refused here.
    fn dir_runs(&self, dir: &Inode) -> Result<SmallVec<[BlockRun; 4]>> {
        let blocks = dir.length.div_ceil(u64::from(self.geometry.block_size));
        let mut runs = SmallVec::new();
        let mut total = 0_u64;
        self.walk_runs(dir, blocks, &mut |mut run: BlockRun| {
            run.blocks = run.blocks.min(blocks.saturating_sub(run.logical.0));
            if run.blocks > 0 && !run.unwritten {
                total = total.saturating_add(run.blocks);
                runs.push(run);
            }
            if total > self.geometry.blocks {
                return Err(Error::corrupt("directory", "it has more blocks than the volume"));
            }
            Ok(())
        })
        .map_err(|error| error.in_inode(dir.ino))?;
        Ok(runs)
    }

    /// A verified block of a directory, to read names from; `None` where the directory has a hole.
    ///
    /// Blocks of the index are not held to their checksum here: they hold no names of files, and a directory
    /// whose index is broken can be read all the same.
    pub(crate) fn dir_block(&self, dir: &Inode, block: u64) -> Result<Option<Arc<[u8]>>> {
        let Some(place) = self.find_block(dir, FileBlock(block))? else { return Ok(None) };
        let Some(at) = self.geometry.byte_of(place) else {
            return Err(
                Error::corrupt("directory", "a block lies past the end of the volume").in_inode(dir.ino)
            );
        };
        let indexed = dir.has(Flags::INDEX) && self.geometry.has_dir_index();
        let kind = if indexed && block == 0 { Kind::DirRoot } else { Kind::DirBlock };
        let key = CacheKey { offset: at, kind: kind.number(), owner: dir.ino.0 };
        let bytes = self.cache.get_or_load(key, || {
            let bytes = self.media.read_vec(at, self.geometry.block_len())?;
            let of_index = indexed && (block == 0 || dir_block::fills_block(&bytes));
            let checked = if self.geometry.checksums && !of_index {
                dir_block::verify_checksum(&bytes, dir.seed(&self.geometry))
            } else {
                Ok(())
            };
            checked
                .and_then(|()| dir_block::verify(&bytes, self.geometry.inodes, dir.has(Flags::ENCRYPT)))
                .map_err(|error| error.in_inode(dir.ino).at(at))?;
            Ok(bytes.into())
        })?;
        Ok(Some(bytes))
    }

    fn inline_parent(&self, dir: &Inode) -> Result<Ino> {
        let parent: Option<&U32> = view(dir.block_area(), 0);
        match parent.map(|parent| u64::from(parent.get())) {
            Some(parent) if parent != 0 && parent <= self.geometry.inodes => Ok(Ino(parent)),
            _ => Err(dir.corrupt("its parent is out of range")),
        }
    }

    /// The entries of a directory within its inode: two lists, one in `i_block`, one in `system.data`.
    fn each_inline_entry(&self, dir: &Inode, from: u64, visit: Visit<'_>) -> Result<()> {
        let own = u32::try_from(dir.ino.0).unwrap_or_default();
        let parent = u32::try_from(self.inline_parent(dir)?.0).unwrap_or_default();
        for (name, ino, next) in [(&b"."[..], own, AFTER_DOT), (b"..", parent, AFTER_DOTDOT)] {
            if next > from && visit(Entry::made_up(name, ino), next)?.is_break() {
                return Ok(());
            }
        }
        let value = self.inline_data_value(dir)?.unwrap_or_default();
        let area = dir.block_area().get(INLINE_PARENT..).unwrap_or_default();
        for (list, start) in [(area, INLINE_PARENT), (value, BLOCK_AREA)] {
            let left = to_usize(dir.length).saturating_sub(start);
            let Some(list) = list.get(..left.min(list.len())) else { continue };
            dir_block::verify(list, self.geometry.inodes, dir.has(Flags::ENCRYPT))
                .map_err(|error| error.in_inode(dir.ino).at(dir.at))?;
            for entry in Entries::new(list) {
                let next = AFTER_DOTDOT + to_u64(start + entry.end);
                if next > from && visit(entry, next)?.is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
