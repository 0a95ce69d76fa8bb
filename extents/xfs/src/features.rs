//! Feature bits of the superblock, named as `xfs_info` and the kernel name them.

use std::borrow::Cow;

use bitflags::bitflags;
use extents_core::{Error, Feature, FeatureClass, Result};

use crate::geometry::Geometry;

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

impl VersionBits {
    /// Those of which a reader of version 4 knows what they mean. `SHARED` was never written by Linux.
    const KNOWN: Self = Self::all().difference(Self::SHARED);
}

impl Features2 {
    /// Those that version 4 may have; the others came with version 5 only.
    const KNOWN: Self = Self::LAZYSBCOUNT.union(Self::ATTR2).union(Self::PROJID32).union(Self::FTYPE);
}

impl Incompat {
    /// Those that this crate reads. `METADIR`, `ZONED` and `ZONE_GAPS` it knows by name only.
    const READ: Self = Self::FTYPE
        .union(Self::SPINODES)
        .union(Self::META_UUID)
        .union(Self::BIGTIME)
        .union(Self::NEEDSREPAIR)
        .union(Self::NREXT64)
        .union(Self::EXCHRANGE)
        .union(Self::PARENT);
}

/// Refuses a volume with features that must be known to read it, and names them. `incompat` is there on
/// version 5 only.
///
/// # Errors
/// `Unsupported` with the names, or with advice where `xfs_repair` has to run first.
pub(crate) fn check(version: VersionBits, features2: Features2, incompat: Option<Incompat>) -> Result<()> {
    if let Some(incompat) = incompat {
        if incompat.contains(Incompat::NEEDSREPAIR) {
            return Err(Error::unsupported(
                "the volume is marked as damaged (needsrepair): run xfs_repair on it first",
            ));
        }
        return refuse(&names(incompat.difference(Incompat::READ).bits(), &INCOMPAT, "incompat"));
    }
    if !version.contains(VersionBits::DIRV2) {
        return Err(Error::unsupported("the volume uses XFS directories of version 1, unused since 2001"));
    }
    refuse(&names(u32::from(version.difference(VersionBits::KNOWN).bits()), &VERSION, "version"))?;
    refuse(&names(features2.difference(Features2::KNOWN).bits(), &FEATURES2, "features2"))
}

fn refuse(unknown: &[Cow<'static, str>]) -> Result<()> {
    if unknown.is_empty() {
        return Ok(());
    }
    Err(Error::unsupported(format!(
        "the volume needs features that this reader does not support: {}",
        unknown.join(", ")
    )))
}

/// The bits of one field of the superblock by name.
type Names = [(u32, &'static str)];

const VERSION: [(u32, &str); 11] = [
    (0x0010, "attr"),
    (0x0020, "nlink"),
    (0x0040, "quota"),
    (0x0080, "align"),
    (0x0100, "dalign"),
    (0x0200, "shared"),
    (0x0400, "logv2"),
    (0x0800, "sector"),
    (0x1000, "extflg"),
    (0x2000, "dirv2"),
    (0x4000, "ascii-ci"),
];
const FEATURES2: [(u32, &str); 6] = [
    (0x0002, "lazy-count"),
    (0x0008, "attr2"),
    (0x0010, "parent"),
    (0x0080, "projid32bit"),
    (0x0100, "crc"),
    (0x0200, "ftype"),
];
const RO_COMPAT: [(u32, &str); 4] = [(1, "finobt"), (2, "rmapbt"), (4, "reflink"), (8, "inobtcount")];
const INCOMPAT: [(u32, &str); 11] = [
    (1, "ftype"),
    (2, "sparse"),
    (4, "meta_uuid"),
    (8, "bigtime"),
    (16, "needsrepair"),
    (32, "nrext64"),
    (64, "exchange"),
    (128, "parent"),
    (256, "metadir"),
    (512, "zoned"),
    (1024, "zone_gaps"),
];
const LOG_INCOMPAT: [(u32, &str); 1] = [(1, "log_xattrs")];

/// Names of the bits that are set; a bit without a name gets one from its field and place.
fn names(bits: u32, names: &Names, field: &'static str) -> Vec<Cow<'static, str>> {
    (0..u32::BITS)
        .filter(|place| bits & (1 << place) != 0)
        .map(|place| match names.iter().find(|&&(bit, _)| bit == 1 << place) {
            Some(&(_, name)) => Cow::Borrowed(name),
            None => Cow::Owned(format!("unknown {field} bit {place}")),
        })
        .collect()
}

/// Everything the superblock has switched on, compatible features first.
pub(crate) fn list(geometry: &Geometry, compat: u32) -> Vec<Feature> {
    let of = |class, bits, known: &Names, field| {
        names(bits, known, field).into_iter().map(move |name| Feature { name, class })
    };
    // MOREBITS only says that there is a features2 field.
    let version = u32::from(geometry.version_bits.difference(VersionBits::MOREBITS).bits());
    let old = if geometry.is_v5() { (0, 0) } else { (version, geometry.features2.bits()) };
    of(FeatureClass::Compatible, compat, &[], "compat")
        .chain(of(FeatureClass::Incompatible, old.0, &VERSION, "version"))
        .chain(of(FeatureClass::Incompatible, old.1, &FEATURES2, "features2"))
        .chain(of(FeatureClass::ReadOnlyCompatible, geometry.ro_compat.bits(), &RO_COMPAT, "ro_compat"))
        .chain(of(FeatureClass::Incompatible, geometry.incompat.bits(), &INCOMPAT, "incompat"))
        .chain(of(FeatureClass::Log, geometry.log_incompat, &LOG_INCOMPAT, "log_incompat"))
        .collect()
}
