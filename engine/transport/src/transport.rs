//! The wall between a driver and the way to its controller.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use engine_dma::{Arena, Region};

use crate::{Interrupt, TransportError};

/// A number that no other transport of this process has, for [`Transport::id`].
#[must_use]
pub fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1 << 32);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// What came of letting the controller work on the caller's thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assist {
    /// The controller works by itself; the caller polls memory or waits for the interrupt.
    NotNeeded,
    /// It works only when it is called, and has done something: look for completions.
    Worked,
    /// It works only when it is called, and there was nothing to do within the time given.
    Idle,
}

/// One NVMe controller, as its driver reaches it. Shared by all threads of the driver.
///
/// Offsets are bytes from the start of BAR0 (NVMe over PCIe Transport Specification 1.x, section 3.1). A controller
/// that is not there any more answers [`TransportError::Gone`], or all bits set where the bus does it that way.
pub trait Transport: Send + Sync + Debug {
    /// What the user called it: the device spec.
    fn name(&self) -> &str;

    /// The number by which [registrations](engine_dma::Registration) of its arenas are known as its own. No other
    /// transport of this process has it.
    fn id(&self) -> u64;

    /// Reads a 32-bit register.
    ///
    /// # Errors
    /// Where the controller does not answer.
    fn read32(&self, offset: u32) -> Result<u32, TransportError>;

    /// Reads a 64-bit register.
    ///
    /// # Errors
    /// Where the controller does not answer.
    fn read64(&self, offset: u32) -> Result<u64, TransportError>;

    /// Writes a 32-bit register. Writes arrive in order.
    ///
    /// # Errors
    /// Where the controller does not take it.
    fn write32(&self, offset: u32, value: u32) -> Result<(), TransportError>;

    /// Writes a 64-bit register.
    ///
    /// # Errors
    /// Where the controller does not take it.
    fn write64(&self, offset: u32, value: u64) -> Result<(), TransportError>;

    /// The doorbells as memory: a region whose first byte is BAR0's offset 0x1000, where the transport can map them.
    /// Otherwise doorbells are rung with [`write32`](Self::write32). What lies beyond the region's end is too.
    fn doorbells(&self) -> Option<Arc<Region>>;

    /// Memory of at least `length` bytes, zeroed, that the controller reaches for reading and writing: its
    /// registration has this transport's [`id`](Self::id) as the owner and the bus address of its first byte, a
    /// multiple of the page size, as the handle. Dropping it tells the controller to forget it.
    ///
    /// # Errors
    /// Where there is no memory, or the controller cannot be told of it.
    fn arena(&self, length: usize) -> Result<Arena, TransportError>;

    /// How many interrupt vectors there are; none where completions can only be polled for.
    fn interrupts(&self) -> u16;

    /// Connects one vector. The same vector may be connected once only.
    ///
    /// # Errors
    /// Where there is no such vector, or the other side refuses.
    fn interrupt(&self, vector: u16) -> Result<Interrupt, TransportError>;

    /// Lets a controller without threads of its own work on queue pair `queue`, for at most `limit` where it has to
    /// wait for its backing. Called by whoever waits for completions of that queue pair and found none; may be
    /// called from several threads.
    fn assist(&self, queue: u16, limit: Duration) -> Assist {
        let _ = (queue, limit);
        Assist::NotNeeded
    }

    /// Resets the function below the controller's own reset (a PCI function-level reset), after which nothing that
    /// was in flight reaches memory any more.
    ///
    /// # Errors
    /// Where the transport has no such reset, or it failed.
    fn reset(&self) -> Result<(), TransportError>;
}
