//! New volumes for tests that write.

use std::fs::File;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use oracle::Format;
use oracle::command::run;
use tempfile::TempDir;

use crate::homifs_mount::HomifsMount;
use crate::programs::homifs;

/// A new volume in an image of its own.
#[derive(Debug)]
pub struct FreshVolume {
    _folder: TempDir,
    /// The image.
    pub image: PathBuf,
    /// What it is formatted as.
    pub format: Format,
}

impl FreshVolume {
    /// Makes one.
    ///
    /// # Errors
    /// Where mkfs fails.
    pub fn new(format: Format) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("homifs-writable-").tempdir()?;
        let image = folder.path().join("disk.img");
        // mkfs.xfs makes no volume below 300 MiB.
        File::create(&image)?.set_len(320 << 20)?;
        match format {
            Format::Xfs => run("mkfs.xfs", ["-q".as_ref(), image.as_os_str()])?,
            _ => run("mkfs.ext4", ["-q".as_ref(), "-F".as_ref(), image.as_os_str()])?,
        };
        Ok(Self { _folder: folder, image, format })
    }

    /// Mounts it for reading and writing.
    ///
    /// # Errors
    /// As for [`HomifsMount::of_spec`].
    pub fn mount(&self, options: &str) -> Result<HomifsMount> {
        HomifsMount::of_spec(&self.image, &format!("rw,{options}"))
    }

    /// Unmounts, and lets the file system's own checker judge.
    ///
    /// # Errors
    /// Where either goes wrong.
    pub fn unmount_and_check(&self, mount: HomifsMount) -> Result<()> {
        self.unmount(mount)?;
        self.check()
    }

    /// Unmounts, and waits for the daemon.
    ///
    /// # Errors
    /// Where it did not end well.
    pub fn unmount(&self, mut mount: HomifsMount) -> Result<()> {
        run(homifs()?.to_str().context("a path")?, ["umount".as_ref(), mount.path().as_os_str()])?;
        ensure!(mount.daemon().wait()?.success(), "the daemon failed: {}", mount.daemon().said());
        Ok(())
    }

    /// Lets the file system's own checker judge.
    ///
    /// # Errors
    /// Where it complains.
    pub fn check(&self) -> Result<()> {
        match self.format {
            Format::Xfs => run("xfs_repair", ["-n".as_ref(), self.image.as_os_str()])?,
            _ => run("e2fsck", ["-fn".as_ref(), self.image.as_os_str()])?,
        };
        Ok(())
    }
}
