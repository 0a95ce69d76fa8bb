//! Mappings of files that others cut meanwhile.
//!
//! Touching memory past a file's end would end the process. So the kernel does it, into and out of a file in memory, and
//! says `EFAULT` instead.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::ptr::NonNull;

use rustix::fs::MemfdFlags;
use rustix::mm::{MapFlags, ProtFlags, mmap, msync, munmap};

/// A shared mapping of a file's first bytes.
#[derive(Debug)]
pub(crate) struct Mapping {
    address: NonNull<libc::c_void>,
    length: usize,
    /// Where bytes pass through.
    between: OwnedFd,
}

impl Mapping {
    /// Maps `length` bytes; with `writable`, they can be written.
    ///
    /// # Errors
    /// What mmap(2) says.
    pub(crate) fn new(file: impl AsFd, length: usize, writable: bool) -> io::Result<Self> {
        let between = rustix::fs::memfd_create(c"model", MemfdFlags::CLOEXEC)?;
        let protection = if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        // SAFETY: a new mapping at a place of the kernel's choice touches no other. Nobody gets a reference into it.
        let address =
            unsafe { mmap(std::ptr::null_mut(), length, protection, MapFlags::SHARED, file.as_fd(), 0)? };
        let address = NonNull::new(address).ok_or(io::ErrorKind::Other)?;
        Ok(Self { address, length, between })
    }

    fn within(&self, offset: usize, length: usize) -> io::Result<*mut libc::c_void> {
        let fits = offset.checked_add(length).is_some_and(|end| end <= self.length);
        let place = || self.address.as_ptr().wrapping_byte_add(offset);
        fits.then(place).ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    /// Reads by the mapping; how many bytes there were.
    ///
    /// # Errors
    /// `EFAULT` where there were none.
    pub(crate) fn read(&self, offset: usize, bytes: &mut [u8]) -> io::Result<usize> {
        let place = self.within(offset, bytes.len())?;
        // SAFETY: the range lies within the mapping, and only the kernel looks at it, which copes with its end.
        let moved = unsafe { libc::pwrite(self.between.as_raw_fd(), place, bytes.len(), 0) };
        let moved = usize::try_from(moved).map_err(|_| io::Error::last_os_error())?;
        Ok(rustix::io::pread(&self.between, &mut bytes[..moved], 0)?)
    }

    /// Writes by the mapping; how many bytes.
    ///
    /// # Errors
    /// `EFAULT` where there were none.
    pub(crate) fn write(&self, offset: usize, bytes: &[u8]) -> io::Result<usize> {
        let place = self.within(offset, bytes.len())?;
        rustix::io::pwrite(&self.between, bytes, 0)?;
        // SAFETY: as above; that the file changes is what is wanted.
        let moved = unsafe { libc::pread(self.between.as_raw_fd(), place, bytes.len(), 0) };
        usize::try_from(moved).map_err(|_| io::Error::last_os_error())
    }

    /// Has all of it written back.
    ///
    /// # Errors
    /// What msync(2) says.
    pub(crate) fn sync(&self) -> io::Result<()> {
        // SAFETY: the range is the mapping.
        unsafe { msync(self.address.as_ptr(), self.length, rustix::mm::MsyncFlags::SYNC)? };
        Ok(())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nobody has a reference into it.
        let _ = unsafe { munmap(self.address.as_ptr(), self.length) };
    }
}
