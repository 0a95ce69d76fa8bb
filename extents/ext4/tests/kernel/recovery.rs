//! Volumes that were cut off while the kernel wrote to them, compared with what the kernel makes of them.

use std::fs::{self, File};
use std::path::Path;

use extents_core::{Error, FileSystem, Ino};
use extents_ext4::OpenOptions;

use crate::debugfs::{find, read};
use crate::image::{self, Image, options};
use crate::{compare, populate};

/// Makes a volume dirty: copies its image while it is mounted, with changes that are in the journal only.
fn cut_off(mkfs: &str, mount: &str, change: impl Fn(&Path)) -> Option<Image> {
    let image = Image::make(32, mkfs)?;
    let mounted = image.mount(mount)?;
    populate::many(&mounted.path().join("before"), 300);
    rustix::fs::syncfs(File::open(mounted.path()).unwrap()).unwrap();
    change(mounted.path());
    let copy = Image::copy(&image.path());
    drop(mounted);
    Some(copy)
}

fn change(root: &Path) {
    populate::many(&root.join("during"), 500);
    for number in 0..100 {
        let name = format!("before/entry number {:08} of many", number * 3 + 1);
        let _ = fs::remove_file(root.join(name));
    }
    fs::create_dir_all(root.join("new/deeper")).unwrap();
    for number in 0..30 {
        let path = root.join(format!("new/file-{number}"));
        populate::write_synced(&path, &populate::pattern(number * 700, 4));
    }
    fs::rename(root.join("new/file-3"), root.join("new/deeper/renamed")).unwrap();
    populate::set(&root.join("new/file-4"), "user.late", &populate::pattern(400, 5));
    populate::write_synced(&root.join("last"), b"the last thing");
}

fn agrees_with_the_kernels_recovery(mkfs: &str, mount: &str) {
    let Some(image) = cut_off(mkfs, mount, change) else { return };
    assert!(image.tool("dumpe2fs", &["-h"]).contains("needs_recovery"));
    let before = image.bytes();
    let volume = image.open();
    assert!(volume.info().recovery.contains("recovered in memory"), "{}", volume.info().recovery);
    let compared = {
        let copy = Image::copy(&image.path());
        // The kernel recovers the copy when it mounts it.
        let Some(mounted) = copy.mount("rw") else { return };
        rustix::fs::syncfs(File::open(mounted.path()).unwrap()).unwrap();
        drop(mounted);
        let Some(mounted) = copy.mount("ro") else { return };
        compare::recovered(&volume, mounted.path(), &image.path())
    };
    assert!(compared.names > 700, "{compared:?}");
    assert!(image.bytes() == before, "nothing was written");
    let last = find(&volume, "last");
    assert_eq!(read(&volume, last, &before), b"the last thing");
}

#[test]
fn dirty_volume_agrees_with_the_kernels_recovery() {
    agrees_with_the_kernels_recovery("", "rw");
}

#[test]
fn dirty_volume_of_1k_blocks_agrees_with_the_kernels_recovery() {
    agrees_with_the_kernels_recovery("-b 1024", "rw");
}

#[test]
fn dirty_ext3_volume_agrees_with_the_kernels_recovery() {
    agrees_with_the_kernels_recovery("-t ext3 -J size=4", "rw");
}

#[test]
fn dirty_volume_with_journaled_data_agrees_with_the_kernels_recovery() {
    agrees_with_the_kernels_recovery("", "rw,data=journal");
}

#[test]
fn dirty_volume_with_fast_commits_agrees_with_the_kernels_recovery() {
    agrees_with_the_kernels_recovery("-O fast_commit", "rw");
}

#[test]
fn dirty_volume_norecovery_shows_what_lies_on_the_device() {
    let Some(image) = cut_off("", "rw", change) else { return };
    let norecovery = OpenOptions { norecovery: true, ..options() };
    let volume = image.try_open(&norecovery).unwrap();
    assert!(volume.overlay().is_none());
    assert!(volume.info().recovery.contains("not done"));
    assert!(volume.metadata(Ino(2)).is_ok());
}

#[test]
fn dirty_external_journal_needs_its_device() {
    let Some(journal) = Image::make(16, "-b 4096 -O journal_dev") else { return };
    // A loop device, since the kernel finds an external journal by device number.
    let Some(journal_loop) = image::Loop::attach(&journal.path()) else { return };
    let Some(image) = cut_off(&format!("-b 4096 -J device={}", journal_loop.path()), "rw", change) else {
        return;
    };
    let copy = Image::copy(&journal.path());
    let error = image.try_open(&options()).unwrap_err();
    assert!(matches!(error, Error::NeedsRecovery(_)), "{error}");
    assert!(error.to_string().contains("another device"), "{error}");
    let wrong = OpenOptions { journal_device: Some(image::shared(image.bytes())), ..options() };
    assert!(matches!(image.try_open(&wrong), Err(Error::NeedsRecovery(_))));
    // The journal went on after the copy of the volume, so it was copied at the same moment by `cut_off`'s caller
    // only in so far as nothing was written in between; its UUID is what ties the two.
    let named = OpenOptions { journal_device: Some(image::shared(copy.bytes())), ..options() };
    assert!(image.try_open(&named).is_ok());
}
