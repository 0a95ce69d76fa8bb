//! Our attributes, as the session carries them.

use extents_core::{DeviceNumber, FileType, Timestamp};
use homifs_core::{FsError, Homifs, NodeAttributes};
use homifs_session::{Attributes, Time};
use rustix::io::Errno;

/// What a program gets for an error.
pub(crate) fn errno(error: &FsError) -> Errno {
    Errno::from_raw_os_error(error.errno())
}

/// Attributes under the number `number`: in replies that create a node it is the node's number, elsewhere the inode
/// number that programs see. The two differ only for the root.
pub(crate) fn attributes(homifs: &Homifs, number: u64, found: &NodeAttributes) -> Attributes {
    let metadata = &found.metadata;
    Attributes {
        ino: number,
        size: metadata.size,
        blocks: metadata.sectors,
        accessed: time(metadata.accessed),
        modified: time(metadata.modified),
        changed: time(metadata.changed),
        born: metadata.born.map(time),
        mode: mode_of(metadata.file_type) | u32::from(metadata.mode & 0o7777),
        links: metadata.links,
        uid: metadata.uid,
        gid: metadata.gid,
        device: device(metadata.device),
        block_size: preferred_io(homifs),
    }
}

/// `st_blksize` as the kernel's own drivers give it: XFS never less than a page, ext4 its block size.
fn preferred_io(homifs: &Homifs) -> u32 {
    let info = homifs.volume().info();
    if info.format == "xfs" { info.block_size.max(4096) } else { info.block_size }
}

/// The type bits of a mode.
pub(crate) fn mode_of(file_type: FileType) -> u32 {
    match file_type {
        FileType::Regular => libc::S_IFREG,
        FileType::Directory => libc::S_IFDIR,
        FileType::Symlink => libc::S_IFLNK,
        FileType::CharDevice => libc::S_IFCHR,
        FileType::BlockDevice => libc::S_IFBLK,
        FileType::Fifo => libc::S_IFIFO,
        FileType::Socket => libc::S_IFSOCK,
    }
}

fn time(time: Timestamp) -> Time {
    Time { seconds: time.seconds, nanoseconds: time.nanoseconds }
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
    fn device_large_minor_is_encoded_as_the_kernel_does() {
        assert_eq!(device(DeviceNumber { major: 8, minor: 1 }), 0x801);
        assert_eq!(device(DeviceNumber { major: 259, minor: 0x12345 }), 0x1231_0345);
    }
}
