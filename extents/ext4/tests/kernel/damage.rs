//! Damaged and invented volumes: an error, quickly, and never a panic.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use extents_core::{Error, FileSystem, Flow, Ino, MemoryDevice, to_u64};
use extents_ext4::Ext4;
use proptest::prelude::*;

use crate::debugfs::find;
use crate::image::{self, Image, options};
use crate::populate;

const PATIENCE: Duration = Duration::from_secs(20);

/// Calls everything on every inode. Errors are fine; the answer is how many calls succeeded.
fn exercise(volume: &Ext4) -> u64 {
    let mut good = 0;
    let mut budget = 20_000_u32;
    let inodes = volume.usage().map_or(3000, |usage| usage.files).min(3000);
    for ino in (0..=inodes).map(Ino) {
        let Ok((metadata, map)) = volume.inspect(ino) else { continue };
        good += 1;
        if metadata.is_directory() {
            let mut names = Vec::new();
            let _ = volume.read_dir(ino, 0, &mut |entry| {
                names.push(entry.name.to_vec());
                budget = budget.saturating_sub(1);
                if budget == 0 { Flow::Break(()) } else { Flow::Continue(()) }
            });
            for name in names.iter().take(50) {
                good += u64::from(volume.lookup(ino, name).is_ok());
            }
            let _ = volume.lookup(ino, b"..");
            let _ = volume.lookup(ino, b"no such name");
        }
        let _ = volume.read_link(ino);
        let _ = volume.xattrs(ino, &mut |xattr| {
            let _ = volume.xattr(ino, xattr.namespace, xattr.name);
            Flow::Continue(())
        });
        for extent in map.iter().take(3) {
            if !extent.is_plain() && !extent.flags.contains(extents_core::ExtentFlags::UNWRITTEN) {
                let mut buf = vec![0; usize::try_from(extent.length.min(4096)).unwrap()];
                let _ = volume.read_special(ino, &extent, extent.logical, &mut buf);
            }
        }
    }
    good
}

/// Small volumes with little on them but of every structure, with checksums and without.
fn samples() -> &'static [Vec<u8>] {
    static SAMPLES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    SAMPLES.get_or_init(|| {
        [
            "-b 1024 -N 512 -O ^metadata_csum,ea_inode,inline_data",
            "-t ext3 -b 1024 -N 512 -J size=1",
            "-b 1024 -N 512",
        ]
        .into_iter()
        .filter_map(|mkfs| {
            let fill = |root: &Path| {
                populate::many(&root.join("many"), 200);
                for length in [10, 100, 5000] {
                    populate::write_synced(
                        &root.join(format!("file-{length}")),
                        &populate::pattern(length, 1),
                    );
                }
                let file = populate::open(&root.join("holes"));
                for at in (0..200).map(|step| step * 5000) {
                    std::os::unix::fs::FileExt::write_all_at(&file, b"piece", at).unwrap();
                }
                std::os::unix::fs::symlink("short", root.join("fast")).unwrap();
                std::os::unix::fs::symlink("l".repeat(300), root.join("slow")).unwrap();
                populate::set(&root.join("file-10"), "user.some", &populate::pattern(300, 3));
                populate::set(&root.join("file-100"), "user.large", &populate::pattern(3000, 3));
            };
            image::filled(4, mkfs, fill).map(|image| image.bytes())
        })
        .collect()
    })
}

/// Places that hold something, so that damage does not fall into empty space.
fn used(bytes: &[u8]) -> Vec<usize> {
    (0..bytes.len()).step_by(64).filter(|&at| bytes[at..at + 64].iter().any(|&byte| byte != 0)).collect()
}

proptest! {
    // PROPTEST_CASES asks for more than the usual 256.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_volume_any_bytes_ends_without_panic(
        sample in 0_usize..3,
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..64, any::<u8>()), 1..200),
    ) {
        let Some(sample) = samples().get(sample) else { return Ok(()) };
        let places = used(sample);
        let mut bytes = sample.clone();
        for (place, within, value) in changes {
            bytes[places[place.index(places.len())] + within] = value;
        }
        let start = Instant::now();
        if let Ok(volume) = Ext4::open(MemoryDevice(bytes), &options()) {
            exercise(&volume);
        }
        prop_assert!(start.elapsed() < PATIENCE);
    }

    #[test]
    fn damaged_volume_copied_blocks_ends_without_panic(
        sample in 0_usize..3,
        copies in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..20),
    ) {
        // A block in another's place keeps its checksum and its sense, but leads elsewhere.
        let Some(sample) = samples().get(sample) else { return Ok(()) };
        let blocks: Vec<usize> = used(sample).into_iter().filter(|at| at % 1024 == 0).collect();
        let mut bytes = sample.clone();
        for (from, to) in copies {
            let (from, to) = (blocks[from.index(blocks.len())], blocks[to.index(blocks.len())]);
            bytes.copy_within(from..from + 1024, to);
        }
        let start = Instant::now();
        if let Ok(volume) = Ext4::open(MemoryDevice(bytes), &options()) {
            exercise(&volume);
        }
        prop_assert!(start.elapsed() < PATIENCE);
    }
}

#[test]
fn undamaged_samples_are_read_whole() {
    for sample in samples() {
        let volume = Ext4::open(MemoryDevice(sample.clone()), &options()).unwrap();
        assert!(exercise(&volume) > 200);
    }
}

#[test]
fn truncated_image_of_any_length_is_refused() {
    let Some(sample) = samples().first() else { return };
    for length in [0, 1, 1023, 1024, 1500, 2047, 2048, 4096, sample.len() / 2, sample.len() - 1] {
        let error = Ext4::open(MemoryDevice(sample[..length].to_vec()), &options()).unwrap_err();
        assert!(matches!(error, Error::NotThisFormat(_) | Error::Corrupt(_)), "{length}: {error}");
        let probed = Ext4::probe(&MemoryDevice(sample[..length].to_vec())).unwrap();
        assert_eq!(probed, length >= 2048);
    }
}

/// The image of a fragmented file without checksums, and the blocks of its tree.
fn fragmented(mkfs: &str) -> Option<(Image, Vec<u64>)> {
    let image = image::filled(16, mkfs, |root| {
        let file = populate::open(&root.join("file"));
        for step in 0..600 {
            std::os::unix::fs::FileExt::write_all_at(&file, b"piece", step * 2048).unwrap();
        }
    })?;
    let stat = image.tool("debugfs", &["-R", "stat file"]);
    let blocks = stat
        .split(['\n', ','])
        .filter_map(|part| part.trim().strip_prefix("(ETB").or_else(|| part.trim().strip_prefix("(DIND")))
        .filter_map(|part| part.split("):").nth(1)?.split('-').next()?.trim().parse().ok())
        .collect();
    Some((image, blocks))
}

#[test]
fn extent_tree_that_contains_itself_is_refused() {
    let Some((image, blocks)) = fragmented("-b 1024 -O ^metadata_csum") else { return };
    assert!(!blocks.is_empty());
    let ino = find(&image.open(), "file");
    let mut bytes = image.bytes();
    for block in blocks {
        let at = usize::try_from(block).unwrap() * 1024;
        assert_eq!(bytes[at..at + 2], [0x0A, 0xF3]);
        // The first entry leads from this node to itself, one level down.
        bytes[at + 6] = 1;
        bytes[at + 16..at + 20].copy_from_slice(&u32::try_from(block).unwrap().to_le_bytes());
        bytes[at + 20..at + 24].fill(0);
    }
    let volume = Ext4::open(MemoryDevice(bytes), &options()).unwrap();
    let error = volume.extents(ino).unwrap_err().to_string();
    assert!(error.contains("depth"), "{error}");
}

#[test]
fn block_map_whose_indirect_blocks_name_themselves_is_refused() {
    let Some((image, blocks)) = fragmented("-t ext2 -b 1024") else { return };
    assert!(!blocks.is_empty());
    let ino = find(&image.open(), "file");
    let mut bytes = image.bytes();
    for block in blocks {
        let at = usize::try_from(block).unwrap() * 1024;
        for entry in bytes[at..at + 1024].chunks_exact_mut(4) {
            entry.copy_from_slice(&u32::try_from(block).unwrap().to_le_bytes());
        }
    }
    let start = Instant::now();
    let volume = Ext4::open(MemoryDevice(bytes), &options()).unwrap();
    let error = volume.extents(ino).unwrap_err().to_string();
    assert!(error.contains("named twice"), "{error}");
    assert!(start.elapsed() < PATIENCE);
}

#[test]
fn superblock_with_impossible_numbers_is_refused() {
    let Some(sample) = samples().first() else { return };
    // Field, length, and a value that no volume has there.
    for (at, length, value) in [
        (0x00, 4, u64::from(u32::MAX)),
        (0x04, 4, u64::from(u32::MAX)),
        (0x14, 4, 2),
        (0x18, 4, 7),
        (0x18, 4, u64::from(u32::MAX)),
        (0x20, 4, 0),
        (0x20, 4, 1),
        (0x28, 4, 0),
        (0x58, 2, 0),
        (0x58, 2, 100),
        (0x58, 2, 2048),
        (0x60, 4, u64::from(u32::MAX)),
        (0xFE, 2, 7),
        (0x150, 4, 1),
    ] {
        let mut bytes = sample.clone();
        bytes[1024 + at..1024 + at + length].copy_from_slice(&value.to_le_bytes()[..length]);
        assert!(Ext4::open(MemoryDevice(bytes), &options()).is_err(), "{value} at {at:#x}");
    }
}

/// A device that fails in a range.
struct Failing {
    device: Arc<MemoryDevice>,
    from: u64,
    to: u64,
}

impl extents_core::BlockRead for Failing {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), extents_core::ReadError> {
        if offset < self.to && offset + to_u64(buf.len()) > self.from {
            return Err(extents_core::ReadError::io(offset, to_u64(buf.len())));
        }
        self.device.read_at(offset, buf)
    }

    fn size(&self) -> u64 {
        self.device.size()
    }
}

#[test]
fn device_that_fails_in_one_block_of_inodes_gives_all_others() {
    let Some(sample) = samples().last() else { return };
    let device = image::shared(sample.clone());
    let good = Ext4::open(Arc::clone(&device), &options()).unwrap();
    let file = find(&good, "file-10");
    // An inline file tells where its inode lies; here the map of a plain one does not, so fail everywhere in turn.
    let all: Vec<Ino> = (11..200).map(Ino).filter(|ino| good.metadata(*ino).is_ok()).collect();
    let mut lost_some = false;
    for block in 0..to_u64(sample.len()) / 1024 {
        let failing = Failing { device: Arc::clone(&device), from: block * 1024, to: block * 1024 + 1 };
        let Ok(volume) = Ext4::open(failing, &options()) else { continue };
        let lost: Vec<Ino> = all.iter().copied().filter(|ino| volume.metadata(*ino).is_err()).collect();
        // All inodes depend on the descriptors of their group, but otherwise only four share a block.
        if lost.contains(&file) && lost.len() < all.len() {
            lost_some = true;
            assert!(lost.len() <= 4, "{lost:?}");
        }
    }
    assert!(lost_some);
}
