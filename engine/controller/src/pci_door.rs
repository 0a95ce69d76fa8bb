//! The door for drivers elsewhere: a controller as the PCI function that vfio-user serves.

use std::sync::Arc;

use engine_transport::Interrupt;
use engine_vfio_user::pci::{Identity, NVME_CLASS, PciFunction};
use engine_vfio_user::{ClientMemory, Errno, MappableArea};

use crate::Controller;

/// Where doorbells start in BAR0 (NVMe over PCIe Transport Specification, section 3.1.2).
const DOORBELLS: u64 = 0x1000;

/// QEMU's numbers for an NVMe controller, which every driver knows and no quirk is tied to.
const VENDOR: u16 = 0x1b36;
const DEVICE: u16 = 0x0010;

/// A controller behind a PCI function. It needs threads of its own: nobody here lends it one.
#[derive(Debug)]
pub struct PciDoor {
    controller: Arc<Controller>,
    maps_doorbells: bool,
}

impl PciDoor {
    /// A door to `controller`, whose clients may map its doorbells where `maps_doorbells`; otherwise each is a message.
    #[must_use]
    pub fn new(controller: Arc<Controller>, maps_doorbells: bool) -> Self {
        Self { controller, maps_doorbells }
    }
}

fn place(offset: u64) -> Result<u32, Errno> {
    u32::try_from(offset).map_err(|_| Errno::INVAL)
}

impl PciFunction for PciDoor {
    fn identity(&self) -> Identity {
        Identity {
            vendor: VENDOR,
            device: DEVICE,
            subsystem_vendor: VENDOR,
            subsystem: 0,
            revision: 0,
            class: NVME_CLASS,
        }
    }

    fn size(&self) -> u64 {
        self.controller.bar_size()
    }

    fn areas(&self) -> Vec<MappableArea> {
        let memory = Arc::clone(self.controller.doorbells());
        let area = self.maps_doorbells.then_some(MappableArea { offset: DOORBELLS, memory });
        area.into_iter().collect()
    }

    fn read(&self, offset: u64, target: &mut [u8]) -> Result<(), Errno> {
        self.controller.read_register(place(offset)?, target);
        Ok(())
    }

    fn write(&self, offset: u64, source: &[u8]) -> Result<(), Errno> {
        self.controller.write_register(place(offset)?, source);
        Ok(())
    }

    fn vectors(&self) -> u16 {
        self.controller.vectors()
    }

    fn connect(&self, vector: u16, interrupt: Option<Interrupt>) -> Result<(), Errno> {
        self.controller.set_interrupt(vector, interrupt);
        Ok(())
    }

    fn map(&self, memory: &ClientMemory) -> Result<(), Errno> {
        let ClientMemory { iova, length, ref region, offset, access } = *memory;
        let mapped = self.controller.address_space().map(iova, length, Arc::clone(region), offset, access);
        mapped.map_err(|error| {
            tracing::warn!(%error, "a client's memory was not mapped");
            Errno::INVAL
        })
    }

    fn unmap(&self, iova: u64, length: u64) -> Result<(), Errno> {
        match self.controller.unmap(iova, length) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Errno::BUSY),
            Err(_) => Err(Errno::NOENT),
        }
    }

    fn reset(&self) -> Result<(), Errno> {
        if self.controller.reset() { Ok(()) } else { Err(Errno::BUSY) }
    }
}
