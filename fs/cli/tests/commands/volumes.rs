//! Small volumes, made without mounting anything, and the program under test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// A folder with `disk.img`, an ext4 volume that holds a copy of `tree`.
pub(crate) struct Volume {
    pub(crate) folder: TempDir,
}

/// The program's end and what it said.
pub(crate) struct Told {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Volume {
    /// `None`, with the reason told, where this machine cannot make one.
    pub(crate) fn new() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("tree");
        fs::create_dir_all(tree.join("deep/er")).unwrap();
        fs::write(tree.join("hello"), "hello, world\n").unwrap();
        let large: Vec<u8> = (0..3_000_001_u32).flat_map(u32::to_le_bytes).take(3_000_001).collect();
        fs::write(tree.join("deep/large"), large).unwrap();
        fs::write(tree.join("deep/er/empty"), "").unwrap();
        std::os::unix::fs::symlink("../deep/large", tree.join("deep/link")).unwrap();
        std::os::unix::fs::symlink("circle", tree.join("circle")).unwrap();
        let volume = Self { folder };
        let made = Command::new("mkfs.ext4")
            .args(["-q", "-F", "-L", "cli-test", "-d"])
            .arg(&tree)
            .arg(volume.image())
            .arg("16M")
            .output();
        match made {
            Ok(made) if made.status.success() => Some(volume),
            other => {
                eprintln!("skipped: mkfs.ext4 does not make a volume: {other:?}");
                None
            }
        }
    }

    pub(crate) fn image(&self) -> PathBuf {
        self.folder.path().join("disk.img")
    }

    pub(crate) fn spec(&self) -> String {
        self.image().display().to_string()
    }

    pub(crate) fn tree(&self) -> PathBuf {
        self.folder.path().join("tree")
    }

    /// A fresh directory to mount on.
    pub(crate) fn mountpoint(&self) -> PathBuf {
        let directory = self.folder.path().join("mnt");
        fs::create_dir_all(&directory).unwrap();
        directory
    }
}

pub(crate) fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_homifs"))
}

pub(crate) fn homifs(arguments: &[&str]) -> Told {
    told(&program().args(arguments).output().unwrap())
}

pub(crate) fn told(output: &Output) -> Told {
    Told {
        code: output.status.code().unwrap(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The type of what is mounted on a directory, if anything is.
pub(crate) fn mounted(directory: &Path) -> Option<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let directory = directory.to_str().unwrap();
    let line = table.lines().rfind(|line| line.split(' ').nth(4) == Some(directory))?;
    line.split(" - ").nth(1)?.split(' ').next().map(str::to_owned)
}

/// Whether mounting can be tried here; tells why not.
pub(crate) fn can_mount() -> bool {
    let can = fs::File::options().read(true).write(true).open("/dev/fuse").is_ok() && is_root();
    if !can {
        eprintln!("skipped: mounting needs root and /dev/fuse");
    }
    can
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}
