//! Leaves of the attribute fork (`xfs_attr_leafblock`): entries sorted by hash from the front, names and small
//! values from the back.

use extents_core::{Error, Result};
use zerocopy::byteorder::big_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::attr::{AttrFlags, Attribute, VALUE_MAX, Value};
use crate::hash_tree::{self, split_info};
use crate::inode::Inode;
use crate::volume::Volume;

const STRUCTURE: &str = "attribute leaf";
const MAGIC_V4: u16 = 0xfbee;
const MAGIC_V5: u16 = 0x3bee;

/// Header behind the block information (`xfs_attr_leaf_hdr`); version 5 adds 4 bytes.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct LeafHeader {
    count: U16,
    usedbytes: U16,
    firstused: U16,
    holes: u8,
    pad1: u8,
    /// The three largest free pieces: base and size of each.
    freemap: [[U16; 2]; 3],
}
const _: () = assert!(size_of::<LeafHeader>() == 20);

/// An attribute's hash and the place of its name (`xfs_attr_leaf_entry`).
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct LeafEntry {
    hashval: U32,
    /// Byte of the block where the name begins.
    nameidx: U16,
    flags: u8,
    pad2: u8,
}
const _: () = assert!(size_of::<LeafEntry>() == 8);

impl LeafEntry {
    pub(super) fn hash(&self) -> u32 {
        self.hashval.get()
    }
}

/// Before a name whose value follows it (`xfs_attr_leaf_name_local`).
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct LocalName {
    valuelen: U16,
    namelen: u8,
}
const _: () = assert!(size_of::<LocalName>() == 3);

/// Before a name whose value lies elsewhere (`xfs_attr_leaf_name_remote`).
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RemoteName {
    valueblk: U32,
    valuelen: U32,
    namelen: u8,
}
const _: () = assert!(size_of::<RemoteName>() == 9);

/// A leaf.
pub(super) struct Leaf<'a> {
    block: &'a [u8],
    entries: &'a [LeafEntry],
}

impl<'a> Leaf<'a> {
    pub(super) fn parse(volume: &Volume, block: &'a [u8]) -> Result<Self> {
        let v5 = volume.geometry().is_v5();
        let (info, rest) = split_info(volume, block, STRUCTURE)?;
        if info.magic.get() != if v5 { MAGIC_V5 } else { MAGIC_V4 } {
            return Err(bad("wrong magic number"));
        }
        let Ok((header, rest)) = LeafHeader::ref_from_prefix(rest) else { return Err(bad("too short")) };
        let entries = rest.get(if v5 { 4 } else { 0 }..).ok_or_else(|| bad("too short"))?;
        let (entries, _) =
            <[LeafEntry]>::ref_from_prefix_with_elems(entries, usize::from(header.count.get()))
                .map_err(|_| bad("more attributes than fit"))?;
        Ok(Self { block, entries })
    }

    /// The entries from the first one with `hash` or a larger one on.
    pub(super) fn at_or_after(&self, hash: u32) -> &'a [LeafEntry] {
        let place = self.entries.partition_point(|entry| entry.hash() < hash);
        self.entries.get(place..).unwrap_or_default()
    }

    /// The attribute that an entry of this leaf stands for.
    pub(super) fn attribute(&self, entry: &LeafEntry) -> Result<Attribute<'a>> {
        let cut_off = || bad("an attribute reaches past the end");
        let flags = AttrFlags::from_bits_retain(entry.flags);
        let place = self.block.get(usize::from(entry.nameidx.get())..).unwrap_or_default();
        if flags.contains(AttrFlags::LOCAL) {
            let (header, rest) = LocalName::ref_from_prefix(place).map_err(|_| cut_off())?;
            let (name, rest) = rest.split_at_checked(usize::from(header.namelen)).ok_or_else(cut_off)?;
            let value = rest.get(..usize::from(header.valuelen.get())).ok_or_else(cut_off)?;
            return Ok(Attribute { flags, name, value: Value::Here(value) });
        }
        let (header, rest) = RemoteName::ref_from_prefix(place).map_err(|_| cut_off())?;
        let name = rest.get(..usize::from(header.namelen)).ok_or_else(cut_off)?;
        let (block, length) = (header.valueblk.get(), header.valuelen.get());
        Ok(Attribute { flags, name, value: Value::Elsewhere { block, length } })
    }
}

/// Checks a leaf once, when it is read.
pub(super) fn verify(volume: &Volume, inode: &Inode, block: &[u8], offset: u64) -> Result<()> {
    let leaf = Leaf::parse(volume, block)?;
    volume.check_self(&hash_tree::self_description(STRUCTURE), block, offset, inode.ino.0)?;
    if !leaf.entries.is_sorted_by_key(LeafEntry::hash) {
        return Err(bad("hashes are not in order"));
    }
    for entry in leaf.entries {
        let attribute = leaf.attribute(entry)?;
        match attribute.value {
            // An unfinished attribute may have lost its value already.
            Value::Elsewhere { length, .. }
                if length > VALUE_MAX && !attribute.flags.contains(AttrFlags::INCOMPLETE) =>
            {
                return Err(bad("a value longer than any can be"));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cold]
fn bad(problem: &'static str) -> Error {
    Error::corrupt(STRUCTURE, problem)
}
