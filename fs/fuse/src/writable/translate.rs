//! Between FUSE's words and those of the lower mount.

use std::time::SystemTime;

use extents_core::{DeviceNumber, Timestamp};
use fuser::{Errno, FileAttr, FileType, INodeNo, Request, TimeOrNow};
use homifs_core::FsError;
use homifs_lower::{FileIoctl, Identity, Moment};
use rustix::fs::{Statx, StatxTimestamp};

use super::handles::Opened;
use crate::attributes::{device as encode, system_time};

pub(super) fn errno(error: rustix::io::Errno) -> Errno {
    Errno::from_i32(error.raw_os_error())
}

pub(super) fn identity(request: &Request) -> Identity {
    Identity { uid: request.uid(), gid: request.gid(), pid: request.pid() }
}

/// `ENOSYS` would turn attributes off for the whole mount.
pub(super) fn xattr_error(error: rustix::io::Errno) -> FsError {
    match error {
        rustix::io::Errno::NODATA => FsError::NoAttribute,
        other => FsError::Lower(other.raw_os_error()),
    }
}

pub(super) fn attributes(number: u64, stat: &Statx) -> FileAttr {
    FileAttr {
        ino: INodeNo(number),
        size: stat.stx_size,
        blocks: stat.stx_blocks,
        atime: time(&stat.stx_atime),
        mtime: time(&stat.stx_mtime),
        ctime: time(&stat.stx_ctime),
        crtime: time(&stat.stx_btime),
        kind: kind(rustix::fs::FileType::from_raw_mode(stat.stx_mode.into())),
        perm: stat.stx_mode & 0o7777,
        nlink: stat.stx_nlink,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        rdev: encode(DeviceNumber { major: stat.stx_rdev_major, minor: stat.stx_rdev_minor }),
        blksize: stat.stx_blksize,
        flags: 0,
    }
}

pub(super) fn kind(kind: rustix::fs::FileType) -> FileType {
    match kind {
        rustix::fs::FileType::Directory => FileType::Directory,
        rustix::fs::FileType::Symlink => FileType::Symlink,
        rustix::fs::FileType::Fifo => FileType::NamedPipe,
        rustix::fs::FileType::Socket => FileType::Socket,
        rustix::fs::FileType::CharacterDevice => FileType::CharDevice,
        rustix::fs::FileType::BlockDevice => FileType::BlockDevice,
        rustix::fs::FileType::RegularFile | rustix::fs::FileType::Unknown => FileType::RegularFile,
    }
}

fn time(time: &StatxTimestamp) -> SystemTime {
    system_time(Timestamp { seconds: time.tv_sec, nanoseconds: time.tv_nsec })
}

/// fuser takes the nanoseconds of a time before 1970 away from its second, where they count forward; here they are put
/// back.
pub(super) fn moment(time: TimeOrNow) -> Moment {
    match time {
        TimeOrNow::Now => Moment::Now,
        TimeOrNow::SpecificTime(time) => match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => Moment::At(i64::try_from(after.as_secs()).unwrap_or(i64::MAX), after.subsec_nanos()),
            Err(error) => {
                let before = error.duration();
                Moment::At(-i64::try_from(before.as_secs()).unwrap_or(i64::MAX), before.subsec_nanos())
            }
        },
    }
}

/// A device number out of the kernel's 32-bit form (`new_decode_dev`, include/linux/kdev_t.h).
pub(super) fn device(encoded: u32) -> u64 {
    let (major, minor) = ((encoded & 0x000f_ff00) >> 8, (encoded & 0xff) | ((encoded >> 12) & 0x000f_ff00));
    rustix::fs::makedev(major, minor)
}

/// Carries out an ioctl on an open file or directory: its result and what the argument holds then.
pub(super) fn ioctl(
    open: &Opened,
    request: &Request,
    command: u32,
    argument: &[u8],
    out_size: u32,
) -> Result<(i32, Vec<u8>), rustix::io::Errno> {
    let for_root = [FileIoctl::SET_LABEL, FileIoctl::TRIM, FileIoctl::SHUTDOWN];
    if for_root.contains(&FileIoctl(command)) && request.uid() != 0 {
        return Err(rustix::io::Errno::PERM);
    }
    // The kernel's FUSE asks for flags with fewer bytes than the number of the request says.
    let room = usize::try_from((command >> 16) & 0x3fff).unwrap_or(0);
    let out_size = usize::try_from(out_size).unwrap_or(0);
    let mut bytes = argument.to_vec();
    bytes.resize(room.max(out_size).max(argument.len()), 0);
    let result = match open {
        Opened::File { file, .. } => file.ioctl(command, &mut bytes)?,
        Opened::Directory(directory) => directory.ioctl(command, &mut bytes)?,
    };
    bytes.truncate(out_size);
    Ok((result, bytes))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn device_numbers_round_trip() {
        for (major, minor) in [(8, 1), (259, 0x12345), (4095, 0xfffff)] {
            assert_eq!(device(encode(DeviceNumber { major, minor })), rustix::fs::makedev(major, minor));
        }
    }

    #[test]
    fn moment_before_1970_is_the_one_that_the_program_said() {
        // As fuser hands over second -2 and nanosecond 250,000,000.
        let given = SystemTime::UNIX_EPOCH - Duration::new(2, 250_000_000);
        let Moment::At(seconds, nanoseconds) = moment(TimeOrNow::SpecificTime(given)) else {
            panic!("a time")
        };
        assert_eq!((seconds, nanoseconds), (-2, 250_000_000));
    }
}
