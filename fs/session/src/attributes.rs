//! Attributes of a node, and how long the kernel may keep them.

use std::time::Duration;

use crate::wire::{Attr, AttrOut, EntryOut, Statx, StatxOut, StatxTime};

/// A moment; before 1970 the nanoseconds still count forward.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Time {
    /// Seconds since the beginning of 1970.
    pub seconds: i64,
    /// And nanoseconds, less than a second.
    pub nanoseconds: u32,
}

impl Time {
    fn statx(self) -> StatxTime {
        StatxTime { seconds: self.seconds, nanoseconds: self.nanoseconds, reserved: 0 }
    }
}

/// What stat(2) tells.
#[derive(Debug, Clone, Copy, Default)]
pub struct Attributes {
    /// The inode number that programs see.
    pub ino: u64,
    /// In bytes.
    pub size: u64,
    /// In sectors of 512 bytes.
    pub blocks: u64,
    /// Last read.
    pub accessed: Time,
    /// Contents last changed.
    pub modified: Time,
    /// Attributes last changed.
    pub changed: Time,
    /// Made, where that is known: statx(2) tells it.
    pub born: Option<Time>,
    /// Type and permission bits, as in `st_mode`.
    pub mode: u32,
    /// Names.
    pub links: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Of a special file: the device, in the kernel's 32-bit form.
    pub device: u32,
    /// `st_blksize`.
    pub block_size: u32,
}

/// `STATX_BASIC_STATS`.
const BASIC: u32 = 0x7ff;
/// `STATX_BTIME`.
const BORN: u32 = 0x800;

impl Attributes {
    pub(crate) fn wire(&self) -> Attr {
        Attr {
            ino: self.ino,
            size: self.size,
            blocks: self.blocks,
            atime: self.accessed.seconds,
            mtime: self.modified.seconds,
            ctime: self.changed.seconds,
            atime_nanoseconds: self.accessed.nanoseconds,
            mtime_nanoseconds: self.modified.nanoseconds,
            ctime_nanoseconds: self.changed.nanoseconds,
            mode: self.mode,
            links: self.links,
            uid: self.uid,
            gid: self.gid,
            device: self.device,
            block_size: self.block_size,
            flags: 0,
        }
    }

    fn statx(&self) -> Statx {
        Statx {
            mask: if self.born.is_some() { BASIC | BORN } else { BASIC },
            block_size: self.block_size,
            attributes: 0,
            links: self.links,
            uid: self.uid,
            gid: self.gid,
            mode: u16::try_from(self.mode & 0xffff).unwrap_or(0),
            spare0: 0,
            ino: self.ino,
            size: self.size,
            blocks: self.blocks,
            attributes_mask: 0,
            atime: self.accessed.statx(),
            btime: self.born.unwrap_or_default().statx(),
            ctime: self.changed.statx(),
            mtime: self.modified.statx(),
            // `new_decode_dev`, include/linux/kdev_t.h.
            device_major: (self.device & 0x000f_ff00) >> 8,
            device_minor: (self.device & 0xff) | ((self.device >> 12) & 0x000f_ff00),
            volume_major: 0,
            volume_minor: 0,
            spare2: [0; 14],
        }
    }
}

/// Attributes that the kernel may keep for a while.
#[derive(Debug, Clone, Copy)]
pub struct Timed {
    /// What they are.
    pub attributes: Attributes,
    /// For how long.
    pub ttl: Duration,
}

impl Timed {
    pub(crate) fn wire(&self) -> AttrOut {
        AttrOut {
            valid: self.ttl.as_secs(),
            valid_nanoseconds: self.ttl.subsec_nanos(),
            padding: 0,
            attributes: self.attributes.wire(),
        }
    }

    pub(crate) fn statx(&self) -> StatxOut {
        StatxOut {
            valid: self.ttl.as_secs(),
            valid_nanoseconds: self.ttl.subsec_nanos(),
            flags: 0,
            spare: [0; 2],
            found: self.attributes.statx(),
        }
    }
}

/// A name and what it leads to.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The node's number; each entry with one, but for those that are listed as dots, is a lookup to be forgotten.
    pub node: u64,
    /// Tells apart nodes that have had the same number, one after the other.
    pub generation: u64,
    /// The node's attributes.
    pub attributes: Attributes,
    /// For how long the kernel may keep the name.
    pub name_ttl: Duration,
    /// For how long the attributes.
    pub attributes_ttl: Duration,
}

impl Entry {
    /// There is no such name, which the kernel may remember as long.
    #[must_use]
    pub fn absent(ttl: Duration) -> Self {
        let (node, generation, attributes) = (0, 0, Attributes::default());
        Self { node, generation, attributes, name_ttl: ttl, attributes_ttl: Duration::ZERO }
    }

    pub(crate) fn wire(&self) -> EntryOut {
        EntryOut {
            node: self.node,
            generation: self.generation,
            name_valid: self.name_ttl.as_secs(),
            attributes_valid: self.attributes_ttl.as_secs(),
            name_valid_nanoseconds: self.name_ttl.subsec_nanos(),
            attributes_valid_nanoseconds: self.attributes_ttl.subsec_nanos(),
            attributes: self.attributes.wire(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statx_tells_a_birth_only_where_there_is_one() {
        let mut attributes = Attributes { mode: 0o100_644, ..Attributes::default() };
        assert_eq!(attributes.statx().mask, BASIC);
        attributes.born = Some(Time { seconds: -2, nanoseconds: 250_000_000 });
        let statx = attributes.statx();
        assert_eq!(
            (statx.mask, statx.btime.seconds, statx.btime.nanoseconds),
            (BASIC | BORN, -2, 250_000_000)
        );
        assert_eq!(statx.mode, 0o100_644);
    }

    #[test]
    fn device_numbers_come_apart_as_the_kernel_puts_them_together() {
        let attributes = Attributes { device: 0x1231_0345, ..Attributes::default() };
        let statx = attributes.statx();
        assert_eq!((statx.device_major, statx.device_minor), (259, 0x12345));
    }
}
