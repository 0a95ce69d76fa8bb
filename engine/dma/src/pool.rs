//! Where buffers come from.

use std::fmt::Debug;
use std::io;
use std::sync::Arc;

use crate::{Arena, Buffer, PAGE};

/// Where a pool has its arenas from: a device that must be told of each, for example.
pub trait ArenaSource: Send + Sync + Debug {
    /// Memory of at least `length` bytes that nobody else carves from.
    ///
    /// # Errors
    /// Where there is none, or the device cannot be told of it.
    fn arena(&self, length: usize) -> io::Result<Arena>;
}

/// Memory that no device was told of.
#[derive(Debug)]
struct Private;

impl ArenaSource for Private {
    fn arena(&self, length: usize) -> io::Result<Arena> {
        Arena::private(length)
    }
}

/// Carves buffers from arenas of its own.
///
/// A pool belongs to one worker; only giving back happens on any thread. It grows by whole arenas up to a bound and
/// keeps those; what does not fit then, or is longer than an arena, gets a mapping of its own for as long as the
/// buffer lives. Taking from and giving back to an arena needs no lock and no allocation.
#[derive(Debug)]
pub struct Pool {
    source: Arc<dyn ArenaSource>,
    arenas: Vec<Arc<Arena>>,
    arena_length: usize,
    most_arenas: usize,
}

impl Pool {
    /// A pool that maps `arena_length` bytes at a time (rounded up to whole pages) and keeps at most `most_arenas`
    /// such arenas. Nothing is mapped before the first buffer is taken.
    #[must_use]
    pub fn new(arena_length: usize, most_arenas: usize) -> Self {
        Self::of(Arc::new(Private), arena_length, most_arenas)
    }

    /// As [`new`](Self::new), with memory from `source`.
    #[must_use]
    pub fn of(source: Arc<dyn ArenaSource>, arena_length: usize, most_arenas: usize) -> Self {
        let arena_length = arena_length.div_ceil(PAGE).max(1).saturating_mul(PAGE);
        Self { source, arenas: Vec::new(), arena_length, most_arenas }
    }

    /// A pool like this one, with no memory yet.
    #[must_use]
    pub fn another(&self) -> Self {
        Self { source: Arc::clone(&self.source), arenas: Vec::new(), ..*self }
    }

    /// A buffer of `length` bytes.
    ///
    /// # Errors
    /// Where the kernel has no memory to give.
    pub fn take(&mut self, length: usize) -> io::Result<Buffer> {
        let pages = length.div_ceil(PAGE).max(1);
        if let Some(buffer) = self.arenas.iter().find_map(|arena| carve(arena, pages, length)) {
            return Ok(buffer);
        }
        let keep = length <= self.arena_length && self.arenas.len() < self.most_arenas;
        let arena = Arc::new(self.source.arena(if keep { self.arena_length } else { length })?);
        let buffer = carve(&arena, pages, length).ok_or(io::ErrorKind::OutOfMemory)?;
        if keep {
            self.arenas.push(arena);
        }
        Ok(buffer)
    }

    /// The arenas that the pool keeps, oldest first. Buffers may also lie in arenas that it does not keep.
    #[must_use]
    pub fn arenas(&self) -> &[Arc<Arena>] {
        &self.arenas
    }
}

fn carve(arena: &Arc<Arena>, pages: usize, length: usize) -> Option<Buffer> {
    // Only the pool takes from its arenas, and taking needs `&mut Pool`: one taker at a time, as the arena asks.
    let address = arena.take(pages)?;
    Some(Buffer::new(Arc::clone(arena), address, pages, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_taken_together_do_not_overlap_and_are_aligned() {
        let mut pool = Pool::new(16 * PAGE, 2);
        let mut buffers: Vec<Buffer> =
            [1, PAGE, PAGE + 1, 3 * PAGE, 0, 40 * PAGE].map(|length| pool.take(length).unwrap()).into();
        for (mark, buffer) in buffers.iter_mut().enumerate() {
            assert_eq!(buffer.address().addr().get() % PAGE, 0);
            assert!(buffer.iter().all(|&byte| byte == 0), "fresh memory is zero");
            buffer.fill(u8::try_from(mark).unwrap() + 1);
        }
        for (mark, buffer) in buffers.iter().enumerate() {
            assert!(buffer.iter().all(|&byte| usize::from(byte) == mark + 1));
        }
        let lengths: Vec<usize> = buffers.iter().map(|buffer| buffer.len()).collect();
        assert_eq!(lengths, [1, PAGE, PAGE + 1, 3 * PAGE, 0, 40 * PAGE]);
    }

    #[test]
    fn buffer_dropped_on_another_thread_is_used_again() {
        let mut pool = Pool::new(PAGE, 1);
        let first = pool.take(PAGE).unwrap();
        let address = first.address().addr();
        std::thread::spawn(move || drop(first)).join().unwrap();
        assert_eq!(pool.take(PAGE).unwrap().address().addr(), address);
        assert_eq!(pool.arenas().len(), 1);
    }

    #[test]
    fn pool_exhausted_maps_directly_and_keeps_no_more_than_its_bound() {
        let mut pool = Pool::new(4 * PAGE, 2);
        let many: Vec<Buffer> = (0..50).map(|_| pool.take(PAGE).unwrap()).collect();
        assert_eq!(pool.arenas().len(), 2);
        drop(many);
        assert_eq!(pool.arenas().len(), 2);
    }

    #[test]
    fn buffer_outliving_its_pool_stays_readable() {
        let mut pool = Pool::new(4 * PAGE, 2);
        let mut buffer = pool.take(100).unwrap();
        buffer.fill(7);
        drop(pool);
        assert!(buffer.iter().all(|&byte| byte == 7));
    }

    #[test]
    fn length_beyond_memory_is_refused() {
        let mut pool = Pool::new(PAGE, 1);
        assert!(pool.take(usize::MAX).is_err());
        assert!(pool.take(1 << 60).is_err());
    }

    #[test]
    fn threads_giving_back_while_one_takes_never_share_a_page() {
        let (sender, receiver) = std::sync::mpsc::channel::<(u64, Buffer)>();
        let receiver = Arc::new(std::sync::Mutex::new(receiver));
        let checkers: Vec<_> = (0..3)
            .map(|_| {
                let receiver = Arc::clone(&receiver);
                std::thread::spawn(move || {
                    loop {
                        let next = receiver.lock().unwrap().recv();
                        let Ok((mark, buffer)) = next else { return };
                        let (words, _) = buffer.as_chunks::<8>();
                        assert!(words.iter().all(|word| u64::from_le_bytes(*word) == mark));
                    }
                })
            })
            .collect();
        let mut pool = Pool::new(32 * PAGE, 1);
        for mark in 0..3000_u64 {
            let pages = usize::try_from(mark % 7).unwrap() + 1;
            let mut buffer = pool.take(pages * PAGE).unwrap();
            let (words, _) = buffer.as_chunks_mut::<8>();
            words.fill(mark.to_le_bytes());
            sender.send((mark, buffer)).unwrap();
        }
        drop(sender);
        for checker in checkers {
            checker.join().unwrap();
        }
    }
}
