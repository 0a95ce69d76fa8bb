//! The door for drivers in the same process: a transport.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use engine_dma::{Access, Arena, Region, Registration, to_u64};
use engine_transport::{Assist, Interrupt, Transport, TransportError};

use crate::Controller;

/// Bus addresses are given out from here on, and never twice.
const FIRST_IOVA: u64 = 1 << 32;
/// What they are multiples of, so that regions are easily told apart in traces.
const IOVA_STEP: u64 = 2 << 20;

/// A controller of this process as a driver reaches it.
#[derive(Debug)]
pub struct InProcess {
    controller: Arc<Controller>,
    name: String,
    id: u64,
    next_iova: AtomicU64,
}

impl InProcess {
    /// A door to `controller`, of which messages speak as `name`.
    #[must_use]
    pub fn new(name: impl Into<String>, controller: Arc<Controller>) -> Self {
        let id = engine_transport::next_id();
        Self { controller, name: name.into(), id, next_iova: AtomicU64::new(FIRST_IOVA) }
    }

    /// The controller.
    #[must_use]
    pub fn controller(&self) -> &Arc<Controller> {
        &self.controller
    }

    fn refused(&self, action: &str, reason: &str) -> TransportError {
        TransportError::Refused {
            device: self.name.clone(),
            action: action.to_owned(),
            source: std::io::Error::other(reason.to_owned()),
        }
    }
}

/// Takes an arena's mapping away when the arena goes.
struct Keeper {
    controller: Arc<Controller>,
    iova: u64,
    length: u64,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        match self.controller.unmap(self.iova, self.length) {
            Ok(true) => {}
            Ok(false) => {
                tracing::error!(iova = self.iova, "memory is given back while a backing works on it");
            }
            Err(error) => tracing::error!(%error, "memory of a driver was not mapped as it was"),
        }
    }
}

impl Transport for InProcess {
    fn name(&self) -> &str {
        &self.name
    }

    fn id(&self) -> u64 {
        self.id
    }

    fn read32(&self, offset: u32) -> Result<u32, TransportError> {
        let mut data = [0; 4];
        self.controller.read_register(offset, &mut data);
        Ok(u32::from_le_bytes(data))
    }

    fn read64(&self, offset: u32) -> Result<u64, TransportError> {
        let mut data = [0; 8];
        self.controller.read_register(offset, &mut data);
        Ok(u64::from_le_bytes(data))
    }

    fn write32(&self, offset: u32, value: u32) -> Result<(), TransportError> {
        self.controller.write_register(offset, &value.to_le_bytes());
        Ok(())
    }

    fn write64(&self, offset: u32, value: u64) -> Result<(), TransportError> {
        self.controller.write_register(offset, &value.to_le_bytes());
        Ok(())
    }

    fn doorbells(&self) -> Option<Arc<Region>> {
        Some(Arc::clone(self.controller.doorbells()))
    }

    fn arena(&self, length: usize) -> Result<Arena, TransportError> {
        let system =
            |source| TransportError::System { device: self.name.clone(), action: "get memory", source };
        let region = Region::private_huge(length).map_err(system)?;
        let length = to_u64(region.length());
        let steps = length.div_ceil(IOVA_STEP).saturating_add(1);
        let iova = self.next_iova.fetch_add(steps.saturating_mul(IOVA_STEP), Ordering::Relaxed);
        let space = self.controller.address_space();
        space
            .map(iova, length, Arc::clone(&region), 0, Access::ReadWrite)
            .map_err(|error| self.refused("map memory", &error.to_string()))?;
        let keeper = Keeper { controller: Arc::clone(&self.controller), iova, length };
        let registration = Registration { owner: self.id, handle: iova };
        Ok(Arena::registered(region, registration, Box::new(keeper)))
    }

    fn interrupts(&self) -> u16 {
        self.controller.vectors()
    }

    fn interrupt(&self, vector: u16) -> Result<Interrupt, TransportError> {
        if vector >= self.controller.vectors() {
            return Err(self.refused("connect an interrupt", "there is no such vector"));
        }
        let system = |source| TransportError::System {
            device: self.name.clone(),
            action: "make an interrupt",
            source,
        };
        let ours = Interrupt::new().map_err(system)?;
        self.controller.set_interrupt(vector, Some(ours.another().map_err(system)?));
        Ok(ours)
    }

    fn assist(&self, queue: u16, limit: Duration) -> Assist {
        self.controller.assist(queue, limit)
    }

    fn reset(&self) -> Result<(), TransportError> {
        if self.controller.reset() {
            return Ok(());
        }
        Err(self.refused("reset", "a backing still works on the memory of commands"))
    }
}
