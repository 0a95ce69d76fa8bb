//! Our attributes, as FUSE carries them.

use std::time::{Duration, SystemTime};

use extents_core::{DeviceNumber, FileType, Timestamp};
use fuser::{FileAttr, INodeNo};
use homifs_core::{Homifs, NodeAttributes};

/// Attributes under the number `number`: in replies that create a node it is the node's number, elsewhere the inode
/// number that programs see. The two differ only for the root.
pub(crate) fn file_attr(homifs: &Homifs, number: u64, attributes: &NodeAttributes) -> FileAttr {
    let metadata = &attributes.metadata;
    FileAttr {
        ino: INodeNo(number),
        size: metadata.size,
        blocks: metadata.sectors,
        atime: system_time(metadata.accessed),
        mtime: system_time(metadata.modified),
        ctime: system_time(metadata.changed),
        crtime: metadata.born.map_or(SystemTime::UNIX_EPOCH, system_time),
        kind: kind(metadata.file_type),
        perm: metadata.mode & 0o7777,
        nlink: metadata.links,
        uid: metadata.uid,
        gid: metadata.gid,
        rdev: device(metadata.device),
        blksize: preferred_io(homifs),
        flags: 0,
    }
}

/// `st_blksize` as the kernel's own drivers give it: XFS never less than a page, ext4 its block size.
fn preferred_io(homifs: &Homifs) -> u32 {
    let info = homifs.volume().info();
    if info.format == "xfs" { info.block_size.max(4096) } else { info.block_size }
}

pub(crate) fn kind(file_type: FileType) -> fuser::FileType {
    match file_type {
        FileType::Regular => fuser::FileType::RegularFile,
        FileType::Directory => fuser::FileType::Directory,
        FileType::Symlink => fuser::FileType::Symlink,
        FileType::CharDevice => fuser::FileType::CharDevice,
        FileType::BlockDevice => fuser::FileType::BlockDevice,
        FileType::Fifo => fuser::FileType::NamedPipe,
        FileType::Socket => fuser::FileType::Socket,
    }
}

/// A time before 1970 counts nanoseconds forward from its second, as all times do.
pub(crate) fn system_time(time: Timestamp) -> SystemTime {
    let second = if time.seconds >= 0 {
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(time.seconds.unsigned_abs()))
    } else {
        SystemTime::UNIX_EPOCH.checked_sub(Duration::from_secs(time.seconds.unsigned_abs()))
    };
    second
        .and_then(|second| second.checked_add(Duration::from_nanos(time.nanoseconds.into())))
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

/// The kernel's 32-bit form of a device number (`new_encode_dev`, include/linux/kdev_t.h).
pub(crate) fn device(number: DeviceNumber) -> u32 {
    let DeviceNumber { major, minor } = number;
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_time_before_1970_keeps_its_nanoseconds() {
        let time = system_time(Timestamp { seconds: -2, nanoseconds: 250_000_000 });
        assert_eq!(SystemTime::UNIX_EPOCH.duration_since(time).unwrap(), Duration::from_millis(1750));
    }

    #[test]
    fn device_large_minor_is_encoded_as_the_kernel_does() {
        assert_eq!(device(DeviceNumber { major: 8, minor: 1 }), 0x801);
        assert_eq!(device(DeviceNumber { major: 259, minor: 0x12345 }), 0x1231_0345);
    }
}
