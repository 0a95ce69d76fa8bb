//! Memory of the host's own that the controller reaches.

use std::sync::Arc;

use engine_dma::{Arena, PAGE, Region};
use engine_transport::Transport;

/// One stretch of memory, given out page by page and never taken back.
#[derive(Debug)]
pub(crate) struct Memory {
    arena: Arena,
    base: u64,
    used: usize,
}

impl Memory {
    pub(crate) fn new(transport: &dyn Transport, length: usize) -> Self {
        let arena = transport.arena(length).unwrap();
        let registration = arena.registration().unwrap();
        assert_eq!(registration.owner, transport.id());
        Self { arena, base: registration.handle, used: 0 }
    }

    /// The bus address of `length` fresh bytes, at the start of a page.
    pub(crate) fn take(&mut self, length: usize) -> u64 {
        let at = self.used;
        self.used += length.next_multiple_of(PAGE);
        assert!(self.used <= self.arena.length(), "the test uses more memory than it has");
        self.base + u64::try_from(at).unwrap()
    }

    /// The first bus address past the memory.
    pub(crate) fn end(&self) -> u64 {
        self.base + u64::try_from(self.arena.length()).unwrap()
    }

    pub(crate) fn region(&self) -> &Arc<Region> {
        self.arena.region()
    }

    pub(crate) fn place(&self, iova: u64) -> usize {
        usize::try_from(iova - self.base).unwrap()
    }

    pub(crate) fn write(&self, iova: u64, bytes: &[u8]) {
        self.region().write(self.place(iova), bytes).unwrap();
    }

    pub(crate) fn read(&self, iova: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.region().read(self.place(iova), &mut bytes).unwrap();
        bytes
    }

    /// Fresh memory that holds these bytes.
    pub(crate) fn with(&mut self, bytes: &[u8]) -> u64 {
        let at = self.take(bytes.len());
        self.write(at, bytes);
        at
    }

    /// Fresh memory that holds these words.
    pub(crate) fn words(&mut self, words: &[u64]) -> u64 {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.with(&bytes)
    }
}
