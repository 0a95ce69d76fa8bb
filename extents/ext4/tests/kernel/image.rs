//! Image files, and their mounts by the kernel.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use extents_core::{BlockRead, ReadError, to_u64};
use extents_ext4::{Ext4, OpenOptions};
use tempfile::TempDir;

/// A file read as a device.
#[derive(Debug)]
pub(crate) struct FileDevice(pub(crate) File);

impl BlockRead for FileDevice {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let length = to_u64(buf.len());
        self.0.read_exact_at(buf, offset).map_err(|_| ReadError::io(offset, length))
    }

    fn size(&self) -> u64 {
        self.0.metadata().unwrap().len()
    }
}

/// An image of a volume in a directory that goes away with it.
pub(crate) struct Image {
    dir: TempDir,
}

impl Image {
    /// Makes a sparse image of `mib` MiB and a file system on it; `None`, with the reason on stdout, where this
    /// machine has no mkfs.ext4.
    pub(crate) fn make(mib: u64, mkfs: &str) -> Option<Self> {
        let image = Self { dir: tempfile::tempdir().unwrap() };
        File::create(image.path()).unwrap().set_len(mib << 20).unwrap();
        let mut command = Command::new("mkfs.ext4");
        command.args(["-q", "-F"]).args(mkfs.split_whitespace()).arg(image.path());
        match command.output() {
            Ok(output) if output.status.success() => Some(image),
            Ok(output) => panic!("mkfs.ext4 {mkfs}: {}", String::from_utf8_lossy(&output.stderr)),
            Err(error) => {
                println!("skipped: mkfs.ext4 cannot be run: {error}");
                None
            }
        }
    }

    /// The image in this file, which moves to a directory of its own.
    pub(crate) fn of_file(file: &Path) -> Self {
        let image = Self { dir: tempfile::tempdir().unwrap() };
        std::fs::rename(file, image.path()).unwrap();
        image
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("image")
    }

    /// Opens the volume with our reader.
    pub(crate) fn open(&self) -> Ext4 {
        self.try_open(&options()).unwrap_or_else(|error| panic!("{error}"))
    }

    pub(crate) fn try_open(&self, options: &OpenOptions) -> extents_core::Result<Ext4> {
        Ext4::open(FileDevice(File::open(self.path()).unwrap()), options)
    }

    /// Mounts the volume with the kernel; `None`, with the reason on stdout, where that is not possible here.
    pub(crate) fn mount(&self, options: &str) -> Option<Mount> {
        let at = self.dir.path().join("mnt");
        std::fs::create_dir_all(&at).unwrap();
        let output = Command::new("mount")
            .args(["-t", "ext4", "-o", &format!("loop,{options}")])
            .arg(self.path())
            .arg(&at)
            .output()
            .unwrap();
        if output.status.success() {
            return Some(Mount { at });
        }
        println!(
            "skipped: the kernel does not mount this volume here: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        None
    }

    /// Runs a program of e2fsprogs on the image and gives its output.
    pub(crate) fn tool(&self, program: &str, arguments: &[&str]) -> String {
        let output = Command::new(program).args(arguments).arg(self.path()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs commands of debugfs that change the image.
    pub(crate) fn debugfs(&self, commands: &[&str]) -> String {
        let script = self.dir.path().join("script");
        std::fs::write(&script, commands.join("\n")).unwrap();
        let output =
            Command::new("debugfs").arg("-w").arg("-f").arg(&script).arg(self.path()).output().unwrap();
        assert!(output.status.success());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The image's bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.path()).unwrap()
    }
}

pub(crate) fn options() -> OpenOptions {
    OpenOptions { norecovery: false, cache_bytes: 16 << 20, journal_device: None }
}

/// A mount by the kernel, which ends with this value.
pub(crate) struct Mount {
    at: PathBuf,
}

impl Mount {
    pub(crate) fn path(&self) -> &Path {
        &self.at
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // A child that another test has just forked holds our files open until it runs its program.
        const TRIES: u32 = 100;
        let mut said = String::new();
        for _ in 0..TRIES {
            match Command::new("umount").arg(&self.at).output() {
                Ok(output) if output.status.success() => return,
                Ok(output) => said = String::from_utf8_lossy(&output.stderr).into_owned(),
                Err(error) => said = error.to_string(),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        if !std::thread::panicking() {
            panic!("{} stays mounted: {said}", self.at.display());
        }
    }
}

/// A volume made by `mkfs`, filled by `fill` through the kernel; `None` where this machine cannot.
pub(crate) fn filled(mib: u64, mkfs: &str, fill: impl FnOnce(&Path)) -> Option<Image> {
    let image = Image::make(mib, mkfs)?;
    let mount = image.mount("rw")?;
    fill(mount.path());
    drop(mount);
    Some(image)
}

/// A device of bytes that several readers may share.
pub(crate) fn shared(bytes: Vec<u8>) -> Arc<extents_core::MemoryDevice> {
    Arc::new(extents_core::MemoryDevice(bytes))
}
