//! A dataset snapshot that a client has open: all files of a tree as one namespace, so that whoever has the arena reads
//! any of them with no request for each.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use engine_dma::to_usize;
use engine_nvme_spec::Status;
use extents_core::{Extent, ExtentFlags, Ino, Run};
use homi_abi::extents as abi;
use homifs_core::{Caller, Homifs};
use homifs_snapshot::{Limits, Request, Sealed, Snapshot, SnapshotError};
use parking_lot::RwLock;

use crate::parts::{Contents, Parts, lies_at};
use crate::refusal::Refusal;
use crate::served::{Common, Served, TakenBack};

/// What a walk over a tree came to.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) arena: Sealed,
    pub(crate) table: Table,
    pub(crate) files: u64,
    /// Files and directories that the client may not read, or nobody can.
    pub(crate) left_out: u64,
}

/// Where the bytes of all files lie: what the arena says, as this process needs it.
#[derive(Debug)]
pub(crate) struct Table {
    /// By first block; of those that begin at one block, all but the last are empty.
    files: Vec<Place>,
    extents: Vec<Extent>,
    /// Bytes of a block of the file system, in which files are laid one behind another.
    block: u64,
    blocks: u64,
}

/// Where one file lies.
#[derive(Debug, Clone, Copy)]
struct Place {
    first_block: u64,
    size: u64,
    inode: u64,
    first_extent: u64,
    extents: u32,
}

/// A file of the table.
#[derive(Debug, Clone, Copy)]
struct OneFile<'a> {
    place: &'a Place,
    extents: &'a [Extent],
}

/// Walks the tree below a directory, as its reader `caller`, into an arena of at most `most` bytes.
pub(crate) fn take(
    homifs: &Homifs,
    directory: Ino,
    caller: &Caller,
    most: u64,
    stop: impl Fn() -> bool,
) -> Result<Taken, Refusal> {
    let limits = Limits { bytes: most, ..Limits::default() };
    let watch = |_: &_| if stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    // Only the handle is known, and not by which path its holder came to the directory.
    let request = Request::new(homifs.volume(), directory, b"/")
        .volume_start(homifs.device_offset(0).unwrap_or(0))
        .limits(limits)
        .may_read(|metadata| homifs.may_read(metadata, caller))
        .watch(watch);
    let snapshot = Snapshot::take(request).map_err(|error| refusal(&error))?;
    let counts = *snapshot.counts();
    if snapshot.length() > most {
        return Err(refusal(&SnapshotError::TooLarge(most)));
    }
    let table = Table::of(&snapshot);
    let arena = snapshot.into_memfd().map_err(Refusal::from_system)?;
    Ok(Taken { arena, table, files: counts.files, left_out: counts.denied + counts.unreadable })
}

fn refusal(error: &SnapshotError) -> Refusal {
    let errno = match error {
        SnapshotError::NotADirectory(_) => libc::ENOTDIR,
        SnapshotError::TooManyFiles(_) | SnapshotError::TooLarge(_) => libc::EDQUOT,
        SnapshotError::Cancelled => libc::ECANCELED,
        _ => libc::EIO,
    };
    let text = homifs_core::error_chain(error);
    let advice = if errno == libc::EDQUOT { " (option client_snapshots of the mount)" } else { "" };
    Refusal::new(errno, format!("{text}{advice}"))
}

impl Table {
    fn of(snapshot: &Snapshot) -> Self {
        let files = snapshot.files().iter().map(|file| Place {
            first_block: file.first_block.get(),
            size: file.size.get(),
            inode: file.inode.get(),
            first_extent: file.first_extent.get(),
            extents: file.extents.get(),
        });
        let extents = snapshot.extents().iter().map(|entry| Extent {
            logical: entry.logical.get(),
            physical: entry.physical.get(),
            length: entry.length.get(),
            flags: flags_of(entry.flags.get()),
        });
        let header = snapshot.header();
        Self {
            files: files.collect(),
            extents: extents.collect(),
            block: header.block_size.get().into(),
            blocks: header.blocks.get(),
        }
    }

    /// The place in the table of the file that has a block of the namespace.
    fn at_block(&self, block: u64) -> usize {
        self.files.partition_point(|file| file.first_block <= block).saturating_sub(1)
    }

    fn file(&self, place: usize) -> Option<OneFile<'_>> {
        let place = self.files.get(place)?;
        let first = to_usize(place.first_extent);
        let extents = self.extents.get(first..first + to_usize(place.extents.into()))?;
        Some(OneFile { place, extents })
    }
}

fn flags_of(bits: u32) -> ExtentFlags {
    let known = [
        (abi::UNWRITTEN, ExtentFlags::UNWRITTEN),
        (abi::INLINE, ExtentFlags::INLINE),
        (abi::SHARED, ExtentFlags::SHARED),
        (abi::ENCODED, ExtentFlags::ENCODED),
    ];
    known.into_iter().filter(|(bit, _)| bits & bit != 0).map(|(_, flag)| flag).collect()
}

impl OneFile<'_> {
    /// The place of the first extent that ends after `offset`.
    fn place(&self, offset: u64) -> usize {
        self.extents.partition_point(|extent| extent.end() <= offset)
    }
}

impl Contents for OneFile<'_> {
    fn ino(&self) -> Ino {
        Ino(self.place.inode)
    }

    fn size(&self) -> u64 {
        self.place.size
    }

    #[inline]
    fn find(&self, offset: u64) -> Option<Extent> {
        self.extents.get(self.place(offset)).copied().filter(|extent| extent.logical <= offset)
    }

    fn runs(&self, offset: u64, length: u64) -> impl Iterator<Item = Run> {
        let end = offset + length;
        let mut at = offset;
        let mut rest = self.extents.get(self.place(offset)..);
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let next = rest.and_then(<[_]>::first).filter(|extent| extent.logical < end);
            let run = match next {
                Some(extent) if extent.logical <= at => {
                    rest = rest.and_then(|rest| rest.get(1..));
                    Run { offset: at, length: extent.end().min(end) - at, extent: Some(*extent) }
                }
                Some(extent) => Run { offset: at, length: extent.logical - at, extent: None },
                None => Run { offset: at, length: end - at, extent: None },
            };
            at += run.length;
            Some(run)
        })
    }
}

/// A snapshot as a namespace.
#[derive(Debug)]
pub(crate) struct OpenedSnapshot {
    common: Common,
    table: Table,
    /// Whether single files were taken back, and the places of those, in order.
    has_gaps: AtomicBool,
    gaps: RwLock<Vec<usize>>,
}

impl OpenedSnapshot {
    pub(crate) fn new(homifs: Arc<Homifs>, table: Table, directory: Ino, number: u32) -> Self {
        // What the device reads by itself, but no more than files are laid out in.
        let device = homifs.device().info().logical_block.max(512);
        let block = u32::try_from(table.block).map_or(device, |block| block.min(device));
        let common = Common::new(homifs, number, block, directory.0);
        Self { common, table, has_gaps: AtomicBool::new(false), gaps: RwLock::default() }
    }

    fn is_gap(&self, place: usize) -> bool {
        self.has_gaps.load(Ordering::Acquire) && self.gaps.read().binary_search(&place).is_ok()
    }
}

impl Served for OpenedSnapshot {
    fn common(&self) -> &Common {
        &self.common
    }

    fn size(&self) -> u64 {
        self.table.blocks * self.table.block
    }

    fn describe(&self) -> String {
        format!("snapshot {} of {}", self.common.number, self.common.homifs.source())
    }

    fn lies_at(&self, offset: u64, length: u64) -> Option<u64> {
        let place = self.table.at_block(offset / self.table.block);
        let file = self.table.file(place).filter(|_| !self.is_gap(place))?;
        lies_at(&file, offset - file.place.first_block * self.table.block, length)
    }

    fn gather(&self, offset: u64, length: u64, parts: &mut Parts<'_>) -> Result<(), Status> {
        let (table, end) = (&self.table, offset + length);
        let mut at = offset;
        let mut place = table.at_block(offset / table.block);
        while at < end {
            let file = table.file(place).ok_or(Status::INTERNAL_ERROR)?;
            let start = file.place.first_block * table.block;
            let file_end = start + file.size().next_multiple_of(table.block);
            let part = file_end.min(end).saturating_sub(at);
            // Empty files take no block.
            if part > 0 {
                if self.is_gap(place) {
                    return Err(Status::NAMESPACE_NOT_READY.final_());
                }
                parts.file(&file, at - start, part, to_usize(at - offset))?;
                at += part;
            }
            place += 1;
        }
        Ok(())
    }

    fn shows(&self, inode: u64) -> bool {
        self.table.files.iter().any(|file| file.inode == inode)
    }

    fn take_back(&self, inode: u64) -> TakenBack {
        let files = self.table.files.iter().enumerate();
        let places: Vec<usize> =
            files.filter(|(_, file)| file.inode == inode).map(|(place, _)| place).collect();
        if places.is_empty() {
            return TakenBack::Nothing;
        }
        let mut gaps = self.gaps.write();
        gaps.extend(places);
        gaps.sort_unstable();
        gaps.dedup();
        let all = gaps.len() == self.table.files.len();
        self.has_gaps.store(true, Ordering::Release);
        if all {
            self.common.revoke();
            return TakenBack::Whole;
        }
        TakenBack::Part
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(logical: u64, physical: u64, length: u64) -> Extent {
        Extent { logical, physical, length, flags: ExtentFlags::empty() }
    }

    fn table() -> Table {
        let place = |first_block, size, first_extent, extents| Place {
            first_block,
            size,
            inode: first_block + 100,
            first_extent,
            extents,
        };
        Table {
            // Three blocks, nothing, one block, two blocks of which the first is a hole.
            files: vec![place(0, 9000, 0, 2), place(3, 0, 2, 0), place(3, 10, 2, 1), place(4, 8192, 3, 1)],
            extents: vec![
                extent(0, 40960, 4096),
                extent(4096, 81920, 8192),
                extent(0, 4096, 4096),
                extent(4096, 8192, 4096),
            ],
            block: 4096,
            blocks: 6,
        }
    }

    #[test]
    fn block_of_the_namespace_belongs_to_the_file_that_is_not_empty() {
        let table = table();
        let places: Vec<usize> = (0..6).map(|block| table.at_block(block)).collect();
        assert_eq!(places, [0, 0, 0, 2, 3, 3]);
    }

    #[test]
    fn runs_of_a_file_leave_no_gap_and_name_each_extent() {
        let table = table();
        let runs = |place: usize, offset, length| -> Vec<(u64, u64, Option<u64>)> {
            let file = table.file(place).unwrap();
            file.runs(offset, length).map(|run| (run.offset, run.length, run.physical())).collect()
        };
        assert_eq!(runs(0, 0, 9000), [(0, 4096, Some(40960)), (4096, 4904, Some(81920))]);
        assert_eq!(runs(0, 8192, 512), [(8192, 512, Some(86016))]);
        assert_eq!(runs(3, 0, 8192), [(0, 4096, None), (4096, 4096, Some(8192))]);
        assert_eq!(runs(1, 0, 0), []);
    }
}
