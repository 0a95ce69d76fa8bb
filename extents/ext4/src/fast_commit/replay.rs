//! Applies changes in their order to what the volume was before them.

use extents_core::{Error, FileType, Ino, Result};
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout};

use super::FastCommits;
use super::names::{Added, NameChanges};
use super::tags::{Change, Name};
use crate::inode::{BLOCK_AREA, BLOCK_AREA_AT, Flags, RawInode};
use crate::layout::view;

/// The volume before its fast commits, as the recovered log left it.
pub(crate) struct Before<'a> {
    /// The bytes of an inode in the tables, sound or not; `None` where the number is out of range.
    pub(crate) inode: &'a dyn Fn(Ino) -> Result<Option<Vec<u8>>>,
    /// The inode that a name in a directory stands for.
    pub(crate) lookup: &'a Lookup<'a>,
}

/// Finds the inode of a name in a directory.
pub(crate) type Lookup<'a> = dyn Fn(Ino, &[u8]) -> Result<Option<Ino>> + 'a;

const MODE_AT: usize = std::mem::offset_of!(RawInode, mode);
const LINKS_AT: usize = std::mem::offset_of!(RawInode, links);
const FLAGS_AT: usize = std::mem::offset_of!(RawInode, flags);
const GENERATION_AT: usize = std::mem::offset_of!(RawInode, generation);

/// The header of an extent tree without extents, with room for four.
const EMPTY_ROOT: [u8; 12] = [0x0a, 0xf3, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0];

/// What changes make of the volume (`ext4_fc_replay` of the kernel, in its second pass).
pub(super) fn apply(changes: Vec<Change>, before: &Before<'_>) -> Result<FastCommits> {
    let mut replay = Replay { before, commits: FastCommits::default() };
    for change in changes {
        match change {
            Change::Inode(ino, bytes) => replay.inode(ino, &bytes)?,
            Change::AddRange(ino, run) => {
                if replay.is_in_use(ino)? {
                    replay.commits.ranges.entry(ino).or_default().map(run);
                }
            }
            Change::DelRange { ino, first, blocks } => {
                if replay.is_in_use(ino)? {
                    replay.commits.ranges.entry(ino).or_default().unmap(first, blocks);
                }
            }
            Change::Create(name) => replay.create(name)?,
            Change::Link(name) => {
                if replay.is_in_use(name.ino)? {
                    replay.link(name)?;
                }
            }
            Change::Unlink(name) => replay.unlink(&name)?,
        }
    }
    Ok(replay.commits)
}

struct Replay<'a> {
    before: &'a Before<'a>,
    commits: FastCommits,
}

impl Replay<'_> {
    /// The inode's bytes as they are by now, to be changed.
    fn current(&mut self, ino: Ino) -> Result<Option<&mut [u8]>> {
        if !self.commits.inodes.contains_key(&ino) {
            let Some(bytes) = (self.before.inode)(ino)? else { return Ok(None) };
            self.commits.inodes.insert(ino, bytes.into_boxed_slice());
        }
        Ok(self.commits.inodes.get_mut(&ino).map(|bytes| &mut **bytes))
    }

    /// A field of an inode as it is by now.
    fn field<T>(&self, ino: Ino, at: usize) -> Result<Option<T>>
    where
        T: FromBytes + KnownLayout + Immutable + zerocopy::Unaligned + Copy,
    {
        if let Some(bytes) = self.commits.inode(ino) {
            return Ok(view::<T>(bytes, at).copied());
        }
        let bytes = (self.before.inode)(ino)?;
        Ok(bytes.and_then(|bytes| view::<T>(&bytes, at).copied()))
    }

    /// What the kernel's `ext4_iget` would find; changes of other inodes are passed over.
    fn is_in_use(&self, ino: Ino) -> Result<bool> {
        Ok(self.links(ino)? != 0 && self.file_type(ino)?.is_some())
    }

    fn links(&self, ino: Ino) -> Result<u16> {
        Ok(self.field::<U16>(ino, LINKS_AT)?.map_or(0, U16::get))
    }

    fn set_links(&mut self, ino: Ino, links: u16) -> Result<()> {
        if let Some(bytes) = self.current(ino)?
            && let Some(field) = bytes.get_mut(LINKS_AT..LINKS_AT + 2)
        {
            field.copy_from_slice(&links.to_le_bytes());
        }
        Ok(())
    }

    fn file_type(&self, ino: Ino) -> Result<Option<FileType>> {
        Ok(self.field::<U16>(ino, MODE_AT)?.and_then(|mode| FileType::from_mode(mode.get())))
    }

    /// `ext4_fc_replay_inode`: all of the inode that the change holds, but not the extent tree, which the file's
    /// ranges are changed in by themselves.
    fn inode(&mut self, ino: Ino, new: &[u8]) -> Result<()> {
        let Some(old) = self.current(ino)? else {
            return Err(Error::corrupt("fast commit", "it changes an inode that the volume does not have")
                .in_inode(ino));
        };
        copy(old, new, 0..BLOCK_AREA_AT);
        copy(old, new, GENERATION_AT..new.len());
        let flags = Flags::from_bits_retain(view::<U32>(new, FLAGS_AT).map_or(0, |flags| flags.get()));
        let area = BLOCK_AREA_AT..BLOCK_AREA_AT + BLOCK_AREA;
        if !flags.contains(Flags::EXTENTS) {
            copy(old, new, area);
            self.commits.ranges.remove(&ino);
        } else if !old.get(area.clone()).is_some_and(|area| area.starts_with(&EMPTY_ROOT[..2])) {
            // No tree was there; the file's blocks come with changes of their own.
            if let Some(root) = old.get_mut(area).and_then(|area| area.get_mut(..EMPTY_ROOT.len())) {
                root.copy_from_slice(&EMPTY_ROOT);
            }
            self.commits.ranges.remove(&ino);
        }
        Ok(())
    }

    /// `ext4_fc_replay_create`. A new directory gets its own two names here, as its blocks are in no commit; the
    /// kernel leaves both link counts as if it were a file.
    fn create(&mut self, name: Name) -> Result<()> {
        let ino = name.ino;
        if !self.is_in_use(ino)? {
            return Err(Error::corrupt("fast commit", "it names an inode that is not in use").in_inode(ino));
        }
        if self.file_type(ino)? == Some(FileType::Directory) {
            self.commits.names.insert(ino, NameChanges::fresh(name.parent));
            self.commits.ranges.remove(&ino);
        }
        self.link(name)?;
        self.set_links(ino, 1)
    }

    /// `ext4_fc_replay_link_internal`: the name comes, unless there is one already.
    fn link(&mut self, Name { parent, ino, name }: Name) -> Result<()> {
        if self.file_type(parent)? != Some(FileType::Directory) || self.find(parent, &name)?.is_some() {
            return Ok(());
        }
        let file_type = self.file_type(ino)?;
        self.commits.names.entry(parent).or_default().add(Added { name, ino, file_type });
        let links = self.links(ino)?;
        self.set_links(ino, links.saturating_add(1))
    }

    /// `ext4_fc_replay_unlink`: the name goes where it is this inode's. Its links count one less either way.
    fn unlink(&mut self, Name { parent, ino, name }: &Name) -> Result<()> {
        if !self.is_in_use(*ino)? || !self.is_in_use(*parent)? {
            return Ok(());
        }
        match self.find(*parent, name)? {
            None => return Ok(()),
            Some(found) if found == *ino => self.commits.names.entry(*parent).or_default().remove(name),
            Some(_) => {}
        }
        let links = self.links(*ino)?;
        self.set_links(*ino, links.saturating_sub(1))
    }

    /// The inode that a name stands for by now.
    fn find(&self, dir: Ino, name: &[u8]) -> Result<Option<Ino>> {
        if let Some(changes) = self.commits.names(dir) {
            if let Some(ino) = changes.find(name) {
                return Ok(Some(ino));
            }
            if changes.fresh_parent().is_some() || changes.hides(name) {
                return Ok(None);
            }
        }
        (self.before.lookup)(dir, name)
    }
}

fn copy(to: &mut [u8], from: &[u8], range: std::ops::Range<usize>) {
    if let (Some(to), Some(from)) = (to.get_mut(range.clone()), from.get(range)) {
        to.copy_from_slice(from);
    }
}
