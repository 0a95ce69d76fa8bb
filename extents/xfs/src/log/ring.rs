//! The log as a ring of blocks.

use extents_core::{Error, FsBlock, Result, to_u64, to_usize};

use crate::features::{Incompat, VersionBits};
use crate::log::record::{Header, Record};
use crate::volume::Volume;

/// Bytes of a block of the log, whatever the volume's block and sector sizes are (`BBSIZE`).
pub(super) const BLOCK: usize = 512;
/// Blocks that are read at once.
const CHUNK: u64 = 128;

/// The blocks of the log.
pub(super) struct Ring<'a> {
    volume: &'a Volume,
    start: u64,
    blocks: u64,
    version_2: bool,
    /// What every record names, where that is known.
    uuid: Option<[u8; 16]>,
}

impl<'a> Ring<'a> {
    /// The log that begins at block `start` of the volume.
    pub(super) fn new(volume: &'a Volume, start: FsBlock) -> Result<Self> {
        let geometry = volume.geometry();
        let blocks = u64::from(geometry.log_blocks) * u64::from(geometry.block_size) / to_u64(BLOCK);
        let start = start.to_bytes(geometry.block_size).filter(|_| blocks > 1);
        let start = start.ok_or_else(|| Error::corrupt("log", "impossible place or size"))?;
        let version_2 = geometry.version_bits.contains(VersionBits::LOGV2);
        // Records name the volume's own UUID, which can be changed. Metadata then keeps the old one.
        let changed = geometry.incompat.contains(Incompat::META_UUID);
        let uuid = (!changed).then_some(geometry.meta_uuid);
        Ok(Self { volume, start, blocks, version_2, uuid })
    }

    /// How many blocks there are: at least 2.
    pub(super) fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Whether records can be longer than 32 KiB and have several blocks of header.
    pub(super) fn is_version_2(&self) -> bool {
        self.version_2
    }

    /// Most blocks of one record (`XLOG_REC_SHIFT`).
    pub(super) fn record_blocks(&self) -> u64 {
        if self.version_2 { 512 } else { 64 }
    }

    /// Most blocks that may have been written at once (`XLOG_TOTAL_REC_SHIFT`).
    pub(super) fn in_flight_blocks(&self) -> u64 {
        self.record_blocks() * to_u64(super::IN_FLIGHT)
    }

    /// A number of a block that may have run past the end.
    pub(super) fn wrap(&self, block: u64) -> u64 {
        block % self.blocks
    }

    /// Whether a record was written for this volume. Other systems than Linux leave the UUID zero.
    pub(super) fn is_ours(&self, header: &Header) -> bool {
        header.h_fs_uuid == [0; 16] || self.uuid.is_none_or(|uuid| header.h_fs_uuid == uuid)
    }

    /// The bytes of one block.
    pub(super) fn block(&self, block: u64) -> Result<[u8; BLOCK]> {
        let mut bytes = [0; BLOCK];
        self.read(block, &mut bytes)?;
        Ok(bytes)
    }

    /// Fills `buf`, a whole number of blocks, from `block` on, going on at the start where the ring ends.
    pub(super) fn read(&self, block: u64, buf: &mut [u8]) -> Result<()> {
        let mut at = self.wrap(block);
        let mut rest = buf;
        while !rest.is_empty() {
            let length = rest.len().min(to_usize((self.blocks - at).saturating_mul(to_u64(BLOCK))));
            let (piece, behind) = rest.split_at_mut(length);
            let place = at
                .checked_mul(to_u64(BLOCK))
                .and_then(|offset| self.start.checked_add(offset))
                .ok_or_else(|| Error::corrupt("log", "impossible place or size"))?;
            self.volume.read_raw(place, piece)?;
            rest = behind;
            at = 0;
        }
        Ok(())
    }

    /// The cycle in which a block was written.
    pub(super) fn cycle(&self, block: u64) -> Result<u32> {
        Ok(cycle_of(&self.block(block)?))
    }

    /// The first block of a range with this cycle.
    pub(super) fn find_cycle(&self, range: std::ops::Range<u64>, cycle: u32) -> Result<Option<u64>> {
        let mut buf = vec![0; to_usize(CHUNK) * BLOCK];
        let mut at = range.start;
        while at < range.end {
            let count = CHUNK.min(range.end - at);
            let chunk = buf.get_mut(..to_usize(count) * BLOCK).unwrap_or_default();
            self.read(at, chunk)?;
            let found = chunk.chunks_exact(BLOCK).position(|block| cycle_of(block) == cycle);
            if let Some(place) = found {
                return Ok(Some(at + to_u64(place)));
            }
            at += count;
        }
        Ok(None)
    }

    /// The last header within a range, which does not run past the end.
    pub(super) fn last_header(&self, range: std::ops::Range<u64>) -> Result<Option<Record>> {
        Ok(self.headers_back(range.end, range.end.saturating_sub(range.start), 1)?.pop())
    }

    /// Up to `count` headers before block `head`, nearest first, none of them before block `tail` where that is
    /// given (`xlog_rseek_logrec_hdr`). Records lie close together, so the search does not go further than they
    /// can.
    pub(super) fn headers_before(&self, head: u64, tail: Option<u64>, count: usize) -> Result<Vec<Record>> {
        let distance = match tail {
            Some(tail) if tail < self.blocks && tail != head => self.wrap(head + self.blocks - tail),
            _ => self.blocks,
        };
        let reach = self.record_blocks() * to_u64(count) + self.record_blocks();
        self.headers_back(head + self.blocks, distance.min(reach), count)
    }

    /// Up to `count` headers in the `distance` blocks before `end`, nearest first.
    fn headers_back(&self, end: u64, distance: u64, count: usize) -> Result<Vec<Record>> {
        let mut found = Vec::new();
        let mut buf = vec![0; to_usize(CHUNK) * BLOCK];
        let mut left = distance;
        let mut at = end;
        while left > 0 && found.len() < count {
            let length = CHUNK.min(left);
            at -= length;
            left -= length;
            let chunk = buf.get_mut(..to_usize(length) * BLOCK).unwrap_or_default();
            self.read(at, chunk)?;
            for (place, block) in chunk.chunks_exact(BLOCK).enumerate().rev() {
                if let Some(header) = Header::parse(block)
                    && found.len() < count
                {
                    found.push(Record { at: self.wrap(at + to_u64(place)), header: *header });
                }
            }
        }
        Ok(found)
    }
}

fn cycle_of(block: &[u8]) -> u32 {
    if let Some(header) = Header::parse(block) {
        return header.h_cycle.get();
    }
    block.first_chunk().map_or(0, |&cycle| u32::from_be_bytes(cycle))
}
