//! The nodes that the kernel's FUSE knows: for each, the handle by which the kernel's driver finds it again.

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use rustc_hash::FxBuildHasher;

use crate::sys::handles::KernelHandle;

#[derive(Debug, Clone, Copy)]
struct Known {
    handle: KernelHandle,
    /// How often the kernel was told of it, less what it has forgotten.
    lookups: u64,
}

/// By inode number.
#[derive(Debug, Default)]
pub(crate) struct Nodes {
    known: DashMap<u64, Known, FxBuildHasher>,
}

impl Nodes {
    /// Notes that the kernel is told of a node. A number that is used again replaces what had it before: the kernel tells
    /// the two apart by the generation, and the old one is not on the volume any more.
    pub(crate) fn told(&self, ino: u64, handle: KernelHandle) {
        let mut known = self.known.entry(ino).or_insert(Known { handle, lookups: 0 });
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

    pub(crate) fn handle(&self, ino: u64) -> Option<KernelHandle> {
        self.known.get(&ino).map(|known| known.handle)
    }
}
