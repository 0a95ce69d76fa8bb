//! Where the bytes come from.

use std::sync::Arc;

use crate::{to_u64, to_usize};

/// A device that can be read at any byte.
///
/// Reads are for metadata: small, cached by the reader of the format, and synchronous. File contents do not
/// pass through here; they go from the engine to the reader along the file's [`ExtentMap`](crate::ExtentMap).
pub trait BlockRead: Send + Sync {
    /// Fills `buf` with the bytes from `offset` on. Either all of them or an error.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError>;

    /// The size of the device in bytes.
    fn size(&self) -> u64;
}

/// A range that the device did not deliver.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("reading {length} bytes at byte {offset} failed: {}", std::io::Error::from_raw_os_error(*.errno))]
pub struct ReadError {
    /// First byte of the range.
    pub offset: u64,
    /// Length of the range in bytes.
    pub length: u64,
    /// The operating system's number for what happened; `EIO` where the device gave another kind of reason.
    pub errno: i32,
}

impl ReadError {
    const EIO: i32 = 5;
    const ERANGE: i32 = 34;

    /// A range that could not be read for a reason that has no errno.
    #[must_use]
    pub fn io(offset: u64, length: u64) -> Self {
        Self { offset, length, errno: Self::EIO }
    }

    /// A range that lies outside the device.
    #[must_use]
    pub fn outside(offset: u64, length: u64) -> Self {
        Self { offset, length, errno: Self::ERANGE }
    }
}

impl<R: BlockRead + ?Sized> BlockRead for Arc<R> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        (**self).read_at(offset, buf)
    }

    fn size(&self) -> u64 {
        (**self).size()
    }
}

/// A part of a device that is a device of its own, such as a partition.
#[derive(Debug, Clone)]
pub struct Window<R> {
    device: R,
    start: u64,
    size: u64,
}

impl<R: BlockRead> Window<R> {
    /// The `size` bytes of `device` from byte `start` on; `None` where they do not lie within it.
    pub fn new(device: R, start: u64, size: u64) -> Option<Self> {
        let end = start.checked_add(size)?;
        (end <= device.size()).then_some(Self { device, start, size })
    }

    /// The byte of the underlying device where this one starts.
    pub fn start(&self) -> u64 {
        self.start
    }
}

impl<R: BlockRead> BlockRead for Window<R> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let length = to_u64(buf.len());
        if offset.checked_add(length).is_none_or(|end| end > self.size) {
            return Err(ReadError::outside(offset, length));
        }
        self.device.read_at(self.start + offset, buf)
    }

    fn size(&self) -> u64 {
        self.size
    }
}

/// A volume held in memory, for tests and for fuzzing.
#[derive(Debug, Clone)]
pub struct MemoryDevice(pub Vec<u8>);

impl BlockRead for MemoryDevice {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let start = to_usize(offset);
        let source = start.checked_add(buf.len()).and_then(|end| self.0.get(start..end));
        let Some(source) = source else { return Err(ReadError::outside(offset, to_u64(buf.len()))) };
        buf.copy_from_slice(source);
        Ok(())
    }

    fn size(&self) -> u64 {
        to_u64(self.0.len())
    }
}
