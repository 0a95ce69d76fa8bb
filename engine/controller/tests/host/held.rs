//! A backing that takes as long as a test wants.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use engine_block::{Operation, Windows};
use engine_controller::ControllerError;
use engine_controller::backing::{Backing, BackingQueue, BitBucket, Io, Memory, Started};
use engine_dma::{Access, Region, to_u64};
use engine_nvme_spec::Status;

/// Blocks in memory, and reads and writes that end only when they are let go, the latest first.
#[derive(Debug, Clone)]
pub(crate) struct HeldBacking {
    pub(crate) region: Arc<Region>,
    lets_go: Arc<AtomicBool>,
    begun: Arc<AtomicUsize>,
}

impl HeldBacking {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let region = Region::private(bytes.len()).unwrap();
        region.write(0, bytes).unwrap();
        Self { region, lets_go: Arc::default(), begun: Arc::default() }
    }

    /// Lets go of what is held and of what comes.
    pub(crate) fn let_go(&self) {
        self.lets_go.store(true, Ordering::Release);
    }

    /// How many operations were begun so far.
    pub(crate) fn begun(&self) -> usize {
        self.begun.load(Ordering::Acquire)
    }
}

impl Backing for HeldBacking {
    fn size(&self) -> u64 {
        to_u64(self.region.length())
    }

    fn block(&self) -> u32 {
        512
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn describe(&self) -> String {
        "held".into()
    }

    fn queue(&self, _depth: u32) -> Result<Box<dyn BackingQueue>, ControllerError> {
        Ok(Box::new(HeldQueue { backing: self.clone(), held: Vec::new(), bucket: BitBucket::default() }))
    }
}

#[derive(Debug)]
struct HeldQueue {
    backing: HeldBacking,
    held: Vec<(Io, Windows)>,
    bucket: BitBucket,
}

impl BackingQueue for HeldQueue {
    fn start(&mut self, io: &Io, memory: &mut Memory<'_>) -> Started {
        let windows = match io.operation {
            Operation::Read => memory.windows(Access::ReadWrite, &mut self.bucket).unwrap(),
            Operation::Write => memory.windows(Access::Read, &mut self.bucket).unwrap(),
            _ => return Started::Done(Status::SUCCESS),
        };
        self.held.push((*io, windows));
        self.backing.begun.fetch_add(1, Ordering::Release);
        Started::Pending
    }

    fn poll(&mut self, limit: Duration, done: &mut Vec<(u64, Status)>) {
        if !self.backing.lets_go.load(Ordering::Acquire) {
            return thread::sleep(limit);
        }
        for (io, windows) in self.held.drain(..).rev() {
            let mut at = usize::try_from(io.offset).unwrap();
            for window in &windows {
                let (ours, theirs) = (&self.backing.region, window.mapping.region());
                let copied = match io.operation {
                    Operation::Read => ours.copy_to(at, theirs, window.offset, window.length),
                    _ => theirs.copy_to(window.offset, ours, at, window.length),
                };
                copied.unwrap();
                at += window.length;
            }
            done.push((io.token, Status::SUCCESS));
        }
    }

    fn in_flight(&self) -> usize {
        self.held.len()
    }
}
