//! A backing that moves nothing: commands are checked in full and succeed. For measuring everything else.

use std::time::Duration;

use engine_block::Operation;
use engine_dma::Access;
use engine_nvme_spec::Status;

use super::{Backing, BackingQueue, Io, Memory, Started};
use crate::ControllerError;

/// Blocks that hold nothing.
#[derive(Debug, Clone, Copy)]
pub struct NullBacking {
    size: u64,
}

impl NullBacking {
    /// `size` bytes of nothing.
    #[must_use]
    pub fn new(size: u64) -> Self {
        Self { size }
    }
}

impl Backing for NullBacking {
    fn size(&self) -> u64 {
        self.size
    }

    fn block(&self) -> u32 {
        512
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn describe(&self) -> String {
        "null".into()
    }

    fn queue(&self, _depth: u32) -> Result<Box<dyn BackingQueue>, ControllerError> {
        Ok(Box::new(NullQueue))
    }
}

#[derive(Debug)]
struct NullQueue;

impl BackingQueue for NullQueue {
    fn start(&mut self, io: &Io, memory: &mut Memory<'_>) -> Started {
        let access = match io.operation {
            Operation::Read => Access::ReadWrite,
            _ => Access::Read,
        };
        Started::Done(memory.check(access).err().unwrap_or(Status::SUCCESS))
    }

    fn poll(&mut self, _limit: Duration, _done: &mut Vec<(u64, Status)>) {}

    fn in_flight(&self) -> usize {
        0
    }
}
