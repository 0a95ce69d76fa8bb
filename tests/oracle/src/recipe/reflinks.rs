//! Files that share blocks.

use std::fs::File;

use anyhow::Result;
use rustix::fs::{FallocateFlags, fallocate, ioctl_ficlone};
use rustix::io::Errno;

use super::{Place, file, put};

pub(super) fn make(place: &Place) -> Result<()> {
    let folder = place.folder("reflinks")?;
    let block = place.block();
    let original = file(&folder.join("original"), 100 * block + 50)?;
    let whole = File::create_new(folder.join("whole"))?;
    match ioctl_ficlone(&whole, &original) {
        Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOTTY) => return Ok(()),
        other => other?,
    }
    // Written again in places: shared, own, shared.
    let partly = File::create_new(folder.join("partly"))?;
    ioctl_ficlone(&partly, &original)?;
    for number in [0, 10, 11, 50, 99] {
        put(&partly, number * block, block / 2)?;
    }
    let cut = File::create_new(folder.join("cut"))?;
    ioctl_ficlone(&cut, &original)?;
    cut.set_len(30 * block + 1)?;
    fallocate(&cut, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 5 * block, 5 * block)?;
    // Shared between itself and others three times, and with holes.
    let sparse = file(&folder.join("sparse"), 0)?;
    (0..200).try_for_each(|number| put(&sparse, number * 3 * block, block))?;
    for number in 0..3 {
        ioctl_ficlone(File::create_new(folder.join(format!("sparse-{number}")))?, &sparse)?;
    }
    // Once shared, no longer: the other one went.
    let alone = file(&folder.join("alone"), 20 * block)?;
    let gone = folder.join("gone");
    ioctl_ficlone(File::create_new(&gone)?, &alone)?;
    std::fs::remove_file(gone)?;
    Ok(())
}
