//! Files that programs have open.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{FallocateFlags, OFlags, SeekFrom, fallocate, fdatasync, fsync, seek};
use rustix::io::{Errno, pread, pwrite};

use crate::contents::{ReadGuard, State};
use crate::sys::identity::{Assumed, Identity};
use crate::sys::{cached, ioctls, writers};
use crate::{Lower, Result, placement, stat_of};

/// One open of a file.
#[derive(Debug)]
pub struct OpenFile {
    ino: u64,
    file: OwnedFd,
    writable: bool,
    state: Arc<State>,
}

/// A request that is passed on (include/uapi/linux/fs.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileIoctl(pub u32);

impl FileIoctl {
    /// `FS_IOC_GETFLAGS`.
    pub const GET_FLAGS: Self = Self(0x8008_6601);
    /// `FS_IOC_SETFLAGS`.
    pub const SET_FLAGS: Self = Self(0x4008_6602);
    /// `FS_IOC_FSGETXATTR`.
    pub const GET_EXTENDED: Self = Self(0x801c_581f);
    /// `FS_IOC_FSSETXATTR`.
    pub const SET_EXTENDED: Self = Self(0x401c_5820);
    /// `FS_IOC_GETVERSION`.
    pub const GET_VERSION: Self = Self(0x8008_7601);
    /// `FS_IOC_GETFSLABEL`.
    pub const GET_LABEL: Self = Self(0x8100_9431);
    /// `FS_IOC_SETFSLABEL`.
    pub const SET_LABEL: Self = Self(0x4100_9432);
    /// `FITRIM`.
    pub const TRIM: Self = Self(0xc018_5879);
    /// `FS_IOC_SHUTDOWN`.
    pub const SHUTDOWN: Self = Self(0x8004_587d);
    /// All that are passed on.
    pub const ALL: [Self; 9] = [
        Self::GET_FLAGS,
        Self::SET_FLAGS,
        Self::GET_EXTENDED,
        Self::SET_EXTENDED,
        Self::GET_VERSION,
        Self::GET_LABEL,
        Self::SET_LABEL,
        Self::TRIM,
        Self::SHUTDOWN,
    ];
}

/// Passes a request on.
pub(crate) fn ioctl(file: impl AsFd, request: u32, argument: &mut [u8]) -> Result<i32> {
    if !FileIoctl::ALL.contains(&FileIoctl(request)) {
        return Err(Errno::NOTTY);
    }
    // The numbers of the flags say `long`, and all drivers move an `int`.
    ioctls::plain(file, request, argument)
}

impl Lower {
    /// Opens a file; `flags` are those of `open(2)`.
    ///
    /// # Errors
    /// What the kernel's driver says.
    pub fn open(&self, ino: u64, flags: i32) -> Result<OpenFile> {
        let appends = OFlags::from_bits_retain(flags.cast_unsigned()) & OFlags::APPEND;
        let flags = OpenFile::flags(flags);
        let writable = flags.intersects(OFlags::WRONLY | OFlags::RDWR);
        // Before anybody has it: else a map could be taken between the two.
        let state = self.contents.opened(ino, writable);
        let file = match self.reopen(ino, flags) {
            // A file that may only grow.
            Err(Errno::PERM) if !appends.is_empty() => self.reopen(ino, flags | appends),
            opened => opened,
        };
        match file {
            Ok(file) => Ok(OpenFile { ino, file, writable, state }),
            Err(error) => {
                self.contents.closed(ino, writable);
                Err(error)
            }
        }
    }

    pub(crate) fn opened(&self, ino: u64, file: OwnedFd, flags: OFlags) -> OpenFile {
        let writable = flags.intersects(OFlags::WRONLY | OFlags::RDWR);
        OpenFile { ino, file, writable, state: self.contents.opened(ino, writable) }
    }

    /// Closes a file.
    pub fn close(&self, open: &OpenFile) {
        self.closed(open.ino, open.writable);
    }

    /// Notes that a file is closed, which was [open for writing](OpenFile::is_writable) or not.
    pub fn closed(&self, ino: u64, writable: bool) {
        self.contents.closed(ino, writable);
    }

    /// A descriptor by which an open file is told to the kernel, which opens it anew for each open. It is read-only, so that
    /// it does not look as if somebody were writing as long as anybody reads.
    ///
    /// # Errors
    /// What the kernel's driver says.
    pub fn backing(&self, open: &OpenFile) -> Result<Option<OwnedFd>> {
        if open.writable {
            self.reopen(open.ino, OFlags::RDONLY | OFlags::CLOEXEC).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Changes which bytes of a file have a place; `mode` is that of `fallocate(2)`.
    ///
    /// # Errors
    /// What the kernel's driver says.
    pub fn allocate(
        &self,
        open: &OpenFile,
        mode: i32,
        offset: u64,
        length: u64,
        who: &Identity,
    ) -> Result<()> {
        let _alone = self.contents.change(open.ino);
        let _acting = Assumed::new(who);
        let mode = FallocateFlags::from_bits_retain(mode.cast_unsigned());
        fallocate(&open.file, mode, offset, length)
    }

    /// Copies bytes between files of the volume; how many.
    ///
    /// # Errors
    /// What the kernel's driver says.
    pub fn copy(
        &self,
        (from, mut from_offset): (&OpenFile, u64),
        (to, mut to_offset): (&OpenFile, u64),
        length: u64,
        who: &Identity,
    ) -> Result<usize> {
        let _alone = self.contents.change(to.ino);
        let _acting = Assumed::new(who);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        rustix::fs::copy_file_range(
            &from.file,
            Some(&mut from_offset),
            &to.file,
            Some(&mut to_offset),
            length,
        )
    }
}

impl OpenFile {
    /// The flags by which a file is opened below: what is made, and whether it is cut off, happened before; and reading
    /// and writing by the daemon has no aligned memory to offer.
    pub(crate) fn flags(flags: i32) -> OFlags {
        let flags = OFlags::from_bits_retain(flags.cast_unsigned());
        let kept = flags
            - (OFlags::CREATE
                | OFlags::EXCL
                | OFlags::TRUNC
                | OFlags::NOCTTY
                | OFlags::DIRECT
                | OFlags::APPEND);
        kept | OFlags::CLOEXEC | OFlags::NOFOLLOW
    }

    /// The inode number.
    #[must_use]
    pub fn ino(&self) -> u64 {
        self.ino
    }

    /// The file below.
    #[must_use]
    pub fn file(&self) -> &OwnedFd {
        &self.file
    }

    /// Whether it may be written.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// What is known of the file's contents.
    #[must_use]
    pub fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// Leave to read the media directly, while the file is clean. Whoever has it mapped for writing keeps it from being so,
    /// also after closing it.
    ///
    /// # Errors
    /// Where the kernel's driver does not say where the bytes lie.
    pub fn read_media(&self, volume_size: u64) -> Result<Option<ReadGuard>> {
        self.state.read(|| {
            if writers::may_be_written(&self.file) {
                return Ok(None);
            }
            let size = stat_of(&self.file)?.stx_size;
            let map = placement::map(&self.file, size, 0, volume_size)?;
            Ok(Some((map, cached::cached_pages(&self.file) > 0)))
        })
    }

    /// Whether the page cache has all bytes of a range.
    #[must_use]
    pub fn is_cached(&self, offset: u64, length: u64) -> bool {
        cached::is_cached(&self.file, offset, length)
    }

    /// Whether the page cache has half of the file or more.
    #[must_use]
    pub fn is_mostly_cached(&self) -> bool {
        let pages = stat_of(&self.file).map_or(0, |stat| stat.stx_size.div_ceil(4096));
        pages > 0 && cached::cached_pages(&self.file) * 2 >= pages
    }

    /// Reads through the kernel's driver; fewer bytes than asked only at the end.
    ///
    /// # Errors
    /// What the kernel's driver says.
    pub fn read(&self, offset: u64, target: &mut [u8]) -> Result<usize> {
        let mut read = 0;
        while let Some(rest) = target.get_mut(read..).filter(|rest| !rest.is_empty()) {
            let at = offset.checked_add(extents_core::to_u64(read)).ok_or(Errno::INVAL)?;
            match pread(&self.file, rest, at) {
                Ok(0) => break,
                Ok(length) => read += length,
                Err(Errno::INTR) => {}
                Err(error) if read == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(read)
    }

    /// Writes through the kernel's driver; how many bytes.
    ///
    /// # Errors
    /// What the kernel's driver says.
    pub fn write(&self, offset: u64, bytes: &[u8], who: &Identity) -> Result<usize> {
        let _acting = Assumed::new(who);
        let mut written = 0;
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            let at = offset.checked_add(extents_core::to_u64(written)).ok_or(Errno::INVAL)?;
            match pwrite(&self.file, rest, at) {
                Ok(0) => break,
                Ok(length) => written += length,
                Err(Errno::INTR) => {}
                Err(error) if written == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(written)
    }

    /// Makes the file durable.
    ///
    /// # Errors
    /// What the kernel's driver says.
    pub fn sync(&self, only_data: bool) -> Result<()> {
        if only_data { fdatasync(&self.file) } else { fsync(&self.file) }
    }

    /// Finds the next data or hole.
    ///
    /// # Errors
    /// `ENXIO` past the end.
    pub fn seek(&self, from: SeekFrom) -> Result<u64> {
        seek(&self.file, from)
    }

    /// Carries out a request that `FUSE_IOCTL` brought; `argument` has the size that the request's number says.
    ///
    /// # Errors
    /// `ENOTTY` for those that are not passed on; else what the kernel's driver says.
    pub fn ioctl(&self, request: u32, argument: &mut [u8]) -> Result<i32> {
        ioctl(&self.file, request, argument)
    }
}
