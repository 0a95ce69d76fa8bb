//! The journal of ext3 and ext4 (jbd2), recovered in memory.
//!
//! The rules are those of the kernel's `fs/jbd2/recovery.c`: a first pass finds where the log ends, a second
//! collects what was revoked, a third takes the newest contents of every block that was not. What the kernel
//! would then write to the volume becomes an [`Overlay`](extents_core::Overlay); nothing is written anywhere.
//!
//! [`Journal::open`] reads the journal's superblock, [`Journal::recover`] does the rest. The journal's blocks come
//! from a function of the caller's, since they lie in an inode or on a device of their own.
#![forbid(unsafe_code)]
#![deny(
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

mod checksum;
mod header;
mod recovery;
mod revoke;
mod scan;
mod superblock;
mod tags;

pub use recovery::{FastCommitArea, Recovered};
pub use superblock::{Features, Journal, Place};
