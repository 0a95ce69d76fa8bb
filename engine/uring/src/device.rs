//! An open file or block device, served through the kernel.

use std::fmt;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use engine_block::{BlockDevice, BlockQueue, DeviceInfo, IoError, OpenError};
use engine_dma::{Pool, to_u64, to_usize};
use rustix::fs::{FileType, Mode, OFlags, fstat, fstatfs, open};
use rustix::io::{Errno, pread};

use crate::geometry::{self, Geometry};
use crate::pread_queue::PreadQueue;
use crate::ring::Ring;
use crate::ring_queue::RingQueue;

/// Most memory that a queue keeps (and has registered, so that it is resident).
const MOST_MEMORY: usize = 16 << 20;

/// What a queue maps at a time is this for each request that it may have in flight, within bounds: even the shortest
/// queue should hold one of the longest reads that FUSE asks for, 1 MiB.
const ARENA_FOR_EACH: usize = 128 << 10;
const SHORTEST_ARENA: usize = 1 << 20;
const LONGEST_ARENA: usize = 4 << 20;

/// Which of the kernel's ways to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backend {
    /// io_uring where the kernel grants it, else pread.
    #[default]
    Auto,
    /// io_uring or nothing.
    IoUring,
    /// pread.
    Pread,
}

/// Whether reads of file contents pass by the page cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direct {
    /// Where the file can be read so.
    #[default]
    Auto,
    /// Always, or refuse the file.
    On,
    /// Never.
    Off,
}

/// What the caller would like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Preference {
    /// Which of the kernel's ways to read.
    pub backend: Backend,
    /// Whether to pass by the page cache.
    pub direct: Direct,
}

/// A regular file or block device that the kernel reads for us.
#[derive(Debug)]
pub struct KernelDevice {
    info: DeviceInfo,
    geometry: Geometry,
    way: Way,
    /// The file as the caller opened it, with whatever locks or claims hang on it; reads metadata, through the page
    /// cache. No advice is given about the access: the kernel's own read-ahead does not fire on random 4 KiB reads
    /// (4,000 of them took as long, and read as much, with `POSIX_FADV_RANDOM`), and helps with the runs that inode
    /// tables and directories are (5 to 8 times faster in sequence, twice as fast in runs of 16 blocks).
    held: File,
    /// The same file, opened the way that contents are read.
    data: Arc<File>,
}

impl KernelDevice {
    /// Serves `file`, a regular file or block device open for reading, in the way preferred. `spec` is what the user
    /// called it. Locks and claims on `file` last as long as the device.
    ///
    /// # Errors
    /// Where the file cannot be read in the way preferred.
    pub fn new(file: File, spec: &str, preference: Preference) -> Result<Self, OpenError> {
        let system = |action: &'static str, error: Errno| OpenError::System {
            action,
            device: spec.to_owned(),
            source: error.into(),
        };
        let size = geometry::size(&file).map_err(|error| system("find the size of", error))?;
        let direct = match preference.direct {
            Direct::Off => None,
            // There is nothing to pass by, and alignment would only be in the way.
            Direct::Auto if is_in_memory(&file) => None,
            Direct::Auto | Direct::On => {
                open_direct(&file, size).map_err(|error| system("open for direct reading", error))?
            }
        };
        if direct.is_none() && preference.direct == Direct::On {
            return Err(system("open for direct reading", Errno::INVAL));
        }
        let direct_word = if direct.is_some() { "with O_DIRECT" } else { "through the page cache" };
        let (data, geometry) = match direct {
            Some(direct) => direct,
            None => {
                let data = reopen(&file, OFlags::empty()).map_err(|error| system("open", error))?;
                (data, Geometry::buffered(size))
            }
        };
        let data = Arc::new(data);
        let way = choose(&data, spec, preference.backend)?;
        let info = DeviceInfo {
            spec: spec.to_owned(),
            path: format!("{way} {direct_word} on {spec}"),
            size,
            logical_block: geometry.block.max(512),
            max_transfer: geometry.max_transfer,
        };
        Ok(Self { info, geometry, way, held: file, data })
    }
}

impl BlockDevice for KernelDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn queue(&self, depth: u32) -> Result<Box<dyn BlockQueue>, OpenError> {
        let arena =
            ARENA_FOR_EACH.saturating_mul(to_usize(depth.into())).clamp(SHORTEST_ARENA, LONGEST_ARENA);
        let pool = Pool::new(arena, MOST_MEMORY / arena);
        let data = Arc::clone(&self.data);
        if self.way == Way::Pread {
            return Ok(Box::new(PreadQueue::new(data, self.geometry, pool, depth)));
        }
        match RingQueue::new(data, self.geometry, pool, depth) {
            Ok(queue) => Ok(Box::new(queue)),
            Err(source) => {
                let device = self.info.spec.clone();
                Err(OpenError::System { action: "make an io_uring for", device, source })
            }
        }
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), IoError> {
        let length = to_u64(buf.len());
        if offset.checked_add(length).is_none_or(|end| end > self.info.size) {
            return Err(IoError { offset, length, errno: libc::EINVAL });
        }
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let position = offset + to_u64(done);
            let failed = |errno| IoError { offset: position, length: length - to_u64(done), errno };
            match pread(&self.held, rest, position) {
                // The device has become shorter than it was.
                Ok(0) => return Err(failed(libc::EIO)),
                Ok(newly) => done += newly,
                Err(Errno::INTR) => {}
                Err(error) => return Err(failed(error.raw_os_error())),
            }
        }
        Ok(())
    }
}

/// The way that reads take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Ring,
    Pread,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ring => "io_uring",
            Self::Pread => "pread",
        })
    }
}

/// Settles on a way by trying whether the kernel grants a ring.
fn choose(data: &File, spec: &str, preference: Backend) -> Result<Way, OpenError> {
    if preference == Backend::Pread {
        tracing::warn!(device = spec, "reading by pread, as asked: one read at a time for each worker");
        return Ok(Way::Pread);
    }
    if preference == Backend::Auto && is_in_memory(data) {
        tracing::info!(device = spec, "reading by pread: io_uring is slower on files in memory");
        return Ok(Way::Pread);
    }
    match Ring::new(1, data) {
        Ok(_) => Ok(Way::Ring),
        Err(source) if preference == Backend::IoUring => {
            Err(OpenError::System { action: "make an io_uring for", device: spec.to_owned(), source })
        }
        Err(error) => {
            tracing::warn!(
                device = spec,
                %error,
                "no io_uring here (kernel.io_uring_disabled, or a seccomp filter?); reading by pread, one read at a \
                 time for each worker"
            );
            Ok(Way::Pread)
        }
    }
}

/// Whether this is a regular file in a tmpfs (as the nodes of block devices are, whose bytes are elsewhere). The kernel hands each of an io_uring's reads there to a thread of its own, which
/// costs more than the read: 2.6 us of CPU for 4 KiB at depth 32 where pread takes 1.1.
fn is_in_memory(file: &File) -> bool {
    const TMPFS_MAGIC: u64 = 0x0102_1994; // linux/magic.h
    let regular = fstat(file).is_ok_and(|told| FileType::from_raw_mode(told.st_mode).is_file());
    regular && fstatfs(file).is_ok_and(|told| u64::try_from(told.f_type) == Ok(TMPFS_MAGIC))
}

/// The same file once more, with a file description of its own.
fn reopen(file: &File, extra: OFlags) -> rustix::io::Result<File> {
    // By the descriptor rather than the name, which may lead to another file by now.
    let again = format!("/proc/self/fd/{}", file.as_raw_fd());
    open(again, OFlags::RDONLY | OFlags::CLOEXEC | extra, Mode::empty()).map(File::from)
}

/// The file opened for direct reads, or `None` where its file system does not do them.
fn open_direct(file: &File, size: u64) -> rustix::io::Result<Option<(File, Geometry)>> {
    let Some(units) = geometry::direct_units(file)? else { return Ok(None) };
    let direct = match reopen(file, OFlags::DIRECT) {
        Err(Errno::INVAL) => return Ok(None),
        other => other?,
    };
    let geometry = Geometry::direct(size, units);
    // Some file systems take the flag and refuse the reads.
    let mut pool = Pool::new(0, 0);
    let mut probe = pool.take(to_usize(units.block.into())).map_err(|_| Errno::NOMEM)?;
    match pread(&direct, &mut probe[..], 0) {
        Err(Errno::INVAL) => Ok(None),
        // Whether the first block is readable is not the question here.
        _ => Ok(Some((direct, geometry))),
    }
}
