//! The bytes of an inode, and the checks that tell an inode from anything else.

use std::ops::Range;

use bitflags::bitflags;
use extents_core::{Ino, Result};
use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::bad;
use crate::checksum::crc_matches;
use crate::geometry::Geometry;

/// `struct xfs_dinode` of `xfs_format.h`, as far as all versions have it.
#[derive(Debug, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Core {
    pub(super) di_magic: [u8; 2],
    pub(super) di_mode: U16,
    pub(super) di_version: u8,
    pub(super) di_format: u8,
    /// Version 1: number of links. Later reused for metadata inodes.
    pub(super) di_onlink: U16,
    pub(super) di_uid: U32,
    pub(super) di_gid: U32,
    pub(super) di_nlink: U32,
    pub(super) di_projid_lo: U16,
    pub(super) di_projid_hi: U16,
    /// With `nrext64`: extents of the data fork.
    pub(super) di_big_nextents: U64,
    pub(super) di_atime: U64,
    pub(super) di_mtime: U64,
    pub(super) di_ctime: U64,
    pub(super) di_size: U64,
    pub(super) di_nblocks: U64,
    pub(super) di_extsize: U32,
    /// Extents of the data fork; with `nrext64` of the attribute fork.
    pub(super) di_nextents: U32,
    /// Extents of the attribute fork; with `nrext64` nothing.
    pub(super) di_anextents: U16,
    /// Where the attribute fork begins, in units of 8 bytes behind the core; 0 where there is none.
    pub(super) di_forkoff: u8,
    pub(super) di_aformat: u8,
    pub(super) di_dmevmask: U32,
    pub(super) di_dmstate: U16,
    pub(super) di_flags: U16,
    pub(super) di_gen: U32,
    pub(super) di_next_unlinked: U32,
}
const _: () = assert!(size_of::<Core>() == 100);

/// What version 3 (of version 5 volumes) adds to it.
#[derive(Debug, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Version3 {
    pub(super) di_crc: [u8; 4],
    pub(super) di_changecount: U64,
    pub(super) di_lsn: U64,
    pub(super) di_flags2: U64,
    pub(super) di_cowextsize: U32,
    pub(super) di_pad2: [u8; 12],
    pub(super) di_crtime: U64,
    pub(super) di_ino: U64,
    pub(super) di_uuid: [u8; 16],
}
const _: () = assert!(size_of::<Version3>() == 76);
const CRC_OFFSET: usize = size_of::<Core>();

bitflags! {
    /// `di_flags` (`XFS_DIFLAG_*`).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(super) struct Flags: u16 {
        const REALTIME = 1 << 0;
        const IMMUTABLE = 1 << 3;
        const APPEND = 1 << 4;
        const SYNC = 1 << 5;
        const NOATIME = 1 << 6;
        const NODUMP = 1 << 7;
        const PROJINHERIT = 1 << 9;
    }

    /// `di_flags2` (`XFS_DIFLAG2_*`).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(super) struct Flags2: u64 {
        const REFLINK = 1 << 1;
        const BIGTIME = 1 << 3;
        const NREXT64 = 1 << 4;
    }
}

/// An inode taken apart but not yet believed.
#[derive(Debug)]
pub(super) struct RawInode<'a> {
    pub(super) core: &'a Core,
    pub(super) v3: Option<&'a Version3>,
}

impl<'a> RawInode<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Result<Self> {
        let Ok((core, rest)) = Core::ref_from_prefix(bytes) else { return bad("too short") };
        let v3 = match core.di_version {
            3 => match Version3::ref_from_prefix(rest) {
                Ok((v3, _)) => Some(v3),
                Err(_) => return bad("too short for version 3"),
            },
            _ => None,
        };
        Ok(Self { core, v3 })
    }

    /// Whether nobody uses it: never made, freed, or wiped because the inode B-tree says so.
    pub(super) fn is_free(&self) -> bool {
        self.core.di_mode.get() == 0 && (self.core.di_magic == *b"IN" || self.core.di_magic == [0; 2])
    }

    /// Whether this is the inode it is taken for, undamaged.
    pub(super) fn check_identity(&self, geometry: &Geometry, ino: Ino, bytes: &[u8]) -> Result<()> {
        if self.core.di_magic != *b"IN" {
            return bad("wrong magic number");
        }
        match (geometry.is_v5(), self.core.di_version, self.v3) {
            (true, 3, Some(v3)) => {
                if !crc_matches(bytes, CRC_OFFSET) {
                    return bad("wrong checksum");
                }
                if v3.di_ino.get() != ino.0 {
                    return bad("it was written as another inode");
                }
                if v3.di_uuid != geometry.meta_uuid {
                    return bad("it belongs to another volume");
                }
                Ok(())
            }
            (false, 1 | 2, _) => Ok(()),
            _ => bad("its version does not fit that of the volume"),
        }
    }

    pub(super) fn flags(&self) -> Flags {
        Flags::from_bits_retain(self.core.di_flags.get())
    }

    pub(super) fn flags2(&self) -> Flags2 {
        self.v3.map_or(Flags2::empty(), |v3| Flags2::from_bits_retain(v3.di_flags2.get()))
    }

    pub(super) fn links(&self) -> u32 {
        if self.core.di_version == 1 {
            u32::from(self.core.di_onlink.get())
        } else {
            self.core.di_nlink.get()
        }
    }

    /// The project id; version 1 has none.
    pub(super) fn project(&self) -> u32 {
        let (high, low) = (u32::from(self.core.di_projid_hi.get()), u32::from(self.core.di_projid_lo.get()));
        if self.core.di_version == 1 { 0 } else { (high << 16) | low }
    }

    /// Extents of the data fork and of the attribute fork.
    pub(super) fn extent_counts(&self) -> (u64, u64) {
        if self.flags2().contains(Flags2::NREXT64) {
            (self.core.di_big_nextents.get(), u64::from(self.core.di_nextents.get()))
        } else {
            (u64::from(self.core.di_nextents.get()), u64::from(self.core.di_anextents.get()))
        }
    }

    /// Where the forks lie in an inode of `size` bytes; the attribute fork is empty where there is none.
    pub(super) fn fork_ranges(&self, size: usize) -> Result<(Range<usize>, Range<usize>)> {
        let start = size_of::<Core>() + self.v3.map_or(0, |_| size_of::<Version3>());
        match usize::from(self.core.di_forkoff) * 8 {
            0 => Ok((start..size, size..size)),
            length if start + length < size => Ok((start..start + length, start + length..size)),
            _ => bad("its attribute fork begins behind its end"),
        }
    }
}
