//! How much one client may have.

/// Bounds on one client, and on all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientLimits {
    /// Most clients at a time.
    pub clients: usize,
    /// Most queue pairs of one client.
    pub queues: u32,
    /// Most entries of one queue, a power of two.
    pub entries: u32,
    /// Most bytes of one client's buffers and queues together.
    pub memory: u64,
    /// Most buffers of one client.
    pub buffers: u32,
    /// Most files that one client has open.
    pub files: u32,
    /// Most bytes of one client's dataset snapshots together.
    pub snapshots: u64,
    /// Longest transfer of one command, in bytes.
    pub transfer: u32,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            clients: 64,
            queues: 1024,
            entries: 1024,
            memory: 4 << 30,
            buffers: 256,
            files: 1024,
            snapshots: 1 << 30,
            transfer: 1 << 20,
        }
    }
}
