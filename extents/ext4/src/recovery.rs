//! Finds the journal and has it recovered in memory.

use extents_core::{Error, FileType, FsBlock, Ino, Overlay, Result};
use extents_jbd2::{Journal, Place, Recovered};

use crate::extent_tree::BlockRun;
use crate::features::{Compat, Incompat};
use crate::superblock::{RawSuperblock, SUPERBLOCK_AT, SUPERBLOCK_SIZE, join};
use crate::volume::{Ext4, OpenOptions};

/// What became of a volume's journal.
pub(crate) struct Outcome {
    /// The blocks that a recovery would have written.
    pub(crate) overlay: Option<Overlay>,
    /// One sentence for a person.
    pub(crate) report: String,
}

impl Outcome {
    fn nothing(report: &str) -> Self {
        Self { overlay: None, report: report.to_owned() }
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
    let inum = raw.journal_inum.get();
    if inum != 0 { from_inode(volume, Ino(u64::from(inum))) } else { from_device(volume, raw, options) }
}

/// Recovers a journal that is a file of the volume.
fn from_inode(volume: &Ext4, ino: Ino) -> Result<Outcome> {
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
    let read = |block: u64, buf: &mut [u8]| {
        let after = runs.partition_point(|run| run.logical.0 <= block);
        let run = after.checked_sub(1).and_then(|at| runs.get(at));
        let place = run.filter(|run| block - run.logical.0 < run.blocks);
        let at = place
            .and_then(|run| run.physical.0.checked_add(block - run.logical.0))
            .and_then(|physical| volume.geometry.byte_of(FsBlock(physical)))
            .ok_or_else(|| {
                Error::corrupt("journal", format!("its block {block} has no place on the volume"))
                    .in_inode(ino)
            })?;
        volume.media.read(at, buf)
    };
    let block_size = volume.geometry.block_size;
    let journal = Journal::open(Place { block_size, blocks, superblock: 0, read: &read })?;
    finish(journal.recover(volume.geometry.blocks)?)
}

/// Recovers a journal that lies on a device of its own, which begins with a superblock that names it.
fn from_device(volume: &Ext4, raw: &RawSuperblock, options: &OpenOptions) -> Result<Outcome> {
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
    let block_size = volume.geometry.block_size;
    let read = |block: u64, buf: &mut [u8]| {
        let at = FsBlock(block).to_bytes(block_size);
        let at = at.ok_or_else(|| Error::corrupt("journal", "a block lies past its end"))?;
        Ok(device.read_at(at, buf)?)
    };
    let blocks = join(journal_raw.blocks_count_lo, journal_raw.blocks_count_hi);
    let superblock = SUPERBLOCK_AT / u64::from(block_size) + 1;
    let blocks = blocks.min(device.size() / u64::from(block_size));
    let journal = Journal::open(Place { block_size, blocks, superblock, read: &read })?;
    finish(journal.recover(volume.geometry.blocks)?)
}

fn finish(found: Recovered) -> Result<Outcome> {
    let report = format!(
        "The journal was recovered in memory: {} transactions with {} blocks, of which {} had been revoked.",
        found.transactions, found.replayed, found.revoked
    );
    Ok(Outcome { overlay: Some(found.overlay), report })
}
