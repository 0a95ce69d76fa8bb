//! Snapshots for programs that do not care for queues.

use homi_abi::snapshot::{File, View};

use crate::reader::Request;
use crate::target::Target;
use crate::{Arena, ClientError, OpenFile, Snapshot};

/// All files of a directory as a [`Client`](crate::Client) reads them: none of them has to be opened.
#[derive(Debug)]
pub struct ServedSnapshot {
    // Before what it looks at.
    arena: Arena,
    snapshot: Snapshot,
}

/// A range of a file of a snapshot.
#[derive(Debug)]
pub struct SnapshotRequest<'a> {
    /// The file's number in the arena.
    pub number: usize,
    /// First byte in the file.
    pub offset: u64,
    /// As many bytes as it has are read.
    pub target: Target<'a>,
}

impl ServedSnapshot {
    pub(crate) fn new(snapshot: Snapshot) -> Result<Self, ClientError> {
        Ok(Self { arena: snapshot.kept_view()?, snapshot })
    }

    /// Paths, sizes and extents of the files.
    #[must_use]
    pub fn view(&self) -> View<'_> {
        self.arena.view()
    }

    /// The file with this number.
    ///
    /// # Errors
    /// Where there is none.
    pub fn file(&self, number: usize) -> Result<&File, ClientError> {
        let files = self.arena.view().files();
        files.get(number).ok_or_else(|| {
            ClientError::Invalid(format!("file {number} of a snapshot of {} files", files.len()))
        })
    }

    /// The byte of the namespace at which a file begins, for those who fill queues themselves.
    #[must_use]
    pub fn start_of(&self, file: &File) -> u64 {
        self.snapshot.start_of(file)
    }

    /// The namespace that has all files.
    #[must_use]
    pub fn namespace(&self) -> &OpenFile {
        self.snapshot.namespace()
    }

    /// The arena's bytes, for those who show them to an accelerator.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.snapshot.arena().bytes()
    }

    /// Files and directories that are left out, since this process may not read them or they are damaged.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.snapshot.left_out()
    }

    /// The range of the namespace that a request is for.
    pub(crate) fn request<'a>(
        &'a self,
        asked: &'a mut SnapshotRequest<'_>,
    ) -> Result<Request<'a>, ClientError> {
        let file = self.file(asked.number)?;
        let there = usize::try_from(file.size.get().saturating_sub(asked.offset)).unwrap_or(usize::MAX);
        let target = asked.target.again().split_off_front(there);
        let offset = self.start_of(file).saturating_add(asked.offset);
        Ok(Request { file: self.namespace(), offset, target })
    }
}
