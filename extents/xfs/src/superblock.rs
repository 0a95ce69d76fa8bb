//! The superblock (`xfs_dsb`), at the first byte of the volume.

use extents_core::{BlockRead, Error, FsBlock, Ino, Result, to_usize};
use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::checksum::crc_matches;
use crate::features::{self, Features2, Incompat, RoCompat, VersionBits};
use crate::geometry::Geometry;

const STRUCTURE: &str = "superblock";
const MAGIC: [u8; 4] = *b"XFSB";
const VERSION_MASK: u16 = 0x000f;
/// Smallest allocation group (`XFS_MIN_AG_BLOCKS`).
const GROUP_BLOCKS_MIN: u32 = 64;
/// Largest volume block, sector and directory block.
const BLOCK_LOG_MAX: u8 = 16;

/// `struct xfs_dsb` of `xfs_format.h`, to the end of what this crate reads.
#[derive(Debug, Clone, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawSuperblock {
    sb_magicnum: [u8; 4],
    sb_blocksize: U32,
    sb_dblocks: U64,
    sb_rblocks: U64,
    sb_rextents: U64,
    sb_uuid: [u8; 16],
    sb_logstart: U64,
    sb_rootino: U64,
    sb_rbmino: U64,
    sb_rsumino: U64,
    sb_rextsize: U32,
    sb_agblocks: U32,
    sb_agcount: U32,
    sb_rbmblocks: U32,
    sb_logblocks: U32,
    sb_versionnum: U16,
    sb_sectsize: U16,
    sb_inodesize: U16,
    sb_inopblock: U16,
    sb_fname: [u8; 12],
    sb_blocklog: u8,
    sb_sectlog: u8,
    sb_inodelog: u8,
    sb_inopblog: u8,
    sb_agblklog: u8,
    sb_rextslog: u8,
    sb_inprogress: u8,
    sb_imax_pct: u8,
    sb_icount: U64,
    sb_ifree: U64,
    sb_fdblocks: U64,
    sb_frextents: U64,
    sb_uquotino: U64,
    sb_gquotino: U64,
    sb_qflags: U16,
    sb_flags: u8,
    sb_shared_vn: u8,
    sb_inoalignmt: U32,
    sb_unit: U32,
    sb_width: U32,
    sb_dirblklog: u8,
    sb_logsectlog: u8,
    sb_logsectsize: U16,
    sb_logsunit: U32,
    sb_features2: U32,
    sb_bad_features2: U32,
    sb_features_compat: U32,
    sb_features_ro_compat: U32,
    sb_features_incompat: U32,
    sb_features_log_incompat: U32,
    sb_crc: [u8; 4],
    sb_spino_align: U32,
    sb_pquotino: U64,
    sb_lsn: U64,
    sb_meta_uuid: [u8; 16],
}
const _: () = assert!(size_of::<RawSuperblock>() == 264);
const CRC_OFFSET: usize = 224;

impl RawSuperblock {
    /// Both copies of `sb_features2`: kernels of some architectures wrote it to the place behind it.
    fn features2(&self) -> Features2 {
        Features2::from_bits_retain(self.sb_features2.get() | self.sb_bad_features2.get())
    }
}

/// What the superblock says besides the geometry.
#[derive(Debug, Clone)]
pub(crate) struct Superblock {
    pub(crate) geometry: Geometry,
    /// As stored: what `blkid` shows.
    pub(crate) uuid: [u8; 16],
    pub(crate) label: Vec<u8>,
    pub(crate) compat: u32,
    /// Blocks of the realtime device; 0 where there is none.
    pub(crate) realtime_blocks: u64,
    /// Inodes allocated, and how many of them are free, when the volume was last unmounted.
    pub(crate) inodes: u64,
    pub(crate) inodes_free: u64,
    /// Free blocks then.
    pub(crate) blocks_free: u64,
    /// Most of the volume, in percent, that inodes may take; 0 is no limit.
    pub(crate) inode_percent: u8,
    pub(crate) stripe_unit: u32,
    pub(crate) stripe_width: u32,
}

/// Whether the device begins like an XFS volume.
pub(crate) fn probe<R: BlockRead + ?Sized>(device: &R) -> Result<bool> {
    let mut magic = [0; 4];
    if device.size() < 512 {
        return Ok(false);
    }
    device.read_at(0, &mut magic)?;
    Ok(magic == MAGIC)
}

/// Reads and checks the superblock.
///
/// # Errors
/// `NotThisFormat` without the magic number, `Unsupported` for what this crate does not know, `Corrupt` for the
/// rest.
pub(crate) fn read<R: BlockRead + ?Sized>(device: &R) -> Result<Superblock> {
    if !probe(device)? {
        return Err(Error::NotThisFormat("XFS"));
    }
    let mut sector = vec![0; 512];
    device.read_at(0, &mut sector)?;
    let raw = parse(&sector)?;
    let version = raw.sb_versionnum.get() & VERSION_MASK;
    if !matches!(version, 4 | 5) {
        return Err(Error::unsupported(format!(
            "XFS version {version} is not supported; versions 4 and 5 (since 1998) are"
        )));
    }
    let sector_size = power_of_two(u32::from(raw.sb_sectsize.get()), raw.sb_sectlog, 9..=15, "sector size")?;
    if version == 5 {
        sector.resize(to_usize(u64::from(sector_size)), 0);
        device.read_at(0, &mut sector)?;
        if !crc_matches(&sector, CRC_OFFSET) {
            return bad("wrong checksum; xfs_repair can restore it from one of its copies");
        }
    }
    features::check(
        VersionBits::from_bits_retain(raw.sb_versionnum.get() & !VERSION_MASK),
        raw.features2(),
        (version == 5).then(|| Incompat::from_bits_retain(raw.sb_features_incompat.get())),
    )?;
    if raw.sb_inprogress != 0 {
        return Err(Error::unsupported(
            "the volume is unfinished: mkfs.xfs or xfs_copy was interrupted while it was made (sb_inprogress)",
        ));
    }
    let geometry = geometry(&raw, u8::try_from(version).unwrap_or(5), sector_size)?;
    if geometry.size() > device.size() {
        return bad(format!(
            "the volume has {} bytes, but the device only {}: it was cut short",
            geometry.size(),
            device.size()
        ));
    }
    Ok(describe(&raw, geometry))
}

fn parse(sector: &[u8]) -> Result<RawSuperblock> {
    match RawSuperblock::read_from_prefix(sector) {
        Ok((raw, _)) => Ok(raw),
        Err(_) => bad("too short"),
    }
}

fn bad<T>(problem: impl Into<std::borrow::Cow<'static, str>>) -> Result<T> {
    Err(Error::corrupt(STRUCTURE, problem).at(0))
}

/// A size that is stored along with its logarithm, which must lie within `logs`.
fn power_of_two(size: u32, log: u8, logs: std::ops::RangeInclusive<u8>, what: &'static str) -> Result<u32> {
    if !logs.contains(&log) || 1_u32.checked_shl(u32::from(log)) != Some(size) {
        return bad(format!("impossible {what} of {size} bytes (2^{log})"));
    }
    Ok(size)
}

/// Checks the sizes as `xfs_validate_sb_common` does, as far as reading depends on them.
fn geometry(raw: &RawSuperblock, version: u8, sector_size: u32) -> Result<Geometry> {
    let is_v5 = version == 5;
    let block_size = power_of_two(raw.sb_blocksize.get(), raw.sb_blocklog, 9..=BLOCK_LOG_MAX, "block size")?;
    let inode_logs = if is_v5 { 9..=11 } else { 8..=11 };
    let inode_size =
        power_of_two(u32::from(raw.sb_inodesize.get()), raw.sb_inodelog, inode_logs, "inode size")?;
    if raw.sb_blocklog.checked_sub(raw.sb_inodelog) != Some(raw.sb_inopblog)
        || u32::from(raw.sb_inopblock.get()) != block_size / inode_size
    {
        return bad("the number of inodes in a block does not follow from their sizes");
    }
    if raw.sb_dirblklog > BLOCK_LOG_MAX - raw.sb_blocklog {
        return bad("directory blocks larger than 64 KiB");
    }
    let (groups, group_blocks) = (raw.sb_agcount.get(), raw.sb_agblocks.get());
    let blocks = raw.sb_dblocks.get();
    let group_log = group_blocks.saturating_sub(1).checked_ilog2().map_or(0, |log| log + 1);
    if groups == 0 || group_blocks < GROUP_BLOCKS_MIN || u32::from(raw.sb_agblklog) != group_log {
        return bad(format!("impossible division into {groups} allocation groups of {group_blocks} blocks"));
    }
    let most = u64::from(groups) * u64::from(group_blocks);
    let least = u64::from(groups - 1) * u64::from(group_blocks) + u64::from(GROUP_BLOCKS_MIN);
    if blocks > most || blocks < least || blocks.checked_mul(u64::from(block_size)).is_none() {
        return bad(format!("{blocks} blocks do not fit {groups} allocation groups of {group_blocks}"));
    }
    let ro_compat = if is_v5 { raw.sb_features_ro_compat.get() } else { 0 };
    let incompat = Incompat::from_bits_retain(if is_v5 { raw.sb_features_incompat.get() } else { 0 });
    let mut geometry = Geometry {
        version,
        block_size,
        block_log: u32::from(raw.sb_blocklog),
        sector_size,
        inode_size,
        inode_log: u32::from(raw.sb_inodelog),
        inodes_per_block_log: u32::from(raw.sb_inopblog),
        blocks,
        group_blocks,
        group_block_log: group_log,
        groups,
        dir_block_log: u32::from(raw.sb_dirblklog),
        root: Ino(raw.sb_rootino.get()),
        meta_uuid: if incompat.contains(Incompat::META_UUID) { raw.sb_meta_uuid } else { raw.sb_uuid },
        log_start: None,
        log_blocks: raw.sb_logblocks.get(),
        version_bits: VersionBits::from_bits_retain(raw.sb_versionnum.get() & !VERSION_MASK),
        features2: raw.features2(),
        ro_compat: RoCompat::from_bits_retain(ro_compat),
        incompat,
        log_incompat: if is_v5 { raw.sb_features_log_incompat.get() } else { 0 },
    };
    geometry.log_start = log_start(raw, &geometry)?;
    if geometry.inode_place(geometry.root).is_none() {
        return bad("the root directory's inode lies outside the volume");
    }
    Ok(geometry)
}

/// Where an internal log begins: it must lie within one allocation group.
fn log_start(raw: &RawSuperblock, geometry: &Geometry) -> Result<Option<FsBlock>> {
    match raw.sb_logstart.get() {
        0 => Ok(None),
        packed => match geometry.decode_block(packed, u64::from(raw.sb_logblocks.get())) {
            Some(start) => Ok(Some(start)),
            None => bad("the log lies outside the volume"),
        },
    }
}

fn describe(raw: &RawSuperblock, geometry: Geometry) -> Superblock {
    let label = raw.sb_fname.iter().copied().take_while(|&byte| byte != 0).collect();
    Superblock {
        compat: if geometry.is_v5() { raw.sb_features_compat.get() } else { 0 },
        geometry,
        uuid: raw.sb_uuid,
        label,
        realtime_blocks: raw.sb_rblocks.get(),
        inodes: raw.sb_icount.get(),
        inodes_free: raw.sb_ifree.get(),
        blocks_free: raw.sb_fdblocks.get(),
        inode_percent: raw.sb_imax_pct,
        stripe_unit: raw.sb_unit.get(),
        stripe_width: raw.sb_width.get(),
    }
}
