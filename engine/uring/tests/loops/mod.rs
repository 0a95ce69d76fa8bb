//! Loop devices for tests.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A loop device that is detached at the end.
pub(crate) struct Loop(PathBuf);

impl Loop {
    /// Attaches `image` with the given sector size; says why and answers none where this machine cannot.
    pub(crate) fn attach(image: &Path, sector: u32) -> Option<Self> {
        let sector = sector.to_string();
        let command = Command::new("losetup")
            .args(["--find", "--show", "--read-only", "--sector-size", &sector])
            .arg(image)
            .output();
        match command {
            Ok(output) if output.status.success() => {
                Some(Self(String::from_utf8(output.stdout).unwrap().trim().into()))
            }
            Ok(output) => {
                println!("skipped: losetup: {}", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                println!("skipped: no losetup: {error}");
                None
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Detaches it now.
    pub(crate) fn detach(&self) {
        let detached = Command::new("losetup").arg("--detach").arg(&self.0).output();
        assert!(detached.is_ok_and(|output| output.status.success()));
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // It may be detached already.
        let _ = Command::new("losetup").arg("--detach").arg(&self.0).output();
    }
}
