//! How an exchange went, in Envoy's words and bits, for properties and logs.

use std::net::SocketAddr;
use std::ops::{BitOr, BitOrAssign};

/// What went wrong, as a set of Envoy's response flags (`envoy/stream_info/stream_info.h`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResponseFlags(u64);

impl ResponseFlags {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// UH: no node of the upstream could be asked.
    pub const NO_HEALTHY_UPSTREAM: Self = Self(0x2);
    /// UT: the upstream took too long.
    pub const UPSTREAM_REQUEST_TIMEOUT: Self = Self(0x4);
    /// LR: a plugin closed the exchange.
    pub const LOCAL_RESET: Self = Self(0x8);
    /// UF: no connection to the upstream could be made.
    pub const UPSTREAM_CONNECTION_FAILURE: Self = Self(0x20);
    /// UC: the upstream's connection ended too early.
    pub const UPSTREAM_CONNECTION_TERMINATION: Self = Self(0x40);
    /// NR: no route matched.
    pub const NO_ROUTE: Self = Self(0x100);
    /// DC: the client's connection ended too early.
    pub const DOWNSTREAM_CONNECTION_TERMINATION: Self = Self(0x4000);
    /// URX: all tries were used up.
    pub const UPSTREAM_RETRY_LIMIT: Self = Self(0x8000);
    /// SI: the client, or a plugin that held the message, did not go on.
    pub const STREAM_IDLE_TIMEOUT: Self = Self(0x1_0000);
    /// DPE: the client's message was malformed.
    pub const DOWNSTREAM_PROTOCOL_ERROR: Self = Self(0x4_0000);
    /// UPE: the upstream's message was malformed.
    pub const UPSTREAM_PROTOCOL_ERROR: Self = Self(0x80_0000);
    /// NC: the route's upstream does not exist.
    pub const NO_CLUSTER: Self = Self(0x100_0000);

    /// Whether all of `other` went wrong.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Envoy's bits.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }
}

impl BitOr for ResponseFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for ResponseFlags {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// What was done to get a response from an upstream. Times are nanoseconds since the epoch by
/// [`Locals::clock`](super::Locals::clock), 0 as long as it has not come to that; they are taken
/// only if somebody may ask: the chain's plugins, the balancer or the access log.
#[derive(Clone, Debug, Default)]
pub struct Attempts {
    /// Connections asked for: tries, and fresh connections in place of stale ones.
    pub count: u32,
    /// The nodes of the upstream.
    pub endpoints: u32,
    /// Our end of the connection in use.
    pub local: Option<SocketAddr>,
    /// Why the last connection could not be made; empty if it could.
    pub failure: Vec<u8>,
    /// When a connection was first asked for.
    pub wanted_ns: u64,
    /// When there was one.
    pub ready_ns: u64,
    /// When the first byte of the request was sent.
    pub sent_ns: u64,
    /// When the response's head was received.
    pub head_ns: u64,
    /// When the last byte of the response was received.
    pub received_ns: u64,
}

impl Attempts {
    pub(super) fn clear(&mut self) {
        let mut failure = std::mem::take(&mut self.failure);
        failure.clear();
        *self = Self { failure, ..Self::default() };
    }

    /// Until there was a connection, in nanoseconds.
    #[must_use]
    pub fn until_ready_ns(&self) -> Option<u64> {
        between(self.wanted_ns, self.ready_ns)
    }

    /// Until the response's head was there, connecting included, in nanoseconds.
    #[must_use]
    pub fn until_head_ns(&self) -> Option<u64> {
        between(self.wanted_ns, self.head_ns)
    }

    /// Until the response's last byte was there, connecting included, in nanoseconds.
    #[must_use]
    pub fn until_received_ns(&self) -> Option<u64> {
        between(self.wanted_ns, self.received_ns)
    }

    /// From the request's first byte to the response's last, in nanoseconds.
    #[must_use]
    pub fn latency_ns(&self) -> Option<u64> {
        between(self.sent_ns, self.received_ns)
    }
}

fn between(from_ns: u64, to_ns: u64) -> Option<u64> {
    (from_ns != 0 && to_ns != 0).then(|| to_ns.saturating_sub(from_ns))
}
