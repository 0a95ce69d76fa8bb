//! What both on-disk formats share.
//!
//! A format crate (`extents-ext4`, `extents-xfs`) takes a [`BlockRead`] and gives a [`FileSystem`]: inodes,
//! names, attributes and above all the [`ExtentMap`] of each file. Nothing here does I/O of its own, nothing
//! holds global state, and everything is `Send + Sync`.
//!
//! Everything read from a volume is hostile. Code in this room answers damaged or invented structures with
//! [`Error::Corrupt`], never with a panic, an endless loop, or an allocation whose size the volume chose.
#![forbid(unsafe_code)]
#![deny(
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

mod cache;
mod error;
mod filesystem;
mod map;
mod metadata;
mod overlay;
mod read;
mod units;
mod volume_info;

pub use cache::{BlockCache, CacheKey};
pub use error::{Corruption, Error, Result};
pub use filesystem::{DirEntry, FileSystem, Flow, SpaceUsage, Xattr, XattrNamespace};
pub use map::{Extent, ExtentFlags, ExtentMap, ExtentMapBuilder, MapCursor, Run};
pub use metadata::{DeviceNumber, FileType, InodeFlags, Metadata, Timestamp};
pub use overlay::Overlay;
pub use read::{BlockRead, MemoryDevice, ReadError, Window};
pub use units::{FileBlock, FsBlock, Ino, to_u64, to_usize};
pub use volume_info::{Feature, FeatureClass, VolumeInfo};
