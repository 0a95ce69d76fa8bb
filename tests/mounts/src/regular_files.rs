//! Files to read on a mount of one of the oracle's volumes.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// Folders of the oracle's volumes with files of every shape: holes, unwritten, inline, shared, long, in pieces.
const FOLDERS: [&str; 6] = ["holes", "inline", "special", "reflinks", "times", "fragments"];

/// Regular files of every shape below a mount, symbolic links not followed.
///
/// # Errors
/// Where there are hardly any, or a folder cannot be read.
pub fn regular_files(mount: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for folder in FOLDERS.map(|folder| mount.join(folder)).iter().filter(|folder| folder.exists()) {
        collect(folder, &mut files)?;
    }
    ensure!(files.len() > 2, "only {} files to read", files.len());
    Ok(files)
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            collect(&entry.path(), found)?;
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    Ok(())
}
