//! Targets of symbolic links: in the inode, or in blocks of their own (`xfs_dsymlink_hdr`).

use extents_core::{Error, FileType, Flow, Result, to_u64, to_usize};
use zerocopy::byteorder::big_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::checksum::SelfDescription;
use crate::fork::{Fork, walk_extents};
use crate::inode::Inode;
use crate::volume::{BlockKind, Volume};

/// Longest target (`XFS_SYMLINK_MAXLEN`).
const LENGTH_MAX: u64 = 1024;
const STRUCTURE: &str = "symbolic link block";

const DESCRIPTION: SelfDescription =
    SelfDescription { structure: STRUCTURE, crc: 12, blkno: 40, uuid: 16, owner: 32, owner_bytes: 8 };

/// Header of each contiguous piece on volumes of version 5.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    sl_magic: [u8; 4],
    sl_offset: U32,
    sl_bytes: U32,
    sl_crc: [u8; 4],
    sl_uuid: [u8; 16],
    sl_owner: U64,
    sl_blkno: U64,
    sl_lsn: U64,
}
const _: () = assert!(size_of::<Header>() == 56);

fn bad<T>(problem: &'static str) -> Result<T> {
    Err(Error::corrupt(STRUCTURE, problem))
}

/// The target of a symbolic link.
pub(crate) fn read(volume: &Volume, inode: &Inode) -> Result<Vec<u8>> {
    if inode.file_type != FileType::Symlink {
        return Err(Error::NotASymlink(inode.ino));
    }
    let target = match inode.data_fork() {
        Fork::Local(target) => target.to_vec(),
        fork => remote(volume, inode, fork).map_err(|error| error.in_inode(inode.ino))?,
    };
    if target.is_empty() {
        return bad("an empty target").map_err(|error| error.in_inode(inode.ino));
    }
    Ok(target)
}

fn remote(volume: &Volume, inode: &Inode, fork: Fork<'_>) -> Result<Vec<u8>> {
    if inode.size > LENGTH_MAX {
        return bad("a target longer than 1024 bytes");
    }
    let length = to_usize(inode.size);
    let mut target = Vec::with_capacity(length);
    walk_extents(volume, inode, fork, &mut |extent| {
        let bytes = volume.read_verified(extent.run, BlockKind::Symlink, inode.ino.0, |block, offset| {
            volume.check_self(&DESCRIPTION, block, offset, inode.ino.0)
        })?;
        let piece = if volume.geometry().is_v5() { body(&bytes, target.len())? } else { &bytes };
        let wanted = piece.get(..piece.len().min(length - target.len())).unwrap_or_default();
        target.extend_from_slice(wanted);
        Ok(if target.len() == length { Flow::Break(()) } else { Flow::Continue(()) })
    })?;
    if target.len() != length {
        return bad("the blocks end before the target does");
    }
    Ok(target)
}

/// What stands behind the header of a piece that continues the target at byte `at`.
fn body(bytes: &[u8], at: usize) -> Result<&[u8]> {
    let Ok((header, body)) = Header::ref_from_prefix(bytes) else { return bad("too short") };
    if header.sl_magic != *b"XSLM" {
        return bad("wrong magic number");
    }
    let length = to_usize(u64::from(header.sl_bytes.get()));
    if u64::from(header.sl_offset.get()) != to_u64(at) || length == 0 {
        return bad("its pieces do not follow each other");
    }
    match body.get(..length) {
        Some(body) => Ok(body),
        None => bad("longer than its blocks"),
    }
}
