//! Slow start: a node that comes (back) takes its share of requests little by little.
//!
//! ```text
//! Warm ─ it is new, or works again ─► Cold ─ it could be chosen ─► Warming since then ─► Warm
//! ```
//!
//! As in nginx and HAProxy the share grows in proportion to the time, from next to nothing to its
//! weight. It grows in [`STAGES`] steps, so that a worker looks at weights that often and not at
//! every request.

use std::sync::atomic::{AtomicU64, Ordering};

/// Steps from cold to warm.
pub(super) const STAGES: u32 = 20;

const WARM: u64 = 0;
const COLD: u64 = u64::MAX;

/// How warm a node is, shared by all workers: since when it is warming, in nanoseconds since the
/// epoch; or one of the two ends.
#[derive(Debug)]
pub(super) struct Warmth(AtomicU64);

impl Warmth {
    /// A node that nobody knows yet; `cold`: requests were served without it.
    pub(super) fn new(cold: bool) -> Self {
        Self(AtomicU64::new(if cold { COLD } else { WARM }))
    }

    /// It works again.
    pub(super) fn cool(&self) {
        self.0.store(COLD, Ordering::Relaxed);
    }

    /// How many of [`STAGES`] it has reached, and when it reaches the next one. `ns`: how long it
    /// takes to warm up; 0: no time at all.
    pub(super) fn stage(&self, ns: u64, now_ns: u64) -> (u32, u64) {
        let mut since = self.0.load(Ordering::Relaxed);
        if since == COLD {
            // Of several workers that are the first the very first one decides.
            let begun = if ns == 0 { WARM } else { now_ns };
            let set = self.0.compare_exchange(COLD, begun, Ordering::Relaxed, Ordering::Relaxed);
            since = set.map_or_else(|other| other, |_| begun);
        }
        let elapsed = now_ns.saturating_sub(since);
        if since == WARM || elapsed >= ns {
            return (STAGES, u64::MAX);
        }
        let stages = u128::from(STAGES);
        let passed = u128::from(elapsed) * stages / u128::from(ns);
        let next = (passed + 1) * u128::from(ns) / stages + 1;
        (passed as u32 + 1, since.saturating_add(next as u64))
    }
}

/// A weight at that stage, as a part of `STAGES` times the whole: never nothing of something.
pub(super) fn share(weight: u32, stage: u32) -> u64 {
    u64::from(weight) * u64::from(stage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_follow_the_time() {
        let warmth = Warmth::new(true);
        let (begin, ns) = (5_000, 2_000);
        assert_eq!(warmth.stage(ns, begin), (1, begin + 101));
        for (at, stage, next) in
            [(100, 2, 201), (199, 2, 201), (1_000, 11, 1_101), (1_999, 20, 2_001)]
        {
            assert_eq!(warmth.stage(ns, begin + at), (stage, begin + next), "{at}");
        }
        assert_eq!(warmth.stage(ns, begin + 2_000), (STAGES, u64::MAX), "warm");
        assert_eq!(warmth.stage(ns, begin - 1).0, 1, "a clock that was set back");
        warmth.cool();
        assert_eq!(warmth.stage(ns, begin + 9_000).0, 1, "from the beginning");
    }

    #[test]
    fn without_a_time_nobody_is_cold() {
        let warmth = Warmth::new(true);
        assert_eq!(warmth.stage(0, 7), (STAGES, u64::MAX));
        assert_eq!(warmth.stage(1_000, 8), (STAGES, u64::MAX), "nor when it is set later");
        assert_eq!(Warmth::new(false).stage(1_000, 8), (STAGES, u64::MAX));
    }
}
