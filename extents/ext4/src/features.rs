//! The features a volume may have, and what each means for a reader.

use bitflags::bitflags;
use extents_core::{Error, Feature, FeatureClass, Result};

bitflags! {
    /// `s_feature_compat`: those that change how we read.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct Compat: u32 {
        const HAS_JOURNAL = 0x4;
        const DIR_INDEX = 0x20;
        const SPARSE_SUPER2 = 0x200;
        const FAST_COMMIT = 0x400;
        const ORPHAN_FILE = 0x1000;
        const _ = !0;
    }

    /// `s_feature_ro_compat`: those that change how we read.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct RoCompat: u32 {
        const SPARSE_SUPER = 0x1;
        const HUGE_FILE = 0x8;
        const GDT_CSUM = 0x10;
        const BIGALLOC = 0x200;
        const METADATA_CSUM = 0x400;
        const PROJECT = 0x2000;
        const SHARED_BLOCKS = 0x4000;
        const ORPHAN_PRESENT = 0x1_0000;
        const _ = !0;
    }

    /// `s_feature_incompat`: all that this reader knows.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct Incompat: u32 {
        const FILETYPE = 0x2;
        const RECOVER = 0x4;
        const JOURNAL_DEV = 0x8;
        const META_BG = 0x10;
        const EXTENTS = 0x40;
        const BITS_64 = 0x80;
        const MMP = 0x100;
        const FLEX_BG = 0x200;
        const EA_INODE = 0x400;
        const CSUM_SEED = 0x2000;
        const LARGE_DIR = 0x4000;
        const INLINE_DATA = 0x8000;
        const ENCRYPT = 0x1_0000;
        const CASEFOLD = 0x2_0000;
    }
}

/// The names that e2fsprogs prints (`lib/e2p/feature.c`).
const COMPAT_NAMES: &[(u32, &str)] = &[
    (0x1, "dir_prealloc"),
    (0x2, "imagic_inodes"),
    (0x4, "has_journal"),
    (0x8, "ext_attr"),
    (0x10, "resize_inode"),
    (0x20, "dir_index"),
    (0x40, "lazy_bg"),
    (0x100, "snapshot_bitmap"),
    (0x200, "sparse_super2"),
    (0x400, "fast_commit"),
    (0x800, "stable_inodes"),
    (0x1000, "orphan_file"),
];

const RO_COMPAT_NAMES: &[(u32, &str)] = &[
    (0x1, "sparse_super"),
    (0x2, "large_file"),
    (0x8, "huge_file"),
    (0x10, "uninit_bg"),
    (0x20, "dir_nlink"),
    (0x40, "extra_isize"),
    (0x80, "snapshot"),
    (0x100, "quota"),
    (0x200, "bigalloc"),
    (0x400, "metadata_csum"),
    (0x800, "replica"),
    (0x1000, "read-only"),
    (0x2000, "project"),
    (0x4000, "shared_blocks"),
    (0x8000, "verity"),
    (0x1_0000, "orphan_present"),
];

const INCOMPAT_NAMES: &[(u32, &str)] = &[
    (0x1, "compression"),
    (0x2, "filetype"),
    (0x4, "needs_recovery"),
    (0x8, "journal_dev"),
    (0x10, "meta_bg"),
    (0x40, "extent"),
    (0x80, "64bit"),
    (0x100, "mmp"),
    (0x200, "flex_bg"),
    (0x400, "ea_inode"),
    (0x1000, "dirdata"),
    (0x2000, "metadata_csum_seed"),
    (0x4000, "large_dir"),
    (0x8000, "inline_data"),
    (0x1_0000, "encrypt"),
    (0x2_0000, "casefold"),
];

/// What ext2 and ext3 know; a volume with more is an ext4 one.
const EXT3_INCOMPAT: u32 = 0x2 | 0x4 | 0x8 | 0x10;
const EXT3_RO_COMPAT: u32 = 0x1 | 0x2 | 0x4;

/// The three feature words of a superblock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Features {
    pub(crate) compat: Compat,
    pub(crate) incompat: Incompat,
    pub(crate) ro_compat: RoCompat,
}

impl Features {
    /// Takes the feature words.
    ///
    /// # Errors
    /// `Unsupported`, with the names, where the volume uses a feature that a reader must know and this one does
    /// not.
    pub(crate) fn new(compat: u32, incompat: u32, ro_compat: u32) -> Result<Self> {
        let unknown = incompat & !Incompat::all().bits();
        if unknown != 0 {
            let names: Vec<String> = names(unknown, INCOMPAT_NAMES, 'I').collect();
            return Err(Error::unsupported(format!(
                "the volume uses incompatible features that this reader does not know: {}; \
                 mount it with a kernel that does, or turn them off with tune2fs",
                names.join(", ")
            )));
        }
        if incompat & Incompat::JOURNAL_DEV.bits() != 0 {
            return Err(Error::unsupported(
                "the device holds an external ext4 journal, not a volume; name the device of the volume itself",
            ));
        }
        Ok(Self {
            compat: Compat::from_bits_retain(compat),
            incompat: Incompat::from_bits_retain(incompat),
            ro_compat: RoCompat::from_bits_retain(ro_compat),
        })
    }

    pub(crate) fn has(self, feature: Incompat) -> bool {
        self.incompat.contains(feature)
    }

    /// All features by name, compatible ones first.
    pub(crate) fn list(self) -> Vec<Feature> {
        let words = [
            (self.compat.bits(), COMPAT_NAMES, 'C', FeatureClass::Compatible),
            (self.incompat.bits(), INCOMPAT_NAMES, 'I', FeatureClass::Incompatible),
            (self.ro_compat.bits(), RO_COMPAT_NAMES, 'R', FeatureClass::ReadOnlyCompatible),
        ];
        words
            .into_iter()
            .flat_map(|(bits, table, letter, class)| {
                names(bits, table, letter).map(move |name| Feature { name: name.into(), class })
            })
            .collect()
    }

    /// `ext2`, `ext3` or `ext4`, by what the older drivers would have accepted.
    pub(crate) fn format(self) -> &'static str {
        if self.incompat.bits() & !EXT3_INCOMPAT != 0 || self.ro_compat.bits() & !EXT3_RO_COMPAT != 0 {
            "ext4"
        } else if self.compat.contains(Compat::HAS_JOURNAL) {
            "ext3"
        } else {
            "ext2"
        }
    }
}

/// The names of the bits that are set; those without one as e2fsprogs shows them (`FEATURE_I20`).
fn names(bits: u32, table: &'static [(u32, &'static str)], letter: char) -> impl Iterator<Item = String> {
    (0..u32::BITS).filter(move |bit| bits & (1 << bit) != 0).map(move |bit| {
        table
            .iter()
            .find(|(value, _)| *value == 1 << bit)
            .map_or_else(|| format!("FEATURE_{letter}{bit}"), |(_, name)| (*name).to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_unknown_incompatible_bits_are_refused_by_name() {
        let error = Features::new(0, 0x8000_0003, 0).unwrap_err().to_string();
        assert!(error.contains("compression, FEATURE_I31"), "{error}");
    }

    #[test]
    fn new_unknown_read_only_bits_are_accepted_and_named() {
        let features = Features::new(0, 0x40, 0x8000_0000).unwrap();
        let names: Vec<_> = features.list().into_iter().map(|feature| feature.name).collect();
        assert_eq!(names, ["extent", "FEATURE_R31"]);
    }
}
