//! Doorbells in the host's memory (Base, section 5.2.5).

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};

use engine_dma::{View, to_usize};
use engine_nvme_spec::{Sqe, Status, dbbuf};

use crate::controller::Inner;
use crate::processor::Processor;
use crate::queue::RingMemory;

/// The host's two pages: its doorbells, and up to where the controller says that it looks by itself.
#[derive(Debug)]
pub(crate) struct ShadowDoorbells {
    doorbells: RingMemory,
    events: RingMemory,
    /// What stands there for the admin submission queue since the host gave the pages, until the host changes it.
    admin: u32,
    admin_in_use: AtomicBool,
}

impl ShadowDoorbells {
    pub(crate) fn value(&self, queue: u16, completion: bool, stride: u8) -> Option<u32> {
        // Linux leaves the places of the admin queue alone and writes the register; others use them like the rest.
        if queue == 0 && !self.admin_in_use.load(Ordering::Relaxed) {
            let now = word(&self.doorbells, 0, false, stride)?.load(Ordering::Acquire);
            if now == self.admin {
                return None;
            }
            self.admin_in_use.store(true, Ordering::Relaxed);
        }
        Some(word(&self.doorbells, queue, completion, stride)?.load(Ordering::Acquire))
    }

    pub(crate) fn clear(&self, queue: u16, completion: bool, stride: u8) {
        for memory in [&self.doorbells, &self.events] {
            if let Some(word) = word(memory, queue, completion, stride) {
                word.store(0, Ordering::Release);
            }
        }
    }

    /// Says up to where the tail of a submission queue was seen: where `wake`, a host that goes on from there writes the
    /// register; where not, it need not.
    fn announce(&self, queue: u16, tail: u16, wake: bool, stride: u8) {
        if let Some(word) = word(&self.events, queue, false, stride) {
            // A host that goes on from `tail` passes the index `tail`, and not the one before.
            let index = if wake { tail } else { tail.wrapping_sub(1) };
            word.store(index.into(), Ordering::Release);
        }
    }

    pub(crate) fn is_current(&self, view: &mut View) -> bool {
        self.doorbells.is_current(view) && self.events.is_current(view)
    }
}

fn word(memory: &RingMemory, queue: u16, completion: bool, stride: u8) -> Option<&AtomicU32> {
    memory.word32(to_usize(dbbuf::place(queue, completion, stride)))
}

impl Inner {
    pub(super) fn configure_shadow(&self, admin: &mut Processor, sqe: &Sqe) -> Result<Status, Status> {
        let page = self.shared.page();
        let (first, second) = (sqe.prp1.get(), sqe.prp2.get());
        if !first.is_multiple_of(page) || !second.is_multiple_of(page) {
            return Err(Status::PRP_OFFSET_INVALID.final_());
        }
        let invalid = Status::INVALID_FIELD.final_();
        let mut find = |iova| RingMemory::find(&mut admin.view, iova, to_usize(page)).ok_or(invalid);
        let (doorbells, events) = (find(first)?, find(second)?);
        let (admin_now, admin_in_use) = (self.shared.doorbell(0, false), AtomicBool::new(false));
        let shadow = ShadowDoorbells { doorbells, events, admin: admin_now, admin_in_use };
        // Queues that exist go on from where they are.
        let stride = self.shared.stride();
        for queue in 0..=self.shared.options.queue_pairs {
            for completion in [false, true] {
                let value = if queue == 0 && !completion { Some(admin_now) } else { None };
                if self.queues.lock().exists(queue, completion) {
                    let value = value.unwrap_or_else(|| self.shared.doorbell(queue, completion));
                    if let Some(word) = word(&shadow.doorbells, queue, completion, stride) {
                        word.store(value, Ordering::Release);
                    }
                }
            }
        }
        self.shared.use_shadow(Some(shadow));
        Ok(Status::SUCCESS)
    }

    /// Tells hosts that keep a copy of the admin queue's doorbell that the register must be written, too.
    pub(super) fn ask_for_the_admin_register(&self, admin: &Processor) {
        if let Some(shadow) = &*self.shared.shadow.read() {
            for (queue, tail) in admin.heard() {
                shadow.announce(queue, tail, true, self.shared.stride());
            }
        }
    }

    /// Tells hosts with doorbells of their own whether thread `number` must be woken, or polls.
    pub(crate) fn announce(&self, number: usize, wake: bool) {
        if !self.shared.uses_shadow() {
            return;
        }
        // Not both locks at once: those who work on queues take them the other way round.
        let heard: Vec<(u16, u16)> =
            self.slots.get(number).map(|slot| slot.lock().heard().collect()).unwrap_or_default();
        if let Some(shadow) = &*self.shared.shadow.read() {
            for (queue, tail) in heard {
                shadow.announce(queue, tail, wake, self.shared.stride());
            }
        }
        // The host writes its doorbell, then reads the index; we wrote the index, and look at the doorbell next.
        fence(Ordering::SeqCst);
    }
}
