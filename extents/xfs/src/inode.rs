//! Inodes (`xfs_dinode`, versions 1 to 3).

mod raw;

use std::ops::Range;

use extents_core::{DeviceNumber, Error, FileType, Ino, InodeFlags, Metadata, Result, Timestamp};

use crate::fork::{Fork, ForkFormat};
use crate::geometry::Geometry;
use crate::inode::raw::{Flags, Flags2, RawInode};
use crate::inode_cluster::Slot;
use crate::timestamp;
use crate::volume::Volume;

const STRUCTURE: &str = "inode";

/// An inode that passed its checks: what it says, and the bytes of its forks.
#[derive(Debug, Clone)]
pub(crate) struct Inode {
    pub(crate) ino: Ino,
    pub(crate) mode: u16,
    pub(crate) file_type: FileType,
    pub(crate) size: u64,
    pub(crate) generation: u32,
    /// Extents of the data fork, as the inode counts them.
    pub(crate) data_extents: u64,
    /// Extents of the attribute fork.
    pub(crate) attr_extents: u64,
    data_format: Option<ForkFormat>,
    attr_format: Option<ForkFormat>,
    slot: Slot,
    /// Where in the inode's bytes the forks lie.
    data_fork: Range<usize>,
    attr_fork: Range<usize>,
}

/// Reads an inode and checks it.
///
/// # Errors
/// `NoSuchInode` where the number is out of range or the inode free.
pub(crate) fn read(volume: &Volume, ino: Ino) -> Result<Inode> {
    let slot = volume.inode_slot(ino)?;
    parse(volume.geometry(), ino, slot).map_err(|error| error.in_inode(ino))
}

fn bad<T>(problem: &'static str) -> Result<T> {
    Err(Error::corrupt(STRUCTURE, problem))
}

fn parse(geometry: &Geometry, ino: Ino, slot: Slot) -> Result<Inode> {
    let bytes = slot.bytes();
    let raw = RawInode::of(bytes)?;
    if raw.is_free() {
        return Err(Error::NoSuchInode(ino));
    }
    raw.check_identity(geometry, ino, bytes)?;
    let Some(file_type) = FileType::from_mode(raw.core.di_mode.get()) else {
        return bad("no valid file type");
    };
    let size = raw.core.di_size.get();
    if i64::try_from(size).is_err() {
        return bad("impossible size");
    }
    let (data_fork, attr_fork) = raw.fork_ranges(bytes.len())?;
    let (data_extents, attr_extents) = raw.extent_counts();
    let data_format = data_format(raw.core.di_format, file_type)?;
    let attr_format =
        if attr_fork.is_empty() { None } else { attr_format(raw.core.di_aformat, attr_extents)? };
    let (mode, generation) = (raw.core.di_mode.get(), raw.core.di_gen.get());
    let mut inode = Inode {
        ino,
        mode,
        file_type,
        size,
        generation,
        data_extents,
        attr_extents,
        data_format,
        attr_format,
        data_fork,
        attr_fork,
        slot,
    };
    inode.check_forks()?;
    Ok(inode)
}

/// `di_format`. `None` is a device, which has a number there.
fn data_format(format: u8, file_type: FileType) -> Result<Option<ForkFormat>> {
    use FileType::{Directory, Regular, Symlink};
    match (format, file_type) {
        (0, Regular | Directory | Symlink) => bad("a device number in place of contents"),
        (0, _) => Ok(None),
        (_, FileType::CharDevice | FileType::BlockDevice | FileType::Fifo | FileType::Socket) => {
            bad("a special file with contents")
        }
        (1, Regular) => bad("a regular file with its contents in the inode"),
        (1, _) => Ok(Some(ForkFormat::Local)),
        (2, _) => Ok(Some(ForkFormat::Extents)),
        (3, Regular | Directory) => Ok(Some(ForkFormat::Btree)),
        _ => bad("unknown format of the data fork"),
    }
}

/// `di_aformat`. A fork of extents without any is as good as none.
fn attr_format(format: u8, extents: u64) -> Result<Option<ForkFormat>> {
    match format {
        1 => Ok(Some(ForkFormat::Local)),
        2 if extents == 0 => Ok(None),
        2 => Ok(Some(ForkFormat::Extents)),
        3 => Ok(Some(ForkFormat::Btree)),
        _ => bad("unknown format of the attribute fork"),
    }
}

impl Inode {
    /// The data fork. Local ones are cut to the size of the file.
    pub(crate) fn data_fork(&self) -> Fork<'_> {
        match self.data_format {
            Some(format) => self.fork(format, &self.data_fork, self.data_extents),
            None => Fork::Local(&[]),
        }
    }

    /// The attribute fork, where there is one.
    pub(crate) fn attr_fork(&self) -> Option<Fork<'_>> {
        Some(self.fork(self.attr_format?, &self.attr_fork, self.attr_extents))
    }

    fn fork(&self, format: ForkFormat, place: &Range<usize>, extents: u64) -> Fork<'_> {
        Fork::new(format, self.slot.bytes().get(place.clone()).unwrap_or_default(), extents)
    }

    /// What was promised about the forks: local contents and lists of extents fit.
    fn check_forks(&mut self) -> Result<()> {
        let fits = |extents: u64, place: &Range<usize>| {
            usize::try_from(extents).is_ok_and(|extents| extents <= place.len() / 16)
        };
        if self.data_format == Some(ForkFormat::Local) {
            match usize::try_from(self.size).ok().filter(|&size| size <= self.data_fork.len()) {
                Some(size) => self.data_fork.end = self.data_fork.start + size,
                None => return bad("larger than the fork that holds its contents"),
            }
        }
        if self.data_format == Some(ForkFormat::Extents) && !fits(self.data_extents, &self.data_fork)
            || self.attr_format == Some(ForkFormat::Extents) && !fits(self.attr_extents, &self.attr_fork)
        {
            return bad("more extents than fit into the fork");
        }
        Ok(())
    }

    fn raw(&self) -> Result<RawInode<'_>> {
        RawInode::of(self.slot.bytes())
    }

    /// Whether blocks of this file may be shared with others.
    pub(crate) fn may_share_blocks(&self) -> Result<bool> {
        Ok(self.raw()?.flags2().contains(Flags2::REFLINK))
    }

    /// Whether the contents lie on the realtime device.
    pub(crate) fn is_realtime(&self) -> Result<bool> {
        Ok(self.file_type == FileType::Regular && self.raw()?.flags().contains(Flags::REALTIME))
    }

    /// What `stat` tells.
    pub(crate) fn metadata(&self, geometry: &Geometry) -> Result<Metadata> {
        let raw = self.raw()?;
        let core = raw.core;
        let bigtime = raw.flags2().contains(Flags2::BIGTIME);
        let time = |stored| timestamp::decode(stored, bigtime);
        let born: Option<Timestamp> = raw.v3.map(|v3| time(v3.di_crtime));
        Ok(Metadata {
            ino: self.ino,
            generation: self.generation,
            mode: self.mode,
            file_type: self.file_type,
            links: raw.links(),
            uid: core.di_uid.get(),
            gid: core.di_gid.get(),
            size: self.size,
            sectors: core.di_nblocks.get().saturating_mul(u64::from(geometry.block_size / 512)),
            accessed: time(core.di_atime),
            modified: time(core.di_mtime),
            changed: time(core.di_ctime),
            born,
            device: self.device(),
            flags: self.flags(&raw),
            project: raw.project(),
        })
    }

    /// The device number, in the encoding that IRIX had (`sysv_encode_dev`): 14 bits major, 18 bits minor.
    fn device(&self) -> DeviceNumber {
        if !matches!(self.file_type, FileType::CharDevice | FileType::BlockDevice) {
            return DeviceNumber::default();
        }
        let fork = self.slot.bytes().get(self.data_fork.clone()).unwrap_or_default();
        let number = fork.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        DeviceNumber { major: (number >> 18) & 0x3fff, minor: number & 0x3_ffff }
    }

    fn flags(&self, raw: &RawInode<'_>) -> InodeFlags {
        const MEANINGS: [(Flags, InodeFlags); 7] = [
            (Flags::REALTIME, InodeFlags::REALTIME),
            (Flags::IMMUTABLE, InodeFlags::IMMUTABLE),
            (Flags::APPEND, InodeFlags::APPEND),
            (Flags::SYNC, InodeFlags::SYNC),
            (Flags::NOATIME, InodeFlags::NO_ATIME),
            (Flags::NODUMP, InodeFlags::NO_DUMP),
            (Flags::PROJINHERIT, InodeFlags::PROJECT_INHERIT),
        ];
        let stored = raw.flags();
        MEANINGS
            .iter()
            .filter(|(bit, _)| stored.contains(*bit))
            .fold(InodeFlags::empty(), |all, (_, meaning)| all | *meaning)
    }
}
