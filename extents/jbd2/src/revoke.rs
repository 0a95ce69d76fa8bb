//! Blocks that were freed after the log took them, and must not be put back.

use extents_core::{Error, Result, to_u64};
use rustc_hash::FxHashMap;
use zerocopy::FromBytes;
use zerocopy::byteorder::big_endian::U32;

use crate::header::Header;
use crate::scan::follows;
use crate::tags::TAIL;
use crate::{Features, Journal};

/// For each revoked block the last transaction that revoked it.
#[derive(Debug, Default)]
pub(crate) struct Revoked {
    last: FxHashMap<u64, u32>,
    /// How many records there were.
    pub(crate) records: u64,
}

/// More records than any log can mean: the log's own blocks could not be freed more often.
const RECORDS_MAX: usize = 1 << 26;

impl Revoked {
    /// Takes the records of a revoke block of this transaction (`scan_revoke_records` of the kernel).
    pub(crate) fn add(&mut self, journal: &Journal<'_>, block: &[u8], transaction: u32) -> Result<()> {
        let corrupt = || Error::corrupt("journal revoke block", "more records than fit");
        let tail = if journal.has_block_checksums() { TAIL } else { 0 };
        // `jbd2_journal_revoke_header_t`: the header, then the bytes in use, these among them.
        let start = size_of::<Header>() + size_of::<U32>();
        let count = block.get(size_of::<Header>()..).and_then(|rest| U32::ref_from_prefix(rest).ok());
        let Some((used, _)) = count else { return Err(corrupt()) };
        let end = usize::try_from(used.get())
            .ok()
            .filter(|&used| used <= block.len() - tail)
            .ok_or_else(corrupt)?;
        let record = if journal.has(Features::BIT64) { 8 } else { 4 };
        for record in block.get(start..end).unwrap_or_default().chunks_exact(record) {
            let number = record.iter().fold(0, |number, &byte| (number << 8) | u64::from(byte));
            let last = self.last.entry(number).or_insert(transaction);
            if follows(transaction, *last) {
                *last = transaction;
            }
            self.records += 1;
        }
        if self.last.len() > RECORDS_MAX {
            return Err(Error::NeedsRecovery(
                format!("the journal revokes more than {} blocks, which is more than recovery in memory holds; mount the volume once with the kernel", to_u64(RECORDS_MAX)).into(),
            ));
        }
        Ok(())
    }

    /// Whether what this transaction logged of the block was freed by it or a later one.
    pub(crate) fn covers(&self, block: u64, transaction: u32) -> bool {
        self.last.get(&block).is_some_and(|&last| !follows(transaction, last))
    }
}
