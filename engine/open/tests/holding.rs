//! Who may be beside us on a device or image, and who is named when nobody may.

#[path = "../../uring/tests/loops/mod.rs"]
mod loops;

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use engine_block::BlockDevice;
use engine_open::{OpenError, open};
use loops::{Loop, run};
use nix::fcntl::{FcntlArg, fcntl};

const SIZE: u64 = 16 << 20;

fn image() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.img");
    File::create(&path).unwrap().set_len(SIZE).unwrap();
    (directory, path)
}

fn try_open(path: &Path, exclusive: bool) -> Result<(), OpenError> {
    let options = engine_open::OpenOptions { exclusive, ..engine_open::OpenOptions::default() };
    open(path.to_str().unwrap(), &options).map(drop)
}

/// Who is named as the holder.
fn holder(path: &Path) -> String {
    match try_open(path, true) {
        Err(OpenError::Busy { device, holder }) => {
            assert_eq!(device, path.to_str().unwrap());
            holder
        }
        other => panic!("{} should be busy: {other:?}", path.display()),
    }
}

fn own(path: &Path) -> Result<Arc<dyn BlockDevice>, OpenError> {
    let options = engine_open::OpenOptions { read_only: false, ..engine_open::OpenOptions::default() };
    open(path.to_str().unwrap(), &options)
}

/// Who is named as the holder of what is to be written to.
fn holder_against_writing(path: &Path) -> String {
    match own(path) {
        Err(OpenError::Busy { holder, .. }) => holder,
        other => panic!("{} should be busy: {other:?}", path.display()),
    }
}

/// A mount that ends with the test.
struct Mount(PathBuf);

impl Mount {
    fn new(source: &Path, options: &str) -> Self {
        let point = tempfile::tempdir().unwrap().keep();
        let arguments = ["-o".as_ref(), options.as_ref(), source.as_os_str(), point.as_os_str()];
        assert!(run("mount", &arguments), "mount {}", source.display());
        Self(point)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        run("umount", &[&self.0]);
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn image_read_twice_is_shared() {
    let (_directory, path) = image();
    let first = open(path.to_str().unwrap(), &engine_open::OpenOptions::default()).unwrap();
    try_open(&path, true).unwrap();
    assert_eq!(first.info().size, SIZE);
}

#[test]
fn image_under_flock_of_a_writer_is_refused_until_it_is_gone() {
    let (_directory, path) = image();
    let writer = OpenOptions::new().write(true).open(&path).unwrap();
    writer.lock().unwrap();
    let told = holder(&path);
    assert!(told.contains(&format!("process {}", std::process::id())), "{told}");
    try_open(&path, false).unwrap();
    drop(writer);
    try_open(&path, true).unwrap();
}

#[test]
fn image_under_record_lock_of_a_writer_is_refused_until_it_is_gone() {
    let (_directory, path) = image();
    // Somewhere in the file, where none of our own locks are.
    let writer = OpenOptions::new().write(true).open(&path).unwrap();
    let mut lock = libc::flock {
        l_type: libc::F_WRLCK as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: 5000,
        l_len: 1,
        l_pid: 0,
    };
    fcntl(&writer, FcntlArg::F_OFD_SETLK(&lock)).unwrap();
    assert!(holder(&path).contains("locked it"));
    drop(writer);

    let device = open(path.to_str().unwrap(), &engine_open::OpenOptions::default()).unwrap();
    // A writer that locks everything finds us there.
    let writer = OpenOptions::new().write(true).open(&path).unwrap();
    (lock.l_start, lock.l_len) = (0, 0);
    fcntl(&writer, FcntlArg::F_OFD_SETLK(&lock)).unwrap_err();
    drop(device);
    fcntl(&writer, FcntlArg::F_OFD_SETLK(&lock)).unwrap();
}

#[test]
fn image_shared_with_qemu_allows_its_readers_and_keeps_its_writers_out() {
    let (_directory, path) = image();
    let name = path.to_str().unwrap();
    if !run("qemu-io", &["--version"]) {
        println!("skipped: no qemu-io");
        return;
    }
    let read = ["-r", "-f", "raw", "-c", "read 0 512", name];
    let write = ["-f", "raw", "-c", "write 0 512", name];
    let device = open(name, &engine_open::OpenOptions::default()).unwrap();
    assert!(run("qemu-io", &read), "a reader may be beside us");
    assert!(!run("qemu-io", &write), "a writer may not");
    drop(device);
    assert!(run("qemu-io", &write));

    // And the other way round: a program that waits for a command, with the image open for writing.
    let mut qemu = Command::new("qemu-io")
        .args(["-f", "raw", name])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut told = None;
    for _ in 0..200 {
        told = match try_open(&path, true) {
            Err(OpenError::Busy { holder, .. }) => Some(holder),
            _ => None,
        };
        if told.is_some() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    drop(qemu.stdin.take());
    qemu.wait().unwrap();
    assert!(told.as_ref().is_some_and(|told| told.contains("qemu-io")), "{told:?}");
}

#[test]
fn image_under_a_loop_device_is_refused_only_while_that_may_write() {
    let (_directory, path) = image();
    assert!(run("mkfs.ext4", &["-q".as_ref(), path.as_os_str()]));
    let Some(device) = Loop::attach(&path, &[]) else { return };
    try_open(&path, true).unwrap();

    let mount = Mount::new(device.path(), "rw");
    let told = holder(&path);
    assert!(told.contains(device.name()) && told.contains(mount.0.to_str().unwrap()), "{told}");
    assert!(told.contains("ext4, read-write"), "{told}");
    drop(mount);

    let mount = Mount::new(device.path(), "ro");
    try_open(&path, true).unwrap();
    drop(mount);

    let writer = OpenOptions::new().write(true).open(device.path()).unwrap();
    let told = holder(&path);
    assert!(told.contains(&format!("process {}", std::process::id())), "{told}");
    drop(writer);
    try_open(&path, true).unwrap();
}

#[test]
fn block_device_mounted_is_refused_and_the_mount_named() {
    let (_directory, path) = image();
    assert!(run("mkfs.ext4", &["-q".as_ref(), path.as_os_str()]));
    let Some(device) = Loop::attach(&path, &[]) else { return };
    for (options, word) in [("rw", "read-write"), ("ro", "read-only")] {
        let mount = Mount::new(device.path(), options);
        let told = holder(device.path());
        assert!(told.contains(mount.0.to_str().unwrap()) && told.contains(word), "{told}");
        try_open(device.path(), false).unwrap();
    }
    try_open(device.path(), true).unwrap();
}

#[test]
fn block_device_with_a_mounted_partition_is_refused_and_the_mount_named() {
    let (_directory, path) = image();
    let script = path.with_extension("sfdisk");
    fs::write(&script, "label: gpt\nstart=2048, size=16384\n").unwrap();
    let made = Command::new("sfdisk").arg("-q").arg(&path).stdin(File::open(&script).unwrap()).status();
    if !made.is_ok_and(|status| status.success()) {
        println!("skipped: no sfdisk");
        return;
    }
    let Some(device) = Loop::attach(&path, &["--partscan"]) else { return };
    let partition = PathBuf::from(format!("{}p1", device.name()));
    if !fs::metadata(&partition).is_ok_and(|meta| meta.file_type().is_block_device()) {
        println!("skipped: no partitions on loop devices here");
        return;
    }
    assert!(run("mkfs.ext4", &["-q".as_ref(), partition.as_os_str()]));
    let mount = Mount::new(&partition, "rw");
    for busy in [device.path(), partition.as_path(), path.as_path()] {
        let told = holder(busy);
        assert!(told.contains(mount.0.to_str().unwrap()), "{told}");
    }
}

#[test]
fn block_device_used_as_swap_is_refused_as_such() {
    let (_directory, path) = image();
    assert!(run("mkswap", &[&path]));
    // Swap wants no holes.
    fs::write(&path, fs::read(&path).unwrap()).unwrap();
    let Some(device) = Loop::attach(&path, &[]) else { return };
    if !run("swapon", &[device.path()]) {
        println!("skipped: no swap here");
        return;
    }
    let told = holder(device.path());
    assert!(run("swapoff", &[device.path()]));
    assert!(told.contains("swapoff"), "{told}");
    try_open(device.path(), true).unwrap();
}

#[test]
fn block_device_open_in_another_homifs_is_refused_and_its_process_named() {
    let (_directory, path) = image();
    let Some(device) = Loop::attach(&path, &[]) else { return };
    let first = open(device.name(), &engine_open::OpenOptions::default()).unwrap();
    let told = holder(device.path());
    assert!(told.contains(&format!("process {}", std::process::id())), "{told}");
    drop(first);
    try_open(device.path(), true).unwrap();
}

#[test]
fn block_device_mounted_where_only_another_process_sees_it_is_refused_and_that_process_named() {
    let (directory, path) = image();
    assert!(run("mkfs.ext4", &["-q".as_ref(), path.as_os_str()]));
    let Some(device) = Loop::attach(&path, &[]) else { return };
    let point = directory.path().join("hidden mount");
    fs::create_dir(&point).unwrap();
    // A mount namespace of its own, which ends with the shell.
    let script = format!("mount {} '{}' && echo ready && read line", device.name(), point.display());
    let mut shell = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    BufReader::new(shell.stdout.as_mut().unwrap()).read_line(&mut ready).unwrap();
    assert_eq!(ready.trim(), "ready");
    let told = [holder(device.path()), holder(&path)];
    drop(shell.stdin.take());
    shell.wait().unwrap();
    for told in told {
        assert!(told.contains("hidden mount") && told.contains("as process"), "{told}");
        assert!(told.contains(&shell.id().to_string()), "{told}");
    }
    try_open(device.path(), true).unwrap();
}

#[test]
fn image_opened_for_writing_is_nobody_elses() {
    let (_directory, path) = image();
    let me = format!("process {}", std::process::id());
    let writer = own(&path).unwrap();
    assert!(writer.info().writable);
    assert!(holder(&path).contains(&me));
    assert!(holder_against_writing(&path).contains(&me));
    try_open(&path, false).unwrap();
    drop(writer);

    let reader = open(path.to_str().unwrap(), &engine_open::OpenOptions::default()).unwrap();
    let told = holder_against_writing(&path);
    assert!(told.contains("locked it"), "{told}");
    drop(reader);

    let locked = File::open(&path).unwrap();
    for byte in [100, 5000] {
        let lock = libc::flock {
            l_type: libc::F_RDLCK as i16,
            l_whence: libc::SEEK_SET as i16,
            l_start: byte,
            l_len: 1,
            l_pid: 0,
        };
        fcntl(&locked, FcntlArg::F_OFD_SETLK(&lock)).unwrap();
        assert!(own(&path).is_err(), "byte {byte}");
        fcntl(&locked, FcntlArg::F_OFD_SETLK(&libc::flock { l_type: libc::F_UNLCK as i16, ..lock })).unwrap();
    }
    own(&path).unwrap();
}

#[test]
fn image_opened_for_writing_keeps_qemu_out_altogether() {
    let (_directory, path) = image();
    let name = path.to_str().unwrap();
    if !run("qemu-io", &["--version"]) {
        println!("skipped: no qemu-io");
        return;
    }
    let read = ["-r", "-f", "raw", "-c", "read 0 512", name];
    let writer = own(&path).unwrap();
    assert!(!run("qemu-io", &read));
    drop(writer);
    assert!(run("qemu-io", &read));
}

#[test]
fn image_under_a_loop_device_is_not_opened_for_writing() {
    let (_directory, path) = image();
    let Some(device) = Loop::attach(&path, &["--read-only"]) else { return };
    let told = holder_against_writing(&path);
    assert!(told.contains(&format!("losetup --detach {}", device.name())), "{told}");
    drop(device);
    own(&path).unwrap();
}

#[test]
fn block_device_opened_for_writing_is_nobody_elses() {
    let (_directory, path) = image();
    let Some(device) = Loop::attach(&path, &[]) else { return };
    let writer = own(device.path()).unwrap();
    assert!(writer.info().writable);
    assert!(holder(device.path()).contains(&format!("process {}", std::process::id())));
    holder_against_writing(device.path());
    drop(writer);
    assert!(run("mkfs.ext4", &["-q".as_ref(), device.path().as_os_str()]));
    let mount = Mount::new(device.path(), "ro");
    assert!(holder_against_writing(device.path()).contains(mount.0.to_str().unwrap()));
    drop(mount);
    own(device.path()).unwrap();
    drop(device);
    let Some(device) = Loop::attach(&path, &["--read-only"]) else { return };
    let refused = own(device.path()).unwrap_err().to_string();
    assert!(refused.contains("the device is read-only"), "{refused}");
}
