//! `homifs mount` and `homifs umount`: what works, and what bad input gets.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::volumes::{Volume, can_mount, homifs, mounted, program};
use serde_json::Value;

/// Unmounts what a failed test left.
struct Cleared<'a>(&'a Path);

impl Drop for Cleared<'_> {
    fn drop(&mut self) {
        if mounted(self.0).is_some() {
            let _ = homifs(&["umount", "-l", self.0.to_str().unwrap()]);
        }
    }
}

#[track_caller]
fn refused(arguments: &[&str], code: i32, parts: &[&str]) {
    let told = homifs(arguments);
    assert_eq!((told.code, told.err.lines().count()), (code, 1), "{arguments:?}: {}", told.err);
    for part in parts {
        assert!(told.err.contains(part), "{arguments:?}: {}", told.err);
    }
    assert_eq!(told.out, "");
}

#[test]
fn mount_shows_the_volume_and_umount_ends_it() {
    let Some(volume) = Volume::new().filter(|_| can_mount()) else { return };
    let directory = volume.mountpoint();
    let _cleared = Cleared(&directory);
    let shown = directory.to_str().unwrap();
    let told = homifs(&["mount", "-o", "nosuid,nodev", &volume.spec(), shown]);
    assert_eq!((told.code, told.out.lines().count(), &*told.err), (0, 1, ""), "{}", told.out);
    // Which volume, where, and by which path it is read.
    for part in [&*volume.spec(), shown, ": ext4 read by "] {
        assert!(told.out.contains(part), "{part} in {}", told.out);
    }
    assert_eq!(mounted(&directory).as_deref(), Some("fuse.homifs"));
    assert_eq!(fs::read_to_string(directory.join("hello")).unwrap(), "hello, world\n");
    assert!(
        fs::read(directory.join("deep/link")).unwrap() == fs::read(volume.tree().join("deep/large")).unwrap()
    );

    // The same map from the mount and from the device.
    let file = directory.join("deep/large");
    let from_mount = homifs(&["extents", "-o", "json", file.to_str().unwrap()]).out;
    let from_device = homifs(&["extents", "-o", "json", "--device", &volume.spec(), "/deep/large"]).out;
    let [mount, device]: [Value; 2] =
        [from_mount, from_device].map(|text| serde_json::from_str(&text).unwrap());
    assert_eq!(mount["files"][0]["extents"], device["files"][0]["extents"]);
    let info: Value = serde_json::from_str(&homifs(&["info", "-o", "json", shown]).out).unwrap();
    assert_eq!(info["label"], "cli-test");

    refused(&["mount", &volume.spec(), shown], 32, &["already mounted there", shown]);
    let open = fs::File::open(directory.join("hello")).unwrap();
    refused(&["umount", shown], 32, &["open", "--lazy"]);
    drop(open);
    assert_eq!(homifs(&["umount", shown]).code, 0);
    assert_eq!(mounted(&directory), None);
}

#[test]
fn foreground_mount_ends_at_sigterm() {
    let Some(volume) = Volume::new().filter(|_| can_mount()) else { return };
    let directory = volume.mountpoint();
    let _cleared = Cleared(&directory);
    let mut command = program();
    command.args(["mount", "-f", &volume.spec()]).arg(&directory).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while mounted(&directory).is_none() {
        assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none(), "never mounted");
        std::thread::sleep(Duration::from_millis(20));
    }
    fs::read(directory.join("hello")).unwrap();
    let process = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
    nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(mounted(&directory), None);
}

#[test]
fn bad_options_and_arguments_are_usage_errors() {
    refused(&["mount", "-o", "cahce=1G", "x", "/mnt"], 1, &["unknown mount option 'cahce'", "'cache'"]);
    refused(&["mount", "-o", "rw,norecovery", "x", "/mnt"], 1, &["norecovery", "read-only"]);
    refused(&["mount", "-o", "partition=x", "x", "/mnt"], 1, &["partition=x", "a number from 1"]);
    refused(&["mount", "disk.img"], 1, &["homifs mount [-o OPTIONS] SPEC DIR"]);
    assert_eq!(homifs(&["mount", "--no-such-flag"]).code, 1);
    assert_eq!(homifs(&[]).code, 1);
    assert_eq!(homifs(&["--version"]).code, 0);
}

#[test]
fn mount_of_what_is_not_there_fails_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("mnt");
    fs::create_dir(&directory).unwrap();
    let shown = directory.to_str().unwrap();
    let missing = folder.path().join("missing.img");
    refused(
        &["mount", missing.to_str().unwrap(), shown],
        32,
        &["missing.img", "No such file", "check the path"],
    );
    let text = folder.path().join("text");
    fs::write(&text, "no volume\n".repeat(1000)).unwrap();
    refused(&["mount", text.to_str().unwrap(), shown], 32, &["text", "no ext2, ext3, ext4 or XFS volume"]);
    refused(&["mount", shown, shown], 32, &["directory"]);
    refused(&["mount", "soft:x", shown], 32, &["cannot find x", "No such file", "check the path"]);
    refused(&["umount", shown], 32, &["nothing is mounted there"]);
    refused(&["umount", "/proc"], 32, &["not ours"]);
    assert_eq!(mounted(&directory), None);
}

#[test]
fn mount_on_what_is_no_directory_fails() {
    let Some(volume) = Volume::new().filter(|_| can_mount()) else { return };
    let missing = volume.folder.path().join("nowhere");
    refused(&["mount", &volume.spec(), missing.to_str().unwrap()], 32, &["nowhere", "no such directory"]);
    let file = volume.tree().join("hello");
    refused(&["mount", &volume.spec(), file.to_str().unwrap()], 32, &["hello", "not a directory"]);
}

#[test]
fn extents_of_a_file_that_is_on_no_mount_of_ours_says_what_to_do() {
    let file = tempfile::NamedTempFile::new().unwrap();
    refused(&["extents", file.path().to_str().unwrap()], 1, &["no extent map", "--device"]);
}
