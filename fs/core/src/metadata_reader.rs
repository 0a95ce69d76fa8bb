//! Lets the parsers read metadata through whatever engine the mount uses.

use std::sync::Arc;

use engine_block::BlockDevice;
use extents_core::{BlockRead, ReadError, to_u64};

/// A device of the engine, as the parsers see one.
#[derive(Debug, Clone)]
pub struct MetadataReader(Arc<dyn BlockDevice>);

impl MetadataReader {
    /// Reads from this device.
    #[must_use]
    pub fn new(device: Arc<dyn BlockDevice>) -> Self {
        Self(device)
    }
}

impl BlockRead for MetadataReader {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let length = to_u64(buf.len());
        self.0.read_at(offset, buf).map_err(|error| ReadError { offset, length, errno: error.errno })
    }

    fn size(&self) -> u64 {
        self.0.info().size
    }
}
