//! What the caller of the driver can choose.

use std::time::Duration;

/// What the caller can choose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverOptions {
    /// Which namespace to serve; the first active one where none is named.
    pub namespace: Option<u32>,
    /// Commands that each queue pair can have out; bounded by what the controller grants (CAP.MQES).
    pub queue_depth: u32,
    /// I/O queue pairs to ask for; the controller may grant fewer.
    pub queues: u16,
    /// How long a command may take before the driver steps in: abort, then deletion of its queue, then a reset.
    pub timeout: Duration,
    /// How long an admin command may take.
    pub admin_timeout: Duration,
    /// How often a read that failed in a way that allows it is tried again.
    pub retries: u32,
    /// Whether to use SGLs where the controller takes them.
    pub sgl: bool,
    /// Whether to use shadow doorbells where the controller has them.
    pub shadow_doorbells: bool,
    /// Whether to wait by interrupts where the transport has them.
    pub interrupts: bool,
}

impl Default for DriverOptions {
    fn default() -> Self {
        Self {
            namespace: None,
            queue_depth: 128,
            queues: 8,
            timeout: Duration::from_secs(30),
            admin_timeout: Duration::from_secs(60),
            retries: 3,
            sgl: true,
            shadow_doorbells: true,
            interrupts: true,
        }
    }
}
