//! Ranges of a file, moved straight between it and memory of others.
//!
//! A [`Task`](task::Task) says which call of the kernel's a request needs next; a ring or plain calls carry it out.

mod calls;
mod mapped;
mod ring;
mod task;

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use engine_block::DeviceInfo;
use engine_block::cut::Geometry;
use engine_dma::Pool;

pub(crate) use calls::CallRanges;
pub(crate) use mapped::{MappedRanges, copy, map};
pub(crate) use ring::RingRanges;

/// Most bounce memory that one call takes.
const BOUNCE_MOST: usize = 256 << 10;
const BOUNCE_ARENAS: usize = 8;

/// What all range queues of a device share.
#[derive(Debug)]
pub(crate) struct RangeFile {
    pub(crate) file: Arc<File>,
    pub(crate) geometry: Geometry,
    pub(crate) info: DeviceInfo,
    /// Whether the kernel was found to have no call that zeroes a range of this file, or gives it back.
    zeroes_by_writing: AtomicBool,
    keeps_discarded: AtomicBool,
}

impl RangeFile {
    pub(crate) fn new(file: Arc<File>, geometry: Geometry, info: DeviceInfo) -> Self {
        let zeroes_by_writing = AtomicBool::new(false);
        let keeps_discarded = AtomicBool::new(false);
        Self { file, geometry, info, zeroes_by_writing, keeps_discarded }
    }

    /// Bounce memory for one queue.
    fn bounce(&self) -> Pool {
        Pool::new(BOUNCE_MOST, BOUNCE_ARENAS)
    }

    fn zeroes_by_writing(&self) -> bool {
        self.zeroes_by_writing.load(Ordering::Relaxed)
    }

    /// Notes that the kernel cannot zero ranges of this file.
    fn cannot_zero(&self) {
        if !self.zeroes_by_writing.swap(true, Ordering::Relaxed) {
            tracing::info!(device = self.info.spec, "no call zeroes ranges here; writing zeros instead");
        }
    }

    fn keeps_discarded(&self) -> bool {
        self.keeps_discarded.load(Ordering::Relaxed)
    }

    /// Notes that the kernel cannot give ranges of this file back.
    fn cannot_discard(&self) {
        if !self.keeps_discarded.swap(true, Ordering::Relaxed) {
            tracing::info!(
                device = self.info.spec,
                "no call discards ranges here; keeping what is discarded"
            );
        }
    }
}
