//! Whether the kernel has bytes of a file in memory (`cachestat(2)`, Linux 6.5).

use std::os::fd::{AsFd, AsRawFd};

use super::checked;

const SYS_CACHESTAT: libc::c_long = 451;

#[repr(C)]
struct Range {
    offset: u64,
    length: u64,
}

#[repr(C)]
#[derive(Default)]
struct Counts {
    cached: u64,
    dirty: u64,
    writeback: u64,
    evicted: u64,
    recently_evicted: u64,
}

/// Whether every page of a range is in the page cache. `false` where this kernel cannot tell.
pub(crate) fn is_cached(file: impl AsFd, offset: u64, length: u64) -> bool {
    let pages = (offset + length).div_ceil(4096) - offset / 4096;
    pages_cached(file, offset, length).is_some_and(|cached| cached >= pages)
}

/// Pages of a file that are in the page cache; 0 where this kernel cannot tell.
pub(crate) fn cached_pages(file: impl AsFd) -> u64 {
    pages_cached(file, 0, 0).unwrap_or(0)
}

/// Pages of a range, or with length 0 of all that follows, that are in the page cache.
fn pages_cached(file: impl AsFd, offset: u64, length: u64) -> Option<u64> {
    let range = Range { offset, length };
    let mut counts = Counts::default();
    // SAFETY: Both structures have the layout of include/uapi/linux/mman.h and outlive the call.
    let asked = checked(unsafe {
        libc::syscall(SYS_CACHESTAT, file.as_fd().as_raw_fd(), &raw const range, &raw mut counts, 0_u32)
    });
    asked.ok().map(|_| counts.cached)
}
