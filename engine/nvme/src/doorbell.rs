//! Telling the controller how far a queue has come (NVMe over PCIe Transport Specification, section 3.1.2).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use engine_dma::{Region, to_usize};
use engine_transport::{Transport, TransportError};

/// Where the doorbells start in BAR0.
const FIRST: u32 = 0x1000;

/// One doorbell register, and its shadow where the controller has one.
pub(crate) struct Doorbell {
    bell: Bell,
    shadow: Option<Shadow>,
    /// What was told last.
    told: u32,
}

enum Bell {
    Mapped { region: Arc<Region>, offset: usize },
    Written { transport: Arc<dyn Transport>, offset: u32 },
}

/// A word that the controller looks at by itself, and the one by which it says from when on it wants to be told (NVMe
/// Base Specification 2.1, section 5.2.5: Doorbell Buffer Config).
#[derive(Debug, Clone)]
pub(crate) struct Shadow {
    pub(crate) values: Arc<Region>,
    pub(crate) value: usize,
    pub(crate) events: Arc<Region>,
    pub(crate) event: usize,
}

/// Which of the two doorbells of a queue pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Submission,
    Completion,
}

/// The place of a doorbell among all: 2 * queue for the submission queue's, one more for the completion queue's.
pub(crate) fn place(queue: u16, side: Side) -> u32 {
    2 * u32::from(queue) + u32::from(side == Side::Completion)
}

impl Doorbell {
    /// The doorbell of `queue`; `stride` is CAP.DSTRD. What memory the transport has mapped of them is `mapped`.
    pub(crate) fn new(
        transport: &Arc<dyn Transport>,
        mapped: Option<&Arc<Region>>,
        stride: u32,
        queue: u16,
        side: Side,
        shadow: Option<Shadow>,
    ) -> Self {
        let offset = place(queue, side) * (4_u32 << stride.min(15));
        let within = to_usize(offset.into());
        let bell = match mapped.filter(|region| region.u32_at(within).is_some()) {
            Some(region) => Bell::Mapped { region: Arc::clone(region), offset: within },
            None => Bell::Written { transport: Arc::clone(transport), offset: FIRST.saturating_add(offset) },
        };
        Self { bell, shadow, told: 0 }
    }

    /// Tells the controller `value`, a place in the queue. Everything stored before is seen by a controller that
    /// sees this.
    #[inline]
    pub(crate) fn ring(&mut self, value: u32) -> Result<(), TransportError> {
        if let Some(shadow) = &self.shadow {
            let before = std::mem::replace(&mut self.told, value);
            if !shadow.wants(value, before) {
                return Ok(());
            }
        }
        match &self.bell {
            Bell::Mapped { region, offset } => {
                if let Some(word) = region.u32_at(*offset) {
                    word.store(value, Ordering::Release);
                }
                Ok(())
            }
            Bell::Written { transport, offset } => transport.write32(*offset, value),
        }
    }

    /// Forgets what was told: the queue starts anew.
    pub(crate) fn restart(&mut self) {
        self.told = 0;
        if let Some(shadow) = &self.shadow {
            for (region, place) in [(&shadow.values, shadow.value), (&shadow.events, shadow.event)] {
                if let Some(word) = region.u32_at(place) {
                    word.store(0, Ordering::Relaxed);
                }
            }
        }
    }
}

impl Shadow {
    /// Stores the value; whether the controller wants the register written too.
    #[inline]
    fn wants(&self, value: u32, before: u32) -> bool {
        let (Some(word), Some(event)) = (self.values.u32_at(self.value), self.events.u32_at(self.event))
        else {
            return true;
        };
        word.store(value, Ordering::Release);
        // The controller stores the event and then looks at the value; here it is the other way round. One of the two
        // sees what the other did.
        fence(Ordering::SeqCst);
        passes(event.load(Ordering::Relaxed), value, before)
    }
}

/// Whether going from `before` to `value` passes `event`, all of them places in a ring of at most 65536.
#[inline]
fn passes(event: u32, value: u32, before: u32) -> bool {
    let ring = |n: u32| n & 0xffff;
    ring(value.wrapping_sub(event).wrapping_sub(1)) < ring(value.wrapping_sub(before))
}

impl fmt::Debug for Doorbell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, offset) = match &self.bell {
            Bell::Mapped { offset, .. } => ("mapped", *offset),
            Bell::Written { offset, .. } => ("written", to_usize((*offset).into())),
        };
        f.debug_struct("Doorbell").field(kind, &offset).field("shadow", &self.shadow.is_some()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_is_passed_only_by_values_beyond_it() {
        // (event, new, old): as virtio's and NVMe's rings have it, an event at n asks for the move from n to n + 1.
        for (event, value, before, expected) in [
            (0, 1, 0, true),
            (1, 1, 0, false),
            (5, 6, 3, true),
            (2, 6, 3, false),
            (0xffff, 2, 0xfffe, true),
            (6, 6, 3, false),
        ] {
            assert_eq!(passes(event, value, before), expected, "event {event}, {before} -> {value}");
        }
    }
}
