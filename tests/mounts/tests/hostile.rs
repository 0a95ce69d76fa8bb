//! Volumes that were made to harm: an error, quickly, and the mount lives on.
#![allow(missing_docs, reason = "tests are documented by their names")]

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mounts::HomifsMount;
use oracle::command::run;
use oracle::{machine, skip_if};

const QUICKLY: Duration = Duration::from_secs(10);

/// A small ext4 volume without checksums, so that lies are believed, with a file of several extents, a directory and
/// a file to see that the mount is well.
fn volume(folder: &Path) -> Result<PathBuf> {
    let image = folder.join("hostile.img");
    File::create(&image)?.set_len(16 << 20)?;
    let name = image.to_string_lossy();
    run("mkfs.ext4", ["-q", "-F", "-b", "1024", "-O", "^metadata_csum,^has_journal,^dir_index", &name])?;
    let source = folder.join("source");
    fs::create_dir_all(source.join("directory/below"))?;
    fs::write(source.join("well"), "well")?;
    fs::write(source.join("directory/file"), "file")?;
    let fragmented = File::create(source.join("fragmented"))?;
    for number in 0..100 {
        fragmented.write_all_at(&[number; 1024], u64::from(number) * 4096)?;
    }
    run(
        "mkfs.ext4",
        [
            "-q",
            "-F",
            "-b",
            "1024",
            "-O",
            "^metadata_csum,^has_journal,^dir_index",
            "-d",
            &source.to_string_lossy(),
            &name,
        ],
    )?;
    Ok(image)
}

fn debugfs(image: &Path, request: &str) -> Result<String> {
    run("debugfs", ["-w", "-R", request, &image.to_string_lossy()])
}

/// The block that the root of a file's extent tree leads to.
fn tree_block(image: &Path, file: &str) -> Result<u64> {
    let text = debugfs(image, &format!("ex {file}"))?;
    // " 0/ 1   1/  1     0 -   396   2121             397"
    let line =
        text.lines().find(|line| line.trim_start().starts_with("0/")).context("no index in the tree")?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let place = words.iter().rposition(|word| word.parse::<u64>().is_ok()).context("no number")?;
    Ok(words[place - 1].parse()?)
}

/// Reads everything below a directory, whatever happens, and says how many errors there were.
fn read_everything(directory: &Path, deep: usize) -> usize {
    let Ok(names) = fs::read_dir(directory) else { return 1 };
    names
        .map(|name| match name.and_then(|name| Ok((name.path(), name.file_type()?))) {
            Ok((path, kind)) if kind.is_dir() && deep > 0 => read_everything(&path, deep - 1),
            Ok((path, kind)) if kind.is_file() => usize::from(fs::read(path).is_err()),
            Ok(_) => 0,
            Err(_) => 1,
        })
        .sum()
}

fn assert_alive_and_quick(mount: &HomifsMount, since: Instant) {
    assert!(since.elapsed() < QUICKLY, "took {:?}", since.elapsed());
    assert_eq!(fs::read(mount.join("well")).expect("the mount lives on"), b"well");
}

#[test]
fn extent_tree_that_leads_to_itself_is_an_error_and_the_mount_lives() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let folder = tempfile::tempdir()?;
    let image = volume(folder.path())?;
    let block = tree_block(&image, "/fragmented")?;
    // An index node one level above the leaves whose only entry leads to the node itself.
    let mut node = Vec::new();
    for half in [0xF30A_u16, 1, 84, 1, 0, 0] {
        node.extend(half.to_le_bytes());
    }
    node.extend(0_u32.to_le_bytes());
    node.extend(u32::try_from(block)?.to_le_bytes());
    node.extend([0; 4]);
    File::options().write(true).open(&image)?.write_all_at(&node, block * 1024)?;
    let mount = HomifsMount::new(&image, "")?;
    let started = Instant::now();
    let error = fs::read(mount.join("fragmented")).expect_err("there is no way to the bytes");
    assert!(matches!(error.raw_os_error(), Some(libc::EIO | libc::EUCLEAN)), "{error}");
    assert_alive_and_quick(&mount, started);
    Ok(())
}

#[test]
fn directory_that_holds_itself_ends_and_the_mount_lives() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let folder = tempfile::tempdir()?;
    let image = volume(folder.path())?;
    debugfs(&image, "unlink /directory/below")?;
    debugfs(&image, "ln /directory /directory/below")?;
    let mount = HomifsMount::new(&image, "")?;
    let started = Instant::now();
    read_everything(mount.path(), 30);
    assert_alive_and_quick(&mount, started);
    Ok(())
}

#[test]
fn entry_of_length_zero_is_an_error_and_the_mount_lives() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let folder = tempfile::tempdir()?;
    let image = volume(folder.path())?;
    let block: u64 = debugfs(&image, "blocks /directory")?.trim().parse()?;
    File::options().write(true).open(&image)?.write_all_at(&[0, 0], block * 1024 + 4)?;
    let mount = HomifsMount::new(&image, "")?;
    let started = Instant::now();
    assert!(
        fs::read_dir(mount.join("directory")).is_err_and(|_| true)
            || fs::read_dir(mount.join("directory"))?.any(|name| name.is_err())
    );
    assert_alive_and_quick(&mount, started);
    Ok(())
}

#[test]
fn file_of_absurd_size_reads_to_an_end_or_an_error() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let folder = tempfile::tempdir()?;
    let image = volume(folder.path())?;
    debugfs(&image, "sif /directory/file size 0x7fffffffffffffff")?;
    debugfs(&image, "sif /directory/below links_count 65535")?;
    let mount = HomifsMount::new(&image, "")?;
    let started = Instant::now();
    if let Ok(file) = File::open(mount.join("directory/file")) {
        let mut piece = [0; 4096];
        for offset in [0, 4096, 1 << 40, i64::MAX as u64 - 5000] {
            let _ = file.read_at(&mut piece, offset);
        }
    }
    assert_alive_and_quick(&mount, started);
    Ok(())
}

#[test]
fn truncated_image_is_refused_or_answers_with_errors() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let folder = tempfile::tempdir()?;
    for size in [512, 1024, 1500, 2048, 4096, 65_536, 1 << 20, 5 << 20, 15 << 20] {
        let image = volume(folder.path())?;
        File::options().write(true).open(&image)?.set_len(size)?;
        let started = Instant::now();
        // Either is right, as long as it is quick and one line.
        match HomifsMount::new(&image, "") {
            Ok(mount) => drop(read_everything(mount.path(), 10)),
            Err(error) => assert_eq!(error.to_string().lines().count(), 1, "{error}"),
        }
        assert!(started.elapsed() < QUICKLY, "{size} bytes took {:?}", started.elapsed());
        fs::remove_dir_all(folder.path().join("source"))?;
    }
    Ok(())
}

#[test]
fn damage_anywhere_in_the_metadata_never_ends_the_daemon() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let folder = tempfile::tempdir()?;
    let image = volume(folder.path())?;
    let healthy = fs::read(&image)?;
    // A simple generator: the same damage each time.
    let mut state = 0x1234_5678_9ABC_DEF0_u64;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap_or_default() % below
    };
    for round in 0..25 {
        let mut bytes = healthy.clone();
        for _ in 0..200 {
            // Superblock and descriptors are spared, or nothing would be mounted.
            let place = 8192 + next(2 << 20);
            bytes[place] = u8::try_from(next(256))?;
        }
        fs::write(&image, &bytes)?;
        let started = Instant::now();
        let Ok(mut mount) = HomifsMount::new(&image, "") else { continue };
        read_everything(mount.path(), 6);
        assert!(started.elapsed() < QUICKLY, "round {round} took {:?}", started.elapsed());
        assert!(fs::metadata(mount.join(".homi/stats")).is_ok(), "round {round}: {}", mount.daemon().said());
    }
    Ok(())
}
