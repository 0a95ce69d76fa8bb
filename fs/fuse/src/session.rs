//! A mount and its life.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use extents_core::Ino;
use homifs_core::Homifs;
use homifs_lower::Lower;
use homifs_session::{Connection, Filesystem, Session};

use crate::filesystem::Translation;
use crate::mount::{self, MountError};
use crate::mount_table;
use crate::writable::{LowerLeases, Writable};

/// A mounted volume that is not served yet: requests wait until [`Mounted::run`].
pub struct Mounted {
    serve: Box<dyn FnOnce() -> io::Result<()> + Send>,
    unmounter: Unmounter,
}

impl std::fmt::Debug for Mounted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mounted").field("unmounter", &self.unmounter).finish_non_exhaustive()
    }
}

/// Ends a mount from another thread.
#[derive(Debug, Clone)]
pub struct Unmounter {
    mountpoint: PathBuf,
    device: String,
}

/// Mounts a volume on a directory, for reading.
///
/// # Errors
/// Where the directory does not do, or FUSE is not to be had; nothing is left mounted then.
pub fn mount(homifs: &Arc<Homifs>, mountpoint: &Path) -> Result<Mounted, MountError> {
    start(homifs, mountpoint, |_| Translation::new(Arc::clone(homifs)))
}

/// Mounts a volume on a directory, for reading and writing; `lower` carries out what changes it.
///
/// # Errors
/// As for [`mount`]; and for who is not root, since only root mounts volumes by the kernel's own drivers.
pub fn mount_writable(
    homifs: &Arc<Homifs>,
    lower: &Arc<Lower>,
    mountpoint: &Path,
) -> Result<Mounted, MountError> {
    start(homifs, mountpoint, |kernel| {
        homifs.lease_by(Arc::new(LowerLeases {
            lower: Arc::clone(lower),
            volume_size: homifs.volume().info().size,
            reads: homifs.options().reads,
            kernel: Arc::clone(kernel),
        }));
        let recalled = Arc::downgrade(homifs);
        lower.contents().on_change(move |ino| {
            if let Some(homifs) = recalled.upgrade() {
                homifs.recall(Ino(ino));
            }
        });
        let growing = Arc::downgrade(homifs);
        lower.contents().on_growth(move |ino| {
            if let Some(homifs) = growing.upgrade() {
                homifs.has_grown(Ino(ino));
            }
        });
        Writable::new(Arc::clone(homifs), Arc::clone(lower), Arc::clone(kernel))
    })
}

fn start<F: Filesystem>(
    homifs: &Arc<Homifs>,
    mountpoint: &Path,
    filesystem: impl FnOnce(&Arc<Connection>) -> F,
) -> Result<Mounted, MountError> {
    let mountpoint = mount::check_mountpoint(mountpoint)?;
    let kernel = if rustix::process::geteuid().is_root() {
        let kernel = Connection::open().map_err(MountError::NoFuse)?;
        mount::mount_as_root(homifs, &*kernel, &mountpoint)?;
        kernel
    } else {
        mount::mount_as_user(homifs, &mountpoint)?
    };
    let entry = mount_table::at(&mountpoint).ok().flatten();
    let device = entry.map(|entry| entry.device).unwrap_or_default();
    let session = Session::begin(filesystem(&kernel), kernel).map_err(|error| {
        let _ = mount::unmount_all(&mountpoint, &device, true);
        MountError::Handshake(error)
    })?;
    mount::raise_read_ahead(&device, homifs.options().read_ahead);
    let threads = worker_threads(homifs);
    Ok(Mounted { serve: Box::new(move || session.run(threads)), unmounter: Unmounter { mountpoint, device } })
}

/// How many threads answer requests: as many as asked for, else enough to keep a drive busy while some of them wait
/// for it.
fn worker_threads(homifs: &Homifs) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let chosen = homifs.options().threads.and_then(|threads| usize::try_from(threads).ok());
    chosen.unwrap_or((cores * 4).clamp(8, 64)).max(1)
}

impl Mounted {
    /// What ends the mount from another thread.
    #[must_use]
    pub fn unmounter(&self) -> Unmounter {
        self.unmounter.clone()
    }

    /// Answers the kernel until the volume is unmounted.
    ///
    /// # Errors
    /// Where the connection to the kernel broke before.
    pub fn run(self) -> io::Result<()> {
        (self.serve)()
    }
}

impl Unmounter {
    /// Unmounts; with `lazy` also while files are open, which then stay readable until they are closed.
    ///
    /// # Errors
    /// `EBUSY` where files are open and it is not lazy; otherwise what the kernel says.
    pub fn unmount(&self, lazy: bool) -> io::Result<()> {
        mount::unmount_all(&self.mountpoint, &self.device, lazy)
    }

    /// Where the volume is mounted.
    #[must_use]
    pub fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }
}
