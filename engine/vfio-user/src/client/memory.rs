//! Memory that the server is told of.

use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use engine_dma::{Access, Arena, Region, Registration, to_u64, to_usize};
use engine_transport::TransportError;
use zerocopy::IntoBytes;

use crate::client::line::Line;
use crate::iova::{GRAIN, Iovas};
use crate::wire::{Command, DmaMap, DmaUnmap, map_flag};

/// How long an answer to a server that reads memory by messages may keep that memory from being forgotten.
const SETTLE: Duration = Duration::from_secs(1);

/// What the server knows of a client's memory.
#[derive(Debug)]
pub(crate) struct Memory {
    line: Arc<Line>,
    iovas: Mutex<Iovas>,
}

impl Memory {
    pub(crate) fn new(line: Arc<Line>) -> Arc<Self> {
        Arc::new(Self { line, iovas: Mutex::default() })
    }

    /// Memory of at least `length` bytes that the server was told of.
    pub(crate) fn arena(self: &Arc<Self>, owner: u64, length: usize) -> Result<Arena, TransportError> {
        let system =
            |action, source| TransportError::System { device: self.line.device().to_owned(), action, source };
        let no_memory = || std::io::Error::from(std::io::ErrorKind::OutOfMemory);
        let length = length.max(1).checked_next_multiple_of(to_usize(GRAIN));
        let length = length.ok_or_else(|| system("allocate memory", no_memory()))?;
        let region =
            Region::shared_huge(c"vfio-user", length).map_err(|source| system("allocate memory", source))?;
        let taken = self.iovas.lock().unwrap_or_else(PoisonError::into_inner).take(to_u64(length));
        let iova = taken.ok_or_else(|| system("find a bus address", no_memory()))?;
        if let Err(error) = self.map(iova, &region) {
            // After a refusal the address is free; after anything else nobody knows.
            if matches!(error, TransportError::Refused { .. }) {
                self.iovas.lock().unwrap_or_else(PoisonError::into_inner).give(iova);
            }
            return Err(error);
        }
        let keeper = Keeper { memory: Arc::clone(self), iova, length: to_u64(length) };
        Ok(Arena::registered(region, Registration { owner, handle: iova }, Box::new(keeper)))
    }

    fn map(&self, iova: u64, region: &Arc<Region>) -> Result<(), TransportError> {
        let length = to_u64(region.length());
        let system = |source| TransportError::System {
            device: self.line.device().to_owned(),
            action: "share memory",
            source,
        };
        let (file, offset) = region.file().ok_or_else(|| system(std::io::ErrorKind::Unsupported.into()))?;
        let mapped = self.line.memory().map(iova, length, Arc::clone(region), 0, Access::ReadWrite);
        mapped.map_err(|error| system(std::io::Error::other(error)))?;
        let asked = DmaMap {
            argsz: u32::try_from(size_of::<DmaMap>()).unwrap_or(0).into(),
            flags: (map_flag::READ | map_flag::WRITE).into(),
            offset: offset.into(),
            address: iova.into(),
            size: length.into(),
        };
        let action = || format!("map {length} bytes of memory at {iova:#x}");
        let told = self.line.ask(action, Command::DMA_MAP, &[asked.as_bytes()], &[file.as_fd()]);
        if told.is_err() {
            self.forget(iova, length);
        }
        told.map(drop)
    }

    fn forget(&self, iova: u64, length: u64) {
        if let Ok(unmapped) = self.line.memory().unmap(iova, length) {
            unmapped.settle(SETTLE);
        }
    }
}

/// Tells the server to forget memory when its arena goes.
struct Keeper {
    memory: Arc<Memory>,
    iova: u64,
    length: u64,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let line = &self.memory.line;
        self.memory.forget(self.iova, self.length);
        if line.is_over() {
            return;
        }
        let asked = DmaUnmap {
            argsz: u32::try_from(size_of::<DmaUnmap>()).unwrap_or(0).into(),
            flags: 0.into(),
            address: self.iova.into(),
            size: self.length.into(),
        };
        let action = || format!("forget {} bytes of memory at {:#x}", self.length, self.iova);
        match line.ask(action, Command::DMA_UNMAP, &[asked.as_bytes()], &[]) {
            Ok(_) => self.memory.iovas.lock().unwrap_or_else(PoisonError::into_inner).give(self.iova),
            // The address stays taken: the server may still hold what lay there.
            Err(error) => tracing::warn!(device = line.device(), "{error}"),
        }
    }
}
