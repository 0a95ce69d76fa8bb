//! One directory with more names than fit two levels of an index.

use std::fs;

use anyhow::Result;

use super::{Place, file};

const NAMES: u32 = 150_000;
/// Names for one inode; ext4 takes 65,000.
const EACH: u32 = 5_000;

/// Long and short names in turns, with as many again that were deleted among them.
pub(super) fn make(place: &Place) -> Result<()> {
    let folder = place.folder("crowd")?;
    let padding = "a-long-name-".repeat(12);
    let name = |number: u32| {
        let length = if number.is_multiple_of(2) { padding.len() } else { 3 };
        format!("{number:06}{}", &padding[..length])
    };
    let passing = folder.join("passing");
    file(&passing, 0)?;
    for first in (0..NAMES).step_by(EACH.try_into()?) {
        let target = folder.join(name(first));
        file(&target, 20)?;
        for number in first + 1..first + EACH {
            fs::hard_link(&target, folder.join(name(number)))?;
            if number.is_multiple_of(4) {
                fs::hard_link(&passing, folder.join(format!("passing-{number}")))?;
            }
        }
    }
    for number in (0..NAMES).filter(|number| number.is_multiple_of(4) && !number.is_multiple_of(EACH)) {
        fs::remove_file(folder.join(format!("passing-{number}")))?;
    }
    Ok(())
}
