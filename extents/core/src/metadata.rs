//! What `stat` tells about a file.

use bitflags::bitflags;

use crate::Ino;

/// The kind of a file, as directory entries and modes name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileType {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A FIFO.
    Fifo,
    /// A UNIX socket.
    Socket,
}

impl FileType {
    /// The type in the upper bits of a mode; `None` where they name none.
    #[must_use]
    pub fn from_mode(mode: u16) -> Option<Self> {
        Some(match mode & 0o170_000 {
            0o100_000 => Self::Regular,
            0o040_000 => Self::Directory,
            0o120_000 => Self::Symlink,
            0o020_000 => Self::CharDevice,
            0o060_000 => Self::BlockDevice,
            0o010_000 => Self::Fifo,
            0o140_000 => Self::Socket,
            _ => return None,
        })
    }
}

/// A point in time; `seconds` may lie before 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Timestamp {
    /// Seconds since 1970-01-01 00:00 UTC.
    pub seconds: i64,
    /// Nanoseconds after that second, below 1,000,000,000.
    pub nanoseconds: u32,
}

/// The device that a special file stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeviceNumber {
    /// Driver.
    pub major: u32,
    /// Unit of the driver.
    pub minor: u32,
}

bitflags! {
    /// What a file's own flags say, where a reader cares. Both formats' flags are mapped to these.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct InodeFlags: u16 {
        /// May not be changed.
        const IMMUTABLE = 1 << 0;
        /// May only grow.
        const APPEND = 1 << 1;
        /// Left out by dump(8).
        const NO_DUMP = 1 << 2;
        /// Access times are not kept.
        const NO_ATIME = 1 << 3;
        /// Contents and names are encrypted.
        const ENCRYPTED = 1 << 4;
        /// Protected by fs-verity.
        const VERITY = 1 << 5;
        /// Names are looked up without regard to case.
        const CASEFOLD = 1 << 6;
        /// Lies on XFS's realtime device.
        const REALTIME = 1 << 7;
        /// Writes are synchronous.
        const SYNC = 1 << 8;
        /// The directory is indexed by hash (ext4).
        const INDEXED = 1 << 9;
        /// Contents are stored within the inode.
        const INLINE = 1 << 10;
        /// New files inherit the project id.
        const PROJECT_INHERIT = 1 << 11;
    }
}

/// Everything `stat` and `statx` tell about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// The inode number.
    pub ino: Ino,
    /// The inode's generation: differs when the number is used again.
    pub generation: u32,
    /// Type and permission bits.
    pub mode: u16,
    /// The type, already taken from the mode and known to be valid.
    pub file_type: FileType,
    /// Number of names.
    pub links: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes, as `stat` gives it.
    pub size: u64,
    /// Allocated space in units of 512 bytes, as `stat` gives it (`st_blocks`).
    pub sectors: u64,
    /// Last access.
    pub accessed: Timestamp,
    /// Last change of contents.
    pub modified: Timestamp,
    /// Last change of contents or inode.
    pub changed: Timestamp,
    /// Birth, where the format keeps it.
    pub born: Option<Timestamp>,
    /// For block and character devices.
    pub device: DeviceNumber,
    /// Flags of the file.
    pub flags: InodeFlags,
    /// The project id; 0 where the volume keeps none.
    pub project: u32,
}

impl Metadata {
    /// Whether this is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.file_type == FileType::Directory
    }

    /// Whether this is a regular file.
    #[must_use]
    pub fn is_regular(&self) -> bool {
        self.file_type == FileType::Regular
    }
}
