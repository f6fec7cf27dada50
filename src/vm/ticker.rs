//! The thread that makes an engine's epoch advance, so that endless guests end.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

/// Length of an epoch. A thread that wakes 200 times a second costs 0.1 % of a core, and a deadline
/// is then at most two ticks late: 10 ms becomes 20 at worst.
const TICK_MS: u64 = 5;

/// Alive as long as somebody needs epochs to advance; the thread ends soon after the last one goes.
#[derive(Debug)]
pub(super) struct Ticker;

/// Starts a ticker when the first module asks for one, and again after all were dropped.
#[derive(Debug, Default)]
pub(super) struct Tickers(Mutex<Weak<Ticker>>);

impl Tickers {
    /// The running ticker of `engine`, started if there is none.
    pub(super) fn running(&self, engine: &wasmtime::Engine) -> Arc<Ticker> {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ticker) = current.upgrade() {
            return ticker;
        }
        let ticker = Arc::new(Ticker);
        *current = Arc::downgrade(&ticker);
        start(Arc::downgrade(&ticker), engine.weak());
        ticker
    }
}

/// How many epochs a call may live to have at least `deadline_ms`. The tick now running counts as
/// used up, hence the one more.
#[must_use]
pub fn deadline_ticks(deadline_ms: u64) -> u64 {
    deadline_ms.div_ceil(TICK_MS) + 1
}

fn start(ticker: Weak<Ticker>, engine: wasmtime::EngineWeak) {
    let body = move || {
        loop {
            thread::sleep(Duration::from_millis(TICK_MS));
            // Not once more when it is over: another thread may tick by now, and a deadline would
            // be early.
            let Some(engine) = engine.upgrade().filter(|_| ticker.strong_count() > 0) else {
                return;
            };
            engine.increment_epoch();
        }
    };
    let started = thread::Builder::new().name("ringgate-epoch".to_owned()).spawn(body);
    if let Err(error) = started {
        log::error!(target: "wasm", "no thread for deadlines, endless guests won't end: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_never_early() {
        assert_eq!(deadline_ticks(1), 2);
        assert_eq!(deadline_ticks(TICK_MS), 2);
        assert_eq!(deadline_ticks(TICK_MS + 1), 3);
    }

    #[test]
    fn the_thread_is_shared_and_ends() {
        let engine = wasmtime::Engine::default();
        let tickers = Tickers::default();
        let (a, b) = (tickers.running(&engine), tickers.running(&engine));
        assert!(Arc::ptr_eq(&a, &b));
        drop((a, b));
        assert!(tickers.0.lock().expect("not poisoned").upgrade().is_none());
        let again = tickers.running(&engine);
        assert_eq!(Arc::strong_count(&again), 1);
    }
}
