//! When files were made, as statx(2) tells it: on both kinds of mounts what the kernel's own tells.
#![allow(missing_docs, reason = "tests are documented by their names")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use mounts::FreshVolume as Volume;
use oracle::{Format, KernelMount, machine, skip_if};
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

/// What statx tells of each name: its birth, and whether it tells the rest with it as stat does.
fn births(root: &Path) -> Result<BTreeMap<String, (i64, u32)>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let flags = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        let told = statx(CWD, entry.path(), AtFlags::SYMLINK_NOFOLLOW, flags)?;
        ensure!(told.stx_mask & StatxFlags::BTIME.bits() != 0, "{:?}: no birth", entry.file_name());
        let (time, stat) = (told.stx_btime, rustix::fs::lstat(entry.path())?);
        let rest = (told.stx_size, told.stx_ino, u32::from(told.stx_mode), told.stx_mtime.tv_sec);
        let by_stat = (u64::try_from(stat.st_size)?, stat.st_ino, stat.st_mode, stat.st_mtime);
        ensure!(rest == by_stat, "{:?}: {rest:?} by statx, {by_stat:?} by stat", entry.file_name());
        ensure!(
            (told.stx_rdev_major, told.stx_rdev_minor)
                == (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev))
        );
        found.insert(entry.file_name().into_string().ok().context("UTF-8")?, (time.tv_sec, time.tv_nsec));
    }
    Ok(found)
}

#[test]
fn births_are_what_the_kernel_s_own_mount_tells() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    for format in [Format::Ext4, Format::Xfs] {
        let volume = Volume::new(format)?;
        let mount = volume.mount("")?;
        fs::create_dir(mount.join("directory"))?;
        std::os::unix::fs::symlink("elsewhere", mount.join("link"))?;
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        let device = rustix::fs::makedev(259, 0x12345);
        rustix::fs::mknodat(CWD, mount.join("device"), rustix::fs::FileType::CharacterDevice, mode, device)?;
        for number in 0..20 {
            fs::write(mount.join(format!("file{number}")), vec![1; number * 1000])?;
        }
        let old = mount.join("old");
        fs::write(&old, b"contents")?;
        let past = std::time::SystemTime::UNIX_EPOCH;
        fs::File::options().write(true).open(&old)?.set_modified(past)?;
        let writable = births(mount.path())?;
        ensure!(writable.len() >= 24, "{format:?}: {writable:?}");
        ensure!(writable.get("old").is_some_and(|born| born.0 > 1_600_000_000), "{format:?}: {writable:?}");
        volume.unmount_and_check(mount)?;
        let kernel = KernelMount::read_only(&volume.image, format)?;
        assert_eq!(writable, births(kernel.path())?, "{format:?}, writable");
        drop(kernel);
        let read_only = volume.mount("ro")?;
        assert_eq!(writable, births(read_only.path())?, "{format:?}, read-only");
    }
    Ok(())
}
