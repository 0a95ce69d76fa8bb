//! What is told of a file beside its contents: owner, mode, times, size, extended attributes.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{
    AtFlags, Gid, Mode, StatVfs, Statx, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid, XattrFlags, chmod,
    chownat, fstatvfs, getxattr, listxattr, removexattr, setxattr, utimensat,
};
use rustix::io::Errno;

use crate::contents::GrowthGuard;
use crate::open_files::OpenFile;
use crate::sys::identity::{Assumed, Identity};
use crate::{Lower, Result, proc_path, stat_of};

/// A time to be set.
#[derive(Debug, Clone, Copy)]
pub enum Moment {
    /// The time it is.
    Now,
    /// Seconds since 1970 and nanoseconds.
    At(i64, u32),
}

/// What is to be changed about a file.
#[derive(Debug, Clone, Copy, Default)]
pub struct Change {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Size in bytes.
    pub size: Option<u64>,
    /// Last access.
    pub accessed: Option<Moment>,
    /// Last change of contents.
    pub modified: Option<Moment>,
}

fn timespec(moment: Option<Moment>) -> Timespec {
    match moment {
        None => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        Some(Moment::Now) => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        Some(Moment::At(seconds, nanoseconds)) => Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() },
    }
}

impl Lower {
    /// Changes attributes; what `stat` tells then. Permissions were checked by the kernel's FUSE.
    ///
    /// # Errors
    /// What the kernel's driver says.
    pub fn change(
        &self,
        ino: u64,
        change: &Change,
        open: Option<&OpenFile>,
        who: &Identity,
    ) -> Result<Statx> {
        let file = self.path(ino)?;
        let path = proc_path(&file);
        if let Some(mode) = change.mode {
            chmod(&path, Mode::from_raw_mode(mode))?;
        }
        if change.uid.is_some() || change.gid.is_some() {
            let (uid, gid) = (change.uid.map(Uid::from_raw), change.gid.map(Gid::from_raw));
            chownat(&file, c"", uid, gid, AtFlags::EMPTY_PATH)?;
        }
        if let Some(size) = change.size {
            let _announced = if size >= stat_of(&file)?.stx_size {
                self.contents.grow(ino)?
            } else {
                GrowthGuard::Changes(self.contents.change(ino)?)
            };
            let _acting = Assumed::new(who);
            match open {
                Some(open) if open.is_writable() => rustix::fs::ftruncate(open.file(), size)?,
                _ => {
                    let file = self.reopen(ino, rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::NONBLOCK)?;
                    rustix::fs::ftruncate(&file, size)?;
                }
            }
        }
        if change.accessed.is_some() || change.modified.is_some() {
            let times = Timestamps {
                last_access: timespec(change.accessed),
                last_modification: timespec(change.modified),
            };
            utimensat(&file, c"", &times, AtFlags::EMPTY_PATH)?;
        }
        stat_of(&file)
    }

    /// Space on the volume; of a directory with a project quota, within that (`ext4_statfs_project`, `xfs_qm_statvfs`).
    ///
    /// # Errors
    /// What the kernel's driver says.
    pub fn usage(&self, ino: u64) -> Result<StatVfs> {
        fstatvfs(self.path(ino)?)
    }

    /// The value of an extended attribute.
    ///
    /// # Errors
    /// `ENODATA` where there is none of this name.
    pub fn attribute(&self, ino: u64, name: &OsStr) -> Result<Vec<u8>> {
        let file = self.path(ino)?;
        let (path, name) = (proc_path(&file), attribute_name(name)?);
        let mut value = vec![0; 256];
        loop {
            match getxattr(&path, &*name, &mut value) {
                Ok(length) => {
                    value.truncate(length);
                    return Ok(value);
                }
                // The kernel has none that is longer.
                Err(Errno::RANGE) if value.len() < 1 << 16 => value.resize(1 << 16, 0),
                Err(error) => return Err(error),
            }
        }
    }

    /// The names of all extended attributes, each ended by NUL.
    ///
    /// # Errors
    /// What the kernel's driver says.
    pub fn attribute_names(&self, ino: u64) -> Result<Vec<u8>> {
        let file = self.path(ino)?;
        let mut names = vec![0; 1 << 16];
        let length = listxattr(proc_path(&file), &mut names)?;
        names.truncate(length);
        Ok(names)
    }

    /// Sets an extended attribute; `flags` are those of `setxattr(2)`. An ACL takes the set-group-ID bit away from files of
    /// groups that the caller is not in: `clears_sgid` says whether it does, and where it does not say, the caller's groups do.
    ///
    /// # Errors
    /// What the kernel's driver says.
    pub fn set_attribute(
        &self,
        ino: u64,
        name: &OsStr,
        value: &[u8],
        flags: u32,
        clears_sgid: Option<bool>,
        who: &Identity,
    ) -> Result<()> {
        let file = self.path(ino)?;
        let _acting = match clears_sgid {
            _ if name != "system.posix_acl_access" => None,
            None => Some(Assumed::with_groups(who)),
            Some(true) => Some(Assumed::for_writers(who)),
            Some(false) => None,
        };
        let name = attribute_name(name)?;
        setxattr(proc_path(&file), &*name, value, XattrFlags::from_bits_retain(flags))
    }

    /// Removes an extended attribute.
    ///
    /// # Errors
    /// `ENODATA` where there is none of this name.
    pub fn remove_attribute(&self, ino: u64, name: &OsStr) -> Result<()> {
        let file = self.path(ino)?;
        removexattr(proc_path(&file), &*attribute_name(name)?)
    }
}

fn attribute_name(name: &OsStr) -> Result<CString> {
    CString::new(name.as_bytes()).map_err(|_| Errno::INVAL)
}
