//! Files and block devices, opened and held.

use std::fs::File;
use std::path::Path;

use engine_block::OpenError;
use rustix::fs::{FileType, Mode, OFlags, Stat, fcntl_getfl, fcntl_setfl, fstat, stat};
use rustix::io::Errno;

use crate::devices::DeviceNumber;
use crate::lock::{Locked, own, share};
use crate::{holder, spec};

/// What is to be done with a file or block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// Reading, while others may do what they like.
    Unguarded { writes: bool },
    /// Reading. Nobody can start to write (politely, where it is an image) meanwhile, and it is refused where somebody
    /// might now.
    Reading,
    /// Reading and writing. Nobody else has it meanwhile.
    Writing,
}

/// Opens the image file or block device at `path`.
pub(crate) fn open(path: &Path, spec: &str, wanted: Use) -> Result<File, OpenError> {
    let system =
        |action, error: Errno| OpenError::System { action, device: spec.to_owned(), source: error.into() };
    let busy = |holder| OpenError::Busy { device: spec.to_owned(), holder };
    let (exclusive, writes) = match wanted {
        Use::Unguarded { writes } => (false, writes),
        Use::Reading => (true, false),
        Use::Writing => (true, true),
    };
    let before = stat(path).map_err(|error| system("find", error))?;
    let kind = readable_kind(&before, spec)?;

    if writes && kind == FileType::BlockDevice && DeviceNumber::of(before.st_rdev).is_read_only() {
        // The kernel would let root open it and then refuse each write.
        return Err(OpenError::Spec(format!(
            "cannot open {spec} for writing: the device is read-only; open it for reading only"
        )));
    }

    // Should the name lead elsewhere by now: a FIFO must not hold us up, a terminal must not become ours.
    let access = if writes { OFlags::RDWR } else { OFlags::RDONLY };
    let mut flags = access | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    if kind == FileType::BlockDevice && exclusive {
        flags |= OFlags::EXCL;
    }
    let file: File = match rustix::fs::open(path, flags, Mode::empty()) {
        Err(Errno::BUSY) if kind == FileType::BlockDevice => {
            return Err(busy(holder::of_device(path, DeviceNumber::of(before.st_rdev))));
        }
        other => {
            let action = if writes { "open for writing" } else { "open" };
            other.map_err(|error| system(action, error))?.into()
        }
    };
    let now = fstat(&file).map_err(|error| system("examine", error))?;
    if readable_kind(&now, spec)? != kind {
        return Err(busy("it was replaced while it was being opened; try again".into()));
    }
    // io_uring would take the flag as "never wait for the disk".
    let waiting = fcntl_getfl(&file).and_then(|flags| fcntl_setfl(&file, flags - OFlags::NONBLOCK));
    waiting.map_err(|error| system("prepare", error))?;

    if exclusive && kind == FileType::RegularFile {
        match if writes { own(&file) } else { share(&file) } {
            Ok(Locked::Ours) => {}
            Ok(Locked::Refused) => return Err(busy(holder::of_image(path, &now))),
            Err(error) => {
                tracing::warn!(device = spec, %error, "no locks on this file system; trusting that nobody writes");
            }
        }
        let below = if writes { holder::loop_on(&now) } else { holder::loop_writing_to(&now) };
        if let Some(holder) = below {
            return Err(busy(holder));
        }
    }
    Ok(file)
}

fn readable_kind(stat: &Stat, spec: &str) -> Result<FileType, OpenError> {
    match FileType::from_raw_mode(stat.st_mode) {
        kind @ (FileType::RegularFile | FileType::BlockDevice) => Ok(kind),
        other => Err(OpenError::Spec(format!(
            "cannot open {spec}: it is {}; name an image file or a block device",
            spec::in_words(other)
        ))),
    }
}
