//! Finds files by path on a volume that is not mounted.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use extents_core::FileType;
use homifs_core::{FsError, Homifs, NodeAttributes, NodeId};

use crate::Result;
use crate::failure::Failure;

/// As many as the kernel follows (`MAXSYMLINKS`).
const LINKS_MAX: u32 = 40;

/// The file at a path from the volume's root, symbolic links followed as if the volume were mounted on `/`.
pub(crate) fn find(homifs: &Homifs, path: &Path) -> Result<NodeAttributes> {
    walk(homifs, path, true)
}

/// As [`find`], but a symbolic link at the end of the path stands for itself.
pub(crate) fn find_itself(homifs: &Homifs, path: &Path) -> Result<NodeAttributes> {
    walk(homifs, path, false)
}

fn walk(homifs: &Homifs, path: &Path, follow_last: bool) -> Result<NodeAttributes> {
    let failed = |error| Failure::file(&path.display().to_string(), &error);
    let root = homifs.attributes(NodeId::ROOT).map_err(failed)?;
    let mut above = vec![root];
    let mut links = 0;
    // Names that are still to go, the next one last.
    let mut names = reversed(path);
    while let Some(name) = names.pop() {
        let here = *above.last().unwrap_or(&root);
        match Path::new(&name).components().next() {
            Some(Component::Normal(name)) => {
                if !here.metadata.is_directory() {
                    return Err(failed(FsError::NotADirectory));
                }
                let found = homifs.lookup(here.node, name.as_bytes()).map_err(failed)?;
                let found = found.ok_or_else(|| failed(FsError::NotFound))?;
                let follow = follow_last || !names.is_empty();
                if found.metadata.file_type != FileType::Symlink || !follow {
                    above.push(found);
                    continue;
                }
                links += 1;
                if links > LINKS_MAX {
                    return Err(Failure::plain(format!("{}: too many symbolic links", path.display())));
                }
                let target = homifs.read_link(found.node).map_err(failed)?;
                let target = Path::new(std::ffi::OsStr::from_bytes(&target));
                if target.is_absolute() {
                    above.truncate(1);
                }
                names.extend(reversed(target));
            }
            Some(Component::ParentDir) if above.len() > 1 => {
                above.pop();
            }
            _ => {}
        }
    }
    Ok(*above.last().unwrap_or(&root))
}

fn reversed(path: &Path) -> Vec<PathBuf> {
    let mut names: Vec<_> = path.components().map(|name| PathBuf::from(name.as_os_str())).collect();
    names.reverse();
    names
}
