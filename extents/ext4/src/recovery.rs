//! Finds the journal and has it recovered in memory.

use extents_core::{BlockRead, Error, FileSystem, FileType, FsBlock, Ino, Overlay, Result, to_usize};
use extents_jbd2::{FastCommitArea, Journal, Place};

use crate::extent_tree::BlockRun;
use crate::fast_commit::{Before, FastCommits, Source};
use crate::features::{Compat, Incompat};
use crate::superblock::{RawSuperblock, SUPERBLOCK_AT, SUPERBLOCK_SIZE, join};
use crate::volume::{Ext4, OpenOptions};

/// What became of a volume's journal.
pub(crate) struct Outcome {
    /// The blocks that a recovery would have written.
    pub(crate) overlay: Option<Overlay>,
    /// Where fast commits may follow.
    pub(crate) fast_commits: Option<FastCommitArea>,
    /// One sentence for a person.
    pub(crate) report: String,
}

impl Outcome {
    fn nothing(report: &str) -> Self {
        Self { overlay: None, fast_commits: None, report: report.to_owned() }
    }
}

/// Recovers the journal of a volume, if it has one that needs it.
pub(crate) fn recover(volume: &Ext4, raw: &RawSuperblock, options: &OpenOptions) -> Result<Outcome> {
    let features = volume.geometry.features;
    if !features.compat.contains(Compat::HAS_JOURNAL) {
        return Ok(Outcome::nothing("The volume keeps no journal."));
    }
    if !features.has(Incompat::RECOVER) {
        return Ok(Outcome::nothing("The journal is clean."));
    }
    if options.norecovery {
        return Ok(Outcome::nothing(
            "The journal needs recovery, which was not done: the volume is shown as it lies on the device.",
        ));
    }
    let place = JournalPlace::find(volume, raw, options)?;
    let read = |block: u64, buf: &mut [u8]| place.read(volume, block, buf);
    let journal = Journal::open(Place {
        block_size: volume.geometry.block_size,
        blocks: place.blocks,
        superblock: place.superblock,
        read: &read,
    })?;
    let found = journal.recover(volume.geometry.blocks)?;
    let report = format!(
        "The journal was recovered in memory: {} transactions with {} blocks, of which {} had been revoked.",
        found.transactions, found.replayed, found.revoked
    );
    Ok(Outcome { overlay: Some(found.overlay), fast_commits: found.fast_commits, report })
}

/// Applies the fast commits of a volume over which the blocks of its recovery already lie. Answers also how many
/// changes they held.
pub(crate) fn fast_commits(
    volume: &Ext4,
    raw: &RawSuperblock,
    options: &OpenOptions,
    area: FastCommitArea,
) -> Result<(FastCommits, usize)> {
    let place = JournalPlace::find(volume, raw, options)?;
    let source = Source {
        blocks: area.blocks,
        transaction: area.transaction,
        block_size: volume.geometry.block_len(),
        inode_size: to_usize(u64::from(volume.geometry.inode_size)),
        read: &|block, buf| place.read(volume, block, buf),
    };
    let before =
        Before { inode: &|ino| volume.inode_bytes(ino), lookup: &|dir, name| volume.lookup(dir, name) };
    FastCommits::replay(&source, &before)
}

/// Where the journal's blocks lie.
struct JournalPlace<'a> {
    blocks: u64,
    superblock: u64,
    kind: Kind<'a>,
}

enum Kind<'a> {
    /// In a file of the volume.
    Inode(Ino, Vec<BlockRun>),
    /// On a device of its own.
    Device(&'a dyn BlockRead),
}

impl<'a> JournalPlace<'a> {
    fn find(volume: &Ext4, raw: &RawSuperblock, options: &'a OpenOptions) -> Result<Self> {
        match raw.journal_inum.get() {
            0 => Self::on_device(volume, raw, options),
            inum => Self::in_inode(volume, Ino(u64::from(inum))),
        }
    }

    fn in_inode(volume: &Ext4, ino: Ino) -> Result<Self> {
        let inode = volume.any_inode(ino)?;
        if inode.file_type() != Some(FileType::Regular) || inode.raw()?.links.get() == 0 {
            return Err(Error::corrupt("journal", "its inode is not a file in use").in_inode(ino));
        }
        let blocks = inode.length >> volume.geometry.block_bits;
        let mut runs: Vec<BlockRun> = Vec::new();
        volume.walk_runs(&inode, blocks, &mut |run| {
            runs.push(run);
            Ok(())
        })?;
        Ok(Self { blocks, superblock: 0, kind: Kind::Inode(ino, runs) })
    }

    /// A device of its own begins with a superblock that names the journal.
    fn on_device(volume: &Ext4, raw: &RawSuperblock, options: &'a OpenOptions) -> Result<Self> {
        let Some(device) = &options.journal_device else {
            return Err(Error::NeedsRecovery(
                "the volume's journal needs recovery and lies on another device: name that device, mount with \
                 norecovery to see the volume without it, or let the kernel mount it once"
                    .into(),
            ));
        };
        let mut bytes = [0; SUPERBLOCK_SIZE];
        device.read_at(SUPERBLOCK_AT, &mut bytes)?;
        let journal_raw = RawSuperblock::read(&bytes)
            .filter(|found| found.feature_incompat.get() & Incompat::JOURNAL_DEV.bits() != 0)
            .ok_or_else(|| Error::NeedsRecovery("the device named as journal holds none".into()))?;
        if journal_raw.uuid != raw.journal_uuid {
            return Err(Error::NeedsRecovery(
                "the device named as journal holds the journal of another volume: their UUIDs differ".into(),
            ));
        }
        let block_size = u64::from(volume.geometry.block_size);
        let blocks = join(journal_raw.blocks_count_lo, journal_raw.blocks_count_hi);
        Ok(Self {
            blocks: blocks.min(device.size() / block_size),
            superblock: SUPERBLOCK_AT / block_size + 1,
            kind: Kind::Device(&**device),
        })
    }

    fn read(&self, volume: &Ext4, block: u64, buf: &mut [u8]) -> Result<()> {
        match &self.kind {
            Kind::Inode(ino, runs) => {
                let after = runs.partition_point(|run| run.logical.0 <= block);
                let run = after.checked_sub(1).and_then(|at| runs.get(at));
                let at = run
                    .filter(|run| block - run.logical.0 < run.blocks)
                    .and_then(|run| run.physical.0.checked_add(block - run.logical.0))
                    .and_then(|physical| volume.geometry.byte_of(FsBlock(physical)))
                    .ok_or_else(|| {
                        Error::corrupt("journal", format!("its block {block} has no place on the volume"))
                            .in_inode(*ino)
                    })?;
                volume.media.read(at, buf)
            }
            Kind::Device(device) => {
                let at = FsBlock(block).to_bytes(volume.geometry.block_size);
                let at = at.ok_or_else(|| Error::corrupt("journal", "a block lies past its end"))?;
                Ok(device.read_at(at, buf)?)
            }
        }
    }
}
