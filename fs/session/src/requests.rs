//! What requests ask, in words of our own.

use std::ffi::OsStr;
use std::sync::Arc;

use bitflags::bitflags;

use crate::attributes::Time;
use crate::connection::Backing;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asker {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Thread; 0 where it is in a process namespace that the daemon's does not hold.
    pub pid: u32,
}

/// A new file of any type.
#[derive(Debug, Clone, Copy)]
pub struct MakeFile<'a> {
    /// The directory.
    pub parent: u64,
    /// Its name there; empty for a file that is to have none.
    pub name: &'a OsStr,
    /// Type and permission bits.
    pub mode: u32,
    /// The caller's umask, which `mode` has not been through where that was [agreed](crate::Capabilities::DONT_MASK).
    pub umask: u32,
}

/// A time to be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeOrNow {
    /// The moment at which it is set.
    Now,
    /// This one.
    At(Time),
}

/// Attributes to be set, each where there is one.
#[derive(Debug, Clone, Copy, Default)]
pub struct SetAttributes {
    /// Through this open file.
    pub handle: Option<u64>,
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Length in bytes.
    pub size: Option<u64>,
    /// Time of the last access.
    pub accessed: Option<TimeOrNow>,
    /// Time of the last change.
    pub modified: Option<TimeOrNow>,
}

bitflags! {
    /// How the kernel shall treat an open file (`FOPEN_*`).
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
    pub struct OpenAnswer: u32 {
        /// Reads and writes come to the file system, past the page cache.
        const DIRECT_IO = 1 << 0;
        /// What is cached of it stays.
        const KEEP_CACHE = 1 << 1;
        /// What is listed of it may be cached.
        const CACHE_DIRECTORY = 1 << 3;
        /// It has no position.
        const STREAM = 1 << 4;
        /// Its closes are not told one by one.
        const NO_FLUSH = 1 << 5;
    }
}

/// An open file.
#[derive(Debug, Clone, Default)]
pub struct Opened {
    /// The file system's own number for it.
    pub handle: u64,
    /// How the kernel shall treat it.
    pub answer: OpenAnswer,
    /// The file below that the kernel reads and writes by itself.
    pub backing: Option<Arc<Backing>>,
}

/// A read.
#[derive(Debug, Clone, Copy)]
pub struct Read {
    /// Which file.
    pub node: u64,
    /// Which open of it.
    pub handle: u64,
    /// First byte.
    pub offset: u64,
    /// As many bytes at most.
    pub size: u32,
}

/// A write.
#[derive(Debug, Clone, Copy)]
pub struct Write<'a> {
    /// Which file.
    pub node: u64,
    /// Which open of it.
    pub handle: u64,
    /// First byte.
    pub offset: u64,
    /// What is written.
    pub data: &'a [u8],
    /// The open file's flags (`O_APPEND`) at the moment.
    pub flags: i32,
}

/// An extended attribute to be set.
#[derive(Debug, Clone, Copy)]
pub struct SetAttribute<'a> {
    /// Its name, with its namespace.
    pub name: &'a OsStr,
    /// Its value.
    pub value: &'a [u8],
    /// Those of setxattr(2).
    pub flags: u32,
    /// For an ACL: whether whoever sets it is to lose the file's set-group-ID bit with it, which is for those who are not in
    /// the file's group. `None` where the kernel does not say.
    pub clears_sgid: Option<bool>,
}

/// An ioctl.
#[derive(Debug, Clone, Copy)]
pub struct Ioctl<'a> {
    /// Which file.
    pub node: u64,
    /// Which open of it.
    pub handle: u64,
    /// Which ioctl.
    pub command: u32,
    /// What it is given.
    pub argument: &'a [u8],
    /// As many bytes go back.
    pub out_size: u32,
}

/// A copy within the volume.
#[derive(Debug, Clone, Copy)]
pub struct Copy {
    /// The open file to copy from.
    pub from: u64,
    /// Its first byte.
    pub from_offset: u64,
    /// The open file to copy to.
    pub to: u64,
    /// Its first byte.
    pub to_offset: u64,
    /// As many bytes at most.
    pub length: u64,
}

/// What statfs(2) tells.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// Blocks, in `fragment_size`.
    pub blocks: u64,
    /// Of these free.
    pub free: u64,
    /// Of these for everybody.
    pub available: u64,
    /// Inodes.
    pub files: u64,
    /// Of these free.
    pub files_free: u64,
    /// What reads and writes are best long.
    pub block_size: u32,
    /// How long names may be.
    pub name_length: u32,
    /// The unit of the blocks.
    pub fragment_size: u32,
}
