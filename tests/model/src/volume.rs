//! A volume whose free space is full of what nobody may ever see.

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mounts::HomifsMount;
use oracle::command::run;
use oracle::{Format, KernelMount};
use rustix::io::{Errno, pwrite};
use tempfile::TempDir;

use crate::stamp::{Stamp, WriteId};

/// A new volume in an image of its own.
#[derive(Debug)]
pub struct Volume {
    _folder: TempDir,
    /// The image.
    pub image: PathBuf,
    /// What it is formatted as.
    pub format: Format,
}

/// What a round runs on.
#[derive(Debug)]
pub enum Mounted {
    /// Ours.
    Homifs(HomifsMount),
    /// The kernel's own, to see that the checker asks nothing that files do not give.
    Kernel(KernelMount),
}

impl Mounted {
    /// Where.
    #[must_use]
    pub fn path(&self) -> &std::path::Path {
        match self {
            Self::Homifs(mount) => mount.path(),
            Self::Kernel(mount) => mount.path(),
        }
    }
}

impl Volume {
    /// Makes one and fills its free space with poison.
    ///
    /// # Errors
    /// Where mkfs or mount fails.
    pub fn new(format: Format) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("homifs-model-").tempdir()?;
        let image = folder.path().join("disk.img");
        // mkfs.xfs makes no volume below 300 MiB.
        File::create(&image)?.set_len(320 << 20)?;
        match format {
            // Reflinks, which copies make, are on where mkfs knows them.
            Format::Xfs => run("mkfs.xfs", ["-q".as_ref(), image.as_os_str()])?,
            Format::Ext4 => run("mkfs.ext4", ["-q".as_ref(), "-F".as_ref(), image.as_os_str()])?,
        };
        let volume = Self { _folder: folder, image, format };
        volume.poison()?;
        Ok(volume)
    }

    /// Fills all space, and gives some of it back: few blocks come to new files again soon.
    fn poison(&self) -> Result<()> {
        let mount = KernelMount::with_options(&self.image, self.format, "rw")?;
        let mut bytes = vec![0; 1 << 20];
        Stamp(u64::MAX).fill(WriteId::POISON, &mut bytes);
        let mut parts = Vec::new();
        'full: for part in 0..u32::MAX {
            let path = mount.path().join(format!("poison{part}"));
            let file = File::create(&path)?;
            parts.push(path);
            for mib in 0..16 {
                match pwrite(&file, &bytes, mib << 20) {
                    Ok(_) => {}
                    Err(Errno::NOSPC) => break 'full,
                    Err(error) => bail!("cannot fill the volume: {error}"),
                }
            }
            file.sync_data()?;
        }
        for path in parts.iter().rev().take(4) {
            fs::remove_file(path)?;
        }
        mount.unmount()
    }

    /// Mounts it by us.
    ///
    /// # Errors
    /// What the daemon says.
    pub fn mount(&self, options: &str) -> Result<Mounted> {
        Ok(Mounted::Homifs(HomifsMount::of_spec(&self.image, &format!("rw,{options}"))?))
    }

    /// Mounts it by the kernel.
    ///
    /// # Errors
    /// What mount(8) says.
    pub fn mount_by_kernel(&self) -> Result<Mounted> {
        Ok(Mounted::Kernel(KernelMount::with_options(&self.image, self.format, "rw")?))
    }

    /// Mounts it by the kernel to look at it.
    ///
    /// # Errors
    /// What mount(8) says.
    pub fn look(&self) -> Result<KernelMount> {
        KernelMount::read_only(&self.image, self.format)
    }

    /// Unmounts, waits for the daemon, and lets the file system's own checker judge.
    ///
    /// # Errors
    /// Where any of that goes wrong.
    pub fn unmount_and_check(&self, mount: Mounted) -> Result<()> {
        match mount {
            Mounted::Kernel(mount) => mount.unmount()?,
            Mounted::Homifs(mut mount) => {
                let until = Instant::now() + Duration::from_secs(10);
                // Whoever was told to end may still hold a file for a moment.
                while let Err(error) = run("umount", [mount.path()]) {
                    ensure!(Instant::now() < until, "{error:#}");
                    std::thread::sleep(Duration::from_millis(50));
                }
                let status = mount.daemon().wait().context("after umount")?;
                ensure!(status.success(), "the daemon failed: {}", mount.daemon().said());
            }
        }
        match self.format {
            Format::Xfs => run("xfs_repair", ["-n".as_ref(), self.image.as_os_str()])?,
            Format::Ext4 => run("e2fsck", ["-fn".as_ref(), self.image.as_os_str()])?,
        };
        Ok(())
    }
}
