//! Why there is no volume to open.

use extents_core::{Error, ReadError};

use crate::contents::Contents;
use crate::partition::{PartitionTable, Scheme};

/// Why no volume could be opened. The text goes on a sentence about the device: what, why, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenVolumeError {
    /// The device did not deliver.
    #[error("it cannot be read")]
    Read(#[from] ReadError),
    /// There is a partition table, and no partition was chosen.
    #[error("it has a {} partition table, not a volume: choose a partition with -o partition=N, of {}", .0.scheme, .0.summary())]
    ChoosePartition(Box<PartitionTable>),
    /// A partition was chosen, and there are none.
    #[error("it has no partition table, so there is no partition {number}: it holds {found}{}", hint(*found))]
    NoTable {
        /// The partition that was asked for.
        number: u32,
        /// What is there.
        found: Contents,
    },
    /// There is no partition of this number.
    #[error("it has no partition {number}: its {} table has {}", .table.scheme, listed(.table))]
    NoSuchPartition {
        /// The partition that was asked for.
        number: u32,
        /// What is there.
        table: Box<PartitionTable>,
    },
    /// The table promises more than the device has.
    #[error(
        "partition {number} of its {scheme} table lies at bytes {start} to {end}, past the end of the device ({size} bytes): \
         the device or image was cut short"
    )]
    PartitionOutside {
        /// The partition.
        number: u32,
        /// The scheme of the table.
        scheme: Scheme,
        /// Its first byte.
        start: u64,
        /// The byte after its last one.
        end: u64,
        /// Size of the device in bytes.
        size: u64,
    },
    /// The volume would begin past the end of the device.
    #[error("it ends at byte {size}, so no volume begins at byte {offset}: give another offset")]
    OffsetOutside {
        /// Where the volume was said to begin.
        offset: u64,
        /// Size of the device in bytes.
        size: u64,
    },
    /// Something else is there.
    #[error("no ext2, ext3, ext4 or XFS volume begins {place}: it holds {found}{}", hint(*found))]
    NotAVolume {
        /// Where was looked.
        place: Place,
        /// What is there.
        found: Contents,
    },
    /// A format was insisted on, and it is not this.
    #[error("no {wanted} volume begins {place}: it holds {found}")]
    NotThisFormat {
        /// The format.
        wanted: &'static str,
        /// Where was looked.
        place: Place,
        /// What is there.
        found: Contents,
    },
    /// The volume itself cannot be opened.
    #[error("its {format} volume cannot be opened")]
    Volume {
        /// The format.
        format: &'static str,
        /// Why.
        source: Error,
    },
}

impl OpenVolumeError {
    /// The partition table that was found, where a partition is to be chosen from it.
    #[must_use]
    pub fn table(&self) -> Option<&PartitionTable> {
        match self {
            Self::ChoosePartition(table) | Self::NoSuchPartition { table, .. } => Some(table),
            _ => None,
        }
    }
}

/// Where a volume was looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// At the first byte.
    Beginning,
    /// In a partition.
    Partition(u32),
    /// At a byte.
    Byte(u64),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Beginning => f.write_str("at its first byte"),
            Self::Partition(number) => write!(f, "in its partition {number}"),
            Self::Byte(offset) => write!(f, "at its byte {offset}"),
        }
    }
}

fn hint(found: Contents) -> String {
    match found.advice() {
        "" => String::new(),
        advice => format!("; {advice}"),
    }
}

fn listed(table: &PartitionTable) -> String {
    if table.partitions.is_empty() { "none".to_owned() } else { table.summary() }
}
