//! How a volume is divided: sizes and the arithmetic between the ways to number its parts.

use extents_core::{FsBlock, Ino};

use crate::features::{Features2, Incompat, RoCompat, VersionBits};

/// What the superblock says about the volume's division, checked once at opening.
///
/// XFS packs an allocation group and a block within it into one number (`xfs_fsblock_t`), with gaps where a
/// group has not a power of two blocks. Here such numbers are turned into [`FsBlock`]s, which count blocks from
/// the volume's first byte without gaps, as soon as they are read ([`Geometry::decode_block`]).
#[derive(Debug, Clone)]
pub(crate) struct Geometry {
    /// 4 or 5.
    pub(crate) version: u8,
    pub(crate) block_size: u32,
    pub(crate) block_log: u32,
    pub(crate) sector_size: u32,
    pub(crate) inode_size: u32,
    pub(crate) inode_log: u32,
    /// log2 of inodes in a block.
    pub(crate) inodes_per_block_log: u32,
    /// Blocks of the data device.
    pub(crate) blocks: u64,
    /// Blocks of each allocation group but the last.
    pub(crate) group_blocks: u32,
    /// log2 of `group_blocks`, rounded up.
    pub(crate) group_block_log: u32,
    pub(crate) groups: u32,
    /// log2 of the blocks in a directory block.
    pub(crate) dir_block_log: u32,
    pub(crate) root: Ino,
    /// UUID in every metadata block of version 5 (`sb_meta_uuid` where that feature is on).
    pub(crate) meta_uuid: [u8; 16],
    /// First block of the internal log; `None` where the log is on another device.
    pub(crate) log_start: Option<FsBlock>,
    pub(crate) log_blocks: u32,
    pub(crate) version_bits: VersionBits,
    pub(crate) features2: Features2,
    pub(crate) ro_compat: RoCompat,
    pub(crate) incompat: Incompat,
    pub(crate) log_incompat: u32,
}

/// Where an inode lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InodePlace {
    /// Allocation group.
    pub(crate) group: u32,
    /// Inode number within the group (`xfs_agino_t`).
    pub(crate) in_group: u32,
    /// Block within the group.
    pub(crate) group_block: u32,
    /// Place within the block.
    pub(crate) index: u32,
}

impl Geometry {
    /// Whether this is version 5: every block describes itself.
    pub(crate) fn is_v5(&self) -> bool {
        self.version == 5
    }

    /// Whether directory entries carry the file type.
    pub(crate) fn has_ftype(&self) -> bool {
        if self.is_v5() {
            self.incompat.contains(Incompat::FTYPE)
        } else {
            self.features2.contains(Features2::FTYPE)
        }
    }

    /// Whether the superblock's counters are brought up to date at unmounting only.
    pub(crate) fn counts_lazily(&self) -> bool {
        self.is_v5() || self.features2.contains(Features2::LAZYSBCOUNT)
    }

    /// Size of a directory block in bytes.
    pub(crate) fn dir_block_size(&self) -> u32 {
        self.block_size << self.dir_block_log
    }

    /// Blocks of this group: the last one may be shorter.
    pub(crate) fn blocks_of_group(&self, group: u32) -> u32 {
        let before = u64::from(group) * u64::from(self.group_blocks);
        let rest = self.blocks.saturating_sub(before).min(u64::from(self.group_blocks));
        u32::try_from(rest).unwrap_or(self.group_blocks)
    }

    /// First block of a group behind its four headers, a sector each; files have none before it
    /// (`xfs_verify_agbno`).
    fn first_free_block(&self) -> u64 {
        u64::from(3 * self.sector_size / self.block_size) + 1
    }

    /// A block number as XFS packs it (`xfs_fsblock_t`), counted from the volume's first byte; `None` where it,
    /// or any of the `count` blocks from there on, lies outside its group or within the group's headers.
    pub(crate) fn decode_block(&self, packed: u64, count: u64) -> Option<FsBlock> {
        let group = u32::try_from(packed >> self.group_block_log).ok()?;
        let block = packed & ((1 << self.group_block_log) - 1);
        let end = block.checked_add(count)?;
        (group < self.groups
            && block >= self.first_free_block()
            && end <= u64::from(self.blocks_of_group(group)))
        .then(|| FsBlock(u64::from(group) * u64::from(self.group_blocks) + block))
    }

    /// A block of a group, counted from the volume's first byte; `None` where it lies outside the group.
    pub(crate) fn group_block(&self, group: u32, block: u32) -> Option<FsBlock> {
        (group < self.groups && block < self.blocks_of_group(group))
            .then(|| FsBlock(u64::from(group) * u64::from(self.group_blocks) + u64::from(block)))
    }

    /// Where the inode of this number lies; `None` where no inode can.
    pub(crate) fn inode_place(&self, ino: Ino) -> Option<InodePlace> {
        let within = self.group_block_log + self.inodes_per_block_log;
        let group = u32::try_from(ino.0 >> within).ok()?;
        let in_group = u32::try_from(ino.0 & ((1 << within) - 1)).ok()?;
        let group_block = in_group >> self.inodes_per_block_log;
        let index = in_group & ((1 << self.inodes_per_block_log) - 1);
        (ino.0 != 0 && group < self.groups && group_block < self.blocks_of_group(group))
            .then_some(InodePlace { group, in_group, group_block, index })
    }

    /// Size of the volume in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.blocks.saturating_mul(u64::from(self.block_size))
    }
}

#[cfg(test)]
impl Geometry {
    /// A volume of one group with blocks of 512 bytes.
    pub(crate) fn small(version: u8, blocks: u32) -> Self {
        Self {
            version,
            block_size: 512,
            block_log: 9,
            sector_size: 512,
            inode_size: 256,
            inode_log: 8,
            inodes_per_block_log: 1,
            blocks: u64::from(blocks),
            group_blocks: blocks,
            group_block_log: (blocks - 1).ilog2() + 1,
            groups: 1,
            dir_block_log: 0,
            root: Ino(128),
            meta_uuid: [7; 16],
            log_start: None,
            log_blocks: 0,
            version_bits: VersionBits::empty(),
            features2: Features2::empty(),
            ro_compat: RoCompat::empty(),
            incompat: Incompat::empty(),
            log_incompat: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decode_block_accepts_blocks_behind_the_headers_to_the_end_of_the_group_only() {
        let mut geometry = Geometry::small(4, 100);
        geometry.groups = 3;
        geometry.blocks = 250;
        assert_eq!(geometry.group_block_log, 7);
        let decode = |group: u64, block: u64, count| geometry.decode_block((group << 7) | block, count);
        assert_eq!(decode(0, 4, 96), Some(FsBlock(4)));
        assert_eq!(decode(1, 99, 1), Some(FsBlock(199)));
        assert_eq!(decode(2, 49, 1), Some(FsBlock(249)));
        for (group, block, count) in [(0, 3, 1), (0, 4, 97), (1, 100, 1), (1, 127, 1), (2, 49, 2), (3, 10, 1)]
        {
            assert_eq!(decode(group, block, count), None, "{group} {block} {count}");
        }
        assert_eq!(geometry.decode_block(u64::MAX, u64::MAX), None);
    }

    #[test]
    fn inode_place_of_a_number_outside_the_volume_is_none() {
        let mut geometry = Geometry::small(4, 100);
        geometry.groups = 3;
        geometry.blocks = 250;
        let place = |group: u64, in_group: u64| geometry.inode_place(Ino((group << 8) | in_group));
        let found = place(1, 99 * 2 + 1).unwrap();
        assert_eq!((found.group, found.group_block, found.index), (1, 99, 1));
        assert_eq!((place(1, 200), place(2, 100), place(3, 0)), (None, None, None));
        assert_eq!((geometry.inode_place(Ino(0)), geometry.inode_place(Ino(u64::MAX))), (None, None));
    }
}
