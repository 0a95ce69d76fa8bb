//! The state of the log.
