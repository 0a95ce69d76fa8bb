//! Everything that can be seen below a directory.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use crate::fiemap::Piece;

/// A path below the root, without a leading slash; bytes, since volumes know no encoding.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Name(pub Vec<u8>);

impl Name {
    /// The path of `name` in this directory.
    #[must_use]
    pub fn join(&self, name: &[u8]) -> Self {
        let slash: &[u8] = if self.0.is_empty() { b"" } else { b"/" };
        Self([&self.0, slash, name].concat())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

/// All paths and what is to be seen there.
#[derive(Debug, Default)]
pub struct Tree {
    /// By path; the root is the empty one.
    pub entries: BTreeMap<Name, Entry>,
    /// What belongs to each inode, looked at once however many names it has.
    pub inodes: HashMap<u64, Kept>,
    /// What a correct file system never shows: a name listed twice, a listing and a lookup that disagree.
    pub oddities: Vec<(Name, String)>,
}

/// What one path shows.
#[derive(Debug, Clone, Default)]
pub struct Entry {
    /// What `stat` tells.
    pub stat: Stat,
    /// The type that the listing of the directory gave, as the upper bits of a mode.
    pub listed_type: Option<u32>,
}

/// What belongs to an inode beyond its `stat`.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Where a symbolic link leads.
    pub link: Option<Result<Vec<u8>, String>>,
    /// Extended attributes with their values.
    pub xattrs: Result<BTreeMap<Vec<u8>, Vec<u8>>, String>,
    /// For regular files.
    pub contents: Option<Contents>,
    /// Birth time, in nanoseconds since 1970.
    pub born: Option<i128>,
    /// `STATX_ATTR_*`, those that both sides know.
    pub attributes: u64,
    /// The project id, where it can be asked for.
    pub project: Option<u32>,
    /// The inode's generation, where it can be asked for.
    pub generation: Option<u32>,
}

/// What `stat` tells. Times are nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the fields are those of stat(2)")]
pub struct Stat {
    pub ino: u64,
    pub mode: u32,
    pub nlink: u64,
    pub uid: u32,
    pub gid: u32,
    pub rdev: (u32, u32),
    pub size: u64,
    pub blocks: u64,
    pub atime: i128,
    pub mtime: i128,
    pub ctime: i128,
}

/// The bytes of a file and where they lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// Checksums of the pieces that hold anything but zeros, by their place; or why reading failed.
    pub digests: Result<BTreeMap<u64, u32>, String>,
    /// What `SEEK_DATA` and `SEEK_HOLE` find: first byte and end of each piece of data.
    pub data: Result<Vec<(u64, u64)>, String>,
    /// The extent map; `None` where this way of looking gives none.
    pub map: Option<Result<Vec<Piece>, String>>,
}
