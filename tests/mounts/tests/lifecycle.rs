//! How mounts come and go: by homifs, by mount(8), by fstab, by signals.
#![allow(missing_docs, reason = "tests are documented by their names")]

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use mounts::{Engine, HelperLinks, HomifsMount, homifs, image_of, mount_entry, outcome};
use oracle::{machine, skip_if};
use rustix::process::{Pid, Signal};

const KNOWN: &str = "special/mode-0644";

fn is_readable(mount: &Path) -> bool {
    fs::read(mount.join(KNOWN)).is_ok_and(|bytes| bytes.len() == 3)
}

/// Waits for what happens on its own.
fn soon(mut happened: impl FnMut() -> bool) -> bool {
    (0..1000).any(|_| {
        let now = happened();
        if !now {
            std::thread::sleep(Duration::from_millis(10));
        }
        now
    })
}

#[test]
fn mount_in_background_answers_when_the_program_returns() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let (image, _) = image_of("ext4-default")?;
    let mount = HomifsMount::prepare()?;
    outcome(homifs()?, [Path::new("mount"), &image, mount.path()])?.succeeded()?;
    assert!(is_readable(mount.path()));
    let entry = mount.entry().expect("mounted");
    assert_eq!((entry.kind.as_str(), entry.source.as_bytes()), ("fuse.homifs", image.as_os_str().as_bytes()));
    assert!(entry.options.iter().any(|option| option == "ro"), "{entry:?}");
    outcome(homifs()?, [Path::new("umount"), mount.path()])?.succeeded()?;
    assert_eq!(mount.entry(), None);
    Ok(())
}

#[test]
fn mount_by_mount8_and_umount8() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let (image, _) = image_of("ext4-default")?;
    let _links = match HelperLinks::make()? {
        Ok(links) => links,
        Err(reason) => {
            println!("skipped: {reason}");
            return Ok(());
        }
    };
    for kind in ["homifs", "fuse.homifs"] {
        let mount = HomifsMount::prepare()?;
        let arguments = ["-t", kind, "-o", "ro,nosuid,nodev,noexec,noatime"].map(Path::new);
        outcome("mount", arguments.into_iter().chain([&*image, mount.path()]))?.succeeded()?;
        assert!(is_readable(mount.path()));
        let entry = mount.entry().expect("mounted");
        assert_eq!(
            (entry.kind.as_str(), entry.source.as_bytes()),
            ("fuse.homifs", image.as_os_str().as_bytes())
        );
        for option in ["ro", "nosuid", "nodev", "noexec", "noatime"] {
            assert!(entry.options.iter().any(|found| found == option), "{option} in {entry:?}");
        }
        outcome("umount", [mount.path()])?.succeeded()?;
        assert_eq!(mount.entry(), None);
    }
    Ok(())
}

#[test]
fn mount_by_a_line_of_fstab() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let (image, _) = image_of("xfs-default")?;
    let _links = match HelperLinks::make()? {
        Ok(links) => links,
        Err(reason) => {
            println!("skipped: {reason}");
            return Ok(());
        }
    };
    let mount = HomifsMount::prepare()?;
    let table = tempfile::NamedTempFile::new()?;
    let line = format!(
        "{} {} homifs ro,noauto,nofail,_netdev,x-systemd.automount 0 0\n",
        image.display(),
        mount.path().display()
    );
    fs::write(table.path(), line)?;
    outcome("mount", [Path::new("-T"), table.path(), mount.path()])?.succeeded()?;
    assert!(is_readable(mount.path()));
    assert_eq!(mount.entry().map(|entry| entry.kind), Some("fuse.homifs".into()));
    outcome("umount", [mount.path()])?.succeeded()?;
    assert_eq!(mount.entry(), None);
    Ok(())
}

#[test]
fn umount_ends_the_daemon() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let (image, _) = image_of("ext4-default")?;
    let mut mount = HomifsMount::new(&image, "")?;
    assert!(is_readable(mount.path()));
    outcome("umount", [mount.path()])?.succeeded()?;
    let status = mount.daemon().wait()?;
    assert!(status.success(), "{status}: {}", mount.daemon().said());
    Ok(())
}

#[test]
fn sigterm_unmounts_cleanly() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let (image, _) = image_of("ext4-default")?;
    for signal in [Signal::TERM, Signal::INT] {
        let mut mount = HomifsMount::new(&image, "")?;
        assert!(is_readable(mount.path()));
        mount.daemon().signal(signal)?;
        let status = mount.daemon().wait()?;
        assert!(status.success(), "{status}: {}", mount.daemon().said());
        assert_eq!(mount.entry(), None);
    }
    Ok(())
}

#[test]
fn sigkill_leaves_a_mount_that_umount_clears() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let (image, _) = image_of("ext4-default")?;
    let mut mount = HomifsMount::new(&image, "")?;
    assert!(is_readable(mount.path()));
    mount.daemon().signal(Signal::KILL)?;
    mount.daemon().wait()?;
    let error = fs::metadata(mount.join("another")).expect_err("nobody is there to answer");
    assert_eq!(error.raw_os_error(), Some(libc::ENOTCONN));
    outcome("umount", [mount.path()])?.succeeded()?;
    assert_eq!(mount.entry(), None);
    // And the image is free again.
    let again = HomifsMount::new(&image, "")?;
    assert!(is_readable(again.path()));
    Ok(())
}

#[test]
fn daemon_in_background_ends_with_its_mount() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let (image, _) = image_of("ext4-default")?;
    let mount = HomifsMount::prepare()?;
    outcome(homifs()?, [Path::new("mount"), &image, mount.path()])?.succeeded()?;
    let state: serde_json::Value = serde_json::from_slice(&fs::read(mount.join(".homi/state"))?)?;
    let daemon =
        state["pid"].as_i64().and_then(|id| Pid::from_raw(id.try_into().ok()?)).expect("a process id");
    assert!(rustix::process::test_kill_process(daemon).is_ok());
    outcome("umount", [mount.path()])?.succeeded()?;
    assert!(
        soon(|| rustix::process::test_kill_process(daemon).is_err()),
        "the daemon lives on without a mount"
    );
    Ok(())
}

#[test]
fn busy_mount_is_not_unmounted_by_homifs_umount() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let (image, _) = image_of("ext4-default")?;
    let mount = HomifsMount::new(&image, "")?;
    let open = fs::File::open(mount.join(KNOWN))?;
    let refused = outcome(homifs()?, [Path::new("umount"), mount.path()])?;
    assert!(refused.code != Some(0) && refused.stderr.lines().count() == 1, "{refused:?}");
    assert!(is_readable(mount.path()));
    drop(open);
    outcome(homifs()?, [Path::new("umount"), mount.path()])?.succeeded()?;
    assert_eq!(mount_entry(mount.path()), None);
    Ok(())
}

#[test]
fn block_device_is_mounted_as_its_image_is() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let (image, _) = image_of("xfs-default")?;
    let device = oracle::LoopDevice::attach(&image, true)?;
    let mount = HomifsMount::new(device.path(), "")?;
    assert!(is_readable(mount.path()));
    if Engine::of_this_run() == Engine::Kernel {
        assert_eq!(mount.entry().map(|entry| entry.source), Some(device.path().display().to_string()));
    }
    Ok(())
}
