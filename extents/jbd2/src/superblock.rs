//! The journal's superblock: where its log begins and what it uses.

use std::fmt;

use bitflags::bitflags;
use extents_core::{Error, Result, to_usize};
use zerocopy::byteorder::big_endian::U32;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::checksum::crc32c;
use crate::header::{Header, MAGIC};

/// `journal_superblock_t` (kernel: `include/linux/jbd2.h`).
#[derive(Debug, Clone, Copy, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawSuperblock {
    header: Header,
    block_size: U32,
    /// Blocks of the journal, this one included; on a device of its own, blocks of the device.
    max_len: U32,
    /// First block of the log.
    first: U32,
    /// Transaction that the log is expected to begin with.
    sequence: U32,
    /// Block where the log begins; 0 where it is empty.
    start: U32,
    errno: U32,
    compat: U32,
    incompat: U32,
    ro_compat: U32,
    uuid: [u8; 16],
    users: U32,
    dynsuper: U32,
    max_transaction: U32,
    max_trans_data: U32,
    checksum_type: u8,
    padding: [u8; 3],
    fast_commit_blocks: U32,
    head: U32,
    padding2: [u8; 160],
    checksum: U32,
    user_ids: [u8; 768],
}

const _: () = assert!(size_of::<RawSuperblock>() == 1024);

const CHECKSUM_AT: usize = 0xfc;
const CHECKSUM_TYPE_CRC32C: u8 = 4;
/// `JBD2_DEFAULT_FAST_COMMIT_BLOCKS`: their number where the superblock gives none.
const DEFAULT_FAST_COMMIT_BLOCKS: u32 = 256;
/// `JBD2_MIN_JOURNAL_BLOCKS`: a log that would be left with fewer gives no blocks to fast commits.
const MIN_LOG_BLOCKS: u32 = 1024;

bitflags! {
    /// What a journal uses. The upper half holds the compatible features, the lower the incompatible ones.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Features: u64 {
        /// Blocks may be revoked.
        const REVOKE = 0x1;
        /// Block numbers have 64 bits.
        const BIT64 = 0x2;
        /// Commit blocks do not wait for the blocks before them.
        const ASYNC_COMMIT = 0x4;
        /// Each block has a checksum of its own, 16 bits of it for data.
        const CHECKSUM_V2 = 0x8;
        /// Each block has a checksum of its own.
        const CHECKSUM_V3 = 0x10;
        /// The last blocks of the journal hold fast commits.
        const FAST_COMMIT = 0x20;
        /// Each transaction has a checksum.
        const CHECKSUM = 0x1 << 32;
    }
}

/// Where a journal lies.
pub struct Place<'a> {
    /// Block size of the file system, which must be the journal's.
    pub block_size: u32,
    /// How many blocks there are to the journal: of its inode, or of its device.
    pub blocks: u64,
    /// The block of the superblock: 0 in an inode; on a device of its own the one behind the block that holds
    /// the ext superblock (block 2 of 1 KiB blocks, block 1 of larger ones).
    pub superblock: u64,
    /// Fills the buffer with a block of the journal.
    pub read: &'a dyn Fn(u64, &mut [u8]) -> Result<()>,
}

impl fmt::Debug for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place")
            .field("block_size", &self.block_size)
            .field("blocks", &self.blocks)
            .field("superblock", &self.superblock)
            .finish_non_exhaustive()
    }
}

/// A journal whose superblock was read and found sound.
#[derive(Debug)]
pub struct Journal<'a> {
    pub(crate) place: Place<'a>,
    features: Features,
    uuid: [u8; 16],
    /// Seed of the block checksums.
    pub(crate) seed: u32,
    /// First block of the log.
    pub(crate) first: u32,
    /// One past the last block of the log.
    pub(crate) end: u32,
    /// One past the last block of the journal.
    pub(crate) max_len: u32,
    /// Where the log begins; `None` where there is nothing to recover.
    pub(crate) start: Option<u32>,
    /// The transaction that the log begins with.
    pub(crate) sequence: u32,
}

impl<'a> Journal<'a> {
    /// Reads the superblock of a journal.
    ///
    /// # Errors
    /// `Corrupt` where it contradicts itself or its place, `Unsupported` where the journal uses what this reader
    /// does not know.
    pub fn open(place: Place<'a>) -> Result<Self> {
        let corrupt = |problem: String| Error::corrupt("journal superblock", problem);
        if !place.block_size.is_power_of_two() || !(1024..=65536).contains(&place.block_size) {
            return Err(corrupt(format!("block size of {} bytes", place.block_size)));
        }
        let mut block = vec![0; to_usize(place.block_size.into())];
        (place.read)(place.superblock, &mut block)?;
        let Ok((raw, _)) = RawSuperblock::read_from_prefix(&block) else {
            return Err(corrupt("too short".into()));
        };
        if raw.header.magic.get() != MAGIC {
            return Err(corrupt("no journal superblock found".into()));
        }
        let features = match raw.header.block_type.get() {
            // Version 1 has no features; what stands in their place was never cleared.
            3 => Features::empty(),
            4 => known_features(&raw)?,
            other => return Err(corrupt(format!("block type {other}"))),
        };
        if features.intersects(Features::CHECKSUM_V2 | Features::CHECKSUM_V3) {
            verify_checksum(&raw, &mut block)?;
        }
        let (first, max_len) = (raw.first.get(), raw.max_len.get());
        if raw.block_size.get() != place.block_size {
            return Err(corrupt(format!(
                "block size of {} bytes, but the volume has {}",
                raw.block_size, place.block_size
            )));
        }
        if u64::from(max_len) > place.blocks {
            return Err(corrupt(format!("{max_len} blocks, but there are only {}", place.blocks)));
        }
        if u64::from(first) <= place.superblock || first >= max_len {
            return Err(corrupt(format!("a log from block {first} to {max_len}")));
        }
        let end = if features.contains(Features::FAST_COMMIT) {
            let wanted = match raw.fast_commit_blocks.get() {
                0 => DEFAULT_FAST_COMMIT_BLOCKS,
                blocks => blocks,
            };
            max_len.checked_sub(wanted).filter(|&left| left >= MIN_LOG_BLOCKS).unwrap_or(max_len)
        } else {
            max_len
        };
        if first >= end {
            return Err(corrupt(format!("a log from block {first} to {end}")));
        }
        let start = Some(raw.start.get()).filter(|&start| start != 0);
        if let Some(start) = start.filter(|start| !(first..end).contains(start)) {
            return Err(corrupt(format!("begins at block {start} of a log from block {first} to {end}")));
        }
        let (uuid, seed, sequence) = (raw.uuid, crc32c(!0, &raw.uuid), raw.sequence.get());
        Ok(Self { place, features, uuid, seed, first, end, max_len, start, sequence })
    }

    /// Whether the log holds transactions that may not have reached the volume.
    #[must_use]
    pub fn needs_recovery(&self) -> bool {
        self.start.is_some()
    }

    /// What the journal uses.
    #[must_use]
    pub fn features(&self) -> Features {
        self.features
    }

    /// The journal's UUID, by which a volume names a journal on a device of its own.
    #[must_use]
    pub fn uuid(&self) -> [u8; 16] {
        self.uuid
    }

    /// Whether each block has a checksum of its own.
    pub(crate) fn has_block_checksums(&self) -> bool {
        self.features.intersects(Features::CHECKSUM_V2 | Features::CHECKSUM_V3)
    }

    pub(crate) fn has(&self, feature: Features) -> bool {
        self.features.contains(feature)
    }
}

fn known_features(raw: &RawSuperblock) -> Result<Features> {
    let incompatible = u64::from(raw.incompat.get());
    let bits = incompatible | (u64::from(raw.compat.get()) << 32);
    let unknown = incompatible & !Features::all().bits();
    if unknown != 0 {
        return Err(Error::unsupported(format!(
            "the journal uses incompatible features {unknown:#x}, which this reader does not know"
        )));
    }
    // Unknown compatible features are harmless, and read-only ones do not concern a reader.
    let features = Features::from_bits_truncate(bits);
    let kinds = [Features::CHECKSUM, Features::CHECKSUM_V2, Features::CHECKSUM_V3];
    if kinds.into_iter().filter(|&kind| features.contains(kind)).count() > 1 {
        return Err(Error::corrupt("journal superblock", "more than one kind of checksum"));
    }
    Ok(features)
}

fn verify_checksum(raw: &RawSuperblock, block: &mut [u8]) -> Result<()> {
    if raw.checksum_type != CHECKSUM_TYPE_CRC32C {
        return Err(Error::unsupported(format!(
            "the journal uses checksums of type {}, which this reader does not know",
            raw.checksum_type
        )));
    }
    if let Some(field) = block.get_mut(CHECKSUM_AT..CHECKSUM_AT + 4) {
        field.fill(0);
    }
    let whole = block.get(..size_of::<RawSuperblock>()).unwrap_or_default();
    if crc32c(!0, whole) != raw.checksum.get() {
        return Err(Error::corrupt("journal superblock", "checksum mismatch"));
    }
    Ok(())
}
