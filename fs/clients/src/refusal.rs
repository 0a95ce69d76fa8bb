//! Why a request of a client was not done.

use std::io;

use homifs_core::FsError;

/// A reason, as a number and as a sentence.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) errno: i32,
    pub(crate) text: String,
}

impl Refusal {
    pub(crate) fn new(errno: i32, text: String) -> Self {
        Self { errno, text }
    }

    pub(crate) fn of(error: &FsError) -> Self {
        Self::new(error.errno(), homifs_core::error_chain(error))
    }

    #[allow(clippy::needless_pass_by_value, reason = "it ends here, and is handed on as a function")]
    pub(crate) fn from_system(error: io::Error) -> Self {
        Self::new(error.raw_os_error().unwrap_or(libc::EIO), error.to_string())
    }
}
