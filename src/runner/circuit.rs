//! When a runner is not even asked.
//!
//! ```text
//!          too many calls in a row time out
//! Closed ───────────────────────────────────► Open ─ a moment later ─► Trying ─ a reply ─► Closed
//!                                              ▲                          │
//!                                              └───────── a timeout ──────┘
//! ```
//!
//! A runner that is gone is found by its socket; this is for one that is there and hangs. Without
//! it, every request would wait for its whole deadline, and hold a connection meanwhile.

/// Calls in a row that time out before a runner counts as hung.
const TIMEOUTS_MAX: u32 = 8;

/// How long it is left alone then.
const OPEN_MS: u64 = 1_000;

/// One worker's view of one runner.
#[derive(Debug, Default)]
pub struct Circuit {
    timeouts: u32,
    /// Calls are refused until then.
    open_until_ms: u64,
    /// One call is on its way to find out.
    trying: bool,
}

impl Circuit {
    /// Whether a call may go.
    #[must_use]
    pub fn allows(&mut self, now_ms: u64) -> bool {
        if self.timeouts < TIMEOUTS_MAX {
            return true;
        }
        let tries = now_ms >= self.open_until_ms && !self.trying;
        self.trying |= tries;
        tries
    }

    /// The runner replied: whatever it said, it is alive.
    pub fn on_reply(&mut self) {
        *self = Self::default();
    }

    /// A call timed out; tells whether that opened the circuit.
    pub fn on_timeout(&mut self, now_ms: u64) -> bool {
        self.timeouts = self.timeouts.saturating_add(1);
        self.trying = false;
        if self.timeouts >= TIMEOUTS_MAX {
            self.open_until_ms = now_ms + OPEN_MS;
        }
        self.timeouts == TIMEOUTS_MAX
    }

    /// The call that was to find out ended in another way: the next one may.
    pub fn on_other_end(&mut self) {
        self.trying = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_and_tries_one_by_one() {
        let mut circuit = Circuit::default();
        let opened: Vec<bool> = (0..9).map(|_| circuit.on_timeout(100)).collect();
        assert_eq!(opened.iter().position(|opened| *opened), Some(7));
        assert!(!circuit.allows(1_099));
        assert!(circuit.allows(1_100), "one may find out");
        assert!(!circuit.allows(1_100), "and no other");
        assert!(!circuit.on_timeout(2_000), "it was open already");
        assert!(!circuit.allows(2_999) && circuit.allows(3_000));
        circuit.on_other_end();
        assert!(circuit.allows(3_000));
        circuit.on_reply();
        assert!(circuit.allows(0) && circuit.allows(0));
    }

    #[test]
    fn a_reply_between_timeouts_starts_the_count_again() {
        let mut circuit = Circuit::default();
        for _ in 0..100 {
            circuit.on_timeout(0);
            circuit.on_reply();
        }
        assert!(circuit.allows(0));
    }
}
