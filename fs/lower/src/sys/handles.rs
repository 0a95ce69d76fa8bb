//! File handles of the kernel: an inode named without a path (`name_to_handle_at(2)`).
//!
//! A node that nobody has open is kept as its handle, so that no descriptor pins it: a file that was unlinked and closed
//! frees its space at once, and a million names that the kernel remembers cost a million small entries and no descriptors.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::checked;

/// Longest handle that is taken. ext4 and XFS have at most 24 bytes; the kernel's own limit is 128.
const MOST: usize = 32;

/// `FILEID_INO32_GEN` (include/linux/exportfs.h), and what XFS adds for 64-bit numbers (fs/xfs/xfs_export.h).
const FILEID_INO32_GEN: i32 = 1;
const XFS_FILEID_TYPE_64FLAG: i32 = 0x80;

/// The kernel's `struct file_handle` (include/linux/fs.h) with room for [`MOST`] bytes.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KernelHandle {
    bytes: u32,
    kind: i32,
    handle: [u8; MOST],
}

impl KernelHandle {
    /// The handle of what a descriptor, perhaps one of `O_PATH`, stands for.
    pub(crate) fn of(fd: impl AsFd) -> Result<Self, Errno> {
        Self::get(fd.as_fd(), c"", libc::AT_EMPTY_PATH)
    }

    /// The handle of what a name in a directory leads to; of a symbolic link its own.
    pub(crate) fn at(directory: impl AsFd, name: &CStr) -> Result<Self, Errno> {
        Self::get(directory.as_fd(), name, 0)
    }

    fn get(at: BorrowedFd<'_>, name: &CStr, flags: i32) -> Result<Self, Errno> {
        let mut handle = Self { bytes: 32, kind: 0, handle: [0; MOST] };
        let mut mount: libc::c_int = 0;
        // SAFETY: The name ends with its NUL, the handle has the room that it says, and both outlive the call.
        checked(unsafe {
            libc::syscall(
                libc::SYS_name_to_handle_at,
                at.as_raw_fd(),
                name.as_ptr(),
                &raw mut handle,
                &raw mut mount,
                flags,
            )
        })?;
        Ok(handle)
    }

    /// The handle of an inode of which nothing else is known. ext4 takes generation 0 for any (`ext4_nfs_get_inode`).
    pub(crate) fn ext4(ino: u64) -> Option<Self> {
        let mut handle = [0; MOST];
        let ino = u32::try_from(ino).ok()?;
        handle.get_mut(..4)?.copy_from_slice(&ino.to_ne_bytes());
        Some(Self { bytes: 8, kind: FILEID_INO32_GEN, handle })
    }

    /// The handle of an inode of XFS (`struct xfs_fid64`, fs/xfs/xfs_export.h).
    pub(crate) fn xfs(ino: u64, generation: u32) -> Option<Self> {
        let mut handle = [0; MOST];
        handle.get_mut(..8)?.copy_from_slice(&ino.to_ne_bytes());
        handle.get_mut(8..12)?.copy_from_slice(&generation.to_ne_bytes());
        Some(Self { bytes: 12, kind: FILEID_INO32_GEN | XFS_FILEID_TYPE_64FLAG, handle })
    }

    /// Opens what the handle stands for; `mount` is any descriptor on its file system.
    pub(crate) fn open(&self, mount: impl AsFd, flags: OFlags) -> Result<OwnedFd, Errno> {
        let mut handle = *self;
        let flags = (flags | OFlags::CLOEXEC).bits();
        // SAFETY: The handle was given by the kernel and outlives the call.
        let fd = checked(unsafe {
            libc::syscall(
                libc::SYS_open_by_handle_at,
                mount.as_fd().as_raw_fd(),
                &raw mut handle,
                libc::c_int::try_from(flags).unwrap_or(libc::O_PATH),
            )
        })?;
        let fd = libc::c_int::try_from(fd).map_err(|_| Errno::BADF)?;
        // SAFETY: The kernel has just given this descriptor to us alone.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Both formats put the inode number first, and the generation behind it (`FILEID_INO32_GEN`, and 64-bit numbers on XFS).
    fn length_of_number(&self) -> usize {
        if self.kind == FILEID_INO32_GEN { 4 } else { 8 }
    }

    fn number(&self, range: std::ops::Range<usize>) -> u64 {
        let mut bytes = [0; 8];
        if let Some((target, source)) = bytes.get_mut(..range.len()).zip(self.handle.get(range)) {
            target.copy_from_slice(source);
        }
        u64::from_le_bytes(bytes)
    }

    /// The inode number.
    pub(crate) fn ino(&self) -> u64 {
        self.number(0..self.length_of_number())
    }

    /// A number that differs when the inode's number is used again.
    pub(crate) fn generation(&self) -> u64 {
        let at = self.length_of_number();
        self.number(at..at + 4)
    }
}
