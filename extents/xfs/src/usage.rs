//! Free space, as the kernel's `xfs_fs_statfs` computes it for a volume mounted read-only.

use std::sync::OnceLock;

use extents_core::{Result, SpaceUsage};

use crate::features::RoCompat;
use crate::group;
use crate::superblock::Superblock;
use crate::volume::Volume;

/// Blocks of each group that the allocator keeps for itself (`xfs_alloc_set_aside`).
const SET_ASIDE: u64 = 8;
/// Inode numbers have 56 bits (`XFS_MAXINUMBER`).
const INODES_MAX: u64 = (1 << 56) - 1;
const INODES_PER_CHUNK: u64 = 64;
const NAME_MAX: u32 = 255;
/// mkfs makes four to some hundreds, and growing a small volume some thousands.
const GROUPS_LOOKED_AT: u32 = 1 << 16;

/// Counters of inodes and blocks.
#[derive(Debug, Clone, Copy)]
struct Counters {
    inodes: u64,
    inodes_free: u64,
    blocks_free: u64,
    /// Whether they are sums over all groups.
    summed: bool,
}

/// Whether the kernel has read each group's header when the volume is mounted: it reserves what their trees may grow to
/// (`xfs_fs_reserve_ag_blocks`), on a read-only mount for as long as the log is looked at.
fn reads_groups(volume: &Volume) -> bool {
    volume.geometry().ro_compat.intersects(RoCompat::FINOBT | RoCompat::RMAPBT | RoCompat::REFLINK)
}

/// Free blocks that the free-space trees have taken, and nobody can have: the kernel knows it of groups that it has read
/// (`xfs_fdblocks_unavailable`). A group that cannot be read, which is told to whoever needs it, takes none; nor do those of a
/// volume that claims so many that looking at them would keep whoever asks for free space waiting.
fn in_trees(volume: &Volume) -> u64 {
    let groups = volume.geometry().groups;
    if groups > GROUPS_LOOKED_AT {
        return 0;
    }
    (0..groups)
        .filter_map(|number| group::space(volume, number).ok())
        .map(|space| space.in_free_trees)
        .fold(0, u64::saturating_add)
}

/// Free and used space. `withheld` keeps what the free-space trees have taken.
pub(crate) fn usage(
    volume: &Volume,
    superblock: &Superblock,
    withheld: &OnceLock<u64>,
) -> Result<SpaceUsage> {
    let geometry = volume.geometry();
    let counters = counters(volume, superblock)?;
    let log_blocks = if geometry.log_start.is_some() { u64::from(geometry.log_blocks) } else { 0 };
    let set_aside = u64::from(geometry.groups) * SET_ASIDE;
    let withheld =
        *withheld.get_or_init(|| if counters.summed || reads_groups(volume) { in_trees(volume) } else { 0 });
    let free = counters.blocks_free.saturating_sub(set_aside).saturating_sub(withheld);
    // Free blocks could all become inodes, up to the share of the volume that inodes may take.
    let possible = counters.inodes.saturating_add(free.saturating_mul(1 << geometry.inodes_per_block_log));
    let files = possible.min(INODES_MAX).min(inodes_max(volume, superblock)).max(counters.inodes);
    let used = counters.inodes.saturating_sub(counters.inodes_free);
    Ok(SpaceUsage {
        block_size: geometry.block_size,
        blocks: geometry.blocks.saturating_sub(log_blocks),
        free,
        available: free,
        files,
        files_free: files.saturating_sub(used),
        name_max: NAME_MAX,
    })
}

/// Those of the superblock, which an unmount brings up to date; after anything else, or where they cannot be,
/// the sums over all groups (`xfs_check_summary_counts`).
fn counters(volume: &Volume, superblock: &Superblock) -> Result<Counters> {
    let stored = Counters {
        inodes: superblock.inodes,
        inodes_free: superblock.inodes_free,
        blocks_free: superblock.blocks_free,
        summed: false,
    };
    let sane = stored.blocks_free <= volume.geometry().blocks && stored.inodes_free <= stored.inodes;
    if sane && (volume.is_recovered() || !volume.geometry().counts_lazily()) {
        return Ok(stored);
    }
    let mut sums = Counters { inodes: 0, inodes_free: 0, blocks_free: 0, summed: true };
    for number in 0..volume.geometry().groups {
        let (space, inodes) = (group::space(volume, number)?, group::inodes(volume, number)?);
        sums.inodes += u64::from(inodes.count);
        sums.inodes_free += u64::from(inodes.free);
        sums.blocks_free = sums.blocks_free.saturating_add(space.free);
    }
    Ok(sums)
}

/// Most inodes that the volume may have: its share in whole chunks (`xfs_ialloc_setup_geometry`).
fn inodes_max(volume: &Volume, superblock: &Superblock) -> u64 {
    let geometry = volume.geometry();
    if superblock.inode_percent == 0 {
        return u64::MAX;
    }
    let chunk_blocks = (INODES_PER_CHUNK >> geometry.inodes_per_block_log).max(1);
    let share = geometry.blocks.saturating_mul(u64::from(superblock.inode_percent)) / 100;
    (share / chunk_blocks * chunk_blocks).saturating_mul(1 << geometry.inodes_per_block_log)
}
