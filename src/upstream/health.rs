//! A node's health: four states, and counters of events in a row.
//!
//! ```text
//!            a failure                      `limit` failures
//! healthy ─────────────► mostly healthy ─────────────────────► unhealthy
//!    ▲                        │                                    │
//!    └── `limit` successes ───┴─── mostly unhealthy ◄── a success ─┘
//! ```
//!
//! The rules are those of APISIX's checker (reference §5.3): a success sets all counters of
//! failures back, a failure that of successes; reaching a limit decides, and a single event the
//! other way only makes the state a "mostly".

use std::sync::atomic::{AtomicU64, Ordering};

/// How a node is. It is used in the first two states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Status {
    /// It works.
    #[default]
    Healthy,
    /// It works, but failed lately.
    MostlyHealthy,
    /// It does not work, but did lately.
    MostlyUnhealthy,
    /// It does not work.
    Unhealthy,
}

impl Status {
    /// Whether requests go there.
    #[must_use]
    pub fn is_usable(self) -> bool {
        matches!(self, Self::Healthy | Self::MostlyHealthy)
    }

    /// APISIX's word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::MostlyHealthy => "mostly_healthy",
            Self::MostlyUnhealthy => "mostly_unhealthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// What happened with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// It answered as it should, or took a connection where that is all that is asked.
    Success,
    /// It answered with a bad status.
    HttpFailure,
    /// It refused or broke the connection.
    TcpFailure,
    /// It took too long.
    Timeout,
}

/// State and counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// The state.
    pub status: Status,
    /// Successes in a row.
    pub successes: u8,
    /// Bad statuses since the last success, and so on.
    pub http_failures: u8,
    /// See [`Report::TcpFailure`].
    pub tcp_failures: u8,
    /// See [`Report::Timeout`].
    pub timeouts: u8,
}

impl Health {
    /// What it is after one more event.
    fn after(mut self, report: Report, limit: u8) -> Self {
        let counter = match report {
            Report::Success => &mut self.successes,
            Report::HttpFailure => &mut self.http_failures,
            Report::TcpFailure => &mut self.tcp_failures,
            Report::Timeout => &mut self.timeouts,
        };
        *counter = counter.saturating_add(1);
        let decides = *counter >= limit;
        let good = report == Report::Success;
        if good {
            (self.http_failures, self.tcp_failures, self.timeouts) = (0, 0, 0);
        } else {
            self.successes = 0;
        }
        self.status = match (self.status, good) {
            (_, true) if decides => Status::Healthy,
            (_, false) if decides => Status::Unhealthy,
            (Status::Healthy, false) => Status::MostlyHealthy,
            (Status::Unhealthy, true) => Status::MostlyUnhealthy,
            (status, _) => status,
        };
        self
    }

    /// More of the same says nothing new.
    fn is_settled(self, report: Report) -> bool {
        match self.status {
            Status::Healthy => report == Report::Success,
            Status::Unhealthy => report != Report::Success,
            Status::MostlyHealthy | Status::MostlyUnhealthy => false,
        }
    }

    fn to_bits(self) -> u64 {
        let Self { status, successes, http_failures, tcp_failures, timeouts } = self;
        let bytes = [status as u8, successes, http_failures, tcp_failures, timeouts, 0, 0, 0];
        u64::from_le_bytes(bytes)
    }

    fn from_bits(bits: u64) -> Self {
        let [status, successes, http_failures, tcp_failures, timeouts, ..] = bits.to_le_bytes();
        let status = match status {
            0 => Status::Healthy,
            1 => Status::MostlyHealthy,
            2 => Status::MostlyUnhealthy,
            _ => Status::Unhealthy,
        };
        Self { status, successes, http_failures, tcp_failures, timeouts }
    }
}

/// A node's health where all threads see and change it. New nodes are healthy.
#[derive(Debug, Default)]
pub(super) struct SharedHealth(AtomicU64);

impl SharedHealth {
    pub(super) fn get(&self) -> Health {
        Health::from_bits(self.0.load(Ordering::Acquire))
    }

    /// Counts an event; gives the states before and after if that is not the same.
    pub(super) fn report(&self, report: Report, limit: u8) -> Option<(Status, Status)> {
        if limit == 0 || self.get().is_settled(report) {
            return None;
        }
        let count = |bits| {
            let health = Health::from_bits(bits);
            (!health.is_settled(report)).then(|| health.after(report, limit).to_bits())
        };
        let before = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, count).ok()?;
        let before = Health::from_bits(before);
        let after = before.after(report, limit);
        (before.status != after.status).then_some((before.status, after.status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Report::{HttpFailure, Success, TcpFailure, Timeout};

    /// `s`, `h`, `t`, `o` are events, with the limits 2, 3, 2 and 3; the states after each.
    fn states(events: &str) -> String {
        let health = SharedHealth::default();
        let after = |event: char| {
            let (report, limit) = match event {
                's' => (Success, 2),
                'h' => (HttpFailure, 3),
                't' => (TcpFailure, 2),
                _ => (Timeout, 3),
            };
            health.report(report, limit);
            match health.get().status {
                Status::Healthy => 'H',
                Status::MostlyHealthy => 'h',
                Status::MostlyUnhealthy => 'u',
                Status::Unhealthy => 'U',
            }
        };
        events.chars().map(after).collect()
    }

    #[test]
    fn states_and_thresholds() {
        for (events, expected) in [
            ("ssss", "HHHH"),
            ("tt", "hU"),
            ("hhh", "hhU"),
            ("ooo", "hhU"),
            ("tho", "hhh"),
            // Kinds are counted apart.
            ("thoth", "hhhUU"),
            // A success sets failures back; two in a row make it healthy again.
            ("tst", "hhh"),
            ("tss", "hhH"),
            ("tsstt", "hhHhU"),
            ("ttt", "hUU"),
            ("tts", "hUu"),
            ("ttss", "hUuH"),
            // A failure sets successes back, and counts from one.
            ("ttsts", "hUuuu"),
            ("ttstt", "hUuuU"),
            ("ttstss", "hUuuuH"),
            ("ttsshhh", "hUuHhhU"),
        ] {
            assert_eq!(states(events), expected, "{events}");
        }
    }

    #[test]
    fn what_does_not_count_changes_nothing() {
        let health = SharedHealth::default();
        assert_eq!(health.report(TcpFailure, 0), None);
        assert_eq!(health.report(Success, 2), None);
        assert_eq!(health.get(), Health::default());
        let changed = Some((Status::Healthy, Status::Unhealthy));
        assert_eq!(health.report(Timeout, 1), changed);
        assert_eq!(health.report(Timeout, 1), None, "it is unhealthy already");
    }

    #[test]
    fn counters_never_overflow() {
        let health = SharedHealth::default();
        (0..300).for_each(|_| _ = health.report(HttpFailure, u8::MAX));
        assert_eq!(health.get().status, Status::Unhealthy);
        assert_eq!(health.get().http_failures, u8::MAX);
    }
}
