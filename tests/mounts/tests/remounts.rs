//! Mounts that are changed while they are used.
#![allow(missing_docs, reason = "tests are documented by their names")]

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use mounts::{FreshVolume, HelperLinks, HomifsMount, Outcome, homifs, mount_entry, outcome};
use oracle::{Format, machine, skip_if};

const FORMATS: [Format; 2] = [Format::Ext4, Format::Xfs];

fn remount(mount: &HomifsMount, options: &str) -> Result<Outcome> {
    outcome(
        homifs()?,
        ["remount".as_ref(), "-o".as_ref(), Path::new(options).as_os_str(), mount.path().as_os_str()],
    )
}

fn has(mount: &HomifsMount, option: &str) -> bool {
    mount_entry(mount.path()).is_some_and(|entry| entry.options.iter().any(|one| one == option))
}

#[test]
fn mount_made_read_only_and_writable_again_is_so_below_too() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    for format in FORMATS {
        let volume = FreshVolume::new(format)?;
        let mount = volume.mount("clients=1")?;
        let path = mount.join("file");
        fs::write(&path, "before")?;

        let writer = OpenOptions::new().append(true).open(&path)?;
        let busy = remount(&mount, "remount,ro")?;
        ensure!(busy.code != Some(0) && busy.stderr.contains("open for writing"), "{format:?}: {busy:?}");
        ensure!(has(&mount, "rw"), "{format:?}: half of it was done");
        drop(writer);
        // The kernel tells of a close a moment later.
        std::thread::sleep(Duration::from_millis(300));

        let done = remount(&mount, "remount,ro")?;
        ensure!(done.code == Some(0), "{format:?}: {done:?}");
        ensure!(has(&mount, "ro"), "{format:?}: {:?}", mount_entry(mount.path()));
        let refused = fs::write(&path, "during").unwrap_err();
        ensure!(refused.raw_os_error() == Some(30), "{format:?}: {refused}");
        ensure!(fs::read(&path)? == b"before", "{format:?}");
        // Nothing is left in the journal: whoever looks at the device sees a clean volume.
        volume.check()?;

        let done = remount(&mount, "remount,rw")?;
        ensure!(done.code == Some(0) && has(&mount, "rw"), "{format:?}: {done:?}");
        fs::write(&path, "after")?;
        ensure!(fs::read(&path)? == b"after", "{format:?}");
        volume.unmount_and_check(mount)?;
    }
    Ok(())
}

#[test]
fn flags_and_words_of_the_file_system_change_and_nothing_of_the_daemon() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let volume = FreshVolume::new(Format::Ext4)?;
    let mount = volume.mount("strictatime,reads=kernel")?;
    let path = mount.join("file");
    fs::write(&path, "bytes")?;
    let read_at = |path: &Path| -> Result<(i64, i64)> {
        std::thread::sleep(Duration::from_millis(20));
        fs::read(path)?;
        let told = File::open(path)?.metadata()?;
        Ok((told.atime(), told.atime_nsec()))
    };
    let (first, second) = (read_at(&path)?, read_at(&path)?);
    ensure!(first != second, "strictatime: each read counts");
    let done = remount(&mount, "remount,noatime,nodev,commit=17")?;
    ensure!(done.code == Some(0) && has(&mount, "noatime") && has(&mount, "nodev"), "{done:?}");
    let (first, second) = (read_at(&path)?, read_at(&path)?);
    ensure!(first == second, "noatime: no read counts");
    for (list, why) in [
        ("remount,clients=5", "fixed"),
        ("remount,no-such-option", "no-such-option"),
        ("remount,commit=bad", "commit"),
    ] {
        let refused = remount(&mount, list)?;
        ensure!(refused.code != Some(0) && refused.stderr.contains(why), "{list}: {refused:?}");
        ensure!(refused.stderr.lines().count() == 1, "{list}: {refused:?}");
    }
    volume.unmount_and_check(mount)
}

#[test]
fn mount_of_a_daemon_that_never_writes_is_not_made_writable() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let volume = FreshVolume::new(Format::Ext4)?;
    let mount = HomifsMount::of_spec(&volume.image, "ro")?;
    let refused = remount(&mount, "remount,rw")?;
    ensure!(refused.code != Some(0) && refused.stderr.contains("unmount"), "{refused:?}");
    ensure!(has(&mount, "ro"), "{:?}", mount_entry(mount.path()));
    let done = remount(&mount, "remount,ro,nodev")?;
    ensure!(done.code == Some(0) && has(&mount, "nodev"), "{done:?}");
    Ok(())
}

#[test]
fn mount_8_remounts_by_the_helper() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let _links = match HelperLinks::make()? {
        Ok(links) => links,
        Err(why) => {
            println!("skipped: {why}");
            return Ok(());
        }
    };
    let volume = FreshVolume::new(Format::Ext4)?;
    let mount = volume.mount("")?;
    fs::write(mount.join("file"), "bytes")?;
    std::thread::sleep(Duration::from_millis(300));
    for (word, shown) in [("remount,ro", "ro"), ("remount,rw", "rw")] {
        let done = outcome("mount", ["-o".as_ref(), Path::new(word).as_os_str(), mount.path().as_os_str()])?;
        ensure!(done.code == Some(0) && done.stdout.is_empty() && done.stderr.is_empty(), "{word}: {done:?}");
        ensure!(has(&mount, shown), "{word}: {:?}", mount_entry(mount.path()));
    }
    volume.unmount_and_check(mount)
}
