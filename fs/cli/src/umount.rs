//! `homifs umount`.

use std::process::Command;

use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use crate::arguments::Umount;
use crate::failure::{Failure, exit};
use crate::{Result, mounts};

pub(crate) fn run(arguments: &Umount) -> Result {
    let directory = &arguments.directory;
    let shown = directory.display();
    let refused = |why: String| Failure::new(exit::MOUNT, format!("cannot unmount {shown}: {why}"));
    match mounts::at(directory).map_err(|error| refused(error.to_string()))? {
        Some(mount) if mount.is_homifs() => {}
        Some(mount) => {
            return Err(refused(format!("it is a mount of type {}, not ours; use umount", mount.format)));
        }
        None => return Err(refused("nothing is mounted there".to_owned())),
    }
    if !rustix::process::geteuid().is_root() {
        return as_user(arguments);
    }
    let flags = if arguments.lazy { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    rustix::mount::unmount(directory, flags | UnmountFlags::NOFOLLOW).map_err(|error| match error {
        Errno::BUSY => refused(
            "files on it are open or it is somebody's working directory; close them, or use --lazy"
                .to_owned(),
        ),
        Errno::PERM => Failure { code: exit::USAGE, ..refused("that needs root".to_owned()) },
        other => refused(std::io::Error::from(other).to_string()),
    })
}

/// An ordinary user's mounts are fusermount3's affair; it says itself why it refuses.
fn as_user(arguments: &Umount) -> Result {
    let mut command = Command::new("fusermount3");
    command.arg("-u").args(arguments.lazy.then_some("-z")).arg("--").arg(&arguments.directory);
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(Failure::new(exit::MOUNT, "")),
        Err(error) => Err(Failure::new(
            exit::SYSTEM,
            format!("cannot run fusermount3 ({error}); install the package fuse3, or unmount as root"),
        )),
    }
}
