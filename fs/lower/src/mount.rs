//! Mounts the volume by the kernel's own driver where nobody sees it.
//!
//! The mount is made by `fsmount(2)` and never attached to a directory: it is in no mount table, no path leads to it, and
//! it is gone with the last descriptor on it, however the daemon ends. Decision: `docs/adr/0050-lower-mount.md`.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_create_exclusive, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};

use crate::sys::ioctls;

/// What to mount, and how.
#[derive(Debug, Clone)]
pub struct LowerOptions {
    /// `ext4` or `xfs` (`ext4` also serves ext2 and ext3).
    pub format: &'static str,
    /// First byte of the volume on the device or in the image.
    pub offset: u64,
    /// Nothing is written, once the driver has recovered its journal or log.
    pub read_only: bool,
    /// Flags of every file system that concern what happens below: `noatime`, `sync`, ...
    pub attributes: LowerAttributes,
    /// Options of the file system itself, as mount(8) would give them to it.
    pub data: Vec<String>,
}

/// Access times, and what is synchronous.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LowerAttributes {
    /// `noatime`.
    pub noatime: bool,
    /// `strictatime`.
    pub strictatime: bool,
    /// `nodiratime`.
    pub nodiratime: bool,
    /// `lazytime`.
    pub lazytime: bool,
    /// `sync`.
    pub sync: bool,
    /// `dirsync`.
    pub dirsync: bool,
}

/// Why the kernel's driver did not mount the volume.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LowerError {
    /// Neither a block device nor a regular file.
    #[error(
        "{path}: a writable mount needs a block device or an image file, since the kernel's own driver writes; mount it read-only otherwise"
    )]
    NotMountable {
        /// What was given.
        path: PathBuf,
    },
    /// It cannot be opened.
    #[error("cannot open {path} ({source})")]
    Open {
        /// What was given.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else mounted it just now.
    #[error("{path} is in use: it was mounted by the kernel's {format} meanwhile; unmount that first")]
    Busy {
        /// What was given.
        path: PathBuf,
        /// The file system.
        format: &'static str,
    },
    /// No loop device for an image.
    #[error(
        "no loop device for {path} ({source}); load the loop module (modprobe loop), or free one (losetup -d)"
    )]
    Loop {
        /// The image.
        path: PathBuf,
        /// Why.
        source: Errno,
    },
    /// The driver refused; with what it says itself.
    #[error("the kernel's {format} does not mount {path}: {step}: {source}{told}")]
    Refused {
        /// The file system.
        format: &'static str,
        /// What was given.
        path: PathBuf,
        /// What it was asked.
        step: String,
        /// Its answer.
        source: Errno,
        /// Its words.
        told: String,
    },
}

/// A mount that only its descriptor leads to.
#[derive(Debug)]
pub(crate) struct PrivateMount {
    pub(crate) root: OwnedFd,
    /// The mount itself: without this descriptor the kernel takes it for none, and changes nothing about it.
    pub(crate) mount: OwnedFd,
    /// The block device that it is on.
    pub(crate) device: PathBuf,
    /// Keeps an image from others.
    _held: Option<File>,
}

impl PrivateMount {
    /// Mounts `path`, a block device or an image, which is `held` so that nobody else has it.
    pub(crate) fn new(path: &Path, held: File, options: &LowerOptions) -> Result<Self, LowerError> {
        let kind =
            held.metadata().map_err(|source| LowerError::Open { path: path.to_owned(), source })?.file_type();
        let (device, holders, held) = if kind.is_block_device() && options.offset == 0 {
            // The kernel's driver holds it itself; who comes between is found by asking for a mount that is nobody else's.
            drop(held);
            (path.to_owned(), None, None)
        } else if kind.is_file() || kind.is_block_device() {
            let (device, open) = attach(path, &held, options)?;
            (device, Some(open), Some(held))
        } else {
            return Err(LowerError::NotMountable { path: path.to_owned() });
        };
        let mount = mount(&device, path, options)?;
        // Opened, since by a descriptor that only names the root no handle can be opened.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(&mount, c".", flags, Mode::empty()).map_err(|source| LowerError::Refused {
            format: options.format,
            path: path.to_owned(),
            step: "opening the root directory".to_owned(),
            source,
            told: String::new(),
        })?;
        // The mount holds the loop device from here on.
        drop(holders);
        Ok(Self { root, mount, device, _held: held })
    }
}

/// Puts an image behind a loop device.
fn attach(path: &Path, image: &File, options: &LowerOptions) -> Result<(PathBuf, File), LowerError> {
    let failed = |source| LowerError::Loop { path: path.to_owned(), source };
    let from_io = |error: io::Error| failed(Errno::from_io_error(&error).unwrap_or(Errno::IO));
    let control = File::options().read(true).write(true).open("/dev/loop-control").map_err(from_io)?;
    // Another process may take the device that is free between the two steps.
    for _ in 0..64 {
        let number = ioctls::free_loop_device(&control).map_err(failed)?;
        let device = PathBuf::from(format!("/dev/loop{number}"));
        let open = File::options().read(true).write(true).open(&device).map_err(from_io)?;
        // Writable also for a mount that is not: the driver recovers its journal there.
        let configure = |direct| ioctls::configure_loop(&open, image, options.offset, 0, false, direct);
        // Past the page cache of the image where its file system can, so that nothing is kept twice.
        match configure(true)
            .or_else(|error| if error == Errno::INVAL { configure(false) } else { Err(error) })
        {
            Ok(()) => return Ok((device, open)),
            Err(Errno::BUSY) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Err(failed(Errno::BUSY))
}

fn mount(device: &Path, shown: &Path, options: &LowerOptions) -> Result<OwnedFd, LowerError> {
    let context =
        fsopen(options.format, FsOpenFlags::FSOPEN_CLOEXEC).map_err(|source| LowerError::Refused {
            format: options.format,
            path: shown.to_owned(),
            step: "this kernel does not have it".to_owned(),
            source,
            told: String::new(),
        })?;
    let refused = |step: String| {
        let context = &context;
        move |source| LowerError::Refused {
            format: options.format,
            path: shown.to_owned(),
            step,
            source,
            told: told(context),
        }
    };
    fsconfig_set_string(&context, "source", device).map_err(refused("source".to_owned()))?;
    let flags = [
        ("ro", options.read_only),
        ("lazytime", options.attributes.lazytime),
        ("sync", options.attributes.sync),
        ("dirsync", options.attributes.dirsync),
    ];
    for (name, _) in flags.iter().filter(|(_, wanted)| *wanted) {
        fsconfig_set_flag(&context, *name).map_err(refused((*name).to_owned()))?;
    }
    for option in &options.data {
        let set = match option.split_once('=') {
            Some((name, value)) => fsconfig_set_string(&context, name, value),
            None => fsconfig_set_flag(&context, option.as_str()),
        };
        set.map_err(refused(format!("the option '{option}'")))?;
    }
    // Two mounts of one device share what the driver knows of it, and nobody would see all changes (since Linux 6.6).
    let created = match fsconfig_create_exclusive(&context) {
        Err(Errno::INVAL | Errno::OPNOTSUPP) => fsconfig_create(&context),
        created => created,
    };
    created.map_err(|error| match error {
        Errno::BUSY => LowerError::Busy { path: shown.to_owned(), format: options.format },
        error => refused("mounting".to_owned())(error),
    })?;
    let mut attributes = MountAttrFlags::empty();
    if options.attributes.noatime {
        attributes |= MountAttrFlags::MOUNT_ATTR_NOATIME;
    } else if options.attributes.strictatime {
        attributes |= MountAttrFlags::MOUNT_ATTR_STRICTATIME;
    }
    if options.attributes.nodiratime {
        attributes |= MountAttrFlags::MOUNT_ATTR_NODIRATIME;
    }
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(refused("fsmount".to_owned()))
}

/// What the driver wrote into the context: its reasons.
pub(crate) fn told(context: &OwnedFd) -> String {
    let mut text = String::new();
    let mut line = [0_u8; 1024];
    for _ in 0..16 {
        match rustix::io::read(context, &mut line) {
            Ok(length) if length > 0 => {
                text.push_str("; ");
                text.push_str(String::from_utf8_lossy(line.get(..length).unwrap_or_default()).trim_end());
            }
            _ => break,
        }
    }
    text
}
