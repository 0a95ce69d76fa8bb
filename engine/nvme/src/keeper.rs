//! The thread that looks after a controller while nobody asks anything of it.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use crate::{Controller, DriverError};

/// How often it looks.
const PERIOD: Duration = Duration::from_millis(250);

/// Ends the thread when it is dropped.
#[derive(Debug)]
pub(crate) struct Stop {
    _end: Sender<()>,
}

/// The thread before it runs.
pub(crate) struct Keeper {
    end: Receiver<()>,
}

pub(crate) fn pair() -> (Stop, Keeper) {
    let (sender, receiver) = channel();
    (Stop { _end: sender }, Keeper { end: receiver })
}

impl Keeper {
    /// Lets it look after `controller`, which it does not keep alive.
    ///
    /// # Errors
    /// Where there is no further thread to be had.
    pub(crate) fn start(self, controller: &Arc<Controller>) -> Result<(), DriverError> {
        let weak = Arc::downgrade(controller);
        let thread = thread::Builder::new().name("nvme-keeper".to_owned());
        let started = thread.spawn(move || self.run(&weak));
        started.map(drop).map_err(|source| DriverError::System {
            device: controller.name().to_owned(),
            action: "start a thread",
            source,
        })
    }

    fn run(self, controller: &Weak<Controller>) {
        while self.end.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
            let Some(controller) = controller.upgrade() else { return };
            controller.look_after();
        }
    }
}
