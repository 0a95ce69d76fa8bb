//! The door for clients that fill queues and have no registers: who they are and what they may read was settled
//! elsewhere, and queues are made and taken away for them.
//!
//! They have the commands that no thread waits for: Read, Write, Write Zeroes, and Flush of one namespace. Those that are
//! carried out in several steps, with a wait for each, are no commands here (Invalid Command Opcode): the thread is not
//! one client's alone.
//!
//! Their doorbells lie as those of a controller do; with a stride of 5 each has 128 bytes to itself, which is what an
//! accelerator that polls or rings wants. Threads are not a client's own: whoever mediates has a few, and each
//! [works](ClientQueues::work) on its share of every client.

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine_dma::{AddressSpace, MapError, Region, to_usize};
use engine_nvme_spec::Status;
use engine_nvme_spec::identify::{Cns, IdentifyNamespace};
use parking_lot::Mutex;
use zerocopy::FromBytes;

use crate::processor::Processor;
use crate::queue::{CompletionQueue, RingMemory, SubmissionQueue, ring_bytes};
use crate::subsystem::IdentifyRequest;
use crate::tally::Tally;
use crate::{Controller, ControllerError, ControllerOptions, Subsystem};

/// How long the end of a client, or of one of its namespaces, waits for commands.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// Most commands of one client that are fetched before another client has its turn.
const ROUND_MOST: u32 = 128;

/// One client's queues on a [`Subsystem`] of its own.
#[derive(Debug)]
pub struct ClientQueues {
    controller: Arc<Controller>,
}

impl ClientQueues {
    /// Queues for a client, to be worked on by `workers` threads of somebody's; by as many of them as it may have pairs,
    /// at most.
    ///
    /// # Errors
    /// Where the options cannot be, or the system gives no memory.
    pub fn new(
        options: ControllerOptions,
        workers: usize,
        subsystem: Arc<Subsystem>,
    ) -> Result<Self, ControllerError> {
        let workers = workers.clamp(1, usize::from(options.queue_pairs));
        let controller =
            Controller::with_slots(ControllerOptions { threads: 0, ..options }, subsystem, workers)?;
        for slot in &controller.inner.slots {
            let mut processor = slot.lock();
            (processor.round_most, processor.stays_on_thread) = (ROUND_MOST, true);
        }
        Ok(Self { controller })
    }

    /// The doorbells: the tail of pair `n` (from 1 on) at `2 * n` times the stride, the head after it.
    #[must_use]
    pub fn doorbells(&self) -> &Arc<Region> {
        self.controller.doorbells()
    }

    /// What Identify tells of a namespace (NVM Command Set Specification, section 4.1.5.1): there is no admin queue to ask by.
    ///
    /// # Errors
    /// Invalid Namespace or Format where there is none of this number.
    pub fn identify(&self, nsid: u32) -> Result<IdentifyNamespace, Status> {
        let shared = &self.controller.inner.shared;
        let request = IdentifyRequest { cns: Cns::NAMESPACE, nsid, controller: 0, csi: 0 };
        let page = shared.subsystem.identify(&shared.state, &request, &shared.facts)?;
        IdentifyNamespace::read_from_prefix(&*page).map(|(page, _)| page).map_err(|_| Status::INTERNAL_ERROR)
    }

    /// What the client's bus addresses mean. To take a range away, use [`unmap`](Self::unmap).
    #[must_use]
    pub fn address_space(&self) -> &Arc<AddressSpace> {
        self.controller.address_space()
    }

    /// Takes a range of bus addresses away; whether nothing reaches the memory any more.
    ///
    /// # Errors
    /// Where nothing is mapped there, or a mapping lies there only in part.
    pub fn unmap(&self, iova: u64, length: u64) -> Result<bool, MapError> {
        self.controller.unmap(iova, length)
    }

    /// Takes all bus addresses away, as [`unmap`](Self::unmap).
    pub fn unmap_all(&self) -> bool {
        self.controller.unmap_all()
    }

    /// Makes a queue pair of `entries` (2 to 65536) entries whose rings lie at these bus addresses. Its commands are
    /// counted in what is returned.
    ///
    /// # Errors
    /// The status with which a controller would refuse to create it.
    pub fn create_pair(
        &self,
        pair: u16,
        entries: u32,
        submissions: u64,
        completions: u64,
    ) -> Result<Arc<Tally>, Status> {
        let inner = &self.controller.inner;
        let options = &inner.shared.options;
        let size = u16::try_from(entries.wrapping_sub(1)).map_err(|_| Status::INVALID_QUEUE_SIZE.final_())?;
        if size == 0 || entries > options.queue_entries {
            return Err(Status::INVALID_QUEUE_SIZE.final_());
        }
        let mut table = inner.queues.lock();
        if pair == 0 || pair > options.queue_pairs || table.exists(pair, true) {
            return Err(Status::INVALID_QUEUE_ID.final_());
        }
        let mut view = engine_dma::View::new();
        view.refresh(&inner.shared.space);
        let invalid = Status::INVALID_FIELD.final_();
        let submissions = RingMemory::find(&mut view, submissions, ring_bytes(size, false)).ok_or(invalid)?;
        let completions = RingMemory::find(&mut view, completions, ring_bytes(size, true)).ok_or(invalid)?;
        let slot = inner.slot(pair).ok_or(Status::INTERNAL_ERROR)?;
        inner.shared.clear_doorbell(pair, false);
        inner.shared.clear_doorbell(pair, true);
        let mut processor = slot.lock();
        processor.add_completion_queue(CompletionQueue::new(pair, size, completions, None));
        let tally = Arc::new(Tally::default());
        let mut queue = SubmissionQueue::new(pair, pair, size, 0, submissions);
        queue.tally = Some(Arc::clone(&tally));
        processor.add_submission_queue(queue);
        table.add_pair(pair);
        Ok(tally)
    }

    /// Fetches nothing more, and waits until the threads that [work](Self::work) have brought what is in flight to its
    /// end; whether they did in time.
    pub fn drain(&self) -> bool {
        let slots = &self.controller.inner.slots;
        slots.iter().for_each(|slot| slot.lock().round_most = 0);
        let start = Instant::now();
        while slots.iter().any(|slot| slot.lock().in_flight() > 0) {
            if start.elapsed() > DRAIN_LIMIT {
                return false;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        true
    }

    /// Waits until no command is in flight on a namespace that was removed, and lets go of its backing; whether that came
    /// about in time. Until it does, commands on a new namespace of this number answer Namespace Not Ready.
    pub fn settle(&self, nsid: u32) -> bool {
        let inner = &self.controller.inner;
        let place = to_usize(u64::from(nsid)).wrapping_sub(1);
        let is_served = |slot: &Mutex<Processor>| {
            let mut processor = slot.lock();
            processor.let_go(&inner.shared);
            processor.served.get(place).is_some_and(Option::is_some)
        };
        let start = Instant::now();
        while inner.slots.iter().any(is_served) {
            if start.elapsed() > DRAIN_LIMIT {
                return false;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        true
    }

    /// Takes a queue pair away; what is in flight of it is never answered, so [`drain`](Self::drain) first.
    pub fn delete_pair(&self, pair: u16) {
        let inner = &self.controller.inner;
        if let Some(slot) = inner.slot(pair) {
            let mut processor = slot.lock();
            processor.remove_submission_queue(&inner.shared, pair);
            processor.remove_completion_queue(pair);
        }
        inner.queues.lock().remove_pair(pair);
    }

    /// Works once on the queues of worker `worker`; whether there was anything to do. Where there was not, waits at most
    /// `limit` for backings. Each worker stays on one thread, since some backings belong to the thread that used them
    /// first; so where there are fewer pairs than workers, the last ones have nothing to do.
    pub fn work(&self, worker: usize, limit: Duration) -> bool {
        let inner = &self.controller.inner;
        let shared = &inner.shared;
        // Somebody who takes a queue away has it; the next round comes soon.
        let slot = inner.slots.get(worker).and_then(|slot| slot.try_lock());
        slot.is_some_and(|mut processor| {
            processor.round_of(shared, limit, |processor, sq_id, sqe| {
                processor.start_without_waiting(shared, sq_id, sqe)
            })
        })
    }

    /// How many commands worker `worker` has with backings.
    #[must_use]
    pub fn in_flight(&self, worker: usize) -> usize {
        let slot = self.controller.inner.slots.get(worker);
        slot.map_or(0, |slot| slot.try_lock().map_or(1, |processor| processor.in_flight()))
    }

    /// Whether the client did what no client may: its queues are dead.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.controller.inner.shared.has_failed()
    }
}
