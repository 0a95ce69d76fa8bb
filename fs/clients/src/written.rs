//! A file that a client has open for writing, as a namespace.

use std::sync::Arc;
use std::time::Duration;

use engine_block::{Operation, Windows};
use engine_controller::backing::{BitBucket, Io, Memory, Started};
use engine_controller::tally::Tally;
use engine_controller::{Backing, BackingQueue, ControllerError};
use engine_dma::Access;
use engine_nvme_spec::Status;
use extents_core::Ino;
use homifs_core::{Homifs, RedeemedForWriting, WritableFile};

use crate::parts::Parts;
use crate::scribes::{Answers, Scribes, Task, Work};
use crate::served::{Common, Served, TakenBack};

/// Block n of the namespace is block n of the file; what the last one has behind the file's end reads as zeros, and is
/// not written. The size stays what it was: files grow by other means.
#[derive(Debug)]
pub(crate) struct WrittenFile {
    common: Common,
    ino: Ino,
    file: Arc<dyn WritableFile>,
    scribes: Arc<Scribes>,
}

impl WrittenFile {
    pub(crate) fn new(
        homifs: Arc<Homifs>,
        opened: RedeemedForWriting,
        number: u32,
        scribes: Arc<Scribes>,
    ) -> Self {
        let block = homifs.device().info().logical_block.max(512);
        let RedeemedForWriting { ino, file, .. } = opened;
        Self { common: Common::new(homifs, number, block, ino.0), ino, file, scribes }
    }

    /// Bytes of the file.
    pub(crate) fn length(&self) -> u64 {
        self.file.size()
    }
}

impl Served for WrittenFile {
    fn common(&self) -> &Common {
        &self.common
    }

    fn size(&self) -> u64 {
        self.file.size().next_multiple_of(self.common.block.into())
    }

    fn describe(&self) -> String {
        format!("inode {} of {}, to be written", self.ino.0, self.common.homifs.source())
    }

    fn lies_at(&self, _offset: u64, _length: u64) -> Option<u64> {
        None
    }

    fn gather(&self, _offset: u64, _length: u64, _parts: &mut Parts<'_>) -> Result<(), Status> {
        // Its media are not read: the page cache may have newer bytes.
        Err(Status::INTERNAL_ERROR)
    }

    fn shows(&self, inode: u64) -> bool {
        self.ino.0 == inode
    }

    fn take_back(&self, inode: u64) -> TakenBack {
        if self.ino.0 != inode {
            return TakenBack::Nothing;
        }
        self.common.revoke();
        TakenBack::Whole
    }
}

/// The file as a backing.
#[derive(Debug, Clone)]
pub(crate) struct WrittenBacking(pub(crate) Arc<WrittenFile>);

impl Backing for WrittenBacking {
    fn size(&self) -> u64 {
        Served::size(&*self.0)
    }

    fn block(&self) -> u32 {
        self.0.common.block
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn describe(&self) -> String {
        self.0.describe()
    }

    fn queue(&self, depth: u32) -> Result<Box<dyn BackingQueue>, ControllerError> {
        let depth = usize::try_from(depth).unwrap_or(usize::MAX);
        Ok(Box::new(WrittenQueue {
            file: Arc::clone(&self.0),
            answers: Arc::default(),
            depth,
            in_flight: 0,
            bucket: BitBucket::default(),
        }))
    }

    fn tally(&self) -> Option<Arc<Tally>> {
        Some(self.0.common.tally.shard())
    }
}

#[derive(Debug)]
struct WrittenQueue {
    file: Arc<WrittenFile>,
    answers: Arc<Answers>,
    depth: usize,
    in_flight: usize,
    bucket: BitBucket,
}

impl BackingQueue for WrittenQueue {
    fn start(&mut self, io: &Io, memory: &mut Memory<'_>) -> Started {
        if self.in_flight >= self.depth {
            return Started::Full;
        }
        if self.file.common.is_revoked() {
            return Started::Done(Status::NAMESPACE_NOT_READY.final_());
        }
        let windows = match io.operation {
            Operation::Read => memory.windows(Access::ReadWrite, &mut self.bucket),
            Operation::Write => memory.windows(Access::Read, &mut self.bucket),
            Operation::Flush | Operation::WriteZeroes | Operation::Discard => Ok(Windows::new()),
        };
        match windows {
            Err(status) => Started::Done(status),
            Ok(memory) => {
                self.in_flight += 1;
                let (file, answers) = (Arc::clone(&self.file.file), Arc::clone(&self.answers));
                let work = Work::Written { file, io: *io, memory };
                self.file.scribes.add(Task { work, token: io.token, answers });
                Started::Pending
            }
        }
    }

    fn poll(&mut self, limit: Duration, done: &mut Vec<(u64, Status)>) {
        let before = done.len();
        self.answers.take(limit, done);
        self.in_flight -= done.len() - before;
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }
}
