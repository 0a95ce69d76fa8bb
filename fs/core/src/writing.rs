//! Files that clients write with queues of their own: through the kernel's driver below the mount, so that allocation,
//! sizes, caches and the journal stay its affair.

use std::fmt::Debug;
use std::sync::Arc;

use extents_core::{Ino, InodeFlags};
use homi_abi::session::{HANDLE_WRITE, Handle};

use crate::access::{self, Caller};
use crate::error::{FsError, Result};
use crate::homifs::Homifs;

/// A file that is open for writing below the mount. Methods may block; any thread may call them.
pub trait WritableFile: Send + Sync + Debug {
    /// Bytes, when it was opened.
    fn size(&self) -> u64;

    /// Reads; fewer bytes than asked for only at the end.
    ///
    /// # Errors
    /// What the kernel's driver says.
    fn read(&self, offset: u64, target: &mut [u8]) -> Result<usize>;

    /// Writes all of it.
    ///
    /// # Errors
    /// What the kernel's driver says; a part may be written then.
    fn write(&self, offset: u64, bytes: &[u8]) -> Result<()>;

    /// Lets a range read as zeros; with `unmap` its places are given back.
    ///
    /// # Errors
    /// What the kernel's driver says.
    fn zero(&self, offset: u64, length: u64, unmap: bool) -> Result<()>;

    /// Makes durable what was written.
    ///
    /// # Errors
    /// What the kernel's driver says.
    fn sync(&self) -> Result<()>;
}

/// A file that a client may write.
#[derive(Debug, Clone)]
pub struct RedeemedForWriting {
    /// The inode.
    pub ino: Ino,
    /// The generation of its map.
    pub generation: u64,
    /// The file.
    pub file: Arc<dyn WritableFile>,
}

impl Homifs {
    /// Refuses who may not write a regular file of a mount that is written.
    pub(crate) fn require_writable(&self, ino: Ino, caller: &Caller) -> Result<()> {
        // Whether it may be written just now is known below: it may have been remounted.
        if self.leases_cell().get().is_none() {
            return Err(FsError::ReadOnly);
        }
        let metadata = self.volume().metadata(ino)?;
        if !metadata.is_regular() {
            return Err(FsError::WrongType);
        }
        if metadata.flags.contains(InodeFlags::ENCRYPTED) {
            return Err(FsError::Volume(extents_core::Error::Encrypted(ino)));
        }
        caller.require(self.volume(), ino, &metadata, access::READ | access::WRITE)
    }

    /// The file of a handle that is for writing, if the caller may read and write it.
    ///
    /// # Errors
    /// As [`redeem`](Self::redeem); and where the handle is only for reading.
    pub fn redeem_for_writing(&self, handle: &Handle, caller: &Caller) -> Result<RedeemedForWriting> {
        let (ino, _) = self.known(handle)?;
        if handle.rights.get() & HANDLE_WRITE == 0 {
            return Err(FsError::Denied);
        }
        self.require_writable(ino, caller)?;
        let leases = self.leases_cell().get().ok_or(FsError::ReadOnly)?;
        let (file, generation) = leases.open_for_writing(ino, caller)?;
        Ok(RedeemedForWriting { ino, generation, file })
    }
}
