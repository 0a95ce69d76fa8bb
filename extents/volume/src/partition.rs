//! Partition tables of either scheme.

use std::fmt;
use std::fmt::Write as _;

use extents_core::{BlockRead, ReadError, Window};

use crate::contents::{Contents, contents};
use crate::mbr_table::Mbr;
use crate::{gpt_table, mbr_table};

/// More partitions than this are listed without a look at what they hold.
const LOOKED_INTO: usize = 128;

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its number, as the kernel and sfdisk count.
    pub number: u32,
    /// First byte on the device.
    pub start: u64,
    /// Size in bytes.
    pub size: u64,
    /// What the table says it is for.
    pub kind: String,
    /// Its name in a GPT; empty elsewhere.
    pub name: String,
    /// What it holds, by a look into it.
    pub contents: Contents,
}

/// The scheme of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// GUID partition table.
    Gpt,
    /// Master boot record.
    Mbr,
}

/// The partitions of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionTable {
    /// How they are written down.
    pub scheme: Scheme,
    /// The sectors that the table counts, in bytes.
    pub sector_size: u32,
    /// The partitions by number.
    pub partitions: Vec<Partition>,
    /// What is wrong with the table, for a person.
    pub damage: Option<&'static str>,
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gpt => "GPT",
            Self::Mbr => "MBR",
        })
    }
}

impl PartitionTable {
    /// The partition with this number.
    #[must_use]
    pub fn get(&self, number: u32) -> Option<&Partition> {
        self.partitions.iter().find(|partition| partition.number == number)
    }

    /// The partitions in few words: `1 (vfat), 2 (ext4, "root")`.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut text = String::new();
        for (place, partition) in self.partitions.iter().enumerate() {
            if place == 8 {
                let _ = write!(text, " and {} more", self.partitions.len().saturating_sub(place));
                break;
            }
            let separator = if place == 0 { "" } else { ", " };
            let holds = match partition.contents {
                Contents::Unknown | Contents::Empty => &*partition.kind,
                known => known.name(),
            };
            let _ = write!(text, "{separator}{} ({holds}", partition.number);
            if !partition.name.is_empty() {
                let _ = write!(text, ", {:?}", partition.name);
            }
            text.push(')');
        }
        text
    }
}

/// The partition table of a device; `None` where it has none. `sector_size` is what the device itself counts in,
/// where that is known; tables of images may count in 512 or 4096 bytes, whichever makes sense of them.
///
/// # Errors
/// Where the device cannot be read.
pub fn partition_table<R: BlockRead + ?Sized>(
    device: &R,
    sector_size: Option<u32>,
) -> Result<Option<PartitionTable>, ReadError> {
    let first = sector_size.filter(|size| matches!(size, 512 | 4096)).unwrap_or(512);
    let sizes = [first, if first == 512 { 4096 } else { 512 }];
    // A table made after a GPT leaves its header in place; only the protective record makes it count, or no record.
    let mbr = match mbr_table::read(device, first)? {
        Mbr::Table(table) => Some(table),
        Mbr::Protective | Mbr::None => {
            let mut found = sizes.into_iter().find_map(|size| gpt_table::read(device, size));
            if let Some(table) = &mut found {
                look_into(device, table);
            }
            return Ok(found);
        }
    };
    // Nothing in an MBR tells its sectors' size. The one where volumes are found is right.
    let mut best = None;
    for table in mbr.into_iter().map(Ok).chain(other_size(device, sizes)) {
        let mut table: PartitionTable = table?;
        look_into(device, &mut table);
        let makes_sense = table.partitions.iter().any(|partition| {
            matches!(partition.contents, Contents::Ext4 | Contents::Xfs | Contents::Known(_))
        });
        if makes_sense {
            return Ok(Some(table));
        }
        best.get_or_insert(table);
    }
    Ok(best)
}

fn other_size<R: BlockRead + ?Sized>(
    device: &R,
    [_, size]: [u32; 2],
) -> Option<Result<PartitionTable, ReadError>> {
    match mbr_table::read(device, size) {
        Ok(Mbr::Table(table)) => Some(Ok(table)),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    }
}

fn look_into<R: BlockRead + ?Sized>(device: &R, table: &mut PartitionTable) {
    for partition in table.partitions.iter_mut().take(LOOKED_INTO) {
        if let Some(window) = Window::new(Borrowed(device), partition.start, partition.size) {
            partition.contents = contents(&window).unwrap_or(Contents::Unknown);
        }
    }
}

/// A device that is lent to a window.
struct Borrowed<'a, R: ?Sized>(&'a R);

impl<R: BlockRead + ?Sized> BlockRead for Borrowed<'_, R> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        self.0.read_at(offset, buf)
    }

    fn size(&self) -> u64 {
        self.0.size()
    }
}
