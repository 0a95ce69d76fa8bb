//! Units as types, so that a block number is never taken for a byte offset.

use std::fmt;

/// An inode number, as the volume counts them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ino(pub u64);

/// A block of the volume, counted in file-system blocks from the volume's first byte.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FsBlock(pub u64);

/// A block of a file, counted in file-system blocks from the file's first byte.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileBlock(pub u64);

impl FsBlock {
    /// The byte offset of this block on the volume; `None` where it would not fit in 64 bits.
    #[must_use]
    pub fn to_bytes(self, block_size: u32) -> Option<u64> {
        self.0.checked_mul(u64::from(block_size))
    }
}

impl FileBlock {
    /// The byte offset of this block in its file; `None` where it would not fit in 64 bits.
    #[must_use]
    pub fn to_bytes(self, block_size: u32) -> Option<u64> {
        self.0.checked_mul(u64::from(block_size))
    }
}

macro_rules! show_number {
    ($($unit:ident),*) => {$(
        impl fmt::Debug for $unit {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($unit), "({})"), self.0)
            }
        }
        impl fmt::Display for $unit {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}
show_number!(Ino, FsBlock, FileBlock);

const _: () = assert!(size_of::<usize>() == size_of::<u64>(), "homifs runs on 64-bit machines only");

/// Widens a length to 64 bits; lossless, since `usize` has 64 bits here.
#[must_use]
#[allow(clippy::as_conversions, reason = "asserted above to be lossless; usize has no From into u64")]
pub const fn to_u64(n: usize) -> u64 {
    n as u64
}

/// Takes a 64-bit number as a length; lossless, since `usize` has 64 bits here.
#[must_use]
#[allow(clippy::as_conversions, reason = "asserted above to be lossless; usize has no From<u64>")]
pub const fn to_usize(n: u64) -> usize {
    n as usize
}
