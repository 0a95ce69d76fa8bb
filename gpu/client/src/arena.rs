//! A dataset snapshot and the view of it, kept together.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use homi_abi::snapshot::View;

use crate::{ClientError, memory};

/// The longest arena that is read, in bytes.
const LENGTH_MAX: u64 = 64 << 30;

/// The bytes of a `homi.snapshot` arena and the checked view of them. Threads may share it.
pub struct Arena {
    // Refers to `bytes`; that it lasts forever is a lie that no one outside this module is told.
    view: View<'static>,
    bytes: Bytes,
}

/// What keeps the bytes where they are.
enum Bytes {
    Own(Vec<u8>),
    Mapped(Arc<memory::Arena>),
}

impl Bytes {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Mapped(arena) => arena.bytes(),
        }
    }
}

impl Arena {
    /// Reads an arena and checks it. It is copied, so that nobody can change it afterwards.
    ///
    /// # Errors
    /// Where it cannot be read, or is no arena of version 1, or contradicts itself.
    pub fn read(path: &Path) -> Result<Self, ClientError> {
        let system = |source| ClientError::System { action: "read the snapshot", source };
        let file = File::open(path).map_err(system)?;
        let length = file.metadata().map_err(system)?.len();
        if length > LENGTH_MAX {
            return Err(ClientError::Invalid(format!(
                "a snapshot of {length} bytes; at most {LENGTH_MAX} are read"
            )));
        }
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(usize::try_from(length).unwrap_or(usize::MAX)).map_err(|_| {
            ClientError::Invalid(format!("there is no memory for a snapshot of {length} bytes"))
        })?;
        file.take(length).read_to_end(&mut bytes).map_err(system)?;
        Self::of_bytes(bytes)
    }

    /// An arena that somebody has in memory.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn of_bytes(bytes: Vec<u8>) -> Result<Self, ClientError> {
        Self::of(Bytes::Own(bytes))
    }

    /// One that is mapped.
    pub(crate) fn of_mapping(arena: Arc<memory::Arena>) -> Result<Self, ClientError> {
        Self::of(Bytes::Mapped(arena))
    }

    fn of(bytes: Bytes) -> Result<Self, ClientError> {
        let slice = bytes.as_slice();
        // SAFETY: The vector's or the mapping's bytes stay where they are while this lives: it is neither changed nor given
        // away, and the view ends first. Nobody gets the view for longer than this is borrowed.
        let lasting: &'static [u8] = unsafe { std::slice::from_raw_parts(slice.as_ptr(), slice.len()) };
        let view = View::new(lasting).map_err(|error| ClientError::Invalid(error.to_string()))?;
        Ok(Self { view, bytes })
    }

    /// What is in it.
    #[must_use]
    pub fn view(&self) -> View<'_> {
        self.view
    }
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files = self.view.files().len();
        f.debug_struct("Arena")
            .field("files", &files)
            .field("length", &self.bytes.as_slice().len())
            .finish_non_exhaustive()
    }
}
