//! The lower mount: the kernel's own ext4 or XFS below a writable mount of ours.
//!
//! The kernel's driver stays the only writer of the volume. [`Lower`] mounts it where nobody else sees it and carries out
//! there what programs ask, as whoever asked, so that owners, ACLs, quotas and journals are the kernel's affair. It knows
//! of each file whether media and page cache may differ, so that whoever reads the media directly knows when it must not.
#![deny(unsafe_code)]

mod attributes;
mod contents;
mod directories;
mod mount;
mod names;
mod nodes;
mod open_files;
mod placement;
mod remount;
mod sys;
mod volume;
mod witness;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustix::fs::{AtFlags, OFlags, Statx, StatxFlags, statx};
use rustix::io::Errno;

pub use attributes::{Change, Moment};
pub use contents::{
    Access, ChangeGuard, Contents, Growing, GrowthGuard, ReadGuard, Sharing, SharingGuard, Standing, State,
};
pub use directories::{Listed, OpenDirectory};
pub use mount::{LowerAttributes, LowerError, LowerOptions};
pub use names::Create;
pub use open_files::{FileIoctl, OpenFile};
pub use remount::RemountError;
pub use sys::attributes::make_own;
pub use sys::identity::{Assumed, Identity};
pub use volume::LowerVolume;
pub use witness::{Opener, Witness, WitnessCounts};

use mount::PrivateMount;
use nodes::Nodes;
use sys::handles::KernelHandle;

/// The result of what the kernel's driver was asked; its answers are passed on as they are.
pub type Result<T> = std::result::Result<T, Errno>;

/// A volume mounted by the kernel's own driver, for us alone. All methods may be called from any thread.
#[derive(Debug)]
pub struct Lower {
    mount: PrivateMount,
    format: &'static str,
    root: u64,
    nodes: Arc<Nodes>,
    contents: Contents,
    witness: OnceLock<Witness>,
}

/// An inode that was found, and what `stat` tells of it.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    /// The inode number.
    pub ino: u64,
    /// Differs when the number is used again.
    pub generation: u64,
    /// Everything else.
    pub stat: Statx,
}

const STAT: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::BTIME);

impl Lower {
    /// Mounts a block device or an image, which is open for writing as `held` so that nobody else has it.
    ///
    /// # Errors
    /// Where the kernel's driver refuses.
    pub fn mount(path: &Path, held: File, options: &LowerOptions) -> std::result::Result<Self, LowerError> {
        let mount = PrivateMount::new(path, held, options)?;
        let refused = |source| LowerError::Refused {
            format: options.format,
            path: path.to_owned(),
            step: "looking at the root directory".to_owned(),
            source,
            told: String::new(),
        };
        let lower = Self {
            mount,
            format: options.format,
            root: 0,
            nodes: Arc::default(),
            contents: Contents::default(),
            witness: OnceLock::new(),
        };
        let handle = KernelHandle::of(&lower.mount.root).map_err(refused)?;
        let stat = stat_of(&lower.mount.root).map_err(refused)?;
        // Never forgotten: FUSE's root is there from the beginning.
        lower.nodes.told(handle);
        Ok(Self { root: stat.stx_ino, ..lower })
    }

    /// The inode number of the root directory.
    #[must_use]
    pub fn root(&self) -> u64 {
        self.root
    }

    /// The block device that the kernel's driver is on.
    #[must_use]
    pub fn device(&self) -> &Path {
        &self.mount.device
    }

    /// What is known of files' contents.
    #[must_use]
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    /// Notes that the kernel's FUSE has forgotten a node.
    pub fn forget(&self, ino: u64, times: u64) {
        if ino != self.root {
            self.nodes.forgotten(ino, times);
        }
    }

    /// Notes that the kernel's FUSE was told of a node: it will ask by its number from now on.
    pub(crate) fn told(&self, fd: &OwnedFd) -> Result<Found> {
        let handle = KernelHandle::of(fd)?;
        self.nodes.told(handle);
        let found = stat_of(fd).and_then(|stat| {
            if stat.stx_nlink == 0 {
                // It lost its name before it was known.
                self.nodes.keep(&handle, handle.open(&self.mount.root, OFlags::PATH)?);
            }
            Ok(Found { ino: handle.ino(), generation: handle.generation(), stat })
        });
        if found.is_err() {
            self.forget(handle.ino(), 1);
        }
        found
    }

    /// A descriptor of a node that only names it.
    pub(crate) fn path(&self, ino: u64) -> Result<OwnedFd> {
        self.reopen(ino, OFlags::PATH)
    }

    /// A descriptor of a directory, which only names it.
    pub(crate) fn directory(&self, ino: u64) -> Result<Arc<OwnedFd>> {
        if let Some(directory) = self.nodes.directory(ino) {
            return Ok(directory);
        }
        let directory = Arc::new(self.reopen(ino, OFlags::PATH | OFlags::DIRECTORY)?);
        self.nodes.keep_directory(&KernelHandle::of(&*directory)?, &directory);
        Ok(directory)
    }

    /// Opens a node, whatever became of its name.
    pub(crate) fn reopen(&self, ino: u64, flags: OFlags) -> Result<OwnedFd> {
        let handle = self.nodes.handle(ino).unwrap_or_else(|| self.handle_of_forgotten(ino))?;
        handle.open(&self.mount.root, flags | OFlags::NOFOLLOW)
    }

    /// The handle of a node that the kernel's FUSE has forgotten, and asks for by a file handle of its own
    /// (`name_to_handle_at(2)` on our mount). It checks the generation itself.
    fn handle_of_forgotten(&self, ino: u64) -> Result<KernelHandle> {
        let handle = match self.format {
            "xfs" => KernelHandle::xfs(ino, sys::ioctls::xfs_generation(&self.mount.root, ino)?),
            _ => KernelHandle::ext4(ino),
        };
        handle.ok_or(Errno::STALE)
    }

    /// Brings all that the driver knows of a file to the media, or into its log.
    pub(crate) fn make_durable(&self, ino: u64) -> Result<()> {
        rustix::fs::fsync(self.reopen(ino, OFlags::RDONLY | OFlags::NONBLOCK)?)
    }

    /// Brings the whole volume to the media.
    ///
    /// # Errors
    /// What the kernel's driver says.
    pub fn sync(&self) -> Result<()> {
        rustix::fs::syncfs(&self.mount.root)
    }

    /// What `stat` tells of a node.
    ///
    /// # Errors
    /// `ESTALE` where it is not on the volume any more.
    pub fn stat(&self, ino: u64) -> Result<Statx> {
        match self.nodes.directory(ino) {
            Some(directory) => stat_of(&directory),
            None => stat_of(&self.path(ino)?),
        }
    }
}

fn stat_of(fd: &OwnedFd) -> Result<Statx> {
    statx(fd, c"", AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW, STAT)
}

/// The name in `/proc` by which calls that only know paths reach what a descriptor stands for.
pub(crate) fn proc_path(fd: &OwnedFd) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}
