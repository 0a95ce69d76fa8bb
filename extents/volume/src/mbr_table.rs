//! MBR partition tables, and the chain of extended boot records that holds logical partitions.
//!
//! The crates for this that we looked at (mbrman 0.6, gpt's own) add block numbers of the table without a check and
//! follow the chain as far as it goes, so this one is ours. Logical partitions are counted as Linux does
//! (`block/partitions/msdos.c`): from 5 on, in the order of the chain, empty ones left out.

use extents_core::{BlockRead, ReadError};
use zerocopy::byteorder::little_endian::U32;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::contents::{self, Contents};
use crate::partition::{Partition, PartitionTable, Scheme};
use crate::partition_types;

/// More extended boot records than this are not followed; Linux gives up after 100 without a partition.
const CHAIN_MAX: u32 = 128;
/// The type that marks a disk as GPT for programs that know only MBR.
const PROTECTIVE: u8 = 0xee;

/// One of the four entries in a boot record.
#[derive(Debug, Clone, Copy, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Entry {
    boot: u8,
    first_chs: [u8; 3],
    kind: u8,
    last_chs: [u8; 3],
    start: U32,
    sectors: U32,
}

/// The boot record: 446 bytes of code, four entries, 55 AA.
#[derive(Debug, Clone, Copy, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct BootRecord {
    code: [u8; 446],
    entries: [Entry; 4],
    signature: [u8; 2],
}

const _: () = assert!(size_of::<Entry>() == 16 && size_of::<BootRecord>() == 512);

impl Entry {
    fn is_used(&self) -> bool {
        self.kind != 0 && self.sectors.get() != 0
    }

    /// 05 with CHS addresses, 0F with LBA, 85 of Linux.
    fn is_extended(&self) -> bool {
        matches!(self.kind, 0x05 | 0x0f | 0x85) && self.sectors.get() != 0
    }
}

/// What the first sector says.
#[derive(Debug)]
pub(crate) enum Mbr {
    /// No boot record, or the boot sector of a file system, which looks like one.
    None,
    /// The record that protects a GPT.
    Protective,
    /// A table.
    Table(PartitionTable),
}

/// Reads the table, whose numbers count sectors of `sector_size` bytes.
pub(crate) fn read<R: BlockRead + ?Sized>(device: &R, sector_size: u32) -> Result<Mbr, ReadError> {
    let Some(record) = boot_record(device, 0)? else { return Ok(Mbr::None) };
    if record.entries.iter().any(|entry| entry.kind == PROTECTIVE) {
        return Ok(Mbr::Protective);
    }
    let sane = record.entries.iter().all(|entry| entry.boot & 0x7f == 0);
    let used = record.entries.iter().any(|entry| entry.is_used() && entry.start.get() != 0);
    if !sane || !used || boots_a_file_system(device)? {
        return Ok(Mbr::None);
    }
    let mut partitions = Vec::new();
    for (number, entry) in (1..).zip(&record.entries) {
        if entry.is_used() {
            partitions.push(partition(number, u64::from(entry.start.get()), entry, sector_size));
        }
    }
    let mut number = 5;
    for entry in record.entries.iter().filter(|entry| entry.is_extended()) {
        logical(device, entry, sector_size, &mut number, &mut partitions)?;
    }
    Ok(Mbr::Table(PartitionTable { scheme: Scheme::Mbr, sector_size, partitions, damage: None }))
}

/// Follows the chain of boot records within one extended partition.
fn logical<R: BlockRead + ?Sized>(
    device: &R,
    extended: &Entry,
    sector_size: u32,
    number: &mut u32,
    partitions: &mut Vec<Partition>,
) -> Result<(), ReadError> {
    let first = u64::from(extended.start.get());
    let mut here = first;
    for _ in 0..CHAIN_MAX {
        let at = here.saturating_mul(u64::from(sector_size));
        let Some(record) = boot_record(device, at)? else { return Ok(()) };
        // The first two entries are what is there and where the next record is; further ones are not for us.
        let [one, two, ..] = &record.entries;
        for entry in [one, two] {
            if entry.is_used() && !entry.is_extended() {
                partitions.push(partition(*number, here + u64::from(entry.start.get()), entry, sector_size));
                *number += 1;
            }
        }
        let Some(next) = [one, two].into_iter().find(|entry| entry.is_extended()) else { return Ok(()) };
        here = first + u64::from(next.start.get());
    }
    tracing::warn!(CHAIN_MAX, "the chain of extended boot records goes on; the rest of it is left out");
    Ok(())
}

fn partition(number: u32, start: u64, entry: &Entry, sector_size: u32) -> Partition {
    // Neither overflows: both counts have at most 33 bits, a sector 13.
    Partition {
        number,
        start: start * u64::from(sector_size),
        size: u64::from(entry.sectors.get()) * u64::from(sector_size),
        kind: partition_types::of_byte(entry.kind),
        name: String::new(),
        contents: Contents::Unknown,
    }
}

fn boot_record<R: BlockRead + ?Sized>(device: &R, at: u64) -> Result<Option<BootRecord>, ReadError> {
    let mut sector = [0; 512];
    if at.checked_add(512).is_none_or(|end| end > device.size()) {
        return Ok(None);
    }
    device.read_at(at, &mut sector)?;
    let record = BootRecord::read_from_bytes(&sector).ok();
    Ok(record.filter(|record| record.signature == [0x55, 0xaa]))
}

/// Boot sectors of FAT and NTFS end in 55 AA too, and have code or text where the entries would be.
fn boots_a_file_system<R: BlockRead + ?Sized>(device: &R) -> Result<bool, ReadError> {
    let mut sector = [0; 512];
    device.read_at(0, &mut sector)?;
    Ok(contents::other(&sector).is_some_and(|known| matches!(known.name, "vfat" | "ntfs" | "exfat")))
}
