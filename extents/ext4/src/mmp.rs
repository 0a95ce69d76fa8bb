//! Multi-mount protection: a block in which whoever has the volume mounted for writing signs in
//! (`struct mmp_struct` in `fs/ext4/ext4.h`). A reader need not sign, but should know who is there.

use extents_core::{Error, FsBlock, Result};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::features::Incompat;
use crate::geometry::Geometry;
use crate::layout::view;
use crate::media::Media;

const MAGIC: u32 = 0x004D_4D50;
const SEQUENCE_CLEAN: u32 = 0xFF4D_4D50;
const SEQUENCE_FSCK: u32 = 0xE24D_4D50;
const CHECKSUM_AT: usize = std::mem::offset_of!(RawMmp, checksum);

#[derive(Debug, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawMmp {
    magic: U32,
    sequence: U32,
    time: U64,
    node: [u8; 64],
    device: [u8; 32],
    check_interval: U16,
    padding: [u8; 2],
    reserved: [U32; 226],
    checksum: U32,
}

const _: () = assert!(size_of::<RawMmp>() == 1024);

/// Who has the volume, by its protection block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Holder {
    /// Nobody, or nobody who unmounted in order.
    Nobody,
    /// A check or repair.
    Check,
    /// A machine that has it mounted, or had when it went down.
    Node(String),
}

/// Reads who has the volume; `None` where the volume does not keep that.
pub(crate) fn holder(block: u64, geometry: &Geometry, media: &Media) -> Result<Option<Holder>> {
    if !geometry.features.has(Incompat::MMP) {
        return Ok(None);
    }
    let bad = |problem: &'static str| Error::corrupt("multi-mount protection block", problem);
    let at = geometry.byte_of(FsBlock(block)).filter(|at| *at > 0);
    let at = at.ok_or_else(|| bad("it lies outside the volume"))?;
    let bytes = media.read_vec(at, size_of::<RawMmp>())?;
    let raw: &RawMmp = view(&bytes, 0).ok_or_else(|| bad("it is cut short"))?;
    if raw.magic.get() != MAGIC {
        return Err(bad("its magic number is wrong").at(at));
    }
    let covered = bytes.get(..CHECKSUM_AT).unwrap_or_default();
    if geometry.checksums && geometry.checksum_seed.over(covered).value() != raw.checksum.get() {
        return Err(bad("its checksum does not match").at(at));
    }
    Ok(Some(match raw.sequence.get() {
        SEQUENCE_CLEAN => Holder::Nobody,
        SEQUENCE_FSCK => Holder::Check,
        _ => {
            let name = raw.node.split(|&byte| byte == 0).next().unwrap_or_default();
            Holder::Node(String::from_utf8_lossy(name).into_owned())
        }
    }))
}
