//! The interrupt vectors of a controller.

use engine_transport::Interrupt;
use parking_lot::RwLock;

/// Which vectors somebody listens to.
#[derive(Debug)]
pub(crate) struct Vectors {
    vectors: Vec<RwLock<Option<Interrupt>>>,
}

impl Vectors {
    pub(crate) fn new(count: u16) -> Self {
        Self { vectors: (0..count).map(|_| RwLock::new(None)).collect() }
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

    pub(crate) fn signal(&self, vector: u16) {
        let Some(place) = self.vectors.get(usize::from(vector)) else { return };
        if let Some(interrupt) = &*place.read()
            && let Err(error) = interrupt.signal()
        {
            tracing::debug!(vector, %error, "an interrupt could not be signalled");
        }
    }
}
