//! The worker's clock. Looking at it is reading a cell: the tick moves it.

use crate::limits::TICK_MS;
use std::cell::Cell;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since the worker started, as of its last tick.
///
/// Deadlines have the tick's resolution, so nothing is lost by a clock that has it too. A deadline
/// set by it gets one tick more, so that it is not early; only a loop that is late with its ticks,
/// because it is overloaded, may be early by as much.
#[derive(Clone, Debug)]
pub(super) struct Clock {
    start: Instant,
    now_ms: Cell<u64>,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self { start: Instant::now(), now_ms: Cell::new(0) }
    }

    /// Looks at the time; once per tick.
    pub(super) fn update(&self) -> u64 {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.now_ms.set(now);
        now
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.now_ms.get()
    }
}

/// What a deadline set by this clock is moved by.
pub(super) const SLACK_MS: u64 = TICK_MS;

/// Nanoseconds since the epoch.
pub(super) fn epoch_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
