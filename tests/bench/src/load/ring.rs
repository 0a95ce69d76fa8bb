//! Reads with many in flight, by io_uring.
#![allow(
    unsafe_code,
    reason = "io_uring takes addresses; the buffers outlive the ring's use of them, see below"
)]

use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use io_uring::{IoUring, opcode, types};

use super::reads::{Aligned, BLOCK, Caching, MIB, open};
use super::{Clock, Done};
use crate::generator::Generator;

/// Reads random blocks with O_DIRECT and `depth` of them in flight from one thread; gives reads a second.
pub(crate) fn random(path: &Path, depth: u32, limit: Duration) -> Result<Done> {
    let mut generator = Generator::new(200);
    read(path, BLOCK, depth, limit, |blocks| generator.below(blocks))
}

/// Reads the file from front to back with O_DIRECT, one MiB at a time; gives MiB a second.
pub(crate) fn sequential(path: &Path, limit: Duration) -> Result<Done> {
    let mut next = 0;
    read(path, MIB, 1, limit, |blocks| {
        next += 1;
        (next - 1) % blocks
    })
}

/// Reads those blocks of `size` bytes that `choose` says, which is told how many there are.
fn read(
    path: &Path,
    size: usize,
    depth: u32,
    limit: Duration,
    mut choose: impl FnMut(u64) -> u64,
) -> Result<Done> {
    let file = open(path, Caching::Direct)?;
    let blocks = file.metadata()?.len() / size as u64;
    let mut memory = Aligned::new(depth as usize * size);
    let base = memory.as_mut().as_mut_ptr();
    let mut ring = IoUring::new(depth)?;
    let fd = types::Fd(file.as_raw_fd());
    let mut entry = |slot: u64| {
        let address = base.wrapping_add(slot as usize * size);
        opcode::Read::new(fd, address, size as u32)
            .offset(choose(blocks) * size as u64)
            .build()
            .user_data(slot)
    };

    for slot in 0..u64::from(depth) {
        let read = entry(slot);
        // SAFETY: the slot's part of `memory` is used by this read alone, and lives until all reads have completed.
        unsafe { ring.submission().push(&read)? };
    }
    let clock = Clock::start(limit);
    let mut done = 0;
    let mut in_flight = depth;
    let mut bad = None;
    while in_flight > 0 {
        ring.submit_and_wait(1)?;
        let completed: Vec<_> = ring.completion().map(|entry| (entry.user_data(), entry.result())).collect();
        let over = clock.is_over() || bad.is_some();
        for (slot, result) in completed {
            in_flight -= 1;
            done += 1;
            if result != size as i32 {
                bad = Some(result);
            }
            if !over {
                let read = entry(slot);
                // SAFETY: the read that used this slot has just completed.
                unsafe { ring.submission().push(&read)? };
                in_flight += 1;
            }
        }
    }
    let done = clock.done(done);
    ensure!(bad.is_none(), "a read gave {bad:?}");
    Ok(done)
}
