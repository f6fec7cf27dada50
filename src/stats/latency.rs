//! How long requests took, sorted by size.

use super::Counter;

/// Upper bounds of the buckets in milliseconds: those of APISIX's plugin `prometheus`.
pub const LATENCY_MS: [u64; 15] =
    [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000];

const NS_PER_MS: u64 = 1_000_000;

/// Durations of one kind on one worker.
#[derive(Debug, Default)]
pub struct Latency {
    /// Not cumulative; the last holds what is above all bounds.
    buckets: [Counter; LATENCY_MS.len() + 1],
    sum_ns: Counter,
}

impl Latency {
    /// Counts one duration.
    pub fn count(&self, ns: u64) {
        let bucket = LATENCY_MS.iter().position(|bound| ns <= bound * NS_PER_MS);
        self.buckets[bucket.unwrap_or(LATENCY_MS.len())].up();
        self.sum_ns.add(ns);
    }

    /// How many took at most each bound, and how many there were in all.
    pub fn cumulative(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        let bounds = LATENCY_MS.iter().copied().map(Some).chain([None]);
        bounds.zip(&self.buckets).scan(0, |sum, (bound, bucket)| {
            *sum += bucket.get();
            Some((bound, *sum))
        })
    }

    /// The sum of all, in milliseconds.
    #[must_use]
    pub fn sum_ms(&self) -> f64 {
        self.sum_ns.get() as f64 / NS_PER_MS as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_sorted_by_their_bounds() {
        let latency = Latency::default();
        for ns in [0, NS_PER_MS, NS_PER_MS + 1, 60_001 * NS_PER_MS] {
            latency.count(ns);
        }
        let counts: Vec<_> = latency.cumulative().collect();
        assert_eq!(counts[0], (Some(1), 2));
        assert_eq!(counts[1], (Some(2), 3));
        assert_eq!(counts[LATENCY_MS.len() - 1], (Some(60_000), 3));
        assert_eq!(counts[LATENCY_MS.len()], (None, 4));
        assert!((latency.sum_ms() - 60_003.0).abs() < 0.001, "{}", latency.sum_ms());
    }
}
