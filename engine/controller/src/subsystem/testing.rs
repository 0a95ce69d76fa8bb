//! Subsystems for the tests of this folder.

use std::sync::Arc;
use std::time::Duration;

use engine_nvme_spec::Status;

use super::{NamespaceOptions, Subsystem};
use crate::ControllerError;
use crate::backing::{Backing, BackingQueue, Io, Memory, Started};

/// A backing of any size that nobody reads.
#[derive(Debug)]
struct Blocks {
    size: u64,
    read_only: bool,
}

impl Backing for Blocks {
    fn size(&self) -> u64 {
        self.size
    }

    fn block(&self) -> u32 {
        512
    }

    fn is_read_only(&self) -> bool {
        self.read_only
    }

    fn describe(&self) -> String {
        "blocks for tests".to_owned()
    }

    fn queue(&self, _depth: u32) -> Result<Box<dyn BackingQueue>, ControllerError> {
        Ok(Box::new(NoQueue))
    }
}

#[derive(Debug)]
struct NoQueue;

impl BackingQueue for NoQueue {
    fn start(&mut self, _io: &Io, _memory: &mut Memory<'_>) -> Started {
        Started::Done(Status::INTERNAL_ERROR)
    }

    fn poll(&mut self, _limit: Duration, _done: &mut Vec<(u64, Status)>) {}

    fn in_flight(&self) -> usize {
        0
    }
}

pub(super) fn backing(size: u64) -> Arc<dyn Backing> {
    Arc::new(Blocks { size, read_only: false })
}

pub(super) fn read_only_backing(size: u64) -> Arc<dyn Backing> {
    Arc::new(Blocks { size, read_only: true })
}

/// A subsystem with one namespace of 2048 blocks of 512 bytes.
pub(super) fn subsystem() -> Arc<Subsystem> {
    let namespace = NamespaceOptions::new(backing(1 << 20));
    Subsystem::builder().serial("S123").model("model").firmware("1.2").namespace(namespace).build().unwrap()
}
