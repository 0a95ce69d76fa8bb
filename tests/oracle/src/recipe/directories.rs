//! Directories of all forms: from a few names within the inode to trees with several levels.

use std::fs;
use std::path::Path;

use anyhow::Result;
use rustix::fs::{Mode, OFlags, mkdirat, open, openat};

use super::{Place, file, named};

/// Numbers of names that lead to different forms.
const SIZES: [u32; 13] = [0, 1, 2, 3, 5, 12, 25, 60, 130, 260, 600, 1300, 3000];

pub(super) fn make(place: &Place) -> Result<()> {
    let folder = place.folder("directories")?;
    let seed = folder.join("seed");
    file(&seed, 10)?;
    for size in SIZES {
        let directory = folder.join(format!("of-{size}"));
        fs::create_dir(&directory)?;
        (0..size).try_for_each(|number| fs::hard_link(&seed, directory.join(name(number))))?;
    }
    strange_names(&folder)?;
    deleted(&folder, &seed)?;
    types(&folder)?;
    deep(&folder)
}

/// Names of many lengths, so that entries of many sizes lie beside each other.
fn name(number: u32) -> String {
    let length = usize::try_from(number.wrapping_mul(37) % 60).unwrap_or_default();
    format!("{number:05}{}", &"-abcdefghijklmnopqrstuvwxyz0123456789_abcdefghijklmnopqrstuvwxyz"[..length])
}

fn strange_names(folder: &Path) -> Result<()> {
    let directory = folder.join("strange-names");
    fs::create_dir(&directory)?;
    // Every byte that a name can have, and names of one byte.
    for byte in (1..=255_u8).filter(|byte| *byte != b'/') {
        if byte != b'.' {
            file(&named(&directory, &[byte]), 0)?;
        }
        file(&named(&directory, &[b'x', byte, b'y', byte]), 0)?;
    }
    // Not UTF-8: a lone continuation byte, an overlong form, a surrogate, a cut sequence.
    for name in
        [&b"\x80"[..], b"\xC0\xAF", b"\xED\xA0\x80", b"\xF0\x9F\x98", b"...", b"..x", b".. ", b"~", b"a\nb"]
    {
        let path = named(&directory, name);
        if path.symlink_metadata().is_err() {
            file(&path, 0)?;
        }
    }
    for length in (2..=255).rev() {
        file(&named(&directory, &vec![b'L'; length]), 0)?;
    }
    // The same letters in two Unicode forms are two names.
    file(&directory.join("\u{e9}t\u{e9}"), 1)?;
    file(&directory.join("e\u{301}te\u{301}"), 2)?;
    Ok(())
}

fn deleted(folder: &Path, seed: &Path) -> Result<()> {
    for (directory, size, keep) in
        [("half-deleted", 2000, 2), ("mostly-deleted", 2000, 97), ("emptied", 1000, u32::MAX)]
    {
        let directory = folder.join(directory);
        fs::create_dir(&directory)?;
        for number in 0..size {
            fs::hard_link(seed, directory.join(name(number)))?;
        }
        for number in (0..size).filter(|number| number % keep != keep - 1) {
            fs::remove_file(directory.join(name(number)))?;
        }
    }
    // The first and the last names of a directory with one block, and one that was used again.
    let directory = folder.join("first-and-last-deleted");
    fs::create_dir(&directory)?;
    for number in 0..20 {
        fs::hard_link(seed, directory.join(name(number)))?;
    }
    for number in [0, 1, 19] {
        fs::remove_file(directory.join(name(number)))?;
    }
    fs::rename(directory.join(name(7)), directory.join("renamed"))?;
    Ok(())
}

/// Every type of file as a directory entry.
fn types(folder: &Path) -> Result<()> {
    let directory = folder.join("types");
    fs::create_dir(&directory)?;
    for number in 0..200 {
        let path = directory.join(name(number));
        match number % 4 {
            0 => fs::create_dir(path)?,
            1 => std::os::unix::fs::symlink("nowhere", path)?,
            2 => drop(file(&path, 0)?),
            _ => rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, Mode::RUSR, 0)?,
        }
    }
    Ok(())
}

/// A path longer than any system call takes.
fn deep(folder: &Path) -> Result<()> {
    let mut here = open(folder, OFlags::DIRECTORY, Mode::empty())?;
    for level in 0..60 {
        let name = format!("{level:02}-{}", "deep".repeat(if level % 3 == 0 { 50 } else { 5 }));
        mkdirat(&here, &name, Mode::RWXU)?;
        here = openat(&here, &name, OFlags::DIRECTORY, Mode::empty())?;
    }
    openat(&here, "bottom", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR)?;
    Ok(())
}
