//! Memory of the caller that reads fill.

use std::marker::PhantomData;
use std::mem::MaybeUninit;

use crate::ClientError;
#[cfg(feature = "cuda")]
use crate::cuda::Device;
use crate::memory::Shared;

/// Most bytes that go to a device by way of memory that was made for it.
#[cfg(feature = "cuda")]
const DETOUR: usize = 4 << 20;

/// Bytes to be filled. They are only written, never read, so they may hold nothing yet.
#[derive(Debug)]
pub struct Target<'a> {
    start: *mut u8,
    length: usize,
    place: Place,
    memory: PhantomData<&'a mut [MaybeUninit<u8>]>,
}

/// Whose memory it is.
#[derive(Debug, Clone)]
enum Place {
    Process,
    #[cfg(feature = "cuda")]
    Device(Device),
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
        Self { start, length, place: Place::Process, memory: PhantomData }
    }

    /// Memory of a device that others gave by address.
    ///
    /// # Safety
    /// As [`from_raw`](Self::from_raw), on the device.
    #[cfg(feature = "cuda")]
    #[must_use]
    pub unsafe fn of_device(device: &Device, address: u64, length: usize) -> Self {
        let start = std::ptr::without_provenance_mut(usize::try_from(address).unwrap_or(0));
        Self { start, length, place: Place::Device(device.clone()), memory: PhantomData }
    }

    /// How many bytes there are.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// The first `length` bytes, or as many as there are, which this then has no more.
    #[must_use]
    pub fn split_off_front(&mut self, length: usize) -> Self {
        let length = length.min(self.length);
        let front = Target { start: self.start, length, place: self.place.clone(), memory: PhantomData };
        self.start = self.start.wrapping_add(length);
        self.length -= length;
        front
    }

    /// The same memory, for a while.
    pub fn again(&mut self) -> Target<'_> {
        Target { start: self.start, length: self.length, place: self.place.clone(), memory: PhantomData }
    }

    /// The device whose memory it is; none where it is the process's.
    #[cfg(feature = "cuda")]
    pub(crate) fn device(&self) -> Option<&Device> {
        match &self.place {
            Place::Process => None,
            Place::Device(device) => Some(device),
        }
    }

    /// Copies `length` bytes of shared memory from `source` on to the place `at`.
    ///
    /// # Panics
    /// Where either side is shorter.
    pub(crate) fn fill(
        &mut self,
        at: usize,
        memory: &Shared,
        source: usize,
        length: usize,
    ) -> Result<(), ClientError> {
        assert!(at.checked_add(length).is_some_and(|end| end <= self.length), "{length} bytes at {at}");
        match &self.place {
            Place::Process => {
                memory.read_into(source, self.part(at, length));
                Ok(())
            }
            #[cfg(feature = "cuda")]
            Place::Device(device) => {
                let address = u64::try_from(self.start.addr() + at).unwrap_or(u64::MAX);
                // SAFETY: The bytes lie within the mapping and within the device's memory (`of_device`).
                unsafe { device.copy(address, memory.at(source, length), length) }
            }
        }
    }

    /// Has `read` fill the bytes from `at` on, as many as it likes; how many those were.
    pub(crate) fn fill_by(
        &mut self,
        at: usize,
        read: impl FnOnce(&mut [MaybeUninit<u8>]) -> Result<usize, ClientError>,
    ) -> Result<usize, ClientError> {
        match &self.place {
            Place::Process => read(self.part(at, usize::MAX)),
            #[cfg(feature = "cuda")]
            Place::Device(device) => {
                let mut detour = vec![MaybeUninit::uninit(); DETOUR.min(self.length.saturating_sub(at))];
                let length = read(&mut detour)?.min(detour.len());
                let address = u64::try_from(self.start.addr() + at).unwrap_or(u64::MAX);
                // SAFETY: As many bytes were filled, and have their place in the device's memory (`of_device`).
                unsafe { device.copy(address, detour.as_ptr().cast(), length) }?;
                Ok(length)
            }
        }
    }

    /// The bytes from `offset` on, at most `length`, of the process's memory.
    fn part(&mut self, offset: usize, length: usize) -> &mut [MaybeUninit<u8>] {
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
        Self { start: bytes.as_mut_ptr(), length: bytes.len(), place: Place::Process, memory: PhantomData }
    }
}

impl<'a> From<&'a mut Vec<u8>> for Target<'a> {
    fn from(bytes: &'a mut Vec<u8>) -> Self {
        bytes.as_mut_slice().into()
    }
}
