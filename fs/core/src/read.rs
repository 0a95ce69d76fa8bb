//! From a range of a file to commands of the engine, and from there into the reply.

use engine_block::{Buffer, Piece, Pieces, Request};
use extents_core::{ExtentFlags, ExtentMap, Ino, Run, to_u64, to_usize};

use crate::error::{FsError, Result};
use crate::homifs::Homifs;
use crate::stats::Stats;
use crate::workers::with_queue;

impl Homifs {
    /// Reads at most `size` bytes of a file from byte `offset` on and hands them to `deliver` where they lie, in
    /// memory that the device wrote: fewer than asked only at the end of the file.
    pub(crate) fn read_file<T>(
        &self,
        ino: Ino,
        map: &ExtentMap,
        offset: u64,
        size: u32,
        deliver: impl FnOnce(&[u8]) -> T,
    ) -> Result<T> {
        let length = map.size().saturating_sub(offset).min(u64::from(size));
        if length == 0 {
            return Ok(deliver(&[]));
        }
        with_queue(self.queue_key(), self.device(), self.options().depth, |queue| {
            // Whole blocks, so that the last one can be read as the device has it, without a bounce.
            let room = to_usize(length.next_multiple_of(u64::from(self.block_size()))).max(4096);
            let mut buffer = queue.buffer(room)?;
            let pieces = self.plan(ino, map, offset, length, &mut buffer)?;
            if !pieces.is_empty() {
                let completion = queue.read(Request { tag: 0, buffer, pieces });
                completion.result?;
                buffer = completion.buffer;
            }
            Stats::add(&self.stats().bytes_read, length);
            Ok(deliver(&buffer[..to_usize(length)]))
        })?
    }

    /// Fills what does not come from the device and lists what does: one piece for each contiguous run.
    fn plan(
        &self,
        ino: Ino,
        map: &ExtentMap,
        offset: u64,
        length: u64,
        buffer: &mut Buffer,
    ) -> Result<Pieces> {
        let mut pieces = Pieces::new();
        let (mut zeros, mut special) = (0, 0);
        for run in map.runs(offset, length) {
            let start = to_usize(run.offset - offset);
            let part = start..start + to_usize(run.length);
            match run.extent {
                Some(extent) if extent.is_plain() => pieces.push(self.piece(&run, start, buffer.len())?),
                Some(extent) if !extent.flags.contains(ExtentFlags::UNWRITTEN) => {
                    self.volume().read_special(ino, &extent, run.offset, &mut buffer[part])?;
                    special += run.length;
                }
                _ => {
                    buffer[part].fill(0);
                    zeros += run.length;
                }
            }
        }
        let stats = self.stats();
        Stats::add(&stats.device_reads, to_u64(pieces.len()));
        Stats::add(&stats.device_bytes, pieces.iter().map(|piece| to_u64(piece.length)).sum());
        if zeros + special > 0 {
            Stats::add(&stats.zero_bytes, zeros);
            Stats::add(&stats.special_bytes, special);
        }
        Ok(pieces)
    }

    /// One run of plain data, lengthened to whole device blocks where the extent and the buffer have room: the
    /// bytes past the end of the file are read and not delivered.
    fn piece(&self, run: &Run, start: usize, room: usize) -> Result<Piece> {
        let (Some(extent), Some(physical)) = (run.extent, run.physical()) else {
            return Err(FsError::Invalid);
        };
        let unit = u64::from(self.device().info().logical_block.max(1));
        let wanted = run.length.next_multiple_of(unit);
        let length = wanted.min(extent.end() - run.offset).min(to_u64(room - start)).max(run.length);
        let device_offset = self.volume_start().checked_add(physical).ok_or(FsError::Invalid)?;
        Ok(Piece { device_offset, buffer_offset: start, length: to_usize(length) })
    }
}
