//! The ways in which programs read.
#![allow(missing_docs, reason = "tests are documented by their names")]

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use anyhow::Result;
use mounts::{HomifsMount, image_of};
use oracle::{KernelMount, image::STALE, machine, skip_if};
use rustix::fs::{SeekFrom, seek};

const VOLUMES: [&str; 2] = ["ext4-default", "xfs-default"];

#[test]
fn unwritten_space_reads_as_zeros_though_the_media_holds_stale_bytes() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    for volume in VOLUMES {
        let (image, _) = image_of(volume)?;
        let homifs = HomifsMount::new(&image, "")?;
        let path = homifs.join("holes/unwritten-whole");
        let contents = fs::read(&path)?;
        assert_eq!(contents.len(), 64 * 4096);
        assert!(contents.iter().all(|&byte| byte == 0), "{volume}: stale bytes are shown");

        // The test proves something only if there is something else to be read.
        let mut value = vec![0; 64 << 10];
        let length = rustix::fs::getxattr(&path, "homi.extents", &mut value[..])?;
        let (_, mut entries) = homi_abi::extents::decode(&value[..length])?;
        let first = entries.next().expect("an extent");
        assert_eq!(first.flags.get(), homi_abi::extents::UNWRITTEN);
        let mut stale = [0; 4096];
        File::open(&image)?.read_exact_at(&mut stale, first.physical.get())?;
        assert_eq!(stale, [STALE; 4096], "{volume}");

        // A block of which a few bytes were written has zeros around them.
        let islands = fs::read(homifs.join("holes/unwritten-with-islands"))?;
        let block = &islands[120 * 4096..121 * 4096];
        assert!(block[..10].iter().chain(&block[15..]).all(|&byte| byte == 0), "{volume}");
        assert!(block[10..15].iter().all(|&byte| byte != 0), "{volume}");
    }
    Ok(())
}

#[test]
fn seek_data_and_hole_find_what_the_kernel_finds_from_every_block() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    for volume in VOLUMES {
        let (image, format) = image_of(volume)?;
        let (kernel, homifs) = (KernelMount::read_only(&image, format)?, HomifsMount::new(&image, "")?);
        for name in [
            "alternating",
            "unwritten-with-islands",
            "hole-in-the-middle",
            "empty-hole",
            "odd-hole",
            "unwritten-tail",
        ] {
            let [expected, found] =
                [kernel.path(), homifs.path()].map(|root| File::open(root.join("holes").join(name)));
            let (expected, found) = (expected?, found?);
            let size = expected.metadata()?.len();
            for at in (0..size + 4096).step_by(2048).chain([1, size - 1, size, size + 1]) {
                for place in [SeekFrom::Data(at), SeekFrom::Hole(at)] {
                    assert_eq!(seek(&found, place), seek(&expected, place), "{volume} {name} {place:?}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn direct_reads_at_odd_places_are_the_same_as_cached_ones() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    for volume in VOLUMES {
        let (image, _) = image_of(volume)?;
        let homifs = HomifsMount::new(&image, "")?;
        for name in ["whole-82020", "alternating", "unwritten-with-islands", "odd-hole"] {
            let path = homifs.join("holes").join(name);
            let cached = fs::read(&path)?;
            let direct = File::options().read(true).custom_flags(libc::O_DIRECT).open(&path)?;
            for offset in [0, 1, 511, 512, 4095, 4096, 5000, cached.len() / 2, cached.len() - 1, cached.len()]
            {
                for length in [1, 512, 4096, 4097, 100_000] {
                    let mut piece = vec![0xEE; length];
                    let read = direct.read_at(&mut piece, offset.try_into()?)?;
                    let expected = &cached[offset..cached.len().min(offset + length)];
                    assert!(&piece[..read] == expected, "{volume} {name}: {length} bytes from {offset}");
                }
            }
        }
    }
    Ok(())
}

#[test]
#[allow(unsafe_code, reason = "mapping a file is what this test is about")]
fn mapped_file_holds_what_read_gives() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let (image, _) = image_of("ext4-default")?;
    let homifs = HomifsMount::new(&image, "")?;
    for name in ["whole-82020", "alternating", "hole-in-the-middle"] {
        let file = File::open(homifs.join("holes").join(name))?;
        // SAFETY: nobody writes to a read-only mount while it is mapped.
        let map = unsafe { memmap2::Mmap::map(&file)? };
        let mut read = vec![0; map.len()];
        // From the end on, so that the map is filled by faults and not by read-ahead.
        assert!(map.iter().rev().fold(0_u64, |sum, &byte| sum.wrapping_add(byte.into())) > 0);
        file.read_exact_at(&mut read, 0)?;
        assert!(*map == *read, "{name}");
    }
    Ok(())
}

#[test]
fn two_readers_at_different_places_each_get_their_own() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let (image, format) = image_of("xfs-default")?;
    let (kernel, homifs) = (KernelMount::read_only(&image, format)?, HomifsMount::new(&image, "")?);
    let expected = fs::read(kernel.path().join("holes/alternating"))?;
    let path = homifs.join("holes/alternating");
    std::thread::scope(|scope| {
        let readers = [7919_usize, 104_729].map(|step| {
            let (path, expected) = (&path, &expected);
            scope.spawn(move || {
                let file = File::options().read(true).custom_flags(libc::O_DIRECT).open(path)?;
                for number in 0..500 {
                    let at = number * step % (expected.len() - 4096);
                    let mut piece = [0; 4096];
                    file.read_exact_at(&mut piece, at.try_into()?)?;
                    anyhow::ensure!(piece == expected[at..at + 4096], "4096 bytes at {at}");
                }
                Ok(())
            })
        });
        readers.into_iter().try_for_each(|reader| reader.join().expect("no panic"))
    })
}

#[test]
fn writing_is_refused_as_on_a_read_only_file_system() -> Result<()> {
    skip_if!(machine::cannot_mount_fuse());
    let (image, _) = image_of("ext4-default")?;
    let homifs = HomifsMount::new(&image, "")?;
    let read_only = |result: std::io::Result<()>| {
        assert_eq!(result.map_err(|error| error.raw_os_error()), Err(Some(libc::EROFS)));
    };
    let file = homifs.join("special/mode-0644");
    read_only(File::options().append(true).open(&file).map(drop));
    read_only(File::create(homifs.join("new")).map(drop));
    read_only(fs::create_dir(homifs.join("new")));
    read_only(fs::remove_file(&file));
    read_only(fs::rename(&file, homifs.join("new")));
    read_only(fs::hard_link(&file, homifs.join("new")));
    read_only(fs::set_permissions(&file, fs::metadata(&file)?.permissions()));
    Ok(())
}
