//! The software controller behind each of its doors, with a driver in front.
#![allow(dead_code, reason = "each test program uses what it needs")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine_controller::backing::MemoryBacking;
use engine_controller::{
    Controller as Software, ControllerOptions, Faults, InProcess, NamespaceOptions, PciDoor, Subsystem,
};
use engine_dma::{Buffer, Pool, to_u64};
use engine_nvme::{Controller, DriverOptions, NvmeDevice, QueuePair, Refused, Run, Status, Waiting};
use engine_transport::{Transport, TransportMemory};
use engine_vfio_user::pci::PciDevice;
use engine_vfio_user::{Server, VfioUserTransport};

pub(crate) const SIZE: usize = 4 << 20;

pub(crate) fn volume() -> Vec<u8> {
    (0..u32::try_from(SIZE).unwrap())
        .map(|at| u8::try_from((at * 13 + (at >> 9) * 5) % 251).unwrap())
        .collect()
}

/// What leads to the controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    InProcess,
    /// A socket, with doorbells that are mapped.
    VfioUser,
    /// A socket, with doorbells that are messages.
    Messages,
}

/// A way in which the controller works, and is reached.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    pub(crate) name: &'static str,
    pub(crate) door: Door,
    pub(crate) options: ControllerOptions,
}

/// All ways.
pub(crate) fn ways() -> [Way; 7] {
    let threads = |threads| ControllerOptions { threads, ..ControllerOptions::default() };
    let without = || ControllerOptions { shadow_doorbells: false, ..threads(1) };
    let spread =
        || ControllerOptions { doorbell_stride: 4, queue_entries: 16, mdts: 1, vectors: 1, ..threads(2) };
    let way = |name, door, options| Way { name, door, options };
    [
        way("on the caller's thread", Door::InProcess, threads(0)),
        way("on two threads", Door::InProcess, threads(2)),
        way("on one thread without shadow doorbells", Door::InProcess, without()),
        way("with spread doorbells and short queues", Door::InProcess, spread()),
        way("over a socket, on two threads", Door::VfioUser, threads(2)),
        way("over a socket, on one thread, each doorbell a message", Door::Messages, without()),
        way("over a socket, with spread doorbells and short queues", Door::VfioUser, spread()),
    ]
}

/// The ways in which faults are shown.
pub(crate) const FAULTY: [(Door, usize); 3] =
    [(Door::InProcess, 0), (Door::InProcess, 1), (Door::VfioUser, 1)];

pub(crate) struct Setup {
    pub(crate) subsystem: Arc<Subsystem>,
    pub(crate) software: Arc<Software>,
    backing: MemoryBacking,
    pub(crate) transport: Arc<dyn Transport>,
    _server: Option<(Server, tempfile::TempDir)>,
}

pub(crate) fn setup(way: &Way, block_size: u32) -> Setup {
    let backing = MemoryBacking::new(to_u64(SIZE)).unwrap();
    backing.region().write(0, &volume()).unwrap();
    let namespace = NamespaceOptions { block_size, ..NamespaceOptions::new(Arc::new(backing.clone())) };
    let subsystem = Subsystem::builder().namespace(namespace).build().unwrap();
    let software = Software::new(way.options.clone(), Arc::clone(&subsystem)).unwrap();
    let (transport, server): (Arc<dyn Transport>, _) = match way.door {
        Door::InProcess => (Arc::new(InProcess::new("soft:test", Arc::clone(&software))), None),
        door => {
            let place = tempfile::tempdir().unwrap();
            let function = PciDoor::new(Arc::clone(&software), door == Door::VfioUser);
            let server = Server::start(place.path(), Arc::new(PciDevice::new(function))).unwrap();
            (VfioUserTransport::connect(place.path()).unwrap(), Some((server, place)))
        }
    };
    Setup { subsystem, software, backing, transport, _server: server }
}

/// A setup that shows faults.
pub(crate) fn with_faults(way: (Door, usize)) -> (Setup, Faults) {
    with_faults_and(way, |_| {})
}

/// The same with other options.
pub(crate) fn with_faults_and(
    (door, threads): (Door, usize),
    change: impl FnOnce(&mut ControllerOptions),
) -> (Setup, Faults) {
    let faults = Faults::default();
    let mut options =
        ControllerOptions { threads, faults: Some(faults.clone()), ..ControllerOptions::default() };
    change(&mut options);
    (setup(&Way { name: "with faults", door, options }, 512), faults)
}

pub(crate) fn driver() -> DriverOptions {
    DriverOptions {
        timeout: Duration::from_millis(320),
        admin_timeout: Duration::from_secs(2),
        ..DriverOptions::default()
    }
}

impl Setup {
    pub(crate) fn open(&self) -> Arc<NvmeDevice> {
        engine_nvme::open(Arc::clone(&self.transport), driver()).unwrap()
    }

    /// What the volume holds.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; SIZE];
        self.backing.region().read(0, &mut bytes).unwrap();
        bytes
    }

    /// Once the driver is gone, the controller knows no memory of its any more.
    pub(crate) fn assert_nothing_left(&self) {
        let (start, space) = (Instant::now(), self.software.address_space());
        // The driver's own thread may be looking after the controller at the moment, and is the last to let it go then.
        while !space.is_empty() && start.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(space.len(), 0, "ranges of memory that the controller was not told to forget");
    }
}

/// A queue pair, and memory for its commands.
pub(crate) struct Hand {
    pub(crate) pair: QueuePair,
    pool: Pool,
}

impl Hand {
    pub(crate) fn new(setup: &Setup, controller: &Arc<Controller>) -> Self {
        let memory = TransportMemory(Arc::clone(&setup.transport));
        let pool = Pool::of(Arc::new(memory), 4 << 20, 4);
        Self { pair: controller.pair().unwrap(), pool }
    }

    pub(crate) fn buffer(&mut self, bytes: &[u8]) -> (Buffer, Run) {
        let mut buffer = self.pool.take(bytes.len()).unwrap();
        buffer.copy_from_slice(bytes);
        let within = buffer.address().addr().get() - buffer.arena().base().addr().get();
        let iova = buffer.arena().registration().unwrap().handle + to_u64(within);
        (buffer, Run { iova, length: u32::try_from(bytes.len()).unwrap() })
    }

    /// Carries out one command; its status.
    pub(crate) fn one(&mut self, command: impl FnOnce(&mut QueuePair) -> Result<(), Refused>) -> Status {
        command(&mut self.pair).unwrap();
        self.pair.ring();
        let (start, mut ended, mut waiting) = (Instant::now(), None, Waiting::default());
        while ended.is_none() {
            self.pair.reap(1, |completed| ended = Some(completed.status));
            self.pair.pause(&mut waiting, Duration::from_millis(10));
            assert!(start.elapsed() < Duration::from_secs(10));
        }
        ended.unwrap()
    }
}
