//! What programs have open.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use extents_core::{ExtentMap, Ino};
use parking_lot::Mutex;

use crate::control::Conversation;
use crate::error::{FsError, Result};

/// One open file.
#[derive(Debug)]
pub(crate) enum Handle {
    /// A file of the volume, with its map, which stays as it is while the file is open.
    File { ino: Ino, map: Arc<ExtentMap> },
    /// One of our own files whose text was made when it was opened, so that a reader in several steps sees one
    /// state.
    Text(String),
    /// The control file: requests and answers of this open only.
    Control(Mutex<Conversation>),
}

/// All open files, by the number that the kernel gives back with each request.
#[derive(Debug, Default)]
pub(crate) struct Handles {
    next: AtomicU64,
    open: DashMap<u64, Arc<Handle>, rustc_hash::FxBuildHasher>,
}

impl Handles {
    pub(crate) fn add(&self, handle: Handle) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.open.insert(number, Arc::new(handle));
        number
    }

    pub(crate) fn get(&self, number: u64) -> Result<Arc<Handle>> {
        self.open.get(&number).map(|handle| Arc::clone(&handle)).ok_or(FsError::BadHandle)
    }

    pub(crate) fn remove(&self, number: u64) {
        self.open.remove(&number);
    }

    pub(crate) fn count(&self) -> usize {
        self.open.len()
    }
}

/// How the kernel is to treat an open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caching {
    /// Contents cannot change under the mount: keep what is cached from earlier opens.
    Keep,
    /// Every read is a request: for text whose size is only known once it was made.
    Uncached,
    /// Every read is a request and offsets mean nothing: for conversations.
    Stream,
}

/// An open that succeeded.
#[derive(Debug, Clone, Copy)]
pub struct Opened {
    /// The number of the handle.
    pub handle: u64,
    /// How to cache it.
    pub caching: Caching,
}
