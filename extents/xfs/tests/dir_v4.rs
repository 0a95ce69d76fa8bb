//! Directories of version 4, which this kernel cannot mount: mkfs.xfs fills them, xfs_db tells what is in them.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;

use extents_core::{FileSystem, FileType, Flow, Ino};
use extents_xfs::Xfs;
use support::{Image, can_make};

const COUNTS: [usize; 9] = [0, 1, 7, 30, 90, 400, 1500, 4000, 9000];

fn entry_name(number: usize) -> String {
    let length = 1 + number * 7 % 60;
    let mut name = format!("{number:x}-");
    while name.len() < length {
        name.push(char::from(b'a' + (number * name.len() % 26) as u8));
    }
    name
}

/// A volume with a directory for each of the counts, and one of each type of file.
fn make(arguments: &[&str]) -> Image {
    let folder = tempfile::TempDir::new().unwrap();
    let source = folder.path().join("empty");
    fs::write(&source, b"").unwrap();
    let prototype = folder.path().join("prototype");
    let mut file = std::io::BufWriter::new(fs::File::create(&prototype).unwrap());
    writeln!(file, "/dev/null\n0 0\nd--755 0 0").unwrap();
    for count in COUNTS {
        writeln!(file, "names-{count} d--755 0 0").unwrap();
        for number in 0..count {
            match number % 50 {
                3 => writeln!(file, "{} l--777 0 0 target-of-it", entry_name(number)),
                7 => writeln!(file, "{} p--600 0 0", entry_name(number)),
                9 => writeln!(file, "{} b--600 0 0 8 1", entry_name(number)),
                _ => writeln!(file, "{} ---644 0 0 {}", entry_name(number), source.display()),
            }
            .unwrap();
        }
        writeln!(file, "$").unwrap();
    }
    writeln!(file, "$").unwrap();
    file.into_inner().unwrap();
    Image::make("1G", &[arguments, &["-p", prototype.to_str().unwrap()]].concat())
}

/// What `ls` of xfs_db prints for a directory: name to position, inode and type.
fn listing(image: &Image, path: &str) -> BTreeMap<String, (u64, u64, String)> {
    let text = image.xfs_db(&[&format!("path {path}"), "ls"]);
    text.lines()
        .map(|line| {
            let mut words = line.split_whitespace();
            let mut word = || words.next().unwrap().to_owned();
            let (position, ino, kind, _hash, _length, name) =
                (word(), word(), word(), word(), word(), word());
            (name, (position.parse().unwrap(), ino.parse().unwrap(), kind))
        })
        .collect()
}

fn type_name(file_type: FileType) -> &'static str {
    match file_type {
        FileType::Regular => "regular",
        FileType::Directory => "directory",
        FileType::Symlink => "symlink",
        FileType::Fifo => "fifo",
        FileType::CharDevice => "chardev",
        FileType::BlockDevice => "blkdev",
        FileType::Socket => "socket",
    }
}

fn check_directory(volume: &Xfs, image: &Image, path: &str, has_types: bool) -> usize {
    let theirs = listing(image, path);
    let ino = Ino(theirs["."].1);
    let mut ours = BTreeMap::new();
    let mut keep = |entry: extents_core::DirEntry<'_>| {
        let name = String::from_utf8(entry.name.to_vec()).unwrap();
        match entry.file_type {
            Some(file_type) if has_types => {
                assert_eq!(type_name(file_type), theirs[&name].2, "{path}/{name}");
            }
            // What lies within an inode has these two not stored, so that their type is known.
            Some(_) => assert!(matches!(entry.name, b"." | b"..")),
            None => assert!(!has_types),
        }
        ours.insert(name, (entry.next - 1, entry.ino.0));
        Flow::Continue(())
    };
    volume.read_dir(ino, 0, &mut keep).unwrap();
    // For a short directory xfs_db prints where an entry is, for others where it ends.
    let is_short = theirs["."].0 == ours["."].0;
    let size =
        |name: &str| if is_short { 0 } else { (9 + name.len() + usize::from(has_types) + 2).div_ceil(8) };
    let ends: BTreeMap<_, _> =
        ours.iter().map(|(name, &(at, ino))| (name.clone(), (at + size(name) as u64, ino))).collect();
    let expected: BTreeMap<_, _> =
        theirs.iter().map(|(name, (at, ino, _))| (name.clone(), (*at, *ino))).collect();
    assert!(ends == expected, "{path}");
    for (name, (_, there)) in &ours {
        assert_eq!(volume.lookup(ino, name.as_bytes()).unwrap(), Some(Ino(*there)), "{path}/{name}");
        assert_eq!(volume.lookup(ino, format!("{name}+").as_bytes()).unwrap(), None);
    }
    ours.len() - 2
}

fn check(arguments: &[&str], has_types: bool) {
    if !can_make() {
        return;
    }
    let image = make(&[&["-m", "crc=0"], arguments].concat());
    let volume = image.open();
    assert_eq!(volume.info().version, 4);
    assert_eq!(check_directory(&volume, &image, "/", has_types), COUNTS.len());
    for count in COUNTS {
        let names = check_directory(&volume, &image, &format!("/names-{count}"), has_types);
        assert_eq!(names, count);
    }
}

#[test]
fn read_and_lookup_v4_equals_xfs_db() {
    check(&["-n", "ftype=0"], false);
}

#[test]
fn read_and_lookup_v4_with_types_equals_xfs_db() {
    check(&["-n", "ftype=1"], true);
}

#[test]
fn read_and_lookup_v4_512_byte_blocks_equals_xfs_db() {
    check(&["-b", "size=512", "-n", "ftype=0"], false);
}

#[test]
fn read_and_lookup_v4_512_byte_blocks_8k_directory_blocks_equals_xfs_db() {
    check(&["-b", "size=512", "-n", "size=8k,ftype=0"], false);
}

#[test]
fn read_and_lookup_v4_64k_blocks_equals_xfs_db() {
    check(&["-b", "size=64k"], true);
}

#[test]
fn read_and_lookup_v4_256_byte_inodes_64k_directory_blocks_equals_xfs_db() {
    check(&["-i", "size=256", "-n", "size=64k"], true);
}

#[test]
fn lookup_on_volume_that_ignores_case_finds_names_in_any_case() {
    if !can_make() {
        return;
    }
    let image = make(&["-m", "crc=0", "-n", "version=ci,ftype=0"]);
    let volume = image.open();
    for count in COUNTS {
        let path = format!("/names-{count}");
        assert_eq!(check_directory(&volume, &image, &path, false), count);
        let directory = volume.lookup(volume.root(), path[1..].to_uppercase().as_bytes()).unwrap().unwrap();
        for (name, (_, ino, _)) in listing(&image, &path) {
            let other = name.to_uppercase();
            assert_eq!(volume.lookup(directory, other.as_bytes()).unwrap(), Some(Ino(ino)), "{other}");
        }
    }
    let exact = make(&["-m", "crc=0"]).open();
    assert_eq!(exact.lookup(exact.root(), b"NAMES-7").unwrap(), None);
}
