//! Random numbers without a call to the host: seeded once, then computed in the plugin.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

/// A SplitMix64 generator: good enough to draw lots with, and one multiplication chain long.
pub(crate) struct Random(Cell<u64>);

impl Random {
    /// Seeds from the host's random source, by way of the keys the standard library gives its hash maps.
    pub(crate) fn new() -> Self {
        Self(Cell::new(RandomState::new().hash_one("fault-injection")))
    }

    /// A number in `0..bound`.
    pub(crate) fn below(&self, bound: u32) -> u32 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        // The upper half of the product of a 32-bit fraction and the bound.
        (((mixed >> 32) * u64::from(bound)) >> 32) as u32
    }
}
