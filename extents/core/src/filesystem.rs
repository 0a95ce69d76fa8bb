//! What a format crate gives: a volume, read by inode number.

use crate::{Extent, ExtentMap, FileType, Ino, Metadata, Overlay, Result, VolumeInfo};

/// Whether a visitor wants more.
pub type Flow = std::ops::ControlFlow<()>;

/// One name in a directory.
#[derive(Debug, Clone, Copy)]
pub struct DirEntry<'a> {
    /// The name: any bytes but `/` and NUL, 1 to 255 of them. Names of encrypted directories come in the
    /// kernel's no-key form.
    pub name: &'a [u8],
    /// The inode it names.
    pub ino: Ino,
    /// The type, where the directory stores it.
    pub file_type: Option<FileType>,
    /// Where to continue to get the names after this one. Above 0, stable while the volume does not change.
    pub next: u64,
}

/// The namespace of an extended attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum XattrNamespace {
    /// `user.`
    User,
    /// `trusted.`
    Trusted,
    /// `security.`
    Security,
    /// `system.` — the rest of the name is kept (`data`, `richacl`).
    System,
    /// `system.posix_acl_access`, no further name.
    AclAccess,
    /// `system.posix_acl_default`, no further name.
    AclDefault,
}

impl XattrNamespace {
    /// The part of the full name that the namespace stands for.
    #[must_use]
    pub fn prefix(self) -> &'static str {
        match self {
            Self::User => "user.",
            Self::Trusted => "trusted.",
            Self::Security => "security.",
            Self::System => "system.",
            Self::AclAccess => "system.posix_acl_access",
            Self::AclDefault => "system.posix_acl_default",
        }
    }

    /// Splits a full attribute name; `None` where no namespace that volumes store begins it.
    #[must_use]
    pub fn split(full: &[u8]) -> Option<(Self, &[u8])> {
        if full == b"system.posix_acl_access" {
            return Some((Self::AclAccess, b""));
        }
        if full == b"system.posix_acl_default" {
            return Some((Self::AclDefault, b""));
        }
        [Self::User, Self::Trusted, Self::Security, Self::System].into_iter().find_map(|space| {
            let rest = full.strip_prefix(space.prefix().as_bytes())?;
            (!rest.is_empty()).then_some((space, rest))
        })
    }
}

/// The name of an extended attribute, as a listing gives it.
#[derive(Debug, Clone, Copy)]
pub struct Xattr<'a> {
    /// Its namespace.
    pub namespace: XattrNamespace,
    /// The name after the namespace's prefix; empty for ACLs.
    pub name: &'a [u8],
}

/// Space on the volume, as `statfs` tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpaceUsage {
    /// Block size in bytes.
    pub block_size: u32,
    /// Blocks of the volume that can hold data (as the kernel's `f_blocks`).
    pub blocks: u64,
    /// Free blocks.
    pub free: u64,
    /// Free blocks that an unprivileged user could take.
    pub available: u64,
    /// Inodes.
    pub files: u64,
    /// Free inodes.
    pub files_free: u64,
    /// Longest name in bytes.
    pub name_max: u32,
}

/// A volume, read by inode number.
///
/// Every call may be made from any thread at any time. Nothing is remembered for a caller; what is kept is a
/// bounded cache of verified metadata blocks.
pub trait FileSystem: Send + Sync {
    /// What the volume says about itself.
    fn info(&self) -> &VolumeInfo;

    /// The inode of the root directory.
    fn root(&self) -> Ino;

    /// What `stat` tells about an inode.
    ///
    /// # Errors
    /// [`Error::NoSuchInode`](crate::Error::NoSuchInode) where the number is out of range or the inode is free.
    fn metadata(&self, ino: Ino) -> Result<Metadata>;

    /// The inode that `name` stands for in directory `dir`. `.` and `..` are answered too.
    fn lookup(&self, dir: Ino, name: &[u8]) -> Result<Option<Ino>>;

    /// Gives the names in `dir`, `.` and `..` among them, from position `from` on (0 is the beginning; else a
    /// [`DirEntry::next`]) until `visit` breaks or none is left.
    fn read_dir(&self, dir: Ino, from: u64, visit: &mut dyn FnMut(DirEntry<'_>) -> Flow) -> Result<()>;

    /// The target of a symbolic link.
    fn read_link(&self, ino: Ino) -> Result<Vec<u8>>;

    /// Where the bytes of a regular file lie. Extents are cut at the block that holds the last byte of the
    /// file; blocks past it appear only where the format keeps preallocated ones, and are not read.
    fn extents(&self, ino: Ino) -> Result<ExtentMap>;

    /// What [`metadata`](Self::metadata) and [`extents`](Self::extents) give, with the inode read once. For
    /// what is not a regular file the map is empty.
    fn inspect(&self, ino: Ino) -> Result<(Metadata, ExtentMap)>;

    /// Reads bytes of an extent that is flagged `INLINE` or `ENCODED`, for which the media's bytes are not the
    /// file's: fills `buf` with what the file holds from byte `offset` of the file on. The range lies within
    /// `extent`.
    fn read_special(&self, ino: Ino, extent: &Extent, offset: u64, buf: &mut [u8]) -> Result<()>;

    /// The value of an extended attribute; `None` where there is none of this name. ACLs come in the form that
    /// `getxattr(2)` uses (`struct posix_acl_xattr_header`, version 2), whatever the volume stores.
    fn xattr(&self, ino: Ino, namespace: XattrNamespace, name: &[u8]) -> Result<Option<Vec<u8>>>;

    /// Gives the names of all extended attributes that `listxattr(2)` as root would show.
    fn xattrs(&self, ino: Ino, visit: &mut dyn FnMut(Xattr<'_>) -> Flow) -> Result<()>;

    /// Free and used space.
    fn usage(&self) -> Result<SpaceUsage>;

    /// Blocks whose true contents are in memory and not on the media, after a recovery in memory.
    fn overlay(&self) -> Option<&Overlay>;

    /// Bytes of memory that the metadata cache holds now, and may hold at most.
    fn cache_usage(&self) -> (u64, u64);
}
