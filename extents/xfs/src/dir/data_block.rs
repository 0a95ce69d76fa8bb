//! Blocks that hold names: data blocks, and the one block of a directory that has no other (`xfs_dir2_data`).
//!
//! Behind a header, entries and free pieces follow each other without a gap, each a multiple of 8 bytes long and
//! with its own offset in its last two bytes. Where the block is the whole directory, a list of hashes stands at
//! its end.

use extents_core::{Error, FileType, Ino, Result, to_usize};
use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::checksum::SelfDescription;
use crate::dir::leaf_block::{self, LeafEntry};
use crate::geometry::Geometry;
use crate::inode::Inode;
use crate::volume::Volume;

const STRUCTURE: &str = "directory block";
const WHOLE_V4: u32 = u32::from_be_bytes(*b"XD2B");
const WHOLE_V5: u32 = u32::from_be_bytes(*b"XDB3");
const DATA_V4: u32 = u32::from_be_bytes(*b"XD2D");
const DATA_V5: u32 = u32::from_be_bytes(*b"XDD3");
const FREE_TAG: u16 = 0xffff;
/// Entries and free pieces begin at multiples of this (`XFS_DIR2_DATA_ALIGN`).
const ALIGN: usize = 8;

/// `xfs_dir3_blk_hdr`, which the headers of data blocks and of free index blocks begin with.
pub(super) fn self_description(structure: &'static str) -> SelfDescription {
    SelfDescription { structure, crc: 4, blkno: 8, uuid: 24, owner: 40, owner_bytes: 8 }
}

/// Start of an entry (`xfs_dir2_data_entry`): then the name, its type where the volume has that, and the tag.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct EntryHeader {
    inumber: U64,
    namelen: u8,
}
const _: () = assert!(size_of::<EntryHeader>() == 9);

/// Start of a free piece (`xfs_dir2_data_unused`).
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct FreeHeader {
    freetag: U16,
    length: U16,
}
const _: () = assert!(size_of::<FreeHeader>() == 4);

/// End of a block that is a whole directory (`xfs_dir2_block_tail`).
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Tail {
    count: U32,
    stale: U32,
}
const _: () = assert!(size_of::<Tail>() == 8);

/// What about directory blocks depends on the volume.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    /// Bytes of the header of a data block.
    pub(super) header: u16,
    /// Whether entries carry the file's type.
    pub(super) has_ftype: bool,
}

impl Layout {
    pub(super) fn new(geometry: &Geometry) -> Self {
        Self { header: if geometry.is_v5() { 64 } else { 16 }, has_ftype: geometry.has_ftype() }
    }

    /// Bytes that an entry with a name of this length takes.
    pub(super) fn entry_size(self, name: u8) -> u16 {
        // Inode number and length of the name before it, the tag behind.
        (9 + u16::from(name) + u16::from(self.has_ftype) + 2).next_multiple_of(8)
    }

    /// Where `..` stands in a block that begins with `.` and `..`, as all do that begin a directory.
    pub(super) fn dot_dot(self) -> u16 {
        self.header + self.entry_size(1)
    }
}

/// A name in a block or in an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub(super) name: &'a [u8],
    pub(super) ino: Ino,
    pub(super) file_type: Option<FileType>,
}

/// What stands at a place of a data block, and how many bytes it takes (at least 8).
enum Item<'a> {
    Free(usize),
    Entry(Entry<'a>, usize),
}

/// The type that an entry gives (`XFS_DIR3_FT_*`). Whiteouts are character devices by their inode; their own
/// number (8) is written by nobody.
pub(super) fn file_type(number: u8) -> Result<Option<FileType>> {
    Ok(Some(match number {
        1 => FileType::Regular,
        2 => FileType::Directory,
        3 => FileType::CharDevice,
        4 => FileType::BlockDevice,
        5 => FileType::Fifo,
        6 => FileType::Socket,
        7 => FileType::Symlink,
        0 | 8 => return Ok(None),
        _ => return Err(Error::corrupt("directory entry", format!("unknown file type {number}"))),
    }))
}

/// A data block, already known to be of the right kind.
#[derive(Clone, Copy)]
pub(super) struct DataBlock<'a> {
    layout: Layout,
    block: &'a [u8],
    /// Where the entries end.
    end: usize,
    /// The list of hashes, where the block is the whole directory.
    leaf: Option<&'a [LeafEntry]>,
}

impl<'a> DataBlock<'a> {
    /// Takes a block apart. Of what stands in it, only the list of hashes is checked for its bounds.
    pub(super) fn parse(geometry: &Geometry, block: &'a [u8]) -> Result<Self> {
        let layout = Layout::new(geometry);
        let Ok((magic, _)) = U32::ref_from_prefix(block) else { return Err(bad("too short")) };
        let (whole, data) = if geometry.is_v5() { (WHOLE_V5, DATA_V5) } else { (WHOLE_V4, DATA_V4) };
        let (end, leaf) = match magic.get() {
            magic if magic == data => (block.len(), None),
            magic if magic == whole => {
                let (end, leaf) = split_tail(block)?;
                (end, Some(leaf))
            }
            _ => return Err(bad("wrong magic number")),
        };
        Ok(Self { layout, block, end, leaf })
    }

    /// The list of hashes, where the block is the whole directory.
    pub(super) fn leaf(&self) -> Option<&'a [LeafEntry]> {
        self.leaf
    }

    /// The entry that begins at byte `offset` of the block.
    pub(super) fn entry(&self, offset: usize) -> Result<Entry<'a>> {
        match self.item(offset)? {
            Item::Entry(entry, _) => Ok(entry),
            Item::Free(_) => Err(bad("a hash leads to a free piece")),
        }
    }

    /// The entries from byte `from` of the block on, each with its own offset. `from` need not be the start of
    /// one.
    pub(super) fn entries(self, from: usize) -> impl Iterator<Item = Result<(usize, Entry<'a>)>> {
        let mut at = usize::from(self.layout.header);
        std::iter::from_fn(move || {
            while at < self.end {
                let here = at;
                match self.item(here) {
                    Ok(Item::Free(length)) => at += length,
                    Ok(Item::Entry(entry, length)) => {
                        at += length;
                        if here >= from {
                            return Some(Ok((here, entry)));
                        }
                    }
                    Err(error) => {
                        at = self.end;
                        return Some(Err(error));
                    }
                }
            }
            None
        })
    }

    fn item(&self, offset: usize) -> Result<Item<'a>> {
        let header = usize::from(self.layout.header);
        if offset < header || !offset.is_multiple_of(ALIGN) {
            return Err(bad("an entry begins where none can"));
        }
        let rest = self.block.get(offset..self.end).ok_or_else(|| bad("an entry begins past the end"))?;
        let Ok((free, _)) = FreeHeader::ref_from_prefix(rest) else { return Err(bad("an entry is cut off")) };
        if free.freetag.get() == FREE_TAG {
            let length = usize::from(free.length.get());
            self.check_extent(rest, offset, length)?;
            return Ok(Item::Free(length));
        }
        let Ok((fixed, named)) = EntryHeader::ref_from_prefix(rest) else {
            return Err(bad("an entry is cut off"));
        };
        let length = usize::from(self.layout.entry_size(fixed.namelen));
        self.check_extent(rest, offset, length)?;
        let Some((name, behind)) = named.split_at_checked(usize::from(fixed.namelen)) else {
            return Err(bad("a name is cut off"));
        };
        let file_type = match behind.first() {
            Some(&number) if self.layout.has_ftype => file_type(number)?,
            _ => None,
        };
        Ok(Item::Entry(Entry { name, ino: Ino(fixed.inumber.get()), file_type }, length))
    }

    /// Checks that the `length` bytes at the front of `rest` are there and end with their own offset.
    fn check_extent(&self, rest: &[u8], offset: usize, length: usize) -> Result<()> {
        if length == 0 || !length.is_multiple_of(ALIGN) {
            return Err(bad("an entry or free piece of impossible length"));
        }
        let tag = rest.get(..length).and_then(|piece| piece.last_chunk::<2>());
        match tag {
            Some(&tag) if usize::from(u16::from_be_bytes(tag)) == offset => Ok(()),
            Some(_) => Err(bad("an entry or free piece has another one's tag")),
            None => Err(bad("an entry or free piece reaches past the end")),
        }
    }
}

/// Where the entries of a whole directory end, and the list of hashes behind them.
fn split_tail(block: &[u8]) -> Result<(usize, &[LeafEntry])> {
    let Ok((rest, tail)) = Tail::ref_from_suffix(block) else { return Err(bad("too short")) };
    let count = to_usize(u64::from(tail.count.get()));
    let Ok((data, leaf)) = <[LeafEntry]>::ref_from_suffix_with_elems(rest, count) else {
        return Err(bad("more hashes than fit"));
    };
    Ok((data.len(), leaf))
}

/// Checks a block once, when it is read: its description of itself, every entry, and the list of hashes.
pub(super) fn verify(volume: &Volume, dir: &Inode, block: &[u8], offset: u64) -> Result<()> {
    let geometry = volume.geometry();
    let parsed = DataBlock::parse(geometry, block)?;
    volume.check_self(&self_description(STRUCTURE), block, offset, dir.ino.0)?;
    for entry in parsed.entries(0) {
        let (_, entry) = entry?;
        if entry.name.is_empty() {
            return Err(bad("an entry without a name"));
        }
        if geometry.inode_place(entry.ino).is_none() {
            return Err(bad("an entry names an inode that cannot be"));
        }
    }
    if let (Some(leaf), Ok((_, tail))) = (parsed.leaf, Tail::ref_from_suffix(block)) {
        leaf_block::check_order(leaf, u64::from(tail.stale.get()))?;
    }
    Ok(())
}

#[cold]
fn bad(problem: &'static str) -> Error {
    Error::corrupt(STRUCTURE, problem)
}
