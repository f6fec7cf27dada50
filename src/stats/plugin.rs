//! What one plugin with instances of its own did on one worker.

use super::Counter;

/// One call in so many is timed. Looking at the clock costs as much as a short callback, so not all
/// are; a prime number, so that no plugin whose requests make the same calls again and again has
/// always the same one timed.
const TIMED_ONE_IN: u64 = 61;

/// One plugin on one worker. Only that worker writes; anyone may read.
#[derive(Debug, Default)]
pub struct PluginCounters {
    /// Calls of the plugin's functions.
    pub calls: Counter,
    /// Time in those that were timed.
    timed_ns: Counter,
    /// Instances made.
    pub started: Counter,
    /// Calls that trapped.
    pub traps: Counter,
    /// Calls that passed their deadline.
    pub timeouts: Counter,
    /// Calls that ended because more memory was refused.
    pub memory: Counter,
    /// Calls in which the plugin exited.
    pub exits: Counter,
    /// Failures of another kind: no instance could be made, a missing import was called.
    pub others: Counter,
    /// Requests that found no instance made ahead.
    pub dry: Counter,
    /// Of these, the ones that got none in time.
    pub dry_refused: Counter,
    /// Requests that wait for an instance now.
    pub waiting: Counter,
    /// Requests not given to the plugin because it kept failing.
    pub backed_off: Counter,
    /// Values of shared data refused for want of room.
    pub shared_data_full: Counter,
    /// The most linear memory an instance had, in bytes.
    pub memory_bytes_high: Counter,
    /// Instances made ahead and waiting.
    pub spares: Counter,
    /// Instances at work.
    pub at_work: Counter,
}

impl PluginCounters {
    /// So many calls begin, joined to one; true if they are to be timed.
    #[inline]
    #[must_use]
    pub fn begin_calls(&self, calls: u64) -> bool {
        self.calls.add(calls);
        self.calls.get() % TIMED_ONE_IN < calls
    }

    /// What timed calls took together. They are timed so many times too often.
    pub fn end_timed(&self, calls: u64, ns: u64) {
        self.timed_ns.add(ns / calls.max(1));
    }

    /// Time in the plugin, in nanoseconds: an estimate from the calls that were timed.
    #[must_use]
    pub fn time_ns(&self) -> u64 {
        self.timed_ns.get().saturating_mul(TIMED_ONE_IN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_of_a_pattern_is_timed_as_often_as_the_others() {
        for calls_a_request in 1..=20 {
            let counters = PluginCounters::default();
            let mut timed = vec![0; calls_a_request];
            for _ in 0..TIMED_ONE_IN * 10 {
                timed.iter_mut().for_each(|count| *count += u64::from(counters.begin_calls(1)));
            }
            assert!(timed.iter().all(|count| *count == 10), "{calls_a_request}: {timed:?}");
        }
    }

    #[test]
    fn time_is_estimated() {
        let counters = PluginCounters::default();
        (0..1_000).filter(|_| counters.begin_calls(1)).for_each(|_| counters.end_timed(1, 100));
        assert_eq!((counters.calls.get(), counters.time_ns()), (1_000, 97_600));
        // Three joined to one, of 300 ns together, a hundred thousand times: 1 % off at most.
        let joined = PluginCounters::default();
        let timed = (0..100_000).filter(|_| joined.begin_calls(3));
        timed.for_each(|_| joined.end_timed(3, 300));
        assert_eq!(joined.calls.get(), 300_000);
        let expected = 300 * 100_000;
        assert!(joined.time_ns().abs_diff(expected) < expected / 100, "{}", joined.time_ns());
    }
}
