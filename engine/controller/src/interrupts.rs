//! The interrupt vectors of a controller.

use std::sync::atomic::{AtomicU32, Ordering};

use engine_transport::Interrupt;
use parking_lot::RwLock;

/// Which vectors somebody listens to, and which are masked.
#[derive(Debug)]
pub(crate) struct Vectors {
    vectors: Vec<RwLock<Option<Interrupt>>>,
    /// One bit for each of the first 32 vectors (INTMS and INTMC; Base, sections 3.1.4.3 and 3.1.4.4). Hosts with
    /// MSI-X mask vectors elsewhere and leave this alone.
    masked: AtomicU32,
    /// Vectors that were to be signalled while they were masked.
    owed: AtomicU32,
}

impl Vectors {
    pub(crate) fn new(count: u16) -> Self {
        let vectors = (0..count).map(|_| RwLock::new(None)).collect();
        Self { vectors, masked: AtomicU32::new(0), owed: AtomicU32::new(0) }
    }

    pub(crate) fn count(&self) -> u16 {
        u16::try_from(self.vectors.len()).unwrap_or(u16::MAX)
    }

    /// Connects a vector, or takes the connection away. One that is not there is ignored.
    pub(crate) fn connect(&self, vector: u16, interrupt: Option<Interrupt>) {
        if let Some(place) = self.vectors.get(usize::from(vector)) {
            *place.write() = interrupt;
        }
    }

    /// Masks exactly these vectors. Those that are not masked any more and were to be signalled are signalled.
    pub(crate) fn mask(&self, masked: u32) {
        self.masked.store(masked, Ordering::SeqCst);
        let due = self.owed.fetch_and(masked, Ordering::SeqCst) & !masked;
        (0..32).filter(|vector| due & (1 << vector) != 0).for_each(|vector| self.deliver(vector));
    }

    pub(crate) fn signal(&self, vector: u16) {
        let bit = 1_u32.checked_shl(vector.into()).unwrap_or(0);
        if self.masked.load(Ordering::SeqCst) & bit != 0 {
            self.owed.fetch_or(bit, Ordering::SeqCst);
            // Where the mask went away in between, nobody else looks.
            let masked = self.masked.load(Ordering::SeqCst) & bit != 0;
            if masked || self.owed.fetch_and(!bit, Ordering::SeqCst) & bit == 0 {
                return;
            }
        }
        self.deliver(vector);
    }

    fn deliver(&self, vector: u16) {
        let Some(place) = self.vectors.get(usize::from(vector)) else { return };
        if let Some(interrupt) = &*place.read()
            && let Err(error) = interrupt.signal()
        {
            tracing::debug!(vector, %error, "an interrupt could not be signalled");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn masked_vector_is_signalled_when_the_mask_goes_and_others_at_once() {
        let vectors = Vectors::new(40);
        let connected: Vec<Interrupt> = [3, 35]
            .iter()
            .map(|&vector| {
                let interrupt = Interrupt::new().unwrap();
                vectors.connect(vector, Some(interrupt.another().unwrap()));
                interrupt
            })
            .collect();
        let signalled = |place: usize| connected[place].wait(Duration::ZERO).unwrap();
        vectors.mask(1 << 3);
        vectors.signal(3);
        vectors.signal(35);
        assert_eq!((signalled(0), signalled(1)), (false, true), "only the first 32 can be masked");
        vectors.mask(0);
        assert!(signalled(0));
        vectors.mask(0);
        assert!(!signalled(0), "once");
        vectors.signal(3);
        assert!(signalled(0));
        vectors.signal(39);
    }
}
