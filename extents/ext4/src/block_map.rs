//! The block map of ext2 and ext3: twelve blocks named in the inode, then blocks of block numbers, up to three
//! deep (`fs/ext4/indirect.c`).

use std::sync::Arc;

use extents_core::{CacheKey, Error, FileBlock, FsBlock, Result, to_u64, to_usize};
use rustc_hash::FxHashSet;
use zerocopy::little_endian::U32;

use crate::extent_tree::BlockRun;
use crate::inode::Inode;
use crate::layout::{view, views};
use crate::volume::{Ext4, Kind};

/// `EXT4_NDIR_BLOCKS`.
const DIRECT: u64 = 12;
/// Where in `i_block` the first indirect block is named; the double and the triple one follow.
const INDIRECT_AT: usize = 12;

/// Joins blocks that follow each other in the file and on the volume.
struct Joiner<'a> {
    run: Option<BlockRun>,
    visit: &'a mut dyn FnMut(BlockRun) -> Result<()>,
    /// Indirect blocks seen: one that is named twice would otherwise stand for a file of any size.
    seen: FxHashSet<u64>,
}

impl Joiner<'_> {
    fn block(&mut self, logical: u64, physical: u64) -> Result<()> {
        if let Some(run) = &mut self.run
            && run.logical.0 + run.blocks == logical
            && run.physical.0 + run.blocks == physical
        {
            run.blocks += 1;
            return Ok(());
        }
        self.flush()?;
        self.run = Some(BlockRun {
            logical: FileBlock(logical),
            physical: FsBlock(physical),
            blocks: 1,
            unwritten: false,
        });
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.run.take().map_or(Ok(()), |run| (self.visit)(run))
    }
}

impl Ext4 {
    /// Gives the runs of a file of `blocks` blocks in the order of the file.
    pub(crate) fn walk_block_map(
        &self,
        inode: &Inode,
        blocks: u64,
        visit: &mut dyn FnMut(BlockRun) -> Result<()>,
    ) -> Result<()> {
        let mut joiner = Joiner { run: None, visit, seen: FxHashSet::default() };
        let numbers: &[U32] = views(inode.block_area(), 0, INDIRECT_AT + 3).unwrap_or_default();
        let (direct, indirect) = numbers.split_at_checked(INDIRECT_AT).unwrap_or_default();
        for (number, logical) in direct.iter().zip(0..blocks) {
            if number.get() != 0 {
                joiner.block(logical, u64::from(number.get()))?;
            }
        }
        let mut first = DIRECT;
        for (depth, number) in (1..=3).zip(indirect) {
            if first < blocks && number.get() != 0 {
                self.walk_indirect(inode, u64::from(number.get()), depth, first, blocks, &mut joiner)?;
            }
            first += self.span(depth);
        }
        joiner.flush()
    }

    /// Blocks of a file that an indirect block of this depth stands for.
    fn span(&self, depth: u32) -> u64 {
        // At most (2^14)^3.
        (u64::from(self.geometry.block_size) / 4).pow(depth)
    }

    fn walk_indirect(
        &self,
        inode: &Inode,
        block: u64,
        depth: u32,
        first: u64,
        blocks: u64,
        joiner: &mut Joiner<'_>,
    ) -> Result<()> {
        if !joiner.seen.insert(block) {
            return Err(Error::corrupt("block map", "an indirect block is named twice").in_inode(inode.ino));
        }
        let bytes = self.indirect_block(inode, block)?;
        let numbers: &[U32] = views(&bytes, 0, bytes.len() / 4).unwrap_or_default();
        let each = self.span(depth - 1);
        for (place, number) in numbers.iter().enumerate() {
            let logical = first + to_u64(place) * each;
            if logical >= blocks {
                break;
            }
            match (number.get(), depth) {
                (0, _) => {}
                (number, 1) => joiner.block(logical, u64::from(number))?,
                (number, _) => {
                    self.walk_indirect(inode, u64::from(number), depth - 1, logical, blocks, joiner)?;
                }
            }
        }
        Ok(())
    }

    /// The block of the volume that holds a block of a file; `None` in a hole.
    pub(crate) fn find_in_block_map(&self, inode: &Inode, block: FileBlock) -> Result<Option<BlockRun>> {
        let area = inode.block_area();
        let named = |bytes: &[u8], place: u64| view::<U32>(bytes, to_usize(place) * 4).map_or(0, |n| n.get());
        let found = |physical: u32| {
            (physical != 0).then_some(BlockRun {
                logical: block,
                physical: FsBlock(u64::from(physical)),
                blocks: 1,
                unwritten: false,
            })
        };
        if block.0 < DIRECT {
            return Ok(found(named(area, block.0)));
        }
        let mut within = block.0 - DIRECT;
        for depth in 1..=3 {
            let span = self.span(depth);
            if within >= span {
                within -= span;
                continue;
            }
            let mut number = named(area, to_u64(INDIRECT_AT) + u64::from(depth) - 1);
            for level in (0..depth).rev() {
                if number == 0 {
                    return Ok(None);
                }
                let bytes = self.indirect_block(inode, u64::from(number))?;
                let each = self.span(level);
                number = named(&bytes, within / each);
                within %= each;
            }
            return Ok(found(number));
        }
        Ok(None)
    }

    fn indirect_block(&self, inode: &Inode, block: u64) -> Result<Arc<[u8]>> {
        let Some(at) = self.geometry.byte_of(FsBlock(block)) else {
            let problem = format!("it names block {block}, which lies past the end of the volume");
            return Err(Error::corrupt("block map", problem).in_inode(inode.ino));
        };
        // These blocks carry no checksum, and nothing says whose they are.
        let key = CacheKey { offset: at, kind: Kind::Indirect.number(), owner: 0 };
        self.cache.get_or_load(key, || Ok(self.media.read_vec(at, self.geometry.block_len())?.into()))
    }
}
