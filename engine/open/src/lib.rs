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

mod devices;
mod holder;
mod lock;
mod mounts;
mod nvme;
mod processes;
mod soft;
mod source;
mod spec;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use engine_block::BlockDevice;
pub use engine_block::OpenError;
pub use engine_uring::{Backend, Direct};
use engine_uring::{KernelDevice, Preference};

use crate::source::Use;
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
    /// Whether the device is only read. Otherwise it is opened for writing too, and with `exclusive` for nobody else:
    /// what anybody has open, mounted or attached is refused.
    pub read_only: bool,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self { backend: Backend::Auto, direct: Direct::Auto, exclusive: true, read_only: true }
    }
}

/// Opens the device that `spec` names: the path of an image file or block device, `soft:` and such a path for a
/// controller in this process over it, or `vfio-user:` and the path of a socket for one in another process.
///
/// How it is read is told by [`DeviceInfo::path`](engine_block::DeviceInfo::path), and logged.
///
/// # Errors
/// Where the spec names nothing that can be opened, something else holds the device, or the system refuses it.
pub fn open(spec: &str, options: &OpenOptions) -> Result<Arc<dyn BlockDevice>, OpenError> {
    let device = match Spec::parse(spec)? {
        Spec::Path(path) => Arc::new(kernel(path, spec, options)?),
        Spec::Soft(path) => soft::open(path, spec, options)?,
        Spec::VfioUser(path) => nvme::vfio_user(path, spec, options)?,
    };
    tracing::info!(bytes = device.info().size, "reading by {}", device.info().path);
    Ok(device)
}

/// Opens an image file or block device, for reading and writing, so that nobody else has it as long as the result is open:
/// for whoever has the kernel's own driver mount it. That driver holds a block device itself, which has to be let go first.
///
/// # Errors
/// Where anybody has it open, mounted or attached, it is write-protected, or the spec names something that is neither.
pub fn hold(spec: &str) -> Result<File, OpenError> {
    match Spec::parse(spec)? {
        Spec::Path(path) => source::open(path, spec, Use::Writing),
        Spec::Soft(_) | Spec::VfioUser(_) => Err(OpenError::Spec(format!(
            "cannot hold {spec}: the kernel's own driver writes only to block devices and image files; mount it read-only"
        ))),
    }
}

/// Opens an image file or block device to be read and written through the kernel.
fn kernel(path: &Path, spec: &str, options: &OpenOptions) -> Result<KernelDevice, OpenError> {
    let wanted = match (options.exclusive, options.read_only) {
        (false, read_only) => Use::Unguarded { writes: !read_only },
        (true, true) => Use::Reading,
        (true, false) => Use::Writing,
    };
    let file = source::open(path, spec, wanted)?;
    let preference = Preference { backend: options.backend, direct: options.direct };
    KernelDevice::new(file, spec, preference)
}
