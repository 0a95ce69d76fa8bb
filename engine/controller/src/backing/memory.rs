//! A backing in memory.

use std::sync::Arc;
use std::time::Duration;

use engine_block::Operation;
use engine_dma::{Access, Region, to_u64, to_usize};
use engine_nvme_spec::Status;

use super::{Backing, BackingQueue, Io, Memory, Started};
use crate::ControllerError;

/// Blocks in memory, gone when nobody holds it any more.
#[derive(Debug, Clone)]
pub struct MemoryBacking {
    region: Arc<Region>,
}

impl MemoryBacking {
    /// Over memory that exists.
    #[must_use]
    pub fn over(region: Arc<Region>) -> Self {
        Self { region }
    }

    /// `size` bytes of zeros, rounded up to whole pages.
    ///
    /// # Errors
    /// Where the system has no memory to give.
    pub fn new(size: u64) -> Result<Self, ControllerError> {
        let region = Region::private(to_usize(size));
        Ok(Self::over(region.map_err(|source| ControllerError::System { action: "get memory", source })?))
    }

    /// The memory.
    #[must_use]
    pub fn region(&self) -> &Arc<Region> {
        &self.region
    }
}

impl Backing for MemoryBacking {
    fn size(&self) -> u64 {
        to_u64(self.region.length())
    }

    fn block(&self) -> u32 {
        512
    }

    fn is_read_only(&self) -> bool {
        self.region.access() == Access::Read
    }

    fn describe(&self) -> String {
        "memory".into()
    }

    fn queue(&self, _depth: u32) -> Result<Box<dyn BackingQueue>, ControllerError> {
        Ok(Box::new(MemoryQueue { region: Arc::clone(&self.region) }))
    }
}

#[derive(Debug)]
struct MemoryQueue {
    region: Arc<Region>,
}

impl MemoryQueue {
    fn move_bytes(&self, io: &Io, memory: &mut Memory<'_>) -> Result<(), Status> {
        let ours = &self.region;
        let mut at = to_usize(io.offset);
        let failed = |_| Status::INTERNAL_ERROR;
        match io.operation {
            Operation::Read => memory.pieces(Access::ReadWrite, |place, length| {
                if let Some((mapping, offset)) = place {
                    ours.copy_to(at, mapping.region(), offset, length).map_err(failed)?;
                }
                at += length;
                Ok(())
            }),
            Operation::Write => {
                // All of it must be there before anything changes.
                memory.check(Access::Read)?;
                memory.pieces(Access::Read, |place, length| {
                    if let Some((mapping, offset)) = place {
                        mapping.region().copy_to(offset, ours, at, length).map_err(failed)?;
                    }
                    at += length;
                    Ok(())
                })
            }
            Operation::Flush => Ok(()),
            Operation::WriteZeroes | Operation::Discard => {
                ours.fill(at, to_usize(io.length), 0).map_err(failed)
            }
        }
    }
}

impl BackingQueue for MemoryQueue {
    fn start(&mut self, io: &Io, memory: &mut Memory<'_>) -> Started {
        Started::Done(self.move_bytes(io, memory).err().unwrap_or(Status::SUCCESS))
    }

    fn poll(&mut self, _limit: Duration, _done: &mut Vec<(u64, Status)>) {}

    fn in_flight(&self) -> usize {
        0
    }
}
