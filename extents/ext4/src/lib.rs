//! ext2, ext3 and ext4 volumes, read from their on-disk structures.
#![forbid(unsafe_code)]
#![deny(
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

mod dirhash;
mod nokey;
