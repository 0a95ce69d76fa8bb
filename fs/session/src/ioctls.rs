//! The ioctls of `/dev/fuse`.
#![allow(unsafe_code, reason = "ioctl(2) takes an address")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `FUSE_DEV_IOC_CLONE`: `_IOR(229, 0, uint32_t)`.
const CLONE: libc::c_ulong = 0x8004_e500;
/// `FUSE_DEV_IOC_BACKING_OPEN`: `_IOW(229, 1, struct fuse_backing_map)`.
const BACKING_OPEN: libc::c_ulong = 0x4010_e501;
/// `FUSE_DEV_IOC_BACKING_CLOSE`: `_IOW(229, 2, uint32_t)`.
const BACKING_CLOSE: libc::c_ulong = 0x4004_e502;

/// `struct fuse_backing_map`.
#[repr(C)]
struct BackingMap {
    file: i32,
    flags: u32,
    padding: u64,
}

/// Runs an ioctl on a value.
fn ioctl<T>(device: BorrowedFd<'_>, request: libc::c_ulong, value: &T) -> io::Result<i32> {
    // SAFETY: Each request above reads a value of the type that it is called with here, and keeps nothing of it.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), request, std::ptr::from_ref(value)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Makes `fresh`, a newly opened `/dev/fuse`, a further way to the connection of `device`.
pub(crate) fn join(fresh: BorrowedFd<'_>, device: BorrowedFd<'_>) -> io::Result<()> {
    ioctl(fresh, CLONE, &device.as_raw_fd()).map(|_| ())
}

/// Registers a file that the kernel may read and write by itself; its number.
pub(crate) fn open_backing(device: BorrowedFd<'_>, file: BorrowedFd<'_>) -> io::Result<i32> {
    ioctl(device, BACKING_OPEN, &BackingMap { file: file.as_raw_fd(), flags: 0, padding: 0 })
}

/// Ends a registration; opens that have it keep it.
pub(crate) fn close_backing(device: BorrowedFd<'_>, number: i32) -> io::Result<()> {
    ioctl(device, BACKING_CLOSE, &number).map(|_| ())
}
