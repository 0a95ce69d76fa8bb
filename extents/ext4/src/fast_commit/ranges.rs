//! Ranges of a file's blocks that fast commits changed.

use std::collections::BTreeMap;

use extents_core::{FileBlock, FsBlock};

use crate::extent_tree::BlockRun;

/// What takes the place of what the extent tree says, by the first block of each range. Ranges do not overlap.
#[derive(Debug, Default, Clone)]
pub(crate) struct RangeChanges {
    ranges: BTreeMap<u64, Range>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    blocks: u64,
    /// Where the range begins on the volume, and whether it is unwritten; `None` for a hole.
    place: Option<(u64, bool)>,
}

impl Range {
    /// What is left of it from `skip` blocks on.
    fn from(self, skip: u64) -> Self {
        let place = self.place.map(|(physical, unwritten)| (physical.saturating_add(skip), unwritten));
        Self { blocks: self.blocks - skip, place }
    }

    fn run(self, first: u64) -> Option<BlockRun> {
        let (physical, unwritten) = self.place?;
        Some(BlockRun {
            logical: FileBlock(first),
            physical: FsBlock(physical),
            blocks: self.blocks,
            unwritten,
        })
    }
}

/// What fast commits say of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ruling {
    /// It lies within this run.
    Mapped(BlockRun),
    /// It is in a hole.
    Hole,
    /// Nothing: the extent tree has its place.
    Unchanged,
}

impl RangeChanges {
    /// Puts a run in the place of whatever was there.
    pub(super) fn map(&mut self, run: BlockRun) {
        self.put(run.logical.0, Range { blocks: run.blocks, place: Some((run.physical.0, run.unwritten)) });
    }

    /// Puts a hole in the place of whatever was there.
    pub(super) fn unmap(&mut self, first: u64, blocks: u64) {
        self.put(first, Range { blocks, place: None });
    }

    /// Both numbers come from 32 bits, so their sum is far from the end of 64.
    fn put(&mut self, first: u64, range: Range) {
        if range.blocks == 0 {
            return;
        }
        let end = first + range.blocks;
        // The one before may reach into the new range, and even past it.
        if let Some((&start, &old)) = self.ranges.range(..first).next_back()
            && start + old.blocks > first
        {
            self.ranges.insert(start, Range { blocks: first - start, ..old });
            if start + old.blocks > end {
                self.ranges.insert(end, old.from(end - start));
            }
        }
        while let Some((&start, &old)) = self.ranges.range(first..end).next() {
            self.ranges.remove(&start);
            if start + old.blocks > end {
                self.ranges.insert(end, old.from(end - start));
            }
        }
        self.ranges.insert(first, range);
    }

    /// What is said of a block.
    pub(crate) fn rule(&self, block: FileBlock) -> Ruling {
        match self.ranges.range(..=block.0).next_back() {
            Some((&first, range)) if block.0 - first < range.blocks => {
                range.run(first).map_or(Ruling::Hole, Ruling::Mapped)
            }
            _ => Ruling::Unchanged,
        }
    }

    /// The runs of the file, from those that its extent tree gives in order.
    pub(crate) fn apply(&self, tree: &[BlockRun]) -> Vec<BlockRun> {
        let mut runs = Vec::with_capacity(tree.len() + self.ranges.len());
        for run in tree {
            self.leave(*run, &mut runs);
        }
        runs.extend(self.ranges.iter().filter_map(|(&first, range)| range.run(first)));
        runs.sort_by_key(|run| run.logical.0);
        runs
    }

    /// Adds what is left of a run of the tree beside the ranges.
    fn leave(&self, run: BlockRun, into: &mut Vec<BlockRun>) {
        let end = run.logical.0 + run.blocks;
        let mut at = run.logical.0;
        let mut keep = |from: u64, to: u64| {
            if from < to {
                let skip = from - run.logical.0;
                into.push(BlockRun {
                    logical: FileBlock(from),
                    physical: FsBlock(run.physical.0.saturating_add(skip)),
                    blocks: to - from,
                    unwritten: run.unwritten,
                });
            }
        };
        let before = self.ranges.range(..at).next_back();
        if let Some((first, range)) = before {
            at = at.max(first + range.blocks);
        }
        for (&first, range) in self.ranges.range(run.logical.0..end) {
            keep(at, first);
            at = at.max(first + range.blocks);
        }
        keep(at, end);
    }
}
