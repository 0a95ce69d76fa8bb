//! What the kernel tells about a file beyond stat: FIEMAP, generation, project and flags.

use std::fs::File;
use std::os::fd::AsRawFd;

use extents_core::{Extent, ExtentFlags};

const FS_IOC_FIEMAP: libc::Ioctl = 0xC020_660B;
const FS_IOC_GETVERSION: libc::Ioctl = 0x8008_7601;
const FS_IOC_FSGETXATTR: libc::Ioctl = 0x801C_581F;
const FIEMAP_LAST: u32 = 0x1;
const FIEMAP_UNWRITTEN: u32 = 0x800;
const FIEMAP_SHARED: u32 = 0x2000;
const BATCH: usize = 500;

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct FiemapExtent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved64: [u64; 2],
    flags: u32,
    reserved: [u32; 3],
}

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

/// `struct fsxattr`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct FsXattr {
    pub xflags: u32,
    pub extsize: u32,
    pub nextents: u32,
    pub projid: u32,
    pub cowextsize: u32,
    pad: [u8; 8],
}

/// All extents of a file as FIEMAP has them, neighbours that continue each other joined.
pub fn fiemap(file: &File) -> Vec<Extent> {
    let mut found: Vec<Extent> = Vec::new();
    let mut start = 0;
    loop {
        let mut request = Fiemap {
            start,
            length: u64::MAX - start,
            flags: 0,
            mapped: 0,
            count: BATCH as u32,
            reserved: 0,
            extents: [FiemapExtent::default(); BATCH],
        };
        // SAFETY: the kernel writes into `request`, at most `count` extents, which it has.
        let rc = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FIEMAP, &raw mut request) };
        assert_eq!(rc, 0, "FIEMAP: {}", std::io::Error::last_os_error());
        let batch = &request.extents[..request.mapped as usize];
        for extent in batch {
            let mut flags = ExtentFlags::empty();
            flags.set(ExtentFlags::UNWRITTEN, extent.flags & FIEMAP_UNWRITTEN != 0);
            flags.set(ExtentFlags::SHARED, extent.flags & FIEMAP_SHARED != 0);
            let next =
                Extent { logical: extent.logical, physical: extent.physical, length: extent.length, flags };
            match found.last_mut() {
                Some(last)
                    if last.end() == next.logical
                        && last.physical + last.length == next.physical
                        && last.flags == flags =>
                {
                    last.length += next.length;
                }
                _ => found.push(next),
            }
        }
        match batch.last() {
            Some(last) if last.flags & FIEMAP_LAST == 0 => start = last.logical + last.length,
            _ => return found,
        }
    }
}

/// The generation of a file.
pub fn generation(file: &File) -> u32 {
    let mut version: libc::c_long = 0;
    // SAFETY: the kernel writes one number into `version`.
    let rc = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_GETVERSION, &raw mut version) };
    assert_eq!(rc, 0, "GETVERSION: {}", std::io::Error::last_os_error());
    (version & 0xffff_ffff) as u32
}

/// Flags and project of a file.
pub fn fsxattr(file: &File) -> FsXattr {
    let mut attributes = FsXattr::default();
    // SAFETY: the kernel writes one `struct fsxattr`, whose layout this is.
    let rc = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FSGETXATTR, &raw mut attributes) };
    assert_eq!(rc, 0, "FSGETXATTR: {}", std::io::Error::last_os_error());
    attributes
}

/// What statvfs tells.
#[derive(Debug, Clone, Copy)]
pub struct Space {
    pub block_size: u64,
    pub blocks: u64,
    pub free: u64,
    pub available: u64,
    pub files: u64,
    pub files_free: u64,
    pub name_max: u64,
}

pub fn statfs(path: &std::path::Path) -> Space {
    let name = std::ffi::CString::new(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str())).unwrap();
    let mut found = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the name ends in NUL and the C library fills the structure where it answers 0.
    let found = unsafe {
        assert_eq!(libc::statvfs(name.as_ptr(), found.as_mut_ptr()), 0);
        found.assume_init()
    };
    Space {
        block_size: found.f_bsize,
        blocks: found.f_blocks,
        free: found.f_bfree,
        available: found.f_bavail,
        files: found.f_files,
        files_free: found.f_ffree,
        name_max: found.f_namemax,
    }
}

/// Allocates a range of a file; answers whether there was room.
pub fn allocate(file: &File, mode: libc::c_int, at: i64, length: i64) -> bool {
    // SAFETY: only numbers are passed.
    unsafe { libc::fallocate(file.as_raw_fd(), mode, at, length) == 0 }
}

/// Gives a range of a file back to the volume.
pub fn punch(file: &File, at: i64, length: i64) -> bool {
    allocate(file, libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE, at, length)
}
