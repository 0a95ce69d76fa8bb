//! Descriptor blocks: which blocks of the volume the blocks behind them belong to.

use crate::header::{Header, MAGIC};
use crate::{Features, Journal};

/// `JBD2_FLAG_ESCAPE`: the block began with the journal's magic, which was cleared in the log.
const ESCAPE: u16 = 1;
/// `JBD2_FLAG_SAME_UUID`: no UUID follows the tag.
const SAME_UUID: u16 = 2;
/// `JBD2_FLAG_LAST_TAG`.
const LAST: u16 = 8;
/// Bytes of the checksum at the end of descriptor and revoke blocks (`struct jbd2_journal_block_tail`).
pub(crate) const TAIL: usize = 4;

/// One block of the log: where it belongs on the volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tag {
    /// Block of the volume.
    pub(crate) block: u64,
    pub(crate) escaped: bool,
    /// Checksum of the transaction's number and the block: 32 bits of version 3, or the low 16 of version 2.
    pub(crate) checksum: u32,
}

impl Tag {
    /// Puts back the first word of a block that the log could not hold as it was.
    pub(crate) fn restore(&self, block: &mut [u8]) {
        if self.escaped
            && let Some(word) = block.first_chunk_mut()
        {
            *word = MAGIC.to_be_bytes();
        }
    }
}

/// The tags of a descriptor block, in the order of the blocks behind it.
pub(crate) fn tags<'b>(journal: &Journal<'_>, descriptor: &'b [u8]) -> Tags<'b> {
    let tail = if journal.has_block_checksums() { TAIL } else { 0 };
    let end = descriptor.len().saturating_sub(tail);
    let rest = descriptor.get(size_of::<Header>()..end).unwrap_or_default();
    Tags { features: journal.features(), rest }
}

pub(crate) struct Tags<'b> {
    features: Features,
    rest: &'b [u8],
}

impl Tags<'_> {
    /// `journal_tag_bytes` of the kernel. A tag begins with the block number (4 bytes), then: version 3 has 4
    /// bytes of flags, the upper half of the number, 4 bytes of checksum; others 2 bytes of checksum, 2 bytes
    /// of flags, the upper half where numbers have 64 bits, and 2 bytes of padding where they have version 2.
    fn tag_bytes(&self) -> usize {
        if self.features.contains(Features::CHECKSUM_V3) {
            return 16;
        }
        let padding = if self.features.contains(Features::CHECKSUM_V2) { 2 } else { 0 };
        let upper = if self.features.contains(Features::BIT64) { 4 } else { 0 };
        8 + upper + padding
    }
}

impl Iterator for Tags<'_> {
    type Item = Tag;

    fn next(&mut self) -> Option<Tag> {
        let (tag, behind) = self.rest.split_at_checked(self.tag_bytes())?;
        let word = |at: usize| {
            tag.get(at..at + 4).and_then(|bytes| bytes.first_chunk()).copied().map(u32::from_be_bytes)
        };
        let half = |at: usize| {
            tag.get(at..at + 2).and_then(|bytes| bytes.first_chunk()).copied().map(u16::from_be_bytes)
        };
        // The low half of version 3's flags lies where the others have theirs.
        let flags = half(6)?;
        let upper = if self.features.contains(Features::BIT64) { word(8)? } else { 0 };
        let checksum =
            if self.features.contains(Features::CHECKSUM_V3) { word(12)? } else { half(4)?.into() };
        let uuid = if flags & SAME_UUID == 0 { 16 } else { 0 };
        self.rest = if flags & LAST == 0 { behind.get(uuid..).unwrap_or_default() } else { &[] };
        Some(Tag {
            block: (u64::from(upper) << 32) | u64::from(word(0)?),
            escaped: flags & ESCAPE != 0,
            checksum,
        })
    }
}
