//! Mapped memory that somebody else may write at any moment.

use std::ffi::CStr;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fstat, fstatfs, ftruncate, memfd_create};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};

use crate::fault::{Guard, Watched};
use crate::{PAGE, copy, prefetch, to_u64, to_usize};

/// Bytes of a cache line, as far as asking for some of them goes.
const LINE: usize = 64;

/// Bytes of a huge page, as far as they are asked for.
const HUGE: usize = 2 << 20;

/// What may be done with a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading only; a write is refused before it happens.
    Read,
    /// Reading and writing.
    ReadWrite,
}

/// An access that does not lie within a region, or that the region does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{length} bytes at {offset:#x} are not within reach: the region has {size} bytes, {access:?}")]
pub struct OutOfReach {
    /// First byte asked for.
    pub offset: usize,
    /// Bytes asked for.
    pub length: usize,
    /// Length of the region.
    pub size: usize,
    /// What the region allows.
    pub access: Access,
}

/// Page-aligned memory at a fixed address that a device or another process may change while it is looked at.
///
/// That is why it is only ever seen as atomics, or copied in and out; no reference to plain bytes is given. Copies
/// are not atomic: what changes meanwhile arrives in part, and is never more than wrong bytes.
///
/// Where the memory is a file of somebody else's who makes it shorter, what is gone reads as zeros, see
/// [`is_damaged`](Self::is_damaged).
pub struct Region {
    base: NonNull<u8>,
    length: usize,
    access: Access,
    file: Option<(OwnedFd, u64)>,
    guard: Option<Guard>,
}

// SAFETY: The mapping belongs to the region until it is dropped. All access goes by atomics or by copies that the
// compiler knows nothing about, which is what memory shared with devices allows.
unsafe impl Send for Region {}
// SAFETY: As above.
unsafe impl Sync for Region {}

impl Region {
    /// Zeroed memory of this process alone, `length` bytes rounded up to whole pages.
    ///
    /// # Errors
    /// Where the kernel has no memory to give.
    pub fn private(length: usize) -> io::Result<Arc<Self>> {
        let length = whole_pages(length)?;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: A new anonymous mapping at an address of the kernel's choice touches no existing memory.
        let base = unsafe { mmap_anonymous(std::ptr::null_mut(), length, access, MapFlags::PRIVATE) }?;
        Ok(Arc::new(Self::over(base, length, Access::ReadWrite, None)?))
    }

    /// As [`private`](Self::private), for memory that devices move much to and from: whole huge pages where
    /// administrators set some aside that are free, and otherwise memory that the kernel may make huge pages of.
    ///
    /// # Errors
    /// Where the kernel has no memory to give.
    pub fn private_huge(length: usize) -> io::Result<Arc<Self>> {
        let length = whole_pages(length)?;
        if length.is_multiple_of(HUGE) {
            let access = ProtFlags::READ | ProtFlags::WRITE;
            let flags = MapFlags::PRIVATE | MapFlags::HUGETLB | MapFlags::HUGE_2MB;
            // SAFETY: As for a private mapping. The kernel keeps all its pages ready, or refuses.
            if let Ok(base) = unsafe { mmap_anonymous(std::ptr::null_mut(), length, access, flags) } {
                return Ok(Arc::new(Self::over(base, length, Access::ReadWrite, None)?));
            }
        }
        let region = Self::private(length)?;
        region.prefer_huge();
        Ok(region)
    }

    /// As [`shared`](Self::shared), in huge pages as [`private_huge`](Self::private_huge).
    ///
    /// # Errors
    /// Where the kernel has no memory or no descriptor to give.
    pub fn shared_huge(name: &CStr, length: usize) -> io::Result<Arc<Self>> {
        let huge = MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB;
        if whole_pages(length)?.is_multiple_of(HUGE)
            && let Ok(region) = Self::memfd(name, length, huge, SealFlags::empty())
        {
            return Ok(region);
        }
        let region = Self::shared(name, length)?;
        region.prefer_huge();
        Ok(region)
    }

    /// Lets the kernel make huge pages of it where it can.
    fn prefer_huge(&self) {
        if self.length >= HUGE {
            // A kernel without them refuses, and does what it did before.
            // SAFETY: The mapping is this region's own, and what it holds does not change.
            let _ = unsafe { madvise(self.base.as_ptr().cast(), self.length, Advice::LinuxHugepage) };
        }
    }

    /// Zeroed memory that can be handed to other processes: a memfd, which nobody can make shorter or longer.
    ///
    /// # Errors
    /// Where the kernel has no memory or no descriptor to give.
    pub fn shared(name: &CStr, length: usize) -> io::Result<Arc<Self>> {
        Self::memfd(name, length, MemfdFlags::empty(), SealFlags::empty())
    }

    /// As [`shared`](Self::shared), but other processes can only read it: nobody can map it for writing any more.
    ///
    /// # Errors
    /// Where the kernel has no memory or no descriptor to give.
    pub fn shown(name: &CStr, length: usize) -> io::Result<Arc<Self>> {
        Self::memfd(name, length, MemfdFlags::empty(), SealFlags::FUTURE_WRITE)
    }

    fn memfd(name: &CStr, length: usize, flags: MemfdFlags, seals: SealFlags) -> io::Result<Arc<Self>> {
        let length = whole_pages(length)?;
        let file = memfd_create(name, flags | MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&file, to_u64(length))?;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: As for a private mapping.
        let base = unsafe { mmap(std::ptr::null_mut(), length, access, MapFlags::SHARED, &file, 0) }?;
        fcntl_add_seals(&file, seals | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Ok(Arc::new(Self::over(base, length, Access::ReadWrite, Some((file, 0)))?))
    }

    /// Maps `length` bytes from byte `offset` on of a file that somebody else handed over. Both must be multiples of
    /// the page size (of a file in huge pages: of theirs) and lie within the file.
    ///
    /// # Errors
    /// `EINVAL` where they are not or do not; whatever else the kernel refuses.
    pub fn map(file: OwnedFd, offset: u64, length: usize, access: Access) -> io::Result<Arc<Self>> {
        let invalid = || io::Error::from_raw_os_error(rustix::io::Errno::INVAL.raw_os_error());
        let page = page_size(&file)?;
        if length == 0 || !length.is_multiple_of(page) || !offset.is_multiple_of(to_u64(page)) {
            return Err(invalid());
        }
        let end = offset.checked_add(to_u64(length)).ok_or_else(invalid)?;
        let stat = fstat(&file)?;
        let is_file = rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::RegularFile;
        // Devices (a BAR of VFIO's) have no size; what lies outside them mmap itself refuses.
        if is_file && u64::try_from(stat.st_size).unwrap_or(0) < end {
            return Err(invalid());
        }
        let wanted = match access {
            Access::Read => ProtFlags::READ,
            Access::ReadWrite => ProtFlags::READ | ProtFlags::WRITE,
        };
        // SAFETY: As for a private mapping.
        let base = unsafe { mmap(std::ptr::null_mut(), length, wanted, MapFlags::SHARED, &file, offset) }?;
        let mut region = Self::over(base, length, access, Some((file, offset)))?;
        region.guard = Some(Guard::watch(Watched { start: region.base.addr().get(), length, access, page })?);
        Ok(Arc::new(region))
    }

    fn over(
        base: *mut std::ffi::c_void,
        length: usize,
        access: Access,
        file: Option<(OwnedFd, u64)>,
    ) -> io::Result<Self> {
        let base = NonNull::new(base.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, length, access, file, guard: None })
    }

    /// Where it starts.
    #[must_use]
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Its length in bytes, a multiple of [`PAGE`].
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// What may be done with it.
    #[must_use]
    pub fn access(&self) -> Access {
        self.access
    }

    /// The file that it maps and where in the file it starts, for those who hand it to another process.
    #[must_use]
    pub fn file(&self) -> Option<(BorrowedFd<'_>, u64)> {
        self.file.as_ref().map(|(file, offset)| (file.as_fd(), *offset))
    }

    /// Whether some of it was found to be gone: its owner made the file shorter. From then on those pages are memory
    /// of this process's own.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.guard.as_ref().is_some_and(Guard::is_damaged)
    }

    /// The 32-bit word at byte `offset`; none where it is not aligned or not within the region. Storing to a word of
    /// a region for reading only is refused here by answering none: use [`load_u32`](Self::load_u32).
    #[must_use]
    #[inline]
    pub fn u32_at(&self, offset: usize) -> Option<&AtomicU32> {
        let address = self.place(offset, 4, Access::ReadWrite).ok().filter(|_| offset.is_multiple_of(4))?;
        // SAFETY: The word is aligned (the base is page-aligned), lies within a mapping that lives as long as
        // `self`, and may be written.
        Some(unsafe { AtomicU32::from_ptr(address.as_ptr().cast()) })
    }

    /// The `count` 64-bit words from byte `offset` on; none where they are not aligned or not within the region, or
    /// where it is for reading only.
    #[must_use]
    #[inline]
    pub fn u64s_at(&self, offset: usize, count: usize) -> Option<&[AtomicU64]> {
        let length = count.checked_mul(8)?;
        let address =
            self.place(offset, length, Access::ReadWrite).ok().filter(|_| offset.is_multiple_of(8))?;
        // SAFETY: As for `u32_at`, over `count` words; an atomic has the layout of its integer.
        Some(unsafe { std::slice::from_raw_parts(address.as_ptr().cast(), count) })
    }

    /// The 32-bit word at byte `offset` as it is now; also where the region is for reading only.
    #[must_use]
    #[inline]
    pub fn load_u32(&self, offset: usize) -> Option<u32> {
        let address = self.place(offset, 4, Access::Read).ok().filter(|_| offset.is_multiple_of(4))?;
        // SAFETY: As for `u32_at`; loading needs no more than a readable mapping.
        Some(unsafe { AtomicU32::from_ptr(address.as_ptr().cast()) }.load(Ordering::Acquire))
    }

    /// Copies bytes out of the region.
    ///
    /// # Errors
    /// Where they do not lie within it.
    pub fn read(&self, offset: usize, target: &mut [u8]) -> Result<(), OutOfReach> {
        let source = self.place(offset, target.len(), Access::Read)?;
        // SAFETY: The source is mapped and readable over the whole length, the target is a slice of our own.
        unsafe { copy::bytes(source.as_ptr(), target.as_mut_ptr(), target.len()) };
        Ok(())
    }

    /// Copies bytes into the region.
    ///
    /// # Errors
    /// Where they do not lie within it, or it is for reading only.
    pub fn write(&self, offset: usize, source: &[u8]) -> Result<(), OutOfReach> {
        let target = self.place(offset, source.len(), Access::ReadWrite)?;
        // SAFETY: The target is mapped and writable over the whole length, and the source is a slice.
        unsafe { copy::bytes(source.as_ptr(), target.as_ptr(), source.len()) };
        Ok(())
    }

    /// Sets `length` bytes to `byte`.
    ///
    /// # Errors
    /// Where they do not lie within it, or it is for reading only.
    pub fn fill(&self, offset: usize, length: usize, byte: u8) -> Result<(), OutOfReach> {
        let target = self.place(offset, length, Access::ReadWrite)?;
        // SAFETY: The target is mapped and writable over the whole length.
        unsafe { copy::fill(target.as_ptr(), byte, length) };
        Ok(())
    }

    /// Copies `length` bytes to another region (or another part of this one, which must not overlap).
    ///
    /// # Errors
    /// Where either range does not lie within its region, the target is for reading only, or they overlap.
    pub fn copy_to(
        &self,
        offset: usize,
        target: &Self,
        target_offset: usize,
        length: usize,
    ) -> Result<(), OutOfReach> {
        let source = self.place(offset, length, Access::Read)?;
        let place = target.place(target_offset, length, Access::ReadWrite)?;
        if source.addr().get().abs_diff(place.addr().get()) < length {
            return Err(target.out_of_reach(target_offset, length));
        }
        // SAFETY: Both were checked over the whole length, and they do not overlap.
        unsafe { copy::bytes(source.as_ptr(), place.as_ptr(), length) };
        Ok(())
    }

    /// Asks for the cache lines of `length` bytes from `offset` on, which will be copied [soon](crate::read_soon). What does
    /// not lie within the region is left out.
    #[inline]
    pub fn read_soon(&self, offset: usize, length: usize) {
        self.lines(offset, length, prefetch::read_soon);
    }

    /// As [`read_soon`](Self::read_soon), for what will be copied a little [later](crate::read_later).
    #[inline]
    pub fn read_later(&self, offset: usize, length: usize) {
        self.lines(offset, length, prefetch::read_later);
    }

    #[inline]
    fn lines(&self, offset: usize, length: usize, ask: impl Fn(&AtomicU8)) {
        let end = offset.saturating_add(length).min(self.length);
        for line in (offset..end).step_by(LINE) {
            // SAFETY: The byte lies within the mapping; as an atomic it may be changed by others. It is not read.
            ask(unsafe { AtomicU8::from_ptr(self.base.add(line).as_ptr()) });
        }
    }

    /// The address of `length` bytes at `offset`, for those who tell a device or the kernel.
    ///
    /// # Errors
    /// Where they do not lie within it, or `access` is not allowed.
    #[inline]
    pub fn place(&self, offset: usize, length: usize, access: Access) -> Result<NonNull<u8>, OutOfReach> {
        let within = offset.checked_add(length).is_some_and(|end| end <= self.length);
        if !within || (access == Access::ReadWrite && self.access == Access::Read) {
            return Err(self.out_of_reach(offset, length));
        }
        // SAFETY: The offset lies within the mapping (or just past its end, for nothing).
        Ok(unsafe { self.base.add(offset) })
    }

    #[cold]
    fn out_of_reach(&self, offset: usize, length: usize) -> OutOfReach {
        OutOfReach { offset, length, size: self.length, access: self.access }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // No longer watched before the address can mean something else.
        self.guard = None;
        // SAFETY: Whoever reaches the memory holds the region, so nothing of ours points into it any more. A device
        // that may still write there was told of it by somebody who must hold the region until it cannot.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.length) };
        debug_assert!(unmapped.is_ok(), "a mapping of our own can be unmapped");
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region")
            .field("base", &self.base)
            .field("length", &self.length)
            .field("access", &self.access)
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

/// What a file is mapped in.
fn page_size(file: &OwnedFd) -> io::Result<usize> {
    // `HUGETLBFS_MAGIC` of <linux/magic.h>; its block size is that of its pages.
    const HUGETLBFS: u64 = 0x9584_58f6;
    let system = fstatfs(file)?;
    if u64::try_from(system.f_type).is_ok_and(|kind| kind == HUGETLBFS) {
        let size = u64::try_from(system.f_bsize).map_or(PAGE, to_usize);
        return Ok(if size.is_power_of_two() { size.max(PAGE) } else { PAGE });
    }
    Ok(PAGE)
}

fn whole_pages(length: usize) -> io::Result<usize> {
    let pages = length.div_ceil(PAGE).max(1);
    // Addresses have 63 bits of use at most; the kernel refuses long before.
    let length = pages.checked_mul(PAGE).filter(|&length| length < to_usize(1 << 62));
    length.ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}
