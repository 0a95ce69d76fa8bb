//! One facade that opens a device from a spec string.
//!
//! ```no_run
//! use engine_open::{OpenOptions, open};
//!
//! let device = open("/srv/images/disk.img", &OpenOptions::default())?;
//! println!("{} bytes by {}", device.info().size, device.info().path);
//! # Ok::<(), engine_open::OpenError>(())
//! ```
#![forbid(unsafe_code)]
#![deny(
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

mod spec;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use engine_block::BlockDevice;
pub use engine_block::OpenError;
pub use engine_uring::{Backend, Direct};
use engine_uring::{KernelDevice, Preference};
use rustix::fs::{FileType, Mode, OFlags, fcntl_getfl, fcntl_setfl, fstat};

use crate::spec::Spec;

/// How to open a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenOptions {
    /// Which of the kernel's ways to read.
    pub backend: Backend,
    /// Whether reads of file contents pass by the page cache.
    pub direct: Direct,
    /// Whether to keep others from changing the device while it is open, and to refuse it where one might. Without
    /// this, what is read may be of no one moment.
    pub exclusive: bool,
    /// Whether the device is only read. Nothing else is served yet.
    pub read_only: bool,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self { backend: Backend::Auto, direct: Direct::Auto, exclusive: true, read_only: true }
    }
}

/// Opens the device that `spec` names: the path of an image file or block device.
///
/// # Errors
/// Where the spec names nothing that can be opened, something else holds the device, or the system refuses it.
pub fn open(spec: &str, options: &OpenOptions) -> Result<Arc<dyn BlockDevice>, OpenError> {
    if !options.read_only {
        return Err(OpenError::Spec(format!(
            "cannot open {spec} for writing: devices are only read; open it read-only"
        )));
    }
    let Spec::Path(path) = Spec::parse(spec)?;
    let file = open_file(path, spec, options)?;
    let preference = Preference { backend: options.backend, direct: options.direct };
    let device = KernelDevice::new(file, spec, preference)?;
    Ok(Arc::new(device))
}

fn open_file(path: &Path, spec: &str, options: &OpenOptions) -> Result<File, OpenError> {
    let system = |action, error: rustix::io::Errno| OpenError::System {
        action,
        device: spec.to_owned(),
        source: error.into(),
    };
    let mut flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let is_block = std::fs::metadata(path)
        .is_ok_and(|meta| std::os::unix::fs::FileTypeExt::is_block_device(&meta.file_type()));
    if is_block && options.exclusive {
        flags |= OFlags::EXCL;
    }
    let file: File =
        rustix::fs::open(path, flags, Mode::empty()).map_err(|error| system("open", error))?.into();
    let stat = fstat(&file).map_err(|error| system("examine", error))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile | FileType::BlockDevice => {}
        other => {
            return Err(OpenError::Spec(format!(
                "{spec} is {}: name an image file or a block device",
                spec::in_words(other)
            )));
        }
    }
    let set = fcntl_getfl(&file).and_then(|now| fcntl_setfl(&file, now - OFlags::NONBLOCK));
    set.map_err(|error| system("prepare", error))?;
    Ok(file)
}
