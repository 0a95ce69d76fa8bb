//! Requests to files and devices that have no system call of their own.

use std::os::fd::{AsFd, AsRawFd, RawFd};

use rustix::io::Errno;

use super::checked;

/// `FS_IOC_FIEMAP` (include/uapi/linux/fiemap.h).
const FIEMAP: libc::c_ulong = 0xc020_660b;
const FIEMAP_SYNC: u32 = 1;
/// Extents that are asked for at a time.
pub(crate) const BATCH: usize = 512;

/// `struct fiemap_extent`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct FiemapExtent {
    pub(crate) logical: u64,
    pub(crate) physical: u64,
    pub(crate) length: u64,
    reserved: [u64; 2],
    pub(crate) flags: u32,
    reserved_too: [u32; 3],
}

/// `struct fiemap` with room for extents.
#[repr(C)]
struct Fiemap {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    count: u32,
    reserved: u32,
    extents: [FiemapExtent; BATCH],
}

/// The extents of an open file from byte `start` on, at most [`BATCH`] of them; with `sync`, after everything that was
/// written has got its place.
pub(crate) fn fiemap(file: impl AsFd, start: u64, sync: bool) -> Result<Vec<FiemapExtent>, Errno> {
    let mut map = Box::new(Fiemap {
        start,
        length: u64::MAX - start,
        flags: if sync { FIEMAP_SYNC } else { 0 },
        mapped: 0,
        count: 512,
        reserved: 0,
        extents: [FiemapExtent::default(); BATCH],
    });
    // SAFETY: The structure has the kernel's layout with room for as many extents as it says, and outlives the call.
    checked(unsafe { libc::ioctl(file.as_fd().as_raw_fd(), FIEMAP, &raw mut *map) }.into())?;
    let mapped = usize::try_from(map.mapped).unwrap_or(0).min(BATCH);
    Ok(map.extents.get(..mapped).unwrap_or_default().to_vec())
}

/// A request of a fixed size whose argument holds no pointers, as `FUSE_IOCTL` carries it: the bytes given are the
/// argument, and what it holds afterwards is the answer.
pub(crate) fn plain(file: impl AsFd, request: u32, argument: &mut [u8]) -> Result<i32, Errno> {
    // The size is bits 16 to 29 of the number (include/uapi/asm-generic/ioctl.h).
    let size = usize::try_from((request >> 16) & 0x3fff).unwrap_or(usize::MAX);
    if size > argument.len() {
        return Err(Errno::INVAL);
    }
    // SAFETY: The callers name requests whose argument is as long as the number says and holds no pointer.
    let result = checked(
        unsafe { libc::ioctl(file.as_fd().as_raw_fd(), request.into(), argument.as_mut_ptr()) }.into(),
    )?;
    i32::try_from(result).map_err(|_| Errno::OVERFLOW)
}

const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4c82;
const LOOP_CONFIGURE: libc::c_ulong = 0x4c0a;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_FLAGS_DIRECT_IO: u32 = 16;

/// `struct loop_info64` (include/uapi/linux/loop.h).
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

/// Number of a loop device that is free now; somebody else may take it first.
pub(crate) fn free_loop_device(control: impl AsFd) -> Result<i32, Errno> {
    // SAFETY: The request has no argument.
    let number = checked(unsafe { libc::ioctl(control.as_fd().as_raw_fd(), LOOP_CTL_GET_FREE) }.into())?;
    i32::try_from(number).map_err(|_| Errno::OVERFLOW)
}

/// Puts an image behind a loop device, which lets go of it when the last user closes it.
pub(crate) fn configure_loop(
    device: impl AsFd,
    image: impl AsFd,
    offset: u64,
    size_limit: u64,
    read_only: bool,
    direct: bool,
) -> Result<(), Errno> {
    let flags = LO_FLAGS_AUTOCLEAR
        | if read_only { LO_FLAGS_READ_ONLY } else { 0 }
        | if direct { LO_FLAGS_DIRECT_IO } else { 0 };
    let raw = |fd: RawFd| u32::try_from(fd).map_err(|_| Errno::BADF);
    let config = LoopConfig {
        fd: raw(image.as_fd().as_raw_fd())?,
        block_size: 0,
        info: LoopInfo {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset,
            size_limit,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags,
            file_name: [0; 64],
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        },
        reserved: [0; 8],
    };
    // SAFETY: The structure has the kernel's layout and outlives the call.
    checked(unsafe { libc::ioctl(device.as_fd().as_raw_fd(), LOOP_CONFIGURE, &raw const config) }.into())?;
    Ok(())
}

/// `XFS_IOC_BULKSTAT`, and the sizes of `struct xfs_bulkstat_req` without and with one `struct xfs_bulkstat`
/// (fs/xfs/libxfs/xfs_fs.h).
const XFS_BULKSTAT: libc::c_ulong = 0x8040_587f;
const BULK_HEADER: usize = 64;
const BULKSTAT: usize = 192;

/// The generation of an inode of the XFS volume that `file` is on.
pub(crate) fn xfs_generation(file: impl AsFd, ino: u64) -> Result<u32, Errno> {
    let mut request = [0_u64; (BULK_HEADER + BULKSTAT) / 8];
    // From this inode on, one of them: `ino`, then `flags` and `icount` of 32 bits each.
    let [first, counts, ..] = &mut request;
    (*first, *counts) = (ino, 1 << 32);
    // SAFETY: The request has the kernel's layout with room for as many inodes as it asks for, and outlives the call.
    checked(unsafe { libc::ioctl(file.as_fd().as_raw_fd(), XFS_BULKSTAT, request.as_mut_ptr()) }.into())?;
    let found = request.get(BULK_HEADER / 8..).unwrap_or_default();
    // `bs_ino` is its first field, `bs_gen` the low half of its ninth.
    match (found.first(), found.get(8)) {
        (Some(&number), Some(&generation)) if number == ino => {
            u32::try_from(generation & 0xffff_ffff).map_err(|_| Errno::OVERFLOW)
        }
        _ => Err(Errno::STALE),
    }
}
