//! `homifs umount`.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use homifs_fuse::mount_table;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use crate::arguments::Umount;
use crate::failure::{Failure, exit};
use crate::{Result, mounts, utab};

pub(crate) fn run(arguments: &Umount) -> Result {
    let directory = &arguments.directory;
    let shown = directory.display();
    let refused = |why: String| Failure::new(exit::MOUNT, format!("cannot unmount {shown}: {why}"));
    let mount = match mounts::at(directory).map_err(|error| refused(error.to_string()))? {
        Some(mount) if mount.is_homifs() => mount,
        Some(mount) => {
            return Err(refused(format!("it is a mount of type {}, not ours; use umount", mount.format)));
        }
        None => return Err(refused("nothing is mounted there".to_owned())),
    };
    if !rustix::process::geteuid().is_root() {
        return as_user(arguments);
    }
    let flags = if arguments.lazy { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    let daemon = if arguments.lazy { None } else { Daemon::of(directory) };
    unmount(directory, flags | UnmountFlags::NOFOLLOW).map_err(|error| match error {
        Errno::BUSY => refused(
            "files on it are open or it is somebody's working directory; close them, or use --lazy"
                .to_owned(),
        ),
        Errno::PERM => Failure { code: exit::USAGE, ..refused("that needs root".to_owned()) },
        other => refused(std::io::Error::from(other).to_string()),
    })?;
    utab::forget(&mount.mountpoint);
    // Where the same mount lies on another directory too, it goes on.
    let remains =
        mount_table::entries().is_ok_and(|entries| entries.iter().any(|other| other.device == mount.device));
    if let Some(daemon) = daemon
        && !remains
        && !daemon.ends()
    {
        eprintln!(
            "homifs: {shown} is unmounted, but the process that serves it goes on after {} s: the mount is in another \
             mount namespace too, or the device is slow. Until it ends it holds the device.",
            PATIENCE.tv_sec
        );
    }
    Ok(())
}

/// How long the last writes may take.
const PATIENCE: Timespec = Timespec { tv_sec: 60, tv_nsec: 0 };

/// Unmounts. Files that were closed a moment ago (by a loop device, by a process that ends) may still be on their way.
fn unmount(directory: &Path, flags: UnmountFlags) -> rustix::io::Result<()> {
    let mut patience = 10;
    loop {
        match rustix::mount::unmount(directory, flags) {
            Err(Errno::BUSY) if patience > 0 => {
                patience -= 1;
                std::thread::sleep(Duration::from_millis(50));
            }
            result => return result,
        }
    }
}

/// The process that serves a mount. The device is free when it has ended, not when the mount is gone.
struct Daemon(OwnedFd);

impl Daemon {
    fn of(directory: &Path) -> Option<Self> {
        let state = std::fs::read(directory.join(".homi/state")).ok()?;
        let state: serde_json::Value = serde_json::from_slice(&state).ok()?;
        let pid = i32::try_from(state.get("pid")?.as_i64()?).ok()?;
        // In another PID namespace the number is somebody else's.
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        if !name.starts_with("homifs") {
            return None;
        }
        let pid = rustix::process::Pid::from_raw(pid)?;
        rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok().map(Self)
    }

    fn ends(&self) -> bool {
        let mut process = [PollFd::new(&self.0, PollFlags::IN)];
        rustix::io::retry_on_intr(|| poll(&mut process, Some(&PATIENCE))).is_ok_and(|ended| ended > 0)
    }
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
