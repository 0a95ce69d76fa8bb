//! Leaves: for each name its hash and where it is (`xfs_dir2_leaf`).
//!
//! A directory with one leaf (LEAF1) has in it, behind the hashes, the largest free piece of each data block;
//! one with several (LEAFN) keeps those in blocks of their own.

use extents_core::{Error, Result, to_u64, to_usize};
use zerocopy::byteorder::big_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::hash_tree::{self, split_info};
use crate::inode::Inode;
use crate::volume::Volume;

const STRUCTURE: &str = "directory leaf";
const SINGLE_V4: u16 = 0xd2f1;
const SINGLE_V5: u16 = 0x3df1;
const MANY_V4: u16 = 0xd2ff;
const MANY_V5: u16 = 0x3dff;

/// A name's hash and place (`xfs_dir2_leaf_entry`).
#[derive(Debug, Clone, Copy, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct LeafEntry {
    pub(super) hashval: U32,
    /// Byte of the directory's data where the entry begins, in units of 8; 0 where the name was removed.
    pub(super) address: U32,
}
const _: () = assert!(size_of::<LeafEntry>() == 8);

impl LeafEntry {
    /// Byte of the directory's data where the entry begins; `None` where the name was removed.
    pub(super) fn byte(&self) -> Option<u64> {
        Some(u64::from(self.address.get()) * 8).filter(|&byte| byte != 0)
    }
}

/// Header behind the block information (`xfs_dir2_leaf_hdr`); version 5 pads it to 8 bytes.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct LeafHeader {
    count: U16,
    stale: U16,
}
const _: () = assert!(size_of::<LeafHeader>() == 4);

/// The entries of a leaf.
#[derive(Clone, Copy)]
pub(super) struct LeafBlock<'a> {
    pub(super) entries: &'a [LeafEntry],
    /// Whether this is the only leaf of its directory.
    pub(super) single: bool,
    stale: u16,
}

impl<'a> LeafBlock<'a> {
    pub(super) fn parse(volume: &Volume, block: &'a [u8]) -> Result<Self> {
        let v5 = volume.geometry().is_v5();
        let (info, rest) = split_info(volume, block, STRUCTURE)?;
        let (single, many) = if v5 { (SINGLE_V5, MANY_V5) } else { (SINGLE_V4, MANY_V4) };
        let single = match info.magic.get() {
            magic if magic == single => true,
            magic if magic == many => false,
            _ => return Err(bad("wrong magic number")),
        };
        let Ok((header, rest)) = LeafHeader::ref_from_prefix(rest) else { return Err(bad("too short")) };
        let entries = rest.get(if v5 { 4 } else { 0 }..).ok_or_else(|| bad("too short"))?;
        let entries = if single { before_bests(entries)? } else { entries };
        let count = usize::from(header.count.get());
        let (entries, _) = <[LeafEntry]>::ref_from_prefix_with_elems(entries, count)
            .map_err(|_| bad("more hashes than fit"))?;
        Ok(Self { entries, single, stale: header.stale.get() })
    }
}

/// What stands before the sizes of free pieces, and their count, at the end of a single leaf.
fn before_bests(entries: &[u8]) -> Result<&[u8]> {
    let Ok((rest, count)) = U32::ref_from_suffix(entries) else { return Err(bad("too short")) };
    to_usize(u64::from(count.get()))
        .checked_mul(2)
        .and_then(|bests| rest.len().checked_sub(bests))
        .and_then(|length| rest.get(..length))
        .ok_or_else(|| bad("more free pieces than fit"))
}

/// Checks a leaf once, when it is read.
pub(super) fn verify(volume: &Volume, dir: &Inode, block: &[u8], offset: u64) -> Result<()> {
    let leaf = LeafBlock::parse(volume, block)?;
    volume.check_self(&hash_tree::self_description(STRUCTURE), block, offset, dir.ino.0)?;
    check_order(leaf.entries, u64::from(leaf.stale))
}

/// Checks that hashes ascend, so that they can be searched, and that as many are out of use as counted.
pub(super) fn check_order(entries: &[LeafEntry], stale: u64) -> Result<()> {
    if !entries.is_sorted_by_key(|entry| entry.hashval.get()) {
        return Err(bad("hashes are not in order"));
    }
    if to_u64(entries.iter().filter(|entry| entry.byte().is_none()).count()) != stale {
        return Err(bad("wrong count of removed names"));
    }
    Ok(())
}

/// The entries from the first one with `hash` or a larger one on.
pub(super) fn at_or_after(entries: &[LeafEntry], hash: u32) -> &[LeafEntry] {
    let place = entries.partition_point(|entry| entry.hashval.get() < hash);
    entries.get(place..).unwrap_or_default()
}

#[cold]
fn bad(problem: &'static str) -> Error {
    Error::corrupt(STRUCTURE, problem)
}
