use proptest::prelude::*;

use super::*;

const VOLUME: u64 = 1 << 40;

fn extent(logical: u64, physical: u64, length: u64, flags: ExtentFlags) -> Extent {
    Extent { logical, physical, length, flags }
}

fn build(size: u64, extents: &[Extent]) -> crate::Result<ExtentMap> {
    let mut builder = ExtentMapBuilder::new(size, 1_u32, VOLUME);
    for &extent in extents {
        builder.push(extent)?;
    }
    Ok(builder.finish())
}

#[test]
fn push_neighbours_that_continue_become_one() {
    let none = ExtentFlags::empty();
    let map = build(
        12288,
        &[
            extent(0, 8192, 4096, none),
            extent(4096, 12288, 4096, none),
            extent(8192, 16384, 4096, ExtentFlags::UNWRITTEN),
        ],
    )
    .unwrap();
    assert_eq!(map.len(), 2);
    assert_eq!(map.get(0), Some(extent(0, 8192, 8192, none)));
}

#[test]
fn push_overlap_disorder_emptiness_or_outside_is_corrupt() {
    let none = ExtentFlags::empty();
    let refused: [&[Extent]; 5] = [
        &[extent(0, 0, 8192, none), extent(4096, 65536, 4096, none)],
        &[extent(8192, 0, 4096, none), extent(0, 65536, 4096, none)],
        &[extent(0, 0, 0, none)],
        &[extent(0, VOLUME - 4096, 8192, none)],
        &[extent(u64::MAX - 10, 0, 4096, none)],
    ];
    for extents in refused {
        assert!(build(1 << 20, extents).is_err(), "{extents:?}");
    }
}

#[test]
fn seek_unwritten_counts_as_hole() {
    let map = build(
        40960,
        &[
            extent(4096, 4096, 4096, ExtentFlags::empty()),
            extent(8192, 65536, 4096, ExtentFlags::UNWRITTEN),
            extent(16384, 131_072, 8192, ExtentFlags::empty()),
        ],
    )
    .unwrap();
    assert_eq!(map.next_data(0), Some(4096));
    assert_eq!(map.next_data(5000), Some(5000));
    assert_eq!(map.next_data(8192), Some(16384));
    assert_eq!(map.next_data(24576), None);
    assert_eq!(map.next_hole(0), 0);
    assert_eq!(map.next_hole(4096), 8192);
    assert_eq!(map.next_hole(16384), 24576);
    assert_eq!(map.next_hole(30000), 30000);
}

/// Gaps and lengths in blocks, and a flag: what a reference model can be made of.
fn pieces() -> impl Strategy<Value = Vec<(u64, u64, bool)>> {
    prop::collection::vec((0_u64..4, 1_u64..5, any::<bool>()), 0..40)
}

/// The map, and for each block of the file what a plain table says lies there.
fn model(pieces: &[(u64, u64, bool)]) -> (ExtentMap, Vec<Option<(u64, bool)>>) {
    let (mut table, mut extents, mut physical) = (Vec::new(), Vec::new(), 100);
    for &(gap, length, unwritten) in pieces {
        table.extend((0..gap).map(|_| None));
        let flags = if unwritten { ExtentFlags::UNWRITTEN } else { ExtentFlags::empty() };
        extents.push(extent(to_u64(table.len()) * 4096, physical * 4096, length * 4096, flags));
        table.extend((0..length).map(|block| Some((physical + block, unwritten))));
        physical += length + gap;
    }
    (build(to_u64(table.len()) * 4096, &extents).unwrap(), table)
}

proptest! {
    #[test]
    fn find_any_offset_agrees_with_table(pieces in pieces(), offsets in prop::collection::vec(0_u64..1_000_000, 50)) {
        let (map, table) = model(&pieces);
        for offset in offsets {
            let expected = table.get(crate::to_usize(offset / 4096)).copied().flatten();
            let found = map.find(offset).map(|extent| {
                ((extent.physical + offset - extent.logical) / 4096, extent.flags.contains(ExtentFlags::UNWRITTEN))
            });
            prop_assert_eq!(found, expected, "offset {}", offset);
        }
    }

    #[test]
    fn cursor_any_order_agrees_with_search(pieces in pieces(), offsets in prop::collection::vec(0_u64..400_000, 50)) {
        let (map, _) = model(&pieces);
        let mut cursor = map.cursor();
        for offset in offsets {
            prop_assert_eq!(cursor.run(offset, 10_000), map.cursor().run(offset, 10_000));
            prop_assert_eq!(cursor.run(offset, 10_000).extent, map.find(offset));
        }
    }

    #[test]
    fn runs_any_range_cover_it_without_gap(pieces in pieces(), offset in 0_u64..300_000, length in 0_u64..300_000) {
        let (map, _) = model(&pieces);
        let mut at = offset;
        for run in map.runs(offset, length) {
            prop_assert_eq!(run.offset, at);
            prop_assert!(run.length > 0);
            prop_assert_eq!(run.extent, map.find(run.offset));
            prop_assert_eq!(run.extent, map.find(run.offset + run.length - 1));
            at += run.length;
        }
        prop_assert_eq!(at, offset + length);
    }

    #[test]
    fn seek_any_offset_agrees_with_table(pieces in pieces(), offset in 0_u64..500_000) {
        let (map, table) = model(&pieces);
        let written = |block: u64| matches!(table.get(crate::to_usize(block)), Some(Some((_, false))));
        let size = map.size();
        let byte = |block: u64| (block * 4096).max(offset);
        let blocks = || offset / 4096..to_u64(table.len());
        prop_assert_eq!(map.next_data(offset), blocks().find(|&block| written(block)).map(byte));
        if offset < size {
            prop_assert_eq!(map.next_hole(offset), blocks().find(|&block| !written(block)).map_or(size, byte));
        }
    }
}

#[test]
fn memory_100_000_extents_stays_within_budget() {
    let extents: Vec<_> =
        (0..100_000).map(|i| extent(i * 8192, i * 4096 + 4096, 4096, ExtentFlags::empty())).collect();
    let map = build(1 << 40, &extents).unwrap();
    assert_eq!(map.len(), 100_000);
    assert!(map.memory() <= 3_200_000, "{} bytes", map.memory());
}
