//! A controller that does what a test tells it, right or wrong.
//!
//! It does the least that a driver needs: it works on whatever thread writes a doorbell, one command at a time. What
//! it answers can be changed for each command, and what it says of itself byte by byte.

mod answer;
mod data;
mod state;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use engine_dma::{Access, AddressSpace, Arena, PAGE, Region, Registration, to_u64};
use engine_transport::{Assist, Interrupt, Transport, TransportError};
use parking_lot::Mutex;

pub use answer::{Answer, Asked};
use state::State;

/// Numbers for transports; real ones count from below.
static NEXT: AtomicU64 = AtomicU64::new(1 << 48);
/// Bus addresses that it gives away start here.
const FIRST_ADDRESS: u64 = 0x10_0000;

/// What decides on the answer to a command.
pub type Script = Box<dyn FnMut(&Asked) -> Answer + Send>;

/// A controller over a volume in memory, which is the way to itself.
#[derive(Debug)]
pub struct Mock {
    id: u64,
    memory: Arc<AddressSpace>,
    next_address: AtomicU64,
    state: Mutex<State>,
    /// Completions that wait for somebody to call, where it works on its callers' threads.
    assisted: bool,
}

/// How a controller is made.
#[derive(Debug, Clone)]
pub struct MockOptions {
    /// The volume.
    pub disk: Vec<u8>,
    /// Bytes of a block, as a power of two.
    pub block_shift: u8,
    /// CAP.
    pub capabilities: u64,
    /// MDTS.
    pub max_transfer_pages: u8,
    /// Whether it takes SGLs.
    pub sgl: bool,
    /// Whether it has shadow doorbells.
    pub shadow_doorbells: bool,
    /// I/O queue pairs that it grants.
    pub queues: u16,
    /// Whether it does its work only when it is called.
    pub assisted: bool,
}

impl Default for MockOptions {
    fn default() -> Self {
        Self {
            disk: Vec::new(),
            block_shift: 9,
            // 1024 entries, contiguous queues, ready within 500 ms, NVM command set, pages of 4 KiB to 64 KiB.
            capabilities: 1023 | 1 << 16 | 1 << 24 | 1 << 37 | 4 << 52,
            max_transfer_pages: 5,
            sgl: false,
            shadow_doorbells: false,
            queues: 8,
            assisted: false,
        }
    }
}

impl Mock {
    /// A controller that does everything right.
    #[must_use]
    pub fn new(options: MockOptions) -> Arc<Self> {
        let assisted = options.assisted;
        let memory = Arc::new(AddressSpace::new(1 << 16));
        Arc::new(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            state: Mutex::new(State::new(options, Arc::clone(&memory))),
            memory,
            next_address: AtomicU64::new(FIRST_ADDRESS),
            assisted,
        })
    }

    /// Lets `script` decide on the answer to every command from now on.
    pub fn script(&self, script: impl FnMut(&Asked) -> Answer + Send + 'static) {
        self.state.lock().script = Some(Box::new(script));
    }

    /// Replaces bytes from `offset` on in what it says to an Identify command with `cns`.
    pub fn lie(&self, cns: u8, offset: usize, bytes: &[u8]) {
        self.state.lock().lies.push((cns, offset, bytes.to_vec()));
    }

    /// Never becomes ready, or never stops, from now on.
    pub fn freeze(&self) {
        self.state.lock().frozen = true;
    }

    /// Lets only the function's reset thaw it.
    pub fn thaw_by_reset(&self) {
        self.state.lock().thaws = true;
    }

    /// Reports a fatal status from now on, until it is reset; for ever where `always`.
    pub fn fail(&self, always: bool) {
        let mut state = self.state.lock();
        (state.fatal, state.always_fatal) = (true, always);
    }

    /// Reads as all ones from now on, and does nothing.
    pub fn vanish(&self) {
        self.state.lock().vanished = true;
    }

    /// Does not let itself be reached from now on.
    pub fn cut_off(&self) {
        self.state.lock().cut_off = true;
    }

    /// Tells an event, as dword 0 of a completion, where a request for one is waiting.
    pub fn tell(&self, event: u32) -> bool {
        self.state.lock().tell(event)
    }

    /// Completes what was held back, if it still can.
    pub fn release(&self) {
        self.state.lock().release();
    }

    /// Commands of an opcode that came on I/O queues (or the admin queue) so far.
    #[must_use]
    pub fn count(&self, admin: bool, opcode: u8) -> u64 {
        self.state.lock().counts.get(&(admin, opcode)).copied().unwrap_or(0)
    }

    /// How often it was enabled.
    #[must_use]
    pub fn starts(&self) -> u32 {
        self.state.lock().starts
    }

    /// Whether it was shut down and stopped.
    #[must_use]
    pub fn is_shut_down(&self) -> bool {
        self.state.lock().is_shut_down()
    }

    /// Accesses to memory that was not given to it.
    #[must_use]
    pub fn stray(&self) -> u64 {
        self.state.lock().stray
    }

    /// Whether it vanished.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.state.lock().vanished
    }

    /// Doorbell registers that were written.
    #[must_use]
    pub fn doorbells_written(&self) -> u64 {
        self.state.lock().doorbells
    }

    /// Ranges of memory that it was told of and not yet to forget.
    #[must_use]
    pub fn ranges(&self) -> usize {
        self.memory.len()
    }

    /// The memory that it reaches, for those who put it behind something else.
    #[must_use]
    pub fn memory(&self) -> &AddressSpace {
        &self.memory
    }

    /// What the volume holds.
    #[must_use]
    pub fn disk(&self) -> Vec<u8> {
        self.state.lock().options.disk.clone()
    }

    fn gone(&self) -> Result<(), TransportError> {
        if self.state.lock().cut_off {
            let reason = "it was cut off".to_owned();
            return Err(TransportError::Gone { device: self.name().to_owned(), reason });
        }
        Ok(())
    }
}

/// Forgets a range when its memory goes away.
struct Forget {
    memory: Weak<AddressSpace>,
    iova: u64,
    length: u64,
}

impl Drop for Forget {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.upgrade() {
            let _ = memory.unmap(self.iova, self.length);
        }
    }
}

impl Transport for Mock {
    fn name(&self) -> &str {
        "mock"
    }

    fn id(&self) -> u64 {
        self.id
    }

    fn read32(&self, offset: u32) -> Result<u32, TransportError> {
        self.gone()?;
        Ok(self.state.lock().read32(offset))
    }

    fn read64(&self, offset: u32) -> Result<u64, TransportError> {
        self.gone()?;
        Ok(self.state.lock().read64(offset))
    }

    fn write32(&self, offset: u32, value: u32) -> Result<(), TransportError> {
        self.gone()?;
        self.state.lock().write32(offset, value);
        Ok(())
    }

    fn write64(&self, offset: u32, value: u64) -> Result<(), TransportError> {
        self.gone()?;
        self.state.lock().write64(offset, value);
        Ok(())
    }

    fn doorbells(&self) -> Option<Arc<Region>> {
        None
    }

    fn arena(&self, length: usize) -> Result<Arena, TransportError> {
        let failed =
            |source| TransportError::System { device: self.name().to_owned(), action: "map memory", source };
        let region = Region::private(length).map_err(failed)?;
        let length = to_u64(region.length());
        // A page between two ranges, so that who runs past one is found out.
        let iova = self.next_address.fetch_add(length + to_u64(PAGE), Ordering::Relaxed);
        let mapped = self.memory.map(iova, length, Arc::clone(&region), 0, Access::ReadWrite);
        mapped.map_err(|error| failed(io::Error::other(error)))?;
        let keeper = Forget { memory: Arc::downgrade(&self.memory), iova, length };
        Ok(Arena::registered(region, Registration { owner: self.id, handle: iova }, Box::new(keeper)))
    }

    fn interrupts(&self) -> u16 {
        0
    }

    fn interrupt(&self, vector: u16) -> Result<Interrupt, TransportError> {
        Err(TransportError::Refused {
            device: self.name().to_owned(),
            action: format!("connect vector {vector}"),
            source: io::ErrorKind::Unsupported.into(),
        })
    }

    fn assist(&self, _queue: u16, _limit: Duration) -> Assist {
        if !self.assisted {
            return Assist::NotNeeded;
        }
        if self.state.lock().work() { Assist::Worked } else { Assist::Idle }
    }

    fn reset(&self) -> Result<(), TransportError> {
        self.gone()?;
        let mut state = self.state.lock();
        if !state.reset() {
            return Err(TransportError::Refused {
                device: self.name().to_owned(),
                action: "reset its function".to_owned(),
                source: io::ErrorKind::Unsupported.into(),
            });
        }
        Ok(())
    }
}
