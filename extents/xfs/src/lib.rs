//! XFS volumes of version 4 and 5, read from their on-disk structures.
//!
//! Field names follow `fs/xfs/libxfs/xfs_format.h` of Linux; each module says which structures it reads. All
//! numbers on the volume are big-endian, except the checksums of version 5, which are little-endian.
#![forbid(unsafe_code)]
#![deny(
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

mod attr;
mod checksum;
mod dir;
mod extent_tree;
mod features;
mod file_map;
mod filesystem;
mod fork;
mod geometry;
mod group;
mod group_tree;
mod hash_tree;
mod inode;
mod inode_cluster;
mod inode_tree;
mod log;
mod reference_tree;
mod superblock;
mod symlink;
mod timestamp;
mod usage;
mod volume;

pub use filesystem::Xfs;
pub use log::{LogState, log_state};
pub use volume::OpenOptions;
