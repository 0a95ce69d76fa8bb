//! Leases: what keeps the blocks of a file where they are while somebody reads them directly.
//!
//! On a read-only mount nothing moves, and nobody needs one. On a writable mount whoever is about to change a file waits
//! until all its leases are given back, after [`Homifs::recall`] took them from clients.

use std::fmt::Debug;
use std::sync::Arc;

use extents_core::{ExtentMap, Ino};

use homifs_options::Remount;

use crate::access::Caller;
use crate::error::Result;
use crate::homifs::Homifs;
use crate::standing::Standing;
use crate::writing::WritableFile;

/// The blocks of one file stay where they are until this is dropped.
pub trait Lease: Send + Sync + Debug {
    /// Whether somebody waits for it to be given back. Who took it while it was recalled was not told.
    fn is_recalled(&self) -> bool;
}

/// Where the bytes of a file lie, and what keeps them there where anything could move them.
pub(crate) type LeasedMap = (Arc<ExtentMap>, Option<Arc<dyn Lease>>);

/// Whoever lets files be leased.
pub trait Leases: Send + Sync + Debug {
    /// A lease on a file, and where its bytes lie meanwhile.
    ///
    /// # Errors
    /// [`FsError::BeingWritten`](crate::FsError::BeingWritten) while somebody has the file open for writing.
    fn lease(&self, ino: Ino) -> Result<(Arc<ExtentMap>, Arc<dyn Lease>)>;

    /// A file for a client that may write it, and the generation of its map. Leases on it are recalled, and none is given
    /// as long as it is open.
    ///
    /// # Errors
    /// What the kernel's driver says.
    fn open_for_writing(&self, ino: Ino, caller: &Caller) -> Result<(Arc<dyn WritableFile>, u64)>;

    /// Who serves a file's reads, and why.
    ///
    /// # Errors
    /// Where the file cannot be looked at.
    fn standing(&self, ino: Ino) -> Result<Standing>;

    /// Changes how the volume is mounted below.
    ///
    /// # Errors
    /// [`FsError::Remount`](crate::FsError::Remount) with the driver's own words.
    fn remount(&self, asked: &Remount) -> Result<()>;

    /// What was counted beside what every mount counts: name, help, value.
    fn counts(&self) -> Vec<(&'static str, &'static str, u64)>;
}

impl Homifs {
    /// Says that files change, and by whom they are leased.
    pub fn lease_by(&self, leases: Arc<dyn Leases>) {
        // Said once, when the mount is made.
        let _ = self.leases_cell().set(leases);
    }

    /// Takes a file back from every client: further commands answer Namespace Not Ready, and its leases are given back
    /// when those that are under way have ended.
    pub fn recall(&self, ino: Ino) {
        let clients = self.revoke(ino);
        if clients > 0 {
            tracing::debug!(ino = ino.0, clients, "recalled, since the file is about to change");
        }
    }

    /// Tells every client of a file that has grown: what they have of it stays as it was, and its map is an older one.
    pub fn has_grown(&self, ino: Ino) {
        self.tell_grown(ino);
    }

    /// Where a file's bytes lie, and what keeps them there.
    pub(crate) fn leased(&self, ino: Ino) -> Result<LeasedMap> {
        match self.leases_cell().get() {
            None => Ok((self.map_of(ino)?, None)),
            Some(leases) => leases.lease(ino).map(|(map, lease)| (map, Some(lease))),
        }
    }
}
