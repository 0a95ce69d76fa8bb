//! The nodes that the kernel's FUSE knows: for each, the handle by which the kernel's driver finds it again.

use std::os::fd::OwnedFd;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use rustc_hash::FxBuildHasher;

use crate::sys::handles::KernelHandle;

#[derive(Debug)]
struct Known {
    handle: KernelHandle,
    /// How often the kernel was told of it, less what it has forgotten.
    lookups: u64,
    /// Present when the last name is gone: as long as the kernel asks by this number, no other file may get it.
    pin: Option<OwnedFd>,
}

/// By inode number.
#[derive(Debug, Default)]
pub(crate) struct Nodes {
    known: DashMap<u64, Known, FxBuildHasher>,
}

impl Nodes {
    /// Notes that the kernel is told of a node.
    pub(crate) fn told(&self, ino: u64, handle: KernelHandle) {
        let mut known = self.known.entry(ino).or_insert(Known { handle, lookups: 0, pin: None });
        known.handle = handle;
        known.lookups += 1;
    }

    /// Notes that the kernel has forgotten a node `times` times.
    pub(crate) fn forgotten(&self, ino: u64, times: u64) {
        if let Entry::Occupied(mut known) = self.known.entry(ino) {
            let left = known.get().lookups.saturating_sub(times);
            if left == 0 {
                known.remove();
            } else {
                known.get_mut().lookups = left;
            }
        }
    }

    /// Keeps a node that has lost its last name until the kernel has forgotten it: an open that is on its way would else find
    /// whatever file gets its number next.
    pub(crate) fn keep(&self, ino: u64, node: OwnedFd) {
        if let Some(mut known) = self.known.get_mut(&ino) {
            known.pin = Some(node);
        }
    }

    pub(crate) fn handle(&self, ino: u64) -> Option<KernelHandle> {
        self.known.get(&ino).map(|known| known.handle)
    }
}
