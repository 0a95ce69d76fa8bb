//! Devices that are served, by the numbers of their namespaces.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engine_block::{BlockDevice, Operation, RangeRequest, Wait, Windows};
use engine_controller::backing::BlockBacking;
use engine_controller::{NamespaceOptions, Subsystem};
use engine_open::OpenOptions;
use homifs_options::MountOptions;

use crate::Result;
use crate::arguments;
use crate::failure::Failure;
use crate::volume;

/// How long the last flush of a device may take.
const FLUSH_LIMIT: Duration = Duration::from_secs(60);

/// The namespaces of a subsystem and the devices that they are made of.
#[derive(Debug)]
pub(crate) struct Served {
    subsystem: Arc<Subsystem>,
    ways: OpenOptions,
    block_size: Option<u32>,
    devices: Mutex<BTreeMap<u32, Arc<dyn BlockDevice>>>,
}

impl Served {
    pub(crate) fn new(subsystem: Arc<Subsystem>, arguments: &arguments::Controller) -> Result<Self> {
        let mut options = MountOptions::default();
        options.apply(&format!("engine={},direct={}", arguments.engine, arguments.direct))?;
        let ways = OpenOptions { read_only: arguments.read_only, ..volume::ways(&options) };
        // The parser let no other numbers through.
        let block_size = arguments.block_size.as_ref().and_then(|bytes| bytes.parse().ok());
        Ok(Self { subsystem, ways, block_size, devices: Mutex::default() })
    }

    fn devices(&self) -> MutexGuard<'_, BTreeMap<u32, Arc<dyn BlockDevice>>> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a device and makes it a namespace; the number of that.
    pub(crate) fn add(&self, spec: &str) -> Result<u32> {
        let device = engine_open::open(spec, &self.ways).map_err(|error| Failure {
            code: 1,
            message: match self.ways.read_only {
                false => format!("{}; --read-only serves it for reading", Failure::open(&error).message),
                true => Failure::open(&error).message,
            },
        })?;
        let backing = Arc::new(BlockBacking::new(Arc::clone(&device)));
        let block_size = self.block_size.unwrap_or(device.info().logical_block);
        let options = NamespaceOptions { block_size, ..NamespaceOptions::new(backing) };
        let added = self.subsystem.add_namespace(options);
        let nsid = added.map_err(|error| Failure::plain(format!("cannot serve {spec}: {error}")))?.nsid();
        tracing::info!(nsid, bytes = device.info().size, block_size, "serving {}", device.info().path);
        self.devices().insert(nsid, device);
        Ok(nsid)
    }

    /// Takes a namespace away and gives its device back.
    pub(crate) fn remove(&self, nsid: u32) -> Result {
        self.subsystem.remove_namespace(nsid).map_err(|error| Failure::controller(&error))?;
        let device = self.devices().remove(&nsid);
        device.map_or(Ok(()), |device| flush(&*device))
    }

    /// Flushes every device, the first failure is told.
    pub(crate) fn flush(&self) -> Result {
        let devices: Vec<_> = self.devices().values().cloned().collect();
        devices.iter().map(|device| flush(&**device)).fold(Ok(()), Result::and)
    }

    /// What is served, for a person.
    pub(crate) fn in_words(&self) -> String {
        let devices = self.devices();
        let one = |(nsid, device): (&u32, &Arc<dyn BlockDevice>)| {
            let access = if device.info().writable { "" } else { " (read-only)" };
            format!("namespace {nsid} is {}{access}", device.info().spec)
        };
        devices.iter().map(one).collect::<Vec<_>>().join(", ")
    }
}

/// Makes durable what was written to a device.
fn flush(device: &dyn BlockDevice) -> Result {
    if !device.info().writable {
        return Ok(());
    }
    let failed =
        |reason: String| Failure::plain(format!("{} may not be whole: {reason}", device.info().spec));
    let mut queue = device.ranges(1).map_err(|error| failed(error.to_string()))?;
    let request =
        RangeRequest { tag: 0, operation: Operation::Flush, offset: 0, length: 0, memory: Windows::new() };
    let mut done = Vec::new();
    match queue.submit(request) {
        Ok(()) => drop(queue.poll(Wait::For(FLUSH_LIMIT), &mut done)),
        Err(refused) => done.push(refused),
    }
    match done.pop() {
        Some(completion) => completion.result.map_err(|error| failed(error.to_string())),
        None => Err(failed(format!("flushing it took longer than {FLUSH_LIMIT:?}"))),
    }
}
