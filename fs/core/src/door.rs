//! The door for clients that read by queues of their own: where it is, and who comes in with what.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use extents_core::{ExtentMap, Ino, InodeFlags, Metadata};
use homi_abi::session::Handle;
use zerocopy::IntoBytes;

use crate::access::{self, Caller};
use crate::capability::Seal;
use crate::error::{FsError, Result};
use crate::homifs::Homifs;
use crate::lease::Lease;

/// Whoever serves the clients of a mount.
pub trait Clients: Send + Sync + Debug {
    /// Takes back every file with this inode from every client; how many there were.
    fn revoke(&self, inode: u64) -> usize;

    /// Tells whoever has this inode open that it has grown: its lease word counts a change.
    fn grown(&self, inode: u64);

    /// Adds what clients did to the text that Prometheus reads.
    fn write_metrics(&self, text: &mut String);
}

/// What clients have.
#[derive(Debug, Default)]
pub struct ClientCounters {
    /// Clients that are connected.
    pub clients: AtomicU64,
    /// Their queue pairs.
    pub queue_pairs: AtomicU64,
    /// Bytes of memory that they registered.
    pub buffer_bytes: AtomicU64,
    /// Files that they have open.
    pub files: AtomicU64,
}

/// A mount's door, once somebody listens.
#[derive(Debug, Default)]
pub(crate) struct Door {
    open: OnceLock<Open>,
    counters: Arc<ClientCounters>,
}

#[derive(Debug)]
struct Open {
    socket: PathBuf,
    seal: Seal,
    clients: Arc<dyn Clients>,
}

/// A file that a client may read.
#[derive(Debug, Clone)]
pub struct Redeemed {
    /// The inode.
    pub ino: Ino,
    /// The generation of its map.
    pub generation: u64,
    /// Where its bytes lie.
    pub map: Arc<ExtentMap>,
    /// What keeps them there, where anything could move them.
    pub lease: Option<Arc<dyn Lease>>,
}

impl Homifs {
    /// Says that clients are served at `socket` from now on: files give handles, and `.homi/socket` leads there.
    ///
    /// # Errors
    /// Where the system has no random numbers for a key, or the mount has a door already.
    pub fn open_door(&self, socket: PathBuf, clients: Arc<dyn Clients>) -> Result<()> {
        let lifetime = Duration::from_secs(self.options().client_limits.handle);
        let open = Open { socket, seal: Seal::new(lifetime)?, clients };
        self.door().open.set(open).map_err(|_| FsError::Invalid)
    }

    /// What clients have.
    #[must_use]
    pub fn client_counters(&self) -> Arc<ClientCounters> {
        Arc::clone(&self.door().counters)
    }

    /// Adds what clients did to a text for Prometheus.
    pub(crate) fn write_client_metrics(&self, text: &mut String) {
        if let Some(open) = self.door().open.get() {
            open.clients.write_metrics(text);
        }
    }

    /// Takes a file back from every client; how many had it.
    pub(crate) fn revoke(&self, ino: Ino) -> usize {
        self.door().open.get().map_or(0, |open| open.clients.revoke(ino.0))
    }

    /// Tells every client that has a file open of its growth.
    pub(crate) fn tell_grown(&self, ino: Ino) {
        if let Some(open) = self.door().open.get() {
            open.clients.grown(ino.0);
        }
    }

    /// Where clients are served, if they are.
    #[must_use]
    pub fn socket(&self) -> Option<&Path> {
        self.door().open.get().map(|open| &*open.socket)
    }

    /// A handle of a regular file or directory whose readers (and writers, where `rights` say so) the caller is known to be
    /// among.
    pub(crate) fn handle_of(&self, ino: Ino, rights: u64) -> Result<Vec<u8>> {
        let seal = &self.door().open.get().ok_or(FsError::NotSupported)?.seal;
        let generation = self.volume().metadata(ino)?.generation;
        Ok(seal.issue(ino, generation.into(), rights).as_bytes().to_vec())
    }

    /// The inode of a handle that this mount gave, as it is now.
    pub(crate) fn known(&self, handle: &Handle) -> Result<(Ino, Metadata)> {
        let seal = &self.door().open.get().ok_or(FsError::NotSupported)?.seal;
        let (ino, generation) = seal.check(handle)?;
        let metadata = self.volume().metadata(ino)?;
        if u64::from(metadata.generation) != generation || metadata.links == 0 {
            return Err(FsError::StaleHandle);
        }
        Ok((ino, metadata))
    }

    /// The file of a handle, if the caller may read it.
    ///
    /// # Errors
    /// Where the handle is none of this mount's, too old, of a file that is gone, or the caller may not read the file.
    pub fn redeem(&self, handle: &Handle, caller: &Caller) -> Result<Redeemed> {
        let (ino, metadata) = self.known(handle)?;
        if !metadata.is_regular() {
            return Err(FsError::WrongType);
        }
        if metadata.flags.contains(InodeFlags::ENCRYPTED) {
            return Err(FsError::Volume(extents_core::Error::Encrypted(ino)));
        }
        caller.require(self.volume(), ino, &metadata, access::READ)?;
        let (map, lease) = self.leased(ino)?;
        Ok(Redeemed { ino, generation: map.generation(), map, lease })
    }

    /// The directory of a handle, if the caller may list and search it.
    ///
    /// # Errors
    /// As [`redeem`](Self::redeem).
    pub fn redeem_directory(&self, handle: &Handle, caller: &Caller) -> Result<Ino> {
        let (ino, metadata) = self.known(handle)?;
        if !metadata.is_directory() {
            return Err(FsError::NotADirectory);
        }
        if self.options().has_lower() {
            // A snapshot would lease every file of the tree, and be recalled by any writer.
            return Err(FsError::SnapshotOfWritable);
        }
        caller.require(self.volume(), ino, &metadata, access::READ | access::SEARCH)?;
        Ok(ino)
    }

    /// Whether a caller may read a file, or list and search a directory. Where that cannot be told, it may not.
    #[must_use]
    pub fn may_read(&self, metadata: &Metadata, caller: &Caller) -> bool {
        let wanted = if metadata.is_directory() { access::READ | access::SEARCH } else { access::READ };
        caller.require(self.volume(), metadata.ino, metadata, wanted).is_ok()
    }
}
