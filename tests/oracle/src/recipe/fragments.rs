//! Files of 100,000 extents.

use anyhow::Result;
use rustix::fs::{FallocateFlags, fallocate};

use super::{Place, bytes, file, put, where_possible};

const EXTENTS: u64 = 100_000;

pub(super) fn make(place: &Place) -> Result<()> {
    let folder = place.folder("fragments")?;
    let block = place.block();
    let written = file(&folder.join("written"), 0)?;
    for number in 0..EXTENTS {
        // A few bytes are enough to take a block.
        rustix::io::pwrite(&written, &bytes(number, 16), number * 2 * block)?;
    }
    written.sync_all()?;
    // Small extents of different kinds beside each other.
    let mixed = file(&folder.join("mixed"), 0)?;
    if where_possible(fallocate(&mixed, FallocateFlags::empty(), 0, EXTENTS / 10 * block))?.is_some() {
        for number in (0..EXTENTS / 10).filter(|number| number % 3 == 1) {
            rustix::io::pwrite(&mixed, &bytes(number, block.min(64)), number * block)?;
        }
    }
    // Longer than the longest extent of ext4: 32768 blocks written, 32767 not.
    let long = file(&folder.join("long"), 0)?;
    put(&long, 0, 33_000 * block.min(1024))?;
    let reserved = file(&folder.join("reserved"), 0)?;
    where_possible(fallocate(&reserved, FallocateFlags::empty(), 0, 34_000 * block.min(1024)))?;
    Ok(())
}
