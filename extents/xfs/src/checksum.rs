//! What version 5 stores in each metadata block to tell it from another: checksum, place, volume and owner.

use extents_core::{Error, Result};

/// Whether the CRC-32C stored (little-endian) at byte `at` of `block` is that of the block with those four
/// bytes taken as zeros (`xfs_verify_cksum`).
pub(crate) fn crc_matches(block: &[u8], at: usize) -> bool {
    let Some((before, rest)) = block.split_at_checked(at) else { return false };
    let Some((stored, after)) = rest.split_first_chunk::<4>() else { return false };
    let crc = crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(before), &[0; 4]), after);
    crc.to_le_bytes() == *stored
}

/// Where a kind of block keeps its description of itself: byte offsets within the block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SelfDescription {
    /// The structure's name, for errors.
    pub(crate) structure: &'static str,
    /// CRC-32C, 4 bytes.
    pub(crate) crc: usize,
    /// Place on the volume in units of 512 bytes, 8 bytes.
    pub(crate) blkno: usize,
    /// UUID of the volume's metadata, 16 bytes.
    pub(crate) uuid: usize,
    /// Owner: an inode number (8 bytes), or an allocation group's number (4 bytes).
    pub(crate) owner: usize,
    /// Bytes of the owner field: 4 or 8.
    pub(crate) owner_bytes: usize,
}

impl SelfDescription {
    /// Checks a block that was read from byte `offset` of the volume.
    ///
    /// # Errors
    /// `Corrupt` where any of the four differs from what it must be.
    pub(crate) fn check(&self, block: &[u8], offset: u64, uuid: &[u8; 16], owner: u64) -> Result<()> {
        let bad = |problem: &'static str| Err(Error::corrupt(self.structure, problem).at(offset));
        if !crc_matches(block, self.crc) {
            return bad("wrong checksum");
        }
        if self.number(block, self.blkno, 8) != Some(offset / 512) {
            return bad("it was written for another place on the volume");
        }
        if block.get(self.uuid..).and_then(|rest| rest.first_chunk()) != Some(uuid) {
            return bad("it belongs to another volume");
        }
        if self.number(block, self.owner, self.owner_bytes) != Some(owner) {
            return bad("it belongs to another owner");
        }
        Ok(())
    }

    fn number(&self, block: &[u8], at: usize, bytes: usize) -> Option<u64> {
        let field = block.get(at..at.checked_add(bytes)?)?;
        Some(field.iter().fold(0, |number, &byte| (number << 8) | u64::from(byte)))
    }
}
