//! Memory of the driver's own that the controller reaches: queues, lists, what admin commands fill.

use std::mem;
use std::sync::Arc;

use engine_dma::{Arena, PAGE, Region, to_u64, to_usize};
use engine_transport::Transport;

use crate::DriverError;

/// A stretch of memory with a bus address. It is page-aligned there, in pages of the controller's.
#[derive(Debug)]
pub(crate) struct Shared {
    /// None once it was given up.
    arena: Option<Arena>,
    region: Arc<Region>,
    /// Where it starts, in the region.
    start: usize,
    iova: u64,
}

impl Shared {
    /// `length` zeroed bytes, aligned to `page` bytes (a power of two) on the bus.
    ///
    /// # Errors
    /// Where the transport has none, or none that the controller can reach.
    pub(crate) fn new(transport: &dyn Transport, length: usize, page: usize) -> Result<Self, DriverError> {
        // Arenas start at a page of this machine; a controller may have larger ones.
        let slack = page.saturating_sub(PAGE);
        let arena = transport.arena(length.saturating_add(slack))?;
        let Some(registration) = arena.registration().filter(|known| known.owner == transport.id()) else {
            return Err(DriverError::Memory {
                device: transport.name().to_owned(),
                reason: "the transport gave memory that it has no bus address for".to_owned(),
            });
        };
        let iova = registration.handle.checked_next_multiple_of(to_u64(page));
        let start = iova.map(|iova| to_usize(iova - registration.handle));
        let fits = |start: &usize| start.checked_add(length).is_some_and(|end| end <= arena.length());
        let (Some(iova), Some(start)) = (iova, start.filter(fits)) else {
            return Err(DriverError::Memory {
                device: transport.name().to_owned(),
                reason: format!("no {length} bytes of it are aligned to pages of {page} bytes on the bus"),
            });
        };
        let region = Arc::clone(arena.region());
        Ok(Self { arena: Some(arena), region, start, iova })
    }

    /// The memory that it is a part of.
    pub(crate) fn region(&self) -> &Arc<Region> {
        &self.region
    }

    /// Where `offset` lies in the region.
    pub(crate) fn place(&self, offset: usize) -> usize {
        self.start + offset
    }

    /// The bus address of `offset`.
    pub(crate) fn iova(&self, offset: usize) -> u64 {
        self.iova + to_u64(offset)
    }

    /// Sets `length` bytes to zero.
    pub(crate) fn clear(&self, offset: usize, length: usize) {
        let cleared = self.region.fill(self.start + offset, length, 0);
        debug_assert!(cleared.is_ok(), "what is cleared lies within");
    }

    /// Copies bytes out.
    pub(crate) fn read(&self, offset: usize, target: &mut [u8]) {
        let read = self.region.read(self.start + offset, target);
        debug_assert!(read.is_ok(), "what is read lies within");
    }

    /// Never uses it again, nor lets anybody else: the controller may still write there.
    pub(crate) fn give_up(&mut self) {
        mem::forget(self.arena.take());
    }
}
