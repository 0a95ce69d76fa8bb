//! Memory behind a dma-buf: another driver's, a graphics card's own for example.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{SeekFrom, fstatfs, seek};

/// `DMA_BUF_MAGIC` of <linux/magic.h>: the file system that dma-bufs are files of.
const MAGIC: u64 = 0x444d_4142;
/// `DMA_BUF_IOCTL_SYNC` of <linux/dma-buf.h>: `_IOW('b', 0, struct dma_buf_sync)`, which is one number of 64 bits.
const SYNC: libc::c_ulong = 0x4008_6200;
/// `DMA_BUF_SYNC_RW`, begun and ended.
const BEGIN: u64 = 3;
const END: u64 = 3 | 1 << 2;

/// The processor's access to the memory of a dma-buf, from the moment that it is made until it is dropped.
///
/// Its size is what [`bytes`](Self::bytes) says for as long as it exists: dma-bufs have no way to become shorter.
#[derive(Debug)]
pub struct DmaBufAccess {
    file: OwnedFd,
    bytes: u64,
}

impl DmaBufAccess {
    /// Whether a descriptor is that of a dma-buf.
    #[must_use]
    pub fn is_one(file: impl AsFd) -> bool {
        fstatfs(file).is_ok_and(|system| u64::try_from(system.f_type).is_ok_and(|kind| kind == MAGIC))
    }

    /// Begins it: what devices wrote is seen from now on, and what is written from now on is seen by devices that share
    /// the processor's view of memory; by others when it ends.
    ///
    /// # Errors
    /// Where it is no dma-buf, or its driver refuses.
    pub fn begin(file: impl AsFd) -> io::Result<Self> {
        let file = file.as_fd().try_clone_to_owned()?;
        let bytes = seek(&file, SeekFrom::End(0))?;
        let access = Self { file, bytes };
        access.sync(BEGIN)?;
        Ok(access)
    }

    /// How large it is.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn sync(&self, flags: u64) -> io::Result<()> {
        loop {
            // SAFETY: The kernel reads one number of 64 bits, which lives through the call.
            if unsafe { libc::ioctl(self.file.as_raw_fd(), SYNC, &raw const flags) } == 0 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            // As <linux/dma-buf.h> says, it may have to be done again.
            if !matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN)) {
                return Err(error);
            }
        }
    }
}

impl Drop for DmaBufAccess {
    fn drop(&mut self) {
        // There is nobody to tell; the memory is as it is.
        let _ = self.sync(END);
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{MemfdFlags, memfd_create};

    use super::*;

    #[test]
    fn memfd_is_no_dma_buf() {
        let file = memfd_create(c"none", MemfdFlags::CLOEXEC).unwrap();
        assert!(!DmaBufAccess::is_one(&file));
        assert!(DmaBufAccess::begin(&file).is_err());
    }
}
