//! Headers of allocation groups: `xfs_agf` (space) and `xfs_agi` (inodes). Read when first needed.

use extents_core::{Error, FsBlock, Result};
use zerocopy::byteorder::big_endian::U32;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::checksum::crc_matches;
use crate::group_tree::Root;
use crate::volume::{BlockKind, Volume};

/// `struct xfs_agf`: sector 1 of a group.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawSpace {
    agf_magicnum: [u8; 4],
    agf_versionnum: U32,
    agf_seqno: U32,
    agf_length: U32,
    agf_roots: [U32; 3],
    agf_levels: [U32; 3],
    agf_flfirst: U32,
    agf_fllast: U32,
    agf_flcount: U32,
    agf_freeblks: U32,
    agf_longest: U32,
    agf_btreeblks: U32,
    agf_uuid: [u8; 16],
    agf_rmap_blocks: U32,
    agf_refcount_blocks: U32,
    agf_refcount_root: U32,
    agf_refcount_level: U32,
}
const _: () = assert!(size_of::<RawSpace>() == 96);
const SPACE_CRC: usize = 216;

/// `struct xfs_agi`: sector 2 of a group.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawInodes {
    agi_magicnum: [u8; 4],
    agi_versionnum: U32,
    agi_seqno: U32,
    agi_length: U32,
    agi_count: U32,
    agi_root: U32,
    agi_level: U32,
    agi_freecount: U32,
    agi_newino: U32,
    agi_dirino: U32,
    agi_unlinked: [U32; 64],
    agi_uuid: [u8; 16],
}
const _: () = assert!(size_of::<RawInodes>() == 312);
const INODES_CRC: usize = 312;

/// What a group says about its space.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GroupSpace {
    /// Free blocks: in the free-space B-trees, kept for them, and taken by them beyond their roots, which is what
    /// the kernel counts as free (`xfs_initialize_perag_data`).
    pub(crate) free: u64,
    /// Those of them that the free-space B-trees have taken beyond their roots (`m_allocbt_blks`).
    pub(crate) in_free_trees: u64,
    pub(crate) reference_tree: Root,
}

/// What a group says about its inodes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GroupInodes {
    pub(crate) count: u32,
    pub(crate) free: u32,
    pub(crate) tree: Root,
}

const SPACE: &str = "allocation group header AGF";
const INODES: &str = "allocation group header AGI";

/// The AGF of a group.
pub(crate) fn space(volume: &Volume, group: u32) -> Result<GroupSpace> {
    let sector = header(volume, group, 1, BlockKind::GroupSpace, |sector| {
        let Ok((raw, _)) = RawSpace::ref_from_prefix(sector) else { return Some("too short") };
        let known = raw.agf_magicnum == *b"XAGF" && raw.agf_versionnum.get() == 1;
        problem(volume, sector, known, raw.agf_seqno.get() == group, &raw.agf_uuid, SPACE_CRC)
    })
    .map_err(named(SPACE))?;
    let Ok((raw, _)) = RawSpace::ref_from_prefix(&sector) else {
        return Err(Error::corrupt(SPACE, "too short"));
    };
    Ok(GroupSpace {
        free: [&raw.agf_freeblks, &raw.agf_flcount, &raw.agf_btreeblks]
            .iter()
            .map(|count| u64::from(count.get()))
            .sum(),
        // The reverse map's tree is counted with them; 0 where there is none.
        in_free_trees: u64::from(raw.agf_btreeblks.get())
            .saturating_sub(u64::from(raw.agf_rmap_blocks.get()).saturating_sub(1)),
        reference_tree: Root { block: raw.agf_refcount_root.get(), levels: raw.agf_refcount_level.get() },
    })
}

/// The AGI of a group.
pub(crate) fn inodes(volume: &Volume, group: u32) -> Result<GroupInodes> {
    let sector = header(volume, group, 2, BlockKind::GroupInodes, |sector| {
        let Ok((raw, _)) = RawInodes::ref_from_prefix(sector) else { return Some("too short") };
        let known = raw.agi_magicnum == *b"XAGI" && raw.agi_versionnum.get() == 1;
        problem(volume, sector, known, raw.agi_seqno.get() == group, &raw.agi_uuid, INODES_CRC)
    })
    .map_err(named(INODES))?;
    let Ok((raw, _)) = RawInodes::ref_from_prefix(&sector) else {
        return Err(Error::corrupt(INODES, "too short"));
    };
    Ok(GroupInodes {
        count: raw.agi_count.get(),
        free: raw.agi_freecount.get(),
        tree: Root { block: raw.agi_root.get(), levels: raw.agi_level.get() },
    })
}

fn problem(
    volume: &Volume,
    sector: &[u8],
    known: bool,
    in_place: bool,
    uuid: &[u8; 16],
    crc: usize,
) -> Option<&'static str> {
    let geometry = volume.geometry();
    if !known {
        Some("wrong magic number or version")
    } else if geometry.is_v5() && !crc_matches(sector, crc) {
        Some("wrong checksum")
    } else if geometry.is_v5() && *uuid != geometry.meta_uuid {
        Some("it belongs to another volume")
    } else if !in_place {
        Some("it belongs to another group")
    } else {
        None
    }
}

fn named(structure: &'static str) -> impl FnOnce(Error) -> Error {
    move |mut error| {
        if let Error::Corrupt(corruption) = &mut error {
            corruption.structure = structure;
        }
        error
    }
}

/// The sector of this place in a group.
fn header(
    volume: &Volume,
    group: u32,
    sector: u64,
    kind: BlockKind,
    problem: impl FnOnce(&[u8]) -> Option<&'static str>,
) -> Result<std::sync::Arc<[u8]>> {
    let geometry = volume.geometry();
    let outside = || Error::corrupt("allocation group header", "lies outside the volume");
    let start: FsBlock = geometry.group_block(group, 0).ok_or_else(outside)?;
    let start = start.to_bytes(geometry.block_size).ok_or_else(outside)?;
    let offset = start.checked_add(sector * u64::from(geometry.sector_size)).ok_or_else(outside)?;
    volume.read_bytes_verified(offset, geometry.sector_size, kind, |bytes| match problem(bytes) {
        None => Ok(()),
        Some(problem) => Err(Error::corrupt("allocation group header", problem).at(offset)),
    })
}
