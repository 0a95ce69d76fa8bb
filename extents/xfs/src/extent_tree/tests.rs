use super::*;
use crate::geometry::Geometry;
use crate::volume::OpenOptions;
use extents_core::{MemoryDevice, to_u64, to_usize};

const BLOCK: usize = 512;
const INO: Ino = Ino(133);
/// Blocks of the tree begin here; those that the records name lie behind.
const FIRST: u64 = 8;
const DATA: u64 = 2000;
const BLOCKS: u32 = 4000;

/// A tree made by hand, block by block.
struct Tree {
    version: u8,
    device: Vec<u8>,
    root: Vec<u8>,
    records: Vec<(u64, u64)>,
}

/// A block of the tree before it is written: its first key and its number.
type Named = (u64, u64);

impl Tree {
    /// One record for each of `files`, a place in the file: two blocks long, at places of their own.
    fn new(version: u8, files: &[u64]) -> Self {
        let mut tree = Self {
            version,
            device: vec![0; BLOCK * to_usize(u64::from(BLOCKS))],
            root: Vec::new(),
            records: files.iter().zip((DATA..).step_by(3)).map(|(&file, data)| (file, data)).collect(),
        };
        let mut next = FIRST;
        let mut below: Vec<Named> = tree.level(0, &tree.leaves(), &mut next);
        let mut level = 1;
        while below.len() > 9 {
            let nodes: Vec<_> =
                below.chunks(7).map(|part| (part[0].0, part.len(), tree.node(part))).collect();
            below = tree.level(level, &nodes, &mut next);
            level += 1;
        }
        let most = 9;
        tree.root.extend(level.to_be_bytes());
        tree.root.extend(u16::try_from(below.len()).unwrap().to_be_bytes());
        tree.root.extend(list(&below, most));
        tree
    }

    fn header(&self) -> usize {
        if self.version == 5 { HEADER_V5 } else { 24 }
    }

    fn leaves(&self) -> Vec<(u64, usize, Vec<u8>)> {
        let most = (BLOCK - self.header()) / 16;
        let pack = |&(file, data): &(u64, u64)| {
            let (l0, l1) = ((file << 9) | (data >> 43), (data << 21) | 2);
            [l0.to_be_bytes(), l1.to_be_bytes()].concat()
        };
        let leaf = |part: &[(u64, u64)]| (part[0].0, part.len(), part.iter().flat_map(pack).collect());
        self.records.chunks(most).map(leaf).collect()
    }

    fn node(&self, part: &[Named]) -> Vec<u8> {
        list(part, (BLOCK - self.header()) / 16)
    }

    /// Writes the blocks of a level.
    fn level(&mut self, level: u16, blocks: &[(u64, usize, Vec<u8>)], next: &mut u64) -> Vec<Named> {
        let first = *next;
        *next += to_u64(blocks.len());
        let numbered = blocks.iter().zip(first..);
        let mut named = Vec::new();
        for ((key, count, body), number) in numbered {
            let left = if number == first { NO_BLOCK } else { number - 1 };
            let right = if number + 1 == *next { NO_BLOCK } else { number + 1 };
            let mut block = if self.version == 5 { b"BMA3".to_vec() } else { b"BMAP".to_vec() };
            block.extend(level.to_be_bytes());
            block.extend(u16::try_from(*count).unwrap().to_be_bytes());
            block.extend(left.to_be_bytes());
            block.extend(right.to_be_bytes());
            if self.version == 5 {
                block.extend(number.to_be_bytes());
                block.extend([0; 8]);
                block.extend([7; 16]);
                block.extend(INO.0.to_be_bytes());
                block.extend([0; 8]);
            }
            block.extend(body);
            block.resize(BLOCK, 0);
            self.write(number, &block);
            named.push((*key, number));
        }
        named
    }

    fn write(&mut self, number: u64, block: &[u8]) {
        let at = to_usize(number) * BLOCK;
        self.device[at..at + BLOCK].copy_from_slice(block);
        self.seal(number);
    }

    /// Sets the checksum of a block right.
    fn seal(&mut self, number: u64) {
        if self.version == 5 {
            let block = &mut self.device[to_usize(number) * BLOCK..][..BLOCK];
            block[64..68].fill(0);
            let crc = crc32c::crc32c(block);
            block[64..68].copy_from_slice(&crc.to_le_bytes());
        }
    }

    fn volume(&self) -> Volume {
        let device = Box::new(MemoryDevice(self.device.clone()));
        Volume::new(device, Geometry::small(self.version, BLOCKS), &OpenOptions::default())
    }

    fn walk(&self) -> Result<Vec<(u64, u64)>> {
        let mut found = Vec::new();
        let flow = walk(&self.volume(), INO, &self.root, &mut |extent| {
            found.push((extent.file.0, extent.run.start.0));
            Ok(Flow::Continue(()))
        })?;
        assert!(flow.is_continue());
        Ok(found)
    }

    /// Changes bytes of a block, checksum and all.
    fn change(mut self, number: u64, at: usize, bytes: &[u8]) -> Self {
        let at = to_usize(number) * BLOCK + at;
        self.device[at..at + bytes.len()].copy_from_slice(bytes);
        self.seal(number);
        self
    }
}

/// Keys, then pointers from where they begin in a block that has room for `most`.
fn list(part: &[Named], most: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = part.iter().flat_map(|(key, _)| key.to_be_bytes()).collect();
    bytes.resize(most * 8, 0);
    bytes.extend(part.iter().flat_map(|(_, pointer)| pointer.to_be_bytes()));
    bytes.resize(most * 16, 0);
    bytes
}

/// With holes of one block between the extents and larger ones between some.
fn files(count: u64) -> Vec<u64> {
    (0..count).map(|number| number * 3 + number / 50 * 1000 + 5).collect()
}

#[test]
fn walk_of_a_tree_of_any_height_gives_every_record() {
    for version in [4, 5] {
        for count in [1, 9, 30, 31, 270, 271, 600] {
            let tree = Tree::new(version, &files(count));
            assert_eq!(tree.walk().unwrap(), tree.records, "{count} records, version {version}");
        }
    }
}

#[test]
fn find_equals_a_search_of_the_list_at_every_block() {
    for (version, count) in [(4, 600), (5, 600), (4, 31), (5, 1)] {
        let tree = Tree::new(version, &files(count));
        let volume = tree.volume();
        let last = tree.records.last().unwrap().0;
        for at in 0..last + 5 {
            let found = find(&volume, INO, &tree.root, FileBlock(at)).unwrap();
            let expected = tree.records.iter().find(|(file, _)| at < file + 2);
            assert_eq!(
                found.map(|extent| (extent.file.0, extent.run.start.0)),
                expected.copied(),
                "block {at}"
            );
        }
    }
}

#[test]
fn tree_with_a_pointer_back_to_a_node_is_corrupt() {
    for version in [4, 5] {
        let tree = Tree::new(version, &files(600));
        let [_, height, ..] = tree.root[..] else { panic!() };
        assert!(height >= 2);
        let top = u64::from_be_bytes(tree.root[4 + 72..][..8].try_into().unwrap());
        let pointers = tree.header() + (BLOCK - tree.header()) / 16 * 8;
        // The node's first child is the node itself.
        let tree = tree.change(top, pointers, &top.to_be_bytes());
        assert!(matches!(tree.walk(), Err(Error::Corrupt(_))));
        assert!(matches!(find(&tree.volume(), INO, &tree.root, FileBlock(0)), Err(Error::Corrupt(_))));
    }
}

#[test]
fn tree_with_a_leaf_named_twice_is_corrupt() {
    let mut tree = Tree::new(4, &files(100));
    let (first, second) = (4 + 72, 4 + 80);
    let leaf: [u8; 8] = tree.root[first..first + 8].try_into().unwrap();
    tree.root[second..second + 8].copy_from_slice(&leaf);
    assert!(matches!(tree.walk(), Err(Error::Corrupt(_))));
}

#[test]
fn tree_with_any_header_field_wrong_is_corrupt() {
    // magic, level, number of records, left and right sibling
    let changes: [(usize, &[u8]); 6] =
        [(0, b"BMAX"), (4, &[0, 1]), (6, &[0, 0]), (6, &[0xff, 0xff]), (8, &[0; 8]), (16, &[0; 8])];
    for version in [4, 5] {
        for (at, bytes) in changes {
            let tree = Tree::new(version, &files(100)).change(FIRST + 1, at, bytes);
            assert!(matches!(tree.walk(), Err(Error::Corrupt(_))), "version {version}, byte {at}");
        }
    }
}

#[test]
fn version5_block_of_another_place_owner_or_volume_is_corrupt() {
    for at in [31, 40, 63] {
        let tree = Tree::new(5, &files(100)).change(FIRST + 1, at, &[0x55]);
        assert!(matches!(tree.walk(), Err(Error::Corrupt(_))), "byte {at}");
    }
    let mut tree = Tree::new(5, &files(100));
    tree.device[(to_usize(FIRST) + 1) * BLOCK + 300] ^= 1;
    let text = tree.walk().unwrap_err().to_string();
    assert!(text.contains("wrong checksum"), "{text}");
}

#[test]
fn root_that_is_too_small_too_high_or_too_full_is_corrupt() {
    let good = Tree::new(4, &files(100));
    for (at, bytes) in
        [(0, [0, 0]), (0, [0, 10]), (0, [0xff, 0xff]), (2, [0, 0]), (2, [0, 10]), (2, [0xff, 0xff])]
    {
        let mut root = good.root.clone();
        root[at..at + 2].copy_from_slice(&bytes);
        let found = find(&good.volume(), INO, &root, FileBlock(0));
        assert!(matches!(found, Err(Error::Corrupt(_))), "{bytes:?} at {at}");
    }
    for length in 0..4 {
        assert!(find(&good.volume(), INO, &good.root[..length], FileBlock(0)).is_err());
    }
}

#[test]
fn any_flipped_byte_ends_in_an_answer() {
    for version in [4, 5] {
        let good = Tree::new(version, &files(300));
        for at in (to_usize(FIRST) * BLOCK..(to_usize(FIRST) + 14) * BLOCK).step_by(5) {
            let mut tree =
                Tree { device: good.device.clone(), root: good.root.clone(), records: Vec::new(), ..good };
            tree.device[at] ^= 0x41;
            tree.seal(to_u64(at / BLOCK));
            if let Ok(records) = tree.walk() {
                assert!(records.len() <= 600);
            }
            for block in [0, 100, 1000, 100_000] {
                let _ = find(&tree.volume(), INO, &tree.root, FileBlock(block));
            }
        }
    }
}
