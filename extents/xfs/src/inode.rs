//! Inodes (`xfs_dinode`, versions 1 to 3).

use std::sync::Arc;

use extents_core::{FileType, Ino};

use crate::fork::{Fork, ForkFormat};

/// An inode that passed its checks: what it says, and the bytes of its forks.
#[derive(Debug, Clone)]
pub(crate) struct Inode {
    pub(crate) ino: Ino,
    pub(crate) mode: u16,
    pub(crate) file_type: FileType,
    pub(crate) size: u64,
    pub(crate) generation: u32,
    /// Extents of the data fork, as the inode counts them.
    pub(crate) data_extents: u64,
    /// Extents of the attribute fork.
    pub(crate) attr_extents: u64,
    data_format: ForkFormat,
    attr_format: Option<ForkFormat>,
    /// The cluster that holds the inode.
    cluster: Arc<[u8]>,
    /// Where in the cluster the forks lie.
    data_fork: std::ops::Range<usize>,
    attr_fork: std::ops::Range<usize>,
}

impl Inode {
    /// The data fork. Local ones are cut to the size of the file.
    pub(crate) fn data_fork(&self) -> Fork<'_> {
        self.fork(self.data_format, &self.data_fork, self.data_extents)
    }

    /// The attribute fork, where there is one.
    pub(crate) fn attr_fork(&self) -> Option<Fork<'_>> {
        Some(self.fork(self.attr_format?, &self.attr_fork, self.attr_extents))
    }

    fn fork(&self, format: ForkFormat, place: &std::ops::Range<usize>, extents: u64) -> Fork<'_> {
        Fork::new(format, self.cluster.get(place.clone()).unwrap_or_default(), extents)
    }
}
