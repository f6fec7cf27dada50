//! Room `upstream`: which peer a request goes to, and which idle connection it may use.
//!
//! In: peers, policy, outcomes, `now`.
//! Out: a peer; an idle connection; changes of health.
//! May not know: sockets (a connection is any `C`), messages, the clock.
//!
//! ```text
//! configuration ─► Upstream (immutable, in a snapshot) ─┐
//! probes, names ─► Node, Board (atomics, for all) ──────┼─► Balance (a worker's own) ─► Picked
//!      outcomes ─────────┘                              └─► IdlePool (a worker's own)
//! ```

mod address;
mod balance;
mod checks;
mod ewma;
mod health;
mod idle;
mod in_flight;
mod node;
mod ring;
mod round_robin;
#[cfg(test)]
mod testing;
mod warmth;
mod weights;

pub use address::Address;
pub use balance::{Ask, Balance, Picked};
pub use checks::{Active, Checks, Passive, Probe, ProbeRequest, ProbeTls, Statuses, Thresholds};
pub use health::{Health, Report, Status};
pub use idle::{Idle, IdlePool, Shelf};
pub use in_flight::InFlight;
pub use node::{Board, Node, NodeTable};
pub use ring::hash_of;

use crate::expr::{Template, Variables};
use crate::limits;
use crate::proxy_protocol::Version;
use ring::Ring;
use std::net::IpAddr;
use std::sync::Arc;

/// One node of an upstream.
#[derive(Clone, Debug)]
pub struct Peer {
    /// What changes of it, shared by all.
    pub node: Arc<Node>,
    /// The Host that `pass_host: node` sends: host, and port unless it is the scheme's own.
    pub host: Vec<u8>,
    /// Its share; 0 is never chosen beside others.
    pub weight: u32,
    /// Nodes of a lower priority are tried when all of a higher one were.
    pub priority: i64,
}

/// How a node is chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Balancer {
    /// In turns, by weight.
    #[default]
    RoundRobin,
    /// The same node for the same key, by weight.
    Hash(HashKey),
    /// The one with the fewest requests in flight, by weight.
    LeastConn,
    /// The faster one of two.
    Ewma,
}

/// What of a request is hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    /// The variable of that name.
    Variable(Box<str>),
    /// Several, with text between them.
    Template(Template),
}

impl HashKey {
    /// Appends a request's key to `out`, which is empty: the client's address where there is none.
    pub fn write(&self, variables: &dyn Variables, out: &mut Vec<u8>) {
        let found = match self {
            Self::Variable(name) => variables.append_variable(name, out),
            Self::Template(template) => template.render(variables, out) > 0,
        };
        if !found {
            out.clear();
            variables.append_variable("remote_addr", out);
        }
    }
}

/// Which Host goes upstream (APISIX reference §5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HostPolicy {
    /// The client's.
    #[default]
    Pass,
    /// The node's.
    Node,
    /// This one.
    Rewrite(Vec<u8>),
}

/// How long each step may take, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until the connection is there.
    pub connect_ms: u64,
    /// Between two successful writes.
    pub send_ms: u64,
    /// Between two successful reads.
    pub read_ms: u64,
}

impl Default for Timeouts {
    /// nginx's 60 s each.
    fn default() -> Self {
        Self { connect_ms: 60_000, send_ms: 60_000, read_ms: 60_000 }
    }
}

/// How idle connections are kept, per worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// Idle connections kept per node.
    pub idle_max: usize,
    /// How long one may stay idle.
    pub idle_ms: u64,
    /// Requests one connection carries before it is closed.
    pub requests_max: u64,
}

impl Default for KeepAlive {
    /// APISIX's 320 connections, 60 s, 1,000 requests.
    fn default() -> Self {
        Self { idle_max: 320, idle_ms: 60_000, requests_max: 1000 }
    }
}

/// A set of nodes that serve the same requests.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Its name or id, for logs and properties.
    pub name: String,
    /// What all its snapshots have in common.
    pub board: Arc<Board>,
    /// Its nodes in the order written.
    pub peers: Vec<Peer>,
    /// How one is chosen.
    pub balancer: Balancer,
    /// Which Host they get.
    pub host: HostPolicy,
    /// How long to wait for them.
    pub timeouts: Timeouts,
    /// How their connections are kept.
    pub keep_alive: KeepAlive,
    /// Tries after the first.
    pub retries: u32,
    /// No retry begins later than this after the first try; 0: no such bound.
    pub retry_ms: u64,
    /// How their health is found out, if it is.
    pub checks: Option<Checks>,
    /// How long a node that is new or works again takes to get its whole share, in nanoseconds; 0:
    /// no time at all.
    pub slow_start_ns: u64,
    /// Connections begin with a PROXY protocol header of this version.
    pub proxy_protocol: Option<Version>,
    /// Its `labels`, for properties.
    pub labels: Vec<(String, String)>,
    /// The peers by falling priority: [`Upstream::new`] makes them, of the peers it is given.
    pub levels: Levels,
}

/// Peers by falling priority.
#[derive(Clone, Debug)]
pub struct Levels(Arc<[Level]>);

/// The peers of one priority.
#[derive(Debug)]
struct Level {
    members: Vec<u32>,
    /// For [`Balancer::Hash`]: all of them, healthy or not, so that few keys move.
    ring: Ring,
}

impl Upstream {
    /// An upstream with these nodes and everything else as usual.
    #[must_use]
    pub fn new(board: Arc<Board>, peers: Vec<Peer>, balancer: Balancer) -> Self {
        let mut priorities: Vec<i64> = peers.iter().map(|peer| peer.priority).collect();
        priorities.sort_unstable_by(|a, b| b.cmp(a));
        priorities.dedup();
        let level = |priority: i64| {
            let numbered = (0_u32..).zip(&peers);
            let members = numbered.filter(|(_, peer)| peer.priority == priority);
            let members: Vec<u32> = members.map(|(number, _)| number).collect();
            let hashes = matches!(balancer, Balancer::Hash(_));
            let ring = if hashes { Ring::of(&peers, &members) } else { Ring::default() };
            Level { members, ring }
        };
        Self {
            name: String::new(),
            board,
            levels: Levels(priorities.into_iter().map(level).collect()),
            peers,
            balancer,
            host: HostPolicy::default(),
            timeouts: Timeouts::default(),
            keep_alive: KeepAlive::default(),
            retries: 0,
            retry_ms: 0,
            checks: None,
            slow_start_ns: 0,
            proxy_protocol: None,
            labels: Vec::new(),
        }
    }

    /// Something happened with a peer while it served a request.
    pub fn report(&self, peer: usize, report: Report) {
        if let Some(checks) = &self.checks {
            self.peers[peer].node.report(report, &checks.passive.thresholds);
        }
    }

    /// A peer answered with that status.
    pub fn report_status(&self, peer: usize, status: u16) {
        let statuses = self.checks.as_ref().and_then(|checks| checks.passive.statuses.as_ref());
        if let Some(report) = statuses.and_then(|statuses| statuses.report(status)) {
            self.report(peer, report);
        }
    }

    /// A request took so long from asking for a connection to the end of the response.
    pub fn record_latency(&self, peer: usize, seconds: f64, now_ns: u64) {
        self.peers[peer].node.latency.record(seconds, now_ns);
    }

    /// Whether something must be done for it beside requests: names to resolve, nodes to probe.
    #[must_use]
    pub fn wants_upkeep(&self) -> bool {
        self.checks.is_some() || self.peers.iter().any(|peer| is_name(&peer.node.host))
    }

    /// Whether its choices depend on the time.
    #[must_use]
    pub fn is_timed(&self) -> bool {
        self.balancer == Balancer::Ewma || self.slow_start_ns > 0
    }

    fn levels(&self) -> &[Level] {
        &self.levels.0
    }
}

/// Whether a node's host is a name: neither an address nor the path of a socket.
#[must_use]
pub fn is_name(host: &str) -> bool {
    !host.starts_with("unix:") && host.parse::<IpAddr>().is_err()
}

/// How many points the rings of peers with these weights and priorities have for
/// [`Balancer::Hash`], if that is more than [`limits::RING_POINTS_MAX`].
#[must_use]
pub fn excess_ring_points(shares: &[(u32, i64)]) -> Option<u64> {
    let divisor = |priority: i64| {
        let level = shares.iter().filter(|(_, other)| *other == priority);
        level.fold(0, |divisor, (weight, _)| weights::common_divisor(divisor, *weight))
    };
    let points = |(weight, priority): &(u32, i64)| {
        u64::from(weight.checked_div(divisor(*priority)).unwrap_or(1)) * ring::POINTS as u64
    };
    let sum = shares.iter().map(points).sum();
    (sum > limits::RING_POINTS_MAX).then_some(sum)
}
