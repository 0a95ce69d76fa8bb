//! The lower mount as a volume that is read by inode number, so that what serves read-only mounts serves this one, too:
//! attributes of ours, handles, clients, the control file.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use extents_core::{
    DeviceNumber, DirEntry, Error, Extent, ExtentMap, FileSystem, FileType, Flow, Ino, InodeFlags, Metadata,
    Overlay, ReadError, SpaceUsage, Timestamp, VolumeInfo, Xattr, XattrNamespace,
};
use rustix::fs::{OFlags, Statx, StatxTimestamp};
use rustix::io::Errno;

use crate::Lower;
use crate::open_files::generation;
use crate::sys::handles::KernelHandle;
use crate::sys::writers::may_be_written;

/// A volume that the kernel's driver reads and writes meanwhile.
pub struct LowerVolume {
    lower: Arc<Lower>,
    info: VolumeInfo,
}

impl std::fmt::Debug for LowerVolume {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LowerVolume").field("lower", &self.lower).finish_non_exhaustive()
    }
}

impl LowerVolume {
    /// `info` is what the volume's superblock says.
    #[must_use]
    pub fn new(lower: Arc<Lower>, info: VolumeInfo) -> Self {
        Self { lower, info }
    }
}

fn error(ino: Ino, errno: Errno) -> Error {
    match errno {
        Errno::STALE | Errno::NOENT => Error::NoSuchInode(ino),
        Errno::NOTDIR => Error::NotADirectory(ino),
        other => Error::Read(ReadError { offset: 0, length: 0, errno: other.raw_os_error() }),
    }
}

fn time(time: &StatxTimestamp) -> Timestamp {
    Timestamp { seconds: time.tv_sec, nanoseconds: time.tv_nsec }
}

fn file_type(mode: u16) -> Option<FileType> {
    Some(match rustix::fs::FileType::from_raw_mode(mode.into()) {
        rustix::fs::FileType::RegularFile => FileType::Regular,
        rustix::fs::FileType::Directory => FileType::Directory,
        rustix::fs::FileType::Symlink => FileType::Symlink,
        rustix::fs::FileType::CharacterDevice => FileType::CharDevice,
        rustix::fs::FileType::BlockDevice => FileType::BlockDevice,
        rustix::fs::FileType::Fifo => FileType::Fifo,
        rustix::fs::FileType::Socket => FileType::Socket,
        rustix::fs::FileType::Unknown => return None,
    })
}

fn metadata(stat: &Statx, generation: u64) -> Result<Metadata, Error> {
    let file_type = file_type(stat.stx_mode).ok_or_else(|| Error::corrupt("inode", "it has no type"))?;
    // STATX_ATTR_ENCRYPTED (include/uapi/linux/stat.h).
    let encrypted = stat.stx_attributes.bits() & 0x800 != 0;
    Ok(Metadata {
        ino: Ino(stat.stx_ino),
        generation: u32::try_from(generation).unwrap_or(u32::MAX),
        mode: stat.stx_mode,
        file_type,
        links: stat.stx_nlink,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        size: stat.stx_size,
        sectors: stat.stx_blocks,
        accessed: time(&stat.stx_atime),
        modified: time(&stat.stx_mtime),
        changed: time(&stat.stx_ctime),
        born: Some(time(&stat.stx_btime)),
        device: DeviceNumber { major: stat.stx_rdev_major, minor: stat.stx_rdev_minor },
        flags: if encrypted { InodeFlags::ENCRYPTED } else { InodeFlags::empty() },
        project: 0,
    })
}

impl FileSystem for LowerVolume {
    fn info(&self) -> &VolumeInfo {
        &self.info
    }

    fn root(&self) -> Ino {
        Ino(self.lower.root())
    }

    fn metadata(&self, ino: Ino) -> Result<Metadata, Error> {
        let read = || {
            let node = self.lower.path(ino.0)?;
            Ok((crate::stat_of(&node)?, KernelHandle::of(&node)?.generation()))
        };
        let (stat, generation) = read().map_err(|errno| error(ino, errno))?;
        metadata(&stat, generation)
    }

    fn lookup(&self, dir: Ino, name: &[u8]) -> Result<Option<Ino>, Error> {
        match self.lower.lookup(dir.0, OsStr::from_bytes(name)) {
            Ok(found) => {
                // Whoever asks for it next finds it by its number.
                self.lower.forget(found.ino, 1);
                Ok(Some(Ino(found.ino)))
            }
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(error(dir, errno)),
        }
    }

    fn read_dir(
        &self,
        dir: Ino,
        from: u64,
        visit: &mut dyn FnMut(DirEntry<'_>) -> Flow,
    ) -> Result<(), Error> {
        let failed = |errno| error(dir, errno);
        let open = self.lower.open_directory(dir.0).map_err(failed)?;
        let listed = open.list(from, |entry| {
            let file_type = file_type(u16::try_from(entry.kind.as_raw_mode()).unwrap_or(0));
            let entry = DirEntry { name: entry.name, ino: Ino(entry.ino), file_type, next: entry.next };
            visit(entry).is_continue()
        });
        listed.map_err(failed)
    }

    fn read_link(&self, ino: Ino) -> Result<Vec<u8>, Error> {
        self.lower.read_link(ino.0).map_err(|errno| match errno {
            Errno::INVAL => Error::NotASymlink(ino),
            other => error(ino, other),
        })
    }

    fn extents(&self, ino: Ino) -> Result<ExtentMap, Error> {
        self.inspect(ino).map(|(_, map)| map)
    }

    fn inspect(&self, ino: Ino) -> Result<(Metadata, ExtentMap), Error> {
        let metadata = self.metadata(ino)?;
        if !metadata.is_regular() {
            return Ok((metadata, ExtentMap::default()));
        }
        let read = || {
            let file = self.lower.reopen(ino.0, OFlags::RDONLY | OFlags::NONBLOCK)?;
            let changes = self.lower.contents().changes(ino.0, may_be_written(&file));
            let generation = generation(metadata.generation.into(), changes);
            let map = || crate::placement::map(&file, metadata.size, generation, self.info.size);
            // Who writes meanwhile makes it out of date before it is there, but seldom many times in a row.
            let mut tries = (0..8).map(|_| map()).skip_while(|map| matches!(map, Err(Errno::AGAIN)));
            tries.next().unwrap_or(Err(Errno::AGAIN))
        };
        Ok((metadata, read().map_err(|errno| error(ino, errno))?))
    }

    fn read_special(&self, ino: Ino, _extent: &Extent, offset: u64, buf: &mut [u8]) -> Result<(), Error> {
        let failed = |errno| error(ino, errno);
        let file = self.lower.open(ino.0, libc::O_RDONLY, false).map_err(failed)?;
        let read = file.read(offset, buf);
        self.lower.close(&file);
        let read = read.map_err(failed)?;
        if let Some(rest) = buf.get_mut(read..) {
            rest.fill(0);
        }
        Ok(())
    }

    fn xattr(&self, ino: Ino, namespace: XattrNamespace, name: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let mut full = namespace.prefix().as_bytes().to_vec();
        full.extend_from_slice(name);
        match self.lower.attribute(ino.0, OsStr::from_bytes(&full)) {
            Ok(value) => Ok(Some(value)),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
            Err(errno) => Err(error(ino, errno)),
        }
    }

    fn xattrs(&self, ino: Ino, visit: &mut dyn FnMut(Xattr<'_>) -> Flow) -> Result<(), Error> {
        let names = self.lower.attribute_names(ino.0).map_err(|errno| error(ino, errno))?;
        for full in names.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
            if let Some((namespace, name)) = XattrNamespace::split(full)
                && visit(Xattr { namespace, name }).is_break()
            {
                break;
            }
        }
        Ok(())
    }

    fn usage(&self) -> Result<SpaceUsage, Error> {
        let usage = self.lower.usage(self.lower.root()).map_err(|errno| error(self.root(), errno))?;
        Ok(SpaceUsage {
            block_size: u32::try_from(usage.f_frsize).unwrap_or(4096),
            blocks: usage.f_blocks,
            free: usage.f_bfree,
            available: usage.f_bavail,
            files: usage.f_files,
            files_free: usage.f_ffree,
            name_max: u32::try_from(usage.f_namemax).unwrap_or(255),
        })
    }

    fn overlay(&self) -> Option<&Overlay> {
        None
    }

    fn cache_usage(&self) -> (u64, u64) {
        (0, 0)
    }
}
