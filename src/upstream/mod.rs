//! Room `upstream`: which peer a request goes to, and which idle connection it may use.
//!
//! In: peers, policy, outcomes, `now`.
//! Out: a peer; an idle connection; what was given back.
//! May not know: sockets (a connection is any `C`), messages.
//!
//! An [`Upstream`] is immutable and shared by all workers; [`RoundRobin`] and [`IdlePool`] belong
//! to one worker.

mod idle;
mod round_robin;

pub use idle::{Idle, IdlePool};
pub use round_robin::RoundRobin;

use std::net::SocketAddr;

/// One node of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where it listens; `None` if its name could not be resolved.
    pub address: Option<SocketAddr>,
    /// The Host that `pass_host: node` sends: host, and port unless it is the scheme's own.
    pub host: Vec<u8>,
    /// Its share; 0 is never chosen beside others.
    pub weight: u32,
    /// Nodes of a lower priority are tried when all of a higher one were.
    pub priority: i64,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Its name or id, for logs and properties.
    pub name: String,
    /// Its nodes in the order written.
    pub peers: Vec<Peer>,
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
    /// Its `labels`, for properties.
    pub labels: Vec<(String, String)>,
}
