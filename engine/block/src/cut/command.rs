//! Pieces become commands: the one place that knows about alignment.
//!
//! A command is what the device is asked for at once: aligned as the device wants it, no longer than the device
//! takes. Where a piece is not aligned, the command reads whole blocks into bounce memory and the wanted bytes are
//! copied out of it.

use engine_dma::{to_u64, to_usize};

use super::Geometry;
use crate::Piece;

/// Up to this length an unaligned piece goes through bounce memory as a whole: copying it costs less than two or
/// three commands for its head, middle and tail.
const BOUNCE_WHOLE: usize = 32 << 10;

/// Most bounce memory that one command takes.
const BOUNCE_MOST: usize = 256 << 10;

/// One read of the device's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Command {
    /// First byte read, aligned.
    pub device_offset: u64,
    /// Bytes read, aligned. Of these...
    pub length: usize,
    /// ...this many come before those that are wanted,...
    pub skip: usize,
    /// ...and this many are wanted.
    pub wanted: usize,
    /// Where in the request's buffer the wanted bytes go.
    pub buffer_offset: usize,
    /// Whether it reads into bounce memory.
    pub bounce: bool,
}

/// What is left of a command after some of it arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// All wanted bytes are there.
    Done,
    /// Go on from this byte of the command.
    From(usize),
    /// The device ends before the command does.
    Ended,
}

impl Command {
    /// The command for `piece` after its first `done` bytes, of which fewer than its length are covered.
    #[must_use]
    pub fn next(piece: &Piece, done: usize, geometry: &Geometry) -> Self {
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

    /// What to do now that `newly` bytes have followed the first `already` of the command.
    #[must_use]
    pub fn after(&self, already: usize, newly: usize, geometry: &Geometry) -> Progress {
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
    #[must_use]
    pub fn missing(&self, arrived: usize) -> (u64, u64) {
        let there = arrived.saturating_sub(self.skip).min(self.wanted);
        (self.device_offset + to_u64(self.skip + there), to_u64(self.wanted - there))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
            /// For units that no disk here has: the commands cover each wanted byte once, in order, and each is one that
            /// the device takes and that fits its target.
            #[test]
            fn commands_of_any_piece_cover_it_and_keep_to_the_units(
                device_offset in 0_u64..1 << 40,
                buffer_offset in 0_usize..1 << 20,
                aligned in any::<bool>(),
                length in prop_oneof![1_usize..70_000, 1_usize..5_000_000],
                block in (0_u32..17).prop_map(|bit| 1 << bit),
                memory in (0_u32..13).prop_map(|bit| 1 << bit),
                max_transfer in (17_u32..22).prop_map(|bit| 1 << bit),
            ) {
                let geometry = Geometry { size: u64::MAX, block, memory, max_transfer };
                let (device_offset, buffer_offset) =
                    if aligned { (device_offset << 16, buffer_offset << 12) } else { (device_offset, buffer_offset) };
                let piece = Piece { device_offset, buffer_offset, length };
                let (mut done, mut bounced) = (0, 0);
                while done < length {
                    let command = Command::next(&piece, done, &geometry);
                    prop_assert_eq!(command.device_offset + to_u64(command.skip), device_offset + to_u64(done));
                    prop_assert_eq!(command.buffer_offset, buffer_offset + done);
                    prop_assert!(command.wanted > 0 && command.skip + command.wanted <= command.length);
                    prop_assert_eq!(command.device_offset % u64::from(block), 0);
                    prop_assert_eq!(to_u64(command.length) % u64::from(block), 0);
                    prop_assert!(to_u64(command.length) <= u64::from(max_transfer));
                    if !command.bounce {
                        prop_assert_eq!((command.skip, command.wanted), (0, command.length));
                        prop_assert_eq!(to_u64(command.buffer_offset) % u64::from(memory), 0);
                    }
                    bounced += if command.bounce { command.wanted } else { 0 };
                    done += command.wanted;
                }
                prop_assert_eq!(done, length);
                if aligned && length > BOUNCE_WHOLE {
    prop_assert!(bounced <= BOUNCE_WHOLE.max(to_usize(block.into())), "only the end is copied");
                }
            }

            /// However a command arrives in parts, it ends, and it is done only when all of it is there.
            #[test]
            fn command_arriving_in_parts_ends(
                parts in prop::collection::vec(0_usize..9000, 0..60),
                block in (0_u32..13).prop_map(|bit| 1 << bit),
                length in 1_usize..100_000,
                start in 0_u64..10_000,
            ) {
                let geometry = Geometry { size: u64::MAX, block, memory: 1, max_transfer: 1 << 20 };
                let command = Command::next(&Piece { device_offset: start, buffer_offset: 0, length }, 0, &geometry);
                let mut arrived = 0;
                for part in parts {
                    let newly = part.min(command.length - arrived);
                    match command.after(arrived, newly, &geometry) {
                        Progress::Done => {
                            prop_assert!(arrived + newly >= command.skip + command.wanted);
                            prop_assert_eq!(command.missing(arrived + newly).1, 0);
                            return Ok(());
                        }
                        Progress::From(next) => {
                            prop_assert!(next > arrived && next <= arrived + newly);
                            prop_assert_eq!(to_u64(next) % u64::from(block), 0);
                            arrived = next;
                        }
                        Progress::Ended => {
                            prop_assert!(newly < to_usize(block.into()));
                            let (at, missing) = command.missing(arrived + newly);
                            prop_assert!(missing > 0);
                            prop_assert_eq!(at + missing, start + to_u64(command.wanted));
                            return Ok(());
                        }
                    }
                }
            }
        }
}
