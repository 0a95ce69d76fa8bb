//! Fills a mounted volume with everything that a file system can hold.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FallocateFlags, FileType, Mode, Timespec, Timestamps, XattrFlags};

/// Everything at once, scaled to small volumes.
pub(crate) fn everything(root: &Path) {
    names(&root.join("names"));
    deep(&root.join("deep"));
    files(&root.join("files"));
    links(&root.join("links"));
    specials(&root.join("specials"));
    xattrs(&root.join("xattrs"));
    times(&root.join("times"));
    many(&root.join("many"), 2000);
}

/// Bytes that differ from place to place.
pub(crate) fn pattern(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .collect()
}

/// Odd names, and entries deleted between others.
fn names(dir: &Path) {
    fs::create_dir(dir).unwrap();
    for length in [1, 2, 3, 4, 5, 100, 254, 255] {
        fs::write(dir.join("x".repeat(length)), length.to_string()).unwrap();
    }
    for bytes in [&b"\xff\xfe\x80"[..], b"new\nline", b" ", b"...", b"\x01", "größe".as_bytes()] {
        fs::write(dir.join(OsStr::from_bytes(bytes)), b"odd").unwrap();
    }
    for number in 0..60 {
        fs::write(dir.join(format!("victim-{number:03}")), b"v").unwrap();
    }
    for number in (0..60).filter(|number| number % 3 != 0) {
        fs::remove_file(dir.join(format!("victim-{number:03}"))).unwrap();
    }
    fs::create_dir(dir.join("empty directory")).unwrap();
}

fn deep(dir: &Path) {
    fs::create_dir(dir).unwrap();
    let mut at = dir.to_path_buf();
    for level in 0..40 {
        at = at.join(format!("level {level}"));
        fs::create_dir(&at).unwrap();
        fs::write(at.join("here"), pattern(level * 11, 7)).unwrap();
    }
}

fn files(dir: &Path) {
    fs::create_dir(dir).unwrap();
    for length in
        [0, 1, 59, 60, 61, 100, 127, 150, 159, 160, 161, 200, 1023, 1024, 1025, 4095, 4096, 4097, 70_000]
    {
        fs::write(dir.join(format!("length-{length}")), pattern(length, length as u64)).unwrap();
    }
    let hole = File::create(dir.join("holes")).unwrap();
    for at in [0_u64, 1 << 16, (1 << 20) + 5, 5 << 20, (1 << 32) + 77] {
        hole.write_all_at(&pattern(3000, at), at).unwrap();
    }
    hole.set_len((1 << 32) + (1 << 20)).unwrap();
    File::create(dir.join("only-a-hole")).unwrap().set_len(10 << 20).unwrap();
    fragmented(dir);
    unwritten(dir);
    fs::write(dir.join("linked"), b"three names").unwrap();
    fs::hard_link(dir.join("linked"), dir.join("linked-2")).unwrap();
    fs::hard_link(dir.join("linked"), dir.join("linked-3")).unwrap();
}

/// A file in hundreds of extents: every other block is written, then some of the others.
fn fragmented(dir: &Path) {
    let file = File::create(dir.join("fragmented")).unwrap();
    for block in (0..600_u64).step_by(2) {
        file.write_all_at(&pattern(1000, block), block * 4096).unwrap();
    }
    file.sync_all().unwrap();
    for block in (1..600_u64).step_by(6) {
        file.write_all_at(&pattern(4096, block), block * 4096).unwrap();
    }
}

/// Preallocated space: behind the end, within, and partly written. Formats without extents have none.
fn unwritten(dir: &Path) {
    let file = File::create(dir.join("preallocated")).unwrap();
    if rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, 1 << 20).is_err() {
        return;
    }
    file.write_all_at(&pattern(10_000, 3), 300_000).unwrap();
    let file = File::create(dir.join("behind-the-end")).unwrap();
    file.write_all_at(&pattern(5000, 4), 0).unwrap();
    rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 0, 400_000).unwrap();
    let file = File::create(dir.join("punched")).unwrap();
    file.write_all_at(&pattern(200_000, 5), 0).unwrap();
    file.sync_all().unwrap();
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&file, punch, 65_536, 65_536).unwrap();
}

fn links(dir: &Path) {
    fs::create_dir(dir).unwrap();
    for length in [1, 2, 58, 59, 60, 61, 120, 150, 155, 156, 157, 160, 200, 255, 1000] {
        symlink("t".repeat(length), dir.join(format!("link-{length}"))).unwrap();
    }
    symlink(OsString::from_vec(b"\xff/\x80".to_vec()), dir.join("odd")).unwrap();
    // Blocks of 1 KiB cannot hold it.
    let _ = symlink("long/".repeat(819), dir.join("longest"));
    // A link within the inode whose attributes have a block.
    symlink("with attributes", dir.join("attributed")).unwrap();
    set(&dir.join("attributed"), "trusted.note", &pattern(900, 1));
}

fn specials(dir: &Path) {
    fs::create_dir(dir).unwrap();
    let make = |name: &str, file_type, major, minor| {
        let device = rustix::fs::makedev(major, minor);
        rustix::fs::mknodat(CWD, dir.join(name), file_type, Mode::from_raw_mode(0o640), device).unwrap();
    };
    make("char", FileType::CharacterDevice, 1, 3);
    make("char-large", FileType::CharacterDevice, 300, 70_000);
    make("block", FileType::BlockDevice, 8, 255);
    make("block-large", FileType::BlockDevice, 4095, 1_048_575);
    make("char-zero", FileType::CharacterDevice, 0, 0);
    make("fifo", FileType::Fifo, 0, 0);
    make("socket", FileType::Socket, 0, 0);
    let owned = dir.join("owned");
    fs::write(&owned, b"by somebody else").unwrap();
    std::os::unix::fs::chown(&owned, Some(100_000), Some(4_000_000_000)).unwrap();
    rustix::fs::chmod(&owned, Mode::from_raw_mode(0o6751)).unwrap();
}

/// Sets an attribute where the volume has room for it.
pub(crate) fn set(path: &Path, name: &str, value: &[u8]) {
    let _ = rustix::fs::lsetxattr(path, name, value, XattrFlags::empty());
}

fn xattrs(dir: &Path) {
    fs::create_dir(dir).unwrap();
    let file = |name: &str| {
        let path = dir.join(name);
        fs::write(&path, b"attributed").unwrap();
        path
    };
    let small = file("small");
    set(&small, "user.a", b"1");
    set(&small, "user.empty", b"");
    let kinds = file("kinds");
    for name in ["user.kind", "trusted.kind", "security.kind"] {
        set(&kinds, name, name.as_bytes());
    }
    let block = file("block");
    for number in 0..12 {
        set(&block, &format!("user.number-{number}"), &pattern(40 + number, 9));
    }
    let shared = pattern(500, 10);
    for number in 0..4 {
        set(&file(&format!("shares-{number}")), "user.shared", &shared);
    }
    let large = file("large");
    for (number, length) in [2000, 3500, 5000, 20_000, 65_536].into_iter().enumerate() {
        set(&large, &format!("user.large-{number}"), &pattern(length, 11));
    }
    set(&file("long-name"), &format!("user.{}", "n".repeat(250)), b"long");
    acls(dir, &file("acl"));
}

/// ACLs in the form that `setxattr(2)` takes: version 2, then tag, permissions, id.
fn acls(dir: &Path, file: &Path) {
    let mut acl = vec![2, 0, 0, 0];
    let entries: [(u16, u16, u32); 6] =
        [(1, 6, !0), (2, 4, 1000), (4, 4, !0), (8, 5, 70_000), (0x10, 7, !0), (0x20, 0, !0)];
    for (tag, permissions, id) in entries {
        acl.extend_from_slice(&tag.to_le_bytes());
        acl.extend_from_slice(&permissions.to_le_bytes());
        acl.extend_from_slice(&id.to_le_bytes());
    }
    set(file, "system.posix_acl_access", &acl);
    set(dir, "system.posix_acl_default", &acl);
    fs::create_dir(dir.join("inherits")).unwrap();
}

fn times(dir: &Path) {
    fs::create_dir(dir).unwrap();
    for seconds in [-1_i64, 0, 1, -0x8000_0000, 0x7FFF_FFFF, 0x8000_0000, 0x1_0000_0000, 0x3_7FFF_FFFF] {
        let path = dir.join(format!("at{seconds}"));
        fs::write(&path, b"t").unwrap();
        let time = |nanoseconds| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
        let times = Timestamps { last_access: time(1), last_modification: time(999_999_999) };
        rustix::fs::utimensat(CWD, &path, &times, AtFlags::empty()).unwrap();
    }
}

/// A directory of many names, with some deleted again.
pub(crate) fn many(dir: &Path, count: u32) {
    fs::create_dir(dir).unwrap();
    for number in 0..count {
        File::create(dir.join(format!("entry number {number:08} of many"))).unwrap();
    }
    for number in (0..count).step_by(7) {
        fs::remove_file(dir.join(format!("entry number {number:08} of many"))).unwrap();
    }
}

/// Opens a file for writing and reading.
pub(crate) fn open(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).unwrap()
}

/// Writes and waits until the bytes are on the volume.
pub(crate) fn write_synced(path: &Path, bytes: &[u8]) {
    let file = open(path);
    file.write_all_at(bytes, 0).unwrap();
    rustix::fs::fsync(file.as_fd()).unwrap();
}
