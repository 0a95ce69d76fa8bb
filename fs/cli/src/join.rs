//! A second mount of a volume that is mounted for writing already: one process serves a volume, so the second mount is the
//! first one's, on a further directory.

use std::ffi::OsStr;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use homifs_fuse::mount_table::{self, Entry};
use homifs_options::{MountFlags, MountOptions};
use rustix::fs::CWD;
use rustix::mount::{MountAttrFlags, MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use crate::failure::{Failure, exit};
use crate::{Result, utab};

/// Mounts the volume on `directory` too, where it is mounted already; how, in words. Nothing where it is not.
pub(crate) fn join(spec: &str, directory: &Path, options: &MountOptions) -> Result<Option<String>> {
    if !options.has_lower() || !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let Some(served) = served(spec) else { return Ok(None) };
    let there = served.entry.mountpoint.display();
    let refused = |why: &str| {
        Failure::new(
            exit::MOUNT,
            format!(
                "{spec} is in use: it is mounted on {there} {why}; unmount that first, or mount it in the same way"
            ),
        )
    };
    if served.options.read_only != options.read_only {
        let how = if served.options.read_only { "read-only" } else { "for reading and writing" };
        return Err(refused(how));
    }
    if of_the_daemon(&served.options) != of_the_daemon(options) {
        return Err(refused(&format!("with other options ({})", served.options)));
    }
    let target = homifs_fuse::check_mountpoint(directory).map_err(|error| Failure::mount(&error))?;
    put(&served.entry, &target, options).map_err(|error| {
        Failure::new(
            exit::MOUNT,
            format!("cannot mount on {}: {}", directory.display(), std::io::Error::from(error)),
        )
    })?;
    utab::note(&served.entry.source, &target);
    Ok(Some(format!("{spec} mounted on {} too, by the process that has it on {there}", directory.display())))
}

struct Served {
    entry: Entry,
    options: MountOptions,
}

/// The writable mount of ours that has a device or image.
fn served(spec: &str) -> Option<Served> {
    let wanted = identity(OsStr::new(spec))?;
    let ours = mount_table::entries().ok()?.into_iter().filter(Entry::is_homifs);
    ours.filter(|entry| identity(&entry.source) == Some(wanted)).find_map(|entry| {
        let state = std::fs::read(entry.mountpoint.join(".homi/state")).ok()?;
        let state: serde_json::Value = serde_json::from_slice(&state).ok()?;
        // Something else may lie over it.
        if state.get("source")?.as_str().map(OsStr::new) != Some(&entry.source) {
            return None;
        }
        let mut options = MountOptions::default();
        options.apply(state.get("options")?.as_str()?).ok()?;
        let flags = rustix::fs::statvfs(&entry.mountpoint).ok()?.f_flag;
        options.read_only = flags.contains(rustix::fs::StatVfsMountFlags::RDONLY);
        options.has_lower().then_some(Served { entry, options })
    })
}

/// What tells devices and images apart, whatever they are called.
fn identity(path: &OsStr) -> Option<(bool, u64, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    if metadata.file_type().is_block_device() {
        return Some((true, metadata.rdev(), 0));
    }
    metadata.is_file().then(|| (false, metadata.dev(), metadata.ino()))
}

/// What one daemon does alike for all its mounts.
fn of_the_daemon(options: &MountOptions) -> MountOptions {
    MountOptions { flags: MountFlags::default(), read_only: false, ..options.clone() }
}

fn put(entry: &Entry, target: &Path, options: &MountOptions) -> rustix::io::Result<()> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, &entry.mountpoint, flags)?;
    homifs_lower::make_own(&tree, attributes(options))?;
    move_mount(&tree, c"", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

fn attributes(options: &MountOptions) -> MountAttrFlags {
    let known = [
        (MountFlags::NOSUID, MountAttrFlags::MOUNT_ATTR_NOSUID),
        (MountFlags::NODEV, MountAttrFlags::MOUNT_ATTR_NODEV),
        (MountFlags::NOEXEC, MountAttrFlags::MOUNT_ATTR_NOEXEC),
        (MountFlags::NOSYMFOLLOW, MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW),
        (MountFlags::NODIRATIME, MountAttrFlags::MOUNT_ATTR_NODIRATIME),
        (MountFlags::NOATIME, MountAttrFlags::MOUNT_ATTR_NOATIME),
        (MountFlags::STRICTATIME, MountAttrFlags::MOUNT_ATTR_STRICTATIME),
    ];
    let said = known.iter().filter(|(flag, _)| options.flags.contains(*flag));
    let mut attributes = said.fold(MountAttrFlags::empty(), |all, (_, attribute)| all | *attribute);
    attributes.set(MountAttrFlags::MOUNT_ATTR_RDONLY, options.read_only);
    attributes
}
