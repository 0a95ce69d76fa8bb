//! A name that is looked for, and what it takes for an entry to be it.

use crate::dirhash::{DirHash, HashVersion, casefold, hash};
use crate::geometry::Geometry;
use crate::inode::{Flags, Inode};
use crate::nokey::NoKeyName;

/// A name in the form in which its directory's entries are compared with it.
#[derive(Debug)]
pub(crate) enum Sought<'a> {
    /// Bytes must be equal.
    Exact(&'a [u8]),
    /// What is left of the names when case is taken from them must be equal.
    Folded { name: &'a [u8], folded: Vec<u8> },
    /// The name stands for a ciphertext.
    NoKey {
        name: NoKeyName,
        /// The hash of an entry is stored with it, since it cannot be computed without the key.
        keyed_hash: bool,
    },
}

impl<'a> Sought<'a> {
    /// The name as it must be looked for in `dir`; `None` where it cannot stand in there.
    pub(crate) fn new(dir: &Inode, name: &'a [u8], geometry: &Geometry) -> Option<Self> {
        let folds = dir.has(Flags::CASEFOLD);
        if dir.has(Flags::ENCRYPT) {
            return NoKeyName::decode(name).map(|name| Self::NoKey { name, keyed_hash: folds });
        }
        if !folds {
            return Some(Self::Exact(name));
        }
        match casefold(name) {
            Some(folded) => Some(Self::Folded { name, folded }),
            // Strict volumes refuse such names, so none of their directories can hold it.
            None => (!geometry.strict_encoding).then_some(Self::Exact(name)),
        }
    }

    /// Whether an entry of this name is the one.
    pub(crate) fn matches(&self, entry: &[u8]) -> bool {
        match self {
            Self::Exact(name) => entry == *name,
            Self::Folded { name, folded } => {
                entry == *name || casefold(entry).is_some_and(|entry| entry == *folded)
            }
            Self::NoKey { name, .. } => name.matches(entry),
        }
    }

    /// The hash by which an index leads to it; `None` where it cannot be had.
    pub(crate) fn hash(&self, version: HashVersion, seed: &[u32; 4]) -> Option<DirHash> {
        match self {
            Self::NoKey { name, keyed_hash: true } => Some(name.hash()),
            _ if version == HashVersion::SipHash => None,
            Self::Exact(name) => Some(hash(name, version, seed)),
            Self::Folded { folded, .. } => Some(hash(folded, version, seed)),
            Self::NoKey { name, .. } => {
                Some(name.ciphertext().map_or_else(|| name.hash(), |bytes| hash(bytes, version, seed)))
            }
        }
    }

    /// Whether the kernel looks at every entry when the index does not lead to the name: names may have been
    /// hashed by another version of the folding tables (`ext4_lookup`'s fallback for casefolded directories).
    pub(crate) fn may_be_misplaced(&self, geometry: &Geometry) -> bool {
        matches!(self, Self::Folded { .. }) && !geometry.no_casefold_fallback
    }
}
