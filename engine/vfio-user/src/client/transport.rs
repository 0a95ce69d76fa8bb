//! The transport over a vfio-user socket.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use engine_dma::{Access, Arena, PAGE, Region, to_u64, to_usize};
use engine_transport::{Interrupt, Transport, TransportError};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use zerocopy::IntoBytes;

use crate::client::Limits;
use crate::client::line::{Line, MOST_DATA, left};
use crate::client::memory::Memory;
use crate::client::regions::RemoteRegion;
use crate::client::watcher::Watcher;
use crate::pci::{self, command};
use crate::socket::{MOST_FDS, Socket};
use crate::wire::{
    Capabilities, Command, IrqSet, MAJOR, MINOR, TwinSocket, device_flag, irq_flag, irq_set_flag,
    read_version, write_version,
};

/// Where the doorbells start in BAR0 (NVMe over PCIe Transport Specification 1.x, section 3.1.2).
const DOORBELLS: u32 = 0x1000;
/// How long to wait before asking again where the server takes no connections yet.
const CONNECT_PAUSE: Duration = Duration::from_millis(10);

/// An NVMe controller behind a vfio-user socket.
#[derive(Debug)]
pub struct VfioUserTransport {
    id: u64,
    line: Arc<Line>,
    memory: Arc<Memory>,
    doorbells: Option<Arc<Region>>,
    bar_size: u64,
    vectors: u16,
    resettable: bool,
    /// The vectors that were connected, to tell the server again after a reset.
    connected: Mutex<Vec<(u16, Interrupt)>>,
    _watcher: Watcher,
}

impl VfioUserTransport {
    /// Connects to the controller at `path`: a socket, or a directory with a socket named `cntrl`.
    ///
    /// # Errors
    /// Where nothing listens there, or what does is not an NVMe controller that speaks vfio-user.
    pub fn connect(path: &Path) -> Result<Arc<Self>, TransportError> {
        Self::connect_within(path, Limits::default())
    }

    /// As [`connect`](Self::connect), with other limits.
    ///
    /// # Errors
    /// As for [`connect`](Self::connect).
    pub fn connect_within(path: &Path, limits: Limits) -> Result<Arc<Self>, TransportError> {
        let device = format!("vfio-user:{}", path.display());
        let system = |action, source| TransportError::System { device: device.clone(), action, source };
        let socket = dial(&socket_path(path), &device, limits.connect)?;
        let line = Arc::new(Line::new(device.clone(), Socket::over(socket), limits));
        negotiate(&line)?;
        let refused = |reason| Err(TransportError::Protocol { device: device.clone(), reason });
        let info = line.device_info()?;
        if info.flags.get() & device_flag::PCI == 0 {
            return refused("it is not a PCI function".into());
        }
        if info.regions.get() <= pci::CONFIG_REGION || info.irqs.get() <= pci::MSIX_IRQ {
            let (regions, irqs) = (info.regions, info.irqs);
            return refused(format!("a PCI function with {regions} regions and {irqs} kinds of interrupt"));
        }
        check_class(&line)?;
        enable(&line)?;
        let bar = line.region(pci::BAR0_REGION)?;
        if bar.info.size.get() < u64::from(DOORBELLS) {
            return refused(format!("BAR0 has {} bytes, too few for an NVMe controller", bar.info.size));
        }
        let irqs = line.irq_info(pci::MSIX_IRQ)?;
        let signalled = irqs.flags.get() & irq_flag::EVENTFD != 0;
        // 2,048 is as many as MSI-X has (PCI Express Base Specification, section 7.7.2.2).
        let vectors = if signalled { irqs.count.get().min(2048) } else { 0 };
        let watcher = Watcher::start(Arc::clone(&line))
            .map_err(|source| system("start a thread that watches the socket", source))?;
        Ok(Arc::new(Self {
            id: engine_transport::next_id(),
            memory: Memory::new(Arc::clone(&line)),
            doorbells: map_doorbells(&line, bar.files.as_slice(), &bar),
            bar_size: bar.info.size.get(),
            vectors: u16::try_from(vectors).unwrap_or(0),
            resettable: info.flags.get() & device_flag::RESET != 0,
            connected: Mutex::default(),
            _watcher: watcher,
            line,
        }))
    }

    /// Reads from the PCI configuration space.
    ///
    /// # Errors
    /// Where the server refuses or is gone.
    pub fn read_config(&self, offset: u64, target: &mut [u8]) -> Result<(), TransportError> {
        self.line.region_read(pci::CONFIG_REGION, offset, target)
    }

    /// How many bytes BAR0 has.
    #[must_use]
    pub fn bar_size(&self) -> u64 {
        self.bar_size
    }

    fn write(&self, offset: u32, value: &[u8]) -> Result<(), TransportError> {
        // A doorbell has no answer worth waiting for; registers do, and they are written rarely.
        self.line.region_write(pci::BAR0_REGION, u64::from(offset), value, offset >= DOORBELLS)
    }

    /// The doorbell at `offset`, where it is mapped.
    fn doorbell(&self, offset: u32) -> Option<&std::sync::atomic::AtomicU32> {
        let within = usize::try_from(offset.checked_sub(DOORBELLS)?).ok()?;
        self.doorbells.as_ref()?.u32_at(within)
    }

    fn set_vector(&self, vector: u16, interrupt: &Interrupt) -> Result<(), TransportError> {
        let asked = IrqSet {
            argsz: u32::try_from(size_of::<IrqSet>()).unwrap_or(0).into(),
            flags: (irq_set_flag::DATA_EVENTFD | irq_set_flag::ACTION_TRIGGER).into(),
            index: pci::MSIX_IRQ.into(),
            start: u32::from(vector).into(),
            count: 1.into(),
        };
        let action = || format!("connect interrupt vector {vector}");
        let told = self.line.ask(action, Command::DEVICE_SET_IRQS, &[asked.as_bytes()], &[interrupt.as_fd()]);
        told.map(drop)
    }

    fn system(&self, action: &'static str, source: io::Error) -> TransportError {
        TransportError::System { device: self.line.device().to_owned(), action, source }
    }
}

impl Transport for VfioUserTransport {
    fn name(&self) -> &str {
        self.line.device()
    }

    fn id(&self) -> u64 {
        self.id
    }

    fn read32(&self, offset: u32) -> Result<u32, TransportError> {
        let mut value = [0; 4];
        self.line.region_read(pci::BAR0_REGION, u64::from(offset), &mut value)?;
        Ok(u32::from_le_bytes(value))
    }

    fn read64(&self, offset: u32) -> Result<u64, TransportError> {
        let mut value = [0; 8];
        self.line.region_read(pci::BAR0_REGION, u64::from(offset), &mut value)?;
        Ok(u64::from_le_bytes(value))
    }

    fn write32(&self, offset: u32, value: u32) -> Result<(), TransportError> {
        if let Some(doorbell) = self.doorbell(offset) {
            doorbell.store(value.to_le(), Ordering::Release);
            return Ok(());
        }
        self.write(offset, &value.to_le_bytes())
    }

    fn write64(&self, offset: u32, value: u64) -> Result<(), TransportError> {
        self.write(offset, &value.to_le_bytes())
    }

    fn doorbells(&self) -> Option<Arc<Region>> {
        self.doorbells.clone()
    }

    fn arena(&self, length: usize) -> Result<Arena, TransportError> {
        self.memory.arena(self.id(), length)
    }

    fn interrupts(&self) -> u16 {
        self.vectors
    }

    fn interrupt(&self, vector: u16) -> Result<Interrupt, TransportError> {
        let mut connected = self.connected.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = |source| TransportError::Refused {
            device: self.line.device().to_owned(),
            action: format!("connect interrupt vector {vector}"),
            source,
        };
        if vector >= self.vectors {
            return Err(refused(Errno::INVAL.into()));
        }
        if connected.iter().any(|(known, _)| *known == vector) {
            return Err(refused(Errno::BUSY.into()));
        }
        let interrupt = Interrupt::new().map_err(|source| self.system("make an eventfd", source))?;
        let kept = interrupt.another().map_err(|source| self.system("make an eventfd", source))?;
        self.set_vector(vector, &kept)?;
        connected.push((vector, kept));
        Ok(interrupt)
    }

    fn reset(&self) -> Result<(), TransportError> {
        if !self.resettable {
            return Err(TransportError::Refused {
                device: self.line.device().to_owned(),
                action: "reset".into(),
                source: Errno::OPNOTSUPP.into(),
            });
        }
        self.line.ask(|| "reset".into(), Command::DEVICE_RESET, &[], &[])?;
        enable(&self.line)?;
        let connected = self.connected.lock().unwrap_or_else(PoisonError::into_inner);
        connected.iter().try_for_each(|(vector, interrupt)| self.set_vector(*vector, interrupt))
    }
}

/// A directory stands for the socket `cntrl` in it.
fn socket_path(path: &Path) -> PathBuf {
    if path.is_dir() { path.join("cntrl") } else { path.to_owned() }
}

fn dial(path: &Path, device: &str, limit: Duration) -> Result<OwnedFd, TransportError> {
    let system = |action, source| TransportError::System { device: device.to_owned(), action, source };
    let address = SocketAddrUnix::new(path).map_err(|error| system("use such a path", error.into()))?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(|error| system("make a socket", error.into()))?;
    let start = Instant::now();
    loop {
        match connect(&socket, &address) {
            Ok(()) => return Ok(socket),
            // Others are waiting to be served.
            Err(Errno::AGAIN | Errno::INTR) if !left(start, limit).is_zero() => thread::sleep(CONNECT_PAUSE),
            Err(Errno::AGAIN | Errno::INTR) => {
                let action = "take a connection".into();
                return Err(TransportError::Late { device: device.to_owned(), action, limit });
            }
            Err(error) => return Err(system("connect", error.into())),
        }
    }
}

fn negotiate(line: &Line) -> Result<(), TransportError> {
    let ours = Capabilities {
        max_msg_fds: Some(to_u64(MOST_FDS)),
        max_data_xfer_size: Some(to_u64(MOST_DATA)),
        pgsizes: Some(to_u64(PAGE)),
        twin_socket: Some(TwinSocket { supported: true, fd_index: None }),
        ..Capabilities::default()
    };
    let proposal = write_version(MAJOR, MINOR, &ours);
    let mut reply = line.ask(|| "agree on a version".into(), Command::VERSION, &[&proposal], &[])?;
    let (major, minor, theirs) = read_version(&reply.body)
        .map_err(|error| line.broken(format!("its version message is malformed: {error}")))?;
    if major != MAJOR || minor > MINOR {
        return Err(line.broken(format!("it speaks version {major}.{minor}, this is {MAJOR}.{MINOR}")));
    }
    let twin = theirs.unwrap_or_default().twin_socket.filter(|twin| twin.supported);
    if let Some(twin) = twin {
        let index = twin.fd_index.map(to_usize).filter(|&index| index < reply.fds.len());
        let Some(index) = index else {
            return Err(line.broken("it has a second socket and does not hand it over".into()));
        };
        line.set_twin(Socket::over(reply.fds.swap_remove(index)));
    }
    Ok(())
}

fn check_class(line: &Line) -> Result<(), TransportError> {
    let mut class = [0; 3];
    line.region_read(pci::CONFIG_REGION, pci::CLASS, &mut class)?;
    let [interface, sub, base] = class;
    if class == pci::NVME_CLASS {
        return Ok(());
    }
    let reason =
        format!("its class is {base:02x} {sub:02x} {interface:02x}, an NVMe controller's is 01 08 02");
    Err(TransportError::Protocol { device: line.device().to_owned(), reason })
}

/// Lets the function answer for its registers and reach memory; its pin interrupt is not used.
fn enable(line: &Line) -> Result<(), TransportError> {
    let mut value = [0; 2];
    line.region_read(pci::CONFIG_REGION, pci::COMMAND, &mut value)?;
    let wanted = command::MEMORY | command::BUS_MASTER | command::NO_PIN;
    let value = (u16::from_le_bytes(value) | wanted).to_le_bytes();
    line.region_write(pci::CONFIG_REGION, pci::COMMAND, &value, false)
}

/// Maps the doorbells, where the server lets them be mapped. Where that fails they are rung by messages.
fn map_doorbells(line: &Line, files: &[OwnedFd], bar: &RemoteRegion) -> Option<Arc<Region>> {
    let start = u64::from(DOORBELLS);
    let (index, end) = bar.areas.iter().enumerate().find_map(|(index, area)| {
        let end = area.offset.get().checked_add(area.size.get())?.min(bar.info.size.get());
        (area.offset.get() <= start && start < end).then_some((index, end))
    })?;
    let file = if files.len() == bar.areas.len() { files.get(index) } else { files.first() }?;
    // Where the file starts with the doorbells, the region starts before it: the sum wraps around to zero.
    let offset = bar.info.offset.get().wrapping_add(start);
    let length = to_usize(end - start) / PAGE * PAGE;
    let mapped = file.try_clone().and_then(|file| Region::map(file, offset, length, Access::ReadWrite));
    mapped
        .inspect_err(|error| {
            tracing::warn!(
                device = line.device(),
                "doorbells cannot be mapped and are rung by messages: {error}"
            );
        })
        .ok()
}
