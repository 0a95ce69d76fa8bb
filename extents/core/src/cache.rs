//! A bounded cache of metadata blocks that passed their checks.

use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;
use rustc_hash::FxBuildHasher;

use crate::{Result, to_u64, to_usize};

const SHARDS: usize = 16;

/// What a cached block is: a byte offset on the volume, and the kind of structure it was verified as.
///
/// The kind belongs to the key, so that a block which two structures of a hostile volume claim is checked as
/// each of them before either may use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CacheKey {
    /// Byte offset on the volume.
    pub offset: u64,
    /// The structure that the block was verified as; a format crate numbers its own.
    pub kind: u8,
    /// Whom the structure was verified to belong to, where its check covers that (an inode number); else 0.
    pub owner: u64,
}

/// Verified metadata blocks, in at most a given number of bytes. Blocks that were not used since the clock's
/// hand last passed leave first.
pub struct BlockCache {
    shards: [Mutex<Shard>; SHARDS],
}

struct Entry {
    key: CacheKey,
    block: Arc<[u8]>,
    used: bool,
}

#[derive(Default)]
struct Shard {
    places: HashMap<CacheKey, usize, FxBuildHasher>,
    entries: Vec<Entry>,
    hand: usize,
    bytes: u64,
    limit: u64,
}

impl BlockCache {
    /// A cache that holds at most `limit` bytes of blocks (and always at least one block in each shard).
    #[must_use]
    pub fn new(limit: u64) -> Self {
        let shard = || Mutex::new(Shard { limit: limit / to_u64(SHARDS), ..Shard::default() });
        Self { shards: std::array::from_fn(|_| shard()) }
    }

    /// The block of this key: from the cache, or from `load`, which reads and verifies it. No lock is held
    /// while it loads, so two threads may load the same block; both get a good one.
    ///
    /// # Errors
    /// Whatever `load` answers; nothing is remembered then.
    pub fn get_or_load(&self, key: CacheKey, load: impl FnOnce() -> Result<Arc<[u8]>>) -> Result<Arc<[u8]>> {
        let shard = self.shard(key);
        if let Some(block) = shard.lock().get(key) {
            return Ok(block);
        }
        let block = load()?;
        shard.lock().insert(key, Arc::clone(&block));
        Ok(block)
    }

    /// Bytes of blocks held now, and at most.
    #[must_use]
    pub fn usage(&self) -> (u64, u64) {
        self.shards
            .iter()
            .map(Mutex::lock)
            .fold((0, 0), |(held, limit), shard| (held + shard.bytes, limit + shard.limit))
    }

    /// Forgets everything.
    pub fn clear(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            let limit = shard.limit;
            *shard = Shard { limit, ..Shard::default() };
        }
    }

    #[allow(clippy::indexing_slicing, reason = "the index is taken modulo the array's length")]
    fn shard(&self, key: CacheKey) -> &Mutex<Shard> {
        // The map inside a shard uses the upper bits of the same hash; take others here.
        let hash = FxBuildHasher.hash_one(key);
        &self.shards[to_usize((hash >> 20) % to_u64(SHARDS))]
    }
}

impl Shard {
    fn get(&mut self, key: CacheKey) -> Option<Arc<[u8]>> {
        let place = *self.places.get(&key)?;
        let entry = self.entries.get_mut(place)?;
        entry.used = true;
        Some(Arc::clone(&entry.block))
    }

    fn insert(&mut self, key: CacheKey, block: Arc<[u8]>) {
        if self.places.contains_key(&key) {
            return;
        }
        self.bytes += to_u64(block.len());
        self.places.insert(key, self.entries.len());
        self.entries.push(Entry { key, block, used: false });
        while self.bytes > self.limit && self.entries.len() > 1 {
            self.evict_one();
        }
    }

    /// Moves the clock's hand on to an entry that was not used since it last passed, and drops that. The newest
    /// entry stands last and is spared, since somebody is about to use it.
    fn evict_one(&mut self) {
        let old = self.entries.len() - 1;
        loop {
            if self.hand >= old {
                self.hand = 0;
            }
            match self.entries.get_mut(self.hand) {
                Some(entry) if entry.used => entry.used = false,
                _ => break,
            }
            self.hand += 1;
        }
        let gone = self.entries.swap_remove(self.hand);
        self.places.remove(&gone.key);
        self.bytes -= to_u64(gone.block.len());
        if let Some(moved) = self.entries.get(self.hand) {
            self.places.insert(moved.key, self.hand);
        }
    }
}

impl fmt::Debug for BlockCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (held, limit) = self.usage();
        f.debug_struct("BlockCache").field("held", &held).field("limit", &limit).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    fn key(offset: u64) -> CacheKey {
        CacheKey { offset, kind: 0, owner: 0 }
    }

    fn block(offset: u64) -> Result<Arc<[u8]>> {
        let mut bytes = vec![0; 4096];
        bytes[..8].copy_from_slice(&offset.to_le_bytes());
        Ok(bytes.into())
    }

    #[test]
    fn get_or_load_many_blocks_stays_within_limit_and_returns_the_right_ones() {
        let cache = BlockCache::new(64 * 4096);
        for round in 0..3 {
            for offset in 0..10_000_u64 {
                let offset = offset * (round + 1);
                let found = cache.get_or_load(key(offset), || block(offset)).unwrap();
                assert_eq!(found[..8], offset.to_le_bytes());
            }
        }
        let (held, limit) = cache.usage();
        assert!(held > 0 && held <= limit, "{held} of {limit}");
    }

    #[test]
    fn get_or_load_second_time_does_not_load() {
        let cache = BlockCache::new(1 << 20);
        cache.get_or_load(key(7), || block(7)).unwrap();
        cache.get_or_load(key(7), || panic!("loaded twice")).unwrap();
    }

    #[test]
    fn get_or_load_failure_is_not_remembered() {
        let cache = BlockCache::new(1 << 20);
        assert!(cache.get_or_load(key(7), || Err(Error::corrupt("block", "bad"))).is_err());
        assert!(cache.get_or_load(key(7), || block(7)).is_ok());
    }

    #[test]
    fn get_or_load_hot_block_survives_a_scan() {
        let cache = BlockCache::new(16 * 64 * 4096);
        cache.get_or_load(key(0), || block(0)).unwrap();
        for offset in 1..100_000 {
            cache.get_or_load(key(offset), || block(offset)).unwrap();
            cache.get_or_load(key(0), || panic!("the hot block was dropped")).unwrap();
        }
    }
}
