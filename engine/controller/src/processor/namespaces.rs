//! A processor's way to namespaces and memory: what there is now, and letting go of what is to go.

use std::sync::Arc;
use std::time::Duration;

use engine_dma::{AddressSpace, Region, View, to_usize};
use engine_nvme_spec::Status;

use super::{Processor, Scratch, Served};
use crate::controller::Shared;

impl Processor {
    /// Sees what is mapped and which namespaces there are now.
    pub(crate) fn look(&mut self, shared: &Shared) {
        if self.view.refresh(&shared.space) {
            self.renew_rings(shared);
        }
        self.namespaces.refresh(shared.subsystem.namespaces());
        self.current = 0;
    }

    /// Lets go of every mapping and namespace that nothing in flight needs, so that they can be taken away. Rings whose
    /// memory is gone stop the controller.
    pub(crate) fn let_go(&mut self, shared: &Shared) {
        if !self.stays_on_thread {
            self.collect(shared, Duration::ZERO);
        }
        if self.view.refresh(&shared.space) {
            self.renew_rings(shared);
        }
        self.signal(shared);
        self.namespaces.refresh(shared.subsystem.namespaces());
        let namespaces = &self.namespaces;
        for slot in &mut self.served {
            let gone = slot.as_ref().is_some_and(|served| {
                let now = namespaces.get(served.namespace.nsid());
                served.queue.in_flight() == 0 && !now.is_some_and(|now| Arc::ptr_eq(now, &served.namespace))
            });
            if gone {
                *slot = None;
            }
        }
        self.current = 0;
        self.view.release();
        self.namespaces.release();
    }

    pub(super) fn renew_rings(&mut self, shared: &Shared) {
        let view = &mut self.view;
        let submissions = self.submission_queues.iter_mut().map(|queue| &mut queue.memory);
        let completions = self.completion_queues.iter_mut().map(|queue| &mut queue.memory);
        let mut lost = false;
        for memory in submissions.chain(completions) {
            lost |= !memory.is_current(view) && !memory.renew(view);
        }
        if lost {
            tracing::warn!("the host took away the memory of a queue in use");
            self.submission_queues.clear();
            self.completion_queues.clear();
            shared.fail();
        }
    }

    /// The namespace of a command, with this processor's way to it.
    ///
    /// # Errors
    /// The status of a command that names one that there is not.
    #[inline]
    pub(crate) fn namespace(&mut self, nsid: u32) -> Result<&mut Served, Status> {
        // Most commands are for the namespace of the one before, and a look at what there is comes before each batch.
        if self.current == nsid
            && let Some(Some(_)) = self.served.get(to_usize(u64::from(nsid)).wrapping_sub(1))
        {
            let place = to_usize(u64::from(nsid)).wrapping_sub(1);
            return self.served.get_mut(place).and_then(Option::as_mut).ok_or(Status::INTERNAL_ERROR);
        }
        self.find_namespace(nsid)
    }

    #[inline(never)]
    pub(super) fn find_namespace(&mut self, nsid: u32) -> Result<&mut Served, Status> {
        let invalid = Status::INVALID_NAMESPACE.final_();
        let namespace = self.namespaces.get(nsid).ok_or(invalid)?;
        let place = to_usize(u64::from(nsid)).checked_sub(1).ok_or(invalid)?;
        if self.served.len() <= place {
            self.served.resize_with(place + 1, || None);
        }
        let slot = self.served.get_mut(place).ok_or(invalid)?;
        let current = slot.as_ref().is_some_and(|served| Arc::ptr_eq(&served.namespace, namespace));
        if !current {
            if slot.as_ref().is_some_and(|served| served.queue.in_flight() > 0) {
                // One number, two namespaces: the old one's commands come to their end first.
                return Err(Status::NAMESPACE_NOT_READY);
            }
            let depth = self.depth.saturating_add(1);
            let made = namespace.backing().queue_among(depth, &mut self.commons);
            let queue = made.map_err(|error| {
                tracing::warn!(nsid, %error, "no queue to the backing of a namespace");
                Status::INTERNAL_ERROR
            })?;
            let tally = namespace.backing().tally();
            *slot = Some(Served { namespace: Arc::clone(namespace), queue, tally });
        }
        self.current = nsid;
        slot.as_mut().ok_or(invalid)
    }

    /// All namespaces that there are.
    pub(crate) fn namespace_numbers(shared: &Shared) -> Vec<u32> {
        shared.subsystem.namespaces().all().iter().map(|namespace| namespace.nsid()).collect()
    }

    /// Memory of this processor's own, as much as one command moves.
    pub(crate) fn scratch(&mut self, shared: &Shared) -> Result<Scratch, Status> {
        if let Some(scratch) = self.scratch.take() {
            return Ok(scratch);
        }
        let length = shared.options.transfer_most();
        let region = Region::private(to_usize(length)).map_err(|_| Status::INTERNAL_ERROR)?;
        let space = AddressSpace::new(1);
        let access = region.access();
        space.map(0, length, Arc::clone(&region), 0, access).map_err(|_| Status::INTERNAL_ERROR)?;
        let mut view = View::new();
        view.refresh(&space);
        Ok(Scratch { region, view, busy: false })
    }

    /// Gives the memory back for the next command, unless a backing may still write to it.
    pub(crate) fn give_back(&mut self, scratch: Scratch) {
        self.scratch = Some(scratch).filter(|scratch| !scratch.busy);
    }
}
