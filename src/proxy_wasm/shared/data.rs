//! Shared data: keys, values, and a counter for compare-and-swap.

use super::lock;
use rustc_hash::FxHasher;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Locks of one namespace: a power of two, several times the workers of a large host.
const SHARDS: usize = 64;

/// Keys and values of one namespace, behind many locks.
#[derive(Debug)]
pub(in super::super) struct Data {
    shards: [Mutex<Shard>; SHARDS],
    /// Of all keys and values.
    bytes: AtomicUsize,
}

type Shard = HashMap<Box<[u8]>, Value>;

#[derive(Debug)]
struct Value {
    bytes: Vec<u8>,
    cas: u32,
}

/// Why a value was not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum SetError {
    /// Somebody else set it since it was read.
    CasMismatch,
    /// The namespace has no room.
    Full,
}

impl Default for Data {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()), bytes: AtomicUsize::new(0) }
    }
}

impl Data {
    /// Appends the value to `out` and gives its counter, which is never 0.
    pub(in super::super) fn get(&self, key: &[u8], out: &mut Vec<u8>) -> Option<u32> {
        let shard = lock(self.shard(key));
        let value = shard.get(key)?;
        out.extend_from_slice(&value.bytes);
        Some(value.cas)
    }

    /// Sets a value. `cas` 0 sets it whatever it is; else it must be the counter last read. A key
    /// that is not there can be set with any. The whole namespace holds at most `bytes_max`.
    pub(in super::super) fn set(
        &self,
        key: &[u8],
        bytes: &[u8],
        cas: u32,
        bytes_max: usize,
    ) -> Result<(), SetError> {
        let mut shard = lock(self.shard(key));
        let (held, last) = match shard.get(key) {
            Some(value) if cas != 0 && cas != value.cas => return Err(SetError::CasMismatch),
            Some(value) => (key.len() + value.bytes.len(), value.cas),
            None => (0, 0),
        };
        self.resize(held, key.len() + bytes.len(), bytes_max)?;
        let cas = last.checked_add(1).unwrap_or(1);
        match shard.get_mut(key) {
            Some(value) => {
                value.cas = cas;
                value.bytes.clear();
                value.bytes.extend_from_slice(bytes);
            }
            None => {
                shard.insert(key.into(), Value { bytes: bytes.to_vec(), cas });
            }
        }
        Ok(())
    }

    /// Makes room for something that grows or shrinks; what shrinks always has room.
    fn resize(&self, from: usize, to: usize, bytes_max: usize) -> Result<(), SetError> {
        if to <= from {
            self.bytes.fetch_sub(from - to, Ordering::Relaxed);
            return Ok(());
        }
        let more = to - from;
        let before = self.bytes.fetch_add(more, Ordering::Relaxed);
        if before.saturating_add(more) <= bytes_max {
            return Ok(());
        }
        self.bytes.fetch_sub(more, Ordering::Relaxed);
        Err(SetError::Full)
    }

    fn shard(&self, key: &[u8]) -> &Mutex<Shard> {
        let mut hasher = FxHasher::default();
        key.hash(&mut hasher);
        &self.shards[(hasher.finish() >> 32) as usize % SHARDS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 1 << 20;

    fn get(data: &Data, key: &str) -> Option<(String, u32)> {
        let mut out = Vec::new();
        let cas = data.get(key.as_bytes(), &mut out)?;
        Some((String::from_utf8(out).expect("text"), cas))
    }

    #[test]
    fn compare_and_swap() {
        let data = Data::default();
        assert_eq!(get(&data, "k"), None);
        assert_eq!(data.set(b"k", b"a", 77, MAX), Ok(()), "a new key takes any counter");
        assert_eq!(get(&data, "k"), Some(("a".to_owned(), 1)));
        assert_eq!(data.set(b"k", b"b", 2, MAX), Err(SetError::CasMismatch));
        assert_eq!(data.set(b"k", b"b", 1, MAX), Ok(()));
        assert_eq!(data.set(b"k", b"", 0, MAX), Ok(()));
        assert_eq!(get(&data, "k"), Some((String::new(), 3)), "an empty value is a value");
    }

    #[test]
    fn there_is_an_end_of_room() {
        let data = Data::default();
        let large = vec![0; MAX];
        assert_eq!(data.set(b"k", &large, 0, MAX), Err(SetError::Full));
        assert_eq!(data.set(b"k", &large[1..], 0, MAX), Ok(()));
        assert_eq!(data.set(b"k", &large, 0, MAX), Err(SetError::Full));
        assert_eq!(data.set(b"j", b"", 0, MAX), Err(SetError::Full), "keys count, all of them");
        assert_eq!(data.set(b"j", b"", 0, MAX + 1), Ok(()), "who may have more, gets more");
        assert_eq!(data.set(b"k", b"small", 0, 0), Ok(()), "what shrinks always has room");
        assert_eq!(data.set(b"j", &large[7..], 0, MAX), Ok(()), "and makes room");
    }

    #[test]
    fn counters_from_many_threads_add_up() {
        let data = Data::default();
        let add = || {
            for _ in 0..1_000 {
                loop {
                    let (value, cas) = get(&data, "n").unwrap_or_default();
                    let next = value.parse().unwrap_or(0_u32) + 1;
                    // A first value set with counter 0 may overwrite another first one.
                    if data.set(b"n", next.to_string().as_bytes(), cas, MAX).is_ok() {
                        break;
                    }
                }
            }
        };
        assert_eq!(data.set(b"n", b"0", 0, MAX), Ok(()));
        std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(add))));
        assert_eq!(get(&data, "n").map(|(value, _)| value), Some("4000".to_owned()));
    }
}
