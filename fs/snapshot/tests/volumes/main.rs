//! Snapshots of real volumes agree with what the kernel shows of them.

mod device;
mod kernel;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use extents_core::FileSystem;
use extents_volume::VolumeOptions;
use homi_abi::extents::{ENCODED, INLINE, SHARED, UNWRITTEN};
use homi_abi::snapshot::View;
use homifs_snapshot::{Counts, Request, Snapshot};
use oracle::{Image, Piece, VOLUMES, Volume, skip_if};

use crate::kernel::{Found, kernel_tree};

fn volume(name: &str) -> &'static Volume {
    VOLUMES.iter().find(|volume| volume.name == name).expect("the table has this volume")
}

fn open(image: &Path) -> Result<Arc<dyn FileSystem>> {
    let device = Arc::new(Image::open(image)?);
    Ok(extents_volume::open(device, &VolumeOptions::default())?.fs)
}

/// The arena of the whole volume.
fn arena(fs: &dyn FileSystem) -> Result<(Vec<u8>, Counts)> {
    let mut complaints = Vec::new();
    let request = Request::new(fs, fs.root(), b"/").volume_start(1 << 20);
    let request = request.complain(|path, error| {
        complaints.push(format!("{}: {error}", String::from_utf8_lossy(path)));
    });
    let snapshot = Snapshot::take(request)?;
    complaints.retain(|complaint| !complaint.ends_with("is encrypted"));
    assert!(complaints.is_empty(), "{complaints:?}");
    let (length, counts) = (snapshot.length(), *snapshot.counts());
    let mut bytes = Vec::new();
    snapshot.write_to(&mut bytes)?;
    assert_eq!(bytes.len() as u64, length);
    Ok((bytes, counts))
}

fn compare(name: &str) -> Result<()> {
    skip_if!(oracle::machine::cannot_mount());
    let volume = volume(name);
    let image = oracle::image::build(volume)?;
    let fs = open(&image)?;
    let (bytes, counts) = arena(&*fs)?;
    let view = View::new(&bytes)?;
    let expected = kernel_tree(&image, volume.format)?;
    assert!(!expected.files.is_empty());

    let block = u64::from(view.header().block_size.get());
    let missing: Vec<_> =
        expected.files.keys().filter(|path| view.lookup(path).is_none()).map(|p| shown(p)).collect();
    assert!(missing.is_empty(), "not in the snapshot: {missing:?}");
    for file in view.files() {
        let path = view.path(file);
        let found = expected.files.get(path);
        let found = found.with_context(|| format!("{} is not on the mount", shown(path)))?;
        same(&view, file, found, block).with_context(|| shown(path))?;
    }
    let expected_counts = Counts {
        files: expected.files.len() as u64,
        directories: expected.directories,
        links: expected.links,
        specials: expected.specials,
        denied: 0,
        unreadable: expected.unreadable,
    };
    assert_eq!(counts, expected_counts);
    assert_eq!(view.root_path(), b"/");
    device::compare(&view)
}

fn same(view: &View<'_>, file: &homi_abi::snapshot::File, found: &Found, block: u64) -> Result<()> {
    assert_eq!((file.inode.get(), file.size.get()), (found.inode, found.size));
    if let Some(generation) = found.generation {
        assert_eq!(file.generation.get(), generation);
    }
    let ours: Vec<_> = view
        .extents(file)
        .iter()
        .map(|extent| {
            let flags = extent.flags.get();
            assert_eq!(flags & ENCODED, 0);
            Piece {
                logical: extent.logical.get(),
                physical: extent.physical.get(),
                length: extent.length.get(),
                unwritten: flags & UNWRITTEN != 0,
                shared: flags & SHARED != 0,
                inline: flags & INLINE != 0,
            }
        })
        .collect();
    let end = found.size.next_multiple_of(block);
    let mut theirs = found.map.clone();
    theirs.retain(|piece| piece.logical < end);
    for piece in &mut theirs {
        piece.length = piece.length.min(end - piece.logical);
    }
    if theirs.iter().any(|piece| piece.inline) {
        // Where within metadata the bytes lie FIEMAP tells in a way of its own.
        assert!(ours.iter().all(|piece| piece.inline), "{ours:?} {theirs:?}");
    } else {
        assert_eq!(ours, theirs);
    }
    Ok(())
}

fn shown(path: &[u8]) -> String {
    path.escape_ascii().to_string()
}

macro_rules! volumes {
    ($($test:ident: $name:literal,)+) => {
        $(#[test]
        fn $test() -> Result<()> {
            compare($name)
        })+
    };
}

volumes! {
    snapshot_ext4_agrees_with_kernel: "ext4-default",
    snapshot_ext4_of_small_blocks_agrees_with_kernel: "ext4-1k",
    snapshot_ext4_with_inline_data_agrees_with_kernel: "ext4-inline",
    snapshot_ext4_without_types_in_names_agrees_with_kernel: "ext4-no-filetype",
    snapshot_ext2_agrees_with_kernel: "ext2",
    snapshot_ext4_of_150000_names_in_a_directory_agrees_with_kernel: "ext4-crowded",
    snapshot_xfs_agrees_with_kernel: "xfs-default",
    snapshot_xfs_of_small_blocks_agrees_with_kernel: "xfs-1k",
    snapshot_xfs_of_150000_names_in_a_directory_agrees_with_kernel: "xfs-crowded",
}
