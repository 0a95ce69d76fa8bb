//! Why a controller cannot be used, or did not do what it was asked for.

use std::io;
use std::time::Duration;

use engine_block::OpenError;
use engine_nvme_spec::Status;
use engine_transport::TransportError;

use crate::errno::{EBUSY, EIO, ENODEV, ENOMEM, EOPNOTSUPP, ETIMEDOUT};

/// What went wrong between the driver and a controller. `device` is what the user called it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DriverError {
    /// The way to the controller failed.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The controller is not there any more, or the driver has given it up.
    #[error("{device} is gone: {reason}")]
    Gone {
        /// The device spec.
        device: String,
        /// How that was noticed.
        reason: String,
    },
    /// The controller says that it has failed for good (CSTS.CFS).
    #[error("{device} reports a fatal status: it has failed and needs a reset or a replacement")]
    Fatal {
        /// The device spec.
        device: String,
    },
    /// The controller did not do something in time.
    #[error("{device} did not {action} within {limit:?}")]
    Late {
        /// The device spec.
        device: String,
        /// What it should have done, as a verb.
        action: &'static str,
        /// How long was waited.
        limit: Duration,
    },
    /// The controller cannot do what the driver needs.
    #[error("{device} cannot be used: {reason}")]
    Unsupported {
        /// The device spec.
        device: String,
        /// What is missing, and what to do where something can be done.
        reason: String,
    },
    /// The controller says of itself what cannot be.
    #[error("{device} does not describe itself as a controller must: {reason}")]
    Lies {
        /// The device spec.
        device: String,
        /// What is wrong.
        reason: String,
    },
    /// The controller grants no queues for reading and writing.
    #[error("{device} grants no I/O queue: {reason}")]
    Queues {
        /// The device spec.
        device: String,
        /// What it answered.
        reason: String,
    },
    /// There is no such namespace, or none that can be used.
    #[error("namespace {namespace} of {device} cannot be used: {reason}")]
    Namespace {
        /// The device spec.
        device: String,
        /// The namespace's identifier.
        namespace: u32,
        /// Why, and what to do where something can be done.
        reason: String,
    },
    /// A command failed.
    #[error("{device} answered to {command}: {status}")]
    Command {
        /// The device spec.
        device: String,
        /// What was asked for.
        command: &'static str,
        /// What it answered.
        status: Status,
    },
    /// There is no memory that the controller reaches.
    #[error("no memory for {device}: {reason}")]
    Memory {
        /// The device spec.
        device: String,
        /// Why not.
        reason: String,
    },
    /// The operating system refused something.
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

impl DriverError {
    /// The operating system's number for the reason.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Self::Command { status, .. } => crate::status::errno(*status),
            Self::Gone { .. } | Self::Fatal { .. } | Self::Transport(TransportError::Gone { .. }) => ENODEV,
            Self::Late { .. } | Self::Transport(TransportError::Late { .. }) => ETIMEDOUT,
            Self::Memory { .. } => ENOMEM,
            Self::Unsupported { .. } | Self::Namespace { .. } => EOPNOTSUPP,
            Self::Queues { .. } => EBUSY,
            Self::System { source, .. } => source.raw_os_error().unwrap_or(EIO),
            Self::Lies { .. } | Self::Transport(_) => EIO,
        }
    }

    /// Whether the controller itself is at fault in a way that only a reset mends.
    pub(crate) fn wants_reset(&self) -> bool {
        matches!(self, Self::Late { .. } | Self::Fatal { .. })
    }
}

impl From<Box<TransportError>> for DriverError {
    fn from(error: Box<TransportError>) -> Self {
        Self::Transport(*error)
    }
}

impl From<DriverError> for OpenError {
    fn from(error: DriverError) -> Self {
        match error {
            DriverError::Transport(TransportError::System { device, action, source }) => {
                Self::System { action, device, source }
            }
            DriverError::System { device, action, source } => Self::System { action, device, source },
            error => Self::Spec(chain(&error)),
        }
    }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
