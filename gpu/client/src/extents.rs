//! Where the bytes of a file lie, as the attribute `homi.extents` tells.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd};

use homi_abi::extents::{Entry, Header, MORE, decode};
use rustix::fs::fgetxattr;
use rustix::io::Errno;

use crate::ClientError;

/// Most bytes that the kernel carries in an attribute (`XATTR_SIZE_MAX`).
const ATTRIBUTE_MAX: usize = 64 << 10;
/// How often a map that changes while it is read is begun again.
const TRIES: u32 = 8;

/// A contiguous piece of a file. All in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// First byte within the file.
    pub logical: u64,
    /// First byte on the volume; the device's byte is [`ExtentMap::volume_start`] more.
    pub physical: u64,
    /// Length, not 0. The last one may reach past the end of the file.
    pub length: u64,
    /// `UNWRITTEN`, `INLINE`, `SHARED` and `ENCODED` of [`homi_abi::extents`]; 0 is plain data.
    pub flags: u32,
}

/// The whole map of a file at one generation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExtentMap {
    /// The generation of the file that the map belongs to.
    pub generation: u64,
    /// Bytes of the file.
    pub file_size: u64,
    /// Bytes of a block of the file system.
    pub block_size: u32,
    /// Byte of the device where the volume starts.
    pub volume_start: u64,
    /// The pieces, sorted by `logical`, without overlap; what none covers is a hole.
    pub extents: Vec<Extent>,
}

impl ExtentMap {
    /// The map of an open file, all parts of it.
    ///
    /// # Errors
    /// Where the file lies on no mount of homifs, its map cannot be read, or it changes all the time.
    pub fn of_file(file: impl AsFd) -> Result<Self, ClientError> {
        let file = file.as_fd();
        for _ in 0..TRIES {
            if let Some(map) = Self::read_once(file)? {
                return Ok(map);
            }
        }
        Err(ClientError::System {
            action: "read homi.extents: the map changed whenever half of it was read; try again later",
            source: Errno::AGAIN.into(),
        })
    }

    /// None where the map changed between two of its parts.
    fn read_once(file: BorrowedFd<'_>) -> Result<Option<Self>, ClientError> {
        let mut bytes = vec![0; ATTRIBUTE_MAX];
        let mut map = Self::default();
        let mut whole: Option<Header> = None;
        loop {
            let first = u64::try_from(map.extents.len()).unwrap_or(u64::MAX);
            let name = if first == 0 { "homi.extents".into() } else { format!("homi.extents@{first}") };
            let name = CString::new(name).map_err(|_| protocol("a name with a NUL"))?;
            let length = fgetxattr(file, name.as_c_str(), &mut bytes).map_err(refused)?;
            let value = bytes.get(..length).ok_or_else(|| protocol("longer than its buffer"))?;
            let (header, entries) = decode(value).map_err(|error| protocol(&error.to_string()))?;
            let given = header.entries.get();
            if let Some(whole) = whole
                && (whole.generation, whole.total, whole.file_size)
                    != (header.generation, header.total, header.file_size)
            {
                return Ok(None);
            }
            whole = Some(header);
            map.extents.extend(entries.map(|entry: Entry| Extent {
                logical: entry.logical.get(),
                physical: entry.physical.get(),
                length: entry.length.get(),
                flags: entry.flags.get(),
            }));
            if header.flags.get() & MORE != 0 && given > 0 && header.first.get() == first {
                continue;
            }
            let there = u64::try_from(map.extents.len()).unwrap_or(u64::MAX);
            if header.first.get() != first || there != header.total.get() {
                return Err(protocol(&format!("{there} extents of {}", header.total)));
            }
            map.generation = header.generation.get();
            map.file_size = header.file_size.get();
            map.block_size = header.block_size.get();
            map.volume_start = header.volume_start.get();
            map.check()?;
            return Ok(Some(map));
        }
    }

    fn check(&self) -> Result<(), ClientError> {
        let mut end = 0;
        for extent in &self.extents {
            let next = extent.logical.checked_add(extent.length);
            let on_volume = extent.physical.checked_add(extent.length);
            let sound = extent.length > 0 && extent.logical >= end && on_volume.is_some();
            end = next.filter(|_| sound).ok_or_else(|| {
                protocol(&format!("an extent of {} bytes at {}", extent.length, extent.logical))
            })?;
        }
        Ok(())
    }
}

fn protocol(problem: &str) -> ClientError {
    ClientError::Protocol(format!("homi.extents: {problem}"))
}

fn refused(error: Errno) -> ClientError {
    if matches!(error, Errno::NODATA | Errno::OPNOTSUPP) {
        return ClientError::NotServed {
            path: "the file".into(),
            reason: "it has no attribute homi.extents; only regular files on a mount of homifs have it"
                .into(),
        };
    }
    ClientError::system("get homi.extents of the file")(error)
}
