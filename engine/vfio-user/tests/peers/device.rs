//! A device to serve, small enough to know by heart.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use engine_dma::{Access, AddressSpace, Region, View};
use engine_transport::Interrupt;
use engine_vfio_user::pci::{Identity, NVME_CLASS, PciDevice, PciFunction};
use engine_vfio_user::{ClientMemory, Errno, MappableArea, Server};

/// Bytes of BAR0 that the device answers for.
pub(crate) const SIZE: usize = 0x3000;

/// A PCI function whose registers are memory; what is written to register 0x40 it does:
/// 1: adds the 32-bit words at the bus address in register 0x48 and puts the sum into register 0x50,
/// 2: fills 4,096 bytes there with 0x5a,
/// 3: signals vector 1.
#[derive(Debug)]
pub(crate) struct Sums {
    pub(crate) registers: Mutex<Vec<u8>>,
    pub(crate) doorbells: Arc<Region>,
    pub(crate) space: AddressSpace,
    pub(crate) vectors: Mutex<Vec<Option<Interrupt>>>,
    pub(crate) resets: AtomicU32,
    /// How many more maps are taken.
    pub(crate) maps_left: AtomicU32,
}

impl Sums {
    pub(crate) fn new() -> Self {
        let bar = Region::shared(c"bar0", SIZE).unwrap();
        let (file, _) = bar.file().unwrap();
        let file = file.try_clone_to_owned().unwrap();
        let doorbells = Region::map(file, 0x1000, SIZE - 0x1000, Access::ReadWrite).unwrap();
        Self {
            registers: Mutex::new(vec![0; SIZE]),
            doorbells,
            space: AddressSpace::new(64),
            vectors: Mutex::new((0..4).map(|_| None).collect()),
            resets: AtomicU32::new(0),
            maps_left: AtomicU32::new(u32::MAX),
        }
    }

    fn address(&self) -> u64 {
        u64::from_le_bytes(self.registers.lock().unwrap()[0x48..0x50].try_into().unwrap())
    }

    fn act(&self, what: u32) -> Result<(), Errno> {
        let mut view = View::new();
        view.refresh(&self.space);
        match what {
            1 => {
                let mut words = [0; 64];
                view.read(self.address(), &mut words).map_err(|_| Errno::FAULT)?;
                let numbers = words.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap()));
                let sum = numbers.fold(0, u32::wrapping_add);
                self.registers.lock().unwrap()[0x50..0x54].copy_from_slice(&sum.to_le_bytes());
                Ok(())
            }
            2 => view.write(self.address(), &[0x5a; 4096]).map_err(|_| Errno::FAULT),
            3 => match &self.vectors.lock().unwrap()[1] {
                Some(vector) => vector.signal().map_err(|_| Errno::IO),
                None => Err(Errno::NXIO),
            },
            _ => Ok(()),
        }
    }
}

impl PciFunction for Sums {
    fn identity(&self) -> Identity {
        Identity {
            vendor: 0x1b36,
            device: 0x10,
            subsystem_vendor: 1,
            subsystem: 2,
            revision: 3,
            class: NVME_CLASS,
        }
    }

    fn size(&self) -> u64 {
        SIZE.try_into().unwrap()
    }

    fn areas(&self) -> Vec<MappableArea> {
        vec![MappableArea { offset: 0x1000, memory: Arc::clone(&self.doorbells) }]
    }

    fn read(&self, offset: u64, target: &mut [u8]) -> Result<(), Errno> {
        let at = usize::try_from(offset).unwrap();
        target.copy_from_slice(&self.registers.lock().unwrap()[at..at + target.len()]);
        Ok(())
    }

    fn write(&self, offset: u64, source: &[u8]) -> Result<(), Errno> {
        let at = usize::try_from(offset).unwrap();
        self.registers.lock().unwrap()[at..at + source.len()].copy_from_slice(source);
        match (offset, source) {
            (0x40, &[a, b, c, d]) => self.act(u32::from_le_bytes([a, b, c, d])),
            _ => Ok(()),
        }
    }

    fn vectors(&self) -> u16 {
        4
    }

    fn connect(&self, vector: u16, interrupt: Option<Interrupt>) -> Result<(), Errno> {
        self.vectors.lock().unwrap()[usize::from(vector)] = interrupt;
        Ok(())
    }

    fn map(&self, memory: &ClientMemory) -> Result<(), Errno> {
        let left =
            self.maps_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        left.map_err(|_| Errno::NOMEM)?;
        let ClientMemory { iova, length, ref region, offset, access } = *memory;
        self.space.map(iova, length, Arc::clone(region), offset, access).map_err(|_| Errno::INVAL)
    }

    fn unmap(&self, iova: u64, length: u64) -> Result<(), Errno> {
        let gone = self.space.unmap(iova, length).map_err(|_| Errno::NOENT)?;
        if gone.settle(Duration::from_secs(5)) { Ok(()) } else { Err(Errno::BUSY) }
    }

    fn reset(&self) -> Result<(), Errno> {
        self.registers.lock().unwrap().fill(0);
        self.resets.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// A device and a server for it at `path`.
pub(crate) fn serve(path: &Path) -> (Arc<PciDevice<Sums>>, Server) {
    let device = Arc::new(PciDevice::new(Sums::new()));
    let server = Server::start(path, Arc::clone(&device) as Arc<_>).unwrap();
    (device, server)
}
