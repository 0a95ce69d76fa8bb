//! Image files as block devices.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::command::run;

/// A loop device, detached when it goes out of scope.
#[derive(Debug)]
pub struct LoopDevice {
    path: PathBuf,
}

impl LoopDevice {
    /// Attaches an image, read-only or not.
    ///
    /// # Errors
    /// What `losetup` says.
    pub fn attach(image: &Path, read_only: bool) -> Result<Self> {
        let flags: &[&str] =
            if read_only { &["--find", "--show", "--read-only"] } else { &["--find", "--show"] };
        let printed = run("losetup", flags.iter().map(OsStr::new).chain([image.as_os_str()]))?;
        Ok(Self { path: printed.trim().into() })
    }

    /// The device's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        if let Err(error) = run("losetup", [OsStr::new("--detach"), self.path.as_os_str()]) {
            eprintln!("{error:#}");
        }
    }
}
