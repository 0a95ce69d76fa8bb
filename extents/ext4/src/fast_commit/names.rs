//! Names that fast commits brought to a directory, or took from it.

use extents_core::{FileType, Ino};
use rustc_hash::FxHashSet;

/// A name that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Added {
    pub(crate) name: Vec<u8>,
    pub(crate) ino: Ino,
    pub(crate) file_type: Option<FileType>,
}

/// What is different in a directory from what its blocks say.
#[derive(Debug, Default)]
pub(crate) struct NameChanges {
    /// The directory is new, has no blocks yet, and this is its parent.
    parent: Option<Ino>,
    removed: FxHashSet<Vec<u8>>,
    /// In the order in which they came.
    added: Vec<Added>,
}

impl NameChanges {
    /// A directory that was made by fast commits.
    pub(super) fn fresh(parent: Ino) -> Self {
        Self { parent: Some(parent), ..Self::default() }
    }

    /// The parent of a directory that is new and has no blocks; `None` for one that was there before.
    pub(crate) fn fresh_parent(&self) -> Option<Ino> {
        self.parent
    }

    /// Whether a name in the directory's blocks is there no longer.
    pub(crate) fn hides(&self, name: &[u8]) -> bool {
        self.removed.contains(name)
    }

    /// The names that came.
    pub(crate) fn added(&self) -> &[Added] {
        &self.added
    }

    pub(super) fn find(&self, name: &[u8]) -> Option<Ino> {
        self.added.iter().find(|added| added.name == name).map(|added| added.ino)
    }

    pub(super) fn add(&mut self, added: Added) {
        self.added.push(added);
    }

    /// Takes a name away, be it one that came or one of the directory's blocks.
    pub(super) fn remove(&mut self, name: &[u8]) {
        match self.added.iter().position(|added| added.name == name) {
            Some(place) => {
                self.added.remove(place);
            }
            None => {
                self.removed.insert(name.to_vec());
            }
        }
    }
}
