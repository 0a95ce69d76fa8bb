//! Makes the mount: by mount(2) where we are root, by fusermount3 where we are not.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use homifs_core::Homifs;
use homifs_session::Connection;
use rustix::mount::{MountFlags as KernelFlags, UnmountFlags};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::mount_table;

/// Why a volume could not be mounted. The text says what, why and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MountError {
    /// The FUSE device is missing or closed to us.
    #[error(
        "cannot open /dev/fuse ({0}): load the fuse module (modprobe fuse), or let this container use the device"
    )]
    NoFuse(io::Error),
    /// The mount point does not do.
    #[error("cannot mount on {path}: {reason}")]
    Mountpoint {
        /// What was given.
        path: PathBuf,
        /// Why it does not do, and what would.
        reason: String,
    },
    /// The kernel or fusermount3 refused.
    #[error("cannot mount on {path}: {reason}")]
    Refused {
        /// The mount point.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// The kernel and the daemon could not agree on a session.
    #[error("the kernel's FUSE did not start a session: {0}")]
    Handshake(io::Error),
}

impl MountError {
    /// Whether the one who asked lacks a right, rather than the machine or the volume something else.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        matches!(self, Self::NoFuse(error) if error.kind() == io::ErrorKind::PermissionDenied)
            || matches!(self, Self::Refused { reason, .. } if reason.contains("ermission") || reason.contains("ermitted"))
    }
}

/// The mount point as the kernel will list it, if something can be mounted there.
///
/// # Errors
/// Where nothing can be, with the reason.
pub fn check_mountpoint(path: &Path) -> Result<PathBuf, MountError> {
    let refuse = |reason: String| MountError::Mountpoint { path: path.to_owned(), reason };
    let resolved = path.canonicalize().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => refuse("there is no such directory; make it first (mkdir -p)".to_owned()),
        _ if error.raw_os_error() == Some(libc::ENOTCONN) => {
            refuse("it is the mount of a daemon that has ended; clear it with umount first".to_owned())
        }
        _ => refuse(error.to_string()),
    })?;
    if let Ok(Some(entry)) = mount_table::at(&resolved) {
        return Err(refuse(format!(
            "{} ({}) is already mounted there; unmount it or choose another directory",
            entry.source.to_string_lossy(),
            entry.format
        )));
    }
    if !resolved.is_dir() {
        return Err(refuse("it is not a directory".to_owned()));
    }
    Ok(resolved)
}

/// The options of FUSE itself, as both ways of mounting have them.
fn fuse_options(homifs: &Homifs, allow_other: bool) -> String {
    let options = homifs.options();
    let mut text = format!("max_read={}", options.max_read);
    if options.default_permissions {
        text.push_str(",default_permissions");
    }
    if options.allow_other.unwrap_or(allow_other) {
        text.push_str(",allow_other");
    }
    text
}

/// Mounts with mount(2).
pub(crate) fn mount_as_root(homifs: &Homifs, device: impl AsFd, mountpoint: &Path) -> Result<(), MountError> {
    let options = homifs.options();
    let data = format!(
        "fd={},rootmode=40000,user_id={},group_id={},{}",
        device.as_fd().as_raw_fd(),
        rustix::process::getuid().as_raw(),
        rustix::process::getgid().as_raw(),
        fuse_options(homifs, true)
    );
    let refuse = |reason: String| MountError::Refused { path: mountpoint.to_owned(), reason };
    let data = CString::new(data).map_err(|_| refuse("an option holds a NUL".to_owned()))?;
    let mut flags = KernelFlags::from_bits_retain(options.flags.kernel_flags());
    flags.set(KernelFlags::RDONLY, options.read_only);
    rustix::mount::mount(homifs.source(), mountpoint, "fuse.homifs", flags, Some(data.as_c_str())).map_err(
        |error| {
            refuse(match error {
                rustix::io::Errno::PERM => {
                    "the kernel does not permit it: run as root or with CAP_SYS_ADMIN".to_owned()
                }
                rustix::io::Errno::NODEV => {
                    "this kernel has no FUSE: load the fuse module (modprobe fuse)".to_owned()
                }
                other => other.to_string(),
            })
        },
    )
}

/// Lets fusermount3 mount, which knows what this user may. It sends the connection over a socket that it is given as its
/// standard input (`_FUSE_COMMFD`; fusermount3(1), of libfuse).
pub(crate) fn mount_as_user(homifs: &Homifs, mountpoint: &Path) -> Result<Arc<Connection>, MountError> {
    let refuse = |reason: String| MountError::Refused { path: mountpoint.to_owned(), reason };
    let helper = |error: io::Error| {
        refuse(format!("{error} (as an ordinary user this needs fusermount3, of the package fuse3)"))
    };
    // So that a missing device is told as such.
    drop(Connection::open().map_err(MountError::NoFuse)?);
    // A comma and a backslash end an option, or escape what follows.
    let source = homifs.source().replace('\\', "\\\\").replace(',', "\\,");
    let options = format!("ro,fsname={source},subtype=homifs,{}", fuse_options(homifs, false));
    let (ours, theirs) = UnixStream::pair().map_err(helper)?;
    let output = Command::new("fusermount3")
        .args(["-o", &options, "--"])
        .arg(mountpoint)
        .env("_FUSE_COMMFD", "0")
        .stdin(OwnedFd::from(theirs))
        .output()
        .map_err(helper)?;
    if !output.status.success() {
        return Err(refuse(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    let device = receive_descriptor(&ours).map_err(helper)?;
    Ok(Connection::from_fd(device.ok_or_else(|| {
        refuse(
            "fusermount3 mounted it and did not say how to serve it; unmount it with fusermount3 -u"
                .to_owned(),
        )
    })?))
}

/// The first descriptor that comes over a socket whose other end is closed.
fn receive_descriptor(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut messages = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut messages, RecvFlags::CMSG_CLOEXEC)?;
    Ok(messages.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    }))
}

/// Unmounts what we mounted, on whatever directories it lies by now, and nothing else that may have come to lie over it.
pub(crate) fn unmount_all(mountpoint: &Path, device: &str, lazy: bool) -> io::Result<()> {
    for entry in mount_table::entries()?.iter().rev().filter(|entry| entry.device == device) {
        unmount(&entry.mountpoint, device, lazy)?;
    }
    // Also where the table could not tell what was mounted.
    unmount(mountpoint, device, lazy)
}

fn unmount(mountpoint: &Path, device: &str, lazy: bool) -> io::Result<()> {
    match mount_table::at(mountpoint)? {
        Some(entry) if entry.device == device => {}
        Some(entry) => {
            let source = entry.source.to_string_lossy().into_owned();
            return Err(io::Error::other(format!("{source} is mounted over it; unmount that first")));
        }
        None => return Ok(()),
    }
    if !rustix::process::geteuid().is_root() {
        return unmount_by_helper(mountpoint, lazy);
    }
    let flags = if lazy { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    rustix::mount::unmount(mountpoint, flags | UnmountFlags::NOFOLLOW).map_err(io::Error::from)
}

fn unmount_by_helper(mountpoint: &Path, lazy: bool) -> io::Result<()> {
    let mut command = Command::new("fusermount3");
    command.arg("-u").args(lazy.then_some("-z")).arg("--").arg(mountpoint);
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// Lets the kernel read further ahead than FUSE's default of 128 KiB, which costs a third of the speed of one
/// stream. Only root may; elsewhere the default stays.
pub(crate) fn raise_read_ahead(device: &str, bytes: u32) {
    let path = format!("/sys/class/bdi/{device}/read_ahead_kb");
    let written = File::options().write(true).open(&path).and_then(|mut file| {
        use std::io::Write;
        write!(file, "{}", bytes / 1024)
    });
    if let Err(error) = written {
        tracing::info!(%path, %error, "read-ahead stays at the kernel's default");
    }
}
