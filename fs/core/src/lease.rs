//! Leases: what keeps the blocks of a file where they are while somebody reads them directly.
//!
//! On a read-only mount nothing moves, and nobody needs one. On a writable mount whoever is about to change a file waits
//! until all its leases are given back, after [`Homifs::recall`] took them from clients.

use std::fmt::Debug;
use std::sync::Arc;

use extents_core::{ExtentMap, Ino};

use crate::error::Result;
use crate::homifs::Homifs;

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

    /// Where a file's bytes lie, and what keeps them there.
    pub(crate) fn leased(&self, ino: Ino) -> Result<LeasedMap> {
        match self.leases_cell().get() {
            None => Ok((self.map_of(ino)?, None)),
            Some(leases) => leases.lease(ino).map(|(map, lease)| (map, Some(lease))),
        }
    }
}
