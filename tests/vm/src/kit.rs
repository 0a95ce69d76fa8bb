//! What `tests/vm/setup` fetched.

use std::path::{Path, PathBuf};
use std::{env, fs};

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

    /// The reason why a test that needs these packages in the guest cannot run: an older `tests/vm/setup` made it.
    #[must_use]
    pub fn lacks(&self, packages: &[&str]) -> Option<String> {
        let versions = fs::read_to_string(self.folder.join("versions")).unwrap_or_default();
        let there: Vec<&str> = versions.lines().filter_map(|line| line.split(' ').next()).collect();
        let package = packages.iter().find(|package| !there.contains(package))?;
        Some(format!("the guest in {} has no {package}: run tests/vm/setup", self.folder.display()))
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
