//! How a controller is set up.

use std::time::Duration;

use crate::{ControllerError, Faults};

/// How a controller is set up.
#[derive(Debug, Clone)]
pub struct ControllerOptions {
    /// I/O queue pairs that a host may create, from 1 to 65534.
    pub queue_pairs: u16,
    /// Entries of a queue, from 2 to 65536.
    pub queue_entries: u32,
    /// Threads that work on queues, each owning some; with 0 the controller works only where it is
    /// [assisted](crate::Controller::assist), on the caller's thread.
    pub threads: usize,
    /// Interrupt vectors, from 1 on.
    pub vectors: u16,
    /// Longest transfer of one command as a power of two of 4096 bytes.
    pub mdts: u8,
    /// Doorbells are `4 << doorbell_stride` bytes apart. More than 0 keeps the doorbells of different queues off each
    /// other's cache lines.
    pub doorbell_stride: u8,
    /// Whether hosts may put doorbells into memory of their own (Doorbell Buffer Config), by which a thread that
    /// sleeps can be woken and one that polls need not be.
    pub shadow_doorbells: bool,
    /// How long a thread polls with nothing to do before it sleeps.
    pub spin: Duration,
    /// Longest sleep between looks at doorbells that nobody announces.
    pub nap: Duration,
    /// Commands in flight to a backing, for each queue or thread.
    pub depth: u32,
    /// How long a reset, the deletion of a queue and the taking away of memory wait for what backings still do to a
    /// host's memory. The controller fails after that, rather than say that it has let go. Hosts are told to be a
    /// little more patient (CAP.TO).
    pub quiet_limit: Duration,
    /// How long a backing may take for one step of a command of several steps.
    pub step_limit: Duration,
    /// Faults to show, for tests of drivers.
    pub faults: Option<Faults>,
}

impl Default for ControllerOptions {
    fn default() -> Self {
        Self {
            queue_pairs: 128,
            queue_entries: 1024,
            threads: 0,
            vectors: 32,
            mdts: 8,
            doorbell_stride: 0,
            shadow_doorbells: true,
            spin: Duration::from_micros(200),
            nap: Duration::from_millis(1),
            depth: 256,
            // Less than a client of vfio-user waits for an answer.
            quiet_limit: Duration::from_secs(8),
            step_limit: Duration::from_secs(60),
            faults: None,
        }
    }
}

impl ControllerOptions {
    /// Refuses what cannot be.
    pub(crate) fn check(&self) -> Result<(), ControllerError> {
        let refuse = |text: String| Err(ControllerError::Options(text));
        if self.queue_pairs == 0 || self.queue_pairs == u16::MAX {
            return refuse(format!("{} queue pairs: give 1 to 65534", self.queue_pairs));
        }
        if !(2..=65536).contains(&self.queue_entries) {
            return refuse(format!("queues of {} entries: give 2 to 65536", self.queue_entries));
        }
        if self.vectors == 0 || self.vectors > 2048 {
            return refuse(format!("{} interrupt vectors: give 1 to 2048", self.vectors));
        }
        if self.mdts == 0 || self.mdts > 13 {
            return refuse(format!("transfers of 4096 << {} bytes: give 1 to 13", self.mdts));
        }
        if self.doorbell_stride > 8 {
            return refuse(format!(
                "doorbells {} bytes apart: give a stride of 0 to 8",
                4_u64 << self.doorbell_stride.min(40)
            ));
        }
        if self.threads > 1024 || self.depth == 0 {
            return refuse("give at most 1024 threads and a depth of at least 1".into());
        }
        Ok(())
    }

    /// Longest transfer of one command in bytes.
    pub(crate) fn transfer_most(&self) -> u64 {
        4096 << self.mdts
    }
}
