//! Descriptors that a client hands over: what they really are.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use engine_dma::{Access, PAGE, Region, to_u64, to_usize};
use rustix::fs::{FileType, OFlags, fcntl_getfl, fcntl_setfl, fstat, fstatfs};

use crate::Errno;

/// `TMPFS_MAGIC` and `HUGETLBFS_MAGIC` of `<linux/magic.h>`.
const TMPFS: u64 = 0x0102_1994;
const HUGETLBFS: u64 = 0x9584_58f6;

/// Maps `length` bytes from `offset` on of memory that a client shares; the region and where in it they start.
///
/// Only memory is taken (memfd, tmpfs, hugetlbfs): touching a file of some file system could wait for whoever serves
/// that file system. What lies outside the file is refused, and what the client cuts off later reads as zeros.
pub(crate) fn map_memory(
    file: OwnedFd,
    offset: u64,
    length: u64,
    access: Access,
) -> Result<(Arc<Region>, usize), Errno> {
    // Devices lie in a tmpfs, too.
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(Errno::NODEV);
    }
    let system = fstatfs(&file)?;
    let grain = match u64::try_from(system.f_type) {
        Ok(TMPFS) => to_u64(PAGE),
        Ok(HUGETLBFS) => u64::try_from(system.f_bsize).map_err(|_| Errno::INVAL)?.max(to_u64(PAGE)),
        _ => return Err(Errno::NODEV),
    };
    // Huge pages are mapped as a whole.
    let start = offset / grain * grain;
    let end = offset.checked_add(length).and_then(|end| end.checked_next_multiple_of(grain));
    let end = end.ok_or(Errno::INVAL)?;
    let region = Region::map(file, start, to_usize(end - start), access)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::INVAL))?;
    Ok((region, to_usize(offset - start)))
}

/// Checks that a descriptor is an eventfd, so that signalling it never waits for the client.
pub(crate) fn check_eventfd(event: &OwnedFd) -> Result<(), Errno> {
    let path = format!("/proc/self/fd/{}", event.as_fd().as_raw_fd());
    let target = std::fs::read_link(path).map_err(|_| Errno::INVAL)?;
    if target.as_os_str() != "anon_inode:[eventfd]" {
        return Err(Errno::INVAL);
    }
    let flags = fcntl_getfl(event)?;
    fcntl_setfl(event, flags | OFlags::NONBLOCK)
}
