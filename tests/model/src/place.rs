//! The files that all processes of a round work on, and what may be done to each.

use std::path::{Path, PathBuf};

/// Longest that a file becomes on purpose.
pub(crate) const MOST: u64 = 256 << 10;

/// The attribute that says which file this is.
pub(crate) const IDENTITY: &std::ffi::CStr = c"user.model";

/// What may be done to a file. The kernel promises nothing of one that is written by mappings and past the page cache at the
/// same time, nor of one that is cut under a mapping that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Written through the page cache, appended to, cut, punched.
    Plain,
    /// Written past the page cache as well.
    Direct,
    /// Written by mappings as well, and never cut shorter.
    Mapped,
    /// As plain, and copied into from others, which nobody copies from.
    Copy,
}

impl Kind {
    /// Of the file with this name.
    #[must_use]
    pub(crate) fn of_name(name: u32) -> Self {
        match name % 4 {
            0 => Self::Plain,
            1 => Self::Copy,
            2 => Self::Mapped,
            _ => Self::Direct,
        }
    }
}

/// Where name number `name` is.
#[must_use]
pub(crate) fn path(root: &Path, name: u32) -> PathBuf {
    root.join(format!("name{name}"))
}
