//! Memory that is shared with the daemon, and perhaps with an accelerator.
//!
//! It is seen as atomics, or copied. The daemon writes to a buffer only while a command names it; that a copy out of it
//! is not disturbed is up to whoever issues commands.

use std::ffi::CStr;
use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64};

use memmap2::{Mmap, MmapOptions, MmapRaw};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate, memfd_create};

/// A mapping that others see, too.
pub struct Shared {
    map: MmapRaw,
    file: OwnedFd,
}

impl Shared {
    /// New memory of `length` bytes, zeroed, that can be registered with the daemon: a memfd that nobody can make
    /// shorter.
    ///
    /// # Errors
    /// Where the system has no memory to give.
    pub fn new(name: &CStr, length: usize) -> io::Result<Self> {
        let file = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let bytes = u64::try_from(length).map_err(|_| io::ErrorKind::OutOfMemory)?;
        ftruncate(&file, bytes)?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Self::map(file, length)
    }

    /// Maps the first `length` bytes of memory that the daemon made.
    ///
    /// # Errors
    /// Where the file is shorter, or the system refuses.
    pub(crate) fn map(file: OwnedFd, length: usize) -> io::Result<Self> {
        let size = fstat(&file)?.st_size;
        if usize::try_from(size).is_ok_and(|size| size < length) || length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let map = MmapOptions::new().len(length).map_raw(&file)?;
        Ok(Self { map, file })
    }

    /// Maps for reading only.
    pub(crate) fn map_read_only(file: OwnedFd, length: usize) -> io::Result<Self> {
        let size = fstat(&file)?.st_size;
        if usize::try_from(size).is_ok_and(|size| size < length) || length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let map = MmapOptions::new().len(length).map_raw_read_only(&file)?;
        Ok(Self { map, file })
    }

    /// Length in bytes.
    #[must_use]
    pub fn length(&self) -> usize {
        self.map.len()
    }

    /// Where it starts, for those who register it with an accelerator.
    #[must_use]
    pub fn address(&self) -> *mut u8 {
        self.map.as_mut_ptr()
    }

    /// The 32-bit word at byte `offset`.
    ///
    /// # Panics
    /// Where it is not aligned or not within: places are checked when the memory is handed out.
    #[must_use]
    pub fn u32_at(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4) && offset + 4 <= self.length(), "a word of {offset:#x}");
        // SAFETY: Aligned (the mapping is page-aligned) and within the mapping, which lives as long as `self`. Stores
        // to a read-only mapping cannot happen: only loads are made of the status page.
        unsafe { AtomicU32::from_ptr(self.address().add(offset).cast()) }
    }

    /// The `count` 64-bit words from byte `offset` on.
    ///
    /// # Panics
    /// As [`u32_at`](Self::u32_at).
    #[must_use]
    pub fn u64s_at(&self, offset: usize, count: usize) -> &[AtomicU64] {
        assert!(offset.is_multiple_of(8) && offset + count * 8 <= self.length(), "words of {offset:#x}");
        // SAFETY: As above; an atomic has the layout of its integer.
        unsafe { std::slice::from_raw_parts(self.address().add(offset).cast(), count) }
    }

    /// Copies bytes out.
    ///
    /// # Panics
    /// Where they do not lie within.
    pub fn read(&self, offset: usize, target: &mut [u8]) {
        assert!(offset.checked_add(target.len()).is_some_and(|end| end <= self.length()));
        // SAFETY: The source lies within the mapping; the target is a slice of its own.
        unsafe {
            std::ptr::copy_nonoverlapping(self.address().add(offset), target.as_mut_ptr(), target.len());
        };
    }

    /// Copies bytes in.
    ///
    /// # Panics
    /// Where they do not lie within.
    pub(crate) fn write(&self, offset: usize, source: &[u8]) {
        assert!(offset.checked_add(source.len()).is_some_and(|end| end <= self.length()));
        // SAFETY: The target lies within the mapping, which is writable for those who get one to write to; the source is a
        // slice of its own.
        unsafe {
            std::ptr::copy_nonoverlapping(source.as_ptr(), self.address().add(offset), source.len());
        };
    }

    /// Where the bytes from `offset` on are.
    ///
    /// # Panics
    /// Where they do not lie within.
    #[cfg(feature = "cuda")]
    pub(crate) fn at(&self, offset: usize, length: usize) -> *const u8 {
        assert!(offset.checked_add(length).is_some_and(|end| end <= self.length()));
        self.address().wrapping_add(offset).cast_const()
    }

    /// Copies bytes out, to where nothing need be yet.
    ///
    /// # Panics
    /// Where they do not lie within.
    pub(crate) fn read_into(&self, offset: usize, target: &mut [MaybeUninit<u8>]) {
        assert!(offset.checked_add(target.len()).is_some_and(|end| end <= self.length()));
        // SAFETY: The source lies within the mapping; the target is a slice of its own.
        unsafe {
            let target_start = target.as_mut_ptr().cast::<u8>();
            std::ptr::copy_nonoverlapping(self.address().add(offset), target_start, target.len());
        };
    }
}

/// Memory that nobody can change any more, seen as bytes.
#[derive(Debug)]
pub struct Arena {
    map: Mmap,
    file: OwnedFd,
}

impl Arena {
    /// Maps the first `length` bytes of a memfd.
    ///
    /// # Errors
    /// Where it is not sealed against writing and shrinking, or is shorter, or the system refuses.
    pub(crate) fn map(file: OwnedFd, length: usize) -> io::Result<Self> {
        if !fcntl_get_seals(&file)?.contains(SealFlags::WRITE | SealFlags::SHRINK) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let size = fstat(&file)?.st_size;
        if usize::try_from(size).is_ok_and(|size| size < length) || length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // Privately: kernels before 6.7 let nobody share what is sealed against writing, not even for reading.
        // SAFETY: The seals keep everybody from changing or cutting off what is mapped.
        let map = unsafe { MmapOptions::new().len(length).map_copy_read_only(&file) }?;
        Ok(Self { map, file })
    }

    /// All of it.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }
}

impl AsFd for Arena {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

// SAFETY: All access goes by atomics or by copies.
unsafe impl Send for Shared {}
// SAFETY: As above.
unsafe impl Sync for Shared {}

impl AsFd for Shared {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("length", &self.length())
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}
