//! Records of the log (`xlog_rec_header`).

use extents_core::{Result, to_u64, to_usize};
use zerocopy::byteorder::big_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::log::ring::{BLOCK, Ring};

const MAGIC: u32 = 0xfeed_babe;
/// Bytes of data whose first words one block of header can hold (`XLOG_HEADER_CYCLE_SIZE`).
const CYCLE_DATA: u32 = 32 << 10;
/// Most bytes of a record (`XLOG_MAX_RECORD_BSIZE`).
const LENGTH_MAX: u32 = 256 << 10;
/// Bytes of the header that its checksum covers: the size of the structure, which is padded on machines that
/// align 64-bit numbers and not on others.
const CHECKED: [usize; 2] = [328, 324];
/// Bytes of a further block of header that the checksum covers (`xlog_rec_ext_header`).
const CHECKED_FURTHER: usize = 260;
const CRC_AT: usize = 32;

/// Header of a record. The rest of its block is unused.
#[derive(Debug, Clone, Copy, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Header {
    h_magicno: U32,
    pub(super) h_cycle: U32,
    h_version: U32,
    /// Bytes of data, a multiple of 512.
    h_len: U32,
    h_lsn: U64,
    /// Where recovery would have to begin: cycle, then block.
    h_tail_lsn: U64,
    /// CRC-32C, little-endian, of header and data.
    h_crc: [u8; 4],
    h_prev_block: U32,
    pub(super) h_num_logops: U32,
    /// First words of the blocks of data, whose places the cycle took.
    h_cycle_data: [U32; 64],
    h_fmt: U32,
    pub(super) h_fs_uuid: [u8; 16],
    /// Most bytes of a record in this log.
    h_size: U32,
}
const _: () = assert!(size_of::<Header>() == 324);

/// A record's header, and the block where it lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record {
    pub(super) at: u64,
    pub(super) header: Header,
}

impl Header {
    /// The header in a block; `None` where there is none.
    pub(super) fn parse(block: &[u8]) -> Option<&Self> {
        let (header, _) = Self::ref_from_prefix(block).ok()?;
        (header.h_magicno.get() == MAGIC).then_some(header)
    }

    /// Whether its numbers are possible (`xlog_valid_rec_header`).
    pub(super) fn is_valid(&self, version_2: bool) -> bool {
        let most = if version_2 { LENGTH_MAX } else { CYCLE_DATA };
        matches!(self.h_version.get(), 1..=3) && self.h_len.get() <= most
    }

    /// Blocks of the header.
    pub(super) fn header_blocks(&self, version_2: bool) -> u64 {
        let size = self.h_size.get();
        if version_2 && self.h_version.get() & 2 != 0 && size > CYCLE_DATA {
            u64::from(size.div_ceil(CYCLE_DATA))
        } else {
            1
        }
    }

    /// Blocks of data behind the header.
    pub(super) fn data_blocks(&self) -> u64 {
        u64::from(self.h_len.get()).div_ceil(to_u64(BLOCK))
    }

    /// The block where recovery would have to begin.
    pub(super) fn tail_block(&self) -> u64 {
        self.h_tail_lsn.get() & u64::from(u32::MAX)
    }
}

/// Whether the valid record at block `at` is on the disk whole. Records without a checksum pass: mkfs and old
/// kernels write such.
pub(super) fn checksum_matches(ring: &Ring<'_>, at: u64, header: &Header) -> Result<bool> {
    if header.h_crc == [0; 4] {
        return Ok(true);
    }
    let headers = header.header_blocks(ring.is_version_2()).min(u64::from(LENGTH_MAX / CYCLE_DATA) + 1);
    let length = to_usize(u64::from(header.h_len.get().min(LENGTH_MAX)));
    let mut front = vec![0; to_usize(headers) * BLOCK];
    ring.read(at, &mut front)?;
    let mut data = vec![0; length.next_multiple_of(BLOCK)];
    ring.read(at + headers, &mut data)?;
    let data = data.get(..length).unwrap_or_default();
    let mut blocks = front.chunks_exact(BLOCK);
    let Some(first) = blocks.next() else { return Ok(false) };
    // The header has room for as many further blocks as the longest record needs; those that this one has no
    // need for are not covered.
    let needed = if ring.is_version_2() { length.div_ceil(to_usize(u64::from(CYCLE_DATA))) } else { 1 };
    let further: Vec<&[u8]> =
        blocks.take(needed.saturating_sub(1)).filter_map(|block| block.get(..CHECKED_FURTHER)).collect();
    Ok(CHECKED.into_iter().any(|covered| {
        let part = |range: std::ops::Range<usize>| first.get(range).unwrap_or_default();
        let mut crc = crc32c::crc32c(part(0..CRC_AT));
        crc = crc32c::crc32c_append(crc, &[0; 4]);
        crc = crc32c::crc32c_append(crc, part(CRC_AT + 4..covered));
        for block in &further {
            crc = crc32c::crc32c_append(crc, block);
        }
        crc32c::crc32c_append(crc, data).to_le_bytes() == header.h_crc
    }))
}
