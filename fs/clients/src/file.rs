//! A file as the blocks of a namespace.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use engine_block::{Operation, RangeRequest, Window, Windows};
use engine_controller::backing::{BitBucket, Io, Memory, Started};
use engine_controller::tally::Tally;
use engine_controller::{Backing, BackingQueue, Commons, ControllerError};
use engine_dma::{Access, to_usize};
use engine_nvme_spec::Status;
use extents_core::{Extent, ExtentFlags};
use homifs_core::{Homifs, Redeemed};
use parking_lot::Mutex;

use crate::ledger::FileTally;
use crate::share::Share;

/// A file that a client has open, whatever happens to it.
#[derive(Debug)]
pub(crate) struct ServedFile {
    pub(crate) homifs: Arc<Homifs>,
    pub(crate) file: Redeemed,
    /// Its number among the files of its client.
    pub(crate) number: u32,
    block: u32,
    revoked: AtomicBool,
    pub(crate) tally: Arc<FileTally>,
}

impl ServedFile {
    pub(crate) fn new(homifs: Arc<Homifs>, file: Redeemed, number: u32) -> Self {
        let block = homifs.device().info().logical_block.max(512);
        let tally = FileTally::new(file.ino.0);
        Self { homifs, file, number, block, revoked: AtomicBool::new(false), tally }
    }

    /// Bytes of a block of the namespace: what the device reads by itself.
    pub(crate) fn block_size(&self) -> u32 {
        self.block
    }

    /// Lets every further command answer Namespace Not Ready.
    pub(crate) fn revoke(&self) {
        self.revoked.store(true, Ordering::Release);
    }
}

/// The file as a backing; the last block is filled up with zeros.
#[derive(Debug, Clone)]
pub(crate) struct FileBacking(pub(crate) Arc<ServedFile>);

impl Backing for FileBacking {
    fn size(&self) -> u64 {
        self.0.file.map.size().next_multiple_of(self.0.block.into())
    }

    fn block(&self) -> u32 {
        self.0.block
    }

    fn is_read_only(&self) -> bool {
        true
    }

    fn describe(&self) -> String {
        format!("inode {} of {}", self.0.file.ino.0, self.0.homifs.source())
    }

    fn tally(&self) -> Option<Arc<Tally>> {
        Some(self.0.tally.shard())
    }

    fn queue(&self, depth: u32) -> Result<Box<dyn BackingQueue>, ControllerError> {
        self.queue_among(depth, &mut None)
    }

    fn queue_among(
        &self,
        depth: u32,
        commons: &mut Commons,
    ) -> Result<Box<dyn BackingQueue>, ControllerError> {
        let share = Share::of(commons, self.0.homifs.shared_device(), depth)?;
        Ok(Box::new(FileQueue {
            file: Arc::clone(&self.0),
            share,
            in_flight: 0,
            bucket: BitBucket::default(),
        }))
    }
}

#[derive(Debug)]
struct FileQueue {
    file: Arc<ServedFile>,
    share: Arc<Mutex<Share>>,
    in_flight: usize,
    bucket: BitBucket,
}

/// A part of what a command reads, and where it comes from.
enum Source {
    Zeros,
    /// From this byte of the device on.
    Device(u64),
    /// From the metadata reader.
    Special(Extent),
}

impl FileQueue {
    fn read(&mut self, io: &Io, memory: &mut Memory<'_>) -> Result<Started, Status> {
        let windows = memory.windows(Access::ReadWrite, &mut self.bucket)?;
        let file = Arc::clone(&self.file);
        let mut parts = Parts { windows: &windows, file: &file, ranges: Vec::new() };
        // The block that the file ends in holds whatever the device has after it; the client gets zeros.
        let (end, whole) =
            (file.file.map.size(), file.file.map.size() / u64::from(file.block) * u64::from(file.block));
        let plain_end = (io.offset + io.length).min(if end == whole { end } else { whole }).max(io.offset);
        let mut at = io.offset;
        for run in file.file.map.runs(io.offset, plain_end - io.offset) {
            let source = match run.extent {
                Some(extent) if extent.is_plain() => {
                    let physical = run.physical().ok_or(Status::INTERNAL_ERROR)?;
                    Source::Device(file.homifs.device_offset(physical).ok_or(Status::INTERNAL_ERROR)?)
                }
                Some(extent) if !extent.flags.contains(ExtentFlags::UNWRITTEN) => Source::Special(extent),
                _ => Source::Zeros,
            };
            parts.add(io, run.offset, run.length, &source)?;
            at = run.offset + run.length;
        }
        if at < io.offset + io.length {
            parts.tail(io, at)?;
        }
        let ranges = parts.ranges;
        if ranges.is_empty() {
            return Ok(Started::Done(Status::SUCCESS));
        }
        self.share.lock().start(file.number, io.token, ranges.into_iter());
        self.in_flight += 1;
        Ok(Started::Pending)
    }
}

/// The parts of one command.
struct Parts<'a> {
    windows: &'a Windows,
    file: &'a ServedFile,
    ranges: Vec<RangeRequest>,
}

impl Parts<'_> {
    fn add(&mut self, io: &Io, offset: u64, length: u64, source: &Source) -> Result<(), Status> {
        let windows = cut(self.windows, to_usize(offset - io.offset), to_usize(length));
        let block = u64::from(self.file.block);
        match source {
            Source::Zeros => fill_zeros(&windows),
            Source::Device(start) if start.is_multiple_of(block) && length.is_multiple_of(block) => {
                let operation = Operation::Read;
                self.ranges.push(RangeRequest { tag: 0, operation, offset: *start, length, memory: windows });
                Ok(())
            }
            // Extents smaller than what the device reads by itself.
            Source::Device(start) => {
                let mut bytes = vec![0; to_usize(length)];
                let read = self.file.homifs.device().read_at(*start, &mut bytes);
                read.map_err(|_| Status::UNRECOVERED_READ_ERROR)?;
                copy_in(&windows, &bytes)
            }
            Source::Special(extent) => {
                let mut bytes = vec![0; to_usize(length)];
                let read =
                    self.file.homifs.volume().read_special(self.file.file.ino, extent, offset, &mut bytes);
                read.map_err(|_| Status::UNRECOVERED_READ_ERROR)?;
                copy_in(&windows, &bytes)
            }
        }
    }

    /// What follows byte `at`: the part of the file's last block that is the file's, then zeros.
    fn tail(&mut self, io: &Io, at: u64) -> Result<(), Status> {
        let (size, end) = (self.file.file.map.size(), io.offset + io.length);
        let homifs = &self.file.homifs;
        let mut bytes = vec![0; to_usize(end - at)];
        for run in self.file.file.map.runs(at, size.saturating_sub(at)) {
            let start = to_usize(run.offset - at);
            let part = bytes.get_mut(start..start + to_usize(run.length)).ok_or(Status::INTERNAL_ERROR)?;
            match run.extent {
                Some(extent) if extent.is_plain() => {
                    let physical = run.physical().ok_or(Status::INTERNAL_ERROR)?;
                    let place = homifs.device_offset(physical).ok_or(Status::INTERNAL_ERROR)?;
                    homifs.device().read_at(place, part).map_err(|_| Status::UNRECOVERED_READ_ERROR)?;
                }
                Some(extent) if !extent.flags.contains(ExtentFlags::UNWRITTEN) => {
                    let read = homifs.volume().read_special(self.file.file.ino, &extent, run.offset, part);
                    read.map_err(|_| Status::UNRECOVERED_READ_ERROR)?;
                }
                _ => {}
            }
        }
        copy_in(&cut(self.windows, to_usize(at - io.offset), bytes.len()), &bytes)
    }
}

impl BackingQueue for FileQueue {
    fn start(&mut self, io: &Io, memory: &mut Memory<'_>) -> Started {
        if self.file.revoked.load(Ordering::Acquire) {
            return Started::Done(Status::NAMESPACE_NOT_READY.final_());
        }
        match io.operation {
            Operation::Read => self.read(io, memory).unwrap_or_else(Started::Done),
            Operation::Flush => Started::Done(Status::SUCCESS),
            Operation::Write | Operation::WriteZeroes | Operation::Discard => {
                Started::Done(Status::NAMESPACE_WRITE_PROTECTED.final_())
            }
        }
    }

    fn poll(&mut self, limit: Duration, done: &mut Vec<(u64, Status)>) {
        let before = done.len();
        self.share.lock().take(self.file.number, limit, done);
        self.in_flight -= done.len() - before;
    }

    fn in_flight(&self) -> usize {
        self.in_flight
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

fn copy_in(windows: &Windows, bytes: &[u8]) -> Result<(), Status> {
    let mut rest = bytes;
    for window in windows {
        let (part, later) = rest.split_at_checked(window.length).unwrap_or((rest, &[]));
        window.mapping.region().write(window.offset, part).map_err(|_| Status::DATA_TRANSFER_ERROR)?;
        rest = later;
    }
    Ok(())
}
