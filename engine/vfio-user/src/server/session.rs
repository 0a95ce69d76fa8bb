//! One client: what it asks for, checked, and what it is answered. Nothing here touches a socket.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use engine_dma::{Access, PAGE, Region, to_u64, to_usize};
use engine_transport::Interrupt;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use zerocopy::native_endian::U64;
use zerocopy::{FromBytes, IntoBytes};

use crate::Errno;
use crate::model::{ClientMemory, DeviceModel, RegionShape};
use crate::pci;
use crate::server::foreign;
use crate::server::ranges::Ranges;
use crate::socket::MOST_FDS;
use crate::wire::{
    Area, Capabilities, CapabilityHeader, Command, DeviceInfo, DmaMap, DmaUnmap, Header, IrqInfo, IrqSet,
    MAJOR, MINOR, RegionAccess, RegionInfo, RegionIoFds, RegionWrite, SparseAreas, TwinSocket, device_flag,
    flag, irq_flag, irq_set_flag, map_flag, read_version, region_flag, unmap_flag, write_version,
};

/// Most data in one message, either way.
pub(crate) const MOST_DATA: usize = 1 << 20;
/// Most bytes of a message that is taken from a client.
pub(crate) const MOST_MESSAGE: usize = 16 + 16 + MOST_DATA;
/// Most ranges that a client may map: each is a mapping of this process, of which the kernel allows 65,530.
pub(crate) const MOST_MAPS: usize = 16_384;

/// A descriptor that goes out with a reply.
#[derive(Debug)]
pub(crate) enum Handed {
    /// The file behind shared memory.
    Memory(Arc<Region>),
    /// A socket.
    Socket(OwnedFd),
}

/// What comes of a message.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// A reply.
    Reply(Vec<u8>, Vec<Handed>),
    /// An error goes back.
    Refuse(Errno),
    /// The client is not spoken to any more.
    End(String),
}

impl From<Result<Vec<u8>, Errno>> for Outcome {
    fn from(result: Result<Vec<u8>, Errno>) -> Self {
        result.map_or_else(Self::Refuse, |body| Self::Reply(body, Vec::new()))
    }
}

/// What a server remembers of the client that it serves.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    model: &'a dyn DeviceModel,
    negotiated: bool,
    ranges: Ranges,
    vectors: BTreeMap<(u32, u32), Interrupt>,
    /// Kept open for the client, which watches the other end; nothing is asked on it.
    twin: Option<OwnedFd>,
}

impl<'a> Session<'a> {
    pub(crate) fn new(model: &'a dyn DeviceModel) -> Self {
        let ranges = Ranges::new(MOST_MAPS);
        Self { model, negotiated: false, ranges, vectors: BTreeMap::new(), twin: None }
    }

    /// Whether the client has said which version it speaks.
    pub(crate) fn is_negotiated(&self) -> bool {
        self.negotiated
    }

    /// Does what a message asks for. Descriptors that are not taken are closed.
    pub(crate) fn handle(&mut self, header: &Header, body: &[u8], fds: Vec<OwnedFd>) -> Outcome {
        let command = header.kind();
        match header.is_reply() {
            Some(false) => {}
            Some(true) => return Outcome::End("it answers what was not asked".into()),
            None => return Outcome::End("its message is neither command nor reply".into()),
        }
        if !self.negotiated {
            return match command {
                Command::VERSION if fds.is_empty() => self.version(body),
                _ => Outcome::End(format!("it begins with command {} instead of its version", command.0)),
            };
        }
        // SPDK sends the file along when it unmaps, too.
        let wanted = matches!(command, Command::DMA_MAP | Command::DMA_UNMAP | Command::DEVICE_SET_IRQS);
        if !fds.is_empty() && !wanted {
            return Outcome::Refuse(Errno::INVAL);
        }
        match command {
            Command::DMA_MAP => self.dma_map(body, fds).map(|()| Vec::new()).into(),
            Command::DMA_UNMAP => self.dma_unmap(body).into(),
            Command::DEVICE_GET_INFO => device_info(body).into(),
            Command::DEVICE_GET_REGION_INFO => self.region_info(body),
            Command::DEVICE_GET_REGION_IO_FDS => self.region_io_fds(body).into(),
            Command::DEVICE_GET_IRQ_INFO => self.irq_info(body).into(),
            Command::DEVICE_SET_IRQS => self.set_irqs(body, fds).map(|()| Vec::new()).into(),
            Command::REGION_READ => self.region_read(body).into(),
            Command::REGION_WRITE => self.region_write(body).into(),
            Command::REGION_WRITE_MULTI => self.region_write_multi(body).into(),
            Command::DEVICE_RESET if body.is_empty() => self.model.reset().map(|()| Vec::new()).into(),
            Command::VERSION | Command::DEVICE_RESET | Command::DMA_READ | Command::DMA_WRITE => {
                Outcome::Refuse(Errno::INVAL)
            }
            // What the kernel answers for a feature that a device does not have.
            Command::DEVICE_FEATURE => Outcome::Refuse(Errno::NOTTY),
            Command::DIRTY_PAGES | Command::MIG_DATA_READ | Command::MIG_DATA_WRITE => {
                Outcome::Refuse(Errno::OPNOTSUPP)
            }
            _ => Outcome::Refuse(Errno::NOSYS),
        }
    }

    /// Takes back everything that the client was given, and resets the device for the next one.
    pub(crate) fn end(mut self) {
        let failed = |what: &dyn Display, errno: Errno| tracing::warn!("{what} after a client left: {errno}");
        for (index, vector) in std::mem::take(&mut self.vectors).into_keys() {
            if let Err(errno) = self.model.connect(index, vector, None) {
                failed(&format_args!("cannot disconnect vector {vector}"), errno);
            }
        }
        if let Err(errno) = self.model.reset() {
            failed(&"cannot reset the device", errno);
        }
        for (iova, length) in self.ranges.clear() {
            if let Err(errno) = self.model.unmap(iova, length) {
                failed(&format_args!("cannot take back memory at {iova:#x}"), errno);
            }
        }
    }

    fn version(&mut self, body: &[u8]) -> Outcome {
        let (major, minor, theirs) = match read_version(body) {
            Ok(read) => read,
            Err(error) => return Outcome::End(format!("its version message is malformed: {error}")),
        };
        if major != MAJOR {
            return Outcome::End(format!("it speaks version {major}.{minor}, this is {MAJOR}.{MINOR}"));
        }
        let theirs = theirs.unwrap_or_default();
        // Some clients refuse a reply that offers what they did not propose, or more of it.
        let up_to = |proposed: Option<u64>, most: u64| proposed.map(|proposed| proposed.min(most));
        let mut ours = Capabilities {
            max_msg_fds: Some(theirs.max_msg_fds.unwrap_or(u64::MAX).min(to_u64(MOST_FDS))),
            max_data_xfer_size: Some(theirs.max_data_xfer_size.unwrap_or(u64::MAX).min(to_u64(MOST_DATA))),
            max_dma_maps: up_to(theirs.max_dma_maps, to_u64(MOST_MAPS)),
            pgsizes: theirs.pgsizes.map(|_| to_u64(PAGE)),
            write_multiple: theirs.write_multiple.filter(|&multiple| multiple),
            ..Capabilities::default()
        };
        let mut fds = Vec::new();
        if theirs.twin_socket.is_some_and(|twin| twin.supported) && theirs.max_msg_fds != Some(0) {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            if let Ok((here, there)) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None) {
                self.twin = Some(here);
                ours.twin_socket = Some(TwinSocket { supported: true, fd_index: Some(0) });
                fds.push(Handed::Socket(there));
            }
        }
        self.negotiated = true;
        Outcome::Reply(write_version(MAJOR, minor.min(MINOR), &ours), fds)
    }

    fn dma_map(&mut self, body: &[u8], fds: Vec<OwnedFd>) -> Result<(), Errno> {
        let asked: DmaMap = exactly(body)?;
        let (iova, length, offset) = (asked.address.get(), asked.size.get(), asked.offset.get());
        let access = match asked.flags.get() {
            map_flag::READ => Access::Read,
            flags if flags & map_flag::WRITE != 0 && flags & !(map_flag::READ | map_flag::WRITE) == 0 => {
                Access::ReadWrite
            }
            _ => return Err(Errno::INVAL),
        };
        let page = to_u64(PAGE);
        let aligned = [iova, length, offset].iter().all(|number| number.is_multiple_of(page));
        if usize::try_from(asked.argsz.get()) != Ok(size_of::<DmaMap>()) || !aligned {
            return Err(Errno::INVAL);
        }
        self.ranges.check(iova, length)?;
        let mut fds = fds.into_iter();
        let (file, None) = (fds.next(), fds.next()) else { return Err(Errno::INVAL) };
        // Without a file the device would have to send messages for each access, and it has none that would: the
        // range is the client's, and nothing in it can be reached.
        if let Some(file) = file {
            let (region, offset) = foreign::map_memory(file, offset, length, access)?;
            self.model.map(&ClientMemory { iova, length, region, offset, access })?;
            self.ranges.add(iova, length, true);
        } else {
            tracing::debug!(
                "the client maps {length} bytes at {iova:#x} without a file: out of the device's reach"
            );
            self.ranges.add(iova, length, false);
        }
        Ok(())
    }

    fn dma_unmap(&mut self, body: &[u8]) -> Result<Vec<u8>, Errno> {
        let asked: DmaUnmap = exactly(body)?;
        match (asked.flags.get(), asked.address.get(), asked.size.get()) {
            (0, iova, length) => {
                if self.ranges.remove(iova, length)? {
                    self.model.unmap(iova, length)?;
                }
            }
            (unmap_flag::ALL, 0, 0) => {
                let mut done = Ok(());
                for (iova, length) in self.ranges.clear() {
                    done = done.and(self.model.unmap(iova, length));
                }
                done?;
            }
            (unmap_flag::ALL, ..) => return Err(Errno::INVAL),
            _ => return Err(Errno::OPNOTSUPP),
        }
        Ok(asked.as_bytes().to_vec())
    }

    fn region_info(&self, body: &[u8]) -> Outcome {
        // SPDK sends as many bytes as it would take.
        let Ok((asked, _)) = RegionInfo::read_from_prefix(body) else { return Outcome::Refuse(Errno::INVAL) };
        let room = usize::try_from(asked.argsz.get()).unwrap_or(0);
        if asked.index.get() >= pci::REGIONS || room < size_of::<RegionInfo>() {
            return Outcome::Refuse(Errno::INVAL);
        }
        let shape = self.model.region(asked.index.get());
        let capability = sparse_areas(&shape);
        let needed = size_of::<RegionInfo>() + capability.len();
        let mut info = RegionInfo {
            argsz: u32::try_from(needed).unwrap_or(u32::MAX).into(),
            flags: region_flags(&shape).into(),
            cap_offset: 0.into(),
            size: shape.size.into(),
            offset: file_start(&shape).into(),
            ..asked
        };
        let mut handed = Vec::new();
        let fits = room >= needed;
        if fits && let Some(area) = shape.areas.first() {
            info.flags = (info.flags.get() | region_flag::CAPS).into();
            info.cap_offset = u32::try_from(size_of::<RegionInfo>()).unwrap_or(0).into();
            handed.push(Handed::Memory(Arc::clone(&area.memory)));
        }
        let capability = if fits { capability.as_slice() } else { &[] };
        Outcome::Reply([info.as_bytes(), capability].concat(), handed)
    }

    fn region_io_fds(&self, body: &[u8]) -> Result<Vec<u8>, Errno> {
        let asked: RegionIoFds = exactly(body)?;
        let size = size_of::<RegionIoFds>();
        let room = usize::try_from(asked.argsz.get()).unwrap_or(0);
        let clean = asked.flags.get() == 0 && asked.count.get() == 0;
        if !clean || room < size || asked.index.get() >= pci::REGIONS {
            return Err(Errno::INVAL);
        }
        // There are none: what is rung often can be mapped.
        let none = RegionIoFds { argsz: u32::try_from(size).unwrap_or(0).into(), ..asked };
        Ok(none.as_bytes().to_vec())
    }

    fn irq_info(&self, body: &[u8]) -> Result<Vec<u8>, Errno> {
        let asked: IrqInfo = exactly(body)?;
        let size = size_of::<IrqInfo>();
        if asked.index.get() >= pci::IRQS || usize::try_from(asked.argsz.get()).unwrap_or(0) < size {
            return Err(Errno::INVAL);
        }
        let info = IrqInfo {
            argsz: u32::try_from(size).unwrap_or(0).into(),
            flags: irq_flag::EVENTFD.into(),
            count: self.model.interrupts(asked.index.get()).into(),
            ..asked
        };
        Ok(info.as_bytes().to_vec())
    }

    fn set_irqs(&mut self, body: &[u8], fds: Vec<OwnedFd>) -> Result<(), Errno> {
        let (asked, data) = IrqSet::read_from_prefix(body).map_err(|_| Errno::INVAL)?;
        let (index, start, count) = (asked.index.get(), asked.start.get(), asked.count.get());
        let end = start.checked_add(count).ok_or(Errno::INVAL)?;
        let whole = usize::try_from(asked.argsz.get()) == Ok(body.len());
        if !whole || index >= pci::IRQS || end > self.model.interrupts(index) {
            return Err(Errno::INVAL);
        }
        const NONE: u32 = irq_set_flag::DATA_NONE | irq_set_flag::ACTION_TRIGGER;
        const BOOL: u32 = irq_set_flag::DATA_BOOL | irq_set_flag::ACTION_TRIGGER;
        const EVENTFD: u32 = irq_set_flag::DATA_EVENTFD | irq_set_flag::ACTION_TRIGGER;
        let bytes = to_usize(u64::from(count));
        match asked.flags.get() {
            NONE if data.is_empty() && fds.is_empty() && count == 0 && start == 0 => {
                let connected: Vec<u32> =
                    self.vectors.range((index, 0)..=(index, u32::MAX)).map(|(key, _)| key.1).collect();
                connected.into_iter().try_for_each(|vector| self.connect(index, vector, None))
            }
            NONE if data.is_empty() && fds.is_empty() => {
                (start..end).try_for_each(|v| self.trigger(index, v))
            }
            BOOL if data.len() == bytes && fds.is_empty() => (start..end)
                .zip(data)
                .filter(|(_, wanted)| **wanted != 0)
                .try_for_each(|(vector, _)| self.trigger(index, vector)),
            EVENTFD if data.is_empty() && fds.is_empty() => {
                (start..end).try_for_each(|vector| self.connect(index, vector, None))
            }
            EVENTFD if data.is_empty() && fds.len() == bytes => {
                fds.iter().try_for_each(foreign::check_eventfd)?;
                let interrupts = fds.into_iter().map(|fd| Some(Interrupt::over(fd)));
                (start..end).zip(interrupts).try_for_each(|(v, interrupt)| self.connect(index, v, interrupt))
            }
            // Nothing here can be masked: whoever masks a vector disconnects it.
            _ => Err(Errno::INVAL),
        }
    }

    fn connect(&mut self, index: u32, vector: u32, interrupt: Option<Interrupt>) -> Result<(), Errno> {
        let Some(interrupt) = interrupt else {
            return match self.vectors.remove(&(index, vector)) {
                Some(_) => self.model.connect(index, vector, None),
                None => Ok(()),
            };
        };
        let kept = interrupt.another().map_err(|error| errno_of(&error))?;
        self.model.connect(index, vector, Some(interrupt))?;
        self.vectors.insert((index, vector), kept);
        Ok(())
    }

    fn trigger(&self, index: u32, vector: u32) -> Result<(), Errno> {
        match self.vectors.get(&(index, vector)) {
            Some(interrupt) => interrupt.signal().map_err(|error| errno_of(&error)),
            None => Ok(()),
        }
    }

    fn region_read(&self, body: &[u8]) -> Result<Vec<u8>, Errno> {
        let access: RegionAccess = exactly(body)?;
        let shape = self.check_access(&access)?;
        if !shape.readable {
            return Err(Errno::PERM);
        }
        let mut reply = access.as_bytes().to_vec();
        let start = reply.len();
        reply.resize(start + to_usize(u64::from(access.count.get())), 0);
        let target = reply.get_mut(start..).unwrap_or_default();
        if !target.is_empty() {
            self.model.read(access.region.get(), access.offset.get(), target)?;
        }
        Ok(reply)
    }

    fn region_write(&self, body: &[u8]) -> Result<Vec<u8>, Errno> {
        let (access, data) = RegionAccess::read_from_prefix(body).map_err(|_| Errno::INVAL)?;
        self.write(&access, data)?;
        Ok(access.as_bytes().to_vec())
    }

    fn region_write_multi(&self, body: &[u8]) -> Result<Vec<u8>, Errno> {
        let (count, mut rest) = U64::read_from_prefix(body).map_err(|_| Errno::INVAL)?;
        if count.get().checked_mul(to_u64(size_of::<RegionWrite>())) != Some(to_u64(rest.len())) {
            return Err(Errno::INVAL);
        }
        while let Ok((write, more)) = RegionWrite::read_from_prefix(rest) {
            let length = to_usize(u64::from(write.access.count.get()));
            self.write(&write.access, write.data.get(..length).ok_or(Errno::INVAL)?)?;
            rest = more;
        }
        Ok(count.as_bytes().to_vec())
    }

    fn write(&self, access: &RegionAccess, data: &[u8]) -> Result<(), Errno> {
        let shape = self.check_access(access)?;
        if to_usize(u64::from(access.count.get())) != data.len() {
            return Err(Errno::INVAL);
        }
        if !shape.writable {
            return Err(Errno::PERM);
        }
        if data.is_empty() {
            return Ok(());
        }
        self.model.write(access.region.get(), access.offset.get(), data)
    }

    fn check_access(&self, access: &RegionAccess) -> Result<RegionShape, Errno> {
        let count = u64::from(access.count.get());
        if access.region.get() >= pci::REGIONS || count > to_u64(MOST_DATA) {
            return Err(Errno::INVAL);
        }
        let shape = self.model.region(access.region.get());
        let end = access.offset.get().checked_add(count).filter(|&end| end <= shape.size);
        end.map(|_| shape).ok_or(Errno::INVAL)
    }
}

fn device_info(body: &[u8]) -> Result<Vec<u8>, Errno> {
    let asked: DeviceInfo = exactly(body)?;
    let size = size_of::<DeviceInfo>();
    if usize::try_from(asked.argsz.get()).unwrap_or(0) < size {
        return Err(Errno::INVAL);
    }
    let info = DeviceInfo {
        argsz: u32::try_from(size).unwrap_or(0).into(),
        flags: (device_flag::RESET | device_flag::PCI).into(),
        regions: pci::REGIONS.into(),
        irqs: pci::IRQS.into(),
    };
    Ok(info.as_bytes().to_vec())
}

fn region_flags(shape: &RegionShape) -> u32 {
    let bits = [
        (shape.readable && shape.size > 0, region_flag::READ),
        (shape.writable && shape.size > 0, region_flag::WRITE),
        (!shape.areas.is_empty(), region_flag::MMAP),
    ];
    bits.into_iter().filter(|(set, _)| *set).fold(0, |flags, (_, bit)| flags | bit)
}

/// Where the region would start in the file of its areas. Where the file starts with the first area, that is before
/// the file: clients add the area's offset, and the sum wraps around to zero.
fn file_start(shape: &RegionShape) -> u64 {
    let first = shape.areas.first().and_then(|area| Some((area.offset, area.memory.file()?.1)));
    first.map_or(0, |(offset, in_file)| in_file.wrapping_sub(offset))
}

/// The capability that tells of the areas; nothing where there are none.
fn sparse_areas(shape: &RegionShape) -> Vec<u8> {
    if shape.areas.is_empty() {
        return Vec::new();
    }
    let header = CapabilityHeader { id: SparseAreas::ID.into(), version: 1.into(), next: 0.into() };
    let count = u32::try_from(shape.areas.len()).unwrap_or(0);
    let sparse = SparseAreas { count: count.into(), reserved: 0.into() };
    let mut capability = [header.as_bytes(), sparse.as_bytes()].concat();
    for area in &shape.areas {
        let size = to_u64(area.memory.length());
        capability.extend_from_slice(Area { offset: area.offset.into(), size: size.into() }.as_bytes());
    }
    capability
}

fn exactly<T: FromBytes>(body: &[u8]) -> Result<T, Errno> {
    T::read_from_bytes(body).map_err(|_| Errno::INVAL)
}

fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// Whether a reply is wanted.
pub(crate) fn wants_reply(header: &Header) -> bool {
    !header.has(flag::NO_REPLY)
}
