//! Devices behind the user-space NVMe driver.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use engine_block::{BlockDevice, BlockQueue, DeviceInfo, IoError, OpenError, RangeQueue};
use engine_nvme::{DriverOptions, NvmeDevice};
use engine_transport::{Transport, TransportError};
use engine_vfio_user::VfioUserTransport;

use crate::OpenOptions;

/// Opens the first namespace of the controller that serves the socket at `path`.
pub(crate) fn vfio_user(
    path: &Path,
    spec: &str,
    options: &OpenOptions,
) -> Result<Arc<dyn BlockDevice>, OpenError> {
    if !options.read_only {
        return Err(only_read(spec));
    }
    let transport = VfioUserTransport::connect(path).map_err(|error| unreachable(spec, &error))?;
    let served = format!("over vfio-user on {}", path.display());
    drive(transport, spec, &served, DriverOptions::default())
}

/// Brings the controller behind a transport up; `served` is the rest of the path to the blocks, in words.
pub(crate) fn drive(
    transport: Arc<dyn Transport>,
    spec: &str,
    served: &str,
    options: DriverOptions,
) -> Result<Arc<dyn BlockDevice>, OpenError> {
    let inner = engine_nvme::open(transport, options)?;
    let told = inner.info();
    let info = DeviceInfo { spec: spec.to_owned(), path: format!("{}, {served}", told.path), ..told.clone() };
    Ok(Arc::new(Driven { info, inner }))
}

/// Says that devices behind the driver cannot be written to yet.
pub(crate) fn only_read(spec: &str) -> OpenError {
    OpenError::Spec(format!(
        "cannot open {spec} for writing: NVMe controllers are only read through; open it read-only, or name the image \
         or disk itself"
    ))
}

/// Why a controller could not be reached, in words that say what to do.
fn unreachable(spec: &str, error: &TransportError) -> OpenError {
    if let TransportError::System { source, .. } = error {
        let nobody = matches!(source.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused);
        if nobody {
            return OpenError::Spec(format!(
                "cannot open {spec}: nobody listens there ({}); start a controller with `homifs controller DEVICE \
                 --socket PATH`, or check the path",
                rustix::io::Errno::from_io_error(source)
                    .map_or_else(|| source.to_string(), |errno| errno.to_string())
            ));
        }
        let source = io::Error::from_raw_os_error(source.raw_os_error().unwrap_or(libc::EIO));
        return OpenError::System { action: "connect to", device: spec.to_owned(), source };
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    OpenError::Spec(format!(
        "cannot open {spec}: {text}; name the socket of an NVMe controller, as `homifs controller` makes one"
    ))
}

/// A namespace, with the whole way to it in its description.
#[derive(Debug)]
struct Driven {
    info: DeviceInfo,
    inner: Arc<NvmeDevice>,
}

impl BlockDevice for Driven {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn queue(&self, depth: u32) -> Result<Box<dyn BlockQueue>, OpenError> {
        self.inner.queue(depth)
    }

    fn ranges(&self, depth: u32) -> Result<Box<dyn RangeQueue>, OpenError> {
        self.inner.ranges(depth)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), IoError> {
        self.inner.read_at(offset, buf)
    }
}
