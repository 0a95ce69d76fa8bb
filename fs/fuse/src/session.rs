//! A mount and its life.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use extents_core::Ino;
use fuser::{Config, Filesystem, MountOption, Notifier, Session, SessionACL};
use homifs_core::Homifs;
use homifs_lower::Lower;

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
    start(Translation::new(Arc::clone(homifs)), homifs, mountpoint, |_| {})
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
    let volume_size = homifs.volume().info().size;
    let told = Arc::new(OnceLock::new());
    homifs.lease_by(Arc::new(LowerLeases {
        lower: Arc::clone(lower),
        volume_size,
        reads: homifs.options().reads,
        notifier: Arc::clone(&told),
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
    let writable = Writable::new(Arc::clone(homifs), Arc::clone(lower), Arc::clone(&told));
    start(writable, homifs, mountpoint, move |notifier| {
        // Requests wait until the session runs.
        let _ = told.set(notifier);
    })
}

fn start<F: Filesystem>(
    filesystem: F,
    homifs: &Arc<Homifs>,
    mountpoint: &Path,
    begun: impl FnOnce(Notifier),
) -> Result<Mounted, MountError> {
    let mountpoint = mount::check_mountpoint(mountpoint)?;
    let config = session_config(homifs);
    let session = if rustix::process::geteuid().is_root() {
        let device = mount::open_device()?;
        mount::mount_as_root(homifs, &device, &mountpoint)?;
        let acl = config.acl;
        Session::from_fd(filesystem, device, acl, config).map_err(|error| {
            let _ = rustix::mount::unmount(&*mountpoint, rustix::mount::UnmountFlags::DETACH);
            MountError::Handshake(error)
        })?
    } else {
        mount_as_user(filesystem, homifs, &mountpoint, config)?
    };
    begun(session.notifier());
    let entry = mount_table::at(&mountpoint).ok().flatten();
    let device = entry.map(|entry| entry.device).unwrap_or_default();
    mount::raise_read_ahead(&device, homifs.options().read_ahead);
    Ok(Mounted { serve: Box::new(move || session.run()), unmounter: Unmounter { mountpoint, device } })
}

/// How many threads answer requests: as many as asked for, else enough to keep a drive busy while some of them wait
/// for it.
fn worker_threads(homifs: &Homifs) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let chosen = homifs.options().threads.and_then(|threads| usize::try_from(threads).ok());
    chosen.unwrap_or((cores * 4).clamp(8, 64)).max(1)
}

fn session_config(homifs: &Homifs) -> Config {
    let root = rustix::process::geteuid().is_root();
    let mut config = Config::default();
    config.n_threads = Some(worker_threads(homifs));
    config.clone_fd = true;
    config.acl = match homifs.options().allow_other {
        Some(true) => SessionACL::All,
        Some(false) => SessionACL::Owner,
        None if root => SessionACL::All,
        None => SessionACL::Owner,
    };
    config
}

/// Lets fusermount3 mount, which knows what this user may.
fn mount_as_user<F: Filesystem>(
    filesystem: F,
    homifs: &Arc<Homifs>,
    mountpoint: &Path,
    mut config: Config,
) -> Result<Session<F>, MountError> {
    let options = homifs.options();
    config.mount_options = vec![
        MountOption::RO,
        MountOption::FSName(homifs.source().to_owned()),
        MountOption::Subtype("homifs".to_owned()),
        MountOption::CUSTOM(format!("max_read={}", options.max_read)),
    ];
    if options.default_permissions {
        config.mount_options.push(MountOption::DefaultPermissions);
    }
    mount::open_device()?;
    Session::new(filesystem, mountpoint, &config).map_err(|error| MountError::Refused {
        path: mountpoint.to_owned(),
        reason: format!("{error} (as an ordinary user this needs fusermount3, of the package fuse3)"),
    })
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
