//! Where a file's bytes lie, as the kernel's driver says (`FS_IOC_FIEMAP`, Documentation/filesystems/fiemap.rst).

use std::os::fd::AsFd;

use extents_core::{Extent, ExtentFlags, ExtentMap, ExtentMapBuilder};
use rustix::io::Errno;

use crate::Result;
use crate::sys::ioctls::{FiemapExtent, fiemap};

// include/uapi/linux/fiemap.h.
const LAST: u32 = 0x1;
const UNKNOWN: u32 = 0x2;
const DELALLOC: u32 = 0x4;
const ENCODED: u32 = 0x8;
const DATA_ENCRYPTED: u32 = 0x80;
const NOT_ALIGNED: u32 = 0x100;
const DATA_INLINE: u32 = 0x200;
const DATA_TAIL: u32 = 0x400;
const UNWRITTEN: u32 = 0x800;
const SHARED: u32 = 0x2000;

/// The map of an open file of `size` bytes, after what was written has got its place.
///
/// # Errors
/// What the kernel's driver says; `EAGAIN` where it changes all the time.
pub(crate) fn map(file: impl AsFd, size: u64, generation: u64, volume_size: u64) -> Result<ExtentMap> {
    let mut builder = ExtentMapBuilder::new(size, generation, volume_size);
    let mut start = 0;
    loop {
        let extents = fiemap(&file, start, start == 0)?;
        let Some(last) = extents.last() else { return Ok(builder.finish()) };
        for extent in &extents {
            builder.push(translate(extent, size)?).map_err(|_| Errno::UCLEAN)?;
        }
        if last.flags & LAST != 0 {
            return Ok(builder.finish());
        }
        let next = last.logical.checked_add(last.length).filter(|&next| next > start).ok_or(Errno::UCLEAN)?;
        start = next;
    }
}

fn translate(extent: &FiemapExtent, size: u64) -> Result<Extent> {
    if extent.flags & (UNKNOWN | DELALLOC) != 0 && extent.flags & DATA_INLINE == 0 {
        return Err(Errno::AGAIN);
    }
    let mut flags = ExtentFlags::empty();
    if extent.flags & (DATA_INLINE | DATA_TAIL) != 0 {
        flags |= ExtentFlags::INLINE;
    } else if extent.flags & (ENCODED | DATA_ENCRYPTED | NOT_ALIGNED) != 0 {
        flags |= ExtentFlags::ENCODED;
    }
    if extent.flags & UNWRITTEN != 0 {
        flags |= ExtentFlags::UNWRITTEN;
    }
    if extent.flags & SHARED != 0 {
        flags |= ExtentFlags::SHARED;
    }
    let FiemapExtent { logical, physical, length, .. } = *extent;
    // What is kept within the inode has the length of the file, whatever room it has.
    let length = if flags.contains(ExtentFlags::INLINE) {
        length.min(size.saturating_sub(logical)).max(1)
    } else {
        length
    };
    Ok(Extent { logical, physical, length, flags })
}
