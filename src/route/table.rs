//! A hash table in versions: from a space (a small number) and a key to a value.
//!
//! ```text
//! shards  0 │ 1 │ 2 │ 3 │ ...               by the first bits of the tag; an edit makes one anew
//!             └► slots  tag 43 │ tag 51 │ ——— │ tag 5a │ tag 5a │ tag 5c │ ——— │ ...
//!                         home = rest of tag * homes >> 32     └ pushed on, never back
//! ```
//!
//! A slot's tag is 32 bits of its hash, and its home is where that tag falls in proportion. Slots
//! are laid down in the order of their tags, so a search may stop at the first greater tag: one
//! that finds nothing costs no more than one that does, at three quarters full. A slot has its
//! value in it: a hit reads one slot and the key's text.

use rustc_hash::FxHasher;
use std::hash::Hasher;
use std::sync::Arc;

/// Entries of a shard, about: as many as are copied for one change.
const SHARD: usize = 256;

/// The table. `V` is small and copied.
#[derive(Clone, Debug)]
pub(super) struct Table<V> {
    /// A power of two.
    shards: Vec<Shard<V>>,
    len: usize,
}

#[derive(Clone, Debug)]
struct Shard<V> {
    slots: Arc<[Slot<V>]>,
    text: Arc<[u8]>,
    homes: u32,
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

/// A key, and what it is to stand for from now on: `None` is nothing.
pub(super) type Change<'k, V> = (u32, &'k [u8], Option<V>);

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

impl<V> Default for Table<V> {
    fn default() -> Self {
        Self { shards: Vec::new(), len: 0 }
    }
}

impl<V: Copy> Table<V> {
    /// Whether there is no entry at all.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value of a key whose [`hash`] is known.
    pub(super) fn find(&self, space: u32, hash: u64, key: &[u8]) -> Option<&V> {
        let tag = tag(space, hash);
        let bits = self.bits();
        let shard = self.shards.get(shard_of(tag, bits))?;
        for slot in shard.slots.get(home(tag, bits, shard.homes)..)? {
            if slot.tag < tag {
                continue;
            }
            if slot.tag > tag {
                break;
            }
            if slot.space == space && shard.key(slot) == key {
                return Some(&slot.value);
            }
        }
        None
    }

    /// The table with changes of distinct keys.
    pub(super) fn edit(&self, changes: &[Change<'_, V>]) -> Self {
        let mut placed: Vec<_> =
            changes.iter().map(|change| (tag(change.0, hash(change.1)), *change)).collect();
        placed.sort_unstable_by_key(|(tag, _)| *tag);
        let most = self.len + changes.len();
        let grown = most > self.shards.len() * SHARD * 2;
        let mut edited = if grown { self.spread(most) } else { self.clone() };
        let bits = edited.bits();
        for changes in placed.chunk_by(|(a, _), (b, _)| shard_of(*a, bits) == shard_of(*b, bits)) {
            let shard = &mut edited.shards[shard_of(changes[0].0, bits)];
            let before = shard.entries().count();
            *shard = shard.edit(bits, changes);
            edited.len = edited.len + shard.entries().count() - before;
        }
        edited
    }

    /// How many shards this version does not share with another one.
    #[cfg(test)]
    pub(super) fn own_shards(&self, other: &Self) -> usize {
        let same = |(a, b): &(&Shard<V>, &Shard<V>)| Arc::ptr_eq(&a.slots, &b.slots);
        self.shards.len() - self.shards.iter().zip(&other.shards).filter(same).count()
    }

    /// The same entries in so many shards as fit that many entries.
    fn spread(&self, entries: usize) -> Self {
        let shards = entries.div_ceil(SHARD).next_power_of_two();
        let bits = shards.trailing_zeros();
        let mut all: Vec<Vec<Entry<'_, V>>> = (0..shards).map(|_| Vec::new()).collect();
        for entry in self.shards.iter().flat_map(Shard::entries) {
            all[shard_of(entry.0, bits)].push(entry);
        }
        let shards = all.into_iter().map(|entries| Shard::build(bits, &entries)).collect();
        Self { shards, len: self.len }
    }

    fn bits(&self) -> u32 {
        self.shards.len().max(1).trailing_zeros()
    }
}

/// A tag with its space, key and value.
type Entry<'k, V> = (u32, u32, &'k [u8], V);

impl<V: Copy> Shard<V> {
    /// Lays down entries in the order of their tags.
    fn build(bits: u32, entries: &[Entry<'_, V>]) -> Self {
        let mut text = Vec::with_capacity(entries.iter().map(|entry| entry.2.len()).sum());
        let mut filled: Vec<Slot<V>> = Vec::with_capacity(entries.len());
        for &(tag, space, key, value) in entries {
            filled.push(Slot {
                tag,
                space,
                start: text.len() as u32,
                len: key.len() as u32,
                value,
            });
            text.extend_from_slice(key);
        }
        assert!(u32::try_from(text.len()).is_ok(), "the texts of one shard are below 4 GiB");
        debug_assert!(filled.is_sorted_by_key(|slot| slot.tag));
        let homes = (filled.len() * 4).div_ceil(3) as u32;
        Self { slots: lay_out(&filled, bits, homes), homes, text: text.into() }
    }

    fn entries(&self) -> impl Iterator<Item = Entry<'_, V>> {
        let filled = self.slots.iter().filter(|slot| slot.tag != EMPTY_TAG);
        filled.map(|slot| (slot.tag, slot.space, self.key(slot), slot.value))
    }

    /// The shard with changes, sorted by their tags.
    fn edit(&self, bits: u32, changes: &[(u32, Change<'_, V>)]) -> Self {
        let of_tag = |tag: u32| {
            let from = changes.partition_point(|(other, _)| *other < tag);
            changes[from..].iter().take_while(move |(other, _)| *other == tag)
        };
        let is_kept = |(tag, space, key, _): &Entry<'_, V>| {
            !of_tag(*tag).any(|(_, change)| (change.0, change.1) == (*space, *key))
        };
        let mut entries: Vec<Entry<'_, V>> = self.entries().filter(is_kept).collect();
        for &(tag, (space, key, value)) in changes {
            entries.extend(value.map(|value| (tag, space, key, value)));
        }
        entries.sort_by_key(|entry| entry.0);
        Self::build(bits, &entries)
    }

    fn key(&self, slot: &Slot<V>) -> &[u8] {
        &self.text[slot.start as usize..][..slot.len as usize]
    }
}

fn shard_of(tag: u32, bits: u32) -> usize {
    // No shift by all 32 bits: with one shard there are none.
    (u64::from(tag) >> (32 - bits)) as usize
}

/// Where a tag would be in its shard.
fn home(tag: u32, bits: u32, homes: u32) -> usize {
    let rest = tag.wrapping_shl(bits);
    ((u64::from(rest) * u64::from(homes)) >> 32) as usize
}

/// Puts slots, sorted by tag, at their homes or at the next free place; one empty slot ends all.
fn lay_out<V: Copy>(filled: &[Slot<V>], bits: u32, homes: u32) -> Arc<[Slot<V>]> {
    let Some(&some) = filled.first() else { return Arc::default() };
    let empty = Slot { tag: EMPTY_TAG, ..some };
    let mut slots = Vec::with_capacity(homes as usize + 1);
    for &slot in filled {
        let at = home(slot.tag, bits, homes).max(slots.len());
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
    use std::collections::HashMap;

    fn table<'k, V: Copy>(entries: impl Iterator<Item = (u32, &'k [u8], V)>) -> Table<V> {
        let changes: Vec<_> =
            entries.map(|(space, key, value)| (space, key, Some(value))).collect();
        Table::default().edit(&changes)
    }

    #[test]
    fn finds_what_is_there_and_nothing_else() {
        for count in [0_usize, 1, 2, 3, 10, 1000, 20_000] {
            let keys: Vec<String> = (0..count).map(|n| format!("/key/{}", n / 2)).collect();
            let spaces = |n: usize| (n % 2) as u32 * 7;
            let entries = keys.iter().enumerate();
            let table = table(entries.map(|(n, key)| (spaces(n), key.as_bytes(), n)));
            assert_eq!(table.is_empty(), count == 0);
            for (n, key) in keys.iter().enumerate() {
                let hash = hash(key.as_bytes());
                assert_eq!(table.find(spaces(n), hash, key.as_bytes()), Some(&n));
                assert_eq!(table.find(3, hash, key.as_bytes()), None);
            }
            for absent in ["", "/key/", "/key/x", "/key/10000"] {
                assert_eq!(table.find(0, hash(absent.as_bytes()), absent.as_bytes()), None);
            }
            for shard in &table.shards {
                let tags = shard.slots.iter().map(|slot| slot.tag);
                assert!(tags.filter(|tag| *tag != EMPTY_TAG).is_sorted());
            }
        }
    }

    #[test]
    fn the_empty_key_is_a_key() {
        let table = table([(0, &b""[..], 1), (1, b"", 2), (0, b"a", 3)].into_iter());
        assert_eq!(table.find(0, hash(b""), b""), Some(&1));
        assert_eq!(table.find(1, hash(b""), b""), Some(&2));
        assert_eq!(table.find(0, hash(b"a"), b"a"), Some(&3));
        assert_eq!(table.find(2, hash(b""), b""), None);
    }

    #[test]
    fn homes_are_near() {
        let keys: Vec<String> = (0..50_000).map(|n| format!("/v1/tenants/{n}/items")).collect();
        let table = table(keys.iter().map(|key| (0, key.as_bytes(), 0_u32)));
        let bits = table.bits();
        let distances = table.shards.iter().flat_map(|shard| {
            let filled = shard.slots.iter().enumerate().filter(|(_, s)| s.tag != EMPTY_TAG);
            filled.map(|(at, s)| at - home(s.tag, bits, shard.homes))
        });
        let (sum, max) = distances.fold((0, 0), |(sum, max), d| (sum + d, max.max(d)));
        assert!(sum < keys.len() * 2, "{sum}");
        assert!(max < 100, "{max}");
    }

    #[test]
    fn edits_agree_with_a_map() {
        let mut random = fastrand::Rng::with_seed(20_261_126);
        let mut map: HashMap<(u32, String), u32> = HashMap::new();
        let mut table = Table::default();
        for round in 0..300 {
            let count = random.usize(0..if round % 50 == 0 { 2_000 } else { 8 });
            let mut changed = HashMap::new();
            for _ in 0..count {
                let key = (random.u32(0..3), format!("/k/{}", random.u32(0..4_000)));
                changed.insert(key, random.bool().then(|| random.u32(..)));
            }
            let changes: Vec<_> = changed
                .iter()
                .map(|((space, key), value)| (*space, key.as_bytes(), *value))
                .collect();
            let before = table.clone();
            table = before.edit(&changes);
            for (key, value) in changed {
                let find = |table: &Table<u32>| {
                    table.find(key.0, hash(key.1.as_bytes()), key.1.as_bytes()).copied()
                };
                assert_eq!(find(&before), map.get(&key).copied(), "the old version stays");
                assert_eq!(find(&table), value);
                match value {
                    Some(value) => drop(map.insert(key, value)),
                    None => drop(map.remove(&key)),
                }
            }
            assert_eq!(table.len, map.len());
        }
        for ((space, key), value) in &map {
            assert_eq!(table.find(*space, hash(key.as_bytes()), key.as_bytes()), Some(value));
        }
    }
}
