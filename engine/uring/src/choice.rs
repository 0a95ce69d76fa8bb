//! Which of the kernel's ways serves a file, and why.

use std::fmt;
use std::fs::File;
use std::os::fd::AsRawFd;

use engine_block::OpenError;
use engine_block::cut::Geometry;
use engine_dma::{Pool, to_usize};
use rustix::fs::{FileType, Mode, OFlags, fcntl_getfl, fstat, fstatfs, open};
use rustix::io::{Errno, pread};

use crate::geometry;
use crate::ring::Ring;

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

/// The way that reads take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
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

/// What was chosen.
pub(crate) struct Choice {
    /// The file, opened the way that contents are read.
    pub(crate) data: File,
    /// Whether it may be written to.
    pub(crate) writable: bool,
    pub(crate) geometry: Geometry,
    pub(crate) way: Way,
    /// All this in words, with the reasons where it is not what one would expect.
    pub(crate) path: String,
}

impl Choice {
    /// Finds the best way within what is preferred, by trying.
    ///
    /// # Errors
    /// Where the file cannot be read in the way preferred.
    pub(crate) fn make(
        file: &File,
        size: u64,
        spec: &str,
        preference: Preference,
    ) -> Result<Self, OpenError> {
        let system = |action, error: Errno| OpenError::System {
            action,
            device: spec.to_owned(),
            source: error.into(),
        };
        let mode = fcntl_getfl(file).map_err(|error| system("examine", error))? & OFlags::RWMODE;
        let writable = mode == OFlags::RDWR;
        let mut reasons = Vec::new();
        let direct = match preference.direct {
            Direct::Off => None,
            Direct::Auto if is_in_memory(file) => {
                reasons.push("it lies in memory, so that there is no cache to pass by".to_owned());
                None
            }
            Direct::Auto | Direct::On => {
                open_direct(file, size, mode).map_err(|error| system("open for direct reading", error))?
            }
        };
        if direct.is_none() && preference.direct == Direct::On {
            return Err(system("open for direct reading", Errno::INVAL));
        }
        if direct.is_none() && preference.direct == Direct::Auto && reasons.is_empty() {
            tracing::warn!(
                device = spec,
                "no direct reads on this file system; reading through the page cache"
            );
            reasons.push("its file system has no direct reads".to_owned());
        }
        let cache = if direct.is_some() { "with O_DIRECT" } else { "through the page cache" };
        let (data, geometry) = match direct {
            Some(direct) => direct,
            None => {
                let data = reopen(file, mode).map_err(|error| system("open", error))?;
                (data, geometry::buffered(size))
            }
        };
        let (way, reason) = choose_way(&data, spec, preference.backend)?;
        reasons.extend(reason);
        let mut path = format!("{way} {cache} on {spec}");
        if !reasons.is_empty() {
            path = format!("{path} ({})", reasons.join("; "));
        }
        Ok(Self { data, writable, geometry, way, path })
    }
}

/// Settles on a way, and why where it is pread, by trying whether the kernel grants a ring.
fn choose_way(data: &File, spec: &str, preference: Backend) -> Result<(Way, Option<String>), OpenError> {
    if preference == Backend::Pread {
        tracing::warn!(device = spec, "reading by pread, as asked: one read at a time for each worker");
        return Ok((Way::Pread, Some("as asked".to_owned())));
    }
    if preference == Backend::Auto && is_in_memory(data) {
        let reason = "io_uring is slower on files in memory";
        tracing::info!(device = spec, "reading by pread: {reason}");
        return Ok((Way::Pread, Some(reason.to_owned())));
    }
    match Ring::new(1, data) {
        Ok(_) => Ok((Way::Ring, None)),
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
            Ok((Way::Pread, Some(format!("no io_uring here: {error}"))))
        }
    }
}

/// Whether this is a regular file in a tmpfs (where the nodes of block devices are too, but not their bytes). The
/// kernel hands each of an io_uring's reads there to a thread of its own, which costs more than the read: 2.6 us of CPU
/// for 4 KiB at depth 32 where pread takes 1.1.
pub(crate) fn is_in_memory(file: &File) -> bool {
    const TMPFS_MAGIC: u64 = 0x0102_1994; // linux/magic.h
    let regular = fstat(file).is_ok_and(|told| FileType::from_raw_mode(told.st_mode).is_file());
    regular && fstatfs(file).is_ok_and(|told| u64::try_from(told.f_type) == Ok(TMPFS_MAGIC))
}

/// The same file once more, with a file description of its own.
fn reopen(file: &File, flags: OFlags) -> rustix::io::Result<File> {
    // By the descriptor rather than the name, which may lead to another file by now.
    let again = format!("/proc/self/fd/{}", file.as_raw_fd());
    open(again, OFlags::CLOEXEC | flags, Mode::empty()).map(File::from)
}

/// The file opened for direct reads, or `None` where its file system does not do them.
fn open_direct(file: &File, size: u64, mode: OFlags) -> rustix::io::Result<Option<(File, Geometry)>> {
    let Some(units) = geometry::direct_units(file)? else { return Ok(None) };
    let direct = match reopen(file, OFlags::DIRECT | mode) {
        Err(Errno::INVAL) => return Ok(None),
        other => other?,
    };
    let geometry = geometry::direct(size, units);
    // Some file systems take the flag and refuse the reads.
    let mut pool = Pool::new(0, 0);
    let mut probe = pool.take(to_usize(units.block.into())).map_err(|_| Errno::NOMEM)?;
    match pread(&direct, &mut probe[..], 0) {
        Err(Errno::INVAL) => Ok(None),
        // Whether the first block is readable is not the question here.
        _ => Ok(Some((direct, geometry))),
    }
}
