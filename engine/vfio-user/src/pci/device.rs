//! A PCI function as a device model: its registers by the function's own code, everything else here.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Mutex, MutexGuard, PoisonError};

use engine_dma::to_usize;
use engine_transport::Interrupt;

use crate::Errno;
use crate::model::{ClientMemory, DeviceModel, MappableArea, RegionShape};
use crate::pci::config_space::{self, ConfigSpace, Identity};
use crate::pci::msix::MsixTable;
use crate::pci::{BAR0_REGION, BAR4_REGION, CONFIG_REGION, MSIX_IRQ, command};

/// A function with registers in BAR0 and MSI-X vectors.
pub trait PciFunction: Send + Sync + Debug {
    /// What it is.
    fn identity(&self) -> Identity;

    /// How many bytes of registers it has; BAR0 is as large, rounded up to a power of two of at least a page.
    fn size(&self) -> u64;

    /// What of BAR0 clients may map.
    fn areas(&self) -> Vec<MappableArea>;

    /// Reads registers; they lie within the size.
    ///
    /// # Errors
    /// Where it refuses.
    fn read(&self, offset: u64, target: &mut [u8]) -> Result<(), Errno>;

    /// Writes registers; they lie within the size.
    ///
    /// # Errors
    /// Where it refuses.
    fn write(&self, offset: u64, source: &[u8]) -> Result<(), Errno>;

    /// How many MSI-X vectors it has, at most 2,048.
    fn vectors(&self) -> u16;

    /// See [`DeviceModel::connect`].
    ///
    /// # Errors
    /// Where it refuses.
    fn connect(&self, vector: u16, interrupt: Option<Interrupt>) -> Result<(), Errno>;

    /// See [`DeviceModel::map`].
    ///
    /// # Errors
    /// Where it refuses.
    fn map(&self, memory: &ClientMemory) -> Result<(), Errno>;

    /// See [`DeviceModel::unmap`].
    ///
    /// # Errors
    /// As there.
    fn unmap(&self, iova: u64, length: u64) -> Result<(), Errno>;

    /// See [`DeviceModel::reset`].
    ///
    /// # Errors
    /// Where that failed.
    fn reset(&self) -> Result<(), Errno>;
}

/// A [`PciFunction`] with a configuration space. The command register is honoured: without memory enabled registers
/// read as ones, and without bus mastering the function reaches no memory.
#[derive(Debug)]
pub struct PciDevice<F> {
    function: F,
    bar0_size: u64,
    bar4_size: u64,
    vectors: u16,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    config: ConfigSpace,
    msix: MsixTable,
    /// What the client has mapped, whether the function reaches it or not.
    memory: BTreeMap<u64, ClientMemory>,
    /// Whether the function reaches it.
    mastering: bool,
}

impl<F: PciFunction> PciDevice<F> {
    /// A device of this function.
    pub fn new(function: F) -> Self {
        let vectors = function.vectors().min(2048);
        let msix = MsixTable::new(vectors);
        let place = msix.place();
        let bar0_size = function.size().clamp(4096, 1 << 30).next_power_of_two();
        let config = ConfigSpace::new(function.identity(), bar0_size, place);
        let bar4_size = if vectors > 0 { u64::from(place.bar_size) } else { 0 };
        let state = State { config, msix, memory: BTreeMap::new(), mastering: false };
        Self { function, bar0_size, bar4_size, vectors, state: Mutex::new(state) }
    }

    /// The function.
    pub fn function(&self) -> &F {
        &self.function
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_config(&self, offset: u64, source: &[u8]) -> Result<(), Errno> {
        let mut state = self.state();
        if state.config.write(to_usize(offset), source).reset {
            return self.reset_with(&mut state);
        }
        self.follow_command(&mut state);
        Ok(())
    }

    /// Gives memory to the function or takes it away, as the command register says.
    fn follow_command(&self, state: &mut State) {
        let mastering = state.config.command() & command::BUS_MASTER != 0;
        if mastering == state.mastering {
            return;
        }
        state.mastering = mastering;
        for memory in state.memory.values() {
            let done = if mastering {
                self.function.map(memory)
            } else {
                self.function.unmap(memory.iova, memory.length)
            };
            if let Err(errno) = done {
                let verb = if mastering { "reach" } else { "let go of" };
                tracing::warn!("the device does not {verb} memory at {:#x}: {errno}", memory.iova);
            }
        }
    }

    fn reset_with(&self, state: &mut State) -> Result<(), Errno> {
        let done = self.function.reset();
        state.config.reset();
        state.msix.reset();
        self.follow_command(state);
        done
    }
}

impl<F: PciFunction> DeviceModel for PciDevice<F> {
    fn region(&self, index: u32) -> RegionShape {
        let (size, areas) = match index {
            BAR0_REGION => (self.bar0_size, self.function.areas()),
            BAR4_REGION => (self.bar4_size, Vec::new()),
            CONFIG_REGION => (engine_dma::to_u64(config_space::SIZE), Vec::new()),
            _ => return RegionShape::default(),
        };
        RegionShape { size, readable: true, writable: true, areas }
    }

    fn read(&self, region: u32, offset: u64, target: &mut [u8]) -> Result<(), Errno> {
        if region == CONFIG_REGION {
            self.state().config.read(to_usize(offset), target);
            return Ok(());
        }
        if self.state().config.command() & command::MEMORY == 0 {
            target.fill(0xff);
            return Ok(());
        }
        if region == BAR4_REGION {
            self.state().msix.read(to_usize(offset), target);
            return Ok(());
        }
        target.fill(0);
        let real = self.function.size().saturating_sub(offset);
        let length = target.len().min(to_usize(real));
        match target.get_mut(..length) {
            Some(target) if length > 0 => self.function.read(offset, target),
            _ => Ok(()),
        }
    }

    fn write(&self, region: u32, offset: u64, source: &[u8]) -> Result<(), Errno> {
        if region == CONFIG_REGION {
            return self.write_config(offset, source);
        }
        if self.state().config.command() & command::MEMORY == 0 {
            return Ok(());
        }
        if region == BAR4_REGION {
            self.state().msix.write(to_usize(offset), source);
            return Ok(());
        }
        let real = self.function.size().saturating_sub(offset);
        match source.get(..source.len().min(to_usize(real))) {
            Some(source) if !source.is_empty() => self.function.write(offset, source),
            _ => Ok(()),
        }
    }

    fn interrupts(&self, index: u32) -> u32 {
        if index == MSIX_IRQ { u32::from(self.vectors) } else { 0 }
    }

    fn connect(&self, index: u32, vector: u32, interrupt: Option<Interrupt>) -> Result<(), Errno> {
        let vector = u16::try_from(vector).map_err(|_| Errno::INVAL)?;
        if index != MSIX_IRQ || vector >= self.vectors {
            return Err(Errno::INVAL);
        }
        self.function.connect(vector, interrupt)
    }

    fn map(&self, memory: &ClientMemory) -> Result<(), Errno> {
        let mut state = self.state();
        if state.mastering {
            self.function.map(memory)?;
        }
        state.memory.insert(memory.iova, memory.clone());
        Ok(())
    }

    fn unmap(&self, iova: u64, length: u64) -> Result<(), Errno> {
        let mut state = self.state();
        state.memory.remove(&iova).ok_or(Errno::NOENT)?;
        if state.mastering { self.function.unmap(iova, length) } else { Ok(()) }
    }

    fn reset(&self) -> Result<(), Errno> {
        self.reset_with(&mut self.state())
    }
}
