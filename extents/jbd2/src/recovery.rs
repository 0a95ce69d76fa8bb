//! The second and third pass: what the volume's blocks hold in truth.

use std::ops::Range;

use extents_core::{Error, FsBlock, Overlay, Result, to_u64};

use crate::checksum::crc32c;
use crate::revoke::Revoked;
use crate::tags::{Tag, tags};
use crate::{Features, Journal};

/// What a recovery found.
#[derive(Debug)]
pub struct Recovered {
    /// The blocks that the log holds newer contents of, with these contents.
    pub overlay: Overlay,
    /// Complete transactions in the log.
    pub transactions: u32,
    /// Blocks that were taken from the log, each as often as it was logged.
    pub replayed: u64,
    /// Records of revoked blocks.
    pub revokes: u64,
    /// Blocks of the log that were left out since they had been revoked.
    pub revoked: u64,
    /// Where fast commits that follow the last transaction may lie.
    pub fast_commits: Option<FastCommitArea>,
}

/// The blocks of a journal that are set aside for fast commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FastCommitArea {
    /// Blocks of the journal, in the order in which fast commits fill them.
    pub blocks: Range<u64>,
    /// The transaction that valid fast commits belong to: the one behind the last in the log.
    pub transaction: u32,
}

/// Most bytes of blocks that a recovery holds. mke2fs makes journals of at most 1 GiB unless told otherwise.
const MEMORY_MAX: u64 = 2 << 30;

impl Journal<'_> {
    /// Recovers the journal of a volume of `volume_blocks` blocks.
    ///
    /// # Errors
    /// `Corrupt` where the kernel would refuse to mount as well: a log that is damaged before its end.
    /// `NeedsRecovery` where the log holds more than recovery in memory may.
    pub fn recover(&self, volume_blocks: u64) -> Result<Recovered> {
        let mut recovered = Recovered {
            overlay: Overlay::new(self.place.block_size),
            transactions: 0,
            replayed: 0,
            revokes: 0,
            revoked: 0,
            fast_commits: None,
        };
        let Some(start) = self.start else { return Ok(recovered) };
        let scan = self.scan(start)?;
        let mut block = self.buffer();
        let mut revoked = Revoked::default();
        for entry in scan.found.iter().filter(|entry| entry.revokes) {
            self.read(entry.block, &mut block)?;
            revoked.add(self, &block, entry.transaction)?;
        }
        for entry in scan.found.iter().filter(|entry| !entry.revokes) {
            self.read(entry.block, &mut block)?;
            let mut at = entry.block;
            for tag in tags(self, &block) {
                at = self.after(at);
                if revoked.covers(tag.block, entry.transaction) {
                    recovered.revoked += 1;
                } else {
                    self.take(at, tag, entry.transaction, volume_blocks, &mut recovered)?;
                }
            }
        }
        recovered.transactions = scan.end.wrapping_sub(self.sequence);
        recovered.revokes = revoked.records;
        recovered.fast_commits = self.fast_commit_area(scan.end);
        Ok(recovered)
    }

    /// Takes a block of the log as what the volume holds in the tag's place.
    fn take(
        &self,
        at: u32,
        tag: Tag,
        transaction: u32,
        volume_blocks: u64,
        into: &mut Recovered,
    ) -> Result<()> {
        let target = tag.block;
        if target >= volume_blocks {
            return Err(Error::corrupt(
                "journal",
                format!("block {target} of transaction {transaction} lies past the end of the volume"),
            ));
        }
        let mut contents = self.buffer();
        self.read(at, &mut contents)?;
        if !self.matches(&tag, &contents, transaction) {
            return Err(Error::corrupt(
                "journal",
                format!("block {target} of transaction {transaction} does not match its checksum"),
            ));
        }
        tag.restore(&mut contents);
        into.overlay.insert(FsBlock(target), contents.into_boxed_slice());
        into.replayed += 1;
        if to_u64(into.overlay.len()).saturating_mul(self.place.block_size.into()) > MEMORY_MAX {
            return Err(Error::NeedsRecovery(
                "the journal holds more than 2 GiB of blocks, which is more than recovery in memory takes; mount \
                 the volume once with the kernel to recover it"
                    .into(),
            ));
        }
        Ok(())
    }

    fn matches(&self, tag: &Tag, contents: &[u8], transaction: u32) -> bool {
        if !self.has_block_checksums() {
            return true;
        }
        let sum = crc32c(crc32c(self.seed, &transaction.to_be_bytes()), contents);
        if self.has(Features::CHECKSUM_V3) { sum == tag.checksum } else { sum & 0xffff == tag.checksum }
    }

    /// The blocks behind the log, but for the first, which the kernel leaves free.
    fn fast_commit_area(&self, transaction: u32) -> Option<FastCommitArea> {
        let blocks = u64::from(self.end) + 1..u64::from(self.max_len);
        (self.has(Features::FAST_COMMIT) && !blocks.is_empty())
            .then_some(FastCommitArea { blocks, transaction })
    }
}
