//! Files with holes, with space that was reserved and never written, and with ends far away.

use std::fs::File;
use std::path::Path;

use anyhow::Result;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use super::{Place, bytes, file, put, where_possible};

pub(super) fn make(place: &Place) -> Result<()> {
    let folder = place.folder("holes")?;
    let block = place.block();
    for size in [0, 1, block - 1, block, block + 1, 3 * block - 7, 20 * block + 100] {
        file(&folder.join(format!("whole-{size}")), size)?;
    }
    for (name, size) in [("empty-hole", 10 * block), ("small-hole", 1), ("odd-hole", 10 * block + 77)] {
        file(&folder.join(name), 0)?.set_len(size)?;
    }
    let middle = file(&folder.join("hole-in-the-middle"), 2 * block)?;
    put(&middle, 10 * block, block + 5)?;
    middle.set_len(15 * block + 3)?;
    let alternating = file(&folder.join("alternating"), 0)?;
    (0..400).try_for_each(|number| put(&alternating, number * 2 * block, block))?;
    unwritten(&folder, block)?;
    changed(&folder, block)?;
    giants(&folder, block)
}

fn reserve(file: &File, flags: FallocateFlags, offset: u64, length: u64) -> Result<bool> {
    Ok(where_possible(fallocate(file, flags, offset, length))?.is_some())
}

fn unwritten(folder: &Path, block: u64) -> Result<()> {
    let (plain, keep) = (FallocateFlags::empty(), FallocateFlags::KEEP_SIZE);
    let whole = file(&folder.join("unwritten-whole"), 0)?;
    reserve(&whole, plain, 0, 64 * block)?;
    let odd = file(&folder.join("unwritten-odd-end"), 0)?;
    reserve(&odd, plain, 0, 3 * block + 17)?;
    let past_end = file(&folder.join("reserved-past-the-end"), block + 9)?;
    reserve(&past_end, keep, 0, 40 * block)?;
    let only_past_end = file(&folder.join("reserved-only-past-the-end"), 0)?;
    reserve(&only_past_end, keep, 4 * block, 8 * block)?;
    let gap = file(&folder.join("reserved-after-a-gap"), block)?;
    reserve(&gap, keep, 100 * block, 8 * block)?;
    let partly = file(&folder.join("unwritten-with-islands"), 0)?;
    if reserve(&partly, plain, 0, 200 * block)? {
        for number in [0, 3, 4, 50, 99, 199] {
            put(&partly, number * block, block)?;
        }
        // Part of a block: the rest of it must be zeros, not what lay there.
        put(&partly, 120 * block + 10, 5)?;
    }
    let tail = file(&folder.join("unwritten-tail"), 5 * block + 1)?;
    reserve(&tail, plain, 5 * block + 1, 20 * block)?;
    Ok(())
}

fn changed(folder: &Path, block: u64) -> Result<()> {
    let flags = [
        ("punched", FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 10 * block + 5, 5 * block),
        ("zeroed", FallocateFlags::ZERO_RANGE, 8 * block + 1, 9 * block),
        ("collapsed", FallocateFlags::COLLAPSE_RANGE, 16 * block, 16 * block),
        ("inserted", FallocateFlags::INSERT_RANGE, 16 * block, 16 * block),
    ];
    for (name, flag, offset, length) in flags {
        let file = file(&folder.join(name), 64 * block)?;
        file.sync_all()?;
        match fallocate(&file, flag, offset, length) {
            // Ranges that move blocks must fit clusters.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => {}
            other => other?,
        }
    }
    let cut = file(&folder.join("truncated-and-grown"), 30 * block)?;
    cut.sync_all()?;
    cut.set_len(10 * block + 11)?;
    cut.set_len(50 * block)?;
    Ok(())
}

/// Files whose data lie beyond 32 bits of bytes, of blocks, and as far as the format goes.
fn giants(folder: &Path, block: u64) -> Result<()> {
    let far = [
        1_u64 << 31,
        1 << 32,
        1 << 40,
        (1 << 32) * block / 2,
        (1 << 44) - 2 * block,
        1 << 44,
        1 << 50,
        1 << 62,
    ];
    for offset in far {
        let path = folder.join(format!("data-at-{offset}"));
        let file = file(&path, 0)?;
        let piece = bytes(offset, block);
        let written = rustix::io::pwrite(&file, &piece, offset - 3)
            .and_then(|_| rustix::io::pwrite(&file, &piece, 7 * block));
        if where_possible(written)?.is_none() {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}
