//! Ranges of blocks, as commands that take several want them in memory.

/// A range of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockRange {
    /// First block.
    pub lba: u64,
    /// How many.
    pub blocks: u32,
}

impl BlockRange {
    /// For Dataset Management (NVM Command Set Specification 1.1, section 3.3.3): context attributes, length, start.
    #[must_use]
    pub fn deallocate(&self) -> [u8; 16] {
        let [a, b, c, d] = self.blocks.to_le_bytes();
        let [e, f, g, h, i, j, k, l] = self.lba.to_le_bytes();
        [0, 0, 0, 0, a, b, c, d, e, f, g, h, i, j, k, l]
    }

    /// For Copy (section 3.3.2, source range descriptor format 0h); none where it has no or more than 65536 blocks.
    #[must_use]
    pub fn copy(&self) -> Option<[u8; 32]> {
        let last = u16::try_from(self.blocks.checked_sub(1)?).ok()?;
        let mut bytes = [0; 32];
        let fields = self.lba.to_le_bytes().into_iter().chain(last.to_le_bytes());
        for (target, source) in bytes.iter_mut().skip(8).zip(fields) {
            *target = source;
        }
        Some(bytes)
    }
}
