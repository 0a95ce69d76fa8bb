//! Damaged and invented volumes: whatever is read from them ends soon, in an answer or an error.

mod support;

use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use extents_core::{BlockRead, FileSystem, Flow, Ino, ReadError, XattrNamespace};
use extents_xfs::{OpenOptions, Xfs};
use support::{Image, ImageFile, can_make, can_mount};

/// A device with some of its bytes replaced, which notes what was read.
#[derive(Clone)]
struct Altered {
    base: Arc<ImageFile>,
    patches: Vec<(u64, Vec<u8>)>,
    /// Reads that touch this range fail.
    unreadable: Range<u64>,
    size: u64,
    reads: Arc<Mutex<Vec<(u64, usize)>>>,
}

impl Altered {
    fn new(image: &Image) -> Self {
        let base = Arc::new(ImageFile::open(image.path()));
        let size = base.size();
        Self { base, patches: Vec::new(), unreadable: 0..0, size, reads: Arc::default() }
    }

    fn bytes(&self, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.fill(offset, &mut bytes);
        bytes
    }

    fn fill(&self, offset: u64, buf: &mut [u8]) {
        let inside = self.base.size().saturating_sub(offset).min(buf.len() as u64) as usize;
        self.base.read_at(offset, &mut buf[..inside]).unwrap();
        buf[inside..].fill(0);
        for (start, bytes) in &self.patches {
            for (at, byte) in (*start..).zip(bytes) {
                if let Some(target) = at.checked_sub(offset).and_then(|place| buf.get_mut(place as usize)) {
                    *target = *byte;
                }
            }
        }
    }
}

impl BlockRead for Altered {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let (length, end) = (buf.len() as u64, offset.saturating_add(buf.len() as u64));
        if end > self.size {
            return Err(ReadError::outside(offset, length));
        }
        if offset < self.unreadable.end && self.unreadable.start < end {
            return Err(ReadError::io(offset, length));
        }
        self.fill(offset, buf);
        self.reads.lock().unwrap().push((offset, buf.len()));
        Ok(())
    }

    fn size(&self) -> u64 {
        self.size
    }
}

const NORECOVERY: OpenOptions = OpenOptions { norecovery: true, cache_bytes: 1 << 20 };

/// Reads everything that can be reached. Answers how many inodes were read without an error.
fn read_everything(device: Altered, options: &OpenOptions) -> usize {
    let started = Instant::now();
    let Ok(volume) = Xfs::open(device, options) else { return 0 };
    let _ = volume.usage();
    let (mut good, mut directories) = (0, vec![volume.root()]);
    let mut seen = std::collections::HashSet::new();
    while let Some(directory) = directories.pop() {
        if !seen.insert(directory) {
            continue;
        }
        let mut inodes = vec![directory];
        let _ = volume.read_dir(directory, 0, &mut |entry| {
            inodes.push(entry.ino);
            Flow::Continue(())
        });
        assert!(inodes.len() < 200_000, "a directory without end");
        let _ = volume.lookup(directory, b"some name");
        let _ = volume.lookup(directory, b"file-30");
        for ino in inodes {
            good += usize::from(read_inode(&volume, ino));
            if volume.metadata(ino).is_ok_and(|metadata| metadata.is_directory()) {
                directories.push(ino);
            }
        }
        assert!(started.elapsed() < Duration::from_secs(20), "reading does not come to an end");
    }
    good
}

fn read_inode(volume: &Xfs, ino: Ino) -> bool {
    let good = volume.inspect(ino).is_ok();
    let _ = volume.read_link(ino);
    let _ = volume.xattr(ino, XattrNamespace::User, b"name");
    let _ = volume.xattr(ino, XattrNamespace::AclAccess, b"");
    let mut names = 0_u32;
    let _ = volume.xattrs(ino, &mut |_| {
        names += 1;
        assert!(names < 200_000, "a list of attributes without end");
        Flow::Continue(())
    });
    good
}

/// Small numbers that look random and are the same each time (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }

    /// What damage makes of a byte, and what finds mistakes: ends of ranges, flipped bits.
    fn change(&mut self, byte: u8) -> u8 {
        match self.roll(6) {
            0 => 0,
            1 => 0xff,
            2 => byte.wrapping_add(1),
            3 => byte.wrapping_sub(1),
            4 => byte ^ (1 << self.roll(8)),
            _ => self.roll(256) as u8,
        }
    }
}

/// Sets the checksums in what was read as one piece right, wherever a structure is known by its magic number.
fn seal(bytes: &mut [u8], inode_size: usize) {
    const BY_FIRST: [(&[u8; 4], usize); 14] = [
        (b"XFSB", 224),
        (b"XAGF", 216),
        (b"XAGI", 312),
        (b"IAB3", 52),
        (b"FIB3", 52),
        (b"R3FC", 52),
        (b"BMA3", 64),
        (b"XDB3", 4),
        (b"XDD3", 4),
        (b"XDF3", 4),
        (b"XARM", 12),
        (b"XSLM", 12),
        (b"XAFL", 32),
        (b"RMB3", 52),
    ];
    const BY_SECOND: [[u8; 2]; 4] = [[0x3e, 0xbe], [0x3d, 0xf1], [0x3d, 0xff], [0x3b, 0xee]];
    // The first inode of a cluster may be free.
    if bytes.starts_with(b"IN") || (bytes.starts_with(&[0, 0]) && bytes.len().is_multiple_of(inode_size)) {
        for slot in bytes.chunks_mut(inode_size).filter(|slot| slot.starts_with(b"IN")) {
            seal_at(slot, 100);
        }
    }
    if let Some(&(_, at)) = BY_FIRST.iter().find(|(magic, _)| bytes.starts_with(*magic)) {
        seal_at(bytes, at);
    } else if bytes.len() > 16 && BY_SECOND.contains(&[bytes[8], bytes[9]]) {
        seal_at(bytes, 12);
    }
}

fn seal_at(bytes: &mut [u8], at: usize) {
    bytes[at..at + 4].fill(0);
    let crc = crc32c::crc32c(bytes);
    bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
}

/// Where structures lie: what a walk of the undamaged volume reads.
fn structures(whole: &Altered) -> Vec<(u64, usize)> {
    assert!(read_everything(whole.clone(), &OpenOptions::default()) > 60);
    let mut reads = whole.reads.lock().unwrap().clone();
    // The log is large and its own concern; single bytes come from probing.
    reads.retain(|&(_, length)| (512..=(64 << 10)).contains(&length));
    reads.sort_unstable();
    reads.dedup();
    reads
}

/// Damages up to four bytes of a structure and reads everything, many times.
fn mutate(image: &Image, rounds: u32, sealed: bool, inode_size: usize) {
    let whole = Altered::new(image);
    let structures = structures(&whole);
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut answered = 0;
    for _ in 0..rounds {
        let (offset, length) = structures[dice.roll(structures.len() as u64) as usize];
        let mut bytes = whole.bytes(offset, length);
        for _ in 0..=dice.roll(4) {
            // Headers decide more than what stands behind them.
            let within = if dice.roll(2) == 0 { 128 } else { length as u64 };
            let at = dice.roll(within) as usize;
            bytes[at] = dice.change(bytes[at]);
        }
        if sealed {
            seal(&mut bytes, inode_size);
        }
        let mut device = whole.clone();
        device.patches.push((offset, bytes));
        device.reads = Arc::default();
        answered += usize::from(read_everything(device.clone(), &OpenOptions::default()) > 0);
        read_everything(device, &NORECOVERY);
    }
    assert!(
        answered > rounds as usize / 4,
        "most damage does not make the whole volume unreadable: {answered}"
    );
}

/// Directories, attributes, links and maps in every form, in few blocks.
const CONTENTS: &str = r#"
mkdir block leaf node
for i in $(seq 30); do : > block/file-$i; done
for i in $(seq 120); do : > leaf/a-name-that-takes-some-room-$i; done
for i in $(seq 800); do : > node/a-name-that-takes-quite-some-more-room-than-others-$i; done
head -c 20000 /dev/urandom > plain
for i in $(seq 0 2 80); do head -c 1024 /dev/zero | dd of=fragmented bs=1k seek=$i conv=notrunc status=none; done
for n in 5 400 1000; do ln -s $(head -c $n /dev/zero | tr '\0' l) link-$n; done
setfattr -n user.name -v value plain
for i in $(seq 60); do setfattr -n user.attribute-$i -v "value of attribute $i" fragmented; done
setfattr -n user.large -v $(head -c 5000 /dev/zero | tr '\0' v) block
cp --reflink=always plain shared 2>/dev/null || true
mknod device b 8 1; mkfifo fifo
sync
"#;

fn version5() -> Option<Image> {
    if !can_mount() {
        return None;
    }
    let image = Image::make("320M", &["-b", "size=1024", "-m", "reflink=1"]);
    image.fill(CONTENTS);
    Some(image)
}

fn version4() -> Option<Image> {
    if !can_make() {
        return None;
    }
    let folder = tempfile::TempDir::new().unwrap();
    let mut text = String::from("/none\n0 0\nd--755 0 0\n");
    text += &format!("link l--777 0 0 {}\nsub d--755 0 0\n", "t".repeat(900));
    for number in 0..300 {
        text += &format!("a-name-of-some-length-{number} p--600 {number} 0\n");
    }
    text += &format!("$\nfile ---644 0 0 {}\n$\n", std::env::current_exe().unwrap().display());
    let proto = folder.path().join("proto");
    std::fs::write(&proto, text).unwrap();
    Some(Image::make("320M", &["-m", "crc=0", "-b", "size=512", "-p", proto.to_str().unwrap()]))
}

const ROUNDS: u32 = 400;

#[test]
fn version5_damaged_at_random_always_answers() {
    if let Some(image) = version5() {
        mutate(&image, ROUNDS, false, 512);
    }
}

#[test]
fn version5_damaged_with_good_checksums_always_answers() {
    if let Some(image) = version5() {
        mutate(&image, ROUNDS, true, 512);
    }
}

#[test]
fn version4_damaged_at_random_always_answers() {
    if let Some(image) = version4() {
        mutate(&image, ROUNDS, false, 256);
    }
}

#[test]
fn volume_with_unreadable_places_answers_what_it_can() {
    let Some(image) = version5() else { return };
    let whole = Altered::new(&image);
    let mut complete = 0;
    for (offset, length) in structures(&whole) {
        let mut device = whole.clone();
        device.unreadable = offset..offset + length as u64;
        complete = complete.max(read_everything(device, &OpenOptions::default()));
    }
    assert!(complete > 100, "one bad place spoils the rest: {complete}");
}

#[test]
fn truncated_image_is_refused_at_any_length() {
    let Some(image) = version5() else { return };
    let mut device = Altered::new(&image);
    let whole = device.size;
    for size in [0, 1, 4, 511, 512, 1023, 4096, 65_536, whole / 3, whole / 2, whole - 1] {
        device.size = size;
        assert!(Xfs::open(device.clone(), &NORECOVERY).is_err(), "{size} bytes");
    }
}

/// Writes fields of the superblock and gives the device any size they ask for.
fn with_superblock(whole: &Altered, fields: &[(usize, &[u8])]) -> Altered {
    let mut sector = whole.bytes(0, 512);
    for (at, bytes) in fields {
        sector[*at..at + bytes.len()].copy_from_slice(bytes);
    }
    seal_at(&mut sector, 224);
    let mut device = whole.clone();
    device.patches.push((0, sector));
    device.size = u64::MAX;
    device
}

#[test]
fn superblock_with_absurd_sizes_answers_at_once() {
    let Some(image) = version5() else { return };
    let whole = Altered::new(&image);
    let started = Instant::now();
    // (place, bytes of the field): sizes, counts, places and logarithms.
    let fields = [
        (4, 4),
        (8, 8),
        (16, 8),
        (48, 8),
        (56, 8),
        (84, 4),
        (88, 4),
        (96, 4),
        (100, 2),
        (102, 2),
        (104, 2),
        (106, 2),
        (120, 1),
        (121, 1),
        (122, 1),
        (123, 1),
        (124, 1),
        (127, 1),
        (128, 8),
        (136, 8),
        (144, 8),
        (180, 4),
        (192, 1),
        (193, 1),
        (194, 2),
        (196, 4),
    ];
    for (at, length) in fields {
        for value in [[0_u8; 8], [0xff; 8], [0x80, 0, 0, 0, 0, 0, 0, 0], [0x7f; 8], [0, 0, 0, 0, 0, 0, 0, 1]]
        {
            let bytes = &value[8 - length..];
            read_everything(with_superblock(&whole, &[(at, bytes)]), &NORECOVERY);
            let front = &value[..length];
            read_everything(with_superblock(&whole, &[(at, front)]), &OpenOptions::default());
        }
    }
    assert!(started.elapsed() < Duration::from_secs(60), "took {:?}", started.elapsed());
}

#[test]
fn volume_of_four_billion_groups_allocates_nothing_for_them() {
    let Some(image) = version5() else { return };
    let whole = Altered::new(&image);
    let groups = u32::MAX;
    let group_blocks = 0x0001_4000_u64;
    let blocks = u64::from(groups) * group_blocks;
    let mut device = with_superblock(
        &whole,
        &[
            (8, &blocks.to_be_bytes()),
            (84, &u32::try_from(group_blocks).unwrap().to_be_bytes()),
            (88, &groups.to_be_bytes()),
            (124, &[17]),
            (144, &u64::MAX.to_be_bytes()),
        ],
    );
    device.size = u64::MAX;
    let volume = Xfs::open(device, &NORECOVERY).unwrap();
    assert_eq!(volume.info().groups, u64::from(groups));
    let started = Instant::now();
    // The counters are impossible, so the groups are added up; the first that is not there ends that.
    assert!(volume.usage().is_err());
    assert!(volume.metadata(Ino(u64::MAX >> 8)).is_err());
    assert!(started.elapsed() < Duration::from_secs(5), "took {:?}", started.elapsed());
}
