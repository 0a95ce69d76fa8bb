//! Pools of memory that a controller reaches.

use std::io;
use std::sync::Arc;

use engine_dma::{Arena, ArenaSource};

use crate::Transport;

/// Lets a [`Pool`](engine_dma::Pool) have its arenas from a transport.
#[derive(Debug, Clone)]
pub struct TransportMemory(pub Arc<dyn Transport>);

impl ArenaSource for TransportMemory {
    fn arena(&self, length: usize) -> io::Result<Arena> {
        Ok(self.0.arena(length)?)
    }
}
