//! What the superblock says about the shape of the volume, checked so that arithmetic on it cannot go wrong.

use extents_core::{Error, FsBlock, Ino, Result, to_usize};

use crate::checksum::Crc;
use crate::dirhash::HashVersion;
use crate::features::{Compat, Features, Incompat, RoCompat};
use crate::superblock::{RawSuperblock, join};

/// The size of an inode in revision 0, and of the part that every inode has.
pub(crate) const GOOD_OLD_INODE_SIZE: u32 = 128;
/// The root directory's inode.
pub(crate) const ROOT_INO: Ino = Ino(2);

/// More groups than any volume that Linux can make on 64-bit block numbers and real disks (8 EiB at 4 KiB
/// blocks); a superblock that claims more is an invented one.
const GROUPS_MAX: u64 = 1 << 26;

/// The shape of a volume.
#[derive(Debug, Clone)]
pub(crate) struct Geometry {
    pub(crate) features: Features,
    pub(crate) block_size: u32,
    pub(crate) block_bits: u32,
    /// Blocks of one cluster, 1 without `bigalloc`.
    pub(crate) cluster_blocks: u32,
    pub(crate) blocks: u64,
    pub(crate) reserved_blocks: u64,
    pub(crate) first_data_block: u64,
    pub(crate) groups: u64,
    pub(crate) blocks_per_group: u64,
    pub(crate) inodes: u64,
    pub(crate) inodes_per_group: u64,
    pub(crate) inode_size: u32,
    /// The first inode that is not reserved.
    pub(crate) first_ino: u64,
    pub(crate) descriptor_size: u32,
    pub(crate) first_meta_bg: u64,
    /// Groups that hold a superblock's backup, where `sparse_super2` names them.
    pub(crate) backup_groups: [u32; 2],
    pub(crate) reserved_gdt_blocks: u32,
    pub(crate) overhead_clusters: u32,
    pub(crate) hash_seed: [u32; 4],
    /// The hash that a directory without an index of its own would get, with the volume's signedness.
    pub(crate) default_hash: Option<HashVersion>,
    /// Characters were hashed as unsigned ones.
    pub(crate) hash_unsigned: bool,
    /// Whether metadata carries CRC32C sums to verify, and what they start from.
    pub(crate) checksums: bool,
    pub(crate) checksum_seed: Crc,
    pub(crate) uuid: [u8; 16],
    /// Inodes that belong to the file system itself though their number is not below `first_ino`.
    pub(crate) hidden_inodes: [u32; 4],
    /// The kernel's strict-mode flag of the `casefold` encoding.
    pub(crate) strict_encoding: bool,
    /// Casefolded lookups stay with the index, as the volume's flag asks.
    pub(crate) no_casefold_fallback: bool,
    /// Inodes carry checksums only where Linux made the volume (`ext4_inode_csum_verify`).
    pub(crate) made_by_linux: bool,
}

impl Geometry {
    /// Takes the shape from a superblock, for a device of `device_size` bytes.
    ///
    /// # Errors
    /// `Corrupt` where the numbers contradict each other or the device; `Unsupported` for unknown features.
    pub(crate) fn new(raw: &RawSuperblock, device_size: u64) -> Result<Self> {
        const DYNAMIC_REVISION: u32 = 1;
        let dynamic = raw.rev_level.get() >= DYNAMIC_REVISION;
        let features = if dynamic {
            Features::new(raw.feature_compat.get(), raw.feature_incompat.get(), raw.feature_ro_compat.get())?
        } else {
            Features::new(0, 0, 0)?
        };
        let checksums = features.ro_compat.contains(RoCompat::METADATA_CSUM);
        if checksums {
            raw.verify()?;
        }
        let block_bits = raw.log_block_size.get().checked_add(10).filter(|bits| *bits <= 16);
        let Some(block_bits) = block_bits else {
            return Err(bad(format!(
                "the block size of 2^(10 + {}) bytes is impossible",
                raw.log_block_size
            )));
        };
        let block_size = 1_u32 << block_bits;
        let bits_64 = features.has(Incompat::BITS_64);
        let blocks = join(raw.blocks_count_lo, if bits_64 { raw.blocks_count_hi } else { 0.into() });
        let first_data_block = u64::from(raw.first_data_block.get());
        check_extent_of_volume(blocks, first_data_block, block_size, device_size)?;
        let cluster_blocks = cluster_blocks(raw, features, block_bits)?;
        let blocks_per_group = blocks_per_group(raw, features, block_size, cluster_blocks)?;
        let groups = (blocks - first_data_block).div_ceil(blocks_per_group);
        if groups > GROUPS_MAX {
            return Err(bad(format!("{groups} block groups are more than any volume has")));
        }
        let (inode_size, first_ino) = inode_layout(raw, dynamic, block_size)?;
        let inodes_per_group = u64::from(raw.inodes_per_group.get());
        let inodes = u64::from(raw.inodes_count.get());
        if inodes_per_group < u64::from(block_size / inode_size)
            || inodes_per_group > u64::from(block_size) * 8
            || groups.checked_mul(inodes_per_group) != Some(inodes)
        {
            return Err(bad(format!(
                "{inodes} inodes cannot be {groups} groups of {inodes_per_group} inodes each"
            )));
        }
        let seed_stored = features.has(Incompat::CSUM_SEED);
        let checksum_seed =
            if seed_stored { Crc::from_seed(raw.checksum_seed.get()) } else { Crc::START.over(&raw.uuid) };
        let hash_unsigned = raw.flags.get() & FLAG_UNSIGNED_HASH != 0;
        let reserved_hi = if bits_64 { raw.r_blocks_count_hi } else { 0.into() };
        Ok(Self {
            features,
            block_size,
            block_bits,
            cluster_blocks,
            blocks,
            reserved_blocks: join(raw.r_blocks_count_lo, reserved_hi),
            first_data_block,
            groups,
            blocks_per_group,
            inodes,
            inodes_per_group,
            inode_size,
            first_ino,
            descriptor_size: descriptor_size(raw, bits_64)?,
            first_meta_bg: u64::from(raw.first_meta_bg.get()),
            backup_groups: raw.backup_bgs.map(u32::from),
            reserved_gdt_blocks: u32::from(raw.reserved_gdt_blocks.get()),
            overhead_clusters: raw.overhead_clusters.get(),
            hash_seed: raw.hash_seed.map(u32::from),
            default_hash: HashVersion::from_disk(raw.def_hash_version, hash_unsigned),
            hash_unsigned,
            checksums,
            checksum_seed,
            uuid: raw.uuid,
            hidden_inodes: [
                raw.usr_quota_inum.get(),
                raw.grp_quota_inum.get(),
                raw.prj_quota_inum.get(),
                raw.orphan_file_inum.get(),
            ],
            strict_encoding: raw.encoding_flags.get() & ENCODING_STRICT != 0,
            no_casefold_fallback: raw.encoding_flags.get() & ENCODING_NO_FALLBACK != 0,
            made_by_linux: raw.creator_os.get() == 0,
        })
    }

    /// Size of the volume in bytes; the device was found to be at least as large.
    pub(crate) fn volume_size(&self) -> u64 {
        self.blocks << self.block_bits
    }

    /// The byte offset of a block, where the volume has it.
    pub(crate) fn byte_of(&self, block: FsBlock) -> Option<u64> {
        (block.0 < self.blocks).then_some(block.0 << self.block_bits)
    }

    pub(crate) fn block_len(&self) -> usize {
        to_usize(u64::from(self.block_size))
    }

    /// How often a file may name the same block: once, but on volumes of `shared_blocks` (Android's read-only
    /// images, where equal blocks are one).
    pub(crate) fn uses_of_a_block(&self) -> u64 {
        if self.features.ro_compat.contains(RoCompat::SHARED_BLOCKS) { 64 } else { 1 }
    }

    pub(crate) fn has_dir_index(&self) -> bool {
        self.features.compat.contains(Compat::DIR_INDEX)
    }

    /// Whether a group begins with a copy of the superblock (`ext4_bg_has_super`).
    pub(crate) fn has_superblock(&self, group: u64) -> bool {
        if group == 0 {
            return true;
        }
        if self.features.compat.contains(Compat::SPARSE_SUPER2) {
            return self.backup_groups.iter().any(|&backup| u64::from(backup) == group);
        }
        if group == 1 || !self.features.ro_compat.contains(RoCompat::SPARSE_SUPER) {
            return true;
        }
        [3, 5, 7].into_iter().any(|base| {
            let mut power: u64 = base;
            while power < group {
                power *= base;
            }
            power == group
        })
    }

    /// The first block of a group.
    pub(crate) fn first_block_of(&self, group: u64) -> u64 {
        self.first_data_block + group * self.blocks_per_group
    }

    /// The block of the volume that holds block `index` of the group descriptors (`descriptor_loc`).
    pub(crate) fn descriptor_block(&self, index: u64) -> FsBlock {
        if !self.features.has(Incompat::META_BG) || index < self.first_meta_bg {
            // The superblock lies in block 1 where blocks have 1 KiB, else in block 0.
            let superblock = u64::from(self.block_size == 1024);
            return FsBlock(superblock + 1 + index);
        }
        let group = index * u64::from(self.block_size / self.descriptor_size);
        let mut before = u64::from(self.has_superblock(group));
        if self.block_size == 1024 && index == 0 && self.first_data_block == 0 {
            before += 1;
        }
        FsBlock(self.first_block_of(group) + before)
    }
}

/// `EXT2_FLAGS_UNSIGNED_HASH`.
const FLAG_UNSIGNED_HASH: u32 = 0x2;
/// `SB_ENC_STRICT_MODE_FL` and `SB_ENC_NO_COMPAT_FALLBACK_FL`.
const ENCODING_STRICT: u16 = 0x1;
const ENCODING_NO_FALLBACK: u16 = 0x2;

fn bad(problem: String) -> Error {
    Error::corrupt("superblock", problem)
}

fn check_extent_of_volume(blocks: u64, first: u64, block_size: u32, device_size: u64) -> Result<()> {
    if first > 1 || blocks <= first {
        return Err(bad(format!("{blocks} blocks from block {first} on make no volume")));
    }
    let size = blocks.checked_mul(u64::from(block_size));
    if size.is_none_or(|size| size > device_size) {
        return Err(bad(format!(
            "the volume has {blocks} blocks of {block_size} bytes, but the device only {device_size} bytes; \
             is the image or partition cut short?"
        )));
    }
    Ok(())
}

fn cluster_blocks(raw: &RawSuperblock, features: Features, block_bits: u32) -> Result<u32> {
    if !features.ro_compat.contains(RoCompat::BIGALLOC) {
        return Ok(1);
    }
    // EXT4_MAX_CLUSTER_LOG_SIZE is 30.
    let bits = raw.log_cluster_size.get().checked_add(10).filter(|bits| *bits <= 30);
    bits.and_then(|bits| bits.checked_sub(block_bits)).map(|bits| 1 << bits).ok_or_else(|| {
        bad(format!("the cluster size of 2^(10 + {}) bytes is impossible", raw.log_cluster_size))
    })
}

fn blocks_per_group(raw: &RawSuperblock, features: Features, block_size: u32, cluster: u32) -> Result<u64> {
    let blocks = raw.blocks_per_group.get();
    let clusters =
        if features.ro_compat.contains(RoCompat::BIGALLOC) { raw.clusters_per_group.get() } else { blocks };
    // One block of bitmap covers the group.
    if blocks == 0 || clusters > block_size * 8 || clusters.checked_mul(cluster) != Some(blocks) {
        return Err(bad(format!("a group cannot have {blocks} blocks in {clusters} clusters")));
    }
    Ok(u64::from(blocks))
}

fn inode_layout(raw: &RawSuperblock, dynamic: bool, block_size: u32) -> Result<(u32, u64)> {
    const GOOD_OLD_FIRST_INO: u32 = 11;
    let (size, first) = if dynamic {
        (u32::from(raw.inode_size.get()), raw.first_ino.get())
    } else {
        (GOOD_OLD_INODE_SIZE, GOOD_OLD_FIRST_INO)
    };
    if !size.is_power_of_two() || !(GOOD_OLD_INODE_SIZE..=block_size).contains(&size) {
        return Err(bad(format!("an inode cannot have {size} bytes")));
    }
    if first < GOOD_OLD_FIRST_INO {
        return Err(bad(format!("inode {first} cannot be the first that is not reserved")));
    }
    Ok((size, u64::from(first)))
}

fn descriptor_size(raw: &RawSuperblock, bits_64: bool) -> Result<u32> {
    if !bits_64 {
        return Ok(32);
    }
    let size = u32::from(raw.desc_size.get());
    if !size.is_power_of_two() || !(64..=1024).contains(&size) {
        return Err(bad(format!("a group descriptor cannot have {size} bytes")));
    }
    Ok(size)
}
