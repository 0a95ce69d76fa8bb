//! Writing files with a queue pair, from a thread of this process.

use std::time::Duration;

use crate::prp;
use crate::queue::{Command, Operation, QueuePair};
use crate::session::{Buffer, Session};
use crate::{ClientError, NvmeStatus, OpenFile};

/// Entries of a writer's queue.
const ENTRIES: u32 = 64;
/// How long a write may take: one into the page cache waits where the kernel has too much to write back.
const WRITE_PATIENCE: Duration = Duration::from_secs(120);
/// How long a flush may take: as long as fsync(2) of a busy disk.
const FLUSH_PATIENCE: Duration = Duration::from_secs(600);

/// A queue pair and registered memory, for one thread that writes. What a write wrote is seen by everybody when it
/// returns; it is durable after [`flush`](Self::flush).
#[derive(Debug)]
pub struct Writer {
    pair: QueuePair,
    memory: Buffer,
    /// How many pieces the memory holds.
    places: usize,
    /// Most bytes of one command.
    piece: usize,
    /// A command was not answered: it may still read the memory, and nobody knows when.
    lost: bool,
}

impl Writer {
    pub(crate) fn new(session: &Session, staging: usize, by_prp: bool) -> Result<Self, ClientError> {
        let limits = session.limits();
        let transfer = usize::try_from(limits.transfer).unwrap_or(usize::MAX);
        let page = usize::try_from(limits.page).unwrap_or(4096).max(1);
        let most = if by_prp { transfer.min(prp::LONGEST) } else { transfer };
        let piece = (staging / 4).next_multiple_of(page).clamp(page, most.max(page));
        let length = staging.max(piece).next_multiple_of(page);
        let (memory, naming) = prp::memory(session, length, by_prp)?;
        let mut queues = session.queues(1, ENTRIES.min(limits.entries))?;
        let mut pair = queues.pair(0).ok_or_else(|| ClientError::Protocol("it gave no queue".into()))?;
        pair.name_by(naming);
        Ok(Self { pair, memory, places: (length / piece).clamp(1, 16), piece, lost: false })
    }

    /// Writes `bytes` from byte `offset` of a file on. Both begin at a block, and `bytes` ends at one or at the file's end:
    /// what queues write are blocks, and a file keeps the size that it had when it was opened.
    ///
    /// # Errors
    /// Where the range is none of whole blocks of the file, or a command failed or was not answered.
    pub fn write(&mut self, file: &OpenFile, offset: u64, bytes: &[u8]) -> Result<(), ClientError> {
        self.check(file)?;
        let block = u64::from(file.block_size());
        let end = offset.checked_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        let whole = end.is_some_and(|end| {
            offset.is_multiple_of(block)
                && end <= file.size()
                && (end.is_multiple_of(block) || end == file.size())
        });
        if !whole {
            return Err(ClientError::Invalid(format!(
                "{} bytes at byte {offset} are no whole blocks of {block} bytes of a file of {} bytes; write the rest by \
                 other means",
                bytes.len(),
                file.size()
            )));
        }
        let (places, piece) = (self.places, self.piece);
        let mut at = offset;
        let mut pieces = bytes.chunks(piece).map(|part| {
            let start = at;
            at += u64::try_from(part.len()).unwrap_or(0);
            (start, part)
        });
        let mut failed = None;
        while failed.is_none() {
            // As many as there is memory for, then all of their answers.
            let mut ranges = Vec::with_capacity(places);
            for place in 0..places {
                let Some((at, part)) = pieces.next() else { break };
                self.stage(file, place, at, part)?;
                ranges.push((at, part.len()));
            }
            if ranges.is_empty() {
                break;
            }
            failed = self.finish(&ranges, WRITE_PATIENCE)?;
        }
        failed.map_or(Ok(()), Err)
    }

    /// Makes durable what was written to a file.
    ///
    /// # Errors
    /// Where the command failed or was not answered.
    pub fn flush(&mut self, file: &OpenFile) -> Result<(), ClientError> {
        self.check(file)?;
        let command = Command { nsid: file.nsid(), block: 0, blocks: 1, iova: 0, length: 0 };
        self.pair.submit(Operation::Flush, command).ok_or_else(no_room)?;
        self.finish(&[(0, 0)], FLUSH_PATIENCE)?.map_or(Ok(()), Err)
    }

    fn check(&self, file: &OpenFile) -> Result<(), ClientError> {
        self.pair.check_owner()?;
        if self.lost {
            return Err(ClientError::Invalid(
                "a command of this writer was never answered; make another one".into(),
            ));
        }
        if !self.pair.is_of_session_of(file) {
            return Err(ClientError::Invalid("the file belongs to another session".into()));
        }
        if !file.is_writable() {
            return Err(ClientError::Invalid(
                "the file was opened for reading; open it with open_to_write".into(),
            ));
        }
        Ok(())
    }

    fn stage(&mut self, file: &OpenFile, place: usize, at: u64, part: &[u8]) -> Result<(), ClientError> {
        let start = place * self.piece;
        self.memory.memory().write(start, part);
        let length = u64::try_from(part.len()).unwrap_or(0);
        let blocks = u32::try_from(length.div_ceil(file.block_size().into())).unwrap_or(0);
        // The last block is written whole; what it has behind the file's end is not kept.
        let whole = u64::from(blocks) << file.block_shift();
        let command = Command {
            nsid: file.nsid(),
            block: at >> file.block_shift(),
            blocks,
            iova: self.memory.iova() + u64::try_from(start).unwrap_or(0),
            length: u32::try_from(whole).unwrap_or(0),
        };
        self.pair.submit(Operation::Write, command).map(drop).ok_or_else(no_room)
    }

    /// Waits for all of these; the failure of one of them, if one failed.
    fn finish(
        &mut self,
        ranges: &[(u64, usize)],
        patience: Duration,
    ) -> Result<Option<ClientError>, ClientError> {
        let mut failed = None;
        let answered = self.pair.ring().and_then(|()| {
            for (offset, length) in ranges {
                let done = self.pair.wait_for(patience)?;
                if done.status != NvmeStatus::SUCCESS {
                    // Answers come in any order, so the range is that of all.
                    let (offset, length) = (*offset, u64::try_from(*length).unwrap_or(0));
                    failed = Some(ClientError::WriteCommand { offset, length, status: done.status });
                }
            }
            Ok(())
        });
        self.lost = answered.is_err();
        answered.map(|()| failed)
    }
}

fn no_room() -> ClientError {
    ClientError::Protocol("its queue has no room for what was announced".into())
}
