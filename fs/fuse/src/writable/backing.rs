//! Files below that the kernel reads and writes without asking us (`FUSE_PASSTHROUGH`, fs/fuse/passthrough.c).
//!
//! All opens of an inode must name the same backing file, and as long as one does, none may do without.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use homifs_session::Backing as Registered;
use rustc_hash::FxBuildHasher;

#[derive(Debug)]
struct Backing {
    registered: Arc<Registered>,
    opens: u32,
}

/// By inode number.
#[derive(Debug, Default)]
pub(super) struct Backings {
    allowed: AtomicBool,
    known: DashMap<u64, Backing, FxBuildHasher>,
}

impl Backings {
    /// Says whether the kernel can do this.
    pub(super) fn allow(&self, allowed: bool) {
        self.allowed.store(allowed, Ordering::Relaxed);
    }

    /// The backing file for one more open of an inode, registered by `register` where there is none; `None` where the kernel
    /// cannot do this. Each that was given is to be [given back](Self::release).
    ///
    /// # Errors
    /// Where the kernel refuses the file.
    pub(super) fn take(
        &self,
        ino: u64,
        register: impl FnOnce() -> io::Result<Registered>,
    ) -> io::Result<Option<Arc<Registered>>> {
        if !self.allowed.load(Ordering::Relaxed) {
            return Ok(None);
        }
        match self.known.entry(ino) {
            Entry::Occupied(mut known) => {
                known.get_mut().opens += 1;
                Ok(Some(Arc::clone(&known.get().registered)))
            }
            Entry::Vacant(vacant) => {
                let registered = Arc::new(register()?);
                vacant.insert(Backing { registered: Arc::clone(&registered), opens: 1 });
                Ok(Some(registered))
            }
        }
    }

    /// Notes that an open is over.
    pub(super) fn release(&self, ino: u64) {
        if let Entry::Occupied(mut known) = self.known.entry(ino) {
            known.get_mut().opens -= 1;
            if known.get().opens == 0 {
                known.remove();
            }
        }
    }
}
