//! Damaged directories and attributes whose checksums are right: every answer but a panic or an endless loop.

mod support;

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use extents_core::{BlockRead, Error, FileSystem, FileType, Flow, Ino, ReadError};
use extents_xfs::{OpenOptions, Xfs};
use support::{Image, ImageFile, bytes::fix_crc, can_make, can_mount};

/// An image with some blocks changed in memory.
struct Damaged {
    image: Arc<ImageFile>,
    blocks: BTreeMap<u64, Vec<u8>>,
}

impl BlockRead for Damaged {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        self.image.read_at(offset, buf)?;
        let end = offset + buf.len() as u64;
        for (&at, block) in &self.blocks {
            for (place, &byte) in (at..).zip(block) {
                if (offset..end).contains(&place) {
                    buf[(place - offset) as usize] = byte;
                }
            }
        }
        Ok(())
    }

    fn size(&self) -> u64 {
        self.image.size()
    }
}

struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % bound as u64) as usize
    }
}

/// A block of metadata, and where its checksum is, if it has one.
#[derive(Debug, Clone, Copy)]
struct Found {
    at: u64,
    size: usize,
    crc: Option<usize>,
}

/// Blocks of directories and attributes, and the inodes that have such, known by their magic numbers; by kind.
fn find_metadata(image: &Image, dir_block: usize) -> BTreeMap<&'static str, Vec<Found>> {
    let block_size = image.open().info().block_size as usize;
    let file = std::fs::File::open(image.path()).unwrap();
    let length = file.metadata().unwrap().len();
    let mut found: BTreeMap<_, Vec<Found>> = BTreeMap::new();
    let mut chunk = vec![0; 1 << 20];
    for start in (0..length).step_by(chunk.len()) {
        file.read_exact_at(&mut chunk, start).unwrap();
        for (place, block) in chunk.chunks_exact(block_size).enumerate() {
            let at = start + (place * block_size) as u64;
            let kind = match (&block[..4], &block[8..10]) {
                (b"XDB3", _) => Some(("whole", dir_block, Some(4))),
                (b"XDD3", _) => Some(("data", dir_block, Some(4))),
                (b"XDF3", _) => Some(("free", dir_block, Some(4))),
                (b"XD2B", _) => Some(("whole", dir_block, None)),
                (b"XD2D", _) => Some(("data", dir_block, None)),
                (b"XD2F", _) => Some(("free", dir_block, None)),
                (b"XARM", _) => Some(("value", block_size, Some(12))),
                (_, [0x3d, 0xf1]) => Some(("single leaf", dir_block, Some(12))),
                (_, [0x3d, 0xff]) => Some(("leaf", dir_block, Some(12))),
                (_, [0x3e, 0xbe]) => Some(("node", dir_block, Some(12))),
                (_, [0x3b, 0xee]) => Some(("attribute leaf", block_size, Some(12))),
                (_, [0xd2, 0xf1]) => Some(("single leaf", dir_block, None)),
                (_, [0xd2, 0xff]) => Some(("leaf", dir_block, None)),
                (_, [0xfe, 0xbe]) => Some(("node", dir_block, None)),
                _ => None,
            };
            if let Some((kind, size, crc)) = kind {
                found.entry(kind).or_default().push(Found { at, size, crc });
            }
            for (index, inode) in block.chunks_exact(512).enumerate() {
                // Directories, and what has an attribute fork.
                if inode[..2] == *b"IN" && (inode[2] >> 4 == 4 || inode[82] != 0) {
                    let crc = (inode[4] == 3).then_some(100);
                    let inode = Found { at: at + index as u64 * 512, size: 512, crc };
                    found.entry("inode").or_default().push(inode);
                }
            }
        }
    }
    found
}

/// Changes a few bytes, mostly where numbers that others depend on are.
fn mutate(block: &mut [u8], numbers: &mut Numbers) {
    for _ in 0..=numbers.below(3) {
        let reach = match numbers.below(3) {
            0 => 80.min(block.len()),
            1 => 400.min(block.len()),
            _ => block.len(),
        };
        // Half of the time from the end, where lists of hashes and sizes of free pieces are.
        let place = numbers.below(reach);
        let place = if numbers.below(4) == 0 { block.len() - 1 - place } else { place };
        block[place] = match numbers.below(6) {
            0 => 0,
            1 => 0xff,
            2 => block[place] ^ (1 << numbers.below(8)),
            3 => block[place].wrapping_add(1),
            4 => block[place].wrapping_sub(1),
            _ => numbers.below(256) as u8,
        };
    }
}

/// Everything that can be asked of the names and attributes of a volume; answers how many errors came.
fn walk(volume: &Xfs) -> usize {
    let mut errors = 0;
    let mut seen = std::collections::BTreeSet::new();
    let mut rest = vec![volume.root()];
    while let Some(ino) = rest.pop() {
        if !seen.insert(ino) {
            continue;
        }
        let mut names = Vec::new();
        let mut count = 0_u32;
        let listed = volume.read_dir(ino, 0, &mut |entry| {
            names.push((entry.name.to_vec(), entry.ino));
            count += 1;
            assert!(count < 100_000, "a listing that does not end");
            Flow::Continue(())
        });
        errors += usize::from(listed.is_err());
        for (name, there) in names {
            errors += usize::from(volume.lookup(ino, &name).is_err());
            match volume.metadata(there) {
                Ok(metadata) if metadata.file_type == FileType::Directory => rest.push(there),
                _ => {}
            }
            errors += attributes(volume, there);
        }
        errors += usize::from(volume.lookup(ino, b"not there").is_err());
    }
    errors
}

fn attributes(volume: &Xfs, ino: Ino) -> usize {
    let mut names = Vec::new();
    let listed = volume.xattrs(ino, &mut |attribute| {
        names.push((attribute.namespace, attribute.name.to_vec()));
        assert!(names.len() < 100_000, "a listing that does not end");
        Flow::Continue(())
    });
    let got = names.iter().filter(|(space, name)| match volume.xattr(ino, *space, name) {
        Ok(value) => value.is_some_and(|value| value.len() > 64 << 10),
        Err(_) => true,
    });
    got.count() + usize::from(listed.is_err())
}

fn open(image: &Arc<ImageFile>, blocks: BTreeMap<u64, Vec<u8>>) -> Result<Xfs, Error> {
    let options = OpenOptions { norecovery: true, ..OpenOptions::default() };
    Xfs::open(Damaged { image: Arc::clone(image), blocks }, &options)
}

fn check(image: &Image, dir_block: usize, rounds: usize) {
    let found: Vec<_> = find_metadata(image, dir_block).into_iter().collect();
    assert!(found.len() > 5, "{found:?}");
    let file = Arc::new(ImageFile::open(image.path()));
    assert_eq!(walk(&open(&file, BTreeMap::new()).unwrap()), 0, "undamaged");
    let mut numbers = Numbers(rounds as u64);
    let (mut with_errors, mut slowest) = (0, Duration::ZERO);
    for _ in 0..rounds {
        let (_, kind) = &found[numbers.below(found.len())];
        let target = kind[numbers.below(kind.len())];
        let mut block = vec![0; target.size];
        file.read_at(target.at, &mut block).unwrap();
        mutate(&mut block, &mut numbers);
        if let Some(crc) = target.crc {
            fix_crc(&mut block, crc);
        }
        let start = Instant::now();
        let volume = open(&file, BTreeMap::from([(target.at, block)])).unwrap();
        with_errors += usize::from(walk(&volume) > 0);
        slowest = slowest.max(start.elapsed());
    }
    println!(
        "{rounds} damages to {} kinds of blocks: {with_errors} seen, slowest walk {slowest:?}",
        found.len()
    );
    assert!(with_errors > rounds / 10, "damage that nobody sees");
    assert!(slowest < Duration::from_secs(10), "{slowest:?}");
}

const CONTENTS: &str = r#"
mkdir short block leaf node collisions
touch short/{a,bb,ccc} block/name-{1..30} leaf/name-of-some-length-{1..400} node/name-of-some-length-{1..1500}
rm node/*3 leaf/*5
touch few many large acl
setfattr -n user.a -v b few; setfattr -n trusted.b few
for i in $(seq 200); do echo "user.name-$i=\"$(head -c $i /dev/zero | tr '\0' v)\""; done > values
(echo '# file: many'; cat values) | setfattr --restore=-
rm values
for n in 500 3000 20000 65536; do
    setfattr -n trusted.large-$n -v 0x$(head -c $n /dev/urandom | od -An -v -tx1 | tr -d ' \n') large 2>/dev/null || true
done
setfacl -m u:1:r,u:2:w acl
"#;

#[test]
fn walk_of_damaged_volume_ends_without_panic() {
    if !can_mount() {
        return;
    }
    let image = Image::make("400M", &[]);
    image.fill(CONTENTS);
    check(&image, 4096, 500);
}

#[test]
fn walk_of_damaged_volume_with_large_directory_blocks_ends_without_panic() {
    if !can_mount() {
        return;
    }
    let image = Image::make("400M", &["-n", "size=8k"]);
    image.fill(CONTENTS);
    check(&image, 8192, 400);
}

#[test]
fn walk_of_damaged_v4_volume_ends_without_panic() {
    if !can_make() {
        return;
    }
    let folder = tempfile::TempDir::new().unwrap();
    let prototype = folder.path().join("prototype");
    let mut text = "/dev/null\n0 0\nd--755 0 0\n".to_owned();
    for (name, count) in [("short", 3), ("block", 40), ("leaf", 400), ("node", 1500)] {
        text += &format!("{name} d--755 0 0\n");
        for number in 0..count {
            text += &format!("a-name-of-some-length-{number} p--600 0 0\n");
        }
        text += "$\n";
    }
    std::fs::write(&prototype, text + "$\n").unwrap();
    let prototype = prototype.to_str().unwrap();
    let image = Image::make("400M", &["-m", "crc=0", "-i", "size=512", "-p", prototype]);
    check(&image, 4096, 500);
}

/// Leaves that lead round in a circle, each naming the right one before it.
#[test]
fn lookup_and_listing_leaves_in_a_circle_are_errors() {
    if !can_mount() {
        return;
    }
    let image = Image::make("400M", &[]);
    {
        let mount = image.mount("rw");
        let directory = mount.path().join("collisions");
        std::fs::create_dir(&directory).unwrap();
        let mut made = 0;
        for number in 0..6000 {
            let name = colliding(number);
            if let Ok(name) = String::from_utf8(name)
                && !name.contains(['/', '\0'])
            {
                std::fs::File::create(directory.join(name)).unwrap();
                made += 1;
            }
        }
        assert!(made > 1500, "{made}");
        let script = "for i in $(seq 1000); do echo user.name-of-some-length-$i=x; done > values;
            (echo '# file: collisions'; cat values) | setfattr --restore=-; rm values";
        drop(mount);
        image.fill(script);
    }
    let volume = image.open();
    let directory = volume.lookup(volume.root(), b"collisions").unwrap().unwrap();
    let absent = (6000..).map(colliding).find(|name| !name.contains(&0)).unwrap();
    assert_eq!(volume.lookup(directory, &absent).unwrap(), None);
    assert_eq!(attributes(&volume, directory), 0);

    for magic in [[0x3d, 0xff], [0x3b, 0xee]] {
        let file = Arc::new(ImageFile::open(image.path()));
        let mut leaves = BTreeMap::new();
        for found in find_metadata(&image, 4096).into_values().flatten() {
            let mut block = vec![0; found.size];
            file.read_at(found.at, &mut block).unwrap();
            let owner = u64::from_be_bytes(block[48..56].try_into().unwrap());
            if block[8..10] == magic && owner == directory.0 {
                leaves.insert(found.at, block);
            }
        }
        assert!(leaves.len() > 5, "{}", leaves.len());
        let link = |block: &[u8], at: usize| u32::from_be_bytes(block[at..at + 4].try_into().unwrap());
        // The first leaf is the one with none before it; the last, the one with none behind. Who is where is
        // known from the others' links.
        let second =
            leaves.values().find(|block| link(block, 4) != 0 && is_first(&leaves, link(block, 4))).unwrap();
        let first_number = link(second, 4);
        let last_but_one = leaves.values().find(|block| is_last(&leaves, link(block, 0))).unwrap();
        let last_number = link(last_but_one, 0);
        for block in leaves.values_mut() {
            if link(block, 4) == 0 {
                block[4..8].copy_from_slice(&last_number.to_be_bytes());
            } else if link(block, 0) == 0 {
                block[0..4].copy_from_slice(&first_number.to_be_bytes());
            } else {
                continue;
            }
            fix_crc(block, 12);
        }
        let damaged = open(&file, leaves).unwrap();
        let start = Instant::now();
        if magic == [0x3d, 0xff] {
            let refused = damaged.lookup(directory, &absent).unwrap_err();
            assert!(refused.to_string().contains("chain of leaves"), "{refused}");
        } else {
            let refused = damaged.xattrs(directory, &mut |_| Flow::Continue(())).unwrap_err();
            assert!(refused.to_string().contains("chain of leaves"), "{refused}");
        }
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}

/// Whether `number` is the leaf that none comes before: no other leaf names it as the one behind.
fn is_first(leaves: &BTreeMap<u64, Vec<u8>>, number: u32) -> bool {
    !leaves.values().any(|block| block[0..4] == number.to_be_bytes())
}

/// Whether `number` is the leaf that none comes behind.
fn is_last(leaves: &BTreeMap<u64, Vec<u8>>, number: u32) -> bool {
    number != 0 && !leaves.values().any(|block| block[4..8] == number.to_be_bytes())
}

/// A name whose last five bytes undo what the number before them does to the hash.
fn colliding(number: u32) -> Vec<u8> {
    let mut name = format!("{number:06}").into_bytes();
    let rest = name.iter().fold(0, |hash: u32, &byte| hash.rotate_left(7) ^ u32::from(byte));
    let rest = rest.rotate_left(35 % 32) ^ 0x5a5a_5a5a;
    name.extend([28, 21, 14, 7, 0].map(|shift| (rest >> shift & 0x7f) as u8));
    name
}
