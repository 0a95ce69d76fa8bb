//! Holds a volume against the kernel's mount of it: names, stat, links, maps and bytes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::UNIX_EPOCH;

use extents_core::{ExtentFlags, ExtentMap, FileSystem, FileType, Flow, Ino, InodeFlags, Metadata};
use extents_xfs::Xfs;

use super::{ImageFile, ioctls};

/// Files up to this size are compared byte for byte; of larger ones, the beginning and end of each extent.
const WHOLE: u64 = 4 << 20;
const PIECE: u64 = 16 << 10;

/// What was compared.
#[derive(Debug, Default, Clone, Copy)]
pub struct Compared {
    pub inodes: u64,
    pub extents: u64,
}

/// Compares everything below `kernel`, the kernel's mount of the image that `volume` was opened from.
pub fn tree(volume: &Xfs, image: &Path, kernel: &Path) -> Compared {
    let image = ImageFile::open(image);
    let mut compared = Compared::default();
    let mut rest = vec![(volume.root(), kernel.to_path_buf())];
    while let Some((directory, path)) = rest.pop() {
        let ours = names(volume, directory);
        let theirs: BTreeMap<Vec<u8>, u64> = fs::read_dir(&path)
            .unwrap()
            .map(|entry| {
                let name = entry.unwrap().file_name().as_bytes().to_vec();
                let ino = fs::symlink_metadata(path.join(std::ffi::OsStr::from_bytes(&name))).unwrap().ino();
                (name, ino)
            })
            .collect();
        assert_eq!(ours, theirs, "names in {}", path.display());
        for (name, ino) in ours {
            let path = path.join(std::ffi::OsStr::from_bytes(&name));
            assert_eq!(volume.lookup(directory, &name).unwrap(), Some(Ino(ino)), "{}", path.display());
            let metadata = inode(volume, &image, Ino(ino), &path, &mut compared);
            if metadata.is_directory() {
                rest.push((Ino(ino), path));
            }
        }
    }
    compared
}

/// The names of a directory without `.` and `..`, and their inodes.
pub fn names(volume: &Xfs, directory: Ino) -> BTreeMap<Vec<u8>, u64> {
    let mut names = BTreeMap::new();
    volume
        .read_dir(directory, 0, &mut |entry| {
            if !matches!(entry.name, b"." | b"..") {
                names.insert(entry.name.to_vec(), entry.ino.0);
            }
            Flow::Continue(())
        })
        .unwrap();
    names
}

fn inode(volume: &Xfs, image: &ImageFile, ino: Ino, path: &Path, compared: &mut Compared) -> Metadata {
    let (metadata, map) = volume.inspect(ino).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    stat(&metadata, path);
    assert_eq!(volume.metadata(ino).unwrap(), metadata);
    compared.inodes += 1;
    match metadata.file_type {
        FileType::Symlink => {
            assert_eq!(volume.read_link(ino).unwrap(), fs::read_link(path).unwrap().as_os_str().as_bytes());
        }
        FileType::Regular => {
            let file = File::open(path).unwrap();
            extents(&map, &file, path);
            bytes(image, &map, &file, path);
            attributes(&metadata, &file);
            compared.extents += map.len() as u64;
        }
        FileType::Directory => attributes(&metadata, &File::open(path).unwrap()),
        _ => assert!(map.is_empty()),
    }
    metadata
}

/// Everything that stat and statx tell.
pub fn stat(ours: &Metadata, path: &Path) {
    let theirs = fs::symlink_metadata(path).unwrap();
    let shown = path.display();
    assert_eq!(u64::from(ours.mode), u64::from(theirs.mode()), "mode of {shown}");
    assert_eq!(u64::from(ours.links), theirs.nlink(), "links of {shown}");
    assert_eq!((ours.uid, ours.gid), (theirs.uid(), theirs.gid()), "owner of {shown}");
    assert_eq!(ours.size, theirs.size(), "size of {shown}");
    assert_eq!(ours.sectors, theirs.blocks(), "blocks of {shown}");
    let device = libc::makedev(ours.device.major, ours.device.minor);
    assert_eq!(device, theirs.rdev(), "device of {shown}");
    let times =
        [ours.accessed, ours.modified, ours.changed].map(|time| (time.seconds, i64::from(time.nanoseconds)));
    let kernel = [
        (theirs.atime(), theirs.atime_nsec()),
        (theirs.mtime(), theirs.mtime_nsec()),
        (theirs.ctime(), theirs.ctime_nsec()),
    ];
    assert_eq!(times, kernel, "times of {shown}");
    let born = ours.born.expect("version 5 keeps the time of birth");
    let since = theirs.created().unwrap().duration_since(UNIX_EPOCH).unwrap();
    assert_eq!(
        (born.seconds as u64, born.nanoseconds),
        (since.as_secs(), since.subsec_nanos()),
        "birth of {shown}"
    );
}

/// Generation, project and flags.
fn attributes(ours: &Metadata, file: &File) {
    const FLAGS: [(u32, InodeFlags); 7] = [
        (0x0000_0001, InodeFlags::REALTIME),
        (0x0000_0008, InodeFlags::IMMUTABLE),
        (0x0000_0010, InodeFlags::APPEND),
        (0x0000_0020, InodeFlags::SYNC),
        (0x0000_0040, InodeFlags::NO_ATIME),
        (0x0000_0080, InodeFlags::NO_DUMP),
        (0x0000_0200, InodeFlags::PROJECT_INHERIT),
    ];
    let theirs = ioctls::fsxattr(file);
    assert_eq!(ours.generation, ioctls::generation(file), "generation of inode {}", ours.ino);
    assert_eq!(ours.project, theirs.projid, "project of inode {}", ours.ino);
    for (bit, flag) in FLAGS {
        assert_eq!(ours.flags.contains(flag), theirs.xflags & bit != 0, "{flag:?} of inode {}", ours.ino);
    }
}

/// The map against FIEMAP.
pub fn extents(ours: &ExtentMap, file: &File, path: &Path) {
    let theirs = ioctls::fiemap(file);
    let ours: Vec<_> = ours.iter().collect();
    for (place, (our, their)) in ours.iter().zip(&theirs).enumerate() {
        assert_eq!(our, their, "extent {place} of {}", path.display());
    }
    assert_eq!(ours.len(), theirs.len(), "number of extents of {}", path.display());
}

/// The bytes that the map leads to against those that the kernel reads.
fn bytes(image: &ImageFile, map: &ExtentMap, file: &File, path: &Path) {
    let size = map.size();
    if size <= WHOLE {
        range(image, map, file, 0, size, path);
        return;
    }
    // Of a map with many extents every part is looked at, but not every extent.
    let step = map.len() / 1000 + 1;
    for extent in map.iter().step_by(step) {
        let end = extent.end().min(size);
        range(
            image,
            map,
            file,
            extent.logical.saturating_sub(PIECE),
            (extent.logical + PIECE).min(end),
            path,
        );
        range(image, map, file, end.saturating_sub(PIECE), (end + PIECE).min(size), path);
    }
}

fn range(image: &ImageFile, map: &ExtentMap, file: &File, from: u64, to: u64, path: &Path) {
    if from >= to {
        return;
    }
    let length = (to - from) as usize;
    let (mut ours, mut theirs) = (vec![0; length], vec![0; length]);
    for run in map.runs(from, to - from) {
        let at = (run.offset - from) as usize;
        let piece = &mut ours[at..at + run.length as usize];
        match (run.physical(), run.extent) {
            (Some(physical), Some(extent)) if !extent.flags.contains(ExtentFlags::UNWRITTEN) => {
                extents_core::BlockRead::read_at(image, physical, piece).unwrap();
            }
            _ => {}
        }
    }
    file.read_exact_at(&mut theirs, from).unwrap();
    assert!(ours == theirs, "bytes {from} to {to} of {}", path.display());
}
