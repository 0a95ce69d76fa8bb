//! Files and directories small enough to be kept within their inodes, and those just too large.

use std::fs;
use std::path::Path;

use anyhow::Result;
use rustix::fs::{XattrFlags, setxattr};

use super::{Place, bytes, file, put, where_possible};

pub(super) fn make(place: &Place) -> Result<()> {
    let folder = place.folder("inline")?;
    for size in (0..=170).chain([250, 300, 400, 700, 900, 1000]) {
        file(&folder.join(format!("file-{size}")), size)?;
    }
    let tail = file(&folder.join("tail-is-a-hole"), 20)?;
    tail.set_len(100)?;
    let grown = file(&folder.join("grown-out"), 30)?;
    grown.sync_all()?;
    put(&grown, 3000, 3000)?;
    let shrunk = file(&folder.join("shrunk"), 150)?;
    shrunk.sync_all()?;
    shrunk.set_len(70)?;
    // Attributes compete for the same room.
    for size in [10, 60, 61, 90, 120] {
        let path = folder.join(format!("beside-attributes-{size}"));
        file(&path, size)?;
        where_possible(setxattr(&path, "user.beside", &bytes(1, 30), XattrFlags::empty()))?;
        let path = folder.join(format!("after-attributes-{size}"));
        file(&path, 0)?;
        where_possible(setxattr(&path, "user.before", &bytes(1, 30), XattrFlags::empty()))?;
        put(&fs::File::options().write(true).open(&path)?, 0, size)?;
    }
    directories(&folder)
}

/// Directories of a few short names, with names that went, in both parts that ext4 has for them.
fn directories(folder: &Path) -> Result<()> {
    for count in 0..14_u32 {
        let directory = folder.join(format!("directory-{count}"));
        fs::create_dir(&directory)?;
        for number in 0..count {
            file(&directory.join(format!("n{number}")), 0)?;
        }
        let directory = folder.join(format!("directory-{count}-with-gaps"));
        fs::create_dir(&directory)?;
        for number in 0..count {
            file(&directory.join(format!("name-{number}")), 0)?;
        }
        for number in (0..count).step_by(2) {
            fs::remove_file(directory.join(format!("name-{number}")))?;
        }
    }
    Ok(())
}
