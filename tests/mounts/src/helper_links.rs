//! The links in `/sbin` by which mount(8) finds the helper.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::programs::helper;

const LINKS: [&str; 2] = ["/sbin/mount.homifs", "/sbin/mount.fuse.homifs"];

/// `/sbin/mount.homifs` and `/sbin/mount.fuse.homifs`, leading to the program under test as long as this lives.
/// There is one at a time on a machine: others wait.
#[derive(Debug)]
pub struct HelperLinks {
    made: Vec<PathBuf>,
    _lock: File,
}

impl HelperLinks {
    /// Makes the links. `Err` in the inner result says why that cannot be done here: homifs is installed, and this is
    /// not the one under test.
    ///
    /// # Errors
    /// Where the program cannot be built or `/sbin` not be written.
    pub fn make() -> Result<Result<Self, String>> {
        let program = helper()?;
        let lock = File::create(std::env::temp_dir().join("homifs-helper-links.lock"))?;
        lock.lock()?;
        let mut links = Self { made: Vec::new(), _lock: lock };
        for link in LINKS.map(Path::new) {
            if fs::symlink_metadata(link).is_ok() {
                if !is_left_over(link) {
                    return Ok(Err(format!("{} is installed", link.display())));
                }
                fs::remove_file(link)?;
            }
            symlink(&program, link)?;
            links.made.push(link.into());
        }
        Ok(Ok(links))
    }
}

/// Whether a link is that of a test that was killed: it leads to a program in a Cargo target folder.
fn is_left_over(link: &Path) -> bool {
    let target = fs::read_link(link).unwrap_or_default();
    target.file_name().is_some_and(|name| name == "mount-homifs")
        && target.parent().is_some_and(|folder| !folder.exists() || folder.join("deps").is_dir())
}

impl Drop for HelperLinks {
    fn drop(&mut self) {
        for link in &self.made {
            if let Err(error) = fs::remove_file(link) {
                eprintln!("cannot remove {}: {error}", link.display());
            }
        }
    }
}
