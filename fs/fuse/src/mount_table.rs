//! What this mount namespace has mounted where (`/proc/self/mountinfo`, proc_pid_mountinfo(5)).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// One line of the table, as far as we need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// `major:minor` of the mounted file system.
    pub device: String,
    /// Where it is mounted.
    pub mountpoint: PathBuf,
    /// Its type, subtype included.
    pub format: String,
    /// Its source.
    pub source: OsString,
}

impl Entry {
    /// Whether it is one of ours.
    #[must_use]
    pub fn is_homifs(&self) -> bool {
        self.format == "fuse.homifs"
    }
}

/// All mounts, in the order in which they lie over each other.
///
/// # Errors
/// Where the table cannot be read.
pub fn entries() -> std::io::Result<Vec<Entry>> {
    let table = std::fs::read("/proc/self/mountinfo")?;
    Ok(table.split(|&byte| byte == b'\n').filter_map(parse).collect())
}

/// What is mounted at exactly this directory, uppermost.
///
/// # Errors
/// Where the table cannot be read.
pub fn at(mountpoint: &Path) -> std::io::Result<Option<Entry>> {
    Ok(entries()?.into_iter().rfind(|entry| entry.mountpoint == mountpoint))
}

fn parse(line: &[u8]) -> Option<Entry> {
    let mut fields = line.split(|&byte| byte == b' ');
    let device = String::from_utf8(fields.nth(2)?.to_vec()).ok()?;
    let mountpoint = PathBuf::from(unescape(fields.nth(1)?));
    // Optional fields end with a lone hyphen.
    fields.find(|field| *field == b"-")?;
    let format = String::from_utf8_lossy(fields.next()?).into_owned();
    let source = unescape(fields.next()?);
    Some(Entry { device, mountpoint, format, source })
}

/// Space, tab, newline and backslash stand as three octal digits after a backslash.
fn unescape(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = (first == b'\\')
            .then(|| tail.get(..3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(OsStr::from_bytes(digits).to_str()?, 8).ok());
        match escaped {
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
    fn parse_line_with_optional_fields_and_escapes() {
        let line = br"98 29 0:45 / /mnt/my\040disk rw,relatime shared:5 master:1 - fuse.homifs /img/a\134b ro,user_id=0";
        let entry = parse(line).unwrap();
        assert!(entry.is_homifs());
        assert_eq!(entry.device, "0:45");
        assert_eq!(entry.mountpoint, Path::new("/mnt/my disk"));
        assert_eq!((entry.format.as_str(), entry.source.to_str()), ("fuse.homifs", Some(r"/img/a\b")));
    }

    #[test]
    fn at_root_is_always_mounted() {
        assert!(at(Path::new("/")).unwrap().is_some());
        assert_eq!(at(Path::new("/no/such/directory")).unwrap(), None);
    }
}
