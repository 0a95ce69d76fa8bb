//! Asks the kernel where the bytes of a file lie.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// A contiguous piece of a file as a map tells it, in bytes. Neighbours that continue each other are one piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// First byte within the file.
    pub logical: u64,
    /// First byte on the volume.
    pub physical: u64,
    /// Length in bytes.
    pub length: u64,
    /// Allocated, never written.
    pub unwritten: bool,
    /// Also part of another file.
    pub shared: bool,
    /// Kept within metadata.
    pub inline: bool,
}

/// Adds a piece to a map, or makes the last one longer where it continues that.
pub(crate) fn push_merged(map: &mut Vec<Piece>, piece: Piece) {
    if let Some(last) = map.last_mut() {
        let flags = |piece: &Piece| (piece.unwritten, piece.shared, piece.inline);
        if last.logical + last.length == piece.logical
            && last.physical + last.length == piece.physical
            && flags(last) == flags(&piece)
        {
            last.length += piece.length;
            return;
        }
    }
    map.push(piece);
}

/// `struct fiemap` of `include/uapi/linux/fiemap.h`, with room for a number of extents behind it.
#[repr(C)]
struct Request {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    count: u32,
    reserved: u32,
    extents: [RawExtent; COUNT],
}

/// `struct fiemap_extent`.
#[repr(C)]
#[derive(Clone, Copy)]
struct RawExtent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved: [u64; 2],
    flags: u32,
    reserved2: [u32; 3],
}

const COUNT: usize = 2048;
const HEADER: usize = size_of::<Request>() - COUNT * size_of::<RawExtent>();
const _: () = assert!(HEADER == 32 && size_of::<RawExtent>() == 56);

/// `_IOWR('f', 11, struct fiemap)`.
const FS_IOC_FIEMAP: u32 = 0xC020_660B;
const LAST: u32 = 0x1;
const UNKNOWN: u32 = 0x2;
const DELAYED: u32 = 0x4;
const INLINE: u32 = 0x200;
const UNWRITTEN: u32 = 0x800;
const SHARED: u32 = 0x2000;

/// The extent map that the kernel gives of an open file.
///
/// # Errors
/// What the ioctl answers, and where the kernel itself does not know yet where an extent lies.
pub fn fiemap(file: BorrowedFd<'_>) -> io::Result<Vec<Piece>> {
    let empty =
        RawExtent { logical: 0, physical: 0, length: 0, reserved: [0; 2], flags: 0, reserved2: [0; 3] };
    let mut map = Vec::new();
    let mut start = 0;
    loop {
        let mut request = Box::new(Request {
            start,
            length: u64::MAX - start,
            flags: 0,
            mapped: 0,
            count: COUNT as u32,
            reserved: 0,
            extents: [empty; COUNT],
        });
        // SAFETY: the request lives through the call and has room for the `count` extents that it announces; the
        // kernel writes nothing else.
        let answer = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FIEMAP.into(), &raw mut *request) };
        if answer < 0 {
            return Err(io::Error::last_os_error());
        }
        let found = &request.extents[..request.mapped as usize];
        for extent in found {
            if extent.flags & (UNKNOWN | DELAYED) != 0 {
                return Err(io::Error::other("the kernel has not placed an extent yet"));
            }
            push_merged(
                &mut map,
                Piece {
                    logical: extent.logical,
                    physical: extent.physical,
                    length: extent.length,
                    unwritten: extent.flags & UNWRITTEN != 0,
                    shared: extent.flags & SHARED != 0,
                    inline: extent.flags & INLINE != 0,
                },
            );
        }
        match found.last() {
            Some(last) if last.flags & LAST == 0 => start = last.logical + last.length,
            _ => return Ok(map),
        }
    }
}
