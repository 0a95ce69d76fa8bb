use extents_core::{FileBlock, FsBlock};

use super::*;
use crate::extent_tree::BlockRun;

fn run(logical: u64, physical: u64, blocks: u64, unwritten: bool) -> BlockRun {
    BlockRun { logical: FileBlock(logical), physical: FsBlock(physical), blocks, unwritten }
}

/// Where each block of a small file lies, by asking runs one by one.
fn places(runs: &[BlockRun]) -> Vec<Option<(u64, bool)>> {
    (0..64)
        .map(|block| {
            let run = runs.iter().find(|run| (run.logical.0..run.logical.0 + run.blocks).contains(&block))?;
            Some((run.physical.0 + block - run.logical.0, run.unwritten))
        })
        .collect()
}

#[test]
fn ranges_that_overlap_in_every_way_equal_a_plain_array() {
    let tree = [run(0, 1000, 20, false), run(25, 2000, 10, true), run(40, 3000, 20, false)];
    let mut random = 7_u64;
    let mut next = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    for _ in 0..500 {
        let mut expected = places(&tree);
        let mut changes = RangeChanges::default();
        for step in 0..next(12) {
            let (first, blocks) = (next(56), next(8));
            let physical = 10_000 * (step + 1);
            let unwritten = next(2) == 0;
            let hole = next(3) == 0;
            for block in first..first + blocks {
                expected[usize::try_from(block).unwrap()] =
                    (!hole).then_some((physical + block - first, unwritten));
            }
            if hole {
                changes.unmap(first, blocks);
            } else {
                changes.map(run(first, physical, blocks, unwritten));
            }
        }
        let runs = changes.apply(&tree);
        assert!(runs.is_sorted_by(|a, b| a.logical.0 + a.blocks <= b.logical.0), "{runs:?}");
        assert_eq!(places(&runs), expected, "{changes:?}");
        for (block, expected) in expected.iter().enumerate() {
            let block = FileBlock(block.try_into().unwrap());
            match changes.rule(block) {
                Ruling::Mapped(run) => {
                    assert_eq!(Some((run.physical.0 + block.0 - run.logical.0, run.unwritten)), *expected);
                }
                Ruling::Hole => assert_eq!(None, *expected),
                Ruling::Unchanged => {
                    assert_eq!(places(&tree)[usize::try_from(block.0).unwrap()], *expected);
                }
            }
        }
    }
}

#[test]
fn scan_of_arbitrary_bytes_answers_quickly() {
    let mut random = 1_u32;
    for round in 0..200_u32 {
        let block: Vec<u8> = (0..1024)
            .map(|place| {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // The first bytes say that a commit begins here.
                match place {
                    0 => 9,
                    1 | 3 => 0,
                    2 => 8,
                    _ if round.is_multiple_of(2) => random.to_le_bytes()[3] & 0xf,
                    _ => random.to_le_bytes()[3],
                }
            })
            .collect();
        let source = Source {
            blocks: 0..16,
            transaction: 0,
            block_size: 1024,
            inode_size: 256,
            read: &|_, buf| {
                buf.copy_from_slice(&block);
                Ok(())
            },
        };
        assert!(scan(&source).is_ok_and(|changes| changes.is_empty()) || scan(&source).is_err());
    }
}
