//! Files that programs have open.

use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{FallocateFlags, OFlags, SeekFrom, fallocate, fdatasync, fsync, seek};
use rustix::io::{Errno, ReadWriteFlags, pread, pwrite, pwritev2};

use crate::contents::{Access, GrowthGuard, Loaded, ReadGuard, State};
use crate::nodes::OpenNode;
use crate::sys::identity::{Assumed, Identity};
use crate::sys::{cached, ioctls, writers};
use crate::{Lower, Result, placement, stat_of};

/// One open of a file.
#[derive(Debug)]
pub struct OpenFile {
    node: OpenNode,
    access: Access,
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

/// Calls `step`, which is told how many bytes were moved and moves some of the rest, until all `length` are or there are no
/// more; how many. A failure counts only where nothing was moved before.
fn moved(length: usize, mut step: impl FnMut(usize) -> Result<usize>) -> Result<usize> {
    let mut done = 0;
    while done < length {
        match step(done) {
            Ok(0) => break,
            Ok(more) => done += more,
            Err(Errno::INTR) => {}
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(done)
}

/// The byte of a file that is `done` bytes after `offset`.
fn place(offset: u64, done: usize) -> Result<u64> {
    offset.checked_add(extents_core::to_u64(done)).ok_or(Errno::INVAL)
}

/// The generation of a map: that of the inode, and how often the file may have changed.
pub(crate) fn generation(inode: u64, changes: u32) -> u64 {
    u64::from(changes) << 32 | inode & u64::from(u32::MAX)
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
    /// Opens a file; `flags` are those of `open(2)`. With `by_appends` a file that is opened to be appended to, and for
    /// nothing else, is [written by us](Self::append) alone.
    ///
    /// # Errors
    /// What the kernel's driver says.
    pub fn open(&self, ino: u64, flags: i32, by_appends: bool) -> Result<OpenFile> {
        let appends = OFlags::from_bits_retain(flags.cast_unsigned()) & OFlags::APPEND;
        let access = OpenFile::access_of(flags, by_appends);
        let flags = OpenFile::flags(flags);
        // Before anybody has it: else a map could be taken between the two.
        let state = self.contents.opened(ino, access)?;
        if access == Access::Append {
            // Later nobody could tell the append from a mapping that somebody writes to.
            let look = || self.reopen(ino, OFlags::RDONLY).is_ok_and(|file| !writers::may_be_written(file));
            state.look_before_append(look);
        }
        let file = match self.reopen(ino, flags) {
            // A file that may only grow.
            Err(Errno::PERM) if !appends.is_empty() => self.reopen(ino, flags | appends),
            opened => opened,
        };
        match file.and_then(|file| self.opened(file, access, state)) {
            Ok(open) => Ok(open),
            Err(error) => {
                self.contents.closed(ino, access);
                Err(error)
            }
        }
    }

    pub(crate) fn opened(&self, file: OwnedFd, access: Access, state: Arc<State>) -> Result<OpenFile> {
        Ok(OpenFile { node: self.nodes.opened(file)?, access, state })
    }

    /// Closes a file.
    pub fn close(&self, open: &OpenFile) {
        self.closed(open.ino(), open.access);
    }

    /// Notes that a file is closed, which was open [for this](OpenFile::access).
    pub fn closed(&self, ino: u64, access: Access) {
        self.contents.closed(ino, access);
    }

    /// A descriptor by which an open file is told to the kernel, which opens it anew for each open. It is read-only, so that
    /// it does not look as if somebody were writing as long as anybody reads.
    ///
    /// # Errors
    /// What the kernel's driver says.
    pub fn backing(&self, open: &OpenFile) -> Result<Option<OwnedFd>> {
        if open.is_writable() {
            self.reopen(open.ino(), OFlags::RDONLY | OFlags::CLOEXEC).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Leave to read the media directly, while the file is clean. Whoever has it mapped for writing keeps it from being so,
    /// also after closing it.
    ///
    /// # Errors
    /// Where the kernel's driver does not say where the bytes lie.
    pub fn read_media(&self, open: &OpenFile, volume_size: u64) -> Result<Option<ReadGuard>> {
        let mut disputed = false;
        let guard = open.state.read(|changes, look| {
            if look && writers::may_be_written(open.file()) {
                return Ok(None);
            }
            let size = stat_of(open.file())?.stx_size;
            let generation = generation(open.node.handle().generation(), changes);
            let map = placement::map(open.file(), size, generation, volume_size)?;
            disputed = self.witness.get().is_some_and(|witness| witness.disputes(self, open.ino(), &map));
            Ok(Some(Loaded { map, cached: cached::cached_pages(open.file()) > 0, disputed }))
        })?;
        if disputed {
            self.contents.remember_dispute(open.ino());
        }
        Ok(guard)
    }

    /// Writes what a program appends, behind the end of the file; how many bytes. Those who read its media go on.
    ///
    /// # Errors
    /// What the kernel's driver says.
    pub fn append(&self, open: &OpenFile, bytes: &[u8], who: &Identity) -> Result<usize> {
        let _growing = self.contents.grow(open.ino())?;
        let _acting = Assumed::new(who);
        moved(bytes.len(), |done| {
            let rest = IoSlice::new(bytes.get(done..).unwrap_or_default());
            pwritev2(open.file(), &[rest], 0, ReadWriteFlags::APPEND)
        })
    }

    /// Writes anywhere in a file that was opened to be appended to, since its program took `O_APPEND` back; how many bytes.
    ///
    /// # Errors
    /// What the kernel's driver says.
    pub fn write_to_appended(
        &self,
        open: &OpenFile,
        offset: u64,
        bytes: &[u8],
        who: &Identity,
    ) -> Result<usize> {
        let _alone = self.contents.change(open.ino())?;
        open.write(offset, bytes, who)
    }

    /// The generation of a file's map.
    ///
    /// # Errors
    /// `ESTALE` where it is not on the volume any more.
    pub fn map_generation(&self, ino: u64) -> Result<u64> {
        let inode = crate::KernelHandle::of(self.path(ino)?)?.generation();
        Ok(generation(inode, self.contents.changes(ino, false)))
    }

    /// Whether places for bytes from `offset` on only add to a file, and move nothing.
    fn only_adds(open: &OpenFile, mode: FallocateFlags, offset: u64) -> bool {
        (mode - FallocateFlags::KEEP_SIZE).is_empty()
            && stat_of(open.file()).is_ok_and(|stat| offset >= stat.stx_size)
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
        let mode = FallocateFlags::from_bits_retain(mode.cast_unsigned());
        let _announced = if Self::only_adds(open, mode, offset) {
            self.contents.grow(open.ino())?
        } else {
            GrowthGuard::Changes(self.contents.change(open.ino())?)
        };
        let _acting = Assumed::new(who);
        fallocate(open.file(), mode, offset, length)
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
        let _alone = self.contents.change(to.ino())?;
        // XFS copies by reference where it can.
        let _shared = (from.ino() != to.ino()).then(|| self.contents.share(from.ino())).transpose()?;
        let _acting = Assumed::new(who);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        rustix::fs::copy_file_range(
            from.file(),
            Some(&mut from_offset),
            to.file(),
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

    /// What an open of these flags may do.
    pub(crate) fn access_of(flags: i32, by_appends: bool) -> Access {
        let flags = OFlags::from_bits_retain(flags.cast_unsigned());
        let appends = flags.contains(OFlags::WRONLY | OFlags::APPEND)
            && !flags.intersects(OFlags::RDWR | OFlags::TRUNC);
        match () {
            () if by_appends && appends => Access::Append,
            () if flags.intersects(OFlags::WRONLY | OFlags::RDWR) => Access::Write,
            () => Access::Read,
        }
    }

    /// The inode number.
    #[must_use]
    pub fn ino(&self) -> u64 {
        self.node.handle().ino()
    }

    /// The file below.
    #[must_use]
    pub fn file(&self) -> &OwnedFd {
        self.node.file()
    }

    /// What it was opened for.
    #[must_use]
    pub fn access(&self) -> Access {
        self.access
    }

    /// Whether it may be written.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.access != Access::Read
    }

    /// Whether all that is written comes as [appends](Lower::append).
    #[must_use]
    pub fn is_appended(&self) -> bool {
        self.access == Access::Append
    }

    /// What is known of the file's contents.
    #[must_use]
    pub fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// Whether the page cache has all bytes of a range.
    #[must_use]
    pub fn is_cached(&self, offset: u64, length: u64) -> bool {
        cached::is_cached(self.file(), offset, length)
    }

    /// Whether the page cache has half of the file or more.
    #[must_use]
    pub fn is_mostly_cached(&self) -> bool {
        let pages = stat_of(self.file()).map_or(0, |stat| stat.stx_size.div_ceil(4096));
        pages > 0 && cached::cached_pages(self.file()) * 2 >= pages
    }

    /// Reads through the kernel's driver; fewer bytes than asked only at the end.
    ///
    /// # Errors
    /// What the kernel's driver says.
    pub fn read(&self, offset: u64, target: &mut [u8]) -> Result<usize> {
        moved(target.len(), |done| {
            pread(self.file(), target.get_mut(done..).unwrap_or_default(), place(offset, done)?)
        })
    }

    /// Writes through the kernel's driver; how many bytes.
    ///
    /// # Errors
    /// What the kernel's driver says.
    pub fn write(&self, offset: u64, bytes: &[u8], who: &Identity) -> Result<usize> {
        let _acting = Assumed::new(who);
        moved(bytes.len(), |done| {
            pwrite(self.file(), bytes.get(done..).unwrap_or_default(), place(offset, done)?)
        })
    }

    /// Makes the file durable.
    ///
    /// # Errors
    /// What the kernel's driver says.
    pub fn sync(&self, only_data: bool) -> Result<()> {
        if only_data { fdatasync(self.file()) } else { fsync(self.file()) }
    }

    /// Finds the next data or hole.
    ///
    /// # Errors
    /// `ENXIO` past the end.
    pub fn seek(&self, from: SeekFrom) -> Result<u64> {
        seek(self.file(), from)
    }

    /// Carries out a request that `FUSE_IOCTL` brought; `argument` has the size that the request's number says.
    ///
    /// # Errors
    /// `ENOTTY` for those that are not passed on; else what the kernel's driver says.
    pub fn ioctl(&self, request: u32, argument: &mut [u8]) -> Result<i32> {
        ioctl(self.file(), request, argument)
    }
}
