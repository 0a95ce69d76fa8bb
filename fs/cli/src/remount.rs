//! `homifs remount`, which mount(8) runs for `-o remount`: changes a mount that is there.

use homifs_options::{MountFlags, MountOptions};
use rustix::fs::statvfs;
use rustix::mount::{MountFlags as KernelFlags, mount_remount};
use serde_json::{Value, json};

use crate::arguments::Remount;
use crate::failure::{Failure, exit};
use crate::{Result, mounts};

pub(crate) fn run(arguments: &Remount) -> Result {
    let directory = &arguments.directory;
    let shown = directory.display();
    let refused = |why: String| Failure::new(exit::MOUNT, format!("cannot remount {shown}: {why}"));
    match mounts::at(directory).map_err(|error| refused(error.to_string()))? {
        Some(mount) if mount.is_homifs() => {}
        Some(mount) => return Err(refused(format!("it is a mount of type {}, not ours", mount.format))),
        None => return Err(refused("nothing is mounted there".to_owned())),
    }
    let list = arguments.options.join(",");
    // What is the daemon's is for the daemon to compare; here only what the kernel's FUSE is told counts.
    let asked = kernel_options(&list);
    let now = statvfs(directory).map_err(|error| refused(error.to_string()))?.f_flag.bits();
    let was_read_only = now & ST_RDONLY != 0;
    let read_only = asked.read_only.unwrap_or(was_read_only);
    let flags = |read_only: bool| {
        let mut flags = KernelFlags::from_bits_retain(asked.flags.kernel_flags() | kept(now, &list));
        flags.set(KernelFlags::RDONLY, read_only);
        flags
    };
    let by_kernel = |read_only: bool| {
        mount_remount(directory, flags(read_only), c"").map_err(|error| {
            refused(match error {
                rustix::io::Errno::BUSY => "files on it are open for writing; close them first".to_owned(),
                rustix::io::Errno::PERM => "that needs root".to_owned(),
                other => std::io::Error::from(other).to_string(),
            })
        })
    };
    // Nobody begins to write before the volume is made read-only, nor before it is writable.
    if read_only {
        by_kernel(true)?;
    }
    let told = by_daemon(directory, &list).map_err(refused);
    if let Err(failure) = told {
        if read_only && !was_read_only {
            by_kernel(false)?;
        }
        return Err(failure);
    }
    if read_only { Ok(()) } else { by_kernel(false) }
}

// include/uapi/linux/statfs.h
const ST_RDONLY: u64 = 1;

struct Asked {
    read_only: Option<bool>,
    flags: MountFlags,
}

/// What the list says of flags that every file system has. What else it says, and whether all of it can be, is for the
/// daemon.
fn kernel_options(list: &str) -> Asked {
    let (mut read_only, mut options) = (None, MountOptions::default());
    for word in homifs_options::split(list) {
        match word {
            "ro" => read_only = Some(true),
            "rw" => read_only = Some(false),
            word => {
                let _ = options.apply(word);
            }
        }
    }
    Asked { read_only, flags: options.flags }
}

/// The flags that the mount has and nothing is said about: mount(2) would take them away.
fn kept(now: u64, list: &str) -> u32 {
    let said = |words: &[&str]| homifs_options::split(list).any(|word| words.contains(&word));
    // The flags of statvfs(3), those of mount(2), and the words about them.
    let known: [(u64, MountFlags, &[&str]); 7] = [
        (2, MountFlags::NOSUID, &["suid", "nosuid"]),
        (4, MountFlags::NODEV, &["dev", "nodev"]),
        (8, MountFlags::NOEXEC, &["exec", "noexec"]),
        (16, MountFlags::SYNC, &["async", "sync"]),
        (1024, MountFlags::NOATIME, &["atime", "noatime", "relatime", "strictatime"]),
        (2048, MountFlags::NODIRATIME, &["diratime", "nodiratime"]),
        (4096, MountFlags::RELATIME, &["atime", "noatime", "relatime", "strictatime"]),
    ];
    let keep = known.iter().filter(|(bit, _, words)| now & bit != 0 && !said(words));
    keep.fold(0, |flags, (_, flag, _)| flags | flag.kernel_flags())
}

fn by_daemon(directory: &std::path::Path, list: &str) -> std::result::Result<(), String> {
    let request = json!({ "op": "remount", "options": list }).to_string();
    let answer =
        homi_client::control::ask(directory, &request).map_err(|error| homifs_core::error_chain(&error))?;
    let answer: Value = serde_json::from_str(&answer).map_err(|error| error.to_string())?;
    if answer["ok"].as_bool() == Some(true) {
        return Ok(());
    }
    Err(answer["error"].as_str().unwrap_or("the daemon gave no reason").to_owned())
}
