//! The client: an NVMe controller behind a socket, as a transport.

mod line;
mod memory;
mod regions;
mod transport;
mod watcher;

use std::time::Duration;

pub use transport::VfioUserTransport;

/// How long the server may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// From the first attempt to connect until there is a connection.
    pub connect: Duration,
    /// From a request to its reply.
    pub reply: Duration,
    /// From the first byte of a message to its last.
    pub message: Duration,
}

impl Default for Limits {
    /// 5 s to connect, 10 s for a reply (some reset before they answer), 2 s for a message that has begun.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            reply: Duration::from_secs(10),
            message: Duration::from_secs(2),
        }
    }
}
