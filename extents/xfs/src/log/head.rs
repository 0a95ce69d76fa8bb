//! Finding the head of the log (`xlog_find_head`, `xlog_find_zeroed`).
//!
//! Several records are written at once and reach the disk in any order, and a system that stops leaves holes
//! among them. So what the cycles say at first is checked against the blocks before, as many as may have been
//! under way.

use extents_core::{Error, Result};

use crate::log::ring::Ring;

/// The block where the next record would go; 0 in a log that was never written to.
pub(super) fn find(ring: &Ring<'_>) -> Result<u64> {
    let last = ring.blocks() - 1;
    let (first_cycle, last_cycle) = (ring.cycle(0)?, ring.cycle(last)?);
    if first_cycle == 0 {
        return Ok(0);
    }
    let head = if last_cycle == 0 {
        if first_cycle != 1 {
            return Err(Error::corrupt(
                "log",
                "it begins in a later cycle, and its end was never written to",
            ));
        }
        in_first_cycle(ring)?
    } else {
        let guess = guess(ring, first_cycle, last_cycle)?;
        whole_records(ring, settle(ring, guess)?)?
    };
    Ok(ring.wrap(head))
}

/// A head as the cycles tell it, and which cycle no block before it may have.
#[derive(Clone, Copy)]
struct Guess {
    head: u64,
    stop_at: u32,
}

/// The head of a log whose end was never written to: where zeros begin.
fn in_first_cycle(ring: &Ring<'_>) -> Result<u64> {
    let head = first_of_cycle(ring, ring.blocks() - 1, 0)?;
    let from = head.saturating_sub(ring.in_flight_blocks());
    let head = ring.find_cycle(from..head, 0)?.unwrap_or(head);
    match end_of_last_record(ring, from, head, 0)? {
        Some(head) => Ok(head),
        None => Err(no_record()),
    }
}

fn guess(ring: &Ring<'_>, first_cycle: u32, last_cycle: u32) -> Result<Guess> {
    if first_cycle == last_cycle {
        // The whole ring has one cycle; the head is at its end, unless there are holes of the cycle before.
        return Ok(Guess { head: ring.blocks(), stop_at: last_cycle.wrapping_sub(1) });
    }
    let head = first_of_cycle(ring, ring.blocks() - 1, last_cycle)?;
    Ok(Guess { head, stop_at: last_cycle })
}

/// By halving: where blocks of `cycle` begin, the first block not being one of them and `last` being one. With
/// holes about it is one such place.
fn first_of_cycle(ring: &Ring<'_>, last: u64, cycle: u32) -> Result<u64> {
    let (mut other, mut of_cycle) = (0, last);
    while of_cycle - other > 1 {
        let middle = other + (of_cycle - other) / 2;
        if ring.cycle(middle)? == cycle {
            of_cycle = middle;
        } else {
            other = middle;
        }
    }
    Ok(of_cycle)
}

/// Moves the head back to the first hole among the blocks that may have been under way.
fn settle(ring: &Ring<'_>, guess: Guess) -> Result<u64> {
    let Guess { head, stop_at } = guess;
    let reach = ring.in_flight_blocks().min(ring.blocks());
    if head >= reach {
        return Ok(ring.find_cycle(head - reach..head, stop_at)?.unwrap_or(head));
    }
    // They begin behind, at the end of the ring, where the cycle is lower by one.
    let behind = ring.blocks() - (reach - head);
    if let Some(hole) = ring.find_cycle(behind..ring.blocks(), stop_at.wrapping_sub(1))? {
        return Ok(hole);
    }
    Ok(ring.find_cycle(0..head, stop_at)?.unwrap_or(head))
}

/// Moves a head that stands within a record to where that record begins.
fn whole_records(ring: &Ring<'_>, head: u64) -> Result<u64> {
    let reach = ring.record_blocks().min(ring.blocks());
    if head >= reach {
        return end_of_last_record(ring, head - reach, head, 0)?.ok_or_else(no_record);
    }
    if let Some(end) = end_of_last_record(ring, 0, head, 0)? {
        return Ok(end);
    }
    let end = ring.blocks();
    let found = end_of_last_record(ring, end - (reach - head), end, head)?.ok_or_else(no_record)?;
    Ok(if found == end { head } else { found })
}

/// Where the last record that begins between `from` and `to` ends: at `to`, or, where it is longer or shorter,
/// at its own beginning, since it is not whole then (`xlog_find_verify_log_record`). `further` counts blocks at
/// the start of the ring that belong to it. `None` where no record begins there.
fn end_of_last_record(ring: &Ring<'_>, from: u64, to: u64, further: u64) -> Result<Option<u64>> {
    let Some(record) = ring.last_header(from..to)? else { return Ok(None) };
    if !ring.is_ours(&record.header) {
        return Err(Error::corrupt("log", "its last record belongs to another volume"));
    }
    let length = record.header.header_blocks(ring.is_version_2()) + record.header.data_blocks();
    Ok(Some(if to - record.at + further == length { to } else { record.at }))
}

fn no_record() -> Error {
    Error::corrupt("log", "no record where its head seems to be")
}
