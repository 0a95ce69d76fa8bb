//! ext2, ext3 and ext4 volumes, read from their on-disk structures.
//!
//! [`Ext4`] is a [`FileSystem`](extents_core::FileSystem) over any [`BlockRead`](extents_core::BlockRead). The
//! format's features, how each structure is laid out and what its checksum covers, follow the kernel's `fs/ext4`;
//! where a volume contradicts itself the answer is an error that says where.
#![forbid(unsafe_code)]
#![deny(
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

mod acl;
mod block_map;
mod checksum;
mod contents;
mod describe;
mod dir_block;
mod directory;
mod dirhash;
mod extent_tree;
mod fast_commit;
mod features;
mod geometry;
mod groups;
mod htree;
mod inode;
mod inode_table;
mod layout;
mod media;
mod mmp;
mod nokey;
mod recovery;
mod sought;
mod superblock;
mod symlink;
mod usage;
mod volume;
mod xattr;

pub use volume::{Ext4, OpenOptions};
