//! How much a client with queues of its own may have.

/// Bounds on one client of a mount, and how many there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientOptions {
    /// Most clients at a time.
    pub sessions: u32,
    /// Most queue pairs of one client.
    pub queues: u32,
    /// Most entries of one queue, a power of two.
    pub depth: u32,
    /// Most bytes of one client's queues and registered memory together.
    pub memory: u64,
    /// Most pieces of memory that one client registers.
    pub buffers: u32,
    /// Most files that one client has open, each snapshot counted as one.
    pub files: u32,
    /// Most bytes of one client's dataset snapshots together; 0: it gets none.
    pub snapshots: u64,
    /// For how many seconds a file's handle can be presented.
    pub handle: u64,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            sessions: 64,
            queues: 1024,
            depth: 1024,
            memory: 4 << 30,
            buffers: 256,
            files: 1024,
            snapshots: 1 << 30,
            handle: 3600,
        }
    }
}
