//! What can go wrong on the way to a controller.

use std::io;
use std::time::Duration;

/// Why a transport did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The controller is not there any more: its process ended, its socket was closed, the device was pulled out.
    #[error("{device} is gone: {reason}")]
    Gone {
        /// The device spec.
        device: String,
        /// How that was noticed.
        reason: String,
    },
    /// The other side refused.
    #[error("{device} refused to {action}")]
    Refused {
        /// The device spec.
        device: String,
        /// What was asked for, as a verb: "map memory at 0x1000".
        action: String,
        /// The reason it gave.
        source: io::Error,
    },
    /// The other side does not keep to the protocol.
    #[error("{device} does not speak the protocol: {reason}")]
    Protocol {
        /// The device spec.
        device: String,
        /// What was wrong.
        reason: String,
    },
    /// The other side did not answer in time.
    #[error("{device} did not {action} within {limit:?}")]
    Late {
        /// The device spec.
        device: String,
        /// What was asked for, as a verb.
        action: String,
        /// How long was waited.
        limit: Duration,
    },
    /// The operating system refused something on this side.
    #[error("cannot {action} for {device}")]
    System {
        /// The device spec.
        device: String,
        /// What was tried, as a verb.
        action: &'static str,
        /// Why it was refused.
        source: io::Error,
    },
}

impl From<TransportError> for io::Error {
    fn from(error: TransportError) -> Self {
        let kind = match &error {
            TransportError::Gone { .. } => io::ErrorKind::NotConnected,
            TransportError::Late { .. } => io::ErrorKind::TimedOut,
            TransportError::Protocol { .. } => io::ErrorKind::InvalidData,
            TransportError::Refused { source, .. } | TransportError::System { source, .. } => source.kind(),
        };
        Self::new(kind, error)
    }
}
