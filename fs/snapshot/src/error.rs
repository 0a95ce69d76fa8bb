//! Why there is no snapshot.

use std::io;

/// Why a snapshot could not be taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// What it is to be of is no directory.
    #[error("a snapshot is taken of a directory, and {0} is none")]
    NotADirectory(String),
    /// More files than the limit allows.
    #[error("there are more than {0} files; take the snapshot of a smaller tree, or raise the limit")]
    TooManyFiles(u64),
    /// More bytes than the limit allows.
    #[error(
        "the arena would be larger than {0} bytes; take the snapshot of a smaller tree, or raise the limit"
    )]
    TooLarge(u64),
    /// The device did not deliver. What is merely damaged is left out and counted.
    #[error("cannot read {path}")]
    Volume {
        /// Where.
        path: String,
        /// Why.
        source: extents_core::Error,
    },
    /// Whoever watched the progress wanted no more.
    #[error("the snapshot was cancelled")]
    Cancelled,
    /// The arena could not be written.
    #[error("cannot write the snapshot")]
    Write(#[from] io::Error),
}
