//! Compares everything that the kernel shows of a volume with what our reader shows.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirEntryExt, FileExt, FileTypeExt, MetadataExt};
use std::path::Path;

use extents_core::{
    Error, Extent, ExtentFlags, ExtentMap, FileSystem, FileType, Flow, Ino, InodeFlags, Metadata, Timestamp,
    XattrNamespace, to_u64,
};
use extents_ext4::Ext4;
use rustix::fs::{AtFlags, CWD, StatxFlags};

use crate::fiemap;

/// How much was compared, so that a test can tell that it was not nothing.
#[derive(Debug, Default)]
pub(crate) struct Compared {
    pub(crate) names: u64,
    pub(crate) bytes: u64,
    pub(crate) extents: u64,
    pub(crate) xattrs: u64,
}

/// Takes over into our metadata what may differ from the kernel's.
pub(crate) type Except<'a> = &'a dyn Fn(&mut Metadata, &std::fs::Metadata);

/// Compares the whole tree under `mounted` with the volume's root. `image` gives the bytes of extents.
pub(crate) fn trees(volume: &Ext4, mounted: &Path, image: &Path) -> Compared {
    trees_except(volume, mounted, image, &|_, _| ())
}

/// The same, with what may differ taken over first.
pub(crate) fn trees_except(volume: &Ext4, mounted: &Path, image: &Path, except: Except<'_>) -> Compared {
    let image = File::open(image).unwrap();
    let mut compared = Compared::default();
    let mut waiting = vec![(mounted.to_path_buf(), volume.root(), volume.root())];
    while let Some((path, ino, parent)) = waiting.pop() {
        file_except(volume, &path, ino, &image, except, &mut compared);
        assert_eq!(volume.lookup(ino, b".").unwrap(), Some(ino));
        assert_eq!(volume.lookup(ino, b"..").unwrap(), Some(parent), "{}", path.display());
        assert_eq!(volume.lookup(ino, b"no such name").unwrap(), None);
        let ours = list(volume, ino);
        for entry in std::fs::read_dir(&path).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name();
            compared.names += 1;
            let place = ours.names.get(name.as_bytes());
            let (found, file_type) = *place.unwrap_or_else(|| panic!("{} lacks {name:?}", path.display()));
            assert_eq!(found, Ino(entry.ino()), "{name:?}");
            assert_eq!(file_type.map(type_letter), Some(letter_of(entry.file_type().unwrap())), "{name:?}");
            assert_eq!(volume.lookup(ino, name.as_bytes()).unwrap(), Some(found), "{name:?}");
            let child = path.join(&name);
            if entry.file_type().unwrap().is_dir() {
                waiting.push((child, found, ino));
            } else {
                file_except(volume, &child, found, &image, except, &mut compared);
            }
        }
        let theirs = std::fs::read_dir(&path).unwrap().count();
        assert_eq!(ours.names.len(), theirs, "{} has other names", path.display());
        assert!(ours.dots, "{}", path.display());
    }
    compared
}

struct Listing {
    names: BTreeMap<Vec<u8>, (Ino, Option<FileType>)>,
    dots: bool,
}

/// Reads a directory in pieces, each from where the last one ended.
fn list(volume: &Ext4, dir: Ino) -> Listing {
    let mut listing = Listing { names: BTreeMap::new(), dots: false };
    let (mut from, mut dots) = (0, 0);
    loop {
        let before = from;
        let mut piece = 0;
        volume
            .read_dir(dir, from, &mut |entry| {
                assert!(entry.next > from, "positions rise");
                from = entry.next;
                if matches!(entry.name, b"." | b"..") {
                    dots += 1;
                } else {
                    let seen = listing.names.insert(entry.name.to_vec(), (entry.ino, entry.file_type));
                    assert!(seen.is_none(), "{:?} came twice", OsStr::from_bytes(entry.name));
                }
                piece += 1;
                if piece == 7 { Flow::Break(()) } else { Flow::Continue(()) }
            })
            .unwrap();
        if from == before {
            break;
        }
    }
    listing.dots = dots == 2;
    listing
}

fn type_letter(file_type: FileType) -> char {
    match file_type {
        FileType::Regular => 'f',
        FileType::Directory => 'd',
        FileType::Symlink => 'l',
        FileType::CharDevice => 'c',
        FileType::BlockDevice => 'b',
        FileType::Fifo => 'p',
        FileType::Socket => 's',
    }
}

fn letter_of(file_type: std::fs::FileType) -> char {
    [
        (file_type.is_file(), 'f'),
        (file_type.is_dir(), 'd'),
        (file_type.is_symlink(), 'l'),
        (file_type.is_char_device(), 'c'),
        (file_type.is_block_device(), 'b'),
        (file_type.is_fifo(), 'p'),
        (file_type.is_socket(), 's'),
    ]
    .into_iter()
    .find_map(|(is, letter)| is.then_some(letter))
    .unwrap()
}

/// Compares one file: stat, link, attributes, map and bytes.
fn file_except(
    volume: &Ext4,
    path: &Path,
    ino: Ino,
    image: &File,
    except: Except<'_>,
    compared: &mut Compared,
) {
    let (ours, map) = volume.inspect(ino).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(volume.metadata(ino).unwrap(), ours);
    stat(path, ours, except);
    xattrs(volume, path, ino, compared);
    match ours.file_type {
        FileType::Symlink => {
            let theirs = std::fs::read_link(path).unwrap().into_os_string().into_vec();
            assert_eq!(volume.read_link(ino).unwrap(), theirs, "{}", path.display());
            assert!(map.is_empty());
        }
        FileType::Regular => {
            let mounted = match File::open(path) {
                Ok(mounted) => mounted,
                Err(error) => return locked(volume, ino, &map, &error),
            };
            extents(volume, path, &mounted, &map, compared);
            bytes(volume, path, &mounted, ino, &map, image, compared);
            assert_eq!(volume.extents(ino).unwrap(), map);
        }
        _ => assert!(map.is_empty()),
    }
}

/// A file that nobody can open without its key.
fn locked(volume: &Ext4, ino: Ino, map: &ExtentMap, error: &std::io::Error) {
    assert_eq!(error.raw_os_error(), Some(libc::ENOKEY));
    assert!(volume.metadata(ino).unwrap().flags.contains(InodeFlags::ENCRYPTED));
    for extent in map.iter() {
        assert!(extent.flags.intersects(ExtentFlags::ENCODED | ExtentFlags::UNWRITTEN));
        let refused = volume.read_special(ino, &extent, extent.logical, &mut [0; 16]).unwrap_err();
        assert!(matches!(refused, Error::Encrypted(_)), "{refused}");
    }
}

fn stat(path: &Path, mut ours: Metadata, except: Except<'_>) {
    let theirs = std::fs::symlink_metadata(path).unwrap();
    except(&mut ours, &theirs);
    let at = path.display();
    assert_eq!(ours.ino.0, theirs.ino(), "inode of {at}");
    assert_eq!(u32::from(ours.mode), theirs.mode(), "mode of {at}");
    assert_eq!(u64::from(ours.links), theirs.nlink(), "links of {at}");
    assert_eq!((ours.uid, ours.gid), (theirs.uid(), theirs.gid()), "owner of {at}");
    assert_eq!(ours.size, theirs.size(), "size of {at}");
    assert_eq!(ours.sectors, theirs.blocks(), "blocks of {at}");
    let time = |seconds, nanoseconds| Timestamp { seconds, nanoseconds: u32::try_from(nanoseconds).unwrap() };
    assert_eq!(ours.accessed, time(theirs.atime(), theirs.atime_nsec()), "access time of {at}");
    assert_eq!(ours.modified, time(theirs.mtime(), theirs.mtime_nsec()), "modification time of {at}");
    assert_eq!(ours.changed, time(theirs.ctime(), theirs.ctime_nsec()), "change time of {at}");
    let device = rustix::fs::makedev(ours.device.major, ours.device.minor);
    assert_eq!(device, theirs.rdev(), "device of {at}");
    let statx =
        rustix::fs::statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS | StatxFlags::BTIME)
            .unwrap();
    let has_birth = statx.stx_mask & StatxFlags::BTIME.bits() != 0;
    let birth = Timestamp { seconds: statx.stx_btime.tv_sec, nanoseconds: statx.stx_btime.tv_nsec };
    let birth = has_birth.then_some(birth);
    assert_eq!(ours.born, birth, "birth time of {at}");
}

fn xattrs(volume: &Ext4, path: &Path, ino: Ino, compared: &mut Compared) {
    let at = path.display();
    let mut theirs = BTreeMap::new();
    let mut names = vec![0; 65536];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap_or(0);
    for name in names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 65536];
        let c_name = CString::new(name).unwrap();
        let length = rustix::fs::lgetxattr(path, c_name.as_c_str(), &mut value[..]).unwrap();
        value.truncate(length);
        theirs.insert(name.to_vec(), value);
    }
    let mut ours = BTreeMap::new();
    volume
        .xattrs(ino, &mut |xattr| {
            let mut full = xattr.namespace.prefix().as_bytes().to_vec();
            full.extend_from_slice(xattr.name);
            let (namespace, name) = XattrNamespace::split(&full).unwrap();
            let value = volume.xattr(ino, namespace, name).unwrap().unwrap();
            ours.insert(full, value);
            Flow::Continue(())
        })
        .unwrap();
    let name_list = |map: &BTreeMap<Vec<u8>, Vec<u8>>| {
        map.keys().map(|name| String::from_utf8_lossy(name).into_owned()).collect::<Vec<_>>()
    };
    assert_eq!(name_list(&ours), name_list(&theirs), "attributes of {at}");
    assert!(ours == theirs, "values of the attributes of {at}");
    assert_eq!(volume.xattr(ino, XattrNamespace::User, b"no such").unwrap(), None);
    compared.xattrs += to_u64(ours.len());
}

fn extents(volume: &Ext4, path: &Path, mounted: &File, map: &ExtentMap, compared: &mut Compared) {
    let block = u64::from(volume.info().block_size);
    let theirs = fiemap::normalise(fiemap::extents(mounted), map.size(), block);
    // Where a recovery in memory holds newer contents, the kernel has written them by now.
    let written = map.iter().map(|extent| match volume.overlay() {
        Some(_) => Extent { flags: extent.flags - ExtentFlags::ENCODED, ..extent },
        None => extent,
    });
    let ours = fiemap::normalise(written, map.size(), block);
    assert_eq!(ours, theirs, "map of {}", path.display());
    compared.extents += to_u64(ours.len());
}

/// Compares bytes piece by piece, going around holes of more than 64 MiB.
fn bytes(
    volume: &Ext4,
    path: &Path,
    mounted: &File,
    ino: Ino,
    map: &ExtentMap,
    image: &File,
    compared: &mut Compared,
) {
    const PIECE: u64 = 1 << 20;
    const HOLE_MAX: u64 = 64 << 20;
    let mut at = 0;
    while at < map.size() {
        let run = map.cursor().run(at, map.size() - at);
        if run.extent.is_none() && run.length > HOLE_MAX {
            at += run.length;
            continue;
        }
        let length = run.length.min(PIECE);
        let mut ours = vec![0; usize::try_from(length).unwrap()];
        let mut theirs = vec![1; ours.len()];
        if let Some(extent) = run.extent {
            if extent.flags.intersects(ExtentFlags::INLINE | ExtentFlags::ENCODED) {
                volume.read_special(ino, &extent, at, &mut ours).unwrap();
            } else if extent.is_plain() {
                image.read_exact_at(&mut ours, extent.physical + (at - extent.logical)).unwrap();
            }
        }
        mounted.read_exact_at(&mut theirs, at).unwrap();
        assert!(ours == theirs, "bytes {at} to {} of {}", at + length, path.display());
        compared.bytes += length;
        at += length;
    }
}

/// Compares what `statfs` tells.
pub(crate) fn space(volume: &Ext4, mounted: &Path) {
    let theirs = rustix::fs::statfs(mounted).unwrap();
    let ours = volume.usage().unwrap();
    let shown = |blocks, free, available, files, files_free| {
        format!("blocks {blocks} free {free} available {available} files {files} free {files_free}")
    };
    assert_eq!(
        shown(ours.blocks, ours.free, ours.available, ours.files, ours.files_free),
        shown(theirs.f_blocks, theirs.f_bfree, theirs.f_bavail, theirs.f_files, theirs.f_ffree),
    );
    assert_eq!(i64::from(ours.block_size), theirs.f_bsize);
}
