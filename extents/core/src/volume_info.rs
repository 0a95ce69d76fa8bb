//! What a volume says about itself.

use std::borrow::Cow;

/// How a reader must treat a feature that it does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeatureClass {
    /// Harmless to those who do not know it.
    Compatible,
    /// Harmless to those who only read.
    ReadOnlyCompatible,
    /// A reader that does not know it must refuse the volume.
    Incompatible,
    /// Only meaningful to a journal or log recovery.
    Log,
}

/// A named feature of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feature {
    /// The name that the format's own tools print (`metadata_csum`, `reflink`).
    pub name: Cow<'static, str>,
    /// How it must be treated.
    pub class: FeatureClass,
}

/// A volume's own description, from its superblock.
#[derive(Debug, Clone)]
pub struct VolumeInfo {
    /// `ext2`, `ext3`, `ext4` or `xfs`.
    pub format: &'static str,
    /// Version within the format (XFS: 4 or 5; ext: revision level).
    pub version: u32,
    /// The volume's UUID as stored.
    pub uuid: [u8; 16],
    /// The label, without padding; bytes, since nothing says they are UTF-8.
    pub label: Vec<u8>,
    /// File-system block size in bytes.
    pub block_size: u32,
    /// Sector size that the format was made for, in bytes.
    pub sector_size: u32,
    /// Size of the volume in bytes.
    pub size: u64,
    /// Size of one on-disk inode in bytes.
    pub inode_size: u32,
    /// Number of allocation groups (XFS) or block groups (ext).
    pub groups: u64,
    /// Features in the order of their bits, compatible ones first.
    pub features: Vec<Feature>,
    /// What was done about the journal or log: one sentence for a person.
    pub recovery: Cow<'static, str>,
    /// Further facts for a person: name and value.
    pub details: Vec<(&'static str, String)>,
}
