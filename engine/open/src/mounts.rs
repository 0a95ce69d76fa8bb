//! What is mounted, from `/proc/PID/mountinfo` (proc(5)).

use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;

use crate::devices::DeviceNumber;
use crate::processes;

/// One mount of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) point: PathBuf,
    pub(crate) format: String,
    /// Whether the file system itself may write, whatever the mount point allows.
    pub(crate) writable: bool,
    /// A process whose mount namespace has it, where ours has not.
    pub(crate) elsewhere: Option<u32>,
}

/// The mounts of one of `devices`: those that this process sees, or, where it sees none, those that another does.
pub(crate) fn mounts_of(devices: &[DeviceNumber]) -> Vec<Mount> {
    let read = |process: &str| fs::read(format!("/proc/{process}/mountinfo")).unwrap_or_default();
    let mut found = parse(&read("self"), devices);
    if found.is_empty() {
        for process in processes::all() {
            found = parse(&read(&process.to_string()), devices);
            if !found.is_empty() {
                found.iter_mut().for_each(|mount| mount.elsewhere = Some(process));
                break;
            }
        }
    }
    found
}

/// `36 35 98:0 /root /mnt rw,noatime shared:1 - ext4 /dev/sda1 rw,errors=continue`: the fields before the dash are the
/// mount's, those after it the file system's.
fn parse(text: &[u8], devices: &[DeviceNumber]) -> Vec<Mount> {
    text.split(|&byte| byte == b'\n').filter_map(|line| parse_line(line, devices)).collect()
}

fn parse_line(line: &[u8], devices: &[DeviceNumber]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let number = DeviceNumber::parse(&String::from_utf8_lossy(fields.nth(2)?))?;
    let point = unescape(fields.nth(1)?);
    fields.find(|&field| field == b"-")?;
    let format = String::from_utf8_lossy(fields.next()?).into_owned();
    let source = unescape(fields.next()?);
    let options = fields.next()?;
    // Some formats (btrfs) have numbers of their own for their mounts; their source still names the device.
    let ours = devices.contains(&number)
        || fs::metadata(&source).is_ok_and(|meta| {
            meta.file_type().is_block_device() && devices.contains(&DeviceNumber::of(meta.rdev()))
        });
    let writable = options.split(|&byte| byte == b',').next()? == b"rw";
    ours.then_some(Mount { point, format, writable, elsewhere: None })
}

/// Blanks, tabs, newlines and backslashes are written as a backslash and three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let octal = |digits: &[u8]| {
            digits.iter().try_fold(0_u16, |number, &digit| {
                digit.is_ascii_digit().then(|| number * 8 + u16::from(digit - b'0'))
            })
        };
        let code = after.get(..3).filter(|_| first == b'\\').and_then(octal);
        match code.and_then(|code| u8::try_from(code).ok()) {
            Some(byte) => {
                plain.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                plain.push(first);
                rest = after;
            }
        }
    }
    std::ffi::OsString::from_vec(plain).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_line_of_the_device_is_found_with_its_options() {
        let text = b"22 1 8:1 / / ro,noatime shared:1 - ext4 /dev/sda1 rw,errors=continue\n\
            23 22 8:17 / /mnt/with\\040blank rw - xfs /dev/nowhere ro,attr2\n\
            24 22 8:18 / /other rw - xfs /dev/nowhere rw\n";
        let found = parse(text, &[DeviceNumber { major: 8, minor: 1 }, DeviceNumber { major: 8, minor: 17 }]);
        let expected = |point: &str, format: &str, writable| Mount {
            point: point.into(),
            format: format.into(),
            writable,
            elsewhere: None,
        };
        assert_eq!(found, [expected("/", "ext4", true), expected("/mnt/with blank", "xfs", false)]);
    }
}
