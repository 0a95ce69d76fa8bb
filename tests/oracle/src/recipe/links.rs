//! Symbolic links of many lengths, and files with several names.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::Result;

use super::{Place, file};

/// Lengths around the places where formats change how they keep a target: within the inode's block array (60), within
/// a larger inode, in one block, in several.
const LENGTHS: [usize; 36] = [
    1, 2, 3, 30, 57, 58, 59, 60, 61, 62, 100, 154, 155, 156, 157, 158, 159, 160, 161, 254, 255, 256, 334,
    335, 336, 337, 450, 511, 512, 513, 1022, 1023, 1024, 2047, 4094, 4095,
];

pub(super) fn make(place: &Place) -> Result<()> {
    let folder = place.folder("links")?;
    LENGTHS.into_iter().try_for_each(|length| link(&folder, length))?;
    symlink("\u{e9}\n /../x", folder.join("strange target"))?;

    let target = folder.join("hard-0");
    file(&target, 5000)?;
    let below = folder.join("below");
    fs::create_dir(&below)?;
    for number in 1..50 {
        fs::hard_link(&target, folder.join(format!("hard-{number}")))?;
        fs::hard_link(&target, below.join(format!("hard-{number}")))?;
    }
    // A symbolic link can have several names, too.
    fs::hard_link(folder.join("link-60"), below.join("link-60-again"))?;
    Ok(())
}

/// A link of every length that the volume takes.
pub(super) fn every_length(place: &Place) -> Result<()> {
    let folder = place.folder("every-link")?;
    (1..4096).try_for_each(|length| link(&folder, length))
}

fn link(folder: &Path, length: usize) -> Result<()> {
    let target: String = "target/of/a/link-".chars().cycle().skip(length % 17).take(length).collect();
    match symlink(&target, folder.join(format!("link-{length}"))) {
        // ext4 takes as much as fits in a block.
        Err(error) if error.raw_os_error() == Some(libc::ENAMETOOLONG) => Ok(()),
        other => Ok(other?),
    }
}
