//! Finds the volume on a device.
//!
//! [`open`] takes a device, looks whether a volume begins at its first byte, at a given byte or in a given
//! partition (GPT, MBR with logical partitions), and opens it with the reader of its format. Where there is none, the
//! error tells what is there instead.
//!
//! Partition tables are as hostile as volumes: reading one touches a bounded part of the device, whatever it says.
#![forbid(unsafe_code)]
#![deny(
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

mod contents;
mod error;
mod gpt_table;
mod guarded;
mod mbr_table;
mod partition;
mod partition_types;
mod volume;

pub use contents::{Contents, Known, contents};
pub use error::{OpenVolumeError, Place};
pub use partition::{Partition, PartitionTable, Scheme, partition_table};
pub use volume::{Format, OpenVolume, VolumeOptions, open};
