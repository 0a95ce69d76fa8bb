//! The state of the log.

use extents_core::Result;

use crate::volume::Volume;

/// Whether the log holds anything newer than what is on the disk.
pub(crate) enum LogState {
    /// It does not.
    Clean,
    /// It does, for this reason.
    #[allow(dead_code, reason = "the log is not read yet")]
    Dirty {
        /// One sentence for a person.
        why: String,
    },
}

/// Not looked at yet: taken as clean.
pub(crate) fn state(_: &Volume) -> Result<LogState> {
    Ok(LogState::Clean)
}
