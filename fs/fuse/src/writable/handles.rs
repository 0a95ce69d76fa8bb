//! What programs have open, by the number that the kernel gives back with each request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use dashmap::DashMap;
use homifs_lower::{OpenDirectory, OpenFile};
use rustc_hash::FxBuildHasher;

/// Numbers from here on are ours; those below are of the files in `.homi`.
const FIRST: u64 = 1 << 62;

/// One open.
#[derive(Debug)]
pub(super) enum Held {
    File {
        file: OpenFile,
        /// Reads of it come here and may be served by the engine.
        engine: bool,
        /// Whether the access time was seen to.
        accessed: AtomicBool,
    },
    Directory(OpenDirectory),
}

impl Held {
    pub(super) fn file(&self) -> Option<&OpenFile> {
        match self {
            Self::File { file, .. } => Some(file),
            Self::Directory(_) => None,
        }
    }

    pub(super) fn directory(&self) -> Option<&OpenDirectory> {
        match self {
            Self::Directory(directory) => Some(directory),
            Self::File { .. } => None,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Handles {
    next: AtomicU64,
    open: DashMap<u64, Arc<Held>, FxBuildHasher>,
}

impl Handles {
    pub(super) fn add(&self, held: Held) -> u64 {
        let number = FIRST + self.next.fetch_add(1, Ordering::Relaxed);
        self.open.insert(number, Arc::new(held));
        number
    }

    pub(super) fn get(&self, handle: u64) -> Option<Arc<Held>> {
        self.open.get(&handle).map(|held| Arc::clone(&held))
    }

    pub(super) fn remove(&self, handle: u64) -> Option<Arc<Held>> {
        self.open.remove(&handle).map(|(_, held)| held)
    }
}
