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
    /// Most bytes of one client's buffers.
    pub buffer_bytes: u64,
    /// Most buffers of one client.
    pub buffers: u32,
    /// Most files that one client has open.
    pub files: u32,
    /// Longest transfer of one command, in bytes.
    pub transfer: u32,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            clients: 64,
            queues: 1024,
            entries: 1024,
            buffer_bytes: 4 << 30,
            buffers: 256,
            files: 1024,
            transfer: 1 << 20,
        }
    }
}
