//! The notes as they lie in the journal: a row of tags, each with a length and a value.

use std::ops::Range;

use extents_core::{Error, Ino, Result, to_u64};
use zerocopy::FromBytes;
use zerocopy::little_endian::{U16, U32};

use crate::checksum::Crc;
use crate::extent_tree::{BlockRun, Leaf};
use crate::layout::view;

const ADD_RANGE: u16 = 1;
const DEL_RANGE: u16 = 2;
const CREATE: u16 = 3;
const LINK: u16 = 4;
const UNLINK: u16 = 5;
const INODE: u16 = 6;
const PAD: u16 = 7;
const TAIL: u16 = 8;
const HEAD: u16 = 9;

/// `EXT4_FC_TAG_BASE_LEN`: tag and length, before each value.
const BASE: usize = 4;
const NAME_MAX: usize = 255;
const SMALLEST_INODE: usize = 128;
/// Most bytes of blocks to look at. mke2fs sets 256 blocks aside.
const AREA_MAX: u64 = 64 << 20;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// The file has these blocks there.
    AddRange(Ino, BlockRun),
    /// The file has no blocks there.
    DelRange {
        ino: Ino,
        first: u64,
        blocks: u64,
    },
    /// The inode, whose own change came before, was new and got its first name.
    Create(Name),
    Link(Name),
    Unlink(Name),
    /// The inode has these bytes, but for `i_block`.
    Inode(Ino, Vec<u8>),
}

/// A name in a directory, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) parent: Ino,
    pub(crate) ino: Ino,
    pub(crate) name: Vec<u8>,
}

/// Where fast commits are read from.
pub(crate) struct Source<'a> {
    /// Blocks of the journal.
    pub(crate) blocks: Range<u64>,
    /// The transaction that they must belong to.
    pub(crate) transaction: u32,
    pub(crate) block_size: usize,
    /// Size of the volume's inodes.
    pub(crate) inode_size: usize,
    /// Reads a block of the journal.
    pub(crate) read: &'a dyn Fn(u64, &mut [u8]) -> Result<()>,
}

/// The changes up to the last sound tail (`ext4_fc_replay_scan` of the kernel, in its first pass).
///
/// Where already the first commit is torn there is none, and the volume is that of the last transaction. The
/// kernel refuses to mount then; but nobody was told that this commit is on the volume, and e2fsck leaves it out
/// as well.
pub(crate) fn scan(source: &Source<'_>) -> Result<Vec<Change>> {
    let mut scan = Scan { source, sum: Crc::from_seed(0), sound: 0, changes: Vec::new() };
    let mut block = vec![0; source.block_size];
    for (number, place) in source.blocks.clone().enumerate() {
        if to_u64(number).saturating_mul(to_u64(source.block_size)) >= AREA_MAX {
            return Err(Error::NeedsRecovery(
                "the journal holds more than 64 MiB of fast commits, which is more than recovery in memory takes; \
                 mount the volume once with the kernel to recover it"
                    .into(),
            ));
        }
        (source.read)(place, &mut block)?;
        let begins = view::<U16>(&block, 0).is_some_and(|tag| tag.get() == HEAD);
        if (number == 0 && !begins) || !scan.block(&block)? {
            break;
        }
    }
    scan.changes.truncate(scan.sound);
    Ok(scan.changes)
}

struct Scan<'a> {
    source: &'a Source<'a>,
    /// Checksum of the tags since the last tail.
    sum: Crc,
    /// How many changes stand before the last sound tail.
    sound: usize,
    changes: Vec<Change>,
}

impl Scan<'_> {
    /// Takes the tags of a block; `false` where the commits end within it.
    fn block(&mut self, block: &[u8]) -> Result<bool> {
        let mut rest = block;
        while let Some((base, behind)) = rest.split_at_checked(BASE) {
            let (Some(tag), Some(length)) = (view::<U16>(base, 0), view::<U16>(base, 2)) else { break };
            let Some((value, after)) = behind.split_at_checked(usize::from(length.get())) else {
                return Ok(false);
            };
            let whole = rest.get(..BASE + value.len()).unwrap_or_default();
            if !self.tag(tag.get(), value, whole)? {
                return Ok(false);
            }
            rest = after;
        }
        Ok(true)
    }

    fn tag(&mut self, tag: u16, value: &[u8], whole: &[u8]) -> Result<bool> {
        match tag {
            HEAD => {
                let Some((features, transaction)) = pair(value).filter(|_| value.len() == 8) else {
                    return Ok(false);
                };
                if features != 0 {
                    return Err(Error::unsupported(format!(
                        "the journal's fast commits use features {features:#x}, which this reader does not know"
                    )));
                }
                if transaction != self.source.transaction {
                    return Ok(false);
                }
                self.sum = self.sum.over(whole);
            }
            TAIL => {
                let Some((transaction, checksum)) = pair(value) else { return Ok(false) };
                let sum = self.sum.over(whole.get(..BASE + 4).unwrap_or_default());
                if transaction != self.source.transaction || checksum != sum.value() {
                    return Ok(false);
                }
                self.sum = Crc::from_seed(0);
                self.sound = self.changes.len();
            }
            PAD => self.sum = self.sum.over(whole),
            _ => {
                let Some(change) = self.change(tag, value) else { return Ok(false) };
                self.changes.push(change);
                self.sum = self.sum.over(whole);
            }
        }
        Ok(true)
    }

    /// The change of a tag; `None` for one of an impossible length, or of an unknown kind.
    fn change(&self, tag: u16, value: &[u8]) -> Option<Change> {
        Some(match tag {
            ADD_RANGE => {
                let (ino, extent) = word_and_rest(value)?;
                Change::AddRange(ino, Leaf::ref_from_bytes(extent).ok()?.run())
            }
            DEL_RANGE => {
                let (ino, range) = word_and_rest(value)?;
                let (first, blocks) = pair(range).filter(|_| range.len() == 8)?;
                Change::DelRange { ino, first: first.into(), blocks: blocks.into() }
            }
            CREATE => Change::Create(name(value)?),
            LINK => Change::Link(name(value)?),
            UNLINK => Change::Unlink(name(value)?),
            INODE => {
                let (ino, raw) = word_and_rest(value)?;
                let possible = (SMALLEST_INODE..=self.source.inode_size).contains(&raw.len());
                possible.then(|| Change::Inode(ino, raw.to_vec()))?
            }
            _ => return None,
        })
    }
}

fn pair(value: &[u8]) -> Option<(u32, u32)> {
    Some((view::<U32>(value, 0)?.get(), view::<U32>(value, 4)?.get()))
}

fn word_and_rest(value: &[u8]) -> Option<(Ino, &[u8])> {
    let (ino, rest) = U32::ref_from_prefix(value).ok()?;
    Some((Ino(ino.get().into()), rest))
}

fn name(value: &[u8]) -> Option<Name> {
    let (parent, rest) = word_and_rest(value)?;
    let (ino, name) = word_and_rest(rest)?;
    (1..=NAME_MAX).contains(&name.len()).then(|| Name { parent, ino, name: name.to_vec() })
}
