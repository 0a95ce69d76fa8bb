//! The free index of directories with several leaves (`xfs_dir2_free`): the largest free piece of each data
//! block. Only those who add names need it; it is checked so that damage shows.

use extents_core::{Error, Result, to_u64, to_usize};
use zerocopy::byteorder::big_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::dir::data_block::self_description;
use crate::inode::Inode;
use crate::volume::Volume;

const STRUCTURE: &str = "directory free index";
const MAGIC_V4: u32 = u32::from_be_bytes(*b"XD2F");
const MAGIC_V5: u32 = u32::from_be_bytes(*b"XDF3");
/// The data block is not there.
const NO_BLOCK: u16 = 0xffff;
/// Bytes that version 5 puts before [`Counts`] (`xfs_dir3_blk_hdr`), where version 4 has the magic number.
const BEFORE_COUNTS_V5: usize = 48;

/// What both versions of the header have (`xfs_dir2_free_hdr`); version 5 pads it to 16 bytes.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Counts {
    /// Data block that the first entry stands for.
    firstdb: U32,
    nvalid: U32,
    nused: U32,
}
const _: () = assert!(size_of::<Counts>() == 12);

/// Checks a block of the free index. `place` is its own number among them.
pub(super) fn verify(volume: &Volume, dir: &Inode, place: u64, block: &[u8], offset: u64) -> Result<()> {
    let v5 = volume.geometry().is_v5();
    let Ok((magic, rest)) = U32::ref_from_prefix(block) else { return Err(bad("too short")) };
    if magic.get() != if v5 { MAGIC_V5 } else { MAGIC_V4 } {
        return Err(bad("wrong magic number"));
    }
    volume.check_self(&self_description(STRUCTURE), block, offset, dir.ino.0)?;
    let counts = if v5 { block.get(BEFORE_COUNTS_V5..).unwrap_or_default() } else { rest };
    let Ok((counts, bests)) = Counts::ref_from_prefix(counts) else { return Err(bad("too short")) };
    let bests = bests.get(if v5 { 4 } else { 0 }..).unwrap_or_default();
    let room = to_u64(bests.len() / 2);
    let (valid, used) = (u64::from(counts.nvalid.get()), u64::from(counts.nused.get()));
    if place.checked_mul(room) != Some(u64::from(counts.firstdb.get())) {
        return Err(bad("it stands for other data blocks"));
    }
    let bests = Some(valid)
        .filter(|&valid| valid <= room)
        .and_then(|valid| <[U16]>::ref_from_prefix_with_elems(bests, to_usize(valid)).ok())
        .ok_or_else(|| bad("more entries than fit"))?;
    let present = to_u64(bests.0.iter().filter(|best| best.get() != NO_BLOCK).count());
    if present != used {
        return Err(bad("wrong count of data blocks"));
    }
    Ok(())
}

#[cold]
fn bad(problem: &'static str) -> Error {
    Error::corrupt(STRUCTURE, problem)
}
