//! Leases on files of a writable mount, for clients that read by queues of their own.

use std::fmt;
use std::sync::Arc;

use extents_core::{ExtentMap, Ino};
use homifs_core::{FsError, Lease, Leases, Result};
use homifs_lower::{Lower, OpenFile, ReadGuard};

/// Leases files of a lower mount.
#[derive(Debug)]
pub(crate) struct LowerLeases {
    pub(crate) lower: Arc<Lower>,
    pub(crate) volume_size: u64,
}

/// The file stays open, so that its blocks stay its own even when it loses its last name.
struct Held {
    lower: Arc<Lower>,
    file: OpenFile,
    guard: Option<ReadGuard>,
}

impl Lease for Held {
    fn is_recalled(&self) -> bool {
        self.file.state().is_written()
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("ino", &self.file.ino()).finish_non_exhaustive()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.guard.take());
        self.lower.close(&self.file);
    }
}

impl Leases for LowerLeases {
    fn lease(&self, ino: Ino) -> Result<(Arc<ExtentMap>, Arc<dyn Lease>)> {
        let failed = |error: rustix::io::Errno| FsError::Lower(error.raw_os_error());
        let file = self.lower.open(ino.0, libc::O_RDONLY).map_err(failed)?;
        let mut held = Held { lower: Arc::clone(&self.lower), file, guard: None };
        let guard = match held.file.read_media(self.volume_size) {
            // Its map changes all the time.
            Ok(None) | Err(rustix::io::Errno::AGAIN) => return Err(FsError::BeingWritten),
            guard => guard.map_err(failed)?.ok_or(FsError::BeingWritten)?,
        };
        let map = Arc::clone(&guard.map);
        held.guard = Some(guard);
        Ok((map, Arc::new(held)))
    }
}
