//! The file system without FUSE.
//!
//! [`Homifs`] is one mounted volume. It answers what the kernel asks, in our own types: names and attributes from
//! the volume's reader, file contents from the engine along the file's extent map, our own extended attributes and
//! the hidden directory `.homi`. It keeps no table of inodes: node numbers are inode numbers. What it keeps is the
//! open files, and extent maps in a bounded cache.
#![forbid(unsafe_code)]

mod access;
mod capability;
mod control;
mod door;
mod error;
mod handles;
mod homifs;
mod layout;
mod lease;
mod map_cache;
mod metadata_reader;
mod node;
mod read;
mod special;
mod standing;
mod stats;
mod workers;
mod writing;
mod xattr;

pub use access::Caller;
pub use door::{ClientCounters, Clients, Redeemed};
pub use error::{FsError, Result};
pub use handles::{Caching, Opened};
pub use homifs::{Homifs, Listed, NodeAttributes, Seek, VolumeParts};
pub use layout::{JsonMap, MapContext, flag_names};
pub use lease::{Lease, Leases};
pub use metadata_reader::MetadataReader;
pub use node::{NodeId, Special};
pub use standing::{ServedBy, Standing};
pub use stats::{Op, Stats};

/// An error and what caused it, in one line.
#[must_use]
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text.push_str(": ");
        text.push_str(&source.to_string());
        cause = source.source();
    }
    text
}
pub use writing::{RedeemedForWriting, WritableFile};
