//! What a server serves.

use std::fmt::Debug;
use std::sync::Arc;

use engine_dma::{Access, Region};
use engine_transport::Interrupt;

use crate::Errno;

/// Part of a region that clients may map instead of sending messages.
#[derive(Debug, Clone)]
pub struct MappableArea {
    /// First byte, in the region; a multiple of the page size.
    pub offset: u64,
    /// The memory, shared: it has a file. All of it is the area.
    pub memory: Arc<Region>,
}

/// What a region is like.
#[derive(Debug, Clone, Default)]
pub struct RegionShape {
    /// Bytes; zero where there is no such region.
    pub size: u64,
    /// Whether clients may read it.
    pub readable: bool,
    /// Whether clients may write it.
    pub writable: bool,
    /// What of it can be mapped. All areas must lie in one file, as far from each other as in the region.
    pub areas: Vec<MappableArea>,
}

/// Memory of a client's that the device may reach.
#[derive(Debug, Clone)]
pub struct ClientMemory {
    /// First bus address.
    pub iova: u64,
    /// Bytes.
    pub length: u64,
    /// The memory.
    pub region: Arc<Region>,
    /// Where in the region it starts.
    pub offset: usize,
    /// What the device may do.
    pub access: Access,
}

/// A PCI device that a [`Server`](crate::Server) offers to clients, one after the other.
///
/// The server checks what clients ask for: accesses lie within their region and are allowed there, memory does not
/// overlap, vectors exist. All calls come from one thread. An error goes to the client; the device stays as it was.
pub trait DeviceModel: Send + Sync + Debug {
    /// What region `index` is like, numbered as by VFIO; see [`pci`](crate::pci).
    fn region(&self, index: u32) -> RegionShape;

    /// Reads from a region.
    ///
    /// # Errors
    /// Where the device refuses.
    fn read(&self, region: u32, offset: u64, target: &mut [u8]) -> Result<(), Errno>;

    /// Writes to a region.
    ///
    /// # Errors
    /// Where the device refuses.
    fn write(&self, region: u32, offset: u64, source: &[u8]) -> Result<(), Errno>;

    /// How many interrupts of kind `index` there are, numbered as by VFIO.
    fn interrupts(&self, index: u32) -> u32;

    /// Connects a vector, or disconnects it.
    ///
    /// # Errors
    /// Where the device refuses.
    fn connect(&self, index: u32, vector: u32, interrupt: Option<Interrupt>) -> Result<(), Errno>;

    /// Lets the device reach memory.
    ///
    /// # Errors
    /// Where the device refuses.
    fn map(&self, memory: &ClientMemory) -> Result<(), Errno>;

    /// Takes memory away from the device that [`map`](Self::map) gave it, and waits until the device does not use it
    /// any more.
    ///
    /// # Errors
    /// `EBUSY` where it still does after a while: it cannot begin anything with it any more, but what was begun has
    /// not ended.
    fn unmap(&self, iova: u64, length: u64) -> Result<(), Errno>;

    /// Puts the device into the state after power-on. What was in flight does not reach memory any more after this.
    /// Memory and vectors stay as they are.
    ///
    /// # Errors
    /// Where that failed.
    fn reset(&self) -> Result<(), Errno>;
}
