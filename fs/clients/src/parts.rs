//! The parts of one command: which bytes of the device, and which of nothing, go where in the client's memory.

use std::sync::Arc;

use engine_block::{Operation, RangeRequest, Window, Windows};
use engine_dma::to_usize;
use engine_nvme_spec::Status;
use extents_core::{Extent, ExtentFlags, Ino, Run};
use homifs_core::Homifs;
use smallvec::SmallVec;

/// A file's bytes, as far as commands need to know them.
pub(crate) trait Contents {
    /// The inode.
    fn ino(&self) -> Ino;
    /// Bytes.
    fn size(&self) -> u64;
    /// The extent that holds the byte at `offset`.
    fn find(&self, offset: u64) -> Option<Extent>;
    /// What lies in `length` bytes from `offset` on, without gaps.
    fn runs(&self, offset: u64, length: u64) -> impl Iterator<Item = Run>;
}

/// Where `length` bytes of a file from `offset` on lie on the volume, where they are one piece of one extent whose bytes
/// are the file's, and all before the file's end.
#[inline]
pub(crate) fn lies_at(contents: &impl Contents, offset: u64, length: u64) -> Option<u64> {
    let end = offset.checked_add(length).filter(|&end| end <= contents.size())?;
    let extent = contents.find(offset).filter(|extent| extent.is_plain() && end <= extent.end())?;
    Some(extent.physical + (offset - extent.logical))
}

/// The beginning of a block of the device that a file ends in. What the block has behind it is somebody else's, so it
/// is read into memory of ours first.
#[derive(Debug)]
pub(crate) struct Tail {
    /// The block's first byte on the device.
    pub(crate) block: u64,
    /// Where the file's bytes go.
    pub(crate) target: Windows,
}

/// Bytes that no queue to the device brings: an extent that is smaller than what it reads by itself, or does not lie there
/// as it is. Bringing them may block.
#[derive(Debug)]
pub(crate) struct Aside {
    source: AsideSource,
    /// Where they go.
    target: Windows,
}

#[derive(Debug)]
enum AsideSource {
    /// From this byte of the device on.
    Device(u64),
    /// From the metadata reader: a file's extent, from this byte of the file on.
    Special(Ino, Extent, u64),
}

/// Most commands read one range.
pub(crate) type Ranges = SmallVec<[RangeRequest; 1]>;

/// What is to be read for one command.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    homifs: &'a Homifs,
    block: u64,
    windows: Windows,
    length: usize,
    pub(crate) ranges: Ranges,
    pub(crate) tails: Vec<Tail>,
    pub(crate) asides: Vec<Aside>,
}

/// Where bytes come from.
enum Source {
    Zeros,
    /// From this byte of the device on.
    Device(u64),
    /// From the metadata reader.
    Special(Extent),
}

impl<'a> Parts<'a> {
    /// Of a command whose `length` bytes go to these windows, on a device of blocks of `block` bytes, a power of
    /// two.
    pub(crate) fn new(homifs: &'a Homifs, block: u32, windows: Windows, length: u64) -> Self {
        let (block, length) = (block.into(), to_usize(length));
        Self { homifs, block, windows, length, ranges: Ranges::new(), tails: Vec::new(), asides: Vec::new() }
    }

    /// Reads `length` bytes of a file from `offset` on, both whole blocks, into the command's memory from byte `place` on.
    /// Behind the file's end lie zeros.
    pub(crate) fn file(
        &mut self,
        contents: &impl Contents,
        offset: u64,
        length: u64,
        place: usize,
    ) -> Result<(), Status> {
        let end = offset + length;
        // Blocks are powers of two, and every command comes by here: no division.
        let whole_end = (contents.size() & !(self.block - 1)).min(end).max(offset);
        let mut at = offset;
        for run in contents.runs(offset, whole_end - offset) {
            let source = self.source(&run)?;
            self.add(contents, &run, place + to_usize(run.offset - offset), &source)?;
            at = run.offset + run.length;
        }
        if at < end {
            self.end_of_file(contents, at, end - at, place + to_usize(at - offset))
        } else {
            Ok(())
        }
    }

    fn source(&self, run: &Run) -> Result<Source, Status> {
        Ok(match run.extent {
            Some(extent) if extent.is_plain() => {
                let physical = run.physical().ok_or(Status::INTERNAL_ERROR)?;
                Source::Device(self.homifs.device_offset(physical).ok_or(Status::INTERNAL_ERROR)?)
            }
            Some(extent) if !extent.flags.contains(ExtentFlags::UNWRITTEN) => Source::Special(extent),
            _ => Source::Zeros,
        })
    }

    fn add(
        &mut self,
        contents: &impl Contents,
        run: &Run,
        place: usize,
        source: &Source,
    ) -> Result<(), Status> {
        let length = run.length;
        match *source {
            Source::Device(start) if (start | length) & (self.block - 1) == 0 => {
                let memory = self.take(place, to_usize(length));
                let operation = Operation::Read;
                self.ranges.push(RangeRequest { tag: 0, operation, offset: start, length, memory });
                Ok(())
            }
            Source::Zeros => fill_zeros(&self.take(place, to_usize(length))),
            Source::Device(start) => {
                let source = AsideSource::Device(start);
                let target = self.take(place, to_usize(length));
                self.asides.push(Aside { source, target });
                Ok(())
            }
            Source::Special(extent) => {
                let source = AsideSource::Special(contents.ino(), extent, run.offset);
                let target = self.take(place, to_usize(length));
                self.asides.push(Aside { source, target });
                Ok(())
            }
        }
    }

    /// What follows byte `at`: the part of the file's last block that is the file's, then zeros.
    fn end_of_file(
        &mut self,
        contents: &impl Contents,
        at: u64,
        length: u64,
        place: usize,
    ) -> Result<(), Status> {
        let kept = contents.size().saturating_sub(at).min(length);
        let zeros = cut(&self.windows, place + to_usize(kept), to_usize(length - kept));
        fill_zeros(&zeros)?;
        for run in contents.runs(at, kept) {
            let source = self.source(&run)?;
            let target = cut(&self.windows, place + to_usize(run.offset - at), to_usize(run.length));
            match source {
                Source::Device(block) if block & (self.block - 1) == 0 && run.length < self.block => {
                    self.tails.push(Tail { block, target });
                }
                Source::Zeros => fill_zeros(&target)?,
                Source::Device(start) => {
                    self.asides.push(Aside { source: AsideSource::Device(start), target });
                }
                Source::Special(extent) => {
                    let source = AsideSource::Special(contents.ino(), extent, run.offset);
                    self.asides.push(Aside { source, target });
                }
            }
        }
        Ok(())
    }

    /// A part of the command's memory; all of it can be taken once.
    fn take(&mut self, place: usize, length: usize) -> Windows {
        if place == 0 && length == self.length {
            std::mem::take(&mut self.windows)
        } else {
            cut(&self.windows, place, length)
        }
    }
}

impl From<Tail> for Aside {
    fn from(tail: Tail) -> Self {
        Self { source: AsideSource::Device(tail.block), target: tail.target }
    }
}

impl Aside {
    /// Brings the bytes; blocks meanwhile.
    pub(crate) fn bring(&self, homifs: &Homifs) -> Result<(), Status> {
        let mut bytes = vec![0; self.target.iter().map(|window| window.length).sum()];
        let failed = Status::UNRECOVERED_READ_ERROR;
        match &self.source {
            AsideSource::Device(start) => {
                homifs.device().read_at(*start, &mut bytes).map_err(|_| failed)?;
            }
            AsideSource::Special(ino, extent, offset) => {
                let volume = homifs.volume();
                volume.read_special(*ino, extent, *offset, &mut bytes).map_err(|_| failed)?;
            }
        }
        copy_in(&self.target, &bytes)
    }
}

/// `length` bytes from byte `offset` on of what the windows hold together.
fn cut(windows: &Windows, offset: usize, length: usize) -> Windows {
    let (mut skip, mut left) = (offset, length);
    let mut part = Windows::new();
    for window in windows {
        if left == 0 {
            break;
        }
        if skip >= window.length {
            skip -= window.length;
            continue;
        }
        let taken = (window.length - skip).min(left);
        part.push(Window {
            mapping: Arc::clone(&window.mapping),
            offset: window.offset + skip,
            length: taken,
        });
        (skip, left) = (0, left - taken);
    }
    part
}

fn fill_zeros(windows: &Windows) -> Result<(), Status> {
    let mut fill = windows.iter().map(|window| window.mapping.region().fill(window.offset, window.length, 0));
    fill.try_for_each(|filled| filled.map_err(|_| Status::DATA_TRANSFER_ERROR))
}

/// Copies bytes into as much of the windows as they fill.
pub(crate) fn copy_in(windows: &Windows, bytes: &[u8]) -> Result<(), Status> {
    let mut rest = bytes;
    for window in windows {
        let (part, later) = rest.split_at_checked(window.length).unwrap_or((rest, &[]));
        window.mapping.region().write(window.offset, part).map_err(|_| Status::DATA_TRANSFER_ERROR)?;
        rest = later;
    }
    Ok(())
}
