//! What can go wrong when blocks are moved.

/// A range of a device that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("reading {length} bytes at byte {offset} of the device failed: {}", std::io::Error::from_raw_os_error(*.errno))]
pub struct IoError {
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
