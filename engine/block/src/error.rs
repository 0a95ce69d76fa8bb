//! What can go wrong when blocks are moved.

use crate::Operation;

/// A range of a device that could not be read, written or what else was asked of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} failed: {}", .operation.on(*.offset, *.length), std::io::Error::from_raw_os_error(*.errno))]
pub struct IoError {
    /// What was tried.
    pub operation: Operation,
    /// First byte of the range on the device.
    pub offset: u64,
    /// Length of the range in bytes.
    pub length: u64,
    /// The operating system's number for the reason.
    pub errno: i32,
}

/// Why a device could not be opened. The text says what, why and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The spec names nothing that this build can open.
    #[error("{0}")]
    Spec(String),
    /// Something else has the device, and reading it under that holder would not be safe.
    #[error("{device} is in use: {holder}")]
    Busy {
        /// The device or image.
        device: String,
        /// Who holds it, and what to do.
        holder: String,
    },
    /// The operating system refused.
    #[error("cannot {action} {device}")]
    System {
        /// What was tried, as a verb: "open", "lock".
        action: &'static str,
        /// The device or image.
        device: String,
        /// Why it was refused.
        source: std::io::Error,
    },
}
