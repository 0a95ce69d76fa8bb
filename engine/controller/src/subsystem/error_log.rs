//! The errors of a controller (Base, section 5.1.12.1.2).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use engine_dma::to_u64;
use engine_nvme_spec::{Cqe, ErrorEntry, Status};
use zerocopy::IntoBytes;

/// Entries that are kept.
pub(super) const ERRORS_KEPT: u8 = 64;

/// A command that failed, or something that went wrong without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorRecord {
    /// Submission queue and command identifier; none where no command is to blame.
    pub command: Option<(u16, u16)>,
    /// Opcode of the command.
    pub opcode: u8,
    /// What was answered.
    pub status: Status,
    /// The byte of the command, and the bit in it, that was wrong; none where the command is not to blame.
    pub location: Option<(u8, u8)>,
    /// First logical block that failed.
    pub lba: u64,
    /// Namespace.
    pub nsid: u32,
}

impl ErrorRecord {
    fn entry(&self, error_count: u64, phase: bool) -> ErrorEntry {
        let (sq_id, cid) = self.command.unwrap_or((u16::MAX, u16::MAX));
        let location =
            self.location.map_or(u16::MAX, |(byte, bit)| u16::from(byte) | u16::from(bit & 7) << 8);
        ErrorEntry {
            error_count: error_count.into(),
            sq_id: sq_id.into(),
            cid: cid.into(),
            status: Cqe::pack(self.status, phase),
            location: location.into(),
            lba: self.lba.into(),
            nsid: self.nsid.into(),
            opcode: if self.command.is_some() { self.opcode } else { 0 },
            version: 1,
            ..ErrorEntry::default()
        }
    }
}

/// The last errors of a controller, newest first, and how many there were in all.
#[derive(Debug, Default)]
pub struct ErrorLog {
    entries: Mutex<VecDeque<ErrorEntry>>,
    count: AtomicU64,
}

impl ErrorLog {
    /// Adds an error and answers its number, from 1 on.
    pub(crate) fn record(&self, record: &ErrorRecord) -> u64 {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let count = self.count.load(Ordering::Relaxed).wrapping_add(1).max(1);
        self.count.store(count, Ordering::Relaxed);
        entries.truncate(usize::from(ERRORS_KEPT) - 1);
        entries.push_front(record.entry(count, false));
        count
    }

    /// How many errors there were since the controller was made.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// The log page: 64 bytes an entry, newest first; entries that are not used are zeros.
    pub(crate) fn page(&self) -> Vec<u8> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let mut page: Vec<u8> = entries.iter().flat_map(IntoBytes::as_bytes).copied().collect();
        page.resize(usize::from(ERRORS_KEPT) * size_of::<ErrorEntry>(), 0);
        debug_assert!(to_u64(entries.len()) <= u64::from(ERRORS_KEPT));
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(cid: u16) -> ErrorRecord {
        ErrorRecord {
            command: Some((3, cid)),
            opcode: 0x02,
            status: Status::LBA_OUT_OF_RANGE.final_(),
            location: Some((40, 0)),
            lba: 0x1122_3344_5566_7788,
            nsid: 9,
        }
    }

    #[test]
    fn entry_has_its_fields_where_figure_206_has_them() {
        let log = ErrorLog::default();
        assert_eq!(log.record(&failed(0x1234)), 1);
        let page = log.page();
        assert_eq!(page.len(), 64 * 64);
        assert_eq!(page[..8], 1_u64.to_le_bytes());
        assert_eq!(page[8..12], [3, 0, 0x34, 0x12]);
        assert_eq!(page[12..14], (0x4080_u16 << 1).to_le_bytes());
        assert_eq!(page[14..16], [40, 0]);
        assert_eq!(page[16..24], 0x1122_3344_5566_7788_u64.to_le_bytes());
        assert_eq!(page[24..28], [9, 0, 0, 0]);
        assert_eq!(page[31], 2);
        assert_eq!(page[63], 1);
        assert!(page[64..].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn error_without_a_command_names_none() {
        let log = ErrorLog::default();
        log.record(&ErrorRecord { command: None, location: None, ..failed(1) });
        let page = log.page();
        assert_eq!(page[8..12], [0xff; 4]);
        assert_eq!(page[14..16], [0xff; 2]);
    }

    #[test]
    fn more_errors_than_are_kept_push_the_oldest_out() {
        let log = ErrorLog::default();
        for cid in 0..200 {
            log.record(&failed(cid));
        }
        assert_eq!(log.count(), 200);
        let page = log.page();
        let counts: Vec<u64> =
            page.chunks_exact(64).map(|entry| u64::from_le_bytes(entry[..8].try_into().unwrap())).collect();
        assert_eq!(counts, (137..=200).rev().collect::<Vec<_>>());
    }
}
