//! The deadlines of one exchange: an array by name, one "next".

/// What an exchange may be waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// More of the request's body.
    DownstreamRead,
    /// The client taking our bytes.
    DownstreamSend,
    /// A connection to the upstream.
    Connect,
    /// The upstream taking our bytes.
    UpstreamSend,
    /// The upstream's next bytes.
    UpstreamRead,
    /// A plugin that holds the request.
    RequestHold,
    /// A plugin that holds the response.
    ResponseHold,
}

const ALL: [Timer; 7] = [
    Timer::DownstreamRead,
    Timer::DownstreamSend,
    Timer::Connect,
    Timer::UpstreamSend,
    Timer::UpstreamRead,
    Timer::RequestHold,
    Timer::ResponseHold,
];

const NEVER: u64 = u64::MAX;

/// When each timer is due, in the driver's milliseconds.
#[derive(Debug)]
pub(super) struct Timers([u64; ALL.len()]);

impl Default for Timers {
    fn default() -> Self {
        Self([NEVER; ALL.len()])
    }
}

impl Timers {
    pub(super) fn clear(&mut self) {
        self.0 = [NEVER; ALL.len()];
    }

    pub(super) fn arm(&mut self, timer: Timer, now_ms: u64, after_ms: u64) {
        self.0[timer as usize] = now_ms.saturating_add(after_ms);
    }

    pub(super) fn disarm(&mut self, timer: Timer) {
        self.0[timer as usize] = NEVER;
    }

    pub(super) fn next(&self) -> u64 {
        self.0.iter().copied().min().unwrap_or(NEVER)
    }

    /// A timer that is due; it is disarmed.
    pub(super) fn take_due(&mut self, now_ms: u64) -> Option<Timer> {
        let due = ALL.into_iter().find(|timer| self.0[*timer as usize] <= now_ms)?;
        self.disarm(due);
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_is_next_and_due_once() {
        let mut timers = Timers::default();
        assert_eq!(timers.next(), NEVER);
        timers.arm(Timer::Connect, 100, 50);
        timers.arm(Timer::RequestHold, 100, 20);
        assert_eq!(timers.next(), 120);
        assert_eq!(timers.take_due(119), None);
        assert_eq!(timers.take_due(200), Some(Timer::Connect));
        assert_eq!(timers.take_due(200), Some(Timer::RequestHold));
        assert_eq!(timers.take_due(200), None);
        timers.arm(Timer::RequestHold, 1, u64::MAX);
        timers.disarm(Timer::RequestHold);
        assert_eq!(timers.next(), NEVER);
    }
}
