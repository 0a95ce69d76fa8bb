//! GUID partition tables (UEFI specification 2.10, section 5.3).

use extents_core::BlockRead;
use gpt::disk::LogicalBlockSize;
use gpt::{GptConfig, GptDisk};

use crate::contents::Contents;
use crate::guarded::Guarded;
use crate::partition::{Partition, PartitionTable, Scheme};
use crate::partition_types;

/// The table for this size of sectors, from the primary header or else the one at the end of the device.
pub(crate) fn read<R: BlockRead + ?Sized>(device: &R, sector_size: u32) -> Option<PartitionTable> {
    let block = LogicalBlockSize::try_from(u64::from(sector_size)).ok()?;
    let open = |hidden| {
        let config = GptConfig::new().writable(false).only_valid_headers(false).logical_block_size(block);
        config.open_from_device(Guarded::new(device, hidden))
    };
    // Where the primary header is good but its entries are not, the crate does not look at the backup.
    let disk = open(None).or_else(|_| open(Some(u64::from(sector_size)))).ok()?;
    let partitions = disk.partitions().iter().filter_map(|(&number, entry)| {
        let start = entry.bytes_start(block).ok()?;
        let size = entry.bytes_len(block).ok()?;
        entry.is_used().then(|| Partition {
            number,
            start,
            size,
            kind: partition_types::of_guid(&entry.part_type_guid.guid.to_string()),
            name: entry.name.clone(),
            contents: Contents::Unknown,
        })
    });
    let partitions = partitions.collect();
    Some(PartitionTable { scheme: Scheme::Gpt, sector_size, partitions, damage: damage(&disk) })
}

fn damage<D>(disk: &GptDisk<D>) -> Option<&'static str> {
    match (disk.primary_header(), disk.backup_header()) {
        (Err(_), _) => {
            Some("the primary GPT header is damaged; its backup was used (repair it with sfdisk or sgdisk)")
        }
        (_, Err(_)) => Some("the backup GPT header at the end of the device is missing or damaged"),
        _ => None,
    }
}
