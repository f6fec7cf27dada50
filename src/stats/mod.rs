//! Room `stats`: what happened, counted.
//!
//! In: increments, finished exchanges.
//! Out: sums, and the text that Prometheus reads.
//! May not know: who counts.
//!
//! ```text
//! a worker counts ─► Counters, RouteCounters (plain stores of its own) ◄─ whoever asks, and sums
//!                                                       names, labels ─► Exposition ─► text
//! ```

mod exposition;
mod latency;
mod plugin;
mod routes;

pub use exposition::{Exposition, Kind, legal_name};
pub use latency::{LATENCY_MS, Latency};
pub use plugin::PluginCounters;
pub use routes::{RouteCounters, RouteLabels, Routes};

use std::sync::atomic::{AtomicU64, Ordering};

/// One worker's counters. Only that worker writes; anyone may read.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Counters {
    /// Connections accepted.
    pub connections: Counter,
    /// Connections open now.
    pub open: Counter,
    /// Connections that switched to another protocol.
    pub tunnels: Counter,
    /// Of these, open now.
    pub tunnels_open: Counter,
    /// Requests answered.
    pub requests: Counter,
    /// Of these, by a prepared response.
    pub prepared: Counter,
    /// Responses by class: 1xx to 5xx, then others.
    pub by_class: [Counter; 6],
    /// Requests that run now, tunnels not among them.
    pub running: Counter,
    /// Requests there was no room for.
    pub shed: Counter,
    /// Requests refused because they were malformed.
    pub refused: Counter,
    /// Responses cut off.
    pub aborted: Counter,
    /// Connections there was no room for.
    pub turned_away: Counter,
    /// Connections to upstreams that were made.
    pub upstream_made: Counter,
    /// Times an idle one was used again.
    pub upstream_reused: Counter,
    /// Connections to upstreams that carry a request now.
    pub upstream_in_use: Counter,
    /// Those that wait for the next one, as of the last look at them.
    pub upstream_idle: Counter,
    /// The snapshot it serves.
    pub snapshot: Counter,
    /// The longest that it took to take one, in nanoseconds; nothing else is served meanwhile.
    pub take_ns_max: Counter,
    /// What its routes answered.
    pub routes: Routes,
}

/// A number that one thread changes and others read: a plain load and store, no locked instruction.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn up(&self) {
        self.0.store(self.get().wrapping_add(1), Ordering::Relaxed);
    }

    /// Takes one away.
    pub fn down(&self) {
        self.0.store(self.get().wrapping_sub(1), Ordering::Relaxed);
    }

    /// Adds many.
    pub fn add(&self, many: u64) {
        self.0.store(self.get().wrapping_add(many), Ordering::Relaxed);
    }

    /// Sets it.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Sets it if that is more.
    pub fn raise(&self, value: u64) {
        if value > self.get() {
            self.set(value);
        }
    }

    /// The number.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    /// Counts a response.
    pub fn count_response(&self, status: u16) {
        self.requests.up();
        let class = usize::from(status / 100).wrapping_sub(1).min(5);
        self.by_class[class].up();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_by_class() {
        let counters = Counters::default();
        for status in [200, 204, 404, 503, 700, 0] {
            counters.count_response(status);
        }
        let classes: Vec<u64> = counters.by_class.iter().map(Counter::get).collect();
        assert_eq!(classes, [0, 2, 0, 1, 1, 2]);
        assert_eq!(counters.requests.get(), 6);
        counters.open.up();
        counters.open.down();
        assert_eq!(counters.open.get(), 0);
    }
}
