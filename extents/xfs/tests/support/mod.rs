//! Real volumes for tests: made by mkfs.xfs, filled and judged by the kernel.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

pub mod bytes;
pub mod compare;
pub mod ioctls;

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use extents_core::{BlockRead, ReadError, Result};
use extents_xfs::{OpenOptions, Xfs};
use tempfile::TempDir;

/// An image file, read with pread.
#[derive(Debug)]
pub struct ImageFile {
    file: File,
    size: u64,
}

impl ImageFile {
    pub fn open(path: &Path) -> Self {
        let file = File::open(path).unwrap();
        let size = file.metadata().unwrap().len();
        Self { file, size }
    }
}

impl BlockRead for ImageFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        self.file.read_exact_at(buf, offset).map_err(|_| ReadError::io(offset, buf.len() as u64))
    }

    fn size(&self) -> u64 {
        self.size
    }
}

/// Runs a command and gives what it printed; panics with everything it said where it fails.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// Whether this machine can make and mount volumes; says why where it cannot.
pub fn can_mount() -> bool {
    let is_root =
        std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    let has_loop = Path::new("/dev/loop-control").exists();
    let has_xfs = std::fs::read_to_string("/proc/filesystems").is_ok_and(|list| list.contains("\txfs"));
    let able = is_root && has_loop && has_xfs && can_make();
    if !able {
        println!(
            "skipped: needs root ({is_root}), loop devices ({has_loop}) and XFS in the kernel ({has_xfs})"
        );
    }
    able
}

/// Whether mkfs.xfs is there; says so where it is not.
pub fn can_make() -> bool {
    let able = Command::new("mkfs.xfs").arg("-V").output().is_ok();
    if !able {
        println!("skipped: mkfs.xfs is not installed");
    }
    able
}

/// A volume in a file of a directory of its own.
#[derive(Debug)]
pub struct Image {
    folder: TempDir,
    path: PathBuf,
}

impl Image {
    /// Makes a volume of a size as truncate(1) takes it.
    pub fn make(size: &str, arguments: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("disk.img");
        let name = path.to_str().unwrap();
        run("truncate", &["-s", size, name]);
        run("mkfs.xfs", &[&["-q", "-K"], arguments, &[name]].concat());
        Self { folder, path }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A place for files that belong to the test.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Mounts the volume, runs a shell script in it, and unmounts it.
    pub fn fill(&self, script: &str) {
        let mount = self.mount("rw");
        let mut shell =
            Command::new("bash").arg("-e").current_dir(mount.path()).stdin(Stdio::piped()).spawn().unwrap();
        shell.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        assert!(shell.wait().unwrap().success(), "the script failed");
    }

    /// Mounts the volume by the kernel until the answer is dropped.
    pub fn mount(&self, options: &str) -> Mount {
        let point = self.folder.path().join("mount");
        std::fs::create_dir_all(&point).unwrap();
        let options = format!("loop,{options}");
        run("mount", &["-t", "xfs", "-o", &options, self.path.to_str().unwrap(), point.to_str().unwrap()]);
        Mount { point }
    }

    /// Opens the volume by this crate.
    pub fn open(&self) -> Xfs {
        self.try_open(&OpenOptions::default()).unwrap()
    }

    pub fn try_open(&self, options: &OpenOptions) -> Result<Xfs> {
        Xfs::open(ImageFile::open(&self.path), options)
    }

    /// Changes the incompatible features in the superblock and sets its checksum right.
    pub fn patch_superblock(&self, change: impl Fn(u32) -> u32) {
        const INCOMPAT: usize = 216;
        const CRC: usize = 224;
        let file = File::options().read(true).write(true).open(&self.path).unwrap();
        let mut sector = [0; 512];
        file.read_exact_at(&mut sector, 0).unwrap();
        let field: [u8; 4] = sector[INCOMPAT..INCOMPAT + 4].try_into().unwrap();
        sector[INCOMPAT..INCOMPAT + 4].copy_from_slice(&change(u32::from_be_bytes(field)).to_be_bytes());
        sector[CRC..CRC + 4].fill(0);
        let crc = crc32c::crc32c(&sector);
        sector[CRC..CRC + 4].copy_from_slice(&crc.to_le_bytes());
        file.write_all_at(&sector, 0).unwrap();
    }

    /// What xfs_db prints for these commands.
    pub fn xfs_db(&self, commands: &[&str]) -> String {
        let name = self.path.to_str().unwrap();
        let mut arguments = vec!["-r"];
        for command in commands {
            arguments.extend(["-c", *command]);
        }
        arguments.push(name);
        run("xfs_db", &arguments)
    }
}

/// A mount by the kernel; dropping it unmounts.
#[derive(Debug)]
pub struct Mount {
    point: PathBuf,
}

impl Mount {
    pub fn path(&self) -> &Path {
        &self.point
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let point = self.point.to_str().unwrap();
        let done = Command::new("umount").arg(point).status().is_ok_and(|status| status.success());
        if !done {
            // Something still looks at it; detach rather than leave it for ever.
            let _ = Command::new("umount").args(["-l", point]).status();
        }
    }
}
