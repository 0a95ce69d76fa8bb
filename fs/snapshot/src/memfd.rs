//! Arenas as descriptors.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::os::fd::OwnedFd;

use extents_core::to_usize;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::param::page_size;

use crate::Snapshot;

/// An arena in memory that nobody can change any more.
#[derive(Debug)]
pub struct Sealed {
    /// The memfd, sealed against writing, shrinking and growing, of whole pages.
    pub file: OwnedFd,
    /// Bytes of the arena.
    pub length: u64,
}

impl Snapshot {
    /// Writes the arena into a memfd and seals it.
    ///
    /// # Errors
    /// Where the kernel has no memory or no descriptor to give.
    pub fn into_memfd(self) -> io::Result<Sealed> {
        let length = self.length();
        let file = memfd_create(c"homi-snapshot", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let page = page_size();
        // A page that is mapped is there to its end; accelerators register whole pages.
        let whole = to_usize(length).div_ceil(page).checked_mul(page).ok_or(io::ErrorKind::OutOfMemory)?;
        ftruncate(&file, extents_core::to_u64(whole))?;
        let mut file = BufWriter::with_capacity(1 << 20, File::from(file));
        self.write_to(&mut file)?;
        file.flush()?;
        let file = OwnedFd::from(file.into_inner().map_err(io::IntoInnerError::into_error)?);
        let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        fcntl_add_seals(&file, seals)?;
        Ok(Sealed { file, length })
    }
}
