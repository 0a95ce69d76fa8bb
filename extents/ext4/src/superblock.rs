//! The superblock: `struct ext4_super_block` in the kernel's `fs/ext4/ext4.h`, at byte 1024 of the volume.

use extents_core::{Error, Result};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::checksum::Crc;

/// Where the superblock lies, whatever the block size.
pub(crate) const SUPERBLOCK_AT: u64 = 1024;
/// Its size in bytes.
pub(crate) const SUPERBLOCK_SIZE: usize = 1024;
/// `EXT4_SUPER_MAGIC`.
const MAGIC: u16 = 0xEF53;

/// The superblock as it lies on the volume.
#[derive(Debug, Clone, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct RawSuperblock {
    pub(crate) inodes_count: U32,
    pub(crate) blocks_count_lo: U32,
    pub(crate) r_blocks_count_lo: U32,
    pub(crate) free_blocks_count_lo: U32,
    pub(crate) free_inodes_count: U32,
    pub(crate) first_data_block: U32,
    pub(crate) log_block_size: U32,
    pub(crate) log_cluster_size: U32,
    pub(crate) blocks_per_group: U32,
    pub(crate) clusters_per_group: U32,
    pub(crate) inodes_per_group: U32,
    pub(crate) mtime: U32,
    pub(crate) wtime: U32,
    pub(crate) mnt_count: U16,
    pub(crate) max_mnt_count: U16,
    pub(crate) magic: U16,
    pub(crate) state: U16,
    pub(crate) errors: U16,
    pub(crate) minor_rev_level: U16,
    pub(crate) lastcheck: U32,
    pub(crate) checkinterval: U32,
    pub(crate) creator_os: U32,
    pub(crate) rev_level: U32,
    pub(crate) def_resuid: U16,
    pub(crate) def_resgid: U16,
    pub(crate) first_ino: U32,
    pub(crate) inode_size: U16,
    pub(crate) block_group_nr: U16,
    pub(crate) feature_compat: U32,
    pub(crate) feature_incompat: U32,
    pub(crate) feature_ro_compat: U32,
    pub(crate) uuid: [u8; 16],
    pub(crate) volume_name: [u8; 16],
    pub(crate) last_mounted: [u8; 64],
    pub(crate) algorithm_usage_bitmap: U32,
    pub(crate) prealloc_blocks: u8,
    pub(crate) prealloc_dir_blocks: u8,
    pub(crate) reserved_gdt_blocks: U16,
    pub(crate) journal_uuid: [u8; 16],
    pub(crate) journal_inum: U32,
    pub(crate) journal_dev: U32,
    pub(crate) last_orphan: U32,
    pub(crate) hash_seed: [U32; 4],
    pub(crate) def_hash_version: u8,
    pub(crate) jnl_backup_type: u8,
    pub(crate) desc_size: U16,
    pub(crate) default_mount_opts: U32,
    pub(crate) first_meta_bg: U32,
    pub(crate) mkfs_time: U32,
    pub(crate) jnl_blocks: [U32; 17],
    pub(crate) blocks_count_hi: U32,
    pub(crate) r_blocks_count_hi: U32,
    pub(crate) free_blocks_count_hi: U32,
    pub(crate) min_extra_isize: U16,
    pub(crate) want_extra_isize: U16,
    pub(crate) flags: U32,
    pub(crate) raid_stride: U16,
    pub(crate) mmp_interval: U16,
    pub(crate) mmp_block: U64,
    pub(crate) raid_stripe_width: U32,
    pub(crate) log_groups_per_flex: u8,
    pub(crate) checksum_type: u8,
    pub(crate) encryption_level: u8,
    pub(crate) reserved_pad: u8,
    pub(crate) kbytes_written: U64,
    pub(crate) snapshot: [U32; 5],
    pub(crate) error_count: U32,
    pub(crate) errors_seen: [u8; 104],
    pub(crate) mount_opts: [u8; 64],
    pub(crate) usr_quota_inum: U32,
    pub(crate) grp_quota_inum: U32,
    pub(crate) overhead_clusters: U32,
    pub(crate) backup_bgs: [U32; 2],
    pub(crate) encrypt_algos: [u8; 4],
    pub(crate) encrypt_pw_salt: [u8; 16],
    pub(crate) lpf_ino: U32,
    pub(crate) prj_quota_inum: U32,
    pub(crate) checksum_seed: U32,
    pub(crate) times_hi: [u8; 8],
    pub(crate) encoding: U16,
    pub(crate) encoding_flags: U16,
    pub(crate) orphan_file_inum: U32,
    pub(crate) reserved: [U32; 94],
    pub(crate) checksum: U32,
}

const _: () = assert!(size_of::<RawSuperblock>() == SUPERBLOCK_SIZE);
const _: () = assert!(std::mem::offset_of!(RawSuperblock, magic) == 0x38);
const _: () = assert!(std::mem::offset_of!(RawSuperblock, journal_inum) == 0xE0);
const _: () = assert!(std::mem::offset_of!(RawSuperblock, blocks_count_hi) == 0x150);
const _: () = assert!(std::mem::offset_of!(RawSuperblock, overhead_clusters) == 0x248);
const _: () = assert!(std::mem::offset_of!(RawSuperblock, checksum_seed) == 0x270);
const _: () = assert!(std::mem::offset_of!(RawSuperblock, orphan_file_inum) == 0x280);

impl RawSuperblock {
    /// Takes the superblock from its 1024 bytes; `None` where they hold none of this format.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let found = Self::read_from_bytes(bytes).ok()?;
        (found.magic.get() == MAGIC).then_some(found)
    }

    /// Checks the superblock against its checksum, where the volume keeps one.
    pub(crate) fn verify(&self) -> Result<()> {
        const CRC32C: u8 = 1;
        if self.checksum_type != CRC32C {
            return Err(Error::corrupt(
                "superblock",
                format!("unknown checksum type {}", self.checksum_type),
            ));
        }
        let covered = self.as_bytes().get(..SUPERBLOCK_SIZE - 4).unwrap_or_default();
        if Crc::START.over(covered).value() != self.checksum.get() {
            return Err(Error::corrupt("superblock", "its checksum does not match").at(SUPERBLOCK_AT));
        }
        Ok(())
    }
}

/// Joins the two halves of a 64-bit number that the format keeps apart.
pub(crate) fn join(low: U32, high: U32) -> u64 {
    u64::from(low.get()) | (u64::from(high.get()) << 32)
}
