//! What cannot be mounted gets one line that says why, the right exit code, and leaves nothing behind.
#![allow(missing_docs, reason = "tests are documented by their names")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Result;
use mounts::{HelperLinks, HomifsMount, Outcome, homifs, image_of, outcome, sample};
use oracle::{Format, KernelMount, machine, skip_if};

/// Tries to mount, and checks that nothing is left of it: no mount, no daemon, no lock on the image.
fn attempt(spec: &Path, options: &str, mount: &Path) -> Result<Outcome> {
    let arguments = ["mount", "-o", options].map(Path::new);
    outcome(homifs()?, arguments.into_iter().chain([spec, mount]))
}

fn refuse(spec: &Path, options: &str, code: i32, words: &[&str]) -> Result<()> {
    let mount = HomifsMount::prepare()?;
    attempt(spec, options, mount.path())?.refused_with(code, words)?;
    assert_eq!(mount.entry(), None);
    assert_eq!(serving(spec)?, Vec::<PathBuf>::new(), "a daemon was left behind");
    Ok(())
}

/// Processes that have `spec` among their arguments.
fn serving(spec: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let arguments = fs::read(path.join("cmdline")).unwrap_or_default();
        let wanted = spec.as_os_str().as_encoded_bytes();
        if arguments.split(|&byte| byte == 0).any(|argument| argument == wanted) {
            found.push(path);
        }
    }
    Ok(found)
}

#[test]
fn missing_image_is_refused() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    refuse(Path::new("/no/such/disk.img"), "ro", 32, &["/no/such/disk.img", "No such file"])
}

#[test]
fn file_that_is_no_volume_is_refused() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let folder = tempfile::tempdir()?;
    for (name, contents) in [
        ("empty", vec![]),
        ("short", vec![1; 100]),
        ("zeros", vec![0; 1 << 20]),
        ("noise", vec![0x5A; 1 << 20]),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, contents)?;
        refuse(&path, "ro", 32, &[])?;
    }
    refuse(folder.path(), "ro", 32, &["directory"])
}

#[test]
fn wrong_options_are_refused() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let (image, _) = image_of("ext4-default")?;
    refuse(&image, "ro,no_such_option", 1, &["no_such_option"])?;
    refuse(&image, "depth=none", 1, &["depth"])?;
    refuse(&image, "rw,norecovery", 1, &["norecovery"])?;
    refuse(&image, "ro,fs=xfs", 32, &["XFS", "ext4"])?;
    refuse(&image, "ro,partition=3", 32, &["partition"])
}

#[test]
fn mount_point_that_does_not_do_is_refused() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let (image, _) = image_of("ext4-default")?;
    let mount = HomifsMount::new(&image, "")?;
    let file = tempfile::NamedTempFile::new()?;
    for place in [Path::new("/no/such/directory"), file.path(), mount.path()] {
        let refused = attempt(&image, "ro", place)?;
        assert!(matches!(refused.code, Some(1 | 32)), "{refused:?}");
        refused.refused_with(refused.code.unwrap_or_default(), &[&place.to_string_lossy()])?;
    }
    assert!(mount.join("special").is_dir(), "the mount that was there suffered");
    Ok(())
}

#[test]
fn volume_that_the_kernel_has_mounted_for_writing_is_refused() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let folder = tempfile::tempdir()?;
    let copy = sample(folder.path(), "ext4-default")?;
    let kernel = KernelMount::with_options(&copy, Format::Ext4, "rw")?;
    refuse(&kernel.device(), "ro", 32, &[&kernel.path().to_string_lossy()])?;
    refuse(&copy, "ro", 32, &[])?;
    kernel.unmount()?;
    assert!(HomifsMount::new(&copy, "")?.join("special").is_dir());
    Ok(())
}

#[test]
fn mount8_passes_on_the_line_and_the_code() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let _links = match HelperLinks::make()? {
        Ok(links) => links,
        Err(reason) => {
            println!("skipped: {reason}");
            return Ok(());
        }
    };
    let mount = HomifsMount::prepare()?;
    let (image, _) = image_of("ext4-default")?;
    let by_mount8 = |spec: &Path, options: &str| {
        let arguments = ["-t", "homifs", "-o", options].map(Path::new);
        outcome("mount", arguments.into_iter().chain([spec, mount.path()]))
    };
    by_mount8(Path::new("/no/such/disk.img"), "ro")?.refused_with(32, &["/no/such/disk.img"])?;
    by_mount8(&image, "ro,no_such_option")?.refused_with(1, &["no_such_option"])?;
    // Sloppy: what it does not know is left out.
    let arguments = ["-s", "-t", "homifs", "-o", "ro,no_such_option"].map(Path::new);
    let sloppy = outcome("mount", arguments.into_iter().chain([&*image, mount.path()]))?;
    assert_eq!(sloppy.code, Some(0), "{sloppy:?}");
    outcome("umount", [mount.path()])?.succeeded()?;
    // Fake: everything but the mount.
    let arguments = ["-f", "-t", "homifs"].map(Path::new);
    outcome("mount", arguments.into_iter().chain([&*image, mount.path()]))?.succeeded()?;
    assert_eq!(mount.entry(), None);
    Ok(())
}

#[test]
fn unknown_incompatible_feature_is_refused_by_its_number() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let folder = tempfile::tempdir()?;
    let image = folder.path().join("future.img");
    File::create(&image)?.set_len(16 << 20)?;
    oracle::command::run("mkfs.ext4", ["-q", "-F", &image.to_string_lossy()])?;
    oracle::command::run("debugfs", ["-w", "-R", "feature FEATURE_I31", &image.to_string_lossy()])?;
    refuse(&image, "ro", 32, &["feature"])
}
