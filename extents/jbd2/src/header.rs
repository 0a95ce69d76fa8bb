//! What stands at the beginning of the journal's own blocks (kernel: `include/linux/jbd2.h`).

use zerocopy::byteorder::big_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// First word of every block that the journal wrote for itself (`JBD2_MAGIC_NUMBER`).
pub(crate) const MAGIC: u32 = 0xc03b_3998;

/// `journal_header_t`.
#[derive(Debug, Clone, Copy, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Header {
    pub(crate) magic: U32,
    pub(crate) block_type: U32,
    pub(crate) sequence: U32,
}

const _: () = assert!(size_of::<Header>() == 12);

/// What a block of the journal is for (`JBD2_DESCRIPTOR_BLOCK` and so on).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlockType {
    Descriptor,
    Commit,
    Revoke,
}

impl Header {
    /// The type and transaction of a block; `None` where the journal did not write it for itself, or wrote
    /// something that does not belong into the log.
    pub(crate) fn of(block: &[u8]) -> Option<(BlockType, u32)> {
        let (header, _) = Self::ref_from_prefix(block).ok()?;
        if header.magic.get() != MAGIC {
            return None;
        }
        let block_type = match header.block_type.get() {
            1 => BlockType::Descriptor,
            2 => BlockType::Commit,
            5 => BlockType::Revoke,
            _ => return None,
        };
        Some((block_type, header.sequence.get()))
    }
}

/// `struct commit_header`.
#[derive(Debug, Clone, Copy, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct CommitHeader {
    pub(crate) header: Header,
    pub(crate) checksum_type: u8,
    pub(crate) checksum_size: u8,
    pub(crate) padding: [u8; 2],
    pub(crate) checksum: [U32; 8],
    pub(crate) seconds: U64,
    pub(crate) nanoseconds: U32,
}

const _: () = assert!(size_of::<CommitHeader>() == 60);

/// Where `CommitHeader::checksum[0]` lies.
pub(crate) const COMMIT_CHECKSUM_AT: usize = 16;
