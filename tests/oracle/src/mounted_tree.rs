//! Takes a [`Tree`] from a mount, through system calls only.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags, SeekFrom, StatxFlags};
use rustix::io::Errno;

use crate::contents;
use crate::fiemap::fiemap;
use crate::tree::{Contents, Entry, Kept, Name, Stat, Tree};

/// `STATX_ATTR_IMMUTABLE`, `_APPEND`, `_NODUMP`, `_ENCRYPTED`, `_VERITY`: what our parsers tell, too.
pub(crate) const ATTRIBUTES: u64 = 0x10 | 0x20 | 0x40 | 0x800 | 0x10_0000;

/// A directory still to be read: its path, and how to open it.
struct Pending {
    path: Name,
    parent: Arc<OwnedFd>,
    name: CString,
}

/// Everything below `root`. Paths may be longer than system calls take: each step is from an open directory.
///
/// # Errors
/// Where a directory cannot be listed or something in it has no `stat`. What else fails is part of the tree.
pub fn mounted_tree(root: &Path) -> Result<Tree> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root_directory = Arc::new(fs::open(root, flags, Mode::empty()).context("cannot open the root")?);
    let mut tree = Tree::default();
    let root_entry = entry(&root_directory, c".", None, &mut tree.inodes)?;
    tree.entries.insert(Name::default(), root_entry);
    let mut pending = vec![Pending { path: Name::default(), parent: root_directory, name: c".".into() }];
    while let Some(Pending { path, parent, name }) = pending.pop() {
        let directory = fs::openat(&parent, &name, flags, Mode::empty())
            .with_context(|| format!("cannot open directory {path:?}"))?;
        let directory = Arc::new(directory);
        let mut names = BTreeSet::new();
        for item in Dir::read_from(&directory)? {
            let item = item.with_context(|| format!("cannot list directory {path:?}"))?;
            let name = item.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let below = path.join(name.to_bytes());
            if !names.insert(name.to_owned()) {
                tree.oddities.push((below, "listed twice".into()));
                continue;
            }
            let listed = (item.file_type() != FileType::Unknown).then(|| item.file_type().as_raw_mode());
            let entry = entry(&directory, name, listed, &mut tree.inodes)
                .with_context(|| format!("cannot look at {below:?}"))?;
            // The kernel gives the number that the directory holds; both must be the same file.
            if item.ino() != entry.stat.ino {
                tree.oddities.push((
                    below.clone(),
                    format!("listed as inode {}, but is {}", item.ino(), entry.stat.ino),
                ));
            }
            if entry.stat.mode & 0o170_000 == 0o040_000 {
                pending.push(Pending {
                    path: below.clone(),
                    parent: Arc::clone(&directory),
                    name: name.into(),
                });
            }
            tree.entries.insert(below, entry);
        }
    }
    Ok(tree)
}

fn entry(
    directory: &OwnedFd,
    name: &CStr,
    listed_type: Option<u32>,
    inodes: &mut HashMap<u64, Kept>,
) -> Result<Entry> {
    let x =
        fs::statx(directory, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS | StatxFlags::BTIME)?;
    let time = |t: fs::StatxTimestamp| i128::from(t.tv_sec) * 1_000_000_000 + i128::from(t.tv_nsec);
    let stat = Stat {
        ino: x.stx_ino,
        mode: x.stx_mode.into(),
        nlink: x.stx_nlink.into(),
        uid: x.stx_uid,
        gid: x.stx_gid,
        rdev: (x.stx_rdev_major, x.stx_rdev_minor),
        size: x.stx_size,
        blocks: x.stx_blocks,
        atime: time(x.stx_atime),
        mtime: time(x.stx_mtime),
        ctime: time(x.stx_ctime),
    };
    if inodes.contains_key(&stat.ino) {
        return Ok(Entry { stat, listed_type });
    }
    let kind = stat.mode & 0o170_000;
    let opened = matches!(kind, 0o100_000 | 0o040_000).then(|| {
        fs::openat(directory, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
    });
    let told = |errno: Errno| errno_text(errno.raw_os_error());
    let kept = Kept {
        link: (kind == 0o120_000)
            .then(|| fs::readlinkat(directory, name, Vec::new()).map(CString::into_bytes).map_err(told)),
        xattrs: xattrs(directory, name).map_err(told),
        contents: (kind == 0o100_000).then(|| match &opened {
            Some(Ok(file)) => contents(file.as_fd(), stat.size),
            Some(Err(errno)) => {
                Contents { digests: Err(told(*errno)), data: Err(told(*errno)), map: Some(Err(told(*errno))) }
            }
            None => unreachable!("regular files were opened"),
        }),
        born: (x.stx_mask & StatxFlags::BTIME.bits() != 0).then(|| time(x.stx_btime)),
        attributes: x.stx_attributes.bits() & ATTRIBUTES,
        project: opened.iter().flatten().find_map(|file| project(file.as_fd())),
        generation: opened.iter().flatten().find_map(|file| generation(file.as_fd())),
    };
    inodes.insert(stat.ino, kept);
    Ok(Entry { stat, listed_type })
}

pub(crate) fn errno_text(errno: i32) -> String {
    std::io::Error::from_raw_os_error(errno).to_string()
}

fn contents(file: BorrowedFd<'_>, size: u64) -> Contents {
    // Before anything is read: zeros that were read from an unwritten extent would count as data.
    let data = data_ranges(file, size);
    let map = fiemap(file).map_err(|error| errno_text(error.raw_os_error().unwrap_or_default()));
    let reader = file.try_clone_to_owned().map(File::from);
    let digests = reader.and_then(|reader| {
        contents::digests(size, data.as_deref().unwrap_or_default(), |at, piece| {
            reader.read_exact_at(piece, at)
        })
    });
    Contents {
        digests: digests.map_err(|error| error.raw_os_error().map_or_else(|| error.to_string(), errno_text)),
        data: data.map_err(|errno| errno_text(errno.raw_os_error())),
        map: Some(map),
    }
}

/// What `SEEK_DATA` and `SEEK_HOLE` find.
fn data_ranges(file: BorrowedFd<'_>, size: u64) -> Result<Vec<(u64, u64)>, Errno> {
    let mut ranges = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match fs::seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(errno) => return Err(errno),
        };
        let end = fs::seek(file, SeekFrom::Hole(start))?;
        if end <= start {
            return Err(Errno::PROTO);
        }
        ranges.push((start, end));
        at = end;
    }
    Ok(ranges)
}

/// All extended attributes of `name` in an open directory. The system calls for attributes take paths only, so the
/// directory is reached by its descriptor.
fn xattrs(directory: &OwnedFd, name: &CStr) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Errno> {
    let path = [format!("/proc/self/fd/{}/", directory.as_raw_fd()).as_bytes(), name.to_bytes()].concat();
    let mut list = vec![0_u8; 64 << 10];
    let length = fs::llistxattr(&path, &mut list[..])?;
    let mut all = BTreeMap::new();
    let mut value = vec![0_u8; 64 << 10];
    for attribute in list[..length].split(|&byte| byte == 0).filter(|attribute| !attribute.is_empty()) {
        let length = fs::lgetxattr(&path, attribute, &mut value[..])?;
        all.insert(attribute.to_vec(), value[..length].to_vec());
    }
    Ok(all)
}

/// `struct fsxattr` of `include/uapi/linux/fs.h`.
#[repr(C)]
#[derive(Default)]
struct FsXattr {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    cow_extent_size: u32,
    padding: [u8; 8],
}

/// `_IOR('X', 31, struct fsxattr)`.
const FS_IOC_FSGETXATTR: u32 = 0x801C_581F;
/// `_IOR('v', 1, long)`; the kernel writes an int.
const FS_IOC_GETVERSION: u32 = 0x8008_7601;

fn project(file: BorrowedFd<'_>) -> Option<u32> {
    let mut answer = FsXattr::default();
    // SAFETY: the structure has the 28 bytes that the request's number announces, and lives through the call.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FSGETXATTR.into(), &raw mut answer) };
    (done == 0).then_some(answer.project)
}

fn generation(file: BorrowedFd<'_>) -> Option<u32> {
    let mut answer = [0_u32; 2];
    // SAFETY: the kernel writes four or eight bytes; eight are there, and live through the call.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_GETVERSION.into(), &raw mut answer) };
    (done == 0).then_some(answer[0])
}
