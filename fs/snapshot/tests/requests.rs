//! What a caller may ask of a snapshot: to leave things out, to stop, to stay small, to be sealed.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use anyhow::Result;
use extents_core::{FileSystem, Flow};
use extents_volume::VolumeOptions;
use homi_abi::snapshot::View;
use homifs_snapshot::{Limits, Request, Snapshot, SnapshotError};
use oracle::{Image, VOLUMES, skip_if};

fn volume() -> Result<Arc<dyn FileSystem>> {
    let volume = VOLUMES.iter().find(|volume| volume.name == "ext4-default").expect("it is in the table");
    let device = Arc::new(Image::open(&oracle::image::build(volume)?)?);
    Ok(extents_volume::open(device, &VolumeOptions::default())?.fs)
}

fn bytes(snapshot: Snapshot) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    snapshot.write_to(&mut bytes)?;
    Ok(bytes)
}

#[test]
fn snapshot_of_denied_files_leaves_them_out_and_counts_them() -> Result<()> {
    skip_if!(oracle::machine::cannot_mount());
    let fs = volume()?;
    let all = Snapshot::take(Request::new(&*fs, fs.root(), b"/"))?;
    let readable = |metadata: &extents_core::Metadata| metadata.is_directory() || metadata.mode & 0o004 != 0;
    let some = Snapshot::take(Request::new(&*fs, fs.root(), b"/").may_read(readable))?;
    assert!(some.counts().denied > 0);
    assert_eq!(some.counts().files + some.counts().denied, all.counts().files);
    let bytes = bytes(some)?;
    let view = View::new(&bytes)?;
    assert!(view.lookup(b"special/mode-0644").is_some());
    assert!(view.lookup(b"special/mode-0001").is_none());

    let nothing = Snapshot::take(Request::new(&*fs, fs.root(), b"/").may_read(|_| false))?;
    assert_eq!((nothing.counts().files, nothing.counts().directories, nothing.counts().denied), (0, 0, 1));
    Ok(())
}

#[test]
fn snapshot_of_subdirectory_has_paths_from_there_on() -> Result<()> {
    skip_if!(oracle::machine::cannot_mount());
    let fs = volume()?;
    let special = fs.lookup(fs.root(), b"special")?.expect("the recipe makes it");
    let bytes = bytes(Snapshot::take(Request::new(&*fs, special, b"special"))?)?;
    let view = View::new(&bytes)?;
    assert_eq!(view.root_path(), b"/special");
    let place = view.lookup(b"mode-0644").expect("the recipe makes it");
    assert_eq!(Some(view.files()[place].inode.get()), fs.lookup(special, b"mode-0644")?.map(|ino| ino.0));
    let file = fs.lookup(special, b"mode-0644")?.expect("looked up above");
    let refused = Snapshot::take(Request::new(&*fs, file, b"special/mode-0644"));
    assert!(matches!(refused, Err(SnapshotError::NotADirectory(_))));
    Ok(())
}

#[test]
fn snapshot_past_a_limit_is_refused() -> Result<()> {
    skip_if!(oracle::machine::cannot_mount());
    let fs = volume()?;
    for (limits, by_files) in [
        (Limits { files: 100, ..Limits::default() }, true),
        (Limits { bytes: 10_000, ..Limits::default() }, false),
    ] {
        let refused = Snapshot::take(Request::new(&*fs, fs.root(), b"/").limits(limits));
        match refused {
            Err(SnapshotError::TooManyFiles(100)) => assert!(by_files),
            Err(SnapshotError::TooLarge(10_000)) => assert!(!by_files),
            other => panic!("{limits:?}: {other:?}"),
        }
    }
    Ok(())
}

#[test]
fn snapshot_cancelled_stops() -> Result<()> {
    skip_if!(oracle::machine::cannot_mount());
    let fs = volume()?;
    let mut looks = 0;
    let request = Request::new(&*fs, fs.root(), b"/").watch(|_| {
        looks += 1;
        if looks == 3 { Flow::Break(()) } else { Flow::Continue(()) }
    });
    assert!(matches!(Snapshot::take(request), Err(SnapshotError::Cancelled)));
    assert_eq!(looks, 3);
    Ok(())
}

#[test]
fn memfd_of_snapshot_cannot_be_changed() -> Result<()> {
    skip_if!(oracle::machine::cannot_mount());
    let fs = volume()?;
    let expected = bytes(Snapshot::take(Request::new(&*fs, fs.root(), b"/").taken(std::time::UNIX_EPOCH))?)?;
    let request = Request::new(&*fs, fs.root(), b"/").taken(std::time::UNIX_EPOCH);
    let sealed = Snapshot::take(request)?.into_memfd()?;
    assert_eq!(sealed.length, expected.len() as u64);
    let mut file = File::from(sealed.file);
    let mut stored = vec![0; expected.len()];
    file.read_exact_at(&mut stored, 0)?;
    assert!(stored == expected, "the memfd holds other bytes than the arena");
    for refused in [file.write(b"x").map(drop), file.set_len(1), file.set_len(1 << 30)] {
        assert_eq!(refused.map_err(|error| error.raw_os_error()), Err(Some(libc::EPERM)));
    }
    Ok(())
}
