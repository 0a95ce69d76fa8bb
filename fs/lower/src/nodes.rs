//! The nodes that the kernel's FUSE knows: for each, the handle by which the kernel's driver finds it again.
//!
//! A node that has lost its last name keeps its inode until FUSE has forgotten it: FUSE goes on asking by the number, and an
//! open that is on its way would else find whatever file gets that number next. Whoever has the node open keeps it by that;
//! while nobody has, a descriptor here does. Both are decided under the lock of the node's entry, since names go, files are
//! opened and files are closed at the same time. What is kept then need be no more than the number: a large file that nobody
//! has open gives its space back at once, and is nobody's from then on.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use rustc_hash::FxBuildHasher;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use crate::proc_path;
use crate::sys::handles::KernelHandle;

#[derive(Debug)]
struct Known {
    handle: KernelHandle,
    /// How often the kernel was told of it, less what it has forgotten.
    lookups: u64,
    /// [`OpenNode`]s of it.
    opens: u32,
    /// Whether its last name is gone.
    nameless: bool,
    /// Present when it has neither a name nor an [`OpenNode`].
    pin: Option<OwnedFd>,
    /// Whether only its number is kept.
    emptied: bool,
}

impl Known {
    fn new(handle: KernelHandle) -> Self {
        Self { handle, lookups: 0, opens: 0, nameless: false, pin: None, emptied: false }
    }
}

/// By inode number.
#[derive(Debug, Default)]
pub(crate) struct Nodes {
    known: DashMap<u64, Known, FxBuildHasher>,
}

impl Nodes {
    /// Notes that the kernel is told of a node. Who does so looks afterwards whether the node has [no name](Self::keep) any
    /// more: whoever took the last one found nothing here to keep it by.
    pub(crate) fn told(&self, handle: KernelHandle) {
        let mut known = self.known.entry(handle.ino()).or_insert_with(|| Known::new(handle));
        if known.handle != handle {
            // Another file by now; what was known of the one before says nothing.
            let lookups = known.lookups;
            *known = Known { lookups, ..Known::new(handle) };
        }
        known.lookups += 1;
    }

    /// Notes that the kernel has forgotten a node `times` times.
    pub(crate) fn forgotten(&self, ino: u64, times: u64) {
        if let Entry::Occupied(mut known) = self.known.entry(ino) {
            let left = known.get().lookups.saturating_sub(times);
            if left == 0 {
                // Its descriptor is closed after the lock is let go: that may free a large file.
                known.remove();
            } else {
                known.get_mut().lookups = left;
            }
        }
    }

    /// Notes that a node, for which `node` stands, has lost its last name.
    pub(crate) fn keep(&self, handle: &KernelHandle, node: OwnedFd) {
        if let Some(mut known) = self.known.get_mut(&handle.ino())
            && known.handle == *handle
        {
            known.nameless = true;
            if known.opens == 0 {
                known.pin = Some(node);
            }
        }
    }

    /// Whether nobody has a node open that has lost its last name, and nobody gets it from now on, so that its contents may go.
    pub(crate) fn gives_up(&self, handle: &KernelHandle) -> bool {
        self.known.get_mut(&handle.ino()).filter(|known| known.handle == *handle).is_some_and(|mut known| {
            known.emptied = known.nameless && known.opens == 0;
            known.emptied
        })
    }

    /// Notes that its contents stay after all.
    pub(crate) fn retains(&self, handle: &KernelHandle) {
        if let Some(mut known) = self.known.get_mut(&handle.ino()).filter(|known| known.handle == *handle) {
            known.emptied = false;
        }
    }

    /// Notes that a node is open, by `file`, as long as the result lives.
    ///
    /// # Errors
    /// `ESTALE` where it was [given up](Self::gives_up).
    pub(crate) fn opened(self: &Arc<Self>, file: OwnedFd) -> crate::Result<OpenNode> {
        let handle = KernelHandle::of(&file)?;
        let mut pin = None;
        if let Some(mut known) = self.known.get_mut(&handle.ino()).filter(|known| known.handle == handle) {
            if known.emptied {
                return Err(Errno::STALE);
            }
            known.opens += 1;
            // One descriptor is enough.
            pin = known.pin.take();
        }
        drop(pin);
        Ok(OpenNode { file, handle, nodes: Arc::clone(self) })
    }

    fn closing(&self, handle: &KernelHandle, file: &OwnedFd) {
        let Some(mut known) = self.known.get_mut(&handle.ino()).filter(|known| known.handle == *handle)
        else {
            return;
        };
        known.opens = known.opens.saturating_sub(1);
        if known.opens == 0 && known.nameless {
            // Not the file itself, which may be open for writing.
            match openat(CWD, proc_path(file), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
                Ok(node) => known.pin = Some(node),
                Err(error) => {
                    tracing::warn!(ino = handle.ino(), %error, "a removed file cannot be kept until FUSE has forgotten it");
                }
            }
        }
    }

    /// The handle of a node that FUSE knows; `ESTALE` where it was [given up](Self::gives_up).
    pub(crate) fn handle(&self, ino: u64) -> Option<crate::Result<KernelHandle>> {
        let known = self.known.get(&ino)?;
        Some(if known.emptied { Err(Errno::STALE) } else { Ok(known.handle) })
    }
}

/// A descriptor of a node, which [keeps](Nodes) the node when it is closed.
#[derive(Debug)]
pub(crate) struct OpenNode {
    file: OwnedFd,
    handle: KernelHandle,
    nodes: Arc<Nodes>,
}

impl OpenNode {
    pub(crate) fn file(&self) -> &OwnedFd {
        &self.file
    }

    pub(crate) fn handle(&self) -> &KernelHandle {
        &self.handle
    }
}

impl Drop for OpenNode {
    fn drop(&mut self) {
        self.nodes.closing(&self.handle, &self.file);
    }
}
