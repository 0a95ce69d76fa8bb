//! Where a file's bytes lie, and the reading of those that belong to metadata.

use extents_core::{
    Error, Extent, ExtentFlags, ExtentMap, ExtentMapBuilder, FileBlock, FileType, FsBlock, Result, to_u64,
    to_usize,
};

use crate::extent_tree::{BlockRun, block_of, bytes_of, within_block};
use crate::fast_commit::Ruling;
use crate::inode::{BLOCK_AREA_AT, Flags, Inode};
use crate::volume::Ext4;

/// The largest file of a block map has fewer blocks than this, and block numbers of extents have 32 bits.
const BLOCKS_MAX: u64 = 1 << 43;

impl Ext4 {
    /// The extent map of a regular file; an empty one for what is none.
    pub(crate) fn map(&self, inode: &Inode) -> Result<ExtentMap> {
        let mut builder =
            ExtentMapBuilder::new(inode.length, inode.generation(), self.geometry.volume_size());
        if inode.file_type() != Some(FileType::Regular) {
            return Ok(builder.finish());
        }
        if inode.has(Flags::INLINE_DATA) {
            if inode.length > 0 {
                builder.push(Extent {
                    logical: 0,
                    physical: inode.at + to_u64(BLOCK_AREA_AT),
                    length: inode.length,
                    flags: ExtentFlags::INLINE,
                })?;
            }
            return Ok(builder.finish());
        }
        let written = if inode.has(Flags::ENCRYPT) { ExtentFlags::ENCODED } else { ExtentFlags::empty() };
        // Written blocks behind the one with the last byte are what verity keeps there, or what a truncation was
        // about to free when the machine went down: the kernel frees it on its next mount for writing.
        let end = inode.length.div_ceil(u64::from(self.geometry.block_size));
        let mut left = self.geometry.blocks.saturating_mul(self.geometry.uses_of_a_block());
        self.walk_runs(inode, end, &mut |mut run| {
            // Blocks named over and over would make a map that is larger than the volume.
            left = left
                .checked_sub(run.blocks)
                .ok_or_else(|| Error::corrupt("block map", "the file has more blocks than the volume"))?;
            if run.unwritten {
                return builder.push(self.extent(run, ExtentFlags::UNWRITTEN)?);
            }
            run.blocks = run.blocks.min(end.saturating_sub(run.logical.0));
            if run.blocks > 0 { self.push_written(&mut builder, run, written) } else { Ok(()) }
        })
        .map_err(|error| error.in_inode(inode.ino))?;
        Ok(builder.finish())
    }

    /// Gives the runs of an inode's blocks; of a block map only the first `blocks` blocks.
    pub(crate) fn walk_runs(
        &self,
        inode: &Inode,
        blocks: u64,
        visit: &mut dyn FnMut(BlockRun) -> Result<()>,
    ) -> Result<()> {
        if let Some(changes) = self.fast_commits.ranges(inode.ino) {
            let mut tree = Vec::new();
            self.walk_extents(inode, &mut |run| {
                tree.push(run);
                Ok(())
            })?;
            return changes.apply(&tree).into_iter().try_for_each(visit);
        }
        if inode.has(Flags::EXTENTS) {
            self.walk_extents(inode, visit)
        } else {
            self.walk_block_map(inode, blocks.min(BLOCKS_MAX), visit)
        }
    }

    /// The run that holds a block of an inode; `None` in a hole.
    pub(crate) fn find_run(&self, inode: &Inode, block: FileBlock) -> Result<Option<BlockRun>> {
        if let Some(changes) = self.fast_commits.ranges(inode.ino) {
            match changes.rule(block) {
                Ruling::Mapped(run) => return Ok(Some(run)),
                Ruling::Hole => return Ok(None),
                Ruling::Unchanged => {}
            }
        }
        if inode.has(Flags::EXTENTS) {
            self.find_extent(inode, block)
        } else {
            self.find_in_block_map(inode, block)
        }
    }

    /// The block of the volume that holds a written block of an inode.
    pub(crate) fn find_block(&self, inode: &Inode, block: FileBlock) -> Result<Option<FsBlock>> {
        let run = self.find_run(inode, block)?.filter(|run| !run.unwritten);
        Ok(run.and_then(|run| run.physical.0.checked_add(block.0 - run.logical.0)).map(FsBlock))
    }

    fn extent(&self, run: BlockRun, flags: ExtentFlags) -> Result<Extent> {
        let too_far = || Error::corrupt("extent", "reaches past the largest file");
        Ok(Extent {
            logical: run.logical.to_bytes(self.geometry.block_size).ok_or_else(too_far)?,
            physical: run.physical.to_bytes(self.geometry.block_size).ok_or_else(too_far)?,
            length: bytes_of(run.blocks, &self.geometry).ok_or_else(too_far)?,
            flags,
        })
    }

    /// Adds a written run, cut where recovery holds newer contents in memory.
    fn push_written(&self, builder: &mut ExtentMapBuilder, run: BlockRun, flags: ExtentFlags) -> Result<()> {
        let whole = self.extent(run, flags)?;
        let overlay = &self.media.overlay;
        if overlay.is_empty() || !overlay.touches(whole.physical, whole.length) {
            return builder.push(whole);
        }
        // The volume's end bounds the run, so check that before stepping through it.
        if run.physical.0.checked_add(run.blocks).is_none_or(|end| end > self.geometry.blocks) {
            return Err(Error::corrupt("extent", "reaches past the end of the volume"));
        }
        for step in 0..run.blocks {
            let block = BlockRun {
                logical: FileBlock(run.logical.0 + step),
                physical: FsBlock(run.physical.0 + step),
                blocks: 1,
                unwritten: false,
            };
            let newer = overlay.get(block.physical).is_some();
            let flags = if newer { flags | ExtentFlags::ENCODED } else { flags };
            builder.push(self.extent(block, flags)?)?;
        }
        Ok(())
    }

    /// Reads bytes of an inode that lie in blocks, through the overlay; holes and unwritten blocks are zeros.
    pub(crate) fn read_blocks(&self, inode: &Inode, offset: u64, buf: &mut [u8]) -> Result<()> {
        let geometry = &self.geometry;
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = offset
                .checked_add(to_u64(done))
                .ok_or_else(|| inode.corrupt("a read reaches past the largest file"))?;
            let within = within_block(at, geometry);
            let piece = rest.len().min(geometry.block_len() - within);
            let Some(target) = rest.get_mut(..piece) else { break };
            match self.find_block(inode, block_of(at, geometry))? {
                Some(block) => {
                    let byte = geometry
                        .byte_of(block)
                        .ok_or_else(|| inode.corrupt("a block lies past the end of the volume"))?;
                    self.media.read(byte + to_u64(within), target)?;
                }
                None => target.fill(0),
            }
            done += piece;
        }
        Ok(())
    }

    /// Reads bytes of a file whose contents lie within the inode.
    pub(crate) fn read_inline(&self, inode: &Inode, offset: u64, buf: &mut [u8]) -> Result<()> {
        let data = self.inline_data(inode)?;
        let from = to_usize(offset);
        let end = from.checked_add(buf.len());
        match end.and_then(|end| data.get(from..end)) {
            Some(source) => {
                buf.copy_from_slice(source);
                Ok(())
            }
            None => Err(inode.corrupt("its contents are shorter than its size")),
        }
    }

    /// All the bytes of a file, directory or link whose contents lie within the inode: first those in `i_block`,
    /// then the value of the attribute `system.data`.
    pub(crate) fn inline_data(&self, inode: &Inode) -> Result<Vec<u8>> {
        let mut data = inode.block_area().to_vec();
        if let Some(rest) = self.inline_data_value(inode)? {
            data.extend_from_slice(rest);
        }
        if inode.length < to_u64(data.len()) {
            data.truncate(to_usize(inode.length));
        }
        Ok(data)
    }
}
