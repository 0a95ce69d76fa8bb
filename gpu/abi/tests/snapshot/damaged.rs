//! Arenas that somebody hostile made.

use homi_abi::snapshot::{PathHash, View, ViewError};
use proptest::prelude::*;

use crate::assemble::{assemble, place};
use crate::{file, files};

fn arena() -> Vec<u8> {
    assemble(files(PathHash::of), 9)
}

/// Everything that a view offers, on whatever it let pass.
fn walk(view: &View<'_>) {
    let _ = (view.root_path(), view.header(), view.as_bytes());
    for (place, file) in view.files().iter().enumerate() {
        let path = view.path(file);
        assert!(!path.is_empty());
        assert_eq!(view.find(file.hash.get(), path), Some(place));
        for extent in view.extents(file) {
            assert_eq!(view.extent_at(file, extent.logical.get()), Some(extent));
        }
        if view.blocks(file) > 0 {
            assert_eq!(view.at_block(file.first_block.get()), Some((place, 0)));
        }
    }
    let _ = (view.lookup(b"d1/file-1"), view.at_block(0), view.at_block(u64::MAX));
}

fn patched(at: usize, bytes: &[u8]) -> Result<(), ViewError> {
    let mut arena = arena();
    arena[at..at + bytes.len()].copy_from_slice(bytes);
    View::new(&arena).map(drop)
}

#[test]
fn view_of_damaged_fields_is_refused() {
    let first = 256;
    assert_eq!(patched(0, b"homisnaq"), Err(ViewError::NotASnapshot));
    assert_eq!(patched(8, &[2, 0]), Err(ViewError::Version(2)));
    for (at, value) in [
        (10, 255),
        (20, 4095),
        (24, u64::MAX),
        (place::FILES, 301),
        (place::FILES, u64::MAX / 64 + 1),
        (place::FILES_AT, 255),
        (place::FILES_AT, u64::MAX - 127),
        (place::INDEX_BITS, 1 << 32),
        (place::INDEX_BITS, 32 | 1 << 32),
        (place::INDEX_AT, 256),
        (place::EXTENTS, u64::MAX),
        (place::STRINGS, u64::MAX),
        (place::STRINGS_AT, 0),
        (place::BLOCKS, 1),
        (place::ROOT_LENGTH, 0xffff_ffff),
        (first, u64::MAX),
        (first + place::FILE_SIZE, u64::MAX),
        (first + place::FILE_FIRST_EXTENT, u64::MAX),
        (first + place::FILE_PATH_AT, 0),
        (first + place::FILE_PATH_AT, u64::MAX),
    ] {
        let refused = patched(at, &u64::to_le_bytes(value));
        assert!(refused.is_err(), "{value:#x} at {at} was let pass");
        assert!(!refused.unwrap_err().to_string().is_empty());
    }
    assert!(patched(first + place::FILE_FLAGS, &[0x80, 0, 0, 0]).is_err());
}

#[test]
fn view_of_repeated_path_is_refused() {
    let twice = vec![file("a", 1, PathHash::of), file("a", 2, PathHash::of)];
    assert!(matches!(View::new(&assemble(twice, 1)), Err(ViewError::File { place: 1, .. })));
}

#[test]
fn view_of_extents_in_disorder_is_refused() {
    type Change = fn(&mut crate::File);
    let changes: [(&str, Change); 7] = [
        ("overlap", |file| file.extents[1].logical = 0),
        ("empty", |file| file.extents[0].length = 0),
        ("past the end", |file| file.extents[1].length = 8192),
        ("past 2^64", |file| file.extents[1].length = u64::MAX - 4095),
        ("within a block", |file| file.extents[0].physical += 1),
        ("part of a block", |file| file.extents[0].length -= 1),
        ("off the device", |file| file.extents[0].physical = u64::MAX - 8191),
    ];
    for (what, change) in changes {
        let mut damaged = file("a", 100_000, PathHash::of);
        assert!(View::new(&assemble(vec![file("a", 100_000, PathHash::of)], 1)).is_ok());
        change(&mut damaged);
        assert!(matches!(View::new(&assemble(vec![damaged], 1)), Err(ViewError::File { .. })), "{what}");
    }
}

#[test]
fn view_of_each_shorter_arena_is_refused() {
    let arena = arena();
    for length in (0..300).chain((300..arena.len()).step_by(97)).chain([arena.len() - 1]) {
        assert_eq!(View::new(&arena[..length]).map(drop), Err(ViewError::Truncated), "{length} bytes");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn view_of_changed_bytes_never_panics(
        changes in prop::collection::vec((0_usize..256 + 300 * 64 + 2200, any::<u8>()), 1..6),
    ) {
        let mut arena = arena();
        for (at, value) in changes {
            arena[at] = value;
        }
        if let Ok(view) = View::new(&arena) {
            walk(&view);
        }
    }

    #[test]
    fn view_of_changed_words_never_panics(
        at in prop::sample::select((0..(256 + 300 * 64 + 2048 + 6000) / 8).map(|word| word * 8).collect::<Vec<usize>>()),
        value in prop_oneof![
            any::<u64>(),
            0_u64..100_000,
            (0_u64..1000).prop_map(|less| u64::MAX - less),
            (0_u32..64).prop_map(|bit| 1 << bit),
        ],
    ) {
        let mut arena = arena();
        arena[at..at + 8].copy_from_slice(&value.to_le_bytes());
        if let Ok(view) = View::new(&arena) {
            walk(&view);
        }
    }

    #[test]
    fn view_of_any_bytes_never_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        if bytes.len() >= 24 {
            bytes[..24].copy_from_slice(&arena()[..24]);
        }
        prop_assert!(View::new(&bytes).is_err());
    }
}
