//! What happens below a writable mount: a driver that shuts the volume down, a device that has no room or takes no writes, a
//! journal that has to be recovered.
#![allow(missing_docs, reason = "tests are documented by their names")]

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use mounts::{FreshVolume, HomifsMount, Outcome, homifs, mount_entry, outcome};
use oracle::command::run;
use oracle::{Format, KernelMount, LoopDevice, machine, skip_if};

const FORMATS: [Format; 2] = [Format::Ext4, Format::Xfs];

/// `FS_IOC_SHUTDOWN` with `FS_SHUTDOWN_FLAGS_LOGFLUSH` (include/uapi/linux/fs.h): the log is written, nothing else any more.
fn shut_down(mount: &Path) -> Result<()> {
    let program = "import fcntl, os, struct, sys\n\
                   fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 1))";
    run("python3", ["-c".as_ref(), program.as_ref(), mount.as_os_str()]).map(drop)
}

fn synced(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes)?;
    File::open(path)?.sync_all()?;
    Ok(())
}

#[test]
fn volume_that_its_driver_shuts_down_answers_eio_and_keeps_what_was_synced() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    for format in FORMATS {
        let volume = FreshVolume::new(format)?;
        let mount = volume.mount("reads=engine,clients=1")?;
        synced(&mount.join("synced"), &[7; 300_000])?;
        shut_down(mount.path())?;
        let refused = fs::write(mount.join("later"), "lost").unwrap_err();
        ensure!(refused.raw_os_error() == Some(libc::EIO), "{format:?}: {refused}");
        // The daemon lives, says how it is, and unmounting waits for its end.
        ensure!(fs::read_to_string(mount.join(".homi/stats"))?.contains("homifs_"), "{format:?}");
        volume.unmount(mount)?;
        let again = volume.mount("")?;
        ensure!(fs::read(again.join("synced"))? == vec![7; 300_000], "{format:?}: acknowledged and lost");
        volume.unmount_and_check(again)?;
    }
    Ok(())
}

#[test]
fn device_that_has_no_room_below_fails_the_sync_and_loses_nothing_that_was_synced() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    for format in FORMATS {
        let folder = tempfile::tempdir()?;
        let small = Tmpfs::mount(folder.path(), "48M")?;
        let fresh = FreshVolume::new(format)?;
        let image = folder.path().join("disk.img");
        run("cp", ["--sparse=always".as_ref(), fresh.image.as_os_str(), image.as_os_str()])?;
        let mount = HomifsMount::of_spec(&image, "rw,reads=engine")?;
        synced(&mount.join("synced"), &[7; 1 << 20])?;
        let file = File::create(mount.join("large"))?;
        let written = (0..80).try_for_each(|place| file.write_all_at(&vec![9; 1 << 20], place << 20));
        let error = written.and_then(|()| file.sync_all()).unwrap_err();
        let known = [libc::EIO, libc::ENOSPC];
        ensure!(error.raw_os_error().is_some_and(|errno| known.contains(&errno)), "{format:?}: {error}");
        drop(file);
        ensure!(fs::read_to_string(mount.join(".homi/stats"))?.contains("homifs_"), "{format:?}");
        fresh.unmount(mount)?;
        small.grow("500M")?;
        // Its journal is recovered by whoever mounts it next.
        let again = HomifsMount::of_spec(&image, "rw")?;
        ensure!(fs::read(again.join("synced"))? == vec![7; 1 << 20], "{format:?}: acknowledged and lost");
        fresh.unmount(again)?;
        check(&image, format)?;
    }
    Ok(())
}

#[test]
fn device_that_takes_no_writes_is_not_mounted_for_writing() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    for format in FORMATS {
        let volume = FreshVolume::new(format)?;
        let device = LoopDevice::attach(&volume.image, true)?;
        let place = tempfile::tempdir()?;
        for options in ["rw", "ro,recovery=media"] {
            mount(device.path(), place.path(), options)?.refused_with(32, &["read-only"])?;
        }
        let mounted = HomifsMount::of_spec(device.path(), "ro")?;
        let refused = fs::write(mounted.join("file"), "no").unwrap_err();
        ensure!(refused.raw_os_error() == Some(libc::EROFS), "{format:?}: {refused}");
    }
    Ok(())
}

#[test]
fn journal_is_recovered_on_the_media_where_that_is_asked_and_the_mount_becomes_writable() -> Result<()> {
    skip_if!(machine::cannot_mount());
    skip_if!(machine::cannot_mount_fuse());
    for format in FORMATS {
        let volume = FreshVolume::new(format)?;
        let kernel = KernelMount::with_options(&volume.image, format, "rw")?;
        synced(&kernel.path().join("synced"), b"in the log")?;
        shut_down(kernel.path())?;
        kernel.unmount()?;
        ensure!(needs_recovery(&volume)?, "{format:?}: the log is to be dirty");

        let mounted = HomifsMount::of_spec(&volume.image, "ro,recovery=media,reads=engine")?;
        ensure!(fs::read(mounted.join("synced"))? == b"in the log", "{format:?}");
        ensure!(!needs_recovery(&volume)?, "{format:?}: what is on the media is what is shown");
        let refused = OpenOptions::new().write(true).open(mounted.join("synced")).unwrap_err();
        ensure!(refused.raw_os_error() == Some(libc::EROFS), "{format:?}: {refused}");
        let remounted = outcome(
            homifs()?,
            ["remount".as_ref(), "-o".as_ref(), "remount,rw".as_ref(), mounted.path().as_os_str()],
        )?;
        remounted.succeeded()?;
        ensure!(mount_entry(mounted.path()).is_some_and(|entry| entry.options.iter().any(|one| one == "rw")));
        synced(&mounted.join("written"), b"and written")?;
        volume.unmount_and_check(mounted)?;
        let kernel = KernelMount::read_only(&volume.image, format)?;
        ensure!(fs::read(kernel.path().join("written"))? == b"and written", "{format:?}");
    }
    Ok(())
}

fn mount(spec: &Path, directory: &Path, options: &str) -> Result<Outcome> {
    outcome(
        homifs()?,
        ["mount".as_ref(), "-o".as_ref(), options.as_ref(), spec.as_os_str(), directory.as_os_str()],
    )
}

/// What the file system's own tools say.
fn needs_recovery(volume: &FreshVolume) -> Result<bool> {
    if volume.format == Format::Xfs {
        return Ok(volume.check().is_err());
    }
    let told = run("dumpe2fs", ["-h".as_ref(), volume.image.as_os_str()])?;
    Ok(told.contains("needs_recovery"))
}

fn check(image: &Path, format: Format) -> Result<()> {
    let (program, flag) = if format == Format::Xfs { ("xfs_repair", "-n") } else { ("e2fsck", "-fn") };
    run(program, [flag.as_ref(), image.as_os_str()]).map(drop)
}

/// Memory of a size that can be changed, mounted on a folder.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(folder: &Path, size: &str) -> Result<Self> {
        let options = format!("size={size}");
        run(
            "mount",
            ["-t", "tmpfs", "-o", &options, "none"]
                .map(AsRef::as_ref)
                .into_iter()
                .chain([folder.as_os_str()]),
        )?;
        Ok(Self(folder.to_owned()))
    }

    fn grow(&self, size: &str) -> Result<()> {
        let options = format!("remount,size={size}");
        run("mount", ["-o".as_ref(), options.as_ref(), self.0.as_os_str()]).map(drop)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        if let Err(error) = run("umount", ["--lazy".as_ref(), self.0.as_os_str()]) {
            eprintln!("{error:#}");
        }
    }
}
