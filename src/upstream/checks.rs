//! How a node's health is found out: by probes, and by what requests meet (APISIX reference §5.3).

use super::health::Report;
use std::time::Duration;

/// `checks` of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checks {
    /// Probes.
    pub active: Active,
    /// What counts of requests.
    pub passive: Passive,
}

/// How many events in a row change a node's state; 0: that kind of event does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Good ones, until it is healthy.
    pub successes: u8,
    /// Responses with a bad status, until it is unhealthy.
    pub http_failures: u8,
    /// Connections that were refused or broke.
    pub tcp_failures: u8,
    /// Times it took too long.
    pub timeouts: u8,
}

impl Thresholds {
    /// The one that counts for a report.
    #[must_use]
    pub fn of(&self, report: Report) -> u8 {
        match report {
            Report::Success => self.successes,
            Report::HttpFailure => self.http_failures,
            Report::TcpFailure => self.tcp_failures,
            Report::Timeout => self.timeouts,
        }
    }
}

/// Which statuses are good and which are bad; others say nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statuses {
    /// `healthy.http_statuses`.
    pub good: Vec<u16>,
    /// `unhealthy.http_statuses`.
    pub bad: Vec<u16>,
}

impl Statuses {
    /// What a response with that status says.
    #[must_use]
    pub fn report(&self, status: u16) -> Option<Report> {
        if self.good.contains(&status) {
            return Some(Report::Success);
        }
        self.bad.contains(&status).then_some(Report::HttpFailure)
    }
}

/// Probes: `checks.active`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Active {
    /// What a connection begins with, before the probe: a PROXY protocol header, or nothing.
    pub lead: Vec<u8>,
    /// What a probe is.
    pub probe: Probe,
    /// How long one may take.
    pub timeout: Duration,
    /// How many may run at the same time.
    pub concurrency: usize,
    /// Instead of the node's own port.
    pub port: Option<u16>,
    /// Between two probes of a node that is used; `None`: no probes then.
    pub healthy_every: Option<Duration>,
    /// Between two probes of a node that is not.
    pub unhealthy_every: Option<Duration>,
    /// What their outcomes come to.
    pub thresholds: Thresholds,
}

/// What a probe is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A connection is made: that is enough.
    Tcp,
    /// A request is answered.
    Http {
        /// The request's bytes up to the value of `Host`, that value, if it is not the node's own,
        /// and the bytes after it.
        request: ProbeRequest,
        /// Which answers are good.
        statuses: Statuses,
        /// How the connection is made secret; `None`: it is not.
        tls: Option<ProbeTls>,
    },
}

/// TLS of a probe (`type: https`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeTls {
    /// `https_verify_certificate`: a certificate that nobody trusted has signed, or that is another
    /// name's, is a failure.
    pub verify: bool,
}

/// The request of a probe. Its Host may be the node's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeRequest {
    /// Everything before the value of Host.
    pub before: Vec<u8>,
    /// The value, if it is the same for all nodes.
    pub host: Option<Vec<u8>>,
    /// Everything behind it.
    pub after: Vec<u8>,
}

impl ProbeRequest {
    /// Its bytes for a node with that Host.
    #[must_use]
    pub fn bytes(&self, host: &[u8]) -> Vec<u8> {
        [&self.before, self.host_for(host), &self.after].concat()
    }

    /// The Host it says to a node with that one.
    #[must_use]
    pub fn host_for<'a>(&'a self, host: &'a [u8]) -> &'a [u8] {
        self.host.as_deref().unwrap_or(host)
    }
}

/// What counts of requests: `checks.passive`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passive {
    /// What their statuses say; `None`: only that a node can't be reached counts.
    pub statuses: Option<Statuses>,
    /// What their outcomes come to.
    pub thresholds: Thresholds,
}
