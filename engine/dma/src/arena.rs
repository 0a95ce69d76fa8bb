//! Stretches of memory with an address that stays.

use std::fmt;
use std::io;
use std::ptr::NonNull;
use std::sync::OnceLock;

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use crate::page_map::PageMap;

/// What arenas are counted in and buffers are aligned to, in bytes.
pub const PAGE: usize = 4096;

/// Left on an arena by whoever told a device of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registration {
    /// Who registered it; the handle means nothing to others.
    pub owner: u64,
    /// What the owner's device knows the arena by: an index in a table of fixed buffers, an address on a bus.
    pub handle: u64,
}

/// Page-aligned memory at a fixed address, zeroed by the kernel when it was mapped.
pub struct Arena {
    base: NonNull<u8>,
    length: usize,
    free: PageMap,
    registration: OnceLock<Registration>,
}

// SAFETY: The arena only hands out addresses; the memory behind them is reached through buffers, each of which owns
// its pages alone. The page map and the registration synchronise themselves.
unsafe impl Send for Arena {}
// SAFETY: As above; no method gives access to the memory through a shared arena.
unsafe impl Sync for Arena {}

impl Arena {
    /// Maps `length` bytes (rounded up to whole pages, at least one) of anonymous memory.
    ///
    /// # Errors
    /// Where the kernel has no memory to give.
    pub(crate) fn map(length: usize) -> io::Result<Self> {
        let pages = length.div_ceil(PAGE).max(1);
        let length = pages.checked_mul(PAGE).ok_or(io::ErrorKind::OutOfMemory)?;
        // SAFETY: A new anonymous mapping at an address of the kernel's choice touches no existing memory.
        let base = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                length,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        }?;
        let base = NonNull::new(base.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, length, free: PageMap::all_free(pages), registration: OnceLock::new() })
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

    /// What was left by whoever told a device of it.
    #[must_use]
    pub fn registration(&self) -> Option<Registration> {
        self.registration.get().copied()
    }

    /// Leaves a note that a device knows this arena. Only the first stays; answers whether this was it.
    pub fn register(&self, registration: Registration) -> bool {
        self.registration.set(registration).is_ok()
    }

    /// Takes `pages` pages; the address of the first. Must not run on two threads at once for one arena.
    pub(crate) fn take(&self, pages: usize) -> Option<NonNull<u8>> {
        let first = self.free.take(pages)?;
        // SAFETY: The page map has as many pages as the mapping, so the first page of a run lies within it.
        Some(unsafe { self.base.add(first * PAGE) })
    }

    /// Gives back `pages` pages from `address` on, which came from [`take`](Self::take) of this arena.
    pub(crate) fn give(&self, address: NonNull<u8>, pages: usize) {
        let first = (address.addr().get() - self.base.addr().get()) / PAGE;
        self.free.give(first, pages);
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: Buffers keep their arena alive, so nothing points into the mapping any more. A device that may
        // still write there must hold the buffers, which is what the queues do.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.length) };
        debug_assert!(unmapped.is_ok(), "a mapping of our own can be unmapped");
    }
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arena")
            .field("base", &self.base)
            .field("length", &self.length)
            .field("pages", &self.free.pages())
            .field("registration", &self.registration.get())
            .finish()
    }
}
