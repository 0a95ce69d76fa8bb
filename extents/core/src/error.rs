//! One error type for everything a volume can do to its reader.

use std::borrow::Cow;

use crate::{Ino, ReadError};

/// The result of reading a volume.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something could not be read from a volume.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The device below did not deliver.
    #[error("the device could not be read")]
    Read(#[from] ReadError),
    /// A structure on the volume contradicts itself or its checksum.
    #[error(transparent)]
    Corrupt(Box<Corruption>),
    /// The device holds no volume of this format.
    #[error("no {0} volume found")]
    NotThisFormat(&'static str),
    /// The volume or file uses something that this reader does not know.
    #[error("{0}")]
    Unsupported(Cow<'static, str>),
    /// The volume's journal or log needs a recovery that cannot be done in memory.
    #[error("{0}")]
    NeedsRecovery(Cow<'static, str>),
    /// No such inode: out of range, free or never initialised.
    #[error("inode {0} is not in use")]
    NoSuchInode(Ino),
    /// A directory was needed.
    #[error("inode {0} is not a directory")]
    NotADirectory(Ino),
    /// A symbolic link was needed.
    #[error("inode {0} is not a symbolic link")]
    NotASymlink(Ino),
    /// The contents are encrypted and no key is at hand.
    #[error("inode {0} is encrypted")]
    Encrypted(Ino),
    /// A file grew past what its type can have.
    #[error("inode {0}: the value is larger than {1} bytes")]
    TooLarge(Ino, u64),
}

/// A structure that contradicts itself, and where it lies.
#[derive(Debug, Clone, thiserror::Error)]
#[error("corrupt {structure}{}: {problem}", place(.inode, .at))]
pub struct Corruption {
    /// What is damaged, in the format's own words ("extent node", "directory block").
    pub structure: &'static str,
    /// The inode it belongs to, where known.
    pub inode: Option<Ino>,
    /// The byte offset on the volume, where known.
    pub at: Option<u64>,
    /// What is wrong with it.
    pub problem: Cow<'static, str>,
}

fn place(inode: &Option<Ino>, at: &Option<u64>) -> String {
    let mut text = String::new();
    if let Some(inode) = inode {
        text.push_str(&format!(" of inode {inode}"));
    }
    if let Some(at) = at {
        text.push_str(&format!(" at byte {at}"));
    }
    text
}

impl Error {
    /// A damaged structure.
    #[must_use]
    #[cold]
    pub fn corrupt(structure: &'static str, problem: impl Into<Cow<'static, str>>) -> Self {
        Self::Corrupt(Box::new(Corruption { structure, inode: None, at: None, problem: problem.into() }))
    }

    /// Adds the inode to a corruption that does not name one yet.
    #[must_use]
    pub fn in_inode(mut self, ino: Ino) -> Self {
        if let Self::Corrupt(corruption) = &mut self {
            corruption.inode.get_or_insert(ino);
        }
        self
    }

    /// Adds the byte offset on the volume to a corruption that does not name one yet.
    #[must_use]
    pub fn at(mut self, byte: u64) -> Self {
        if let Self::Corrupt(corruption) = &mut self {
            corruption.at.get_or_insert(byte);
        }
        self
    }

    /// A feature that this reader does not know.
    #[must_use]
    #[cold]
    pub fn unsupported(what: impl Into<Cow<'static, str>>) -> Self {
        Self::Unsupported(what.into())
    }
}
