//! Blocks whose true contents are in memory: what a recovery would have written.

use rustc_hash::FxHashMap;

use crate::{BlockRead, FsBlock, ReadError, to_u64, to_usize};

/// Replacements for whole file-system blocks, laid over a device that is not written to.
#[derive(Debug, Default)]
pub struct Overlay {
    block_size: u32,
    blocks: FxHashMap<FsBlock, Box<[u8]>>,
}

impl Overlay {
    /// No replacements yet, for blocks of `block_size` bytes (a power of two).
    #[must_use]
    pub fn new(block_size: u32) -> Self {
        Self { block_size, blocks: FxHashMap::default() }
    }

    /// Lays `contents` over `block`, in place of what was laid there before. Contents of another length than
    /// the block size are refused by answering `false`.
    pub fn insert(&mut self, block: FsBlock, contents: Box<[u8]>) -> bool {
        let fits = !contents.is_empty() && to_u64(contents.len()) == u64::from(self.block_size);
        if fits {
            self.blocks.insert(block, contents);
        }
        fits
    }

    /// What lies over `block`, if anything.
    #[must_use]
    pub fn get(&self, block: FsBlock) -> Option<&[u8]> {
        self.blocks.get(&block).map(|contents| &**contents)
    }

    /// What lies over `block`, to be changed.
    pub fn get_mut(&mut self, block: FsBlock) -> Option<&mut [u8]> {
        self.blocks.get_mut(&block).map(|contents| &mut **contents)
    }

    /// Whether nothing is replaced.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// How many blocks are replaced.
    #[must_use]
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// The block size in bytes.
    #[must_use]
    pub fn block_size(&self) -> u32 {
        self.block_size
    }

    /// Whether any of the `length` bytes from byte `offset` of the volume on is replaced.
    #[must_use]
    pub fn touches(&self, offset: u64, length: u64) -> bool {
        if self.blocks.is_empty() || length == 0 {
            return false;
        }
        let size = u64::from(self.block_size);
        let (first, last) = (offset / size, offset.saturating_add(length - 1) / size);
        // Whichever is fewer: the blocks of the range, or the blocks that are replaced.
        if last - first < to_u64(self.blocks.len()) {
            (first..=last).any(|block| self.blocks.contains_key(&FsBlock(block)))
        } else {
            self.blocks.keys().any(|block| (first..=last).contains(&block.0))
        }
    }

    /// Puts the replacements into `buf`, which holds the device's bytes from `offset` on.
    pub fn patch(&self, offset: u64, buf: &mut [u8]) {
        if self.blocks.is_empty() {
            return;
        }
        let size = u64::from(self.block_size);
        let mut done = 0_usize;
        while done < buf.len() {
            let at = offset.saturating_add(to_u64(done));
            let within = to_usize(at % size);
            let piece = (to_usize(size) - within).min(buf.len() - done);
            if let Some(contents) = self.get(FsBlock(at / size))
                && let (Some(target), Some(source)) =
                    (buf.get_mut(done..done + piece), contents.get(within..within + piece))
            {
                target.copy_from_slice(source);
            }
            done += piece;
        }
    }

    /// Reads the device as if the replacements were on it.
    pub fn read_over<R: BlockRead + ?Sized>(
        &self,
        device: &R,
        offset: u64,
        buf: &mut [u8],
    ) -> Result<(), ReadError> {
        device.read_at(offset, buf)?;
        self.patch(offset, buf);
        Ok(())
    }
}
