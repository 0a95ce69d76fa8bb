//! Group descriptors: where each block group keeps its inodes, and how much of it is free.
//!
//! `struct ext4_group_desc` in `fs/ext4/ext4.h`. Descriptors are verified a block at a time when one of them is
//! first needed, and kept in a compact form from then on.

use std::sync::OnceLock;

use extents_core::{Error, Result, to_u64, to_usize};
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::checksum::crc16;
use crate::features::RoCompat;
use crate::geometry::Geometry;
use crate::layout::view;
use crate::media::Media;
use crate::superblock::join;

#[derive(Debug, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawDescriptor {
    block_bitmap_lo: U32,
    inode_bitmap_lo: U32,
    inode_table_lo: U32,
    free_blocks_lo: U16,
    free_inodes_lo: U16,
    used_dirs_lo: U16,
    flags: U16,
    exclude_bitmap_lo: U32,
    block_bitmap_csum_lo: U16,
    inode_bitmap_csum_lo: U16,
    itable_unused_lo: U16,
    checksum: U16,
}

/// The second half, on `64bit` volumes.
#[derive(Debug, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawDescriptorHigh {
    block_bitmap_hi: U32,
    inode_bitmap_hi: U32,
    inode_table_hi: U32,
    free_blocks_hi: U16,
    free_inodes_hi: U16,
    used_dirs_hi: U16,
    itable_unused_hi: U16,
    exclude_bitmap_hi: U32,
    block_bitmap_csum_hi: U16,
    inode_bitmap_csum_hi: U16,
    reserved: U32,
}

const _: () = assert!(size_of::<RawDescriptor>() == 32 && size_of::<RawDescriptorHigh>() == 32);
const CHECKSUM_AT: usize = std::mem::offset_of!(RawDescriptor, checksum);

/// What is kept of a group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group {
    pub(crate) inode_table: u64,
    pub(crate) block_bitmap: u64,
    pub(crate) inode_bitmap: u64,
    /// In clusters.
    pub(crate) free_clusters: u32,
    pub(crate) free_inodes: u32,
    /// Inodes from the table's beginning that were ever written; what lies behind may be left over from an
    /// earlier file system. All of them where the volume does not keep count.
    pub(crate) written_inodes: u32,
}

/// All groups, each block of descriptors filled in when it is first needed.
#[derive(Debug)]
pub(crate) struct GroupTable {
    blocks: Box<[OnceLock<Box<[Group]>>]>,
    per_block: u64,
}

impl GroupTable {
    /// An empty table. The geometry bounds its size: 8 KiB and less for each TiB of volume as mkfs makes them.
    pub(crate) fn new(geometry: &Geometry) -> Self {
        let per_block = u64::from(geometry.block_size / geometry.descriptor_size);
        let count = to_usize(geometry.groups.div_ceil(per_block));
        Self { blocks: (0..count).map(|_| OnceLock::new()).collect(), per_block }
    }

    /// The group of this number.
    ///
    /// # Errors
    /// `Corrupt` where a descriptor in its block does not match its checksum.
    pub(crate) fn get(&self, group: u64, geometry: &Geometry, media: &Media) -> Result<Group> {
        let index = group / self.per_block;
        let Some(slot) = self.blocks.get(to_usize(index)) else {
            return Err(Error::corrupt("group descriptor", format!("there is no group {group}")));
        };
        let groups = match slot.get() {
            Some(groups) => groups,
            None => {
                let groups = load(index, self.per_block, geometry, media)?;
                slot.get_or_init(|| groups)
            }
        };
        groups
            .get(to_usize(group % self.per_block))
            .copied()
            .ok_or_else(|| Error::corrupt("group descriptor", format!("there is no group {group}")))
    }

    /// Free clusters and free inodes of the whole volume. The superblock's own counts are only brought up to
    /// date at unmount, so the kernel too sums up the groups (`ext4_count_free_clusters`).
    pub(crate) fn free(&self, geometry: &Geometry, media: &Media) -> Result<(u64, u64)> {
        let mut free = (0_u64, 0_u64);
        for number in 0..geometry.groups {
            let group = self.get(number, geometry, media)?;
            free = (free.0 + u64::from(group.free_clusters), free.1 + u64::from(group.free_inodes));
        }
        Ok(free)
    }
}

/// Reads and verifies one block of descriptors.
fn load(index: u64, per_block: u64, geometry: &Geometry, media: &Media) -> Result<Box<[Group]>> {
    let block = geometry.descriptor_block(index);
    let Some(at) = geometry.byte_of(block) else {
        return Err(Error::corrupt("group descriptor", format!("block {block} lies past the volume's end")));
    };
    let bytes = media.read_vec(at, geometry.block_len())?;
    let first = index * per_block;
    let size = to_usize(u64::from(geometry.descriptor_size));
    bytes
        .chunks_exact(size)
        .take(to_usize((geometry.groups - first).min(per_block)))
        .enumerate()
        .map(|(place, descriptor)| {
            let place = to_u64(place);
            parse(first + place, descriptor, geometry).map_err(|error| error.at(at + place * to_u64(size)))
        })
        .collect()
}

fn parse(group: u64, bytes: &[u8], geometry: &Geometry) -> Result<Group> {
    let torn = || Error::corrupt("group descriptor", "it is cut short");
    let low: &RawDescriptor = view(bytes, 0).ok_or_else(torn)?;
    let number = u32::try_from(group).map_err(|_| torn())?;
    if let Some(expected) = expected_checksum(number, bytes, geometry)
        && expected != low.checksum.get()
    {
        return Err(Error::corrupt(
            "group descriptor",
            format!("the checksum of group {group} does not match"),
        ));
    }
    let high: Option<&RawDescriptorHigh> = view(bytes, size_of::<RawDescriptor>());
    let wide = |low: U32, high: Option<U32>| join(low, high.unwrap_or_default());
    let count = |low: U16, high: Option<U16>| {
        u32::from(low.get()) | (high.map_or(0, |high| u32::from(high.get())) << 16)
    };
    let found = Group {
        inode_table: wide(low.inode_table_lo, high.map(|high| high.inode_table_hi)),
        block_bitmap: wide(low.block_bitmap_lo, high.map(|high| high.block_bitmap_hi)),
        inode_bitmap: wide(low.inode_bitmap_lo, high.map(|high| high.inode_bitmap_hi)),
        free_clusters: count(low.free_blocks_lo, high.map(|high| high.free_blocks_hi)),
        free_inodes: count(low.free_inodes_lo, high.map(|high| high.free_inodes_hi)),
        written_inodes: written_inodes(low, high, geometry),
    };
    let table_bytes = geometry.inodes_per_group * u64::from(geometry.inode_size);
    let table_blocks = table_bytes.div_ceil(u64::from(geometry.block_size));
    let end = found.inode_table.checked_add(table_blocks);
    if found.inode_table <= geometry.first_data_block || end.is_none_or(|end| end > geometry.blocks) {
        return Err(Error::corrupt(
            "group descriptor",
            format!(
                "the inode table of group {group} at block {} lies outside the volume",
                found.inode_table
            ),
        ));
    }
    Ok(found)
}

fn written_inodes(low: &RawDescriptor, high: Option<&RawDescriptorHigh>, geometry: &Geometry) -> u32 {
    const INODE_UNINIT: u16 = 0x1;
    let all = u32::try_from(geometry.inodes_per_group).unwrap_or(u32::MAX);
    if !geometry.checksums && !geometry.features.ro_compat.contains(RoCompat::GDT_CSUM) {
        return all;
    }
    if low.flags.get() & INODE_UNINIT != 0 {
        return 0;
    }
    let unused = u32::from(low.itable_unused_lo.get())
        | (high.map_or(0, |high| u32::from(high.itable_unused_hi.get())) << 16);
    all.saturating_sub(unused)
}

/// What the checksum must be (`ext4_group_desc_csum`); `None` where the volume keeps none.
fn expected_checksum(group: u32, bytes: &[u8], geometry: &Geometry) -> Option<u16> {
    let group = group.to_le_bytes();
    let (before, after) = (bytes.get(..CHECKSUM_AT)?, bytes.get(CHECKSUM_AT + 2..)?);
    if geometry.checksums {
        return Some(geometry.checksum_seed.over(&group).over(before).over(&[0; 2]).over(after).low());
    }
    geometry.features.ro_compat.contains(RoCompat::GDT_CSUM).then(|| {
        let start = crc16(crc16(u16::MAX, &geometry.uuid), &group);
        crc16(crc16(start, before), after)
    })
}
