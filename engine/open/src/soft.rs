//! A software NVMe controller in this process over an image file or block device.

use std::path::Path;
use std::sync::Arc;

use engine_block::{BlockDevice, OpenError};
use engine_controller::backing::BlockBacking;
use engine_controller::{
    Controller, ControllerError, ControllerOptions, InProcess, NamespaceOptions, Subsystem,
};
use engine_nvme::DriverOptions;
use engine_uring::Direct;

use crate::{OpenOptions, kernel, nvme};

/// Queue pairs: one for each worker of most mounts, who then share none.
const QUEUES: u16 = 32;

/// Opens the image or device at `path` as the one namespace of a controller without threads, which works on the
/// threads of those who wait for it.
pub(crate) fn open(
    path: &Path,
    spec: &str,
    options: &OpenOptions,
) -> Result<Arc<dyn BlockDevice>, OpenError> {
    if !options.read_only {
        return Err(nvme::only_read(spec));
    }
    let backing = backing(path, options)?;
    let told = backing.info().path.clone();
    let controller = controller(backing).map_err(|error| refused(spec, error))?;
    let transport = Arc::new(InProcess::new(spec, controller));
    // Nobody waits for an interrupt of a controller that works on the thread that waits.
    let driver = DriverOptions { queues: QUEUES, interrupts: false, ..DriverOptions::default() };
    nvme::drive(transport, spec, &format!("in this process, over {told}"), driver)
}

/// The device below. A namespace has whole blocks only, so an image that ends within one of direct I/O's blocks is
/// read through the page cache, which knows smaller ones.
fn backing(path: &Path, options: &OpenOptions) -> Result<Arc<dyn BlockDevice>, OpenError> {
    let name = path.to_string_lossy();
    let device = kernel(path, &name, options)?;
    let info = device.info();
    // Those who wait for the controller do its work, so a thread of theirs may as well wait in a call.
    let whole = info.size.is_multiple_of(info.logical_block.into());
    if whole || options.direct != Direct::Auto || info.logical_block <= 512 {
        return Ok(Arc::new(device.calling_for_single_ranges()));
    }
    drop(device);
    let device = kernel(path, &name, &OpenOptions { direct: Direct::Off, ..options.clone() })?;
    Ok(Arc::new(device.calling_for_single_ranges()))
}

fn controller(backing: Arc<dyn BlockDevice>) -> Result<Arc<Controller>, ControllerError> {
    let block_size = backing.info().logical_block;
    let namespace = NamespaceOptions {
        block_size,
        read_only: true,
        ..NamespaceOptions::new(Arc::new(BlockBacking::new(backing)))
    };
    let subsystem = Subsystem::builder().namespace(namespace).build()?;
    let options = ControllerOptions { threads: 0, queue_pairs: QUEUES, ..ControllerOptions::default() };
    Controller::new(options, subsystem)
}

fn refused(spec: &str, error: ControllerError) -> OpenError {
    match error {
        ControllerError::Backing(error) => error,
        ControllerError::System { action, source } => {
            OpenError::System { action, device: spec.to_owned(), source }
        }
        error => OpenError::Spec(format!("cannot open {spec}: {error}")),
    }
}
