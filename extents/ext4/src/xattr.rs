//! Extended attributes: entries in the inode behind its own fields, in a block of their own, and values in
//! inodes of their own (`fs/ext4/xattr.c`, `fs/ext4/xattr.h`).

use std::ops::Range;
use std::sync::Arc;

use extents_core::{CacheKey, Error, FsBlock, Ino, Result, Xattr, XattrNamespace, to_u64, to_usize};
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::acl;
use crate::inode::{Flags, Inode};
use crate::layout::view;
use crate::volume::{Ext4, Kind};

const MAGIC: u32 = 0xEA02_0000;
/// The header within an inode is the magic number only.
const IBODY_HEADER: usize = 4;
const BLOCK_HEADER: usize = 32;
const BLOCK_CHECKSUM_AT: usize = 16;
/// Nothing larger can be got out of `getxattr(2)` (`XATTR_SIZE_MAX`).
const VALUE_MAX: u32 = 65536;

const INDEX_SYSTEM: u8 = 7;

/// What one attribute looks like in the list.
#[derive(Debug, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawEntry {
    name_len: u8,
    name_index: u8,
    value_offset: U16,
    value_inum: U32,
    value_size: U32,
    hash: U32,
}

const ENTRY: usize = 16;
const _: () = assert!(size_of::<RawEntry>() == ENTRY);

/// An attribute: its entry, its name, and where its value lies.
struct Entry<'a> {
    raw: &'a RawEntry,
    name: &'a [u8],
    /// The list that holds it, from where value offsets are counted.
    values: &'a [u8],
}

/// A list of attributes.
struct List<'a> {
    /// The bytes from where value offsets are counted.
    values: &'a [u8],
    /// Where the next entry begins within them.
    at: usize,
    problem: bool,
}

impl<'a> List<'a> {
    fn new(values: &'a [u8], first: usize) -> Self {
        Self { values, at: first, problem: false }
    }

    fn step(&mut self) -> Option<Entry<'a>> {
        // Four zero bytes end the list; so does the end of its space.
        let end: &U32 = view(self.values, self.at)?;
        if end.get() == 0 {
            return None;
        }
        let next = self.entry();
        self.problem = next.is_none();
        next
    }

    fn entry(&mut self) -> Option<Entry<'a>> {
        let raw: &RawEntry = view(self.values, self.at)?;
        let name_at = self.at + ENTRY;
        let name_end = name_at + usize::from(raw.name_len);
        let name = self.values.get(name_at..name_end)?;
        self.at = name_end.next_multiple_of(4);
        Some(Entry { raw, name, values: self.values })
    }
}

impl<'a> Iterator for List<'a> {
    type Item = Result<Entry<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.problem {
            return None;
        }
        match self.step() {
            Some(entry) => Some(Ok(entry)),
            None => self.problem.then(|| Err(bad("an entry reaches past the end of the list"))),
        }
    }
}

#[cold]
fn bad(problem: &'static str) -> Error {
    Error::corrupt("extended attributes", problem)
}

impl<'a> Entry<'a> {
    /// The namespace, of those that the kernel hands out.
    fn namespace(&self) -> Option<XattrNamespace> {
        Some(match self.raw.name_index {
            1 => XattrNamespace::User,
            2 => XattrNamespace::AclAccess,
            3 => XattrNamespace::AclDefault,
            4 => XattrNamespace::Trusted,
            6 => XattrNamespace::Security,
            _ => return None,
        })
    }

    /// The name as a listing gives it: nothing follows the namespace of an ACL.
    fn listed(&self) -> Option<Xattr<'a>> {
        let namespace = self.namespace()?;
        let acl = matches!(namespace, XattrNamespace::AclAccess | XattrNamespace::AclDefault);
        (acl == self.name.is_empty()).then_some(Xattr { namespace, name: self.name })
    }

    /// The value, where it lies beside the list.
    fn value(&self) -> Result<&'a [u8]> {
        let start = usize::from(self.raw.value_offset.get());
        let length = to_usize(u64::from(self.raw.value_size.get()));
        if length == 0 {
            return Ok(&[]);
        }
        let end = start.checked_add(length);
        end.and_then(|end| self.values.get(start..end))
            .ok_or_else(|| bad("a value reaches past the end of its space"))
    }
}

impl Ext4 {
    /// The value of an attribute, ACLs in the form of `getxattr(2)`.
    pub(crate) fn xattr_value(
        &self,
        inode: &Inode,
        namespace: XattrNamespace,
        name: &[u8],
    ) -> Result<Option<Vec<u8>>> {
        let stored = self.stored_value(inode, namespace, name).map_err(|error| error.in_inode(inode.ino))?;
        match (stored, namespace) {
            (Some(value), XattrNamespace::AclAccess | XattrNamespace::AclDefault) => {
                acl::to_xattr(&value).map(Some).map_err(|error| error.in_inode(inode.ino))
            }
            (stored, _) => Ok(stored),
        }
    }

    fn stored_value(&self, inode: &Inode, namespace: XattrNamespace, name: &[u8]) -> Result<Option<Vec<u8>>> {
        let wanted = |entry: &Entry<'_>| entry.namespace() == Some(namespace) && entry.name == name;
        for entry in ibody_list(inode)? {
            let entry = entry?;
            if wanted(&entry) {
                return self.value_of(inode, &entry).map(Some);
            }
        }
        if let Some(block) = self.xattr_block(inode)? {
            for entry in List::new(&block, BLOCK_HEADER) {
                let entry = entry?;
                if wanted(&entry) {
                    return self.value_of(inode, &entry).map(Some);
                }
            }
        }
        Ok(None)
    }

    /// Gives the names of all attributes until `visit` answers `false`.
    pub(crate) fn list_xattrs(&self, inode: &Inode, visit: &mut dyn FnMut(Xattr<'_>) -> bool) -> Result<()> {
        let block = self.xattr_block(inode).map_err(|error| error.in_inode(inode.ino))?;
        let in_block = List::new(block.as_deref().unwrap_or_default(), BLOCK_HEADER);
        let in_inode = ibody_list(inode)?;
        for entry in in_inode.chain(in_block) {
            let entry = entry.map_err(|error| error.in_inode(inode.ino))?;
            if let Some(xattr) = entry.listed()
                && !visit(xattr)
            {
                break;
            }
        }
        Ok(())
    }

    /// The part of an inline file that does not fit in `i_block`: the value of `system.data`.
    pub(crate) fn inline_data_value<'a>(&self, inode: &'a Inode) -> Result<Option<&'a [u8]>> {
        Ok(inline_data_place(inode)?.and_then(|place| inode.bytes().get(place)))
    }

    /// The verified block of attributes.
    fn xattr_block(&self, inode: &Inode) -> Result<Option<Arc<[u8]>>> {
        let number = inode.xattr_block(&self.geometry)?;
        if number == 0 {
            return Ok(None);
        }
        let Some(at) = self.geometry.byte_of(FsBlock(number)) else {
            return Err(bad("their block lies past the end of the volume"));
        };
        let key = CacheKey { offset: at, kind: Kind::Xattrs.number(), owner: 0 };
        let block = self.cache.get_or_load(key, || {
            let bytes = self.media.read_vec(at, self.geometry.block_len())?;
            self.verify_xattr_block(number, &bytes).map_err(|error| error.at(at))?;
            Ok(bytes.into())
        })?;
        Ok(Some(block))
    }

    fn verify_xattr_block(&self, number: u64, bytes: &[u8]) -> Result<()> {
        let word = |at| view::<U32>(bytes, at).map_or(0, |word| word.get());
        // h_magic and h_blocks.
        if word(0) != MAGIC || word(8) != 1 {
            return Err(bad("the header of their block is wrong"));
        }
        if !self.geometry.checksums {
            return Ok(());
        }
        let (Some(before), Some(after)) =
            (bytes.get(..BLOCK_CHECKSUM_AT), bytes.get(BLOCK_CHECKSUM_AT + 4..))
        else {
            return Err(bad("their block is cut short"));
        };
        let seed = self.geometry.checksum_seed;
        let sum = seed.over(&number.to_le_bytes()).over(before).over(&[0; 4]).over(after);
        if sum.value() != word(BLOCK_CHECKSUM_AT) {
            return Err(bad("the checksum of their block does not match"));
        }
        Ok(())
    }

    fn value_of(&self, inode: &Inode, entry: &Entry<'_>) -> Result<Vec<u8>> {
        let size = entry.raw.value_size.get();
        if size > VALUE_MAX {
            return Err(Error::TooLarge(inode.ino, u64::from(VALUE_MAX)));
        }
        match entry.raw.value_inum.get() {
            0 => entry.value().map(<[u8]>::to_vec),
            number => self.value_in_inode(inode, entry, Ino(u64::from(number)), to_usize(u64::from(size))),
        }
    }

    /// Reads a value that is an inode's contents, and checks both of its hashes (`ext4_xattr_inode_get`).
    fn value_in_inode(&self, owner: &Inode, entry: &Entry<'_>, ino: Ino, size: usize) -> Result<Vec<u8>> {
        let inode = self.any_inode(ino)?;
        if !inode.has(Flags::EA_INODE) || inode.length != to_u64(size) {
            return Err(bad("the inode that should hold a value does not"));
        }
        let mut value = vec![0; size];
        self.read_blocks(&inode, 0, &mut value)?;
        let hash = self.geometry.checksum_seed.over(&value).value();
        let (stored, parent) = inode.raw_times()?;
        if hash == stored {
            if entry_hashes(entry.name, hash).contains(&entry.raw.hash.get()) {
                return Ok(value);
            }
            return Err(bad("the hash of an entry whose value is in an inode does not match"));
        }
        // Lustre made such inodes before there were hashes; they name their owner instead.
        if u64::from(parent) == owner.ino.0 && inode.generation() == owner.generation() {
            return Ok(value);
        }
        Err(bad("the hash of a value in an inode does not match"))
    }
}

/// The hash that an entry with a value in an inode must carry: over its name and the value's hash
/// (`ext4_xattr_hash_entry`). Characters were taken as signed ones by older kernels on some machines.
fn entry_hashes(name: &[u8], value_hash: u32) -> [u32; 2] {
    let sign_extended = |byte: u8| {
        let [a, b, c, d] = i32::from(i8::from_le_bytes([byte])).to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    };
    let finish = |hash: u32| hash.rotate_left(16) ^ value_hash;
    let unsigned = name.iter().fold(0_u32, |hash, &byte| hash.rotate_left(5) ^ u32::from(byte));
    let signed = name.iter().fold(0_u32, |hash, &byte| hash.rotate_left(5) ^ sign_extended(byte));
    [finish(unsigned), finish(signed)]
}

/// The attributes within an inode.
fn ibody_list(inode: &Inode) -> Result<List<'_>> {
    Ok(List::new(ibody_space(inode)?.unwrap_or_default().0, 0))
}

/// The space for attributes within an inode, behind its header, and where it begins there; `None` where there
/// are none.
fn ibody_space(inode: &Inode) -> Result<Option<(&[u8], usize)>> {
    let Some(at) = inode.inline_xattrs_at()? else { return Ok(None) };
    let magic: Option<&U32> = view(inode.bytes(), at);
    if magic.is_none_or(|magic| magic.get() != MAGIC) {
        return Ok(None);
    }
    let first = at + IBODY_HEADER;
    Ok(inode.bytes().get(first..).map(|space| (space, first)))
}

/// Where in the inode the value of `system.data` lies.
pub(crate) fn inline_data_place(inode: &Inode) -> Result<Option<Range<usize>>> {
    let Some((space, first)) = ibody_space(inode)? else { return Ok(None) };
    for entry in List::new(space, 0) {
        let entry = entry.map_err(|error| error.in_inode(inode.ino))?;
        if entry.raw.name_index == INDEX_SYSTEM && entry.name == b"data" && entry.raw.value_inum.get() == 0 {
            let length = entry.value().map_err(|error| error.in_inode(inode.ino))?.len();
            let start = first + usize::from(entry.raw.value_offset.get());
            return Ok(Some(start..start + length));
        }
    }
    Ok(None)
}
