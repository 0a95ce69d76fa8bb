//! Files that clients write with queues of their own, below the mount.

use std::fmt;
use std::sync::Arc;

use homifs_core::{Caller, FsError, Result, WritableFile};
use homifs_lower::{Identity, Lower, OpenFile};
use homifs_session::Connection;

/// Counts as an open for writing as long as it lives: nobody reads the file's media.
pub(super) struct DeviceWriter {
    lower: Arc<Lower>,
    /// Present until it is closed.
    file: Option<OpenFile>,
    ino: u64,
    size: u64,
    who: Identity,
    kernel: Arc<Connection>,
}

impl fmt::Debug for DeviceWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceWriter").field("ino", &self.ino).finish_non_exhaustive()
    }
}

fn failed(error: rustix::io::Errno) -> FsError {
    FsError::Lower(error.raw_os_error())
}

impl DeviceWriter {
    /// Opens a file for a caller that may write it. Leases on it are recalled.
    pub(super) fn open(
        lower: &Arc<Lower>,
        ino: u64,
        caller: &Caller,
        kernel: &Arc<Connection>,
    ) -> Result<Self> {
        let file = lower.open(ino, libc::O_RDWR, false).map_err(failed)?;
        let who = Identity { uid: caller.uid, gid: caller.gid, pid: caller.pid };
        let (lower, kernel) = (Arc::clone(lower), Arc::clone(kernel));
        let mut writer = Self { lower, file: Some(file), ino, size: 0, who, kernel };
        writer.size = writer.lower.stat(ino).map_err(failed)?.stx_size;
        writer.changed(-1, 0);
        Ok(writer)
    }

    /// Lets the kernel's FUSE forget attributes, and pages where it keeps any, that it could not see change.
    fn changed(&self, offset: i64, length: i64) {
        // Not known to the kernel: nothing to forget.
        let _ = self.kernel.forget_contents(self.ino, offset, length);
    }

    fn file(&self) -> Result<&OpenFile> {
        self.file.as_ref().ok_or(FsError::BadHandle)
    }

    fn changed_range(&self, offset: u64, length: u64) {
        self.changed(i64::try_from(offset).unwrap_or(0), i64::try_from(length).unwrap_or(0));
    }
}

impl Drop for DeviceWriter {
    fn drop(&mut self) {
        // First, so that nobody finds it written any more once it counts as closed.
        if let Some(access) = self.file.take().map(|file| file.access()) {
            self.lower.closed(self.ino, access);
        }
    }
}

impl WritableFile for DeviceWriter {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, offset: u64, target: &mut [u8]) -> Result<usize> {
        self.file()?.read(offset, target).map_err(failed)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let mut written = 0;
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            match self.file()?.write(offset + extents_core::to_u64(written), rest, &self.who) {
                Ok(0) => return Err(FsError::Lower(libc::EIO)),
                Ok(length) => written += length,
                Err(error) => return Err(failed(error)),
            }
        }
        self.changed_range(offset, extents_core::to_u64(bytes.len()));
        Ok(())
    }

    fn zero(&self, offset: u64, length: u64, unmap: bool) -> Result<()> {
        let mode = if unmap { libc::FALLOC_FL_PUNCH_HOLE } else { libc::FALLOC_FL_ZERO_RANGE };
        let mode = mode | libc::FALLOC_FL_KEEP_SIZE;
        self.lower.allocate(self.file()?, mode, offset, length, &self.who).map_err(failed)?;
        self.changed_range(offset, length);
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        self.file()?.sync(true).map_err(failed)
    }
}
