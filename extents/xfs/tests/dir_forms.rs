//! Directories of every form and size, made by the kernel and compared with its own listing.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirEntryExt, FileTypeExt, MetadataExt};
use std::path::Path;

use extents_core::{FileSystem, FileType, Flow, Ino};
use extents_xfs::Xfs;
use support::{Image, can_mount};

/// `xfs_da_hashname`, written anew from its description so that collisions can be made.
fn hash(name: &[u8]) -> u32 {
    name.iter().fold(0, |hash: u32, &byte| hash.rotate_left(7) ^ u32::from(byte))
}

/// Names that all have one hash: the last five bytes of each are chosen so that they undo the rest.
fn colliding_names(count: usize) -> Vec<Vec<u8>> {
    let mut names = BTreeSet::new();
    let mut number = 0_u64;
    while names.len() < count {
        number += 1;
        let mut name = format!("collision-{number:08}-").into_bytes();
        let rest = hash(&name).rotate_left(35 % 32) ^ 0x4d59_3c21;
        // Each byte lands 7 bits above the next one; the top one wraps round.
        for shift in [28, 21, 14, 7, 0] {
            name.push((rest >> shift & 0x7f) as u8);
        }
        if hash(&name) == 0x4d59_3c21 && !name.iter().any(|&byte| byte == b'/' || byte == 0) {
            names.insert(name);
        }
    }
    names.into_iter().collect()
}

fn make(directory: &Path, names: impl IntoIterator<Item = Vec<u8>>) {
    fs::create_dir_all(directory).unwrap();
    for name in names {
        File::create(directory.join(OsStr::from_bytes(&name))).unwrap();
    }
}

/// Bytes that look like noise, with nothing that a name cannot have.
fn odd_name(seed: usize, length: usize) -> Vec<u8> {
    let mut state = (seed as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut name: Vec<u8> = (0..length)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            match (state >> 33) as u8 {
                0 | b'/' => b'x',
                byte => byte,
            }
        })
        .collect();
    if matches!(name.as_slice(), b"." | b"..") {
        name[0] = b'y';
    }
    name
}

/// The kernel's listing in its own order: name, inode, type.
fn kernel_listing(directory: &Path) -> Vec<(Vec<u8>, u64, FileType)> {
    fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            let file_type = match kind {
                _ if kind.is_dir() => FileType::Directory,
                _ if kind.is_file() => FileType::Regular,
                _ if kind.is_symlink() => FileType::Symlink,
                _ if kind.is_fifo() => FileType::Fifo,
                _ if kind.is_char_device() => FileType::CharDevice,
                _ if kind.is_block_device() => FileType::BlockDevice,
                _ => FileType::Socket,
            };
            (entry.file_name().as_bytes().to_vec(), entry.ino(), file_type)
        })
        .collect()
}

/// Our listing, read anew after every `step` names.
fn our_listing(volume: &Xfs, directory: Ino, step: usize) -> Vec<(Vec<u8>, u64, FileType)> {
    let mut listing = Vec::new();
    let mut from = 0;
    loop {
        let mut left = step;
        volume
            .read_dir(directory, from, &mut |entry| {
                assert!(entry.next > from, "positions go on");
                from = entry.next;
                listing.push((entry.name.to_vec(), entry.ino.0, entry.file_type.unwrap()));
                left -= 1;
                if left == 0 { Flow::Break(()) } else { Flow::Continue(()) }
            })
            .unwrap();
        if left > 0 {
            return listing;
        }
    }
}

/// Compares a directory with the kernel's view of it: order, names, inodes and types, in one go and in pieces,
/// and a lookup of each name.
fn compare(volume: &Xfs, path: &Path, steps: &[usize]) -> usize {
    let ino = Ino(fs::symlink_metadata(path).unwrap().ino());
    let is_root = ino == volume.root();
    let parent = if is_root { ino.0 } else { fs::symlink_metadata(path.join("..")).unwrap().ino() };
    let theirs = kernel_listing(path);
    for &step in steps {
        let ours = our_listing(volume, ino, step);
        assert_eq!(ours[0], (b".".to_vec(), ino.0, FileType::Directory), "{}", path.display());
        assert_eq!(ours[1], (b"..".to_vec(), parent, FileType::Directory), "{}", path.display());
        assert_eq!(ours.len() - 2, theirs.len(), "number of names in {}", path.display());
        assert!(ours[2..] == theirs, "names of {} in steps of {step}", path.display());
    }
    for (name, theirs, _) in &theirs {
        assert_eq!(volume.lookup(ino, name).unwrap(), Some(Ino(*theirs)), "{}", name.escape_ascii());
        let mut absent = name.clone();
        *absent.last_mut().unwrap() ^= 1;
        let there = fs::symlink_metadata(path.join(OsStr::from_bytes(&absent))).ok().map(|s| Ino(s.ino()));
        if !absent.contains(&b'/') && !absent.contains(&0) {
            assert_eq!(volume.lookup(ino, &absent).unwrap(), there, "{}", absent.escape_ascii());
        }
    }
    assert_eq!(volume.lookup(ino, b".").unwrap(), Some(ino));
    assert_eq!(volume.lookup(ino, b"..").unwrap(), Some(Ino(parent)));
    assert_eq!(volume.lookup(ino, b"").unwrap(), None);
    assert_eq!(volume.lookup(ino, &[b'n'; 256]).unwrap(), None);
    theirs.len()
}

/// What `xfs_db` calls the blocks of a directory.
fn forms(image: &Image, path: &Path) -> BTreeSet<String> {
    let ino = fs::symlink_metadata(path).unwrap().ino().to_string();
    let text = image.xfs_db(&[&format!("inode {ino}"), "print core.format", "bmap"]);
    let mut forms = BTreeSet::new();
    if text.contains("(local)") {
        forms.insert("short".to_owned());
    }
    for (space, at) in [("data", 0_u64), ("leaf", 1 << 35), ("free", 2 << 35)] {
        let block = at / u64::from(image.open().info().block_size);
        for line in text.lines().filter(|line| line.starts_with("data offset ")) {
            let start: u64 = line.split_whitespace().nth(2).unwrap().parse().unwrap();
            if start == block {
                forms.insert(space.to_owned());
            }
        }
    }
    forms
}

fn check(size: &str, arguments: &[&str]) {
    if !can_mount() {
        return;
    }
    let image = Image::make(size, arguments);
    {
        let mount = image.mount("rw");
        let root = mount.path();
        for count in [0, 1, 2, 3, 5, 9, 17, 33, 60, 100, 180, 260, 500, 1000, 4000] {
            make(&root.join(format!("plain-{count}")), (0..count).map(|n| format!("name-{n}").into_bytes()));
            let emptied = root.join(format!("emptied-{count}"));
            make(&emptied, (0..count).map(|n| odd_name(n, 1 + n % 255)));
            for (place, entry) in fs::read_dir(&emptied).unwrap().enumerate().collect::<Vec<_>>() {
                if place % 3 != 1 {
                    fs::remove_file(entry.unwrap().path()).unwrap();
                }
            }
        }
        make(&root.join("lengths"), (1..=255).map(|length| odd_name(length + 77, length)));
        make(&root.join("longest"), (0..1500).map(|n| odd_name(n, 255)));
        for count in [2, 20, 300, 3000] {
            make(&root.join(format!("collisions-{count}")), colliding_names(count));
        }
        let types = root.join("types");
        make(&types, [b"regular".to_vec()]);
        for (program, arguments) in [
            ("mknod", &["char", "c", "1", "3"][..]),
            ("mknod", &["block", "b", "7", "0"]),
            ("mkfifo", &["fifo"]),
            ("ln", &["-s", "target", "link"]),
            ("mkdir", &["directory"]),
        ] {
            let done = std::process::Command::new(program).args(arguments).current_dir(&types).status();
            assert!(done.unwrap().success());
        }
        drop(std::os::unix::net::UnixListener::bind(types.join("socket")).unwrap());
    }
    let mount = image.mount("ro");
    let volume = image.open();
    let mut seen: BTreeMap<BTreeSet<String>, usize> = BTreeMap::new();
    for entry in fs::read_dir(mount.path()).unwrap() {
        let path = entry.unwrap().path();
        compare(&volume, &path, &[usize::MAX, 1, 7]);
        *seen.entry(forms(&image, &path)).or_default() += 1;
    }
    compare(&volume, mount.path(), &[usize::MAX, 3]);
    let all: BTreeSet<String> = seen.keys().flatten().cloned().collect();
    assert!(all.contains("short") && all.contains("data") && all.contains("leaf"), "{seen:?}");
    println!("{arguments:?}: {seen:?}");
}

macro_rules! geometries {
    ($($name:ident: $size:literal $arguments:expr;)*) => {$(
        #[test]
        fn $name() {
            check($size, &$arguments);
        }
    )*};
}

geometries! {
    read_and_lookup_default_volume_equals_kernel: "400M" [];
    read_and_lookup_1k_blocks_4k_directory_blocks_equals_kernel: "400M" ["-b", "size=1k", "-n", "size=4k"];
    read_and_lookup_1k_blocks_64k_directory_blocks_equals_kernel: "400M" ["-b", "size=1k", "-n", "size=64k"];
    read_and_lookup_2k_blocks_8k_directory_blocks_equals_kernel: "400M" ["-b", "size=2k", "-n", "size=8k"];
    read_and_lookup_16k_directory_blocks_equals_kernel: "400M" ["-n", "size=16k"];
    read_and_lookup_32k_directory_blocks_equals_kernel: "400M" ["-n", "size=32k"];
    read_and_lookup_64k_directory_blocks_equals_kernel: "400M" ["-n", "size=64k"];
    read_and_lookup_small_inodes_equals_kernel: "400M" ["-i", "size=512,sparse=0"];
    read_and_lookup_large_inodes_equals_kernel: "400M" ["-i", "size=2048"];
}

/// Directory blocks whose parts lie in several places, since no free room is large enough.
#[test]
fn read_and_lookup_scattered_directory_blocks_equals_kernel() {
    if !can_mount() {
        return;
    }
    let image = Image::make("64M", &["--unsupported", "-b", "size=1k", "-n", "size=8k", "-l", "size=10m"]);
    {
        let mount = image.mount("rw");
        let small = |number: usize| mount.path().join(format!("small-{number}"));
        let folder = |number: usize| mount.path().join(format!("scattered-{number}"));
        let mut made = 0;
        // A block for each file, until the volume is full; then every second one is free again.
        while fs::write(small(made), [1; 1024]).is_ok() {
            made += 1;
        }
        support::run("sync", &["-f", mount.path().to_str().unwrap()]);
        for number in (0..=made).step_by(2) {
            let _ = fs::remove_file(small(number));
        }
        // Directories first take what larger room is left, and then what there is.
        let target = folder(0);
        make(&target, [b"target".to_vec()]);
        for number in 1..60 {
            fs::create_dir(folder(number)).unwrap();
            for name in (0..800).map(|n| odd_name(n, 150 + n % 100)) {
                let link = folder(number).join(OsStr::from_bytes(&name));
                if fs::hard_link(target.join("target"), link).is_err() {
                    break;
                }
            }
        }
    }
    let mount = image.mount("ro");
    let volume = image.open();
    let mut scattered = 0;
    for entry in fs::read_dir(mount.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            compare(&volume, &path, &[usize::MAX, 5]);
            let inode = format!("inode {}", fs::metadata(&path).unwrap().ino());
            let text = image.xfs_db(&[&inode, "print core.nblocks core.nextents"]);
            let number = |line: usize| -> u64 {
                text.lines().nth(line).unwrap().rsplit(' ').next().unwrap().parse().unwrap()
            };
            // Of eight blocks each; with more extents than half as many blocks, some are in pieces.
            scattered += usize::from(number(0) > 100 && number(1) * 2 > number(0));
        }
    }
    assert!(scattered > 0);
}
