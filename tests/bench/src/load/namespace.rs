//! Names, attributes, listings and opens.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use rustix::fs::{AtFlags, Mode, OFlags, RawDir};

use super::{Clock, Done};
use crate::contents::name;
use crate::generator::Generator;

fn directory(path: &Path) -> Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Asks for the attributes of files in a random order, each name once; gives stats a second.
pub(crate) fn stat(path: &Path, names: u32, seed: u64, limit: Duration) -> Result<Done> {
    let directory = directory(path)?;
    let names: Vec<String> = Generator::new(seed).permutation(names).into_iter().map(name).collect();
    let clock = Clock::start(limit);
    let mut done = 0;
    for name in &names {
        if clock.is_over() {
            break;
        }
        rustix::fs::statat(&directory, name.as_str(), AtFlags::SYMLINK_NOFOLLOW)?;
        done += 1;
    }
    Ok(clock.done(done))
}

/// Opens and closes files in a random order, again and again; gives pairs a second.
pub(crate) fn open_close(path: &Path, names: u32, limit: Duration) -> Result<Done> {
    let directory = directory(path)?;
    let chosen = names.min(500);
    let names: Vec<String> =
        Generator::new(300).permutation(names).into_iter().take(chosen as usize).map(name).collect();
    for name in &names {
        rustix::fs::statat(&directory, name.as_str(), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    let clock = Clock::start(limit);
    let mut done = 0;
    for name in names.iter().cycle() {
        if clock.is_over() {
            break;
        }
        drop(rustix::fs::openat(&directory, name.as_str(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?);
        done += 1;
    }
    Ok(clock.done(done))
}

/// Lists a directory, with the attributes of each name if wanted; gives the number of names.
fn list_once(path: &Path, attributes: bool) -> Result<u64> {
    let directory = directory(path)?;
    let mut buffer = [MaybeUninit::<u8>::uninit(); 32 * 1024];
    let mut entries = RawDir::new(&directory, &mut buffer);
    let mut listed = 0;
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        if attributes {
            rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        listed += 1;
    }
    Ok(listed)
}

/// Lists the large directory once; gives names a second.
pub(crate) fn list(path: &Path, names: u32, attributes: bool) -> Result<Done> {
    let clock = Clock::start(Duration::MAX);
    let listed = list_once(path, attributes)?;
    ensure!(listed == u64::from(names), "{listed} names listed, {names} expected");
    Ok(clock.done(listed))
}
