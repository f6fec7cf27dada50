//! The token that a runner gave for a configuration, shared by all workers.
//!
//! ```text
//! Nobody ─ first request: Prepare ─► Running ─ finish: token ─► Ready
//!   ▲  ▲                               │ others: Wait              │ too old, runner restarted,
//!   │  └────── finish: failure ◄───────┘ all of them are told      │ or it forgot
//!   └──────────────────────────────────────────────────────────────┘
//! ```
//!
//! The way that all requests but the first take is two loads of an atomic. Times are a worker's
//! own milliseconds: workers' clocks differ by less than a second, lives of tokens are hours.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// One configuration's token, and who waits for it.
#[derive(Debug)]
pub struct Token<W> {
    /// [`pack`]ed; 0 if there is none.
    ready: AtomicU64,
    expires_ms: AtomicU64,
    running: Mutex<Running<W>>,
}

#[derive(Debug)]
struct Running<W> {
    /// Counts preparations.
    number: u64,
    is_running: bool,
    waiters: Vec<W>,
    /// The number of the last preparation that failed.
    failed: u64,
}

/// What a request without a token does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// It is there now.
    Ready(u32),
    /// Ask the runner for it, then [`Token::finish`].
    Prepare,
    /// Somebody asks already: one is woken when it is over, and then looks with
    /// [`Token::has_failed`].
    Wait(u64),
}

impl<W> Default for Token<W> {
    fn default() -> Self {
        let running = Running { number: 0, is_running: false, waiters: Vec::new(), failed: 0 };
        Self {
            ready: AtomicU64::new(0),
            expires_ms: AtomicU64::new(0),
            running: Mutex::new(running),
        }
    }
}

impl<W> Token<W> {
    /// The token, if there is one that the runner of this life (`epoch`) gave not too long ago.
    #[must_use]
    pub fn get(&self, epoch: u64, now_ms: u64) -> Option<u32> {
        let packed = self.ready.load(Ordering::Acquire);
        let lives = now_ms < self.expires_ms.load(Ordering::Acquire);
        (packed != 0 && lives && packed >> 32 == pack(epoch, 0) >> 32).then_some(packed as u32)
    }

    /// What to do without one; `waiter` is kept if somebody else asks already.
    pub fn begin(&self, epoch: u64, now_ms: u64, waiter: impl FnOnce() -> W) -> Begin {
        let mut running = self.lock();
        if let Some(token) = self.get(epoch, now_ms) {
            return Begin::Ready(token);
        }
        if running.is_running {
            running.waiters.push(waiter());
            return Begin::Wait(running.number);
        }
        running.is_running = true;
        running.number += 1;
        Begin::Prepare
    }

    /// Ends a preparation; gives those who waited. `token`: what came, of which life of the runner,
    /// and until when it is good; `None`: it failed.
    #[must_use]
    pub fn finish(&self, token: Option<(u32, u64, u64)>) -> Vec<W> {
        let mut running = self.lock();
        running.is_running = false;
        match token {
            Some((token, epoch, expires_ms)) => {
                self.expires_ms.store(expires_ms, Ordering::Release);
                self.ready.store(pack(epoch, token), Ordering::Release);
            }
            None => running.failed = running.number,
        }
        std::mem::take(&mut running.waiters)
    }

    /// Gives a preparation up for a reason that is only its own; gives those who waited. One of
    /// them prepares then.
    #[must_use]
    pub fn abandon(&self) -> Vec<W> {
        let mut running = self.lock();
        running.is_running = false;
        std::mem::take(&mut running.waiters)
    }

    /// Whether the preparation of that number failed.
    #[must_use]
    pub fn has_failed(&self, number: u64) -> bool {
        self.lock().failed == number
    }

    /// The runner does not know this token any more. Another one is left alone: somebody was
    /// faster.
    pub fn forget(&self, epoch: u64, token: u32) {
        let old = pack(epoch, token);
        // Somebody stored another one meanwhile: that is the one to use.
        let _ = self.ready.compare_exchange(old, 0, Ordering::AcqRel, Ordering::Acquire);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Running<W>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A token with the runner's life it belongs to; never 0.
fn pack(epoch: u64, token: u32) -> u64 {
    (1 << 63) | (epoch & 0x7fff_ffff) << 32 | u64::from(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_prepares_and_others_wait() {
        let token = Token::default();
        assert_eq!(token.get(0, 5), None);
        assert_eq!(token.begin(0, 5, || 'a'), Begin::Prepare);
        assert_eq!(token.begin(0, 5, || 'b'), Begin::Wait(1));
        assert_eq!(token.begin(0, 5, || 'c'), Begin::Wait(1));
        assert_eq!(token.finish(Some((0, 0, 100))), ['b', 'c']);
        assert!(!token.has_failed(1));
        assert_eq!(token.get(0, 99), Some(0), "0 is a token like others");
        assert_eq!(token.begin(0, 99, || 'd'), Begin::Ready(0));
        assert_eq!(token.get(0, 100), None, "it is too old");
    }

    #[test]
    fn a_failure_is_everybodys() {
        let token = Token::default();
        assert_eq!(token.begin(0, 0, || 'a'), Begin::Prepare);
        assert_eq!(token.begin(0, 0, || 'b'), Begin::Wait(1));
        assert_eq!(token.finish(None), ['b']);
        assert!(token.has_failed(1));
        assert_eq!(token.begin(0, 0, || 'b'), Begin::Prepare, "the next one tries again");
        assert_eq!(token.begin(0, 0, || 'c'), Begin::Wait(2));
        assert_eq!(token.abandon(), ['c']);
        assert!(!token.has_failed(2));
        assert_eq!(token.begin(0, 0, || 'c'), Begin::Prepare);
    }

    #[test]
    fn a_restart_and_a_refusal_end_a_token() {
        let token = Token::default();
        assert_eq!(token.begin(7, 0, || ()), Begin::Prepare);
        assert!(token.finish(Some((u32::MAX, 7, 100))).is_empty());
        assert_eq!((token.get(7, 1), token.get(8, 1)), (Some(u32::MAX), None));
        token.forget(7, 1);
        assert_eq!(token.get(7, 1), Some(u32::MAX), "another one was meant");
        token.forget(7, u32::MAX);
        assert_eq!(token.get(7, 1), None);
    }
}
