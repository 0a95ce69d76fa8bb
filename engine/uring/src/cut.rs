//! Pieces become commands: the one place that knows about alignment.
//!
//! A command is what the kernel is asked for in one call: aligned as the device wants it, no longer than the device
//! takes. Where a piece is not aligned, the command reads whole blocks into bounce memory and the wanted bytes are
//! copied out of it.

use engine_block::Piece;
use engine_dma::{to_u64, to_usize};

use crate::geometry::Geometry;

/// Up to this length an unaligned piece goes through bounce memory as a whole: copying it costs less than two or
/// three commands for its head, middle and tail.
const BOUNCE_WHOLE: usize = 32 << 10;

/// Most bounce memory that one command takes.
const BOUNCE_MOST: usize = 256 << 10;

/// One read of the kernel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Command {
    /// First byte read, aligned.
    pub(crate) device_offset: u64,
    /// Bytes read, aligned. Of these...
    pub(crate) length: usize,
    /// ...this many come before those that are wanted,...
    pub(crate) skip: usize,
    /// ...and this many are wanted.
    pub(crate) wanted: usize,
    /// Where in the request's buffer the wanted bytes go.
    pub(crate) buffer_offset: usize,
    /// Whether it reads into bounce memory.
    pub(crate) bounce: bool,
}

/// What is left of a command after some of it arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// All wanted bytes are there.
    Done,
    /// Go on from this byte of the command.
    From(usize),
    /// The device ends before the command does.
    Ended,
}

impl Command {
    /// The command for `piece` after its first `done` bytes, of which fewer than its length are covered.
    pub(crate) fn next(piece: &Piece, done: usize, geometry: &Geometry) -> Self {
        let block = to_usize(geometry.block.into());
        let memory = to_usize(geometry.memory.into());
        let most = to_usize(geometry.max_transfer.into());
        let position = piece.device_offset + to_u64(done);
        let buffer_offset = piece.buffer_offset + done;
        let left = piece.length - done;
        let skip = to_usize(position % u64::from(geometry.block));

        let whole_blocks = left - left % block;
        let aligned = skip == 0 && buffer_offset.is_multiple_of(memory);
        if aligned && whole_blocks > 0 && (whole_blocks == left || left > BOUNCE_WHOLE) {
            let length = whole_blocks.min(most);
            return Self {
                device_offset: position,
                length,
                skip: 0,
                wanted: length,
                buffer_offset,
                bounce: false,
            };
        }
        // Past the first block, could the rest go straight to its place?
        let head = block - skip;
        let rest_aligned = skip != 0 && (buffer_offset + head).is_multiple_of(memory);
        let most = if rest_aligned && left > BOUNCE_WHOLE { block } else { most.min(BOUNCE_MOST.max(block)) };
        let length = (skip + left).next_multiple_of(block).min(most);
        Self {
            device_offset: position - to_u64(skip),
            length,
            skip,
            wanted: left.min(length - skip),
            buffer_offset,
            bounce: true,
        }
    }

    /// What to do now that the first `arrived` bytes of the command are there.
    pub(crate) fn after(&self, already: usize, newly: usize, geometry: &Geometry) -> Progress {
        let arrived = already + newly;
        if arrived >= self.skip + self.wanted {
            return Progress::Done;
        }
        // The rest must start at a block again; where not even one block arrived, the device has ended.
        let block = to_usize(geometry.block.into());
        let next = arrived - arrived % block;
        if next > already { Progress::From(next) } else { Progress::Ended }
    }

    /// The wanted range of the device that is still missing once `arrived` bytes of the command are there.
    pub(crate) fn missing(&self, arrived: usize) -> (u64, u64) {
        let there = arrived.saturating_sub(self.skip).min(self.wanted);
        (self.device_offset + to_u64(self.skip + there), to_u64(self.wanted - there))
    }
}
