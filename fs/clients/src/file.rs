//! A file that a client has open.

use std::sync::Arc;

use engine_nvme_spec::Status;
use extents_core::{Extent, Ino, Run};
use homifs_core::{Homifs, Redeemed};

use crate::parts::{Contents, Parts, lies_at};
use crate::served::{Common, Served, TakenBack};

/// A file as a namespace, whose block n is the file's block n; the last one is filled up with zeros.
#[derive(Debug)]
pub(crate) struct OpenedFile {
    common: Common,
    pub(crate) file: Redeemed,
}

impl OpenedFile {
    pub(crate) fn new(homifs: Arc<Homifs>, file: Redeemed, number: u32) -> Self {
        // What the device reads by itself.
        let block = homifs.device().info().logical_block.max(512);
        let mut file = file;
        let common = Common::new(homifs, number, block, file.ino.0).holding(file.lease.take());
        Self { common, file }
    }
}

impl Served for OpenedFile {
    fn common(&self) -> &Common {
        &self.common
    }

    fn size(&self) -> u64 {
        self.file.map.size().next_multiple_of(self.common.block.into())
    }

    fn describe(&self) -> String {
        format!("inode {} of {}", self.file.ino.0, self.common.homifs.source())
    }

    fn lies_at(&self, offset: u64, length: u64) -> Option<u64> {
        lies_at(&self.file, offset, length)
    }

    fn gather(&self, offset: u64, length: u64, parts: &mut Parts<'_>) -> Result<(), Status> {
        parts.file(&self.file, offset, length, 0)
    }

    fn shows(&self, inode: u64) -> bool {
        self.file.ino.0 == inode
    }

    fn take_back(&self, inode: u64) -> TakenBack {
        if self.file.ino.0 != inode {
            return TakenBack::Nothing;
        }
        self.common.revoke();
        TakenBack::Whole
    }
}

impl Contents for Redeemed {
    fn ino(&self) -> Ino {
        self.ino
    }

    fn size(&self) -> u64 {
        self.map.size()
    }

    #[inline]
    fn find(&self, offset: u64) -> Option<Extent> {
        self.map.find(offset)
    }

    fn runs(&self, offset: u64, length: u64) -> impl Iterator<Item = Run> {
        self.map.runs(offset, length)
    }
}
