//! Takes a [`Tree`] from one of our parsers, and contents from the image along the extent maps.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result};
use extents_core::{
    BlockRead, Error, ExtentFlags, ExtentMap, FileSystem, FileType, Flow, Ino, InodeFlags, Metadata,
    ReadError, Timestamp, XattrNamespace,
};

use crate::contents;
use crate::fiemap::{Piece, push_merged};
use crate::mounted_tree::errno_text;
use crate::tree::{Contents, Entry, Kept, Name, Stat, Tree};

/// An image file, read as a device.
#[derive(Debug)]
pub struct Image {
    file: File,
    size: u64,
}

impl Image {
    /// Opens an image, or a block device.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let size = rustix::fs::seek(&file, rustix::fs::SeekFrom::End(0))?;
        Ok(Self { file, size })
    }
}

impl BlockRead for Image {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let length = buf.len() as u64;
        if offset.checked_add(length).is_none_or(|end| end > self.size) {
            return Err(ReadError::outside(offset, length));
        }
        self.file.read_exact_at(buf, offset).map_err(|error| ReadError {
            offset,
            length,
            errno: error.raw_os_error().unwrap_or(libc::EIO),
        })
    }

    fn size(&self) -> u64 {
        self.size
    }
}

/// Everything on a volume, from its root on, as our parser tells it. Each name that is listed is also looked up.
///
/// # Errors
/// Where a directory cannot be listed or an inode not be read. What else fails is part of the tree.
pub fn parsed_tree(fs: &dyn FileSystem, device: &dyn BlockRead) -> Result<Tree> {
    let mut tree = Tree::default();
    let root_entry = entry(fs, device, fs.root(), None, &mut tree.inodes)?;
    tree.entries.insert(Name::default(), root_entry);
    let mut pending = vec![(Name::default(), fs.root(), fs.root())];
    while let Some((path, ino, parent)) = pending.pop() {
        let mut listed = Vec::new();
        fs.read_dir(ino, 0, &mut |entry| {
            listed.push((entry.name.to_vec(), entry.ino, entry.file_type));
            Flow::Continue(())
        })
        .with_context(|| format!("cannot list directory {path:?}"))?;
        let mut names = BTreeSet::new();
        for (name, child, file_type) in listed {
            let below = path.join(&name);
            if !names.insert(name.clone()) {
                tree.oddities.push((below, "listed twice".into()));
                continue;
            }
            let looked_up = fs.lookup(ino, &name).with_context(|| format!("cannot look up {below:?}"))?;
            if looked_up != Some(child) {
                tree.oddities
                    .push((below.clone(), format!("listed as {child:?}, looked up as {looked_up:?}")));
            }
            match &*name {
                b"." if child == ino => continue,
                b".." if child == parent => continue,
                b"." | b".." => {
                    tree.oddities
                        .push((below, format!("is {child:?} in {ino:?}, whose parent is {parent:?}")));
                    continue;
                }
                _ => {}
            }
            let entry = entry(fs, device, child, file_type, &mut tree.inodes)
                .with_context(|| format!("cannot look at {below:?} ({child:?})"))?;
            if entry.stat.mode & 0o170_000 == 0o040_000 {
                pending.push((below.clone(), child, ino));
            }
            tree.entries.insert(below, entry);
        }
        for absent in absent_names(&names) {
            if let Some(found) = fs.lookup(ino, &absent)? {
                tree.oddities.push((path.join(&absent), format!("not listed, but looked up as {found:?}")));
            }
        }
    }
    Ok(tree)
}

/// Names that are not in a directory, close to those that are.
fn absent_names(present: &BTreeSet<Vec<u8>>) -> Vec<Vec<u8>> {
    let step = (present.len() / 20).max(1);
    let near = present.iter().step_by(step).flat_map(|name| {
        let mut flipped = name.clone();
        if let Some(last) = flipped.last_mut() {
            *last ^= 0x80;
        }
        [[&name[..], b"~"].concat(), name[..name.len() - 1].to_vec(), flipped]
    });
    let fits =
        |name: &Vec<u8>| (1..=255).contains(&name.len()) && !present.contains(name) && !name.contains(&0);
    near.chain([b"no such name".to_vec()]).filter(fits).collect()
}

fn nanoseconds(time: Timestamp) -> i128 {
    i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds)
}

fn type_bits(file_type: FileType) -> u32 {
    match file_type {
        FileType::Regular => 0o100_000,
        FileType::Directory => 0o040_000,
        FileType::Symlink => 0o120_000,
        FileType::CharDevice => 0o020_000,
        FileType::BlockDevice => 0o060_000,
        FileType::Fifo => 0o010_000,
        FileType::Socket => 0o140_000,
    }
}

fn attributes(flags: InodeFlags) -> u64 {
    [
        (InodeFlags::IMMUTABLE, 0x10),
        (InodeFlags::APPEND, 0x20),
        (InodeFlags::NO_DUMP, 0x40),
        (InodeFlags::ENCRYPTED, 0x800),
        (InodeFlags::VERITY, 0x10_0000),
    ]
    .into_iter()
    .filter(|&(flag, _)| flags.contains(flag))
    .fold(0, |bits, (_, bit)| bits | bit)
}

/// What the daemon would answer, in the words of [`errno_text`].
fn told(error: &Error) -> String {
    match error {
        Error::Encrypted(_) => errno_text(libc::ENOKEY),
        other => other.to_string(),
    }
}

fn entry(
    fs: &dyn FileSystem,
    device: &dyn BlockRead,
    ino: Ino,
    listed_type: Option<FileType>,
    inodes: &mut HashMap<u64, Kept>,
) -> Result<Entry> {
    let metadata = fs.metadata(ino)?;
    let stat = stat(&metadata);
    let listed_type = listed_type.map(type_bits);
    if inodes.contains_key(&ino.0) {
        return Ok(Entry { stat, listed_type });
    }
    let kept = Kept {
        link: (metadata.file_type == FileType::Symlink)
            .then(|| fs.read_link(ino).map_err(|error| told(&error))),
        xattrs: xattrs(fs, ino).map_err(|error| told(&error)),
        contents: metadata.is_regular().then(|| contents(fs, device, &metadata)),
        born: metadata.born.map(nanoseconds),
        attributes: attributes(metadata.flags),
        project: Some(metadata.project),
        generation: Some(metadata.generation),
    };
    inodes.insert(ino.0, kept);
    Ok(Entry { stat, listed_type })
}

fn stat(metadata: &Metadata) -> Stat {
    Stat {
        ino: metadata.ino.0,
        mode: metadata.mode.into(),
        nlink: metadata.links.into(),
        uid: metadata.uid,
        gid: metadata.gid,
        rdev: (metadata.device.major, metadata.device.minor),
        size: metadata.size,
        blocks: metadata.sectors,
        atime: nanoseconds(metadata.accessed),
        mtime: nanoseconds(metadata.modified),
        ctime: nanoseconds(metadata.changed),
    }
}

fn xattrs(fs: &dyn FileSystem, ino: Ino) -> extents_core::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut names: Vec<(XattrNamespace, Vec<u8>)> = Vec::new();
    fs.xattrs(ino, &mut |xattr| {
        names.push((xattr.namespace, xattr.name.to_vec()));
        Flow::Continue(())
    })?;
    let mut all = BTreeMap::new();
    for (namespace, name) in names {
        let full = [namespace.prefix().as_bytes(), &name].concat();
        let value = fs.xattr(ino, namespace, &name)?.unwrap_or_else(|| b"listed, but not there".to_vec());
        if all.insert(full.clone(), value).is_some() {
            all.insert([&full[..], b" (listed twice)"].concat(), Vec::new());
        }
    }
    Ok(all)
}

fn contents(fs: &dyn FileSystem, device: &dyn BlockRead, metadata: &Metadata) -> Contents {
    let (ino, size) = (metadata.ino, metadata.size);
    let map = match fs.extents(ino) {
        Ok(map) => map,
        Err(error) => {
            let told = told(&error);
            return Contents { digests: Err(told.clone()), data: Err(told.clone()), map: Some(Err(told)) };
        }
    };
    let data = data_ranges(&map);
    let digests = contents::digests(size, &data, |at, piece| read(fs, device, ino, &map, at, piece));
    let digests = digests.map_err(|error| told(&error));
    if metadata.flags.contains(InodeFlags::ENCRYPTED) {
        // Such a file cannot even be opened, so nobody gets to ask for its map.
        let refused = || errno_text(libc::ENOKEY);
        let digests = if size == 0 { Err(refused()) } else { digests };
        return Contents { digests, data: Err(refused()), map: Some(Err(refused())) };
    }
    Contents { digests, data: Ok(data), map: Some(Ok(pieces(&map))) }
}

fn read(
    fs: &dyn FileSystem,
    device: &dyn BlockRead,
    ino: Ino,
    map: &ExtentMap,
    at: u64,
    piece: &mut [u8],
) -> extents_core::Result<()> {
    let mut rest = piece;
    for run in map.runs(at, rest.len() as u64) {
        let (here, after) = rest.split_at_mut(usize::try_from(run.length).unwrap_or(usize::MAX));
        match (run.extent, run.physical()) {
            (Some(extent), Some(physical)) if extent.is_plain() => device.read_at(physical, here)?,
            (Some(extent), _) if !extent.flags.contains(ExtentFlags::UNWRITTEN) => {
                fs.read_special(ino, &extent, run.offset, here)?;
            }
            _ => here.fill(0),
        }
        rest = after;
    }
    Ok(())
}

fn data_ranges(map: &ExtentMap) -> Vec<(u64, u64)> {
    let mut ranges = Vec::new();
    let mut at = 0;
    while let Some(start) = map.next_data(at) {
        at = map.next_hole(start);
        ranges.push((start, at));
        if at <= start {
            break;
        }
    }
    ranges
}

fn pieces(map: &ExtentMap) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for extent in map.iter() {
        push_merged(
            &mut pieces,
            Piece {
                logical: extent.logical,
                physical: extent.physical,
                length: extent.length,
                unwritten: extent.flags.contains(ExtentFlags::UNWRITTEN),
                shared: extent.flags.contains(ExtentFlags::SHARED),
                inline: extent.flags.contains(ExtentFlags::INLINE),
            },
        );
    }
    pieces
}
