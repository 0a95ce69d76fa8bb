//! Maps of regular files: the data fork, cut where sharing with other files begins and ends.

use extents_core::{Error, Extent, ExtentFlags, ExtentMap, ExtentMapBuilder, FileType, Flow, Result};

use crate::fork::{ForkExtent, walk_extents};
use crate::inode::Inode;
use crate::reference_tree;
use crate::volume::{BlockRun, Volume};

/// The most pieces that a map is made of. Few files have a million; but a made-up volume can name the same
/// finely shared blocks in very many extents, and their pieces would fill all memory.
const PIECES_MAX: u64 = 1 << 24;

/// The map of a regular file; an empty one of anything else.
pub(crate) fn read(volume: &Volume, inode: &Inode) -> Result<ExtentMap> {
    let geometry = volume.geometry();
    if inode.file_type != FileType::Regular {
        return Ok(ExtentMapBuilder::new(0, inode.generation, geometry.size()).finish());
    }
    if inode.is_realtime()? {
        return Err(Error::unsupported(format!(
            "inode {}: its contents lie on the realtime device, which is not read",
            inode.ino
        )));
    }
    let builder = ExtentMapBuilder::new(inode.size, inode.generation, geometry.size());
    let mut map = Pieces { builder, block_log: geometry.block_log, count: 0, inode };
    let may_share = inode.may_share_blocks()?;
    walk_extents(volume, inode, inode.data_fork(), &mut |extent| {
        if extent.unwritten {
            map.push(&extent, extent.run, ExtentFlags::UNWRITTEN)?;
        } else if !may_share {
            map.push(&extent, extent.run, ExtentFlags::empty())?;
        } else {
            reference_tree::split(volume, extent.run, |run, shared| {
                map.push(&extent, run, if shared { ExtentFlags::SHARED } else { ExtentFlags::empty() })
            })?;
        }
        Ok(Flow::Continue(()))
    })?;
    Ok(map.builder.finish())
}

struct Pieces<'a> {
    builder: ExtentMapBuilder,
    block_log: u32,
    count: u64,
    inode: &'a Inode,
}

impl Pieces<'_> {
    /// Adds a part of an extent.
    fn push(&mut self, whole: &ForkExtent, part: BlockRun, flags: ExtentFlags) -> Result<()> {
        self.count += 1;
        if self.count > PIECES_MAX {
            return Err(Error::unsupported(format!(
                "inode {}: its map has more than {PIECES_MAX} pieces; a defragmented copy (xfs_fsr) can be read",
                self.inode.ino
            )));
        }
        // File blocks have 54 bits, so that bytes may not fit in 64; blocks of the volume were checked to.
        let file = whole.file.0 + (part.start.0 - whole.run.start.0);
        let logical = file
            .checked_mul(1 << self.block_log)
            .ok_or_else(|| Error::corrupt("extent", "lies behind the largest file"))?;
        let (physical, length) = (part.start.0 << self.block_log, part.count << self.block_log);
        self.builder.push(Extent { logical, physical, length, flags })
    }
}
