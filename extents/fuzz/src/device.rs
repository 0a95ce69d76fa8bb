//! A volume in memory that takes no more of it than it has blocks that hold something.

use std::collections::HashMap;
use std::sync::Arc;

use extents_core::{BlockRead, Error, ReadError};

/// Bytes that are kept and changed together.
pub(crate) const CHUNK: u64 = 1024;
const CHUNK_LEN: usize = 1024;

/// An undamaged volume.
#[derive(Debug)]
pub(crate) struct Seed {
    size: u64,
    chunks: HashMap<u64, Box<[u8]>>,
    /// The chunks that hold something, in order.
    filled: Vec<u64>,
}

impl Seed {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let mut chunks = HashMap::new();
        for (number, chunk) in (0_u64..).zip(bytes.chunks(CHUNK_LEN)) {
            if chunk.iter().any(|&byte| byte != 0) {
                let mut whole = chunk.to_vec();
                whole.resize(CHUNK_LEN, 0);
                chunks.insert(number, whole.into_boxed_slice());
            }
        }
        let mut filled: Vec<u64> = chunks.keys().copied().collect();
        filled.sort_unstable();
        Self { size: u64::try_from(bytes.len()).expect("usize is 64 bits wide"), chunks, filled }
    }
}

/// A volume that may be damaged.
#[derive(Debug, Clone)]
pub(crate) struct Device {
    seed: Arc<Seed>,
    size: u64,
    changed: HashMap<u64, Box<[u8]>>,
}

impl Device {
    pub(crate) fn new(seed: Arc<Seed>) -> Self {
        Self { size: seed.size, changed: HashMap::new(), seed }
    }

    pub(crate) fn len(&self) -> u64 {
        self.size
    }

    pub(crate) fn truncate(&mut self, size: u64) {
        self.size = self.size.min(size);
    }

    /// The byte where a chunk begins that holds something; which of them, counted round.
    pub(crate) fn filled(&self, which: usize) -> u64 {
        match self.seed.filled.len() {
            0 => 0,
            count => self.seed.filled[which % count] * CHUNK,
        }
    }

    /// The bytes where changed chunks begin.
    pub(crate) fn changed(&self) -> Vec<u64> {
        let mut places: Vec<u64> = self.changed.keys().map(|chunk| chunk * CHUNK).collect();
        places.sort_unstable();
        places
    }

    pub(crate) fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), Error> {
        Ok(self.read_at(offset, buf)?)
    }

    /// Bytes from `offset` on; zeros behind the end.
    pub(crate) fn bytes<const N: usize>(&self, offset: u64) -> [u8; N] {
        let mut bytes = [0; N];
        let _ = self.read_at(offset, &mut bytes);
        bytes
    }

    /// Writes as much as lies on the device.
    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) {
        for (at, &byte) in (offset..self.size).zip(bytes) {
            let chunk = at / CHUNK;
            let old = self.seed.chunks.get(&chunk);
            let contents = self
                .changed
                .entry(chunk)
                .or_insert_with(|| old.cloned().unwrap_or_else(|| vec![0; CHUNK_LEN].into_boxed_slice()));
            contents[within(at)] = byte;
        }
    }
}

fn within(at: u64) -> usize {
    usize::try_from(at % CHUNK).expect("a chunk is small")
}

impl BlockRead for Device {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let length = u64::try_from(buf.len()).expect("usize is 64 bits wide");
        if offset.checked_add(length).is_none_or(|end| end > self.size) {
            return Err(ReadError::outside(offset, length));
        }
        let (mut at, mut rest) = (offset, buf);
        while !rest.is_empty() {
            let start = within(at);
            let (piece, behind) = rest.split_at_mut(rest.len().min(CHUNK_LEN - start));
            match self.changed.get(&(at / CHUNK)).or_else(|| self.seed.chunks.get(&(at / CHUNK))) {
                Some(chunk) => piece.copy_from_slice(&chunk[start..start + piece.len()]),
                None => piece.fill(0),
            }
            at += u64::try_from(piece.len()).expect("a chunk is small");
            rest = behind;
        }
        Ok(())
    }

    fn size(&self) -> u64 {
        self.size
    }
}
