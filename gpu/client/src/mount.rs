//! Which mount a file lies on, and where its daemon listens.

use std::ffi::OsString;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use rustix::fs::{AtFlags, StatxFlags, statx};

use crate::ClientError;

/// The socket of the daemon that serves the mount of an open file.
pub(crate) fn socket_of(file: impl AsFd) -> Result<PathBuf, ClientError> {
    let stat = statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)
        .map_err(ClientError::system("find the mount of the file"))?;
    let text = fs::read("/proc/self/mountinfo")
        .map_err(|source| ClientError::System { action: "read the mount table", source })?;
    let line = text
        .split(|&byte| byte == b'\n')
        .find(|line| line.split(|&byte| byte == b' ').next() == Some(stat.stx_mnt_id.to_string().as_bytes()));
    // 36 35 98:0 /root /mnt rw shared:1 - fuse.homifs /dev/vdb rw
    let mut fields = line.unwrap_or_default().split(|&byte| byte == b' ');
    let Some(point) = fields.nth(4).map(unescape) else {
        return Err(ClientError::NotServed {
            path: "the file".into(),
            reason: "its mount is not visible here (another mount namespace?)".into(),
        });
    };
    let kind = fields.skip_while(|field| *field != b"-").nth(1).unwrap_or_default().to_owned();
    let not_served =
        |reason: &str| ClientError::NotServed { path: point.display().to_string(), reason: reason.into() };
    if kind != b"fuse.homifs" {
        let kind = String::from_utf8_lossy(&kind);
        return Err(not_served(&format!(
            "it is a mount of type {kind}, not of fuse.homifs; mount it with `mount -t homifs`"
        )));
    }
    let link = point.join(".homi/socket");
    let socket = fs::read_link(&link).map_err(|error| {
        not_served(&format!("{} cannot be read ({error}); was it mounted with clients=off?", link.display()))
    })?;
    Ok(socket)
}

/// Spaces and the like stand as `\040` in the mount table.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = (byte == b'\\')
            .then(|| tail.get(..3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match octal {
            Some(value) => {
                bytes.push(value);
                rest = &tail[3..];
            }
            None => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    let text = OsString::from_vec(bytes);
    debug_assert!(!text.as_bytes().is_empty() || field.is_empty());
    PathBuf::from(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_of_the_mount_table_are_undone() {
        assert_eq!(unescape(br"/mnt/a\040b\134c"), PathBuf::from(r"/mnt/a b\c"));
        assert_eq!(unescape(br"/mnt/x\04"), PathBuf::from(r"/mnt/x\04"));
    }

    #[test]
    fn file_of_another_file_system_is_refused_with_its_type() {
        let error = socket_of(fs::File::open("/proc/self/status").unwrap()).unwrap_err();
        assert!(error.to_string().contains("proc"), "{error}");
    }
}
