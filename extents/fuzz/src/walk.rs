//! Reads a bounded part of a volume in every way there is.

use std::collections::VecDeque;

use extents_core::{Extent, ExtentFlags, FileSystem, FileType, Flow, Ino, XattrNamespace};

const INODES_MAX: usize = 150;
const NAMES_MAX: usize = 300;
const XATTRS_MAX: usize = 50;
const EXTENTS_MAX: usize = 200;

/// Reads what names lead to from the root on, and inodes by number. Answers how many inodes could be read.
pub(crate) fn walk(volume: &dyn FileSystem, inodes: &[u16]) -> usize {
    let _ = volume.usage();
    let mut waiting: VecDeque<Ino> = VecDeque::from([volume.root()]);
    waiting.extend(inodes.iter().take(16).map(|&number| Ino(number.into())));
    let (mut visited, mut read) = (0, 0);
    let mut names_left = 4 * NAMES_MAX;
    while let Some(ino) = waiting.pop_front() {
        visited += 1;
        if visited > INODES_MAX {
            break;
        }
        for (_, child) in names(volume, ino, &mut names_left) {
            if waiting.len() < INODES_MAX {
                waiting.push_back(child);
            }
        }
        read += usize::from(file(volume, ino));
    }
    let (held, limit) = volume.cache_usage();
    // Each of the cache's 16 shards may hold one block more than its share, of 64 KiB and what belongs to it.
    assert!(held <= limit + 16 * (160 << 10), "the cache holds {held} bytes, and may hold {limit}");
    read
}

fn names(volume: &dyn FileSystem, dir: Ino, left: &mut usize) -> Vec<(Vec<u8>, Ino)> {
    let mut names = Vec::new();
    let mut last = 0;
    let _ = volume.read_dir(dir, 0, &mut |entry| {
        assert!(entry.next > last, "the position after {:?} is {}, after {last}", entry.name, entry.next);
        last = entry.next;
        assert!((1..=255).contains(&entry.name.len()), "a name of {} bytes", entry.name.len());
        assert!(!entry.name.iter().any(|&byte| byte == b'/' || byte == 0), "name {:?}", entry.name);
        names.push((entry.name.to_vec(), entry.ino));
        if names.len() >= NAMES_MAX.min(*left) { Flow::Break(()) } else { Flow::Continue(()) }
    });
    *left -= names.len().min(*left);
    // On from the middle, as a second call of getdents would.
    let _ = volume.read_dir(dir, last / 2, &mut |_| Flow::Break(()));
    for (name, _) in names.iter().step_by(1 + names.len() / 20) {
        let _ = volume.lookup(dir, name);
    }
    let _ = volume.lookup(dir, b"no such name");
    names.retain(|(name, _)| !matches!(&**name, b"." | b".."));
    names
}

/// Whether the inode could be read.
fn file(volume: &dyn FileSystem, ino: Ino) -> bool {
    xattrs(volume, ino);
    let _ = volume.read_link(ino);
    let Ok((metadata, map)) = volume.inspect(ino) else { return false };
    assert_eq!(metadata.ino, ino);
    if metadata.file_type != FileType::Regular {
        assert!(map.is_empty(), "only regular files have maps");
    }
    let size = volume.info().size;
    let mut end = 0;
    for extent in map.iter().take(EXTENTS_MAX) {
        assert!(extent.length > 0 && extent.logical >= end, "{extent:?} after byte {end}");
        assert!(
            extent.physical.checked_add(extent.length).is_some_and(|end| end <= size),
            "{extent:?} in {size}"
        );
        end = extent.end();
    }
    for extent in map.iter().filter(|extent| !extent.is_plain()).take(4) {
        special(volume, ino, &extent);
    }
    true
}

fn special(volume: &dyn FileSystem, ino: Ino, extent: &Extent) {
    if extent.flags.contains(ExtentFlags::UNWRITTEN) {
        return;
    }
    let mut buf = vec![0; usize::try_from(extent.length.min(8192)).unwrap_or_default()];
    let _ = volume.read_special(ino, extent, extent.logical, &mut buf);
    let _ = volume.read_special(ino, extent, extent.end() - 1, &mut buf[..1]);
}

fn xattrs(volume: &dyn FileSystem, ino: Ino) {
    let mut names = Vec::new();
    let _ = volume.xattrs(ino, &mut |xattr| {
        names.push((xattr.namespace, xattr.name.to_vec()));
        if names.len() >= XATTRS_MAX { Flow::Break(()) } else { Flow::Continue(()) }
    });
    names.push((XattrNamespace::AclAccess, Vec::new()));
    names.push((XattrNamespace::User, b"no such name".to_vec()));
    for (namespace, name) in names {
        let _ = volume.xattr(ino, namespace, &name);
    }
}
