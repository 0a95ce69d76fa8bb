//! The table of volumes.

use crate::recipe::{self, Recipe};

/// The format of a volume; ext2 and ext3 are read by the same code as ext4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// ext2, ext3, ext4.
    Ext4,
    /// XFS.
    Xfs,
}

impl Format {
    /// What `mount -t` calls it.
    #[must_use]
    pub fn kernel_name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }

    pub(crate) fn mkfs(self) -> &'static str {
        match self {
            Self::Ext4 => "mkfs.ext4",
            Self::Xfs => "mkfs.xfs",
        }
    }
}

/// A line of the table: how to make a volume and what to put into it.
#[derive(Debug, Clone, Copy)]
pub struct Volume {
    /// Its name, for tests and files.
    pub name: &'static str,
    /// Its format.
    pub format: Format,
    /// Size in MiB.
    pub mib: u64,
    /// Whether the device is filled with [`STALE`](crate::image::STALE) bytes first; else it is sparse.
    pub stale: bool,
    /// Arguments for mkfs, beside those that every volume gets.
    pub mkfs: &'static [&'static str],
    /// Commands on the image between mkfs and the first mount; `IMAGE` stands for its path.
    pub before: &'static [&'static [&'static str]],
    /// Mount options while it is filled.
    pub options: &'static str,
    /// What is put into it.
    pub recipe: Recipe,
    /// Commands on the image after it was filled.
    pub after: &'static [&'static [&'static str]],
}

const EXT4: Volume = Volume {
    name: "",
    format: Format::Ext4,
    mib: 64,
    stale: true,
    mkfs: &[],
    before: &[],
    options: "rw",
    recipe: recipe::ZOO,
    after: &[],
};

const XFS: Volume = Volume { name: "", format: Format::Xfs, mib: 96, ..EXT4 };

/// All volumes that the kernel can fill and mount.
pub const VOLUMES: &[Volume] = &[
    Volume { name: "ext4-default", ..EXT4 },
    Volume { name: "ext4-1k", mkfs: &["-b", "1024"], ..EXT4 },
    Volume { name: "ext4-2k", mkfs: &["-b", "2048"], ..EXT4 },
    Volume { name: "ext2", mkfs: &["-t", "ext2"], ..EXT4 },
    Volume { name: "ext2-1k", mkfs: &["-t", "ext2", "-b", "1024"], ..EXT4 },
    Volume { name: "ext3", mkfs: &["-t", "ext3"], ..EXT4 },
    Volume { name: "ext4-32bit", mkfs: &["-O", "^64bit,^metadata_csum"], ..EXT4 },
    Volume { name: "ext4-no-flex-bg", mkfs: &["-b", "1024", "-O", "^flex_bg,^resize_inode"], ..EXT4 },
    Volume { name: "ext4-meta-bg", mkfs: &["-b", "1024", "-O", "meta_bg,^resize_inode"], ..EXT4 },
    Volume {
        name: "ext4-meta-bg-32bit",
        mkfs: &["-b", "1024", "-O", "meta_bg,^resize_inode,^64bit"],
        ..EXT4
    },
    Volume {
        name: "ext4-bigalloc",
        mkfs: &["-O", "bigalloc", "-C", "32768", "-i", "16384"],
        mib: 200,
        stale: false,
        ..EXT4
    },
    Volume {
        name: "ext4-bigalloc-1k",
        mkfs: &["-b", "1024", "-O", "bigalloc", "-C", "16384", "-i", "8192"],
        ..EXT4
    },
    Volume { name: "ext4-inline", mkfs: &["-O", "inline_data"], ..EXT4 },
    Volume {
        name: "ext4-inline-1k-inode-512",
        mkfs: &["-b", "1024", "-I", "512", "-O", "inline_data"],
        ..EXT4
    },
    Volume { name: "ext4-inline-inode-1024", mkfs: &["-I", "1024", "-O", "inline_data"], ..EXT4 },
    Volume { name: "ext4-ea-inode", mkfs: &["-O", "ea_inode"], ..EXT4 },
    Volume { name: "ext4-ea-inode-1k-inline", mkfs: &["-b", "1024", "-O", "ea_inode,inline_data"], ..EXT4 },
    Volume { name: "ext4-legacy-hash", before: &[&["tune2fs", "-E", "hash_alg=legacy", "IMAGE"]], ..EXT4 },
    Volume { name: "ext4-tea-hash", before: &[&["tune2fs", "-E", "hash_alg=tea", "IMAGE"]], ..EXT4 },
    Volume {
        name: "ext4-half-md4-unsigned",
        mkfs: &["-b", "1024"],
        before: &[&["debugfs", "-w", "-R", "ssv flags 2", "IMAGE"]],
        ..EXT4
    },
    Volume {
        name: "ext4-legacy-unsigned",
        before: &[
            &["tune2fs", "-E", "hash_alg=legacy", "IMAGE"],
            &["debugfs", "-w", "-R", "ssv flags 2", "IMAGE"],
        ],
        ..EXT4
    },
    Volume {
        name: "ext4-tea-unsigned",
        before: &[
            &["tune2fs", "-E", "hash_alg=tea", "IMAGE"],
            &["debugfs", "-w", "-R", "ssv flags 2", "IMAGE"],
        ],
        ..EXT4
    },
    Volume { name: "ext4-linear-directories", mkfs: &["-O", "^dir_index"], ..EXT4 },
    Volume { name: "ext4-no-filetype", mkfs: &["-O", "^filetype"], ..EXT4 },
    Volume { name: "ext4-inode-128", mkfs: &["-I", "128"], ..EXT4 },
    Volume { name: "ext4-uninit-bg", mkfs: &["-O", "^metadata_csum,uninit_bg"], ..EXT4 },
    Volume { name: "ext4-csum-seed", mkfs: &["-O", "metadata_csum_seed"], after: NEW_UUID, ..EXT4 },
    Volume { name: "ext4-no-journal", mkfs: &["-O", "^has_journal"], ..EXT4 },
    Volume { name: "ext4-sparse-super2", mkfs: &["-O", "sparse_super2,^resize_inode"], ..EXT4 },
    Volume {
        name: "ext4-no-sparse-super",
        mkfs: &["-b", "1024", "-O", "^sparse_super,^metadata_csum,^resize_inode"],
        ..EXT4
    },
    Volume { name: "ext4-orphan-file", mkfs: &["-O", "orphan_file"], ..EXT4 },
    Volume { name: "ext4-stable-inodes", mkfs: &["-O", "stable_inodes,encrypt"], ..EXT4 },
    Volume { name: "ext4-fast-commit", mkfs: &["-O", "fast_commit"], ..EXT4 },
    Volume { name: "ext4-mmp", after: &[&["tune2fs", "-O", "mmp", "IMAGE"]], ..EXT4 },
    Volume {
        name: "ext4-lazy",
        mkfs: &["-b", "1024", "-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=1"],
        options: "noinit_itable",
        ..EXT4
    },
    Volume {
        name: "ext4-everything",
        mkfs: &[
            "-O",
            "64bit,metadata_csum,metadata_csum_seed,flex_bg,inline_data,ea_inode,large_dir,orphan_file,sparse_super2,\
             huge_file,extra_isize,dir_nlink,encrypt,stable_inodes,fast_commit,^resize_inode",
        ],
        ..EXT4
    },
    Volume {
        name: "ext4-crowded",
        mkfs: &["-b", "1024", "-O", "large_dir"],
        mib: 400,
        stale: false,
        recipe: recipe::CROWD,
        ..EXT4
    },
    Volume {
        name: "ext4-fragmented",
        mkfs: &["-b", "1024"],
        mib: 700,
        stale: false,
        recipe: recipe::FRAGMENTS,
        ..EXT4
    },
    Volume {
        name: "ext2-fragmented",
        mkfs: &["-t", "ext2", "-b", "1024"],
        mib: 700,
        stale: false,
        recipe: recipe::FRAGMENTS,
        ..EXT4
    },
    Volume { name: "ext4-programs", recipe: recipe::PROGRAMS, ..EXT4 },
    Volume { name: "xfs-programs", recipe: recipe::PROGRAMS, ..XFS },
    Volume { name: "xfs-default", ..XFS },
    Volume { name: "xfs-1k", mkfs: &["-b", "size=1024"], ..XFS },
    Volume { name: "xfs-2k-directory-64k", mkfs: &["-b", "size=2048", "-n", "size=65536"], ..XFS },
    Volume { name: "xfs-16k", mkfs: &["-b", "size=16384"], ..XFS },
    Volume { name: "xfs-64k", mib: 400, stale: false, mkfs: &["-b", "size=65536"], ..XFS },
    Volume { name: "xfs-directory-16k", mkfs: &["-n", "size=16384"], ..XFS },
    Volume { name: "xfs-sector-4k", mkfs: &["-s", "size=4096"], ..XFS },
    Volume { name: "xfs-rmap", mkfs: &["-m", "rmapbt=1,reflink=1"], ..XFS },
    Volume {
        name: "xfs-plain",
        mkfs: &["-m", "reflink=0,bigtime=0,inobtcount=0,finobt=0", "-i", "sparse=0"],
        ..XFS
    },
    Volume { name: "xfs-nrext64-inode-1k", mkfs: &["-i", "nrext64=1,size=1024"], ..XFS },
    Volume { name: "xfs-inode-2k", mkfs: &["-i", "size=2048"], ..XFS },
    Volume {
        name: "xfs-many-groups",
        mib: 300,
        stale: false,
        mkfs: &["-d", "agcount=16", "-b", "size=1024"],
        ..XFS
    },
    Volume { name: "xfs-crowded", mib: 400, stale: false, recipe: recipe::CROWD, ..XFS },
    Volume {
        name: "xfs-fragmented",
        mkfs: &["-b", "size=1024"],
        mib: 700,
        stale: false,
        recipe: recipe::FRAGMENTS,
        ..XFS
    },
    Volume {
        name: "xfs-fragmented-nrext64",
        mkfs: &["-b", "size=1024", "-i", "nrext64=1"],
        mib: 700,
        stale: false,
        recipe: recipe::FRAGMENTS,
        ..XFS
    },
];

/// With the seed kept apart, checksums must not follow the UUID.
const NEW_UUID: &[&[&str]] = &[&["tune2fs", "-U", "0e3a9d8e-1c1b-4f0e-9f3c-2d7f3c6a5b99", "IMAGE"]];
