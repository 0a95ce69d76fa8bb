//! Lookups through directory indexes of every hash, depth and damage.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use extents_core::{BlockRead, FileSystem, Flow, Ino, MemoryDevice, ReadError};
use extents_ext4::Ext4;

use crate::debugfs::find;
use crate::image::{self, Image, options};

/// Counts the reads that reach a device.
struct Counted {
    device: MemoryDevice,
    reads: Arc<AtomicU64>,
}

impl BlockRead for Counted {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.device.read_at(offset, buf)
    }

    fn size(&self) -> u64 {
        self.device.size()
    }
}

fn names(volume: &Ext4, dir: Ino) -> Vec<(Vec<u8>, Ino)> {
    let mut names = Vec::new();
    volume
        .read_dir(dir, 0, &mut |entry| {
            names.push((entry.name.to_vec(), entry.ino));
            Flow::Continue(())
        })
        .unwrap();
    names
}

/// Looks every name up, each through a reader with cold caches, and gives the most reads that one took.
fn most_reads(image: &Image, path: &str, step: usize) -> u64 {
    let all = {
        let volume = image.open();
        names(&volume, find(&volume, path))
    };
    assert!(all.len() > 300);
    let reads = Arc::new(AtomicU64::new(0));
    let bytes = image.bytes();
    let volume = Ext4::open(Counted { device: MemoryDevice(bytes), reads: Arc::clone(&reads) }, &options());
    let volume = volume.unwrap();
    let dir = find(&volume, path);
    let mut most = 0;
    for (name, ino) in all.iter().step_by(step) {
        let before = reads.load(Ordering::Relaxed);
        assert_eq!(volume.lookup(dir, name).unwrap(), Some(*ino));
        most = most.max(reads.load(Ordering::Relaxed) - before);
    }
    most
}

/// Names whose bytes are above 127 in part, since signed and unsigned hashes differ only there.
fn odd_names(dir: &Path) {
    fs::create_dir(dir).unwrap();
    for number in 0..1500_u32 {
        let mut name = vec![0x80 | (number % 127) as u8, 0xFF - (number % 90) as u8];
        name.extend_from_slice(format!("{number}").repeat(1 + number as usize % 30).as_bytes());
        File::create(dir.join(OsStr::from_bytes(&name))).unwrap();
    }
}

fn hash_leads_to_every_name(algorithm: &str, flags: &str) {
    let Some(image) = Image::make(32, "-b 1024 -O ^metadata_csum") else { return };
    image.tool("tune2fs", &["-E", &format!("hash_alg={algorithm}")]);
    image.debugfs(&[&format!("set_super_value flags {flags}")]);
    let Some(mount) = image.mount("rw") else { return };
    odd_names(&mount.path().join("odd"));
    drop(mount);
    // An index that was not used would cost a read for each of a hundred blocks.
    let most = most_reads(&image, "odd", 1);
    assert!(most <= 6, "{most} reads");
}

#[test]
fn lookup_by_signed_legacy_hash_reads_few_blocks() {
    hash_leads_to_every_name("legacy", "1");
}

#[test]
fn lookup_by_unsigned_legacy_hash_reads_few_blocks() {
    hash_leads_to_every_name("legacy", "2");
}

#[test]
fn lookup_by_signed_half_md4_reads_few_blocks() {
    hash_leads_to_every_name("half_md4", "1");
}

#[test]
fn lookup_by_unsigned_half_md4_reads_few_blocks() {
    hash_leads_to_every_name("half_md4", "2");
}

#[test]
fn lookup_by_signed_tea_reads_few_blocks() {
    hash_leads_to_every_name("tea", "1");
}

#[test]
fn lookup_by_unsigned_tea_reads_few_blocks() {
    hash_leads_to_every_name("tea", "2");
}

#[test]
fn lookup_in_an_index_of_three_levels_finds_every_name() {
    let fill = |root: &Path| {
        let dir = root.join("huge");
        fs::create_dir(&dir).unwrap();
        fs::write(root.join("target"), b"x").unwrap();
        for number in 0..60_000 {
            fs::hard_link(root.join("target"), dir.join(format!("{number:0>250}"))).unwrap();
        }
    };
    let Some(image) = image::filled(64, "-b 1024 -O large_dir", fill) else { return };
    let dump = image.tool("debugfs", &["-R", "htree /huge"]);
    assert!(dump.contains("Indirect levels: 2"), "{}", &dump[..300]);
    let volume = image.open();
    let dir = find(&volume, "huge");
    let all = names(&volume, dir);
    assert_eq!(all.len(), 60_002);
    assert!(most_reads(&image, "huge", 17) <= 12);
    for (name, ino) in &all {
        assert_eq!(volume.lookup(dir, name).unwrap(), Some(*ino));
    }
    assert_eq!(volume.lookup(dir, format!("{:0>250}", 60_000).as_bytes()).unwrap(), None);
}

/// Names of 250 bytes whose legacy hashes are all equal.
///
/// The hash (`dx_hack_hash`) keeps two numbers and takes in a byte at a time, so for any state before the last
/// byte, that byte can be computed from the hash that is wanted.
fn colliding_names(count: usize) -> Vec<String> {
    const FACTOR: u32 = 7_152_373;
    const WANTED: u32 = 0x1234_5678;
    // FACTOR is odd, so it has an inverse: each step doubles the bits that are right.
    let inverse =
        (0..5).fold(FACTOR, |guess, _| guess.wrapping_mul(2_u32.wrapping_sub(FACTOR.wrapping_mul(guess))));
    let letters = u32::from(b'0')..=u32::from(b'z');
    let fold = |hash: u32| if hash & 0x8000_0000 != 0 { hash.wrapping_sub(0x7FFF_FFFF) } else { hash };
    let next = |(hash0, hash1): (u32, u32), letter: u32| {
        (fold(hash1.wrapping_add(hash0 ^ letter.wrapping_mul(FACTOR))), hash0)
    };
    let mut found = Vec::new();
    for number in 0_u64.. {
        let start = format!("{number:0>247}");
        let start_state =
            start.bytes().fold((0x12a3_fe2d, 0x37ab_e8f9), |state, byte| next(state, u32::from(byte)));
        for first in letters.clone() {
            let state = next(start_state, first);
            for second in letters.clone() {
                let (hash0, hash1) = next(state, second);
                let last = (WANTED.wrapping_sub(hash1) ^ hash0).wrapping_mul(inverse);
                if letters.contains(&last) {
                    let tail = [first as u8, second as u8, last as u8];
                    found.push(format!("{start}{}", std::str::from_utf8(&tail).unwrap()));
                }
            }
        }
        if found.len() >= count {
            break;
        }
    }
    found
}

#[test]
fn lookup_of_names_with_one_hash_goes_on_over_many_blocks() {
    let Some(image) = Image::make(16, "-b 1024 -O ^metadata_csum") else { return };
    image.tool("tune2fs", &["-E", "hash_alg=legacy"]);
    let Some(mount) = image.mount("rw") else { return };
    let dir = mount.path().join("same");
    fs::create_dir(&dir).unwrap();
    let same = colliding_names(8);
    for (number, name) in same.iter().enumerate() {
        File::create(dir.join(name)).unwrap();
        for other in 0..20 {
            File::create(dir.join(format!("{number}-{other}-{}", "o".repeat(200)))).unwrap();
        }
    }
    drop(mount);
    let dump = image.tool("debugfs", &["-R", &format!("dx_hash -h legacy {}", same[3])]);
    let first = image.tool("debugfs", &["-R", &format!("dx_hash -h legacy {}", same[0])]);
    let hash =
        |line: &str| line.split(" is ").nth(1).map(|rest| rest.split_whitespace().next().unwrap().to_owned());
    assert_eq!(hash(&dump), hash(&first), "the names collide for e2fsprogs too");
    let volume = image.open();
    let dir = find(&volume, "same");
    for name in &same {
        assert!(volume.lookup(dir, name.as_bytes()).unwrap().is_some(), "{name}");
    }
    assert_eq!(names(&volume, dir).len(), 2 + same.len() * 21);
}

/// Damages the root of a directory's index and looks for all names.
fn broken_index_is_passed_over(mkfs: &str, at: usize, value: u8) {
    let Some(image) = image::filled(32, mkfs, |root| odd_names(&root.join("odd"))) else { return };
    let block = image.tool("debugfs", &["-R", "bmap odd 0"]);
    let block: usize = block.trim().parse().unwrap();
    let mut bytes = image.bytes();
    let place = block * 1024 + at;
    assert_ne!(bytes[place], value);
    bytes[place] = value;
    let before = image.open();
    let all = names(&before, find(&before, "odd"));
    let volume = Ext4::open(image::shared(bytes), &options()).unwrap();
    let dir = find(&volume, "odd");
    assert_eq!(names(&volume, dir), all);
    for (name, ino) in &all {
        assert_eq!(volume.lookup(dir, name).unwrap(), Some(*ino));
    }
    assert_eq!(volume.lookup(dir, b"no such name").unwrap(), None);
}

#[test]
fn lookup_in_an_index_of_unknown_hash_looks_at_every_name() {
    broken_index_is_passed_over("-b 1024 -O ^metadata_csum", 28, 99);
}

#[test]
fn lookup_in_an_index_with_impossible_limits_looks_at_every_name() {
    broken_index_is_passed_over("-b 1024 -O ^metadata_csum", 33, 0xFF);
}

#[test]
fn lookup_in_an_index_with_a_wrong_checksum_looks_at_every_name() {
    broken_index_is_passed_over("-b 1024 -O metadata_csum", 41, 0xA5);
}
