//! Views of arenas: what they find, and that no bytes whatever make them panic.

mod assemble;
mod damaged;

use homi_abi::extents::{INLINE, SHARED, UNWRITTEN};
use homi_abi::snapshot::{PathHash, View};

use crate::assemble::{BLOCK, File, Piece, assemble};

/// A file of some blocks with a hole in the middle, by a hash of the caller's choice.
fn file(path: &str, size: u64, hash: fn(&[u8]) -> u64) -> File {
    let blocks = size.div_ceil(BLOCK);
    let piece = |block: u64, flags| Piece {
        logical: block * BLOCK,
        physical: (100 + block) * 2 * BLOCK,
        length: BLOCK,
        flags,
    };
    let extents = match blocks {
        0 => Vec::new(),
        1 if size < 60 => vec![Piece { logical: 0, physical: 12345, length: size, flags: INLINE }],
        1 => vec![piece(0, 0)],
        blocks => vec![piece(0, SHARED), piece(blocks - 1, UNWRITTEN)],
    };
    File { hash: hash(path.as_bytes()), path: path.as_bytes().to_vec(), size, extents }
}

fn files(hash: fn(&[u8]) -> u64) -> Vec<File> {
    let sizes = [0, 1, 59, 60, 4095, 4096, 4097, 8192, 100_000];
    (0..300_usize).map(|n| file(&format!("d{}/file-{n}", n % 7), sizes[n % sizes.len()], hash)).collect()
}

/// Every file is found, with what it has, and nothing else is.
fn check(hash: fn(&[u8]) -> u64, index_bits: u32) {
    let files = files(hash);
    let mut bytes = assemble(self::files(hash), index_bits);
    // A mapping ends with its page.
    bytes.resize(bytes.len().next_multiple_of(4096), 0);
    let view = View::new(&bytes).unwrap();
    assert_eq!(view.root_path(), b"/data");
    assert_eq!(view.files().len(), files.len());
    let mut blocks = 0;
    for file in &files {
        let place = view.find(file.hash, &file.path).unwrap();
        let found = &view.files()[place];
        assert_eq!((view.path(found), found.size.get()), (&file.path[..], file.size));
        let ours = view.extents(found).iter().map(|e| (e.logical.get(), e.physical.get(), e.length.get()));
        let theirs = file.extents.iter().map(|e| (e.logical, e.physical, e.length));
        assert!(ours.eq(theirs), "{:?}", view.extents(found));
        for offset in [0, 1, 4095, 4096, 50_000, 99_999, 102_399, 102_400, u64::MAX] {
            let expected =
                file.extents.iter().position(|e| (e.logical..e.logical + e.length).contains(&offset));
            let found = view.extent_at(found, offset);
            assert_eq!(
                found.map(|e| e.logical.get()),
                expected.map(|at| file.extents[at].logical),
                "{offset}"
            );
        }
        for within in 0..view.blocks(found) {
            assert_eq!(view.at_block(found.first_block.get() + within), Some((place, within)));
        }
        blocks += view.blocks(found);
        let almost = [&file.path[..file.path.len() - 1], b"~"].concat();
        for absent in [&almost[..], &file.path[1..], b""] {
            assert_eq!(view.find(file.hash, absent), None);
        }
    }
    assert_eq!(view.at_block(blocks), None);
    assert_eq!(view.at_block(u64::MAX), None);
}

#[test]
fn view_finds_each_file_by_its_path() {
    for bits in [1, 4, 9, 14] {
        check(PathHash::of, bits);
    }
    let bytes = assemble(files(PathHash::of), 9);
    let view = View::new(&bytes).unwrap();
    let place = view.lookup(b"d3/file-3").unwrap();
    assert_eq!(view.path(&view.files()[place]), b"d3/file-3");
    assert_eq!(view.lookup(b"/d3/file-3"), None);
}

#[test]
fn view_equal_hashes_are_told_apart_by_path() {
    check(|_| 0, 5);
    check(|_| u64::MAX, 5);
    check(|path| u64::from(path[path.len() - 1] & 3) << 62, 9);
}

#[test]
fn view_without_files_finds_nothing() {
    let bytes = assemble(Vec::new(), 1);
    let view = View::new(&bytes).unwrap();
    assert_eq!((view.files().len(), view.lookup(b"a"), view.at_block(0)), (0, None, None));
}

#[test]
fn hash_of_known_paths_is_what_others_compute() {
    // FNV-1a of "" and "foobar" as its draft has them; the mixing written out a second time.
    assert_eq!(PathHash::BASIS, 0xcbf2_9ce4_8422_2325);
    let mixed = |mut hash: u64| {
        hash ^= hash >> 33;
        hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash ^= hash >> 33;
        hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        hash ^ hash >> 33
    };
    assert_eq!(PathHash::of(b""), mixed(0xcbf2_9ce4_8422_2325));
    assert_eq!(PathHash::of(b"foobar"), mixed(0x8594_4171_f739_67e8));
    assert_eq!(PathHash::new().with(b"foo").with(b"bar").finish(), PathHash::of(b"foobar"));
}
