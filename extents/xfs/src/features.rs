//! Feature bits of the superblock, named as `xfs_info` and the kernel name them.

use bitflags::bitflags;

bitflags! {
    /// `sb_versionnum` above the version number itself (`XFS_SB_VERSION_*BIT`).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct VersionBits: u16 {
        const ATTR = 0x0010;
        const NLINK = 0x0020;
        const QUOTA = 0x0040;
        const ALIGN = 0x0080;
        const DALIGN = 0x0100;
        const SHARED = 0x0200;
        const LOGV2 = 0x0400;
        const SECTOR = 0x0800;
        const EXTFLG = 0x1000;
        const DIRV2 = 0x2000;
        const BORG = 0x4000;
        const MOREBITS = 0x8000;
    }

    /// `sb_features2` (`XFS_SB_VERSION2_*BIT`).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct Features2: u32 {
        const LAZYSBCOUNT = 0x0002;
        const ATTR2 = 0x0008;
        const PARENT = 0x0010;
        const PROJID32 = 0x0080;
        const CRC = 0x0100;
        const FTYPE = 0x0200;
    }

    /// `sb_features_ro_compat` (`XFS_SB_FEAT_RO_COMPAT_*`).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct RoCompat: u32 {
        const FINOBT = 1 << 0;
        const RMAPBT = 1 << 1;
        const REFLINK = 1 << 2;
        const INOBTCNT = 1 << 3;
    }

    /// `sb_features_incompat` (`XFS_SB_FEAT_INCOMPAT_*`).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct Incompat: u32 {
        const FTYPE = 1 << 0;
        const SPINODES = 1 << 1;
        const META_UUID = 1 << 2;
        const BIGTIME = 1 << 3;
        const NEEDSREPAIR = 1 << 4;
        const NREXT64 = 1 << 5;
        const EXCHRANGE = 1 << 6;
        const PARENT = 1 << 7;
        const METADIR = 1 << 8;
        const ZONED = 1 << 9;
        const ZONE_GAPS = 1 << 10;
    }
}
