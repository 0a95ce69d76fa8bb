//! Dataset snapshots: one walk over a tree, then one arena that any process maps and any accelerator walks.
//!
//! [`Snapshot::take`] walks a tree of a volume and keeps what [`homi_abi::snapshot`] lays down of each regular file:
//! the hash of its path, inode, generation, size and extents. [`Snapshot::write_to`] writes the arena,
//! [`Snapshot::into_memfd`] makes a descriptor to hand out, sealed so that nobody ever changes it.
//!
//! A file takes 64 bytes, 32 for each extent, its path and a NUL, and 4 to 8 bytes of the index: some 160 bytes for a
//! file of one extent. While the arena is written there is, beside it, never more than the part that is not yet written
//! and the section that is being written.
#![forbid(unsafe_code)]
#![deny(
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

mod arena;
mod collect;
mod error;
mod memfd;
mod walk;

pub use arena::Snapshot;
pub use error::SnapshotError;
pub use memfd::Sealed;
pub use walk::{Counts, Limits, Request};
