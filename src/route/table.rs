//! A hash table that is built once: from a space (a small number) and a key to a value.
//!
//! ```text
//! slots   tag 03 │ tag 11 │ ——— │ tag 5a │ tag 5a │ tag 5c │ ——— │ ...
//!           home = tag * homes >> 32     └ pushed on, never back
//! ```
//!
//! A slot's tag is 32 bits of its hash, and its home is where that tag falls in proportion. Slots
//! are laid down in the order of their tags, so a search may stop at the first greater tag: one
//! that finds nothing costs no more than one that does, at three quarters full. A slot has its
//! value in it: a hit reads one slot and the key's text.

use rustc_hash::FxHasher;
use std::hash::Hasher;

/// The table. `V` is small and copied.
#[derive(Debug)]
pub(super) struct Table<V> {
    slots: Box<[Slot<V>]>,
    homes: u64,
    text: Box<[u8]>,
}

#[derive(Clone, Copy, Debug)]
struct Slot<V> {
    /// `EMPTY_TAG` in an empty slot, less in every other; never falls from slot to slot.
    tag: u32,
    space: u32,
    start: u32,
    len: u32,
    value: V,
}

/// Greater than all tags, so that a search also ends at an empty slot.
const EMPTY_TAG: u32 = u32::MAX;

/// The hash of a key, for every space: a key that is looked up in several is hashed once.
pub(super) fn hash(key: &[u8]) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write(key);
    hasher.finish()
}

fn tag(space: u32, hash: u64) -> u32 {
    // Odd constants with well-mixed bits (the golden ratio's, and PCG's multiplier).
    let spread = u64::from(space).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (hash ^ spread).wrapping_mul(0x5851_f42d_4c95_7f2d);
    ((mixed >> 32) as u32).min(EMPTY_TAG - 1)
}

impl<V: Copy> Table<V> {
    /// Builds the table of entries with distinct `(space, key)`. Equal keys that follow one another
    /// share their text.
    pub(super) fn build<'k>(entries: impl Iterator<Item = (u32, &'k [u8], V)>) -> Self {
        let mut text = Vec::new();
        let mut last: &[u8] = b"";
        let mut start = 0;
        let mut filled: Vec<Slot<V>> = Vec::new();
        for (space, key, value) in entries {
            if key != last {
                (last, start) = (key, text.len() as u32);
                text.extend_from_slice(key);
            }
            let tag = tag(space, hash(key));
            filled.push(Slot { tag, space, start, len: key.len() as u32, value });
        }
        assert!(u32::try_from(text.len()).is_ok(), "the texts of one table are below 4 GiB");
        filled.sort_by_key(|slot| slot.tag);
        let homes = (filled.len() * 4).div_ceil(3) as u64;
        Self { slots: lay_out(&filled, homes), homes, text: text.into() }
    }

    /// Whether there is no entry at all.
    pub(super) fn is_empty(&self) -> bool {
        self.homes == 0
    }

    /// The value of a key whose [`hash`] is known.
    pub(super) fn find(&self, space: u32, hash: u64, key: &[u8]) -> Option<&V> {
        let tag = tag(space, hash);
        for slot in self.slots.get(home(tag, self.homes)..)? {
            if slot.tag < tag {
                continue;
            }
            if slot.tag > tag {
                break;
            }
            if slot.space == space && self.key(slot) == key {
                return Some(&slot.value);
            }
        }
        None
    }

    fn key(&self, slot: &Slot<V>) -> &[u8] {
        &self.text[slot.start as usize..][..slot.len as usize]
    }
}

fn home(tag: u32, homes: u64) -> usize {
    ((u64::from(tag) * homes) >> 32) as usize
}

/// Puts slots, sorted by tag, at their homes or at the next free place; one empty slot ends all.
fn lay_out<V: Copy>(filled: &[Slot<V>], homes: u64) -> Box<[Slot<V>]> {
    let Some(&some) = filled.first() else { return Box::default() };
    let empty = Slot { tag: EMPTY_TAG, ..some };
    let mut slots = Vec::with_capacity(homes as usize + 1);
    for &slot in filled {
        let at = home(slot.tag, homes).max(slots.len());
        slots.resize(at, empty);
        slots.push(slot);
    }
    let len = slots.len().max(homes as usize) + 1;
    slots.resize(len, empty);
    slots.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_is_there_and_nothing_else() {
        for count in [0_usize, 1, 2, 3, 10, 1000, 20_000] {
            let keys: Vec<String> = (0..count).map(|n| format!("/key/{}", n / 2)).collect();
            let spaces = |n: usize| (n % 2) as u32 * 7;
            let entries = keys.iter().enumerate();
            let table = Table::build(entries.map(|(n, key)| (spaces(n), key.as_bytes(), n)));
            assert_eq!(table.is_empty(), count == 0);
            for (n, key) in keys.iter().enumerate() {
                let hash = hash(key.as_bytes());
                assert_eq!(table.find(spaces(n), hash, key.as_bytes()), Some(&n));
                assert_eq!(table.find(3, hash, key.as_bytes()), None);
            }
            for absent in ["", "/key/", "/key/x", "/key/10000"] {
                assert_eq!(table.find(0, hash(absent.as_bytes()), absent.as_bytes()), None);
            }
            let tags = table.slots.iter().map(|slot| slot.tag);
            assert!(tags.filter(|tag| *tag != EMPTY_TAG).is_sorted());
        }
    }

    #[test]
    fn the_empty_key_is_a_key() {
        let table = Table::build([(0, &b""[..], 1), (1, b"", 2), (0, b"a", 3)].into_iter());
        assert_eq!(table.find(0, hash(b""), b""), Some(&1));
        assert_eq!(table.find(1, hash(b""), b""), Some(&2));
        assert_eq!(table.find(0, hash(b"a"), b"a"), Some(&3));
        assert_eq!(table.find(2, hash(b""), b""), None);
    }

    #[test]
    fn homes_are_near() {
        let keys: Vec<String> = (0..50_000).map(|n| format!("/v1/tenants/{n}/items")).collect();
        let table = Table::build(keys.iter().map(|key| (0, key.as_bytes(), 0_u32)));
        let distances = table.slots.iter().enumerate().filter(|(_, s)| s.tag != EMPTY_TAG);
        let distances = distances.map(|(at, s)| at - home(s.tag, table.homes));
        let (sum, max) = distances.fold((0, 0), |(sum, max), d| (sum + d, max.max(d)));
        assert!(sum < keys.len() * 2, "{sum}");
        assert!(max < 100, "{max}");
    }
}
