//! Memory that a device may fill.

use std::fmt;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;

use crate::Arena;

/// Page-aligned memory with one owner. Dropping it gives its pages back to the pool that it came from.
///
/// It dereferences to as many bytes as were asked for. Fresh memory is zero; memory that was used before holds what
/// it held then, never anything from outside the process.
pub struct Buffer {
    address: NonNull<u8>,
    length: usize,
    pages: usize,
    arena: Arc<Arena>,
}

// SAFETY: A buffer owns its pages alone: the page map gave them to it and to nobody else.
unsafe impl Send for Buffer {}
// SAFETY: A shared buffer can only be read.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// Takes over `pages` pages from `address` on, which were just taken from `arena` and hold `length` bytes.
    pub(crate) fn new(arena: Arc<Arena>, address: NonNull<u8>, pages: usize, length: usize) -> Self {
        debug_assert!(length <= pages * crate::PAGE);
        Self { address, length, pages, arena }
    }

    /// Where it starts, for those who tell a device. Whoever lets a device write there keeps the buffer, untouched,
    /// until the device is done.
    #[must_use]
    pub fn address(&self) -> NonNull<u8> {
        self.address
    }

    /// Never lets anybody use its memory again, which a device may still write to; what is left is an empty buffer.
    #[must_use]
    pub fn give_up(self) -> Self {
        let empty = Self { address: self.address, length: 0, pages: 0, arena: Arc::clone(&self.arena) };
        // With its share in the arena, so that this stays mapped.
        mem::forget(self);
        empty
    }

    /// The arena that it is a part of.
    #[must_use]
    pub fn arena(&self) -> &Arena {
        &self.arena
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: The pages are mapped for reading as long as the arena lives, which this buffer keeps alive; they
        // were initialised by the kernel (zeroed); nobody else has them, and `length` bytes lie within them.
        unsafe { slice::from_raw_parts(self.address.as_ptr(), self.length) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: As for `deref`; mapped for writing too, and `&mut self` makes this the only slice.
        unsafe { slice::from_raw_parts_mut(self.address.as_ptr(), self.length) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.arena.give(self.address, self.pages);
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("address", &self.address).field("length", &self.length).finish()
    }
}
