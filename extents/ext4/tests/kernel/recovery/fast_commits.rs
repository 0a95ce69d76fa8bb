//! Fast commits behind the log.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;

use extents_core::FileSystem;

use super::cut::{
    Stop, agrees_except, change_journal, cut_off, directories_of_a_replay, fsync, journal, sync,
};
use crate::compare::Compared;
use crate::image::{Image, options};

fn write(path: &Path, contents: &[u8]) {
    let mut file = File::create(path).unwrap();
    file.write_all(contents).unwrap();
    file.sync_all().unwrap();
}

/// What is there when the last full transaction ends.
fn before(root: &Path) {
    fs::create_dir(root.join("old directory")).unwrap();
    for file in 0..400 {
        fs::write(root.join(format!("old directory/entry {file}")), format!("{file}").repeat(100)).unwrap();
    }
    for name in ["first", "victim", "grows", "sparse", "shrinks", "over", "linked"] {
        fs::write(root.join(name), name.repeat(3000)).unwrap();
    }
    symlink("old target", root.join("old symlink")).unwrap();
    sync(root);
    // After a mount the first commit is never a fast one.
    write(&root.join("warm"), b"up");
    sync(root);
}

/// Every kind of change that a fast commit can hold.
fn changes(root: &Path) {
    let at = |name: &str| root.join(name);
    write(&at("new"), &[b'n'; 10_000]);
    symlink("target of the new one", at("new symlink")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        at("new device"),
        rustix::fs::FileType::CharacterDevice,
        rustix::fs::Mode::from_bits_truncate(0o640),
        rustix::fs::makedev(300, 70_000),
    )
    .unwrap();
    write(&at("old directory/new"), b"within");
    fs::remove_file(at("old directory/entry 7")).unwrap();
    fsync(&at("old directory/new"));
    fs::hard_link(at("linked"), at("old directory/link")).unwrap();
    fsync(&at("linked"));
    fs::remove_file(at("victim")).unwrap();
    fsync(&at("first"));
    fs::rename(at("first"), at("old directory/renamed")).unwrap();
    fsync(&at("old directory/renamed"));
    fs::rename(at("new"), at("over")).unwrap();
    fsync(&at("over"));
    let grows = File::options().append(true).open(at("grows")).unwrap();
    for _ in 0..5 {
        (&grows).write_all(&[b'G'; 7000]).unwrap();
        grows.sync_all().unwrap();
    }
    let sparse = File::options().write(true).open(at("sparse")).unwrap();
    for piece in (0..20).rev() {
        sparse.write_all_at(&[b'S'; 4096], 300_000 + piece * 40_000).unwrap();
    }
    sparse.sync_all().unwrap();
    let shrinks = File::options().write(true).open(at("shrinks")).unwrap();
    shrinks.set_len(5000).unwrap();
    shrinks.sync_all().unwrap();
    fs::remove_file(at("old directory/entry 9")).unwrap();
    write(&at("old directory/entry 9"), b"came again");
}

/// The changes of fast commits that our reader reports.
fn applied(image: &Image) -> String {
    let report = image.open().info().recovery.to_string();
    assert!(report.contains("changes of fast commits"), "{report}");
    report
}

fn compare(image: &Image) -> Option<Compared> {
    agrees_except(image, &options(), "", &directories_of_a_replay)
}

#[test]
fn recovery_of_fast_commits_agrees_with_the_kernel() {
    for mkfs in [
        "-b 4096 -O fast_commit",
        "-b 1024 -O fast_commit",
        "-b 4096 -O fast_commit,^metadata_csum,^64bit",
        "-b 4096 -O fast_commit,inline_data",
    ] {
        let work = |root: &Path| {
            before(root);
            changes(root);
        };
        let Some(image) = cut_off(mkfs, "rw", Stop::Dead, work) else { return };
        applied(&image);
        let Some(compared) = compare(&image) else { return };
        assert!(compared.names > 400 && compared.bytes > 100_000, "{compared:?}");
    }
}

#[test]
fn recovery_of_new_directories_in_fast_commits_agrees_with_the_kernel() {
    let work = |root: &Path| {
        before(root);
        fs::create_dir(root.join("new directory")).unwrap();
        write(&root.join("new directory/inside"), b"inside");
        fs::create_dir(root.join("new directory/deeper")).unwrap();
        write(&root.join("new directory/deeper/inside"), b"deeper inside");
        fs::remove_file(root.join("new directory/inside")).unwrap();
        fsync(&root.join("new directory/deeper/inside"));
    };
    let Some(image) = cut_off("-b 4096 -O fast_commit", "rw", Stop::Dead, work) else { return };
    applied(&image);
    compare(&image);
}

#[test]
fn recovery_of_fast_commits_behind_a_full_one_leaves_older_ones_out() {
    let work = |root: &Path| {
        before(root);
        changes(root);
        sync(root);
        write(&root.join("after"), b"the full commit");
    };
    let Some(image) = cut_off("-b 4096 -O fast_commit", "rw", Stop::Dead, work) else { return };
    applied(&image);
    compare(&image);
}

#[test]
fn recovery_of_hundreds_of_small_fast_commits_agrees_with_the_kernel() {
    let work = |root: &Path| {
        before(root);
        for file in 0..120 {
            write(&root.join(format!("small {file}")), &vec![b's'; file * 50]);
            if file % 3 == 2 {
                fs::remove_file(root.join(format!("small {}", file - 1))).unwrap();
            }
        }
    };
    let Some(image) =
        cut_off("-b 4096 -O fast_commit -J size=8,fast_commit_size=1024", "rw", Stop::Dead, work)
    else {
        return;
    };
    applied(&image);
    compare(&image);
}

/// The places in the journal of blocks whose fast commit ends there, and of the checksum within them.
fn tails(image: &Image) -> Vec<(usize, usize)> {
    const BLOCK: usize = 4096;
    let journal = journal(image);
    let word = |at: usize| u32::from_be_bytes(journal[at..at + 4].try_into().unwrap());
    let blocks = usize::try_from(word(16)).unwrap();
    let reserved = usize::try_from(word(0x54)).unwrap();
    let mut tails = Vec::new();
    for place in blocks - reserved + 1..blocks {
        let block = &journal[place * BLOCK..(place + 1) * BLOCK];
        let mut at = 0;
        while at + 4 <= BLOCK {
            let half = |at: usize| usize::from(u16::from_le_bytes([block[at], block[at + 1]]));
            match half(at) {
                0 => return tails,
                8 => tails.push((place, at + 8)),
                _ => {}
            }
            at += 4 + half(at + 2);
        }
    }
    tails
}

#[test]
fn recovery_of_a_torn_fast_commit_ends_before_it_as_in_the_kernel() {
    let work = |root: &Path| {
        before(root);
        changes(root);
    };
    let Some(image) = cut_off("-b 4096 -O fast_commit", "rw", Stop::Dead, work) else { return };
    let tails = tails(&image);
    assert!(tails.len() > 5, "{tails:?}");
    for &(place, checksum) in tails[1..].iter().rev() {
        change_journal(&image, 4096, place, |block| block[checksum] ^= 0xff);
        if compare(&image).is_none() {
            return;
        }
    }
}

#[test]
fn recovery_of_a_torn_first_fast_commit_is_that_of_the_log_alone() {
    let work = |root: &Path| {
        before(root);
        write(&root.join("torn"), b"torn");
    };
    let Some(image) = cut_off("-b 4096 -O fast_commit", "rw", Stop::Dead, work) else { return };
    let volume = image.open();
    assert!(volume.lookup(volume.root(), b"torn").unwrap().is_some());
    let (place, checksum) = tails(&image)[0];
    change_journal(&image, 4096, place, |block| block[checksum] ^= 0xff);
    // The kernel refuses to mount this, so only the names tell.
    let volume = image.open();
    assert_eq!(volume.lookup(volume.root(), b"torn").unwrap(), None);
    assert!(volume.lookup(volume.root(), b"warm").unwrap().is_some());
}
