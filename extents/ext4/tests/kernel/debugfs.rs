//! What the kernel here does not mount or cannot write: compared with the directory it was made from, or with
//! what debugfs and e2fsck say.

use std::fs::{self, File};
use std::path::Path;

use extents_core::{ExtentFlags, FileSystem, FileType, Flow, Ino, InodeFlags};
use extents_ext4::Ext4;

use crate::image::{self, Image};
use crate::populate;

/// The inode of a path, found name by name.
pub(crate) fn find(volume: &Ext4, path: &str) -> Ino {
    path.split('/').filter(|part| !part.is_empty()).fold(volume.root(), |dir, name| {
        volume.lookup(dir, name.as_bytes()).unwrap().unwrap_or_else(|| panic!("{name} of {path}"))
    })
}

/// All bytes of a file, as its map gives them.
pub(crate) fn read(volume: &Ext4, ino: Ino, image: &[u8]) -> Vec<u8> {
    let map = volume.extents(ino).unwrap();
    let mut bytes = vec![0; usize::try_from(map.size()).unwrap()];
    for run in map.runs(0, map.size()) {
        let target = &mut bytes[run.offset as usize..(run.offset + run.length) as usize];
        match (run.extent, run.physical()) {
            (Some(extent), _) if extent.flags.intersects(ExtentFlags::INLINE | ExtentFlags::ENCODED) => {
                volume.read_special(ino, &extent, run.offset, target).unwrap();
            }
            (Some(extent), Some(at)) if extent.is_plain() => {
                target.copy_from_slice(&image[at as usize..(at + run.length) as usize]);
            }
            _ => {}
        }
    }
    bytes
}

fn compare_with_source(volume: &Ext4, dir: Ino, source: &Path, image: &[u8]) -> usize {
    let mut compared = 0;
    for entry in fs::read_dir(source).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        let ino = volume.lookup(dir, name.as_encoded_bytes()).unwrap().unwrap_or_else(|| panic!("{name:?}"));
        compared += 1;
        let metadata = volume.metadata(ino).unwrap();
        match metadata.file_type {
            FileType::Directory => compared += compare_with_source(volume, ino, &entry.path(), image),
            FileType::Regular => {
                assert!(read(volume, ino, image) == fs::read(entry.path()).unwrap(), "{name:?}");
            }
            FileType::Symlink => {
                let target = fs::read_link(entry.path()).unwrap();
                assert_eq!(volume.read_link(ino).unwrap(), target.as_os_str().as_encoded_bytes());
            }
            other => panic!("{other:?}"),
        }
    }
    let mut listed = 0;
    volume
        .read_dir(dir, 0, &mut |entry| {
            listed += usize::from(!matches!(entry.name, b"." | b".." | b"lost+found"));
            Flow::Continue(())
        })
        .unwrap();
    assert_eq!(listed, fs::read_dir(source).unwrap().count());
    compared
}

/// A volume filled by mke2fs itself, with its directories indexed by e2fsck.
fn volume_of_block_size_agrees_with_its_source(block: u32, mib: u64) {
    let source = tempfile::tempdir().unwrap();
    fs::create_dir(source.path().join("many")).unwrap();
    for number in 0..3000 {
        let name = format!("many/a rather long name, so that several blocks are needed, number {number}");
        File::create(source.path().join(name)).unwrap();
    }
    for length in [0, 1, 60, 1000, 65_535, 65_536, 65_537, 700_000] {
        fs::write(source.path().join(format!("length-{length}")), populate::pattern(length, 8)).unwrap();
    }
    std::os::unix::fs::symlink("short", source.path().join("fast")).unwrap();
    std::os::unix::fs::symlink("s".repeat(900), source.path().join("slow")).unwrap();
    let arguments = format!("-b {block} -d {}", source.path().display());
    let Some(image) = Image::make(mib, &arguments) else { return };
    image.tool("e2fsck", &["-fyD"]);
    let dump = image.tool("debugfs", &["-R", "htree /many"]);
    assert!(dump.contains("Root node dump"), "{dump}");
    let compared = compare_with_source(&image.open(), Ino(2), source.path(), &image.bytes());
    assert_eq!(compared, 3011);
}

#[test]
fn volume_of_64k_blocks_agrees_with_its_source() {
    volume_of_block_size_agrees_with_its_source(65_536, 256);
}

#[test]
fn volume_of_16k_blocks_agrees_with_its_source() {
    volume_of_block_size_agrees_with_its_source(16_384, 128);
}

#[test]
fn volume_without_filetype_gives_no_types_in_directories() {
    let fill = |root: &Path| populate::many(&root.join("many"), 100);
    let Some(image) = image::filled(16, "-O ^filetype", fill) else { return };
    let volume = image.open();
    let mut names = 0;
    volume
        .read_dir(find(&volume, "many"), 0, &mut |entry| {
            names += 1;
            assert_eq!(entry.file_type, None);
            Flow::Continue(())
        })
        .unwrap();
    assert_eq!(names, 2 + 100 - 15);
}

#[test]
fn casefolded_directory_is_looked_up_without_regard_to_case() {
    let Some(image) = Image::make(16, "-O casefold -E encoding=utf8") else { return };
    let mut script = vec!["mkdir folded".to_owned(), "cd folded".to_owned()];
    script.extend((0..400).map(|number| format!("write /dev/null Größe-Number-{number}")));
    let script: Vec<&str> = script.iter().map(String::as_str).collect();
    image.debugfs(&script);
    // EXTENTS and CASEFOLD; e2fsck then builds the index over folded names.
    image.debugfs(&["set_inode_field folded flags 0x40080000"]);
    image.tool("e2fsck", &["-fyD"]);
    let dump = image.tool("debugfs", &["-R", "htree /folded"]);
    assert!(dump.contains("Root node dump"), "{dump}");
    let volume = image.open();
    let dir = find(&volume, "folded");
    assert!(volume.metadata(dir).unwrap().flags.contains(InodeFlags::CASEFOLD | InodeFlags::INDEXED));
    for number in 0..400 {
        let stored = volume.lookup(dir, format!("Größe-Number-{number}").as_bytes()).unwrap();
        assert!(stored.is_some(), "{number}");
        let folded = volume.lookup(dir, format!("GRÖSSE-nUMBER-{number}").as_bytes()).unwrap();
        assert_eq!(folded, stored, "{number}");
    }
    assert_eq!(volume.lookup(dir, "GRÖSSE-nUMBER-400".as_bytes()).unwrap(), None);
    assert_eq!(volume.lookup(volume.root(), b"FOLDED").unwrap(), None);
}

#[test]
fn verity_file_shows_its_data_and_hides_its_tree() {
    let bytes = populate::pattern(200_000, 12);
    let fill = |root: &Path| populate::write_synced(&root.join("protected"), &bytes);
    let Some(image) = image::filled(16, "-b 4096 -O verity", fill) else { return };
    // What follows the first 50,000 bytes stands for the Merkle tree, which lies behind the end of a file.
    image.debugfs(&["set_inode_field protected flags 0x180000", "set_inode_field protected size 50000"]);
    let volume = image.open();
    let ino = find(&volume, "protected");
    let (metadata, map) = volume.inspect(ino).unwrap();
    assert!(metadata.flags.contains(InodeFlags::VERITY));
    assert_eq!(map.iter().last().unwrap().end(), 53_248);
    assert!(read(&volume, ino, &image.bytes()) == bytes[..50_000]);
}

#[test]
fn project_id_set_by_debugfs_is_shown() {
    let fill = |root: &Path| populate::write_synced(&root.join("owned"), b"x");
    let Some(image) = image::filled(16, "-I 256", fill) else { return };
    image.tool("tune2fs", &["-O", "project"]);
    image.debugfs(&["set_inode_field owned projid 70001"]);
    let volume = image.open();
    assert_eq!(volume.metadata(find(&volume, "owned")).unwrap().project, 70_001);
}

#[test]
fn inodes_that_no_name_leads_to_are_not_in_use() {
    let fill = |root: &Path| {
        populate::many(&root.join("many"), 50);
        fs::write(root.join("gone"), b"x").unwrap();
        fs::remove_file(root.join("gone")).unwrap();
    };
    let Some(image) = image::filled(16, "-O orphan_file", fill) else { return };
    let volume = image.open();
    let inodes = volume.usage().unwrap().files;
    // The journal, the resize inode and their like; one past the end; the largest number.
    for ino in [0, 1, 3, 7, 8, 10, inodes - 1, inodes + 1, u64::MAX] {
        let error = volume.metadata(Ino(ino)).unwrap_err();
        assert!(matches!(error, extents_core::Error::NoSuchInode(_)), "{ino}: {error}");
    }
}
