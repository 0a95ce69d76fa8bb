//! Tells umount(8) that it has a helper for our mounts.
//!
//! Of an absolute path umount(8) asks statfs(2) for the type, which is `fuse` for all FUSE mounts; it then finds no
//! `umount.fuse.homifs`, and returns before the device is free. Where a mount has options of its own in libmount's table
//! (`/run/mount/utab`), it looks closer. So each of ours has a line there that names its helper (mount(8), "uhelper").

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

const FOLDER: &str = "/run/mount";
/// How long somebody else may hold the table.
const PATIENCE: Duration = Duration::from_secs(5);

/// Notes a mount on `directory`. Without the line umount(8) works, but returns early, so a failure is no reason to stop.
pub(crate) fn note(source: &OsStr, directory: &Path) {
    let line = [
        b"SRC=".as_slice(),
        &escaped(source),
        b" TARGET=",
        &escaped(directory.as_os_str()),
        b" ROOT=/ OPTS=uhelper=fuse.homifs\n",
    ]
    .concat();
    if let Err(error) = change(Path::new(FOLDER), directory, &line) {
        tracing::warn!(%error, "{FOLDER}/utab cannot be written: umount(8) will return before the device is free");
    }
}

/// Forgets the mount on `directory`.
pub(crate) fn forget(directory: &Path) {
    // A line of a mount that is gone means nothing to anybody.
    let _ = change(Path::new(FOLDER), directory, b"");
}

/// Replaces the lines of `directory` by `line`, as libmount does it: under its lock, in a new file.
fn change(folder: &Path, directory: &Path, line: &[u8]) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    fs::create_dir_all(folder)?;
    let lock = File::options().create(true).append(true).open(folder.join("utab.lock"))?;
    let until = Instant::now() + PATIENCE;
    while lock.try_lock().is_err() {
        if Instant::now() > until {
            return Err(ErrorKind::TimedOut.into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let table = folder.join("utab");
    let old = match fs::read(&table) {
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        read => read?,
    };
    let target = [b"TARGET=".as_slice(), &escaped(directory.as_os_str())].concat();
    let others = |line: &&[u8]| !line.split(u8::is_ascii_whitespace).any(|field| field == target);
    let mut new: Vec<u8> =
        old.split_inclusive(|&byte| byte == b'\n').filter(others).flatten().copied().collect();
    new.extend_from_slice(line);
    if new == old {
        return Ok(());
    }
    let made = folder.join(format!("utab.homifs.{}", std::process::id()));
    let mut file = File::create(&made)?;
    file.set_permissions(Permissions::from_mode(0o644))?;
    file.write_all(&new)?;
    fs::rename(&made, &table)
}

/// As in `/proc/self/mountinfo`: what would part fields stands as three octal digits after a backslash.
fn escaped(text: &OsStr) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for &byte in text.as_bytes() {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => bytes.extend_from_slice(format!("\\{byte:03o}").as_bytes()),
            plain => bytes.push(plain),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn change_replaces_the_lines_of_one_directory_and_no_others() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root writes the table");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let table = folder.path().join("utab");
        let others = "SRC=/dev/sda1 TARGET=/mnt ROOT=/ OPTS=user=me\nSRC=x TARGET=/mnt/a ROOT=/ OPTS=x-b\n";
        fs::write(&table, others).unwrap();
        let place = Path::new("/mnt/my disk");
        let line = b"SRC=a TARGET=/mnt/my\\040disk ROOT=/ OPTS=uhelper=fuse.homifs\n";
        for _ in 0..2 {
            change(folder.path(), place, line).unwrap();
            assert_eq!(fs::read(&table).unwrap(), [others.as_bytes(), line].concat());
        }
        change(folder.path(), place, b"").unwrap();
        assert_eq!(fs::read_to_string(&table).unwrap(), others);
    }
}
