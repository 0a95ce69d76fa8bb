//! Who serves a file's reads, and why: for people who ask. And how they change that for a whole mount.

use extents_core::Ino;
use serde::Serialize;

use crate::error::{FsError, Result};
use crate::homifs::Homifs;

/// Who serves a file's reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ServedBy {
    /// The engine, from the media.
    Engine,
    /// The kernel's own driver, below the mount.
    Kernel,
}

/// What is known of a file's reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// Who serves whoever opens it now.
    pub served_by: ServedBy,
    /// Why.
    pub why: String,
    /// How often it is open, leases among them.
    pub opens: u32,
    /// Opens that may write at any time.
    pub writers: u32,
    /// Opens that only append, through the daemon.
    pub appenders: u32,
    /// Reads of the media that are under way, leases among them.
    pub reading: u32,
    /// How often it may have changed since the volume was mounted.
    pub changes: u32,
    /// Bytes that readers got from the engine since it was opened.
    pub engine_bytes: u64,
    /// Bytes that readers got from the kernel's driver through the daemon since then. What passes the daemon by is not
    /// counted by anybody.
    pub kernel_bytes: u64,
}

impl Standing {
    /// Of a file that nobody has open.
    #[must_use]
    pub fn new(served_by: ServedBy, why: impl Into<String>) -> Self {
        Self {
            served_by,
            why: why.into(),
            opens: 0,
            writers: 0,
            appenders: 0,
            reading: 0,
            changes: 0,
            engine_bytes: 0,
            kernel_bytes: 0,
        }
    }
}

impl Homifs {
    /// Changes how the volume is mounted below, as `mount -o remount` with these options asks.
    pub(crate) fn remount(&self, options: &str) -> Result<()> {
        let refuse = |errno, text| Err(FsError::Remount { errno, text });
        let asked = match self.options().remount(options) {
            Ok(asked) => asked,
            Err(error) => return refuse(libc::EINVAL, error.to_string()),
        };
        match self.leases_cell().get() {
            Some(leases) => leases.remount(&asked),
            None if asked.read_only == Some(false) => refuse(
                libc::EROFS,
                "it was mounted read-only, by a daemon that never writes; unmount, then mount it with -o rw (or ro,recovery=media, which can be remounted)"
                    .to_owned(),
            ),
            None => Ok(()),
        }
    }

    /// Who serves a file's reads.
    pub(crate) fn standing(&self, ino: Ino) -> Result<Standing> {
        match self.leases_cell().get() {
            Some(leases) => leases.standing(ino),
            None => Ok(Standing::new(ServedBy::Engine, "the mount is read-only: nothing changes")),
        }
    }
}
