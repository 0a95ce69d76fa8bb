//! Files that never had a name (`O_TMPFILE`), and get one later or never do.
#![allow(missing_docs, reason = "tests are documented by their names")]

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use mounts::FreshVolume as Volume;
use oracle::command::finish;
use oracle::{Format, KernelMount, machine, skip_if};
use rustix::fs::{AtFlags, CWD, linkat};

const FORMATS: [Format; 2] = [Format::Ext4, Format::Xfs];

fn unnamed(directory: &Path, flags: i32) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .mode(0o640)
        .custom_flags(libc::O_TMPFILE | flags)
        .open(directory)
}

fn link(file: &File, path: &Path) -> io::Result<()> {
    let open = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(linkat(CWD, open, CWD, path, AtFlags::SYMLINK_FOLLOW)?)
}

#[test]
fn unnamed_file_is_one_like_any_other_and_gets_its_name_at_once() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    for format in FORMATS {
        let volume = Volume::new(format)?;
        let mount = volume.mount("reads=engine")?;
        fs::create_dir(mount.join("sub"))?;
        let file = unnamed(&mount.join("sub"), 0)?;
        file.write_all_at(&[5; 300_000], 0)?;
        let (number, links) = (file.metadata()?.ino(), file.metadata()?.nlink());
        assert_eq!((links, fs::read_dir(mount.join("sub"))?.count()), (0, 0), "{format:?}");
        link(&file, &mount.join("sub/named"))?;
        drop(file);
        let named = fs::metadata(mount.join("sub/named"))?;
        assert_eq!((named.ino(), named.nlink(), named.mode() & 0o7777), (number, 1, 0o640), "{format:?}");
        // It can be removed, and kept while it is open, like any other.
        let open = File::open(mount.join("sub/named"))?;
        fs::remove_file(mount.join("sub/named"))?;
        fs::write(mount.join("other"), vec![1; 3_000_000])?;
        File::open(mount.join("other"))?.sync_all()?;
        let mut bytes = vec![0; 300_000];
        open.read_exact_at(&mut bytes, 0)?;
        assert!(bytes.iter().all(|&byte| byte == 5), "{format:?}");
        drop(open);
        volume.unmount_and_check(mount)?;
    }
    Ok(())
}

#[test]
fn unnamed_file_that_was_named_is_on_the_volume_and_one_that_was_not_is_gone() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    for format in FORMATS {
        let volume = Volume::new(format)?;
        let mount = volume.mount("")?;
        let free = || rustix::fs::statvfs(mount.path()).map(|found| found.f_bfree);
        let before = free()?;
        let file = unnamed(mount.path(), 0)?;
        file.write_all_at(&vec![6; 8 << 20], 0)?;
        file.sync_all()?;
        ensure!(free()? < before, "{format:?}: it has blocks");
        drop(file);
        // The close is told to the daemon after close(2) has returned.
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while free()? + 64 < before {
            ensure!(std::time::Instant::now() < until, "{format:?}: its blocks are not given back");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let kept = unnamed(mount.path(), 0)?;
        kept.write_all_at(b"kept", 0)?;
        link(&kept, &mount.join("kept"))?;
        let never = unnamed(mount.path(), libc::O_EXCL)?;
        let refused = link(&never, &mount.join("never")).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::ENOENT), "{format:?}: O_EXCL forbids a name");
        drop((kept, never));
        volume.unmount_and_check(mount)?;
        let again = KernelMount::read_only(&volume.image, format)?;
        assert_eq!(fs::read(again.path().join("kept"))?, b"kept", "{format:?}");
    }
    Ok(())
}

#[test]
fn unnamed_file_has_the_owner_and_bits_that_the_kernel_gives_it() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let script = r#"
import os, stat
for name in ("open", "setgid", "acl"):
    os.umask(0o027)
    file = os.open(name, os.O_TMPFILE | os.O_RDWR, 0o2666)
    found = os.fstat(file)
    print(name, found.st_uid, found.st_gid, oct(found.st_mode), found.st_nlink)
try:
    os.open("closed", os.O_TMPFILE | os.O_RDWR, 0o600)
except OSError as error:
    print("closed", error.errno)
try:
    os.open("open", os.O_TMPFILE | os.O_RDONLY)
except OSError as error:
    print("for reading", error.errno)
"#;
    let prepare = "chmod 755 . && mkdir -m 1777 open acl && mkdir closed && chmod 700 closed && mkdir setgid \
                   && chgrp 100 setgid && chmod 2777 setgid && setfacl -d -m u:7:rwx,g:9:r acl";
    for format in FORMATS {
        let (ours, kernels) = (Volume::new(format)?, Volume::new(format)?);
        let mount = ours.mount("")?;
        let kernel = KernelMount::with_options(&kernels.image, format, "rw")?;
        let mut told = Vec::new();
        for root in [mount.path(), kernel.path()] {
            finish(Command::new("bash").args(["-c", prepare]).current_dir(root))?;
            let mode = fs::Permissions::from_mode(0o1777);
            fs::set_permissions(root.parent().context("a parent")?, mode)?;
            let mut command = Command::new("setpriv");
            command.args([
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
                "/usr/bin/python3",
                "-c",
                script,
            ]);
            told.push(finish(command.current_dir(root))?);
        }
        assert_eq!(told[0], told[1], "{format:?}");
        assert_eq!(told[0].lines().count(), 5, "{}", told[0]);
        ours.unmount_and_check(mount)?;
    }
    Ok(())
}
