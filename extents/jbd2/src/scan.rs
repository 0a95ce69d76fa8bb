//! The first pass: where the log ends.

use extents_core::{Error, Result, to_u64, to_usize};
use zerocopy::FromBytes;

use crate::checksum::{crc32_be, crc32c};
use crate::header::{BlockType, COMMIT_CHECKSUM_AT, CommitHeader, Header};
use crate::tags::{TAIL, tags};
use crate::{Features, Journal};

/// A descriptor or revoke block of a transaction that was found in the log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    /// Its place in the journal.
    pub(crate) block: u32,
    pub(crate) transaction: u32,
    /// Revokes blocks; otherwise describes them.
    pub(crate) revokes: bool,
}

/// What the log holds.
#[derive(Debug)]
pub(crate) struct Scan {
    /// Descriptor and revoke blocks of complete transactions, in the order of the log.
    pub(crate) found: Vec<Found>,
    /// The first transaction that is not complete (`end_transaction` of the kernel).
    pub(crate) end: u32,
}

/// Whether transaction `a` is later than `b`; their numbers go round (`tid_gt`).
pub(crate) fn follows(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() > 0
}

/// A place in the log that moves forward, and round at its end, but never more than once past every block: a
/// log that would is a circle, which the kernel would walk for ever.
struct Walk<'j> {
    journal: &'j Journal<'j>,
    next: u32,
    left: u32,
}

impl Walk<'_> {
    /// Steps over a block and answers its number.
    fn step(&mut self) -> Result<u32> {
        let at = self.next;
        self.left =
            self.left.checked_sub(1).ok_or_else(|| Error::corrupt("journal", "the log runs in a circle"))?;
        self.next = self.journal.after(at);
        Ok(at)
    }
}

impl Journal<'_> {
    /// The block of the log that follows `block`.
    pub(crate) fn after(&self, block: u32) -> u32 {
        if block + 1 >= self.end { self.first } else { block + 1 }
    }

    pub(crate) fn read(&self, block: u32, buf: &mut [u8]) -> Result<()> {
        (self.place.read)(block.into(), buf)
    }

    pub(crate) fn buffer(&self) -> Vec<u8> {
        vec![0; to_usize(self.place.block_size.into())]
    }

    /// Whether the checksum at the end of a descriptor or revoke block is right, where it has one.
    pub(crate) fn tail_is_sound(&self, block: &[u8]) -> bool {
        if !self.has_block_checksums() {
            return true;
        }
        let Some((body, stored)) = block.split_last_chunk::<TAIL>() else { return false };
        crc32c(crc32c(self.seed, body), &[0; TAIL]) == u32::from_be_bytes(*stored)
    }

    /// Whether the checksum in a commit block is right, where it has one. As the kernel does since 6.8, a block
    /// of which only the header arrived counts too: the rest of it says nothing.
    fn commit_is_sound(&self, block: &[u8], commit: &CommitHeader) -> bool {
        if !self.has_block_checksums() {
            return true;
        }
        let Some((head, rest)) = block.split_at_checked(size_of::<CommitHeader>()) else { return false };
        let Some((before, after)) = head.split_at_checked(COMMIT_CHECKSUM_AT) else { return false };
        let cleared = crc32c(crc32c(self.seed, before), &[0; 4]);
        let header = crc32c(cleared, after.get(4..).unwrap_or_default());
        let stored = commit.checksum[0].get();
        crc32c(header, rest) == stored || crc32c(header, &vec![0; rest.len()]) == stored
    }

    /// Walks the log from `start` on to its end (`do_one_pass` with `PASS_SCAN`).
    pub(crate) fn scan(&self, start: u32) -> Result<Scan> {
        let mut walk = Walk { journal: self, next: start, left: self.end - self.first };
        let mut block = self.buffer();
        let mut data = self.buffer();
        let mut found = Vec::new();
        let mut transaction = self.sequence;
        // The first transaction whose commit is bad; with asynchronous commits the walk goes on behind it.
        let mut end = None;
        let mut sum = !0_u32;
        let mut last_commit_time = 0_u64;
        // A bad checksum inside a transaction: an old block where its commit is older than the last one.
        let mut suspect = false;
        while walk.left > 0 {
            let at = walk.step()?;
            self.read(at, &mut block)?;
            let Some((block_type, sequence)) = Header::of(&block) else { break };
            if sequence != transaction {
                break;
            }
            match block_type {
                BlockType::Descriptor => {
                    suspect |= !self.tail_is_sound(&block);
                    let summed = self.has(Features::CHECKSUM) && !suspect && end.is_none();
                    if summed {
                        sum = crc32_be(sum, &block);
                    }
                    for _ in tags(self, &block) {
                        let at = walk.step()?;
                        if summed {
                            self.read(at, &mut data)?;
                            sum = crc32_be(sum, &data);
                        }
                    }
                    found.push(Found { block: at, transaction, revokes: false });
                }
                BlockType::Revoke => {
                    suspect |= !self.tail_is_sound(&block);
                    found.push(Found { block: at, transaction, revokes: true });
                }
                BlockType::Commit => {
                    let Ok((commit, _)) = CommitHeader::ref_from_prefix(&block) else { break };
                    let time = commit.seconds.get();
                    if suspect {
                        if time >= last_commit_time {
                            return Err(Error::corrupt(
                                "journal",
                                format!("a block of transaction {transaction} does not match its checksum"),
                            ));
                        }
                        break;
                    }
                    let sound = if self.has(Features::CHECKSUM) {
                        if end.is_some() {
                            break;
                        }
                        matches_sum(commit, sum)
                    } else {
                        self.commit_is_sound(&block, commit)
                    };
                    if sound {
                        sum = !0;
                    } else {
                        if time < last_commit_time {
                            break;
                        }
                        end = Some(transaction);
                        if !self.has(Features::ASYNC_COMMIT) {
                            break;
                        }
                    }
                    last_commit_time = time;
                    transaction = transaction.wrapping_add(1);
                }
            }
        }
        let end = end.unwrap_or(transaction);
        found.retain(|entry| follows(end, entry.transaction));
        tracing::debug!(first = self.sequence, end, blocks = to_u64(found.len()), "scanned the journal");
        Ok(Scan { found, end })
    }
}

/// Whether a version 1 commit block holds the sum of its transaction, or says that it holds none.
fn matches_sum(commit: &CommitHeader, sum: u32) -> bool {
    /// `JBD2_CRC32_CHKSUM` and its size.
    const CRC32: (u8, u8) = (1, 4);
    let stored = commit.checksum[0].get();
    match (commit.checksum_type, commit.checksum_size) {
        CRC32 => stored == sum,
        (0, 0) => stored == 0,
        _ => false,
    }
}
