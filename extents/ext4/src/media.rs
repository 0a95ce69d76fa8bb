//! The one way by which bytes of the volume are read: what a recovery would have written lies over the device.

use std::fmt;
use std::sync::Arc;

use extents_core::{BlockRead, Overlay, Result, to_u64};

/// The device and what lies over it.
pub(crate) struct Media {
    pub(crate) device: Arc<dyn BlockRead>,
    pub(crate) overlay: Overlay,
}

impl Media {
    /// Fills `buf` with the bytes of the volume from byte `offset` on.
    pub(crate) fn read(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.overlay.read_over(&*self.device, offset, buf)?;
        Ok(())
    }

    /// `length` bytes of the volume from byte `offset` on. The caller bounds the length.
    pub(crate) fn read_vec(&self, offset: u64, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.read(offset, &mut bytes)?;
        Ok(bytes)
    }

    /// Whether all of these bytes lie on the device.
    pub(crate) fn holds(&self, offset: u64, length: usize) -> bool {
        offset.checked_add(to_u64(length)).is_some_and(|end| end <= self.device.size())
    }
}

impl fmt::Debug for Media {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Media")
            .field("size", &self.device.size())
            .field("overlay", &self.overlay.len())
            .finish()
    }
}
