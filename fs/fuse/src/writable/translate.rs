//! Between the session's words and those of the lower mount.

use extents_core::DeviceNumber;
use homifs_lower::{Change, FileIoctl, Identity, Moment};
use homifs_session::{Answer, Asker, Attributes, Ioctl, SetAttributes, Time, TimeOrNow, Usage};
use rustix::fs::{FileType, StatVfs, Statx, StatxFlags, StatxTimestamp};
use rustix::io::Errno;

use super::handles::Held;
use crate::attributes::device as encode;

pub(super) fn identity(asker: &Asker) -> Identity {
    Identity { uid: asker.uid, gid: asker.gid, pid: asker.pid }
}

/// The type bits of a mode; none where the volume does not keep types beside names.
pub(super) fn mode_of(kind: FileType) -> u32 {
    if kind == FileType::Unknown { 0 } else { kind.as_raw_mode() }
}

/// `ENOSYS` for one attribute would turn attributes off for the whole mount.
pub(super) fn not_nosys(error: Errno) -> Errno {
    if error == Errno::NOSYS { Errno::OPNOTSUPP } else { error }
}

pub(super) fn attributes(number: u64, stat: &Statx) -> Attributes {
    let born = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
    Attributes {
        ino: number,
        size: stat.stx_size,
        blocks: stat.stx_blocks,
        accessed: time(&stat.stx_atime),
        modified: time(&stat.stx_mtime),
        changed: time(&stat.stx_ctime),
        born: born.then(|| time(&stat.stx_btime)),
        mode: stat.stx_mode.into(),
        links: stat.stx_nlink,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        device: encode(DeviceNumber { major: stat.stx_rdev_major, minor: stat.stx_rdev_minor }),
        block_size: stat.stx_blksize,
    }
}

fn time(time: &StatxTimestamp) -> Time {
    Time { seconds: time.tv_sec, nanoseconds: time.tv_nsec }
}

fn moment(time: TimeOrNow) -> Moment {
    match time {
        TimeOrNow::Now => Moment::Now,
        TimeOrNow::At(Time { seconds, nanoseconds }) => Moment::At(seconds, nanoseconds),
    }
}

pub(super) fn change(asked: &SetAttributes) -> Change {
    Change {
        mode: asked.mode,
        uid: asked.uid,
        gid: asked.gid,
        size: asked.size,
        accessed: asked.accessed.map(moment),
        modified: asked.modified.map(moment),
    }
}

pub(super) fn usage(usage: &StatVfs) -> Usage {
    let size = |size: u64| u32::try_from(size).unwrap_or(u32::MAX);
    Usage {
        blocks: usage.f_blocks,
        free: usage.f_bfree,
        available: usage.f_bavail,
        files: usage.f_files,
        files_free: usage.f_ffree,
        block_size: size(usage.f_bsize),
        name_length: size(usage.f_namemax),
        fragment_size: size(usage.f_frsize),
    }
}

/// A device number out of the kernel's 32-bit form (`new_decode_dev`, include/linux/kdev_t.h).
pub(super) fn device(encoded: u32) -> u64 {
    let (major, minor) = ((encoded & 0x000f_ff00) >> 8, (encoded & 0xff) | ((encoded >> 12) & 0x000f_ff00));
    rustix::fs::makedev(major, minor)
}

/// Carries out an ioctl on an open file or directory: its result and what the argument holds then.
pub(super) fn ioctl(open: &Held, asker: &Asker, asked: &Ioctl<'_>) -> Answer<(i32, Vec<u8>)> {
    let for_root = [FileIoctl::SET_LABEL, FileIoctl::TRIM, FileIoctl::SHUTDOWN];
    if for_root.contains(&FileIoctl(asked.command)) && asker.uid != 0 {
        return Err(Errno::PERM);
    }
    // The kernel's FUSE asks for flags with fewer bytes than the number of the request says.
    let room = usize::try_from((asked.command >> 16) & 0x3fff).unwrap_or(0);
    let out_size = usize::try_from(asked.out_size).unwrap_or(0);
    let mut bytes = asked.argument.to_vec();
    bytes.resize(room.max(out_size).max(asked.argument.len()), 0);
    let result = match open {
        Held::File { file, .. } => file.ioctl(asked.command, &mut bytes)?,
        Held::Directory(directory) => directory.ioctl(asked.command, &mut bytes)?,
    };
    bytes.truncate(out_size);
    Ok((result, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_round_trip() {
        for (major, minor) in [(8, 1), (259, 0x12345), (4095, 0xfffff)] {
            assert_eq!(device(encode(DeviceNumber { major, minor })), rustix::fs::makedev(major, minor));
        }
    }
}
