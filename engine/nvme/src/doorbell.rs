//! Telling the controller how far a queue has come (NVMe over PCIe Transport Specification, section 3.1.2).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use engine_dma::{Region, to_usize};
use engine_nvme_spec::dbbuf::{need_event, place};
use engine_nvme_spec::doorbell;
use engine_transport::{Transport, TransportError};

use crate::ring::low16;

/// The way to the controller has failed. In a box, since this is returned for every batch.
pub(crate) type Failure = Box<TransportError>;

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

impl Doorbell {
    /// The doorbell of `queue`; `completion` says which of its two, `stride` is CAP.DSTRD, `mapped` is what memory the
    /// transport has of doorbells.
    pub(crate) fn new(
        transport: &Arc<dyn Transport>,
        mapped: Option<&Arc<Region>>,
        stride: u8,
        queue: u16,
        completion: bool,
        shadow: Option<Shadow>,
    ) -> Self {
        let within = to_usize(place(queue, completion, stride));
        let bell = match mapped.filter(|region| region.u32_at(within).is_some()) {
            Some(region) => Bell::Mapped { region: Arc::clone(region), offset: within },
            None => {
                let offset = u32::try_from(doorbell(queue, completion, stride)).unwrap_or(u32::MAX);
                Bell::Written { transport: Arc::clone(transport), offset }
            }
        };
        Self { bell, shadow, told: 0 }
    }

    /// Tells the controller `value`, a place in the queue. Everything stored before is seen by a controller that
    /// sees this.
    #[inline]
    pub(crate) fn ring(&mut self, value: u32) -> Result<(), Failure> {
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
            Bell::Written { transport, offset } => Ok(transport.write32(*offset, value)?),
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
        let short = |n: u32| low16(n.into());
        need_event(short(event.load(Ordering::Relaxed)), short(value), short(before))
    }
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
