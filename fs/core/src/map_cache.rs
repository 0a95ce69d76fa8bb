//! Extent maps of recently opened files, in a bounded amount of memory.

use std::collections::VecDeque;
use std::sync::Arc;

use extents_core::{ExtentMap, Ino, to_usize};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;

const SHARDS: usize = 16;

/// Maps by inode. What was not asked for since it was last considered leaves first.
#[derive(Debug)]
pub(crate) struct MapCache {
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Debug, Default)]
struct Shard {
    maps: FxHashMap<Ino, Entry>,
    /// Oldest first; every key of `maps` stands here once.
    order: VecDeque<Ino>,
    bytes: u64,
    limit: u64,
}

#[derive(Debug)]
struct Entry {
    map: Arc<ExtentMap>,
    used: bool,
}

/// What an entry costs besides its map: the table's slot and the place in the queue.
const ENTRY_BYTES: u64 = 64;

impl MapCache {
    pub(crate) fn new(limit: u64) -> Self {
        let limit = limit / (SHARDS as u64);
        Self { shards: std::array::from_fn(|_| Mutex::new(Shard { limit, ..Shard::default() })) }
    }

    /// The map of an inode, from memory or from `load`. Nothing is locked while it loads.
    pub(crate) fn get_or_load<E>(
        &self,
        ino: Ino,
        load: impl FnOnce() -> Result<ExtentMap, E>,
    ) -> Result<Arc<ExtentMap>, E> {
        let shard = &self.shards[to_usize(ino.0) % SHARDS];
        if let Some(entry) = shard.lock().maps.get_mut(&ino) {
            entry.used = true;
            return Ok(Arc::clone(&entry.map));
        }
        let map = Arc::new(load()?);
        shard.lock().insert(ino, &map);
        Ok(map)
    }

    /// How many maps are held, and their bytes.
    pub(crate) fn usage(&self) -> (u64, u64) {
        self.shards.iter().map(Mutex::lock).fold((0, 0), |(maps, bytes), shard| {
            (maps + extents_core::to_u64(shard.maps.len()), bytes + shard.bytes)
        })
    }
}

impl Shard {
    fn insert(&mut self, ino: Ino, map: &Arc<ExtentMap>) {
        let cost = map.memory() + ENTRY_BYTES;
        // A map that alone fills the cache would only drive out all others.
        if cost > self.limit / 2 || self.maps.contains_key(&ino) {
            return;
        }
        // Room is made first, so that the newest map is never the one to leave.
        while self.bytes + cost > self.limit {
            let Some(oldest) = self.order.pop_front() else { break };
            match self.maps.get_mut(&oldest) {
                Some(entry) if entry.used => {
                    entry.used = false;
                    self.order.push_back(oldest);
                }
                _ => self.remove(oldest),
            }
        }
        self.maps.insert(ino, Entry { map: Arc::clone(map), used: false });
        self.order.push_back(ino);
        self.bytes += cost;
    }

    fn remove(&mut self, ino: Ino) {
        if let Some(entry) = self.maps.remove(&ino) {
            self.bytes -= entry.map.memory() + ENTRY_BYTES;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(size: u64) -> Result<ExtentMap, ()> {
        Ok(extents_core::ExtentMapBuilder::new(size, 0_u32, 0).finish())
    }

    #[test]
    fn get_or_load_many_inodes_stays_within_limit_and_answers_right() {
        let cache = MapCache::new(64 << 10);
        for ino in 0..10_000 {
            assert_eq!(cache.get_or_load(Ino(ino), || map(ino)).unwrap().size(), ino);
            assert_eq!(cache.get_or_load(Ino(ino), || Err(())).unwrap().size(), ino);
        }
        let (maps, bytes) = cache.usage();
        assert!(maps > 100 && bytes <= 64 << 10, "{maps} maps, {bytes} bytes");
    }
}
