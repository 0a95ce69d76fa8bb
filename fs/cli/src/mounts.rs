//! The homifs mounts of this mount namespace (`/proc/self/mountinfo`, proc_pid_mountinfo(5)).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) directory: PathBuf,
    pub(crate) format: String,
}

impl Mount {
    /// Whether it is one of ours.
    pub(crate) fn is_homifs(&self) -> bool {
        self.format == "fuse.homifs"
    }
}

/// The uppermost mount at or above a path.
pub(crate) fn holding(path: &Path) -> std::io::Result<Option<Mount>> {
    // Of a mount whose daemon is gone, the path cannot be resolved; take it as it is then.
    let path = path.canonicalize().or_else(|_| std::path::absolute(path))?;
    let table = std::fs::read("/proc/self/mountinfo")?;
    let mounts = table.split(|&byte| byte == b'\n').filter_map(parse);
    Ok(mounts.filter(|mount| path.starts_with(&mount.directory)).fold(None, |best: Option<Mount>, mount| {
        // Of two on one directory, the later one lies above.
        let longest = best.as_ref().map_or(0, |best| best.directory.as_os_str().len());
        if mount.directory.as_os_str().len() >= longest { Some(mount) } else { best }
    }))
}

/// The uppermost mount at exactly this directory.
pub(crate) fn at(directory: &Path) -> std::io::Result<Option<Mount>> {
    let directory = directory.canonicalize().or_else(|_| std::path::absolute(directory))?;
    Ok(holding(&directory)?.filter(|mount| mount.directory == directory))
}

fn parse(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let directory = unescape(fields.nth(4)?);
    fields.find(|field| *field == b"-")?;
    let format = String::from_utf8_lossy(fields.next()?).into_owned();
    Some(Mount { directory: directory.into(), format })
}

/// Space, tab, newline and backslash stand as three octal digits after a backslash.
fn unescape(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let digits =
            tail.get(..3).filter(|_| first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_line_with_escapes_gives_directory_and_type() {
        let line =
            br"98 29 0:45 / /mnt/my\040disk ro,relatime shared:5 master:1 - fuse.homifs /img ro,user_id=0";
        let mount = parse(line).unwrap();
        assert_eq!(mount, Mount { directory: "/mnt/my disk".into(), format: "fuse.homifs".into() });
        assert!(mount.is_homifs());
    }

    #[test]
    fn holding_any_path_is_the_root_at_least() {
        assert!(
            holding(Path::new("/proc/self"))
                .unwrap()
                .is_some_and(|mount| mount.directory == Path::new("/proc"))
        );
        assert!(at(Path::new("/")).unwrap().is_some());
        assert_eq!(at(Path::new("/no/such/directory")).unwrap(), None);
    }
}
