//! Volumes as the kernel shows them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use tempfile::TempDir;

use crate::command::run;
use crate::loop_device::LoopDevice;
use crate::volume::Format;

/// An image mounted by the kernel in a folder of its own, unmounted when it goes out of scope.
#[derive(Debug)]
pub struct KernelMount {
    folder: TempDir,
    mounted: bool,
    // Dropped after the mount is gone.
    device: LoopDevice,
}

impl KernelMount {
    /// Mounts an image to be compared: read-only, without touching access times.
    ///
    /// # Errors
    /// What `mount` says.
    pub fn read_only(image: &Path, format: Format) -> Result<Self> {
        // One image may be mounted by several tests at once, and XFS knows volumes by their UUID.
        let options = match format {
            Format::Ext4 => "ro,noatime",
            Format::Xfs => "ro,noatime,nouuid",
        };
        Self::with_options(image, format, options)
    }

    /// Mounts an image with options of the caller's; the device below is read-only where `ro` is among them.
    ///
    /// # Errors
    /// What `mount` says.
    pub fn with_options(image: &Path, format: Format, options: &str) -> Result<Self> {
        let device = LoopDevice::attach(image, options.split(',').any(|option| option == "ro"))?;
        let folder = tempfile::Builder::new().prefix("oracle-kernel-").tempdir()?;
        let (what, wherever) = (device.path().as_os_str(), folder.path().as_os_str());
        let flags = ["-t", format.kernel_name(), "-o", options].map(OsStr::new);
        run("mount", flags.into_iter().chain([what, wherever]))?;
        Ok(Self { folder, mounted: true, device })
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The device that is mounted.
    #[must_use]
    pub fn device(&self) -> PathBuf {
        self.device.path().into()
    }

    /// Unmounts and says how that went.
    ///
    /// # Errors
    /// What `umount` says.
    pub fn unmount(mut self) -> Result<()> {
        run("umount", [self.folder.path()])?;
        self.mounted = false;
        Ok(())
    }
}

impl Drop for KernelMount {
    fn drop(&mut self) {
        if self.mounted
            && let Err(error) = run("umount", [OsStr::new("--lazy"), self.folder.path().as_os_str()])
        {
            eprintln!("{error:#}");
        }
    }
}
