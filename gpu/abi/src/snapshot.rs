//! A dataset snapshot: a whole tree of files in one arena, which a program or an accelerator maps and walks without a
//! call for each file. Version 1.
//!
//! An arena is a [`Header`], the table of [`File`]s, the index, the table of extents ([`Entry`](crate::extents::Entry))
//! and the strings, in this order, each at a multiple of [`ALIGNMENT`], all numbers little-endian. Places that end in
//! `_at` are bytes from the arena's start.
//!
//! - Files are sorted by the hash of their path ([`PathHash`]), those of one hash by the bytes of the path. A path is
//!   relative to the snapshot's root, its names separated by `/`, without one at either end.
//! - The index has 2^[`index_bits`](Header::index_bits) + 1 numbers of 32 bits: number n is the place of the first file
//!   whose hash has n or more in its upper `index_bits` bits; the last one is the number of files.
//! - The extents of one file follow each other, sorted by `logical`, without overlap, within the file's blocks; what
//!   none covers is a hole. Extents that are not inline are multiples of the block size.
//! - All files laid one behind another, each from a block of its own on, in the order of the table, make one namespace:
//!   [`File::first_block`] is where each begins.
//! - Every path is followed by a NUL, which its length does not count.

mod hash;
mod view;

pub use hash::PathHash;
pub use view::{View, ViewError};

layout! {
    /// What an arena begins with.
    Header = "homi_snapshot_header", 256 bytes {
        /// "homisnap".
        magic: u8[8],
        /// 1 for the layout described here. A reader must refuse others.
        version: u16,
        /// Size of this header in bytes.
        header_length: u16,
        /// Size of a homi_snapshot_file in bytes.
        file_length: u16,
        /// Size of a homi_extent in bytes.
        extent_length: u16,
        /// HOMI_EXTENT_* of all files together.
        flags: u32,
        /// Block size of the file system in bytes, a power of two.
        block_size: u32,
        /// Bytes of the arena; a mapping of it may be longer.
        length: u64,
        /// Byte of the device where the volume starts. The device's byte of an extent is volume_start + physical.
        volume_start: u64,
        /// The volume's UUID, in the order that it is written in.
        volume_uuid: u8[16],
        /// When the snapshot was taken, in seconds since 1970.
        taken: u64,
        /// Number of files.
        files: u64,
        /// Where the table of files is.
        files_at: u64,
        /// Upper bits of a hash that the index goes by, 1 to 31.
        index_bits: u32,
        /// HOMI_SNAPSHOT_HASH_*.
        hash: u32,
        /// Where the index is: 2^index_bits + 1 numbers of 32 bits.
        index_at: u64,
        /// Number of extents.
        extents: u64,
        /// Where the extents are.
        extents_at: u64,
        /// Bytes of the strings.
        strings: u64,
        /// Where the strings are.
        strings_at: u64,
        /// Blocks of all files together.
        blocks: u64,
        /// Bytes of all files together.
        bytes: u64,
        /// The inode of the directory that the snapshot is of.
        root_inode: u64,
        /// Where its path on the volume is, which begins with a slash; a slash alone where only its handle was known.
        root_at: u64,
        /// Bytes of that path.
        root_length: u32,
        /// The generation of that inode.
        root_generation: u32,
        /// Directories that were walked.
        directories: u64,
        /// Symbolic links, which are left out.
        links: u64,
        /// Devices, pipes and sockets, which are left out.
        specials: u64,
        /// Files and directories left out because the client may not read them.
        denied: u64,
        /// Files and directories left out because they are damaged or their path is too long.
        unreadable: u64,
        /// 0.
        reserved: u64[6],
    }
}

layout! {
    /// A file.
    File = "homi_snapshot_file", 64 bytes {
        /// The hash of its path.
        hash: u64,
        /// Its inode; a file with several names is here under each.
        inode: u64,
        /// Its size in bytes.
        size: u64,
        /// Where it begins in the namespace of all files, in blocks; it has (size + block_size - 1) / block_size.
        first_block: u64,
        /// Number of its first extent.
        first_extent: u64,
        /// Where its path is.
        path_at: u64,
        /// Bytes of its path.
        path_length: u32,
        /// How many extents it has.
        extents: u32,
        /// The generation of the inode.
        generation: u32,
        /// HOMI_EXTENT_* of any of its extents. With none but HOMI_EXTENT_SHARED, what its extents name on the device
        /// is the file; HOMI_EXTENT_INLINE and HOMI_EXTENT_ENCODED must be read through the file.
        flags: u32,
    }
}

/// What stands in [`Header::magic`].
pub const MAGIC: [u8; 8] = *b"homisnap";
/// What stands in [`Header::version`].
pub const VERSION: u16 = 1;
/// Size of a [`Header`] in bytes.
pub const HEADER_LENGTH: u16 = 256;
/// Size of a [`File`] in bytes.
pub const FILE_LENGTH: u16 = 64;
/// What places of sections are multiples of, in bytes.
pub const ALIGNMENT: u64 = 128;
/// In [`Header::hash`]: 64-bit FNV-1a over the bytes of the path, then the mixing at the end of MurmurHash3.
pub const HASH_FNV1A_MIXED: u32 = 1;
/// Most bits that the index goes by, in [`Header::index_bits`].
pub const INDEX_BITS_MAX: u32 = 31;
/// Most files of a snapshot: the index counts them in 32 bits.
pub const FILES_MAX: u64 = u32::MAX as u64;
/// Longest path in bytes: what a system call takes, less the NUL (`PATH_MAX`).
pub const PATH_MAX: usize = 4095;
