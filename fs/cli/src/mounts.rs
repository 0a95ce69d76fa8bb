//! Which mount a path that somebody typed lies on.

use std::path::Path;

use homifs_fuse::mount_table::{self, Entry};

/// The uppermost mount at or above a path.
pub(crate) fn holding(path: &Path) -> std::io::Result<Option<Entry>> {
    // Of a mount whose daemon is gone, the path cannot be resolved; take it as it is then.
    let path = path.canonicalize().or_else(|_| std::path::absolute(path))?;
    // Of two on one directory, the later one lies above, and is the one that is kept.
    let mounts = mount_table::entries()?.into_iter().filter(|mount| path.starts_with(&mount.mountpoint));
    Ok(mounts.max_by_key(|mount| mount.mountpoint.as_os_str().len()))
}

/// The uppermost mount at exactly this directory.
pub(crate) fn at(directory: &Path) -> std::io::Result<Option<Entry>> {
    let directory = directory.canonicalize().or_else(|_| std::path::absolute(directory))?;
    mount_table::at(&directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holding_any_path_is_the_root_at_least() {
        assert!(
            holding(Path::new("/proc/self"))
                .unwrap()
                .is_some_and(|mount| mount.mountpoint == Path::new("/proc"))
        );
        assert!(at(Path::new("/")).unwrap().is_some());
        assert_eq!(at(Path::new("/no/such/directory")).unwrap(), None);
    }
}
