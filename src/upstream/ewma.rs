//! How fast a node answers: an exponentially weighted moving average, as APISIX's balancer `ewma`
//! has it (reference §5.1).

use std::sync::atomic::{AtomicU64, Ordering};

/// After so many seconds the average is a third of what it was.
const DECAY_S: f64 = 10.0;

/// An average that nobody added to for so long is forgotten.
const KEPT_NS: u64 = 60_000_000_000;

/// One node's average, shared by all workers. Two that record at the same time may lose one of the
/// two values: the average is none the worse for it.
#[derive(Debug, Default)]
pub(super) struct Latency {
    /// Seconds, the bits of an `f64`.
    average: AtomicU64,
    /// Nanoseconds since the epoch.
    recorded_ns: AtomicU64,
}

impl Latency {
    /// The average in seconds, decayed until now.
    pub(super) fn score(&self, now_ns: u64) -> f64 {
        let average = f64::from_bits(self.average.load(Ordering::Relaxed));
        let since_ns = now_ns.saturating_sub(self.recorded_ns.load(Ordering::Relaxed));
        if since_ns > KEPT_NS { 0.0 } else { average * weight(since_ns) }
    }

    /// A request took so many seconds.
    pub(super) fn record(&self, seconds: f64, now_ns: u64) {
        let since_ns = now_ns.saturating_sub(self.recorded_ns.load(Ordering::Relaxed));
        let average = self.score(now_ns) + seconds * (1.0 - weight(since_ns));
        self.average.store(average.to_bits(), Ordering::Relaxed);
        self.recorded_ns.store(now_ns, Ordering::Relaxed);
    }
}

/// How much of the old average counts.
fn weight(since_ns: u64) -> f64 {
    (-(since_ns as f64 / 1e9) / DECAY_S).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn close(left: f64, right: f64) -> bool {
        (left - right).abs() < 1e-12
    }

    #[test]
    fn averages_follow_the_published_formula() {
        let latency = Latency::default();
        assert!(close(latency.score(1_000 * S), 0.0), "unknown nodes are tried first");
        latency.record(0.5, 1_000 * S);
        // Nothing is known from before, so the first value is all there is.
        assert!(close(latency.score(1_000 * S), 0.5));
        assert!(close(latency.score(1_010 * S), 0.5 * (-1.0_f64).exp()));
        latency.record(0.1, 1_005 * S);
        let weight = (-0.5_f64).exp();
        let average = 0.5 * weight + 0.1 * (1.0 - weight);
        assert!(close(latency.score(1_005 * S), average));
        assert!(close(latency.score(1_066 * S), 0.0), "forgotten after a minute");
    }
}
