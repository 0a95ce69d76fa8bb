//! The kernel's own extent maps, by the FIEMAP ioctl.

use std::fs::File;
use std::os::fd::AsRawFd;

use extents_core::{Extent, ExtentFlags};

const FS_IOC_FIEMAP: libc::c_ulong = 0xC020_660B;
const FLAG_SYNC: u32 = 1;
const EXTENT_LAST: u32 = 0x1;
const EXTENT_UNWRITTEN: u32 = 0x800;
const EXTENT_INLINE: u32 = 0x200;
const AT_ONCE: usize = 512;

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct RawExtent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved64: [u64; 2],
    flags: u32,
    reserved: [u32; 3],
}

#[repr(C)]
struct Request {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    count: u32,
    reserved: u32,
    extents: [RawExtent; AT_ONCE],
}

/// The extents of a file as the kernel gives them.
pub(crate) fn extents(file: &File) -> Vec<Extent> {
    let mut found = Vec::new();
    let mut start = 0;
    loop {
        let mut request = Box::new(Request {
            start,
            length: u64::MAX - start,
            flags: FLAG_SYNC,
            mapped: 0,
            count: u32::try_from(AT_ONCE).unwrap(),
            reserved: 0,
            extents: [RawExtent::default(); AT_ONCE],
        });
        // SAFETY: the request is laid out as struct fiemap, with room for as many extents as its count says.
        let done = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FIEMAP, &raw mut *request) };
        assert_eq!(done, 0, "FIEMAP: {}", std::io::Error::last_os_error());
        let mapped = request.mapped as usize;
        for raw in &request.extents[..mapped] {
            let mut flags = ExtentFlags::empty();
            flags.set(ExtentFlags::UNWRITTEN, raw.flags & EXTENT_UNWRITTEN != 0);
            flags.set(ExtentFlags::INLINE, raw.flags & EXTENT_INLINE != 0);
            found.push(Extent { logical: raw.logical, physical: raw.physical, length: raw.length, flags });
            start = raw.logical + raw.length;
        }
        if mapped == 0 || request.extents[mapped - 1].flags & EXTENT_LAST != 0 {
            return found;
        }
    }
}

/// Cuts what is written past the block of the last byte, and joins what continues.
pub(crate) fn normalise(extents: impl IntoIterator<Item = Extent>, size: u64, block: u64) -> Vec<Extent> {
    let end = size.next_multiple_of(block);
    let mut joined: Vec<Extent> = Vec::new();
    for mut extent in extents {
        if !extent.flags.intersects(ExtentFlags::UNWRITTEN | ExtentFlags::INLINE) {
            extent.length = extent.length.min(end.saturating_sub(extent.logical));
        }
        if extent.length == 0 {
            continue;
        }
        match joined.last_mut() {
            Some(last)
                if last.end() == extent.logical
                    && last.physical + last.length == extent.physical
                    && last.flags == extent.flags =>
            {
                last.length += extent.length;
            }
            _ => joined.push(extent),
        }
    }
    joined
}
