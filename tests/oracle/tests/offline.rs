//! Volumes that the kernel here may be unable to mount: filled by the formats' own tools from a folder, and compared
//! with that folder and with what `debugfs` and `xfs_db` say.
#![allow(missing_docs, reason = "tests are documented by their names")]

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, ensure};
use extents_volume::VolumeOptions;
use oracle::command::run;
use oracle::{Image, Name, Piece, Tree, machine, mounted_tree, parsed_tree, skip_if};

/// A folder with what the tools can carry over: files of many sizes, holes, links, many names.
fn source(root: &Path, longest_link: usize) -> Result<()> {
    for size in [0_usize, 1, 59, 61, 511, 4095, 4096, 4097, 65_535, 65_536, 300_000] {
        let bytes: Vec<u8> = (0..size).map(|at| u8::try_from(at * 7 % 251).unwrap_or_default() + 1).collect();
        fs::write(root.join(format!("file-{size}")), bytes)?;
    }
    let sparse = File::create(root.join("sparse"))?;
    for number in 0..10 {
        sparse.write_all_at(&[7; 70_000], number * 262_144)?;
    }
    fs::create_dir_all(root.join("directory/below"))?;
    for number in 0..700 {
        fs::write(root.join(format!("directory/name-{number:04}-{}", "x".repeat(number % 90))), b"")?;
    }
    fs::hard_link(root.join("file-4097"), root.join("directory/below/again"))?;
    for length in [1, 59, 60, 61, 150, 500, 1000].into_iter().filter(|&length| length <= longest_link) {
        symlink("t".repeat(length), root.join(format!("link-{length}")))?;
    }
    Ok(())
}

fn parse(image: &Path) -> Result<Tree> {
    let device = Arc::new(Image::open(image)?);
    let opened = extents_volume::open(device.clone(), &VolumeOptions::default())?;
    parsed_tree(&*opened.fs, &*device)
}

/// Names, types, modes, sizes, links and bytes; what the tools do not carry over is left out.
fn same_as_folder(folder: &Tree, found: &Tree) -> Result<()> {
    ensure!(found.oddities.is_empty(), "{:?}", found.oddities);
    let names = |tree: &Tree| -> Vec<Name> {
        tree.entries.keys().filter(|name| name.0 != b"lost+found").cloned().collect()
    };
    assert_eq!(names(found), names(folder));
    for (name, entry) in &folder.entries {
        let (expected, other) = (&entry.stat, &found.entries[name].stat);
        assert_eq!(other.mode & 0o170_000, expected.mode & 0o170_000, "{name:?}");
        if expected.mode & 0o170_000 == 0o040_000 {
            continue;
        }
        assert_eq!(other.size, expected.size, "{name:?}");
        let (one, two) = (&folder.inodes[&expected.ino], &found.inodes[&other.ino]);
        assert_eq!(two.link, one.link, "{name:?}");
        let digests = |kept: &oracle::Kept| kept.contents.as_ref().map(|contents| contents.digests.clone());
        assert_eq!(digests(two), digests(one), "{name:?}");
    }
    Ok(())
}

/// The blocks of a file as `debugfs` lists them: block of the file, block of the volume.
fn debugfs_blocks(image: &Path, path: &str) -> Result<Vec<(u64, u64)>> {
    let text = run("debugfs", ["-R", &format!("ex {path}"), &image.to_string_lossy()])?;
    // " 0/ 0   1/ 10     0 -     1   1234 -   1235      2 ": logical range, physical range, length.
    let mut blocks = Vec::new();
    for line in text.lines().skip(1) {
        let numbers: Vec<u64> =
            line.replace(['-', '/'], " ").split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [depth, deepest, _, _, first, _, place, _, length] = numbers[..] else { continue };
        if depth == deepest {
            blocks.extend((0..length).map(|number| (first + number, place + number)));
        }
    }
    Ok(blocks)
}

fn blocks_of(pieces: &[Piece], block: u64) -> Vec<(u64, u64)> {
    let each = |piece: &Piece| {
        let (logical, physical) = (piece.logical / block, piece.physical / block);
        (0..piece.length / block).map(move |number| (logical + number, physical + number))
    };
    pieces.iter().flat_map(each).collect()
}

#[test]
fn ext4_of_every_block_size_agrees_with_the_folder_it_was_made_from_and_with_debugfs() -> Result<()> {
    skip_if!(machine::cannot_mount());
    let folder = tempfile::tempdir()?;
    let tree = folder.path().join("source");
    fs::create_dir(&tree)?;
    source(&tree, 1000)?;
    let expected = mounted_tree(&tree)?;
    for (block, features) in [
        (1024_u64, "casefold,encrypt"),
        (4096, "casefold,verity"),
        (8192, "metadata_csum"),
        (16_384, "inline_data"),
        (32_768, "^metadata_csum"),
        (65_536, "metadata_csum,inline_data"),
        (65_536, "^dir_index,^has_journal"),
    ] {
        let image = folder.path().join("volume.img");
        File::create(&image)?.set_len(192 << 20)?;
        let (size, name) = (block.to_string(), image.to_string_lossy());
        let arguments = ["-q", "-F", "-b", &size, "-O", features, "-d", &tree.to_string_lossy(), &name];
        run("mkfs.ext4", arguments)?;
        let found = parse(&image)?;
        same_as_folder(&expected, &found)?;
        for path in ["sparse", "file-300000", "file-65536"] {
            let inode = found.entries[&Name(path.into())].stat.ino;
            let contents = found.inodes[&inode].contents.as_ref().expect("a regular file");
            let map = contents.map.as_ref().expect("a map").as_ref().expect("readable");
            let listed = debugfs_blocks(&image, &format!("/{path}"))?;
            assert!(!listed.is_empty(), "debugfs lists nothing of {path}");
            assert_eq!(blocks_of(map, block), listed, "{features}, blocks of {block}: {path}");
        }
    }
    Ok(())
}

/// A prototype file of `mkfs.xfs -p` for a folder: the syntax of `mkfs.xfs(8)`.
fn prototype(folder: &Path, depth: usize) -> Result<String> {
    let mut text = String::new();
    let mut entries: Vec<_> = fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (name, path) = (entry.file_name(), entry.path());
        let (name, indent) = (name.to_string_lossy().into_owned(), " ".repeat(depth));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            text += &format!("{indent}{name} d--755 0 0\n{}{indent}$\n", prototype(&path, depth + 1)?);
        } else if kind.is_symlink() {
            text += &format!("{indent}{name} l--777 0 0 {}\n", fs::read_link(&path)?.display());
        } else {
            text += &format!("{indent}{name} ---644 0 0 {}\n", path.display());
        }
    }
    Ok(text)
}

#[test]
fn xfs_version_4_agrees_with_the_folder_it_was_made_from() -> Result<()> {
    skip_if!(machine::cannot_mount());
    let volumes = [
        &["-m", "crc=0"][..],
        &["-m", "crc=0", "-b", "size=512"],
        &["-m", "crc=0", "-n", "ftype=1", "-b", "size=1024"],
        &[
            "-m",
            "crc=0",
            "-n",
            "ftype=0,size=32768",
            "-i",
            "size=512,attr=1,projid32bit=0",
            "-l",
            "lazy-count=0",
        ],
    ];
    xfs_agrees_with_folder(&volumes, 1000)
}

#[test]
fn xfs_version_5_of_unusual_sizes_agrees_with_the_folder_it_was_made_from() -> Result<()> {
    skip_if!(machine::cannot_mount());
    let volumes = [
        &["-b", "size=65536"][..],
        &["-b", "size=32768", "-s", "size=32768", "-n", "size=65536"],
        &["-n", "version=ci"],
    ];
    // mkfs.xfs before 6.10 writes longer links from a prototype without their header, which no reader accepts.
    xfs_agrees_with_folder(&volumes, 150)
}

fn xfs_agrees_with_folder(volumes: &[&[&str]], longest_link: usize) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let tree = folder.path().join("source");
    fs::create_dir(&tree)?;
    source(&tree, longest_link)?;
    let expected = mounted_tree(&tree)?;
    let prototype_file = folder.path().join("prototype");
    fs::write(&prototype_file, format!("/\n0 0\nd--755 0 0\n{}$\n", prototype(&tree, 1)?))?;
    for arguments in volumes {
        let image = folder.path().join("volume.img");
        let _ = fs::remove_file(&image);
        File::create(&image)?.set_len(512 << 20)?;
        let fixed = ["-q", "-f", "-K", "-p", &prototype_file.to_string_lossy()].map(str::to_owned);
        let all = fixed.iter().map(String::as_str).chain(arguments.iter().copied());
        let image_name = image.to_string_lossy();
        run("mkfs.xfs", all.chain([&*image_name]))?;
        let found = parse(&image).map_err(|error| error.context(format!("{arguments:?}")))?;
        same_as_folder(&expected, &found)?;
        xfs_db_agrees(&image, &found)?;
    }
    Ok(())
}

/// Inode, size and number of blocks as `xfs_db` prints them from the inode itself.
fn xfs_db_agrees(image: &Path, found: &Tree) -> Result<()> {
    for path in ["file-300000", "sparse", "link-60", "directory"] {
        let stat = &found.entries[&Name(path.into())].stat;
        let inode = format!("inode {}", stat.ino);
        let text = run(
            "xfs_db",
            ["-r", "-c", &inode, "-c", "print core.size core.nlinkv2", &image.to_string_lossy()],
        )?;
        assert!(text.contains(&format!("core.size = {}\n", stat.size)), "{path}: {text}");
    }
    Ok(())
}
