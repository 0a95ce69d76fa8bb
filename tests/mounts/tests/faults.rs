//! Devices that fail while they are mounted: the read gets EIO, the rest goes on.
#![allow(missing_docs, reason = "tests are documented by their names")]

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use anyhow::Result;
use mounts::{HomifsMount, sample};
use oracle::{LoopDevice, fiemap, machine, skip_if};

/// Reads a file past the page cache.
fn read_directly(path: &Path) -> std::io::Result<Vec<u8>> {
    let file = File::options().read(true).custom_flags(libc::O_DIRECT).open(path)?;
    let mut contents = vec![0; usize::try_from(file.metadata()?.len()).unwrap_or_default()];
    file.read_exact_at(&mut contents, 0)?;
    Ok(contents)
}

fn errno<T: std::fmt::Debug>(result: std::io::Result<T>) -> Option<i32> {
    result.expect_err("the bytes are gone").raw_os_error()
}

#[test]
fn image_that_shrinks_gives_eio_for_what_is_gone_and_the_rest_goes_on() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let folder = tempfile::tempdir()?;
    let image = sample(folder.path(), "ext4-default")?;
    let mount = HomifsMount::new(&image, "")?;
    let path = mount.join("holes/whole-82020");
    let before = read_directly(&path)?;

    let mut value = vec![0; 4096];
    let length = rustix::fs::getxattr(&path, "homi.extents", &mut value[..])?;
    let (_, mut entries) = homi_abi::extents::decode(&value[..length])?;
    let start = entries.next().expect("an extent").physical.get();
    let size = fs::metadata(&image)?.len();
    // Half of the file is cut off.
    File::options().write(true).open(&image)?.set_len(start + 40_960)?;
    assert_eq!(errno(read_directly(&path)), Some(libc::EIO));
    let file = File::options().read(true).custom_flags(libc::O_DIRECT).open(&path)?;
    let mut piece = [0; 4096];
    file.read_exact_at(&mut piece, 0)?;
    assert!(piece == before[..4096], "what is still there is not read as before");

    // And when the bytes come back, so do the answers.
    File::options().write(true).open(&image)?.set_len(size)?;
    let after = read_directly(&path)?;
    assert!(after[..40_960] == before[..40_960]);
    Ok(())
}

#[test]
fn image_of_nothing_gives_errors_and_the_mount_lives_until_umount() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let folder = tempfile::tempdir()?;
    let image = sample(folder.path(), "xfs-default")?;
    let mut mount = HomifsMount::new(&image, "")?;
    File::options().write(true).open(&image)?.set_len(0)?;
    assert_eq!(errno(fs::read(mount.join("holes/whole-82020"))), Some(libc::EIO));
    // What tells about the device does not need it, though a real entry of this name would have won.
    assert!(fs::read_to_string(mount.join(".homi/stats"))?.contains("# TYPE"));
    mounts::outcome("umount", [mount.path()])?.succeeded()?;
    assert!(mount.daemon().wait()?.success());
    Ok(())
}

#[test]
fn device_whose_media_shrinks_gives_eio_and_the_mount_lives() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let folder = tempfile::tempdir()?;
    let image = sample(folder.path(), "ext4-default")?;
    let device = LoopDevice::attach(&image, true)?;
    let mount = HomifsMount::new(device.path(), "")?;
    let path = mount.join("holes/alternating");
    let before = read_directly(&path)?;
    assert!(!before.is_empty());
    // The loop device keeps its size; the file below it does not.
    File::options().write(true).open(&image)?.set_len(1 << 20)?;
    assert_eq!(errno(read_directly(&path)), Some(libc::EIO));
    assert!(fs::read_to_string(mount.join(".homi/stats")).is_ok());
    Ok(())
}

#[test]
fn loop_device_detached_while_mounted_stays_readable_or_gives_eio() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let folder = tempfile::tempdir()?;
    let image = sample(folder.path(), "ext4-default")?;
    let device = LoopDevice::attach(&image, true)?;
    let mount = HomifsMount::new(device.path(), "")?;
    // The kernel detaches at the last close, which is ours.
    drop(device);
    match read_directly(&mount.join("holes/alternating")) {
        Ok(contents) => assert!(!contents.is_empty()),
        Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EIO)),
    }
    assert!(fs::read_to_string(mount.join(".homi/stats")).is_ok());
    Ok(())
}

#[test]
fn map_of_the_image_file_itself_is_not_taken_for_the_volumes() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let folder = tempfile::tempdir()?;
    let image = sample(folder.path(), "ext4-default")?;
    let mount = HomifsMount::new(&image, "")?;
    // FIEMAP does not pass through FUSE; nobody may get an answer that means something else.
    use std::os::fd::AsFd;
    let error = fiemap(File::open(mount.join("holes/alternating"))?.as_fd()).expect_err("FUSE has no FIEMAP");
    assert!(matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOTTY)), "{error}");
    Ok(())
}
