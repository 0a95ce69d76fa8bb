//! A queue to the device for each worker thread, so that reading takes no lock.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};

use engine_block::{BlockDevice, BlockQueue, OpenError};

/// Names one mount's device among all that this process serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueueKey(u64);

impl QueueKey {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

thread_local! {
    /// One process may serve several devices, so a thread can have several queues; they are few. They close when
    /// the thread ends, which for a worker of a mount is when the mount does.
    static QUEUES: RefCell<Vec<(QueueKey, Box<dyn BlockQueue>)>> = const { RefCell::new(Vec::new()) };
}

/// Calls `work` with this thread's queue to the device, which is opened on first use.
pub(crate) fn with_queue<T>(
    key: QueueKey,
    device: &dyn BlockDevice,
    depth: u32,
    work: impl FnOnce(&mut dyn BlockQueue) -> T,
) -> Result<T, OpenError> {
    QUEUES.with_borrow_mut(|queues| {
        let place = match queues.iter().position(|(owner, _)| *owner == key) {
            Some(place) => place,
            None => {
                queues.push((key, device.queue(depth)?));
                queues.len() - 1
            }
        };
        Ok(work(&mut *queues[place].1))
    })
}
