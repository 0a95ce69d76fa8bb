//! What can go wrong when a controller is made.

use engine_block::OpenError;

/// Why a controller or namespace could not be made. The text says what, why and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControllerError {
    /// An option or a combination of options that cannot be.
    #[error("{0}")]
    Options(String),
    /// A namespace whose backing does not do.
    #[error("namespace {nsid}: {reason}")]
    Namespace {
        /// Its number.
        nsid: u32,
        /// Why, and what to do.
        reason: String,
    },
    /// The backing gives no further queue.
    #[error("the backing gives no queue")]
    Backing(#[from] OpenError),
    /// The system refused memory or a thread.
    #[error("cannot {action} for a controller")]
    System {
        /// What was tried, as a verb.
        action: &'static str,
        /// Why it was refused.
        source: std::io::Error,
    },
}
