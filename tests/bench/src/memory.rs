//! How much memory the daemon takes for each inode that somebody touched.

use anyhow::{Context, Result, ensure};
use rustix::fs::{AtFlags, CWD};

use crate::arguments::{MemoryArguments, Who};
use crate::contender::{Setting, homifs_program};
use crate::contents::{self, Contents, FILES_EACH};
use crate::medium::Medium;
use crate::report::{machine, number, reached, right, table};

/// Touches every file of the tree below the mount in the way that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Touch {
    Stat,
    ReadByte,
}

impl Touch {
    fn describe(self) -> &'static str {
        match self {
            Self::Stat => "stat",
            Self::ReadByte => "open, read, close",
        }
    }
}

fn touch(root: &std::path::Path, directories: u32, how: Touch) -> Result<u64> {
    let mut touched = 0;
    let mut byte = [0];
    for directory in 0..directories {
        for file in 0..FILES_EACH {
            let path = root.join(contents::tree_name(directory, file));
            match how {
                Touch::Stat => {
                    rustix::fs::statat(CWD, &path, AtFlags::SYMLINK_NOFOLLOW)?;
                }
                Touch::ReadByte => {
                    let opened = std::fs::File::open(&path)?;
                    rustix::io::pread(&opened, &mut byte, 0)?;
                }
            }
            touched += 1;
        }
    }
    Ok(touched)
}

/// Mounts, touches everything and prints what it cost.
pub(crate) fn run(arguments: &MemoryArguments) -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "mounting needs root");
    let medium = Medium::zram(4 << 30)?;
    let contents = Contents { directories: arguments.directories, ..Contents::default() };
    contents::make(medium.device(), arguments.format, &contents)?;
    // The smallest caches, so that what grows with the inodes stands out from what is bounded.
    let bounded = if arguments.options.is_empty() { "cache=1M,map_cache=1M" } else { &arguments.options };
    let setting = Setting {
        format: arguments.format,
        device: medium.device().to_owned(),
        homifs: homifs_program(arguments.homifs.as_deref()),
        options: bounded.to_owned(),
        data_mib: 0,
        names: 0,
    };
    println!("{} on zram, homifs -o {bounded}\n{}\n", arguments.format.name(), machine());
    let mut list =
        table(&["touched by", "inodes", "before, MiB", "after, MiB", "bytes/inode", "to reach", "reached"]);
    for how in [Touch::Stat, Touch::ReadByte] {
        let mounted = Who::Homifs.mount(&setting)?;
        // Threads and caches take their memory with the first thousand.
        touch(mounted.root.path(), 1, how)?;
        let before = mounted.resident_bytes().context("the daemon has ended")?;
        let touched = touch(mounted.root.path(), arguments.directories, how)?;
        let after = mounted.resident_bytes().context("the daemon has ended")?;
        let each = after.saturating_sub(before) as f64 / touched as f64;
        list.add_row(vec![
            how.describe().into(),
            right(touched),
            right(number(before as f64 / 1048576.0)),
            right(number(after as f64 / 1048576.0)),
            right(number(each)),
            right("<= 200"),
            reached(each <= 200.0).into(),
        ]);
    }
    println!("{list}");
    Ok(())
}
