//! Memory of the caller that reads fill.

use std::marker::PhantomData;
use std::mem::MaybeUninit;

/// Bytes to be filled. They are only written, never read, so they may hold nothing yet.
#[derive(Debug)]
pub struct Target<'a> {
    start: *mut u8,
    length: usize,
    memory: PhantomData<&'a mut [MaybeUninit<u8>]>,
}

// SAFETY: It stands for a mutable borrow of bytes, which may go to another thread.
unsafe impl Send for Target<'_> {}

impl<'a> Target<'a> {
    /// Memory that others gave by address, as C programs do.
    ///
    /// # Safety
    /// For as long as `'a` the `length` bytes from `start` on must be writable, and nobody else may look at them or
    /// write to them. `start` may be anything where `length` is 0.
    #[must_use]
    pub unsafe fn from_raw(start: *mut u8, length: usize) -> Self {
        Self { start, length, memory: PhantomData }
    }

    /// How many bytes there are.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// The same memory, for a while.
    pub fn again(&mut self) -> Target<'_> {
        Target { start: self.start, length: self.length, memory: PhantomData }
    }

    /// The bytes from `offset` on, at most `length`.
    pub(crate) fn part(&mut self, offset: usize, length: usize) -> &mut [MaybeUninit<u8>] {
        let offset = offset.min(self.length);
        let length = length.min(self.length - offset);
        if length == 0 {
            return &mut [];
        }
        // SAFETY: The bytes lie within what this stands for, which is writable and nobody else's (`from_raw`).
        unsafe { std::slice::from_raw_parts_mut(self.start.add(offset).cast(), length) }
    }
}

impl<'a> From<&'a mut [u8]> for Target<'a> {
    fn from(bytes: &'a mut [u8]) -> Self {
        // What is never read through the target stays initialised: only bytes are written.
        Self { start: bytes.as_mut_ptr(), length: bytes.len(), memory: PhantomData }
    }
}

impl<'a> From<&'a mut Vec<u8>> for Target<'a> {
    fn from(bytes: &'a mut Vec<u8>) -> Self {
        bytes.as_mut_slice().into()
    }
}
