//! Leases on files of a writable mount, for clients that read by queues of their own.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use extents_core::{ExtentMap, Ino};
use homifs_core::{Caller, FsError, Lease, Leases, Result, ServedBy, Standing, WritableFile};
use homifs_lower::{Lower, LowerAttributes, OpenFile, ReadGuard};
use homifs_options::{MountFlags, Reads, Remount};
use homifs_session::Connection;

use super::device_writes::DeviceWriter;

/// Leases files of a lower mount.
#[derive(Debug)]
pub(crate) struct LowerLeases {
    pub(crate) lower: Arc<Lower>,
    pub(crate) volume_size: u64,
    pub(crate) reads: Reads,
    pub(crate) kernel: Arc<Connection>,
}

/// The file stays open, so that its blocks stay its own even when it loses its last name.
struct Held {
    lower: Arc<Lower>,
    file: OpenFile,
    guard: Option<ReadGuard>,
}

impl Lease for Held {
    fn is_recalled(&self) -> bool {
        self.file.state().is_changing()
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

/// What the flags of a mount mean for the one below it.
#[must_use]
pub fn lower_attributes(flags: MountFlags) -> LowerAttributes {
    LowerAttributes {
        noatime: flags.contains(MountFlags::NOATIME),
        strictatime: flags.contains(MountFlags::STRICTATIME),
        nodiratime: flags.contains(MountFlags::NODIRATIME),
        lazytime: flags.contains(MountFlags::LAZYTIME),
        sync: flags.contains(MountFlags::SYNC),
        dirsync: flags.contains(MountFlags::DIRSYNC),
    }
}

/// The kernel's FUSE tells of a close after close(2) has returned, and lets go of the file below later still: whoever wrote
/// a file, closed it and asks for a lease is not refused for that.
const CLOSING: Duration = Duration::from_millis(250);

impl LowerLeases {
    /// Leave to read the media; none where somebody goes on writing, or the file's map changes all the time.
    fn settled(&self, file: &OpenFile) -> rustix::io::Result<Option<ReadGuard>> {
        let until = Instant::now() + CLOSING;
        let mut pause = Duration::from_millis(1);
        loop {
            match self.lower.read_media(file, self.volume_size) {
                Ok(None) | Err(rustix::io::Errno::AGAIN) if Instant::now() < until => {
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(20));
                }
                Err(rustix::io::Errno::AGAIN) => return Ok(None),
                other => return other,
            }
        }
    }

    /// Who serves whoever opens a file for reading now, and why.
    fn served_by(&self, ino: Ino, known: &homifs_lower::Standing) -> Result<(ServedBy, String)> {
        if self.reads == Reads::Kernel {
            return Ok((ServedBy::Kernel, "the mount has reads=kernel".to_owned()));
        }
        if known.writers > 0 {
            let why = format!("it is open for writing ({} times)", known.writers);
            return Ok((ServedBy::Kernel, why));
        }
        if self.reads == Reads::Auto && known.appenders > 0 {
            let why = format!("it is being appended to ({} times)", known.appenders);
            return Ok((ServedBy::Kernel, why));
        }
        let failed = |error: rustix::io::Errno| FsError::Lower(error.raw_os_error());
        let file = self.lower.open(ino.0, libc::O_RDONLY, false).map_err(failed)?;
        let cached = self.reads == Reads::Auto && file.is_mostly_cached();
        let again = self.reads == Reads::Auto && self.lower.contents().was_read(ino.0);
        let mapped = self.lower.read_media(&file, self.volume_size);
        let disputed = self.lower.contents().standing(ino.0).is_some_and(|standing| standing.disputed);
        self.lower.close(&file);
        Ok(match mapped {
            Err(error) => (ServedBy::Kernel, format!("the kernel's driver has no map of it: {error}")),
            Ok(None) if disputed => {
                let why =
                    "the volume itself disputes where the kernel says that it lies; the log has both answers";
                (ServedBy::Kernel, why.to_owned())
            }
            Ok(None) => (ServedBy::Kernel, "somebody began to write to it".to_owned()),
            Ok(Some(_)) if cached => (ServedBy::Kernel, "the page cache has at least half of it".to_owned()),
            Ok(Some(_)) if again => {
                (ServedBy::Kernel, "it was read before, so the page cache gets it this time".to_owned())
            }
            Ok(Some(_)) => {
                (ServedBy::Engine, "it is clean: nobody writes, and all is on the media".to_owned())
            }
        })
    }
}

impl Leases for LowerLeases {
    fn lease(&self, ino: Ino) -> Result<(Arc<ExtentMap>, Arc<dyn Lease>)> {
        let failed = |error: rustix::io::Errno| FsError::Lower(error.raw_os_error());
        let file = self.lower.open(ino.0, libc::O_RDONLY, false).map_err(failed)?;
        let mut held = Held { lower: Arc::clone(&self.lower), file, guard: None };
        let guard = self.settled(&held.file).map_err(failed)?.ok_or(FsError::BeingWritten)?;
        let map = Arc::clone(&guard.map);
        held.guard = Some(guard);
        Ok((map, Arc::new(held)))
    }

    fn open_for_writing(&self, ino: Ino, caller: &Caller) -> Result<(Arc<dyn WritableFile>, u64)> {
        let writer = DeviceWriter::open(&self.lower, ino.0, caller, &self.kernel)?;
        let generation =
            self.lower.map_generation(ino.0).map_err(|error| FsError::Lower(error.raw_os_error()))?;
        Ok((Arc::new(writer), generation))
    }

    fn remount(&self, asked: &Remount) -> Result<()> {
        let attributes = lower_attributes(asked.options.flags);
        let changed = self.lower.remount(asked.read_only, &asked.lower, &attributes);
        changed
            .map_err(|error| FsError::Remount { errno: error.source.raw_os_error(), text: error.to_string() })
    }

    fn standing(&self, ino: Ino) -> Result<Standing> {
        let known = self.lower.contents().standing(ino.0).unwrap_or_default();
        let (served_by, why) = self.served_by(ino, &known)?;
        Ok(Standing {
            opens: known.opens,
            writers: known.writers,
            appenders: known.appenders,
            reading: known.reading,
            changes: self.lower.contents().changes_so_far(ino.0),
            engine_bytes: known.engine_bytes,
            kernel_bytes: known.kernel_bytes,
            ..Standing::new(served_by, why)
        })
    }

    fn counts(&self) -> Vec<(&'static str, &'static str, u64)> {
        let counts = self.lower.witness_counts();
        vec![
            (
                "maps_confirmed",
                "Maps of the kernel's driver that the volume itself confirms",
                counts.confirmed,
            ),
            (
                "maps_disputed",
                "Maps that the volume contradicts; such files are read by the kernel",
                counts.disputed,
            ),
            ("maps_unchecked", "Maps that could not be compared with the volume", counts.unchecked),
        ]
    }
}
