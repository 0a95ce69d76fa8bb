//! Who holds a device or image: what is told when it cannot be had.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use rustix::fs::Stat;

use crate::devices::{DeviceNumber, LoopDevice, loops, swap_areas};
use crate::mounts::{Mount, mounts_of};
use crate::processes::openers;

/// Says who holds a block device that the kernel would not give us for ourselves, and what to do.
pub(crate) fn of_device(path: &Path, number: DeviceNumber) -> String {
    let relatives = number.relatives();
    let mounts = mounts_of(&relatives);
    if let Some(mount) = mounts.iter().find(|mount| mount.writable).or_else(|| mounts.first()) {
        return told(mount);
    }
    if let Some(area) = swap_areas().iter().find(|area| is_one_of(area, &relatives)) {
        return format!("it is a swap area; swapoff {} first", area.display());
    }
    if let Some(holder) = relatives.iter().flat_map(|relative| relative.holders()).next() {
        return format!("it is part of {holder}; open that, or take it apart first");
    }
    let name = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let found =
        openers(&name, |meta| meta.file_type().is_block_device() && DeviceNumber::of(meta.rdev()) == number);
    match found.first() {
        Some(opener) => format!("{opener}; end it first"),
        None => "something that cannot be told from here holds it (a process of another container?)".into(),
    }
}

/// Says who holds an image that could not be locked, and what to do.
pub(crate) fn of_image(path: &Path, stat: &Stat) -> String {
    let name = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut found = openers(&name, |meta| meta.dev() == stat.st_dev && meta.ino() == stat.st_ino);
    found.retain(|opener| opener.process != std::process::id() || opener.writes);
    match found.iter().find(|opener| opener.writes).or_else(|| found.first()) {
        Some(opener) => format!("{opener} and locked it; end it first"),
        None => "something that cannot be told from here locked it".into(),
    }
}

/// Says which loop device may change an image, if one may.
pub(crate) fn loop_writing_to(stat: &Stat) -> Option<String> {
    loops().iter().filter(|device| stands_on(device, stat)).find_map(writer_of)
}

/// Says which loop device stands on an image, if one does.
pub(crate) fn loop_on(stat: &Stat) -> Option<String> {
    let device = loops().into_iter().find(|device| stands_on(device, stat))?;
    let name = device.name.display();
    Some(match mounts_of(&device.number.relatives()).first() {
        Some(mount) => format!("{name} stands on it: {}", told(mount)),
        None => format!("{name} stands on it; losetup --detach {name} first"),
    })
}

/// A file that was renamed or deleted since is no longer found by this name, and by no other.
fn stands_on(device: &LoopDevice, stat: &Stat) -> bool {
    fs::metadata(&device.backing).is_ok_and(|meta| meta.dev() == stat.st_dev && meta.ino() == stat.st_ino)
}

fn writer_of(device: &LoopDevice) -> Option<String> {
    if device.number.is_read_only() {
        return None;
    }
    let name = device.name.display();
    let relatives = device.number.relatives();
    if let Some(mount) = mounts_of(&relatives).iter().find(|mount| mount.writable) {
        return Some(format!("{name} stands on it: {}", told(mount)));
    }
    if let Some(holder) = relatives.iter().flat_map(|relative| relative.holders()).next() {
        return Some(format!("{name} stands on it and is part of {holder}; take that apart first"));
    }
    let writers = openers(&device.name, |meta| {
        meta.file_type().is_block_device() && relatives.contains(&DeviceNumber::of(meta.rdev()))
    });
    let writer = writers.iter().find(|opener| opener.writes)?;
    Some(format!("{name} stands on it: {writer}; end it first"))
}

fn told(mount: &Mount) -> String {
    let Mount { point, format, .. } = mount;
    let point = point.display();
    let elsewhere =
        mount.elsewhere.map_or_else(String::new, |process| format!(" as process {process} sees it"));
    if mount.writable {
        format!("it is mounted on {point}{elsewhere} ({format}, read-write); unmount it first")
    } else {
        format!(
            "it is mounted on {point}{elsewhere} ({format}, read-only), and a mounted device cannot be held \
             exclusively; unmount it first"
        )
    }
}

fn is_one_of(path: &Path, devices: &[DeviceNumber]) -> bool {
    fs::metadata(path).is_ok_and(|meta| {
        meta.file_type().is_block_device() && devices.contains(&DeviceNumber::of(meta.rdev()))
    })
}
