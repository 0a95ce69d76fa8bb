//! What the device has: its regions, and which of them can be mapped.

use std::os::fd::OwnedFd;

use engine_transport::TransportError;
use zerocopy::{FromBytes, IntoBytes};

use crate::client::line::Line;
use crate::wire::{
    Area, CapabilityHeader, Command, DeviceInfo, HEADER, IrqInfo, RegionAccess, RegionInfo, SparseAreas,
    region_flag,
};

/// Most bytes of a region's description that are asked for.
const MOST_INFO: u32 = 4096;
/// Most capabilities of a region that are looked at.
const MOST_CAPABILITIES: usize = 16;

/// A region that the server has described.
#[derive(Debug)]
pub(crate) struct RemoteRegion {
    pub(crate) info: RegionInfo,
    /// What of it can be mapped.
    pub(crate) areas: Vec<Area>,
    /// The files to map: one for all areas, or one for each.
    pub(crate) files: Vec<OwnedFd>,
}

impl Line {
    pub(crate) fn device_info(&self) -> Result<DeviceInfo, TransportError> {
        let size = u32::try_from(size_of::<DeviceInfo>()).unwrap_or(0);
        let asked = DeviceInfo { argsz: size.into(), flags: 0.into(), regions: 0.into(), irqs: 0.into() };
        let action = || "tell what it is".to_string();
        let reply = self.ask(action, Command::DEVICE_GET_INFO, &[asked.as_bytes()], &[])?;
        self.parse(&reply.body, "device")
    }

    pub(crate) fn irq_info(&self, index: u32) -> Result<IrqInfo, TransportError> {
        let size = u32::try_from(size_of::<IrqInfo>()).unwrap_or(0);
        let asked = IrqInfo { argsz: size.into(), flags: 0.into(), index: index.into(), count: 0.into() };
        let action = || format!("tell of interrupts of kind {index}");
        let reply = self.ask(action, Command::DEVICE_GET_IRQ_INFO, &[asked.as_bytes()], &[])?;
        self.parse(&reply.body, "interrupt")
    }

    pub(crate) fn region(&self, index: u32) -> Result<RemoteRegion, TransportError> {
        let asked = RegionInfo {
            argsz: MOST_INFO.into(),
            flags: 0.into(),
            index: index.into(),
            cap_offset: 0.into(),
            size: 0.into(),
            offset: 0.into(),
        };
        let action = || format!("describe region {index}");
        let reply = self.ask(action, Command::DEVICE_GET_REGION_INFO, &[asked.as_bytes()], &[])?;
        let info: RegionInfo = self.parse(&reply.body, "region")?;
        let areas = if info.flags.get() & region_flag::MMAP == 0 {
            Vec::new()
        } else if info.flags.get() & region_flag::CAPS == 0 {
            vec![Area { offset: 0.into(), size: info.size }]
        } else {
            sparse_areas(&info, &reply.body)
                .unwrap_or_else(|| vec![Area { offset: 0.into(), size: info.size }])
        };
        Ok(RemoteRegion { info, areas, files: reply.fds })
    }

    /// Reads from a region.
    pub(crate) fn region_read(
        &self,
        region: u32,
        offset: u64,
        target: &mut [u8],
    ) -> Result<(), TransportError> {
        let count = u32::try_from(target.len()).unwrap_or(u32::MAX);
        let access = RegionAccess { offset: offset.into(), region: region.into(), count: count.into() };
        let action = || format!("read {count} bytes at {offset:#x} of region {region}");
        let reply = self.ask(action, Command::REGION_READ, &[access.as_bytes()], &[])?;
        match RegionAccess::read_from_prefix(&reply.body) {
            Ok((told, data)) if told.count.get() == count && data.len() == target.len() => {
                target.copy_from_slice(data);
                Ok(())
            }
            _ => Err(self.broken(format!(
                "it answers a read of {count} bytes with {} bytes",
                reply.body.len().saturating_sub(HEADER)
            ))),
        }
    }

    /// Writes to a region, and waits until it is done unless it is `posted`.
    pub(crate) fn region_write(
        &self,
        region: u32,
        offset: u64,
        source: &[u8],
        posted: bool,
    ) -> Result<(), TransportError> {
        let count = u32::try_from(source.len()).unwrap_or(u32::MAX);
        let access = RegionAccess { offset: offset.into(), region: region.into(), count: count.into() };
        let parts = [access.as_bytes(), source];
        if posted {
            return self.tell(Command::REGION_WRITE, &parts);
        }
        let action = || format!("write {count} bytes at {offset:#x} of region {region}");
        self.ask(action, Command::REGION_WRITE, &parts, &[]).map(drop)
    }

    fn parse<T: FromBytes>(&self, body: &[u8], what: &str) -> Result<T, TransportError> {
        let parsed = T::read_from_prefix(body).map(|(value, _)| value);
        parsed.map_err(|_| self.broken(format!("its {what} description has {} bytes", body.len())))
    }
}

/// The areas that a capability of the region tells of; none where no capability does. What does not lie within the
/// description is not there.
fn sparse_areas(info: &RegionInfo, body: &[u8]) -> Option<Vec<Area>> {
    let mut at = usize::try_from(info.cap_offset.get()).ok()?;
    for _ in 0..MOST_CAPABILITIES {
        if at < size_of::<RegionInfo>() {
            return None;
        }
        let (header, rest) = CapabilityHeader::read_from_prefix(body.get(at..)?).ok()?;
        if header.id.get() == SparseAreas::ID {
            let (sparse, mut rest) = SparseAreas::read_from_prefix(rest).ok()?;
            let mut areas = Vec::new();
            for _ in 0..sparse.count.get() {
                let (area, more) = Area::read_from_prefix(rest).ok()?;
                areas.push(area);
                rest = more;
            }
            return Some(areas);
        }
        at = usize::try_from(header.next.get()).ok()?;
    }
    None
}
