//! An open file as a namespace.

use std::sync::Arc;

use homi_abi::session::{FILE_WRITABLE, FileReply};

use crate::ClientError;
use crate::session::{Inner, Session};

/// A file whose blocks commands can name. Dropping it gives the namespace back, for which no command may be in flight.
#[derive(Debug)]
pub struct OpenFile {
    session: Arc<Inner>,
    nsid: u32,
    block_shift: u32,
    blocks: u64,
    size: u64,
    generation: u64,
    lease_slot: u32,
    writable: bool,
}

impl OpenFile {
    pub(crate) fn new(session: Arc<Inner>, reply: &FileReply) -> Result<Self, ClientError> {
        let block_size = reply.block_size.get();
        let (blocks, size) = (reply.blocks.get(), reply.size.get());
        let fits = block_size.is_power_of_two()
            && block_size >= 512
            && size.div_ceil(u64::from(block_size)) == blocks
            && session.lease_word(reply.lease_slot.get()).is_some();
        if !fits {
            return Err(ClientError::Protocol(format!(
                "a file of {size} bytes in {blocks} blocks of {block_size} bytes"
            )));
        }
        Ok(Self {
            session,
            nsid: reply.nsid.get(),
            block_shift: block_size.trailing_zeros(),
            blocks,
            size,
            generation: reply.generation.get(),
            lease_slot: reply.lease_slot.get(),
            writable: reply.flags.get() & FILE_WRITABLE != 0,
        })
    }

    /// Whether it is a namespace of this session.
    #[must_use]
    pub fn is_of_session(&self, session: &Session) -> bool {
        self.is_of(session.inner())
    }

    pub(crate) fn is_of(&self, session: &Arc<Inner>) -> bool {
        Arc::ptr_eq(&self.session, session)
    }

    /// Its number in commands.
    #[must_use]
    pub fn nsid(&self) -> u32 {
        self.nsid
    }

    /// Bits of the block size.
    #[must_use]
    pub fn block_shift(&self) -> u32 {
        self.block_shift
    }

    /// Bytes of a block.
    #[must_use]
    pub fn block_size(&self) -> u32 {
        1 << self.block_shift
    }

    /// Blocks; what the last one has past the file's end reads as zeros.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Bytes of the file.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The generation of the file that this shows.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether it was opened to be written.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// Place of its lease word on the status page.
    #[must_use]
    pub fn lease_slot(&self) -> u32 {
        self.lease_slot
    }

    /// Its lease word, which the daemon changes when it takes the blocks back: for those who look themselves. It can only
    /// be read, for as long as this lives.
    #[must_use]
    pub fn lease_word(&self) -> *const u64 {
        self.session.lease_word(self.lease_slot).map_or(std::ptr::null(), |word| word.as_ptr().cast_const())
    }

    /// How often its lease changed: also when the file grew, which takes nothing back, but makes this an older state of it.
    #[must_use]
    pub fn lease_changes(&self) -> u64 {
        self.session.lease_changes(self.lease_slot)
    }

    /// Whether its blocks were not taken back.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.session.is_held(self.lease_slot)
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        // A daemon that is gone has closed it already.
        let _ = self.session.close(self.nsid);
    }
}
