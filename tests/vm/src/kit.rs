//! What `tests/vm/setup` fetched.

use std::env;
use std::path::{Path, PathBuf};

/// The folder with the emulator, the kernel and the guest's file systems.
#[derive(Debug, Clone)]
pub struct Kit {
    folder: PathBuf,
}

impl Kit {
    /// Where `HOMIFS_VM` says, or in the user's cache folder.
    ///
    /// # Errors
    /// The reason why there is no guest to be had here, for a test to say that it was skipped.
    pub fn find() -> Result<Self, String> {
        let folder = env::var_os("HOMIFS_VM")
            .map(PathBuf::from)
            .or_else(|| Some(PathBuf::from(env::var_os("XDG_CACHE_HOME")?).join("homifs-vm")))
            .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache/homifs-vm")))
            .ok_or("none of HOMIFS_VM, XDG_CACHE_HOME and HOME is set")?;
        // Setup writes the stamp last.
        if !folder.join("stamp").exists() {
            return Err(format!("there is no guest in {}: run tests/vm/setup", folder.display()));
        }
        Ok(Self { folder })
    }

    /// The emulator, which takes QEMU's arguments.
    #[must_use]
    pub fn emulator(&self) -> PathBuf {
        self.folder.join("qemu")
    }

    /// The kernel.
    #[must_use]
    pub fn kernel(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    /// The cpio archive with what the guest has before it mounts its root; it lacks the first process.
    #[must_use]
    pub fn early(&self) -> PathBuf {
        self.folder.join("early.cpio")
    }

    /// The ext4 image that becomes the guest's root.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.folder.join("root.img")
    }

    /// The folder itself.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}
