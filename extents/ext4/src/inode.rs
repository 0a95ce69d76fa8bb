//! The inode: `struct ext4_inode` in `fs/ext4/ext4.h`.

use std::sync::Arc;

use bitflags::bitflags;
use extents_core::{
    DeviceNumber, Error, FileType, Ino, InodeFlags, Metadata, Result, Timestamp, to_u64, to_usize,
};
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::checksum::Crc;
use crate::features::{Incompat, RoCompat};
use crate::geometry::{GOOD_OLD_INODE_SIZE, Geometry};
use crate::layout::view;
use crate::superblock::join;

/// Size of `i_block`.
pub(crate) const BLOCK_AREA: usize = 60;
/// Where `i_block` lies in the inode.
pub(crate) const BLOCK_AREA_AT: usize = std::mem::offset_of!(RawInode, block);

/// The part that every inode has.
#[derive(Debug, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct RawInode {
    pub(crate) mode: U16,
    uid_lo: U16,
    size_lo: U32,
    pub(crate) atime: U32,
    ctime: U32,
    pub(crate) mtime: U32,
    dtime: U32,
    gid_lo: U16,
    pub(crate) links: U16,
    blocks_lo: U32,
    pub(crate) flags: U32,
    version: U32,
    pub(crate) block: [u8; BLOCK_AREA],
    pub(crate) generation: U32,
    file_acl_lo: U32,
    size_high: U32,
    obsolete_fragment: U32,
    blocks_high: U16,
    file_acl_high: U16,
    uid_high: U16,
    gid_high: U16,
    checksum_lo: U16,
    reserved: U16,
}

/// What follows it where inodes are larger than 128 bytes; `extra_isize` tells how much of it is in use.
#[derive(Debug, Default, Clone, Copy, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawExtra {
    extra_isize: U16,
    checksum_hi: U16,
    ctime_extra: U32,
    mtime_extra: U32,
    atime_extra: U32,
    crtime: U32,
    crtime_extra: U32,
    version_hi: U32,
    projid: U32,
}

const _: () = assert!(size_of::<RawInode>() == 128 && size_of::<RawExtra>() == 32);
const EXTRA_AT: usize = size_of::<RawInode>();
const EXTRA_SIZE: u16 = 32;
const CHECKSUM_LO_AT: usize = std::mem::offset_of!(RawInode, checksum_lo);
const CHECKSUM_HI_AT: usize = EXTRA_AT + std::mem::offset_of!(RawExtra, checksum_hi);

bitflags! {
    /// `i_flags`: those that change how we read.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct Flags: u32 {
        const SYNC = 0x8;
        const IMMUTABLE = 0x10;
        const APPEND = 0x20;
        const NODUMP = 0x40;
        const NOATIME = 0x80;
        const ENCRYPT = 0x800;
        const INDEX = 0x1000;
        const HUGE_FILE = 0x4_0000;
        const EXTENTS = 0x8_0000;
        const VERITY = 0x10_0000;
        const EA_INODE = 0x20_0000;
        const INLINE_DATA = 0x1000_0000;
        const PROJINHERIT = 0x2000_0000;
        const CASEFOLD = 0x4000_0000;
        const _ = !0;
    }
}

impl Flags {
    fn to_common(self) -> InodeFlags {
        const PAIRS: [(Flags, InodeFlags); 11] = [
            (Flags::SYNC, InodeFlags::SYNC),
            (Flags::IMMUTABLE, InodeFlags::IMMUTABLE),
            (Flags::APPEND, InodeFlags::APPEND),
            (Flags::NODUMP, InodeFlags::NO_DUMP),
            (Flags::NOATIME, InodeFlags::NO_ATIME),
            (Flags::ENCRYPT, InodeFlags::ENCRYPTED),
            (Flags::INDEX, InodeFlags::INDEXED),
            (Flags::VERITY, InodeFlags::VERITY),
            (Flags::INLINE_DATA, InodeFlags::INLINE),
            (Flags::PROJINHERIT, InodeFlags::PROJECT_INHERIT),
            (Flags::CASEFOLD, InodeFlags::CASEFOLD),
        ];
        PAIRS
            .into_iter()
            .filter(|(ours, _)| self.contains(*ours))
            .fold(InodeFlags::empty(), |all, (_, common)| all | common)
    }
}

/// An inode that matched its checksum: a place in a cached piece of the inode table.
#[derive(Debug, Clone)]
pub(crate) struct Inode {
    pub(crate) ino: Ino,
    /// Byte offset of the inode on the volume.
    pub(crate) at: u64,
    table: Arc<[u8]>,
    start: usize,
    size: usize,
    pub(crate) flags: Flags,
    pub(crate) mode: u16,
    /// File size in bytes.
    pub(crate) length: u64,
}

impl Inode {
    /// The inode at byte `start` of a piece of the inode table.
    pub(crate) fn new(
        ino: Ino,
        at: u64,
        table: Arc<[u8]>,
        start: usize,
        geometry: &Geometry,
    ) -> Result<Self> {
        let size = to_usize(u64::from(geometry.inode_size));
        let torn = || Error::corrupt("inode", "it is cut short").in_inode(ino);
        let raw: &RawInode = view(&table, start).ok_or_else(torn)?;
        let mode = raw.mode.get();
        let flags = Flags::from_bits_retain(raw.flags.get());
        let wide = geometry.features.has(Incompat::LARGE_DIR)
            || FileType::from_mode(mode) == Some(FileType::Regular);
        let length = join(raw.size_lo, if wide { raw.size_high } else { 0.into() });
        if start.checked_add(size).is_none_or(|end| end > table.len()) {
            return Err(torn());
        }
        Ok(Self { ino, at, table, start, size, flags, mode, length })
    }

    /// The inode's bytes, as many as inodes have on this volume.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.table.get(self.start..self.start + self.size).unwrap_or_default()
    }

    /// The part that every inode has.
    pub(crate) fn raw(&self) -> Result<&RawInode> {
        view(self.bytes(), 0).ok_or_else(|| self.corrupt("it is cut short"))
    }

    /// `i_block`: block numbers, the root of the extent tree, or the file itself.
    pub(crate) fn block_area(&self) -> &[u8] {
        self.bytes().get(BLOCK_AREA_AT..BLOCK_AREA_AT + BLOCK_AREA).unwrap_or_default()
    }

    #[cold]
    pub(crate) fn corrupt(&self, problem: &'static str) -> Error {
        Error::corrupt("inode", problem).in_inode(self.ino).at(self.at)
    }

    pub(crate) fn has(&self, flag: Flags) -> bool {
        self.flags.contains(flag)
    }

    pub(crate) fn file_type(&self) -> Option<FileType> {
        FileType::from_mode(self.mode)
    }

    pub(crate) fn is_directory(&self) -> bool {
        self.file_type() == Some(FileType::Directory)
    }

    pub(crate) fn generation(&self) -> u32 {
        self.raw().map_or(0, |raw| raw.generation.get())
    }

    /// What the checksums of this inode's blocks start from.
    pub(crate) fn seed(&self, geometry: &Geometry) -> Crc {
        seed(geometry, self.ino, self.generation())
    }

    /// The block with this inode's extended attributes; 0 where there is none.
    pub(crate) fn xattr_block(&self, geometry: &Geometry) -> Result<u64> {
        let raw = self.raw()?;
        let high =
            if geometry.features.has(Incompat::BITS_64) { u64::from(raw.file_acl_high.get()) } else { 0 };
        Ok(u64::from(raw.file_acl_lo.get()) | (high << 32))
    }

    /// Where attributes within the inode begin; `None` where there is no room for any.
    pub(crate) fn inline_xattrs_at(&self) -> Result<Option<usize>> {
        let Some(extra) = self.extra() else { return Ok(None) };
        match extra.extra_isize.get() {
            // The space was never used: `ext4_iget_extra_inode` is not called.
            0 => Ok(None),
            used => Ok(Some(EXTRA_AT + usize::from(used))),
        }
    }

    fn extra(&self) -> Option<&RawExtra> {
        (self.size > EXTRA_AT).then(|| view(self.bytes(), EXTRA_AT)).flatten()
    }

    /// Allocated space in units of 512 bytes (`ext4_inode_blocks`), before what `stat` adds.
    pub(crate) fn sectors(&self, geometry: &Geometry) -> Result<u64> {
        let raw = self.raw()?;
        let low = u64::from(raw.blocks_lo.get());
        if !geometry.features.ro_compat.contains(RoCompat::HUGE_FILE) {
            return Ok(low);
        }
        let count = low | (u64::from(raw.blocks_high.get()) << 32);
        // Below 2^48, so shifting it by at most 7 keeps it below 2^55.
        Ok(if self.has(Flags::HUGE_FILE) { count << (geometry.block_bits - 9) } else { count })
    }

    /// The two numbers by which an `ea_inode` from before checksums points back at its only user.
    pub(crate) fn raw_times(&self) -> Result<(u32, u32)> {
        let raw = self.raw()?;
        Ok((raw.atime.get(), raw.mtime.get()))
    }

    /// What `stat` tells.
    pub(crate) fn metadata(&self, geometry: &Geometry) -> Result<Metadata> {
        let raw = self.raw()?;
        let file_type = self.file_type().ok_or_else(|| self.corrupt("its mode names no file type"))?;
        let unused = RawExtra::default();
        let (extra, used) = match self.extra() {
            // Inodes that never used the space are read as if all of it were in use, as the kernel does.
            Some(extra) if extra.extra_isize.get() == 0 => (extra, EXTRA_SIZE),
            Some(extra) => (extra, extra.extra_isize.get()),
            None => (&unused, 0),
        };
        let stored_used = self.extra().map_or(0, |extra| extra.extra_isize.get());
        let time = |seconds: U32, extra: U32, end: u16| timestamp(seconds, (used >= end).then_some(extra));
        let mut sectors = self.sectors(geometry)?;
        if self.has(Flags::INLINE_DATA) && file_type == FileType::Regular {
            // `ext4_file_getattr`: so that nobody takes the file for a hole.
            sectors = sectors.saturating_add(self.length.div_ceil(512));
        }
        let keeps_project = geometry.features.ro_compat.contains(RoCompat::PROJECT) && stored_used >= 32;
        Ok(Metadata {
            ino: self.ino,
            generation: raw.generation.get(),
            mode: self.mode,
            file_type,
            links: u32::from(raw.links.get()),
            uid: u32::from(raw.uid_lo.get()) | (u32::from(raw.uid_high.get()) << 16),
            gid: u32::from(raw.gid_lo.get()) | (u32::from(raw.gid_high.get()) << 16),
            size: self.length,
            sectors,
            accessed: time(raw.atime, extra.atime_extra, 16),
            modified: time(raw.mtime, extra.mtime_extra, 12),
            changed: time(raw.ctime, extra.ctime_extra, 8),
            born: (used >= 20).then(|| time(extra.crtime, extra.crtime_extra, 24)),
            device: device_number(file_type, &raw.block),
            flags: self.flags.to_common(),
            project: if keeps_project { extra.projid.get() } else { 0 },
        })
    }
}

/// Seconds are signed; where there is an extra word, its two low bits count epochs of 2^32 seconds and the rest
/// are nanoseconds (`ext4_decode_extra_time`).
fn timestamp(seconds: U32, extra: Option<U32>) -> Timestamp {
    const NANOSECONDS_MAX: u32 = 999_999_999;
    let signed = i64::from(i32::from_le_bytes(seconds.get().to_le_bytes()));
    let extra = extra.map_or(0, U32::get);
    Timestamp {
        seconds: signed + (i64::from(extra & 3) << 32),
        nanoseconds: (extra >> 2).min(NANOSECONDS_MAX),
    }
}

/// Device numbers that fit in 8 and 8 bits lie in the first word, others in the second (`old_decode_dev`,
/// `new_decode_dev`).
fn device_number(file_type: FileType, block: &[u8; BLOCK_AREA]) -> DeviceNumber {
    if !matches!(file_type, FileType::CharDevice | FileType::BlockDevice) {
        return DeviceNumber::default();
    }
    let word = |at| view::<U32>(block, at).map_or(0, |word| word.get());
    match (word(0), word(4)) {
        (0, new) => {
            DeviceNumber { major: (new >> 8) & 0xFFF, minor: (new & 0xFF) | ((new >> 12) & 0xF_FF00) }
        }
        (old, _) => DeviceNumber { major: (old >> 8) & 0xFF, minor: old & 0xFF },
    }
}

/// What the checksums of an inode and of its blocks start from (`i_csum_seed`).
fn seed(geometry: &Geometry, ino: Ino, generation: u32) -> Crc {
    let [a, b, c, d, ..] = ino.0.to_le_bytes();
    geometry.checksum_seed.over(&[a, b, c, d]).over(&generation.to_le_bytes())
}

/// Whether an inode's bytes may be believed: its extra size is possible, and its checksum matches where the
/// volume keeps checksums (`ext4_inode_csum`).
pub(crate) fn is_sound(ino: Ino, bytes: &[u8], geometry: &Geometry) -> bool {
    check(ino, bytes, geometry).unwrap_or(false)
}

fn check(ino: Ino, bytes: &[u8], geometry: &Geometry) -> Option<bool> {
    let raw: &RawInode = view(bytes, 0)?;
    let extra: Option<&RawExtra> =
        if geometry.inode_size > GOOD_OLD_INODE_SIZE { Some(view(bytes, EXTRA_AT)?) } else { None };
    let used = extra.map_or(0, |extra| extra.extra_isize.get());
    if !used.is_multiple_of(4) || EXTRA_AT + usize::from(used) > bytes.len() {
        return Some(false);
    }
    if !geometry.checksums || !geometry.made_by_linux {
        return Some(true);
    }
    let has_high = used >= 4;
    let mut sum = seed(geometry, ino, raw.generation.get()).over(bytes.get(..CHECKSUM_LO_AT)?).over(&[0; 2]);
    let mut stored = u32::from(raw.checksum_lo.get());
    if has_high {
        sum = sum.over(bytes.get(CHECKSUM_LO_AT + 2..CHECKSUM_HI_AT)?).over(&[0; 2]);
        sum = sum.over(bytes.get(CHECKSUM_HI_AT + 2..)?);
        stored |= u32::from(extra?.checksum_hi.get()) << 16;
        Some(sum.value() == stored)
    } else {
        sum = sum.over(bytes.get(CHECKSUM_LO_AT + 2..)?);
        Some(u32::from(sum.low()) == stored)
    }
}

/// Whether these bytes are an inode that was never written.
pub(crate) fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0)
}

/// How many inodes lie in a piece of the table.
pub(crate) fn count_in(bytes: usize, geometry: &Geometry) -> u64 {
    to_u64(bytes) / u64::from(geometry.inode_size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamp_epoch_bits_match_the_table_of_the_kernels_documentation() {
        // Documentation/filesystems/ext4/inodes.rst, "Inode Timestamps": the first second of each epoch.
        for (extra, seconds, expected) in [
            (0_u32, 0x8000_0000_u32, -0x8000_0000_i64),
            (0, 0x7FFF_FFFF, 0x7FFF_FFFF),
            (1, 0x8000_0000, 0x8000_0000),
            (1, 0, 0x1_0000_0000),
            (2, 0x8000_0000, 0x1_8000_0000),
            (3, 0x7FFF_FFFF, 0x3_7FFF_FFFF),
        ] {
            let time = timestamp(seconds.into(), Some((extra | (7 << 2)).into()));
            assert_eq!((time.seconds, time.nanoseconds), (expected, 7), "{extra} {seconds:#x}");
        }
    }

    #[test]
    fn device_number_old_and_new_encodings_are_told_apart() {
        let mut area = [0; BLOCK_AREA];
        area[0..2].copy_from_slice(&0x0803_u16.to_le_bytes());
        let old = device_number(FileType::BlockDevice, &area);
        assert_eq!((old.major, old.minor), (8, 3));
        let mut area = [0; BLOCK_AREA];
        // makedev(259, 70000) in the form of `new_encode_dev`.
        let word: u32 = (70_000 & 0xFF) | (259 << 8) | ((70_000 & !0xFF) << 12);
        area[4..8].copy_from_slice(&word.to_le_bytes());
        let new = device_number(FileType::BlockDevice, &area);
        assert_eq!((new.major, new.minor), (259, 70_000));
    }
}
