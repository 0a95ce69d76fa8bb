//! The state of the log: whether the volume was unmounted cleanly, found as the kernel finds it
//! (`xlog_find_tail` in `fs/xfs/xfs_log_recover.c`).
//!
//! The log is a ring of blocks of 512 bytes. Each record begins with a header, and the first four bytes of every
//! block hold the number of times that the ring had been gone round when it was written, its cycle. The head,
//! where the next record would go, is where the cycle drops. A log is clean where the last record before the
//! head holds nothing but the mark that unmounting leaves.

mod head;
mod record;
mod ring;

use extents_core::{BlockRead, Error, Result};

use crate::log::record::{Header, Record};
use crate::log::ring::Ring;
use crate::superblock;
use crate::volume::{OpenOptions, Volume};

/// Most records that the kernel writes at once (`XLOG_MAX_ICLOGS`).
const IN_FLIGHT: usize = 8;

/// What the log says about the volume. Numbers count blocks of 512 bytes from the log's first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogState {
    /// All metadata is where it belongs.
    Clean,
    /// Metadata between tail and head was logged and may not have reached its place.
    Dirty {
        /// Where the next record would go.
        head: u64,
        /// Where recovery would begin.
        tail: u64,
    },
}

/// What the log of an XFS volume says, whether or not the volume can be opened otherwise.
///
/// # Errors
/// As opening the volume, but for the state of the log itself: `NeedsRecovery` where the log is on another
/// device.
pub fn log_state<R: BlockRead + 'static>(device: R) -> Result<LogState> {
    let superblock = superblock::read(&device)?;
    state(&Volume::new(Box::new(device), superblock.geometry, &OpenOptions::default()))
}

/// Finds out whether the log holds metadata that is newer than the rest of the volume.
///
/// # Errors
/// `NeedsRecovery` where the log is on another device, so that nothing can be said; `Corrupt` where what is in
/// its place is no log.
pub(crate) fn state(volume: &Volume) -> Result<LogState> {
    let geometry = volume.geometry();
    let Some(start) = geometry.log_start else {
        return Err(Error::NeedsRecovery(
            "the log is on another device, so whether it is empty cannot be seen; mount with norecovery to read \
             what is on this device, if the volume was unmounted cleanly"
                .into(),
        ));
    };
    let (state, end) = find_state(&Ring::new(volume, start)?)?;
    if geometry.is_v5() && superblock_lsn(volume)? > end {
        return Err(Error::corrupt(
            "log",
            "it ends before the superblock was written last, so a part of it is lost; run xfs_repair, or mount \
             with norecovery to read what is on the disk",
        ));
    }
    Ok(state)
}

/// A place in the log and the cycle in which it is reached (`xfs_lsn_t`), in the order of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Lsn {
    cycle: u64,
    block: u64,
}

/// Where the log ended when the superblock was written last (`sb_lsn`).
fn superblock_lsn(volume: &Volume) -> Result<Lsn> {
    const SB_LSN: u64 = 240;
    let mut bytes = [0; 8];
    volume.read_raw(SB_LSN, &mut bytes)?;
    let lsn = u64::from_be_bytes(bytes);
    Ok(Lsn { cycle: lsn >> 32, block: lsn & u64::from(u32::MAX) })
}

/// The state, and where the log ends.
fn find_state(ring: &Ring<'_>) -> Result<(LogState, Lsn)> {
    let head = head::find(ring)?;
    if head == 0 && ring.cycle(0)? == 0 {
        // Never written to.
        return Ok((LogState::Clean, Lsn { cycle: 1, block: 0 }));
    }
    let last = ring
        .headers_before(head, None, 1)?
        .pop()
        .ok_or_else(|| Error::corrupt("log", "no record before its head"))?;
    let tail = last.header.tail_block();
    let end = end_after(&last, head);
    if is_unmount(ring, head, &last)? {
        return Ok((LogState::Clean, end));
    }
    let Some(torn) = first_torn_record(ring, head, tail)? else {
        return Ok((LogState::Dirty { head, tail }, end));
    };
    // What was being written when the system stopped does not count; the log ends before it.
    let Some(last) = ring.headers_before(torn, Some(tail), 1)?.pop() else {
        return Ok((LogState::Dirty { head, tail }, end));
    };
    let state = if is_unmount(ring, torn, &last)? {
        LogState::Clean
    } else {
        LogState::Dirty { head: torn, tail: last.header.tail_block() }
    };
    Ok((state, end_after(&last, torn)))
}

/// The end of a log whose last record this is.
fn end_after(last: &Record, head: u64) -> Lsn {
    // A record that lies behind the head is from the round before, which it completed.
    let cycle = u64::from(last.header.h_cycle.get()) + u64::from(last.at >= head);
    Lsn { cycle, block: head }
}

/// Whether the record is the mark of a clean unmount and ends at the head (`xlog_check_unmount_rec`).
fn is_unmount(ring: &Ring<'_>, head: u64, record: &Record) -> Result<bool> {
    /// `XLOG_UNMOUNT_TRANS`, in the flags of an operation.
    const UNMOUNT: u8 = 0x20;
    /// Of the flags in an operation's header (`xlog_op_header`), behind the number of the transaction, the
    /// length and the client.
    const FLAGS_AT: usize = 9;
    let data = ring.wrap(record.at + record.header.header_blocks(ring.is_version_2()));
    let end = ring.wrap(data + record.header.data_blocks());
    if head != end || record.header.h_num_logops.get() != 1 {
        return Ok(false);
    }
    let block = ring.block(data)?;
    Ok(block.get(FLAGS_AT).is_some_and(|flags| flags & UNMOUNT != 0))
}

/// The first of the last records, of as many as may have been written at once, that has a wrong checksum: it did
/// not reach the disk whole (`xlog_verify_head`).
fn first_torn_record(ring: &Ring<'_>, head: u64, tail: u64) -> Result<Option<u64>> {
    let Some(first) = ring.headers_before(head, Some(tail), IN_FLIGHT)?.pop() else { return Ok(None) };
    let distance = |at: u64| ring.wrap(at + ring.blocks() - first.at);
    // The head may stand where the oldest of the records begins, the whole ring away.
    let end = match distance(head) {
        0 => ring.blocks(),
        other => other,
    };
    let mut at = first.at;
    let mut done = 0;
    // Every round takes at least one block of those up to the head.
    while done < end {
        let block = ring.block(at)?;
        let Some(header) = Header::parse(&block).filter(|header| header.is_valid(ring.is_version_2())) else {
            return Ok(Some(at));
        };
        let length = header.header_blocks(ring.is_version_2()) + header.data_blocks();
        if length > end - done || !record::checksum_matches(ring, at, header)? {
            return Ok(Some(at));
        }
        done += length;
        at = ring.wrap(at + length);
    }
    Ok(None)
}
