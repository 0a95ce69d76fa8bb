//! What is put into the volumes.
//!
//! Each section makes one folder. What a format or a kernel does not have (reflinks, holes punched into ext2) is left
//! out of that volume; both sides are compared by what is there.

mod attributes;
mod crowd;
mod directories;
mod encrypted;
mod fragments;
mod holes;
mod inline;
mod links;
mod programs;
mod reflinks;
mod special;
mod times;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::io::Errno;

pub use programs::fio;

/// Fills a part of a volume.
pub type Section = fn(&Place) -> Result<()>;

/// Sections and their names.
pub type Recipe = &'static [(&'static str, Section)];

/// A little of everything.
pub const ZOO: Recipe = &[
    ("directories", directories::make),
    ("links", links::make),
    ("special", special::make),
    ("attributes", attributes::make),
    ("holes", holes::make),
    ("inline", inline::make),
    ("reflinks", reflinks::make),
    ("times", times::make),
    ("encrypted", encrypted::make),
];

/// 150,000 names in one directory, and a symbolic link of every length.
pub const CROWD: Recipe = &[("crowd", crowd::make), ("every link", links::every_length)];

/// Files of 100,000 extents.
pub const FRAGMENTS: Recipe = &[("fragments", fragments::make)];

/// What real programs read.
pub const PROGRAMS: Recipe = &[("programs", programs::make)];

/// The text of this module and all sections: images are made anew when it changes.
pub(crate) const SOURCES: [&str; 13] = [
    include_str!("recipe.rs"),
    include_str!("recipe/attributes.rs"),
    include_str!("recipe/crowd.rs"),
    include_str!("recipe/directories.rs"),
    include_str!("recipe/encrypted.rs"),
    include_str!("recipe/fragments.rs"),
    include_str!("recipe/holes.rs"),
    include_str!("recipe/inline.rs"),
    include_str!("recipe/links.rs"),
    include_str!("recipe/programs.rs"),
    include_str!("recipe/reflinks.rs"),
    include_str!("recipe/special.rs"),
    include_str!("recipe/times.rs"),
];

/// Where a recipe is carried out.
#[derive(Debug)]
pub struct Place {
    root: PathBuf,
    block: u64,
}

impl Place {
    /// The root of a volume that is mounted for writing.
    ///
    /// # Errors
    /// Where it cannot be asked for its block size.
    pub fn new(root: &Path) -> Result<Self> {
        let block = rustix::fs::statvfs(root)?.f_bsize;
        Ok(Self { root: root.into(), block })
    }

    /// The file-system block size in bytes.
    #[must_use]
    pub fn block(&self) -> u64 {
        self.block
    }

    /// A new folder below the root.
    fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.root.join(name);
        fs::create_dir(&path)?;
        Ok(path)
    }
}

/// A new file that holds [`bytes`] of its own.
fn file(path: &Path, length: u64) -> Result<File> {
    let file = File::options().read(true).write(true).create_new(true).open(path);
    let file = file.with_context(|| format!("cannot create {}", path.display()))?;
    put(&file, 0, length)?;
    Ok(file)
}

/// Writes recognisable bytes at a place of a file.
fn put(file: &File, offset: u64, length: u64) -> Result<()> {
    const MOST: u64 = 1 << 20;
    let mut at = offset;
    while at < offset + length {
        let piece = bytes(at, MOST.min(offset + length - at));
        file.write_all_at(&piece, at)?;
        at += piece.len() as u64;
    }
    Ok(())
}

/// Bytes that follow from their place in the file, so that data at a wrong place is seen. Never 0, and never long
/// runs of one value.
fn bytes(offset: u64, length: u64) -> Vec<u8> {
    (offset..offset + length)
        .map(|at| {
            let mixed = (at ^ (at >> 9)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
            u8::try_from(mixed % 255).unwrap_or_default() + 1
        })
        .collect()
}

/// A path whose last name is any bytes.
fn named(folder: &Path, name: &[u8]) -> PathBuf {
    folder.join(OsStr::from_bytes(name))
}

/// Lets pass that this volume has no such thing.
fn where_possible<T>(result: Result<T, Errno>) -> Result<Option<T>, Errno> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(
            Errno::OPNOTSUPP | Errno::FBIG | Errno::NOSPC | Errno::NOTTY | Errno::TOOBIG | Errno::NAMETOOLONG,
        ) => Ok(None),
        Err(errno) => Err(errno),
    }
}
