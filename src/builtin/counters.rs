//! State by key that all workers share: what `limit-count` and its like count with.
//!
//! ```text
//! key bytes ─ keyed hash ─► u64 ─ high bits ─► shard ─► recent │ older
//!                                                         full? older is dropped, recent ages
//! ```
//!
//! Keys are hashed with a secret of this table, so that clients can't aim at each other's entries,
//! and only the hash is kept: entries are small and of one size. When a shard's recent half is full
//! it becomes the older half and the older one is forgotten: what was not used since then starts
//! anew, memory is bounded, and no entry costs more than a constant.

use crate::limits::COUNTED_KEYS_MAX;
use rustc_hash::FxHashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Mutex, MutexGuard, PoisonError};

const SHARDS: usize = 16;
const SHARD_KEYS_MAX: usize = COUNTED_KEYS_MAX / SHARDS;

/// Entries of one kind by key.
#[derive(Debug)]
pub(super) struct Counters<T> {
    secret: RandomState,
    shards: [Mutex<Shard<T>>; SHARDS],
}

#[derive(Debug)]
struct Shard<T> {
    recent: FxHashMap<u64, T>,
    older: FxHashMap<u64, T>,
}

impl<T: Default> Counters<T> {
    pub(super) fn new() -> Self {
        let shard =
            || Mutex::new(Shard { recent: FxHashMap::default(), older: FxHashMap::default() });
        Self { secret: RandomState::new(), shards: std::array::from_fn(|_| shard()) }
    }

    /// The hash of a key.
    pub(super) fn key(&self, bytes: &[u8]) -> u64 {
        self.secret.hash_one(bytes)
    }

    /// Does something with a key's entry, which is made if it is not there.
    pub(super) fn with<R>(&self, key: u64, change: impl FnOnce(&mut T) -> R) -> R {
        let mut shard = self.shard(key);
        let Shard { recent, older } = &mut *shard;
        if let Some(entry) = recent.get_mut(&key) {
            return change(entry);
        }
        let entry = older.remove(&key).unwrap_or_default();
        if recent.len() >= SHARD_KEYS_MAX {
            std::mem::swap(recent, older);
            recent.clear();
        }
        change(recent.entry(key).or_insert(entry))
    }

    /// Does something with a key's entry and forgets it if that gives `false`.
    pub(super) fn retain_if(&self, key: u64, change: impl FnOnce(&mut T) -> bool) {
        let mut shard = self.shard(key);
        let Shard { recent, older } = &mut *shard;
        for half in [recent, older] {
            if let Some(entry) = half.get_mut(&key) {
                if !change(entry) {
                    half.remove(&key);
                }
                return;
            }
        }
    }

    fn shard(&self, key: u64) -> MutexGuard<'_, Shard<T>> {
        // No callback leaves an entry half changed, so a panic in one spoils nothing.
        let shard = &self.shards[(key >> 60) as usize];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let count = |shard: MutexGuard<'_, Shard<T>>| shard.recent.len() + shard.older.len();
        self.shards.iter().map(|shard| count(shard.lock().expect("no panic"))).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_kept_by_key() {
        let counters = Counters::<u32>::new();
        let (a, b) = (counters.key(b"a"), counters.key(b"b"));
        assert_ne!(a, b);
        let up = |count: &mut u32| {
            *count += 1;
            *count
        };
        assert_eq!((counters.with(a, up), counters.with(b, up), counters.with(a, up)), (1, 1, 2));
        counters.retain_if(a, |_| true);
        counters.retain_if(b, |_| false);
        assert_eq!((counters.with(a, up), counters.with(b, up)), (3, 1));
    }

    #[test]
    fn memory_is_bounded_and_the_used_stay() {
        let counters = Counters::<u32>::new();
        let used = counters.key(b"used");
        for number in 0..10 * COUNTED_KEYS_MAX as u64 {
            counters.with(counters.key(&number.to_be_bytes()), |_| ());
            if number % 1000 == 0 {
                counters.with(used, |count| *count += 1);
            }
        }
        assert!(counters.len() <= 2 * COUNTED_KEYS_MAX);
        let uses = 10 * COUNTED_KEYS_MAX as u32 / 1000 + 1;
        assert_eq!(counters.with(used, |count| *count), uses);
    }

    #[test]
    fn workers_count_together() {
        let counters = Counters::<u32>::new();
        let key = counters.key(b"k");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| counters.with(key, |count| *count += 1)));
            }
        });
        assert_eq!(counters.with(key, |count| *count), 4000);
    }
}
