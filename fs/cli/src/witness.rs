//! Lets the maps of a writable mount be compared with what our own parser reads off the volume.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use engine_block::BlockDevice;
use extents_core::{BlockRead, ReadError, to_u64};
use extents_volume::VolumeOptions;
use homifs_core::MetadataReader;
use homifs_lower::{Lower, Opener};

use crate::Result;
use crate::failure::{Failure, exit};

const EIO: i32 = rustix::io::Errno::IO.raw_os_error();

/// A block device through its own page cache, where ext4 keeps the metadata that it has not written yet.
#[derive(Debug)]
struct Cached {
    device: File,
    size: u64,
}

impl BlockRead for Cached {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::result::Result<(), ReadError> {
        let length = to_u64(buf.len());
        self.device.read_exact_at(buf, offset).map_err(|error| ReadError {
            offset,
            length,
            errno: error.raw_os_error().unwrap_or(EIO),
        })
    }

    fn size(&self) -> u64 {
        self.size
    }
}

/// `start` is where the volume begins on the engine's device; the device of the lower mount begins there.
pub(crate) fn start(lower: &Arc<Lower>, engine: &Arc<dyn BlockDevice>, start: u64, format: &str) -> Result {
    let refuse = |error: std::io::Error| {
        let device = lower.device().display();
        Failure::new(exit::SYSTEM, format!("cannot read {device} beside the kernel's driver: {error}"))
    };
    let opener: Opener = if format == "xfs" {
        let reader = Arc::new(MetadataReader::new(Arc::clone(engine)));
        Box::new(move || open(Arc::clone(&reader) as _, start))
    } else {
        let reader = Arc::new(cached(lower.device()).map_err(refuse)?);
        Box::new(move || open(Arc::clone(&reader) as _, 0))
    };
    lower.compare_maps(opener).map_err(refuse)
}

fn cached(path: &Path) -> std::io::Result<Cached> {
    use std::io::Seek as _;
    let mut device = File::open(path)?;
    let size = device.seek(std::io::SeekFrom::End(0))?;
    Ok(Cached { device, size })
}

fn open(reader: Arc<dyn BlockRead>, start: u64) -> Option<Arc<dyn extents_core::FileSystem>> {
    let options = VolumeOptions {
        offset: Some(start),
        norecovery: true,
        // Nothing is kept: each look is a new one.
        cache_bytes: 1 << 20,
        ..VolumeOptions::default()
    };
    match extents_volume::open(reader, &options) {
        Ok(volume) => Some(volume.fs),
        Err(error) => {
            tracing::debug!(
                error = homifs_core::error_chain(&error),
                "the volume cannot be opened to compare maps with it"
            );
            None
        }
    }
}
