//! A volume has one writer: who else has it is found and named, and a second mount of ours joins the first.
#![allow(missing_docs, reason = "tests are documented by their names")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use mounts::{FreshVolume, HomifsMount, Outcome, homifs, mount_entry, outcome};
use oracle::command::run;
use oracle::{Format, KernelMount, LoopDevice, machine, skip_if};
use rustix::process::Signal;

fn mount(spec: &Path, directory: &Path, options: &str) -> Result<Outcome> {
    outcome(
        homifs()?,
        ["mount".as_ref(), "-o".as_ref(), options.as_ref(), spec.as_os_str(), directory.as_os_str()],
    )
}

fn unmount(directory: &Path) -> Result<()> {
    outcome(homifs()?, ["umount".as_ref(), directory.as_os_str()])?.succeeded().map(drop)
}

#[test]
fn second_mount_is_the_first_one_on_another_directory() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    for format in [Format::Ext4, Format::Xfs] {
        let volume = FreshVolume::new(format)?;
        let first = volume.mount("clients=1")?;
        let second = tempfile::tempdir()?;
        let joined = mount(&volume.image, second.path(), "rw,clients=1,nosuid")?;
        joined.succeeded()?;
        fs::write(first.join("file"), "one")?;
        ensure!(fs::read(second.path().join("file"))? == b"one", "{format:?}");
        fs::write(second.path().join("file"), "another")?;
        ensure!(fs::read(first.join("file"))? == b"another", "{format:?}: the two know of each other");
        fs::remove_file(second.path().join("file"))?;
        ensure!(fs::metadata(first.join("file")).is_err(), "{format:?}: a name that is gone is gone");
        let flags = |path: &Path| mount_entry(path).map(|entry| entry.options).unwrap_or_default();
        ensure!(
            flags(second.path()).contains(&"nosuid".to_owned()),
            "{format:?}: flags are each mount's own"
        );
        ensure!(
            !flags(first.path()).contains(&"nosuid".to_owned()),
            "{format:?}: flags are each mount's own"
        );
        // It goes on when the other is gone, and the device is free when both are.
        unmount(second.path())?;
        ensure!(fs::read_dir(first.path())?.count() > 0 || format == Format::Xfs, "{format:?}");
        volume.unmount_and_check(first)?;
    }
    Ok(())
}

#[test]
fn second_mount_that_asks_for_something_else_is_refused_with_the_first_ones_place() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let volume = FreshVolume::new(Format::Ext4)?;
    let first = volume.mount("")?;
    let place = first.path().to_str().context("a path")?.to_owned();
    let second = tempfile::tempdir()?;
    mount(&volume.image, second.path(), "rw,reads=engine")?
        .refused_with(32, &["in use", &place, "other options"])?;
    mount(&volume.image, second.path(), "ro,recovery=media")?
        .refused_with(32, &["in use", &place, "writing"])?;
    mount(&volume.image, second.path(), "ro")?.refused_with(32, &["in use", "homifs"])?;
    ensure!(mount_entry(second.path()).is_none());
    volume.unmount_and_check(first)
}

#[test]
fn sigterm_ends_all_mounts_of_a_volume() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let volume = FreshVolume::new(Format::Ext4)?;
    let mut first = volume.mount("")?;
    let second = tempfile::tempdir()?;
    mount(&volume.image, second.path(), "rw")?.succeeded()?;
    first.daemon().signal(Signal::TERM)?;
    ensure!(first.daemon().wait()?.success(), "{}", first.daemon().said());
    ensure!(mount_entry(second.path()).is_none() && first.entry().is_none(), "a mount is left");
    volume.check()
}

#[test]
fn device_that_the_kernel_has_mounted_is_not_mounted_for_writing() -> Result<()> {
    skip_if!(machine::cannot_mount());
    skip_if!(machine::cannot_mount_fuse());
    for format in [Format::Ext4, Format::Xfs] {
        let volume = FreshVolume::new(format)?;
        let kernel = KernelMount::with_options(&volume.image, format, "rw")?;
        let place = kernel.path().to_str().context("a path")?;
        let ours = tempfile::tempdir()?;
        for options in ["rw", "ro,recovery=media"] {
            mount(&kernel.device(), ours.path(), options)?.refused_with(32, &["in use", place])?;
            // Behind another loop device it would be a second driver's.
            mount(&volume.image, ours.path(), options)?.refused_with(32, &["in use", place])?;
        }
        fs::write(kernel.path().join("file"), "still well")?;
        kernel.unmount()?;
        volume.check()?;
    }
    Ok(())
}

#[test]
fn kernel_does_not_mount_what_is_mounted_for_writing_behind_an_image() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let volume = FreshVolume::new(Format::Ext4)?;
    let mounted = volume.mount("")?;
    let lock = outcome("flock", ["--nonblock".as_ref(), volume.image.as_os_str(), "true".as_ref()])?;
    ensure!(lock.code == Some(1), "whoever asks for the image's lock is not told: {lock:?}");
    volume.unmount_and_check(mounted)
}

#[test]
fn root_directory_has_the_volumes_own_number() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    for format in [Format::Ext4, Format::Xfs] {
        let volume = FreshVolume::new(format)?;
        let expected = fs::metadata(KernelMount::read_only(&volume.image, format)?.path())?.ino();
        let mounted = volume.mount("")?;
        ensure!(fs::metadata(mounted.path())?.ino() == expected, "{format:?}");
        ensure!(fs::metadata(mounted.join("."))?.ino() == expected, "{format:?}");
        volume.unmount_and_check(mounted)?;
    }
    Ok(())
}

#[test]
fn block_device_is_mounted_twice_by_whatever_name() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let volume = FreshVolume::new(Format::Xfs)?;
    let device = LoopDevice::attach(&volume.image, false)?;
    let folder = tempfile::tempdir()?;
    let link = folder.path().join("disk");
    std::os::unix::fs::symlink(device.path(), &link)?;
    let first = HomifsMount::of_spec(device.path(), "rw")?;
    let second = tempfile::tempdir()?;
    mount(&link, second.path(), "rw")?.succeeded()?;
    fs::write(first.join("file"), "bytes")?;
    ensure!(fs::read(second.path().join("file"))? == b"bytes");
    unmount(second.path())?;
    volume.unmount(first)?;
    run("xfs_repair", ["-n".as_ref(), device.path().as_os_str()])?;
    Ok(())
}
