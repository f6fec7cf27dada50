//! The worker's clock: coarse, from the vDSO, a few nanoseconds a look.

use rustix::time::{ClockId, clock_gettime};

/// Time in the units the core wants.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start_ms: u64,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self { start_ms: monotonic_ms() }
    }

    /// Milliseconds since the worker started; resolution is the kernel's tick, 1 to 4 ms.
    pub(super) fn now_ms(&self) -> u64 {
        monotonic_ms() - self.start_ms
    }
}

/// Nanoseconds since the epoch.
pub(super) fn epoch_ns() -> u64 {
    let now = clock_gettime(ClockId::RealtimeCoarse);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn monotonic_ms() -> u64 {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}
