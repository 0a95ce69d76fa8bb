//! All files of a tree as one namespace, and the arena that says where in it each lies.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use homi_abi::session::{FileReply, SnapshotReply};
use homi_abi::snapshot::{File, View};

use crate::memory::Arena;
use crate::session::Inner;
use crate::socket::Answer;
use crate::{ClientError, OpenFile, Reader};

/// A dataset snapshot. Dropping it gives its namespace back, for which no command may be in flight.
#[derive(Debug)]
pub struct Snapshot {
    arena: Arc<Arena>,
    namespace: OpenFile,
    block_size: u64,
    files: u64,
    left_out: u64,
}

impl Snapshot {
    pub(crate) fn new(session: Arc<Inner>, answer: Answer<SnapshotReply>) -> Result<Self, ClientError> {
        let Answer { body: reply, descriptors } = answer;
        let [arena] = <[OwnedFd; 1]>::try_from(descriptors)
            .map_err(|_| ClientError::Protocol("it did not hand over the arena".into()))?;
        let length = usize::try_from(reply.length.get()).unwrap_or(usize::MAX);
        let arena = Arena::map(arena, length)
            .map_err(|source| ClientError::System { action: "map the snapshot's arena", source })?;
        let size = reply.blocks.get().checked_mul(reply.block_size.get().into());
        let namespace = FileReply {
            nsid: reply.nsid,
            block_size: reply.block_size,
            blocks: reply.blocks,
            size: size.unwrap_or(u64::MAX).into(),
            lease_slot: reply.lease_slot,
            ..FileReply::default()
        };
        let namespace = OpenFile::new(session, &namespace)?;
        let (files, left_out) = (reply.files.get(), reply.left_out.get());
        let mut snapshot = Self { arena: Arc::new(arena), namespace, block_size: 0, files, left_out };
        let header = snapshot.view()?.header();
        let all = header.blocks.get().checked_mul(header.block_size.get().into());
        if all != size || header.block_size.get() < reply.block_size.get() || header.files.get() != files {
            return Err(ClientError::Protocol("its arena is not of the namespace that it gave".into()));
        }
        snapshot.block_size = header.block_size.get().into();
        Ok(snapshot)
    }

    /// The arena, checked: files by path, their sizes and extents. Takes some 50 ns for each file, so keep it.
    ///
    /// # Errors
    /// Where the arena is none, which was looked at before, too.
    pub fn view(&self) -> Result<View<'_>, ClientError> {
        View::new(self.arena.bytes()).map_err(|error| ClientError::Protocol(error.to_string()))
    }

    /// The same, kept with the memory that it is of.
    ///
    /// # Errors
    /// As [`view`](Self::view).
    pub fn kept_view(&self) -> Result<crate::Arena, ClientError> {
        crate::Arena::of_mapping(Arc::clone(&self.arena))
    }

    /// The arena's memory, for those who register it with an accelerator or hand its descriptor on.
    #[must_use]
    pub fn arena(&self) -> &Arena {
        &self.arena
    }

    /// The namespace that has all files: see [`start_of`](Self::start_of).
    #[must_use]
    pub fn namespace(&self) -> &OpenFile {
        &self.namespace
    }

    /// The byte of the namespace at which a file of the arena begins.
    #[must_use]
    pub fn start_of(&self, file: &File) -> u64 {
        file.first_block.get() * self.block_size
    }

    /// Files in the arena.
    #[must_use]
    pub fn files(&self) -> u64 {
        self.files
    }

    /// Files and directories that are left out, since this process may not read them or they are damaged.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Fills `target` from byte `offset` of a file on; how many bytes there were, fewer than asked for only at its end.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub fn read(
        &self,
        reader: &mut Reader,
        file: &File,
        offset: u64,
        target: &mut [u8],
    ) -> Result<usize, ClientError> {
        let there = usize::try_from(file.size.get().saturating_sub(offset)).unwrap_or(usize::MAX);
        let length = there.min(target.len());
        reader.read(&self.namespace, self.start_of(file).saturating_add(offset), &mut target[..length])
    }
}
