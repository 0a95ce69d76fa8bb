//! Values that lie in blocks of their own. On version 5 each of these blocks has a header
//! (`xfs_attr3_rmt_hdr`), on version 4 there are only the value's bytes.

use extents_core::{Error, FileBlock, Result, to_u64, to_usize};
use zerocopy::byteorder::big_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::attr::VALUE_MAX;
use crate::checksum::SelfDescription;
use crate::fork::{Fork, read_fork_blocks};
use crate::inode::Inode;
use crate::volume::{BlockKind, Volume};

const STRUCTURE: &str = "attribute value";
const MAGIC: u32 = u32::from_be_bytes(*b"XARM");
const DESCRIPTION: SelfDescription =
    SelfDescription { structure: STRUCTURE, crc: 12, blkno: 40, uuid: 16, owner: 32, owner_bytes: 8 };

#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    rm_magic: U32,
    /// Where in the value this block's part begins.
    rm_offset: U32,
    /// Length of that part.
    rm_bytes: U32,
    rm_crc: U32,
    rm_uuid: [u8; 16],
    rm_owner: U64,
    rm_blkno: U64,
    rm_lsn: U64,
}
const _: () = assert!(size_of::<Header>() == 56);

/// The `length` bytes of a value from block `first` of the attribute fork on.
pub(super) fn read(
    volume: &Volume,
    inode: &Inode,
    fork: Fork<'_>,
    first: u32,
    length: u32,
) -> Result<Vec<u8>> {
    if length > VALUE_MAX {
        return Err(bad("longer than any can be"));
    }
    let length = to_usize(u64::from(length));
    let mut value = Vec::with_capacity(length);
    let mut at = FileBlock(u64::from(first));
    while value.len() < length {
        let block = read_fork_blocks(volume, inode, fork, at, 1, BlockKind::AttrRemote, |block, offset| {
            volume.check_self(&DESCRIPTION, block, offset, inode.ino.0)
        })?
        .ok_or_else(|| bad("lies in a hole"))?;
        let part = if volume.geometry().is_v5() { part(&block, value.len())? } else { &block };
        let part = part.get(..part.len().min(length - value.len())).unwrap_or_default();
        value.extend_from_slice(part);
        at = FileBlock(at.0 + 1);
    }
    Ok(value)
}

/// The part of a value in a block of version 5. It is never empty.
fn part(block: &[u8], offset: usize) -> Result<&[u8]> {
    let Ok((header, rest)) = Header::ref_from_prefix(block) else { return Err(bad("too short")) };
    if header.rm_magic.get() != MAGIC {
        return Err(bad("wrong magic number"));
    }
    if u64::from(header.rm_offset.get()) != to_u64(offset) {
        return Err(bad("a block holds another part of a value"));
    }
    match rest.get(..to_usize(u64::from(header.rm_bytes.get()))) {
        Some(part) if !part.is_empty() => Ok(part),
        _ => Err(bad("a block holds an impossible number of bytes")),
    }
}

#[cold]
fn bad(problem: &'static str) -> Error {
    Error::corrupt(STRUCTURE, problem)
}
