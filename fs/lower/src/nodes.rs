//! The nodes that the kernel's FUSE knows: for each, the handle by which the kernel's driver finds it again.
//!
//! A node that has lost its last name keeps its inode until FUSE has forgotten it: FUSE goes on asking by the number, and an
//! open that is on its way would else find whatever file gets that number next. Whoever has the node open keeps it by that;
//! while nobody has, a descriptor here does. Both are decided under the lock of the node's entry, since names go, files are
//! opened and files are closed at the same time. What is kept then need be no more than the number: a large file that nobody
//! has open gives its space back at once, and is nobody's from then on.
//!
//! FUSE tells of closing a file and of forgetting its node one after the other, but two threads may take these up the other
//! way round. So an entry stays as long as either counts.
//!
//! Directories that something was looked for in last are kept open: each request for a name would else open its directory by the
//! handle first. They are no [`OpenNode`]s, since they keep nothing that was removed: with its name a directory loses that
//! descriptor.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use dashmap::mapref::one::RefMut;
use parking_lot::Mutex;
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
    /// Of a directory that was asked for a short while ago.
    directory: Option<Arc<OwnedFd>>,
}

/// So many directories are kept open.
const DIRECTORIES: usize = 256;

impl Known {
    fn new(handle: KernelHandle) -> Self {
        Self { handle, lookups: 0, opens: 0, nameless: false, pin: None, emptied: false, directory: None }
    }

    /// Whether neither FUSE nor anybody who has it open knows of it.
    fn is_unused(&self) -> bool {
        self.lookups == 0 && self.opens == 0
    }
}

/// By inode number.
#[derive(Debug, Default)]
pub(crate) struct Nodes {
    known: DashMap<u64, Known, FxBuildHasher>,
    /// Directories that are kept open, by inode number, the oldest first. One may stand here twice, or be closed already.
    directories: Mutex<VecDeque<u64>>,
}

impl Nodes {
    /// Notes that the kernel is told of a node. Who does so looks afterwards whether the node has [no name](Self::keep) any
    /// more: whoever took the last one found nothing here to keep it by.
    pub(crate) fn told(&self, handle: KernelHandle) {
        self.known(handle).lookups += 1;
    }

    fn known(&self, handle: KernelHandle) -> RefMut<'_, u64, Known> {
        let mut known = self.known.entry(handle.ino()).or_insert_with(|| Known::new(handle));
        if known.handle != handle {
            // Another file by now; what was known of the one before says nothing.
            let lookups = known.lookups;
            *known = Known { lookups, ..Known::new(handle) };
        }
        known
    }

    /// Notes that the kernel has forgotten a node `times` times.
    pub(crate) fn forgotten(&self, ino: u64, times: u64) {
        if let Entry::Occupied(mut known) = self.known.entry(ino) {
            known.get_mut().lookups = known.get().lookups.saturating_sub(times);
            if known.get().is_unused() {
                // Its descriptor is closed after the lock is let go: that may free a large file.
                known.remove();
            }
        }
    }

    /// Notes that a node, for which `node` stands, has lost its last name.
    pub(crate) fn keep(&self, handle: &KernelHandle, node: OwnedFd) {
        if let Some(mut known) = self.known.get_mut(&handle.ino())
            && known.handle == *handle
        {
            known.nameless = true;
            known.directory = None;
            if known.opens == 0 {
                known.pin = Some(node);
            }
        }
    }

    /// A directory that is kept open.
    pub(crate) fn directory(&self, ino: u64) -> Option<Arc<OwnedFd>> {
        self.known.get(&ino)?.directory.clone()
    }

    /// Keeps a directory open for whoever asks next, unless it was removed meanwhile.
    pub(crate) fn keep_directory(&self, handle: &KernelHandle, directory: &Arc<OwnedFd>) {
        match self.known.get_mut(&handle.ino()) {
            Some(mut known) if known.handle == *handle && !known.nameless => {
                known.directory = Some(Arc::clone(directory));
            }
            _ => return,
        }
        let mut directories = self.directories.lock();
        directories.push_back(handle.ino());
        let oldest = if directories.len() > DIRECTORIES { directories.pop_front() } else { None };
        drop(directories);
        let closed = oldest.and_then(|oldest| self.known.get_mut(&oldest)?.directory.take());
        drop(closed);
    }

    /// Notes that a node which had no name, or never had one (`O_TMPFILE`), has one.
    pub(crate) fn named(&self, ino: u64) {
        let pin = self.known.get_mut(&ino).and_then(|mut known| {
            known.nameless = false;
            known.pin.take()
        });
        drop(pin);
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
        self.opened_as(file, handle)
    }

    fn opened_as(self: &Arc<Self>, file: OwnedFd, handle: KernelHandle) -> crate::Result<OpenNode> {
        let mut known = self.known(handle);
        if known.emptied {
            return Err(Errno::STALE);
        }
        known.opens += 1;
        // One descriptor is enough.
        let pin = known.pin.take();
        drop(known);
        drop(pin);
        Ok(OpenNode { file, handle, nodes: Arc::clone(self) })
    }

    fn closing(&self, handle: &KernelHandle, file: &OwnedFd) {
        let Entry::Occupied(mut entry) = self.known.entry(handle.ino()) else { return };
        let known = entry.get_mut();
        if known.handle != *handle {
            return;
        }
        known.opens = known.opens.saturating_sub(1);
        if known.is_unused() {
            entry.remove();
        } else if known.opens == 0 && known.nameless {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor() -> OwnedFd {
        openat(CWD, c"/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }

    #[test]
    fn close_taken_up_after_the_forgetting_leaves_the_opens_of_others_alone() {
        let nodes = Arc::new(Nodes::default());
        let handle = KernelHandle::ext4(12).unwrap();
        nodes.told(handle);
        let first = nodes.opened_as(descriptor(), handle).unwrap();
        nodes.forgotten(12, 1);
        nodes.told(handle);
        let second = nodes.opened_as(descriptor(), handle).unwrap();
        drop(first);
        nodes.keep(&handle, descriptor());
        assert!(!nodes.gives_up(&handle), "the second has it open");
        drop(second);
        assert!(nodes.gives_up(&handle));
        assert_eq!(nodes.opened_as(descriptor(), handle).map(drop), Err(Errno::STALE));
        nodes.forgotten(12, 1);
        assert!(nodes.known.is_empty());
    }

    #[test]
    fn node_that_fuse_does_not_know_is_known_while_it_is_open() {
        let nodes = Arc::new(Nodes::default());
        let handle = KernelHandle::ext4(12).unwrap();
        let open = nodes.opened_as(descriptor(), handle).unwrap();
        // Found and removed by its name, while a client has it open.
        nodes.told(handle);
        nodes.keep(&handle, descriptor());
        assert!(!nodes.gives_up(&handle));
        nodes.forgotten(12, 1);
        assert!(!nodes.known.is_empty());
        drop(open);
        assert!(nodes.known.is_empty());
    }

    #[test]
    fn directories_are_kept_open_until_others_are_or_they_are_removed() {
        let nodes = Nodes::default();
        let handle = |ino: usize| KernelHandle::ext4(ino.try_into().unwrap()).unwrap();
        let keep = |ino: usize| nodes.keep_directory(&handle(ino), &Arc::new(descriptor()));
        let is_kept = |ino: usize| nodes.directory(handle(ino).ino()).is_some();
        nodes.told(handle(12));
        nodes.told(handle(13));
        keep(12);
        keep(13);
        assert!(is_kept(12) && is_kept(13));
        // Nobody would tell that it was forgotten.
        keep(14);
        assert!(!is_kept(14), "FUSE does not know it");
        nodes.keep(&handle(13), descriptor());
        assert!(!is_kept(13), "it was removed");
        // Whoever opened it before that, and comes late.
        keep(13);
        assert!(!is_kept(13), "it stays so");
        for ino in 100..100 + DIRECTORIES {
            nodes.told(handle(ino));
            keep(ino);
        }
        assert!(!is_kept(12), "others took its place");
        assert!((100..100 + DIRECTORIES).all(is_kept));
        nodes.forgotten(100, 1);
        assert!(!is_kept(100), "it was forgotten");
    }
}
