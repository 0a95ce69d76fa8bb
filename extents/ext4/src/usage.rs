//! Free and used space, as the kernel's `ext4_statfs` counts it.

use extents_core::{Ino, Result, SpaceUsage};

use crate::directory::NAME_MAX;
use crate::features::{Compat, Incompat, RoCompat};
use crate::geometry::Geometry;
use crate::volume::Ext4;

impl Ext4 {
    /// What `statfs` tells.
    pub(crate) fn space(&self) -> Result<SpaceUsage> {
        let geometry = &self.geometry;
        let (free_clusters, files_free) = self.groups.free(geometry, &self.media)?;
        let cluster = u64::from(geometry.cluster_blocks);
        let overhead = self.overhead()?.saturating_mul(cluster);
        let free = free_clusters.saturating_mul(cluster);
        let held = geometry.reserved_blocks.saturating_add(held_back(geometry) * cluster);
        Ok(SpaceUsage {
            block_size: geometry.block_size,
            blocks: geometry.blocks.saturating_sub(overhead),
            free,
            available: free.saturating_sub(held),
            files: geometry.inodes,
            files_free,
            name_max: u32::try_from(NAME_MAX).unwrap_or(u32::MAX),
        })
    }

    /// Clusters that hold the file system's own structures (`ext4_calculate_overhead`).
    fn overhead(&self) -> Result<u64> {
        let geometry = &self.geometry;
        let bigalloc = geometry.features.ro_compat.contains(RoCompat::BIGALLOC);
        let stored = u64::from(geometry.overhead_clusters);
        // The kernel believes mkfs only where counting is slow, which it is with clusters.
        if bigalloc && stored != 0 && stored <= geometry.blocks {
            return Ok(stored);
        }
        let mut overhead = geometry.first_data_block / u64::from(geometry.cluster_blocks);
        let mut in_groups: Vec<(u64, u64)> = Vec::new();
        for group in 0..geometry.groups {
            let copy = geometry.has_superblock(group);
            let head = u64::from(copy) + geometry.descriptor_blocks_in(group);
            if !bigalloc {
                let reserved = if copy { u64::from(geometry.reserved_gdt_blocks) } else { 0 };
                overhead += head + reserved + geometry.inode_table_blocks() + 2;
                continue;
            }
            // What is kept free for more descriptors is not counted here, though it is above.
            let found = self.groups.get(group, geometry, &self.media)?;
            let first = geometry.first_block_of(group);
            in_groups.push((first, first + head));
            in_groups.push((found.block_bitmap, found.block_bitmap.saturating_add(1)));
            in_groups.push((found.inode_bitmap, found.inode_bitmap.saturating_add(1)));
            in_groups.push((found.inode_table, found.inode_table + geometry.inode_table_blocks()));
        }
        overhead += clusters_of(in_groups, geometry);
        overhead += self.journal_blocks().div_ceil(u64::from(geometry.cluster_blocks));
        Ok(overhead)
    }

    /// Blocks of the internal journal; 0 where it lies elsewhere or there is none.
    fn journal_blocks(&self) -> u64 {
        if !self.geometry.features.compat.contains(Compat::HAS_JOURNAL) || self.journal_inum == 0 {
            return 0;
        }
        self.any_inode(Ino(u64::from(self.journal_inum)))
            .map_or(0, |inode| inode.length >> self.geometry.block_bits)
    }
}

/// Clusters that the kernel keeps for itself so that delayed writes cannot fail (`ext4_set_resv_clusters`).
fn held_back(geometry: &Geometry) -> u64 {
    const MOST: u64 = 4096;
    if !geometry.features.has(Incompat::EXTENTS) {
        return 0;
    }
    (geometry.blocks / u64::from(geometry.cluster_blocks) / 50).min(MOST)
}

/// How many clusters these ranges of blocks touch, each counted once.
fn clusters_of(mut ranges: Vec<(u64, u64)>, geometry: &Geometry) -> u64 {
    ranges.sort_unstable();
    let cluster =
        |block: u64| block.saturating_sub(geometry.first_data_block) / u64::from(geometry.cluster_blocks);
    let mut counted = 0;
    let mut next = 0;
    for (start, end) in ranges {
        let (first, after) = (cluster(start).max(next), cluster(end.saturating_sub(1)) + 1);
        if end > start && after > first {
            counted += after - first;
            next = after;
        }
    }
    counted
}

impl Geometry {
    /// Blocks of one group's inode table.
    fn inode_table_blocks(&self) -> u64 {
        (self.inodes_per_group * u64::from(self.inode_size)).div_ceil(u64::from(self.block_size))
    }

    /// Blocks of descriptors in a group (`ext4_bg_num_gdb`).
    fn descriptor_blocks_in(&self, group: u64) -> u64 {
        let per_block = u64::from(self.block_size / self.descriptor_size);
        let meta = self.features.has(Incompat::META_BG);
        let meta_group = group / per_block;
        if meta && meta_group >= self.first_meta_bg {
            let place = group % per_block;
            return u64::from(place == 0 || place == 1 || place == per_block - 1);
        }
        match (self.has_superblock(group), meta) {
            (false, _) => 0,
            (true, true) => self.first_meta_bg,
            (true, false) => self.groups.div_ceil(per_block),
        }
    }
}
