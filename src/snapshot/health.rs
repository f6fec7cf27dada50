//! How the nodes of upstreams with health checks are, for operators.

use super::Snapshot;
use crate::upstream::{Health, Peer, Probe, Upstream};
use std::net::SocketAddr;

/// The nodes of one upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamHealth<'a> {
    /// The resource it stands in, as APISIX names it: `/apisix/upstreams/1`, `/apisix/routes/r`.
    pub name: &'a str,
    /// `type` of its probes: `http`, `https` or `tcp`.
    pub kind: &'static str,
    /// In the order of the configuration.
    pub nodes: Vec<NodeHealth<'a>>,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeHealth<'a> {
    /// As the configuration names it.
    pub host: &'a str,
    /// Its port; 0 for a unix socket.
    pub port: u16,
    /// Where it is, if that is known and no unix socket.
    pub address: Option<SocketAddr>,
    /// Its state and the counters behind it.
    pub health: Health,
}

impl Snapshot {
    /// All upstreams that have health checks.
    pub fn health(&self) -> impl Iterator<Item = UpstreamHealth<'_>> {
        self.upkeep.iter().filter_map(|upstream| {
            let checks = upstream.checks.as_ref()?;
            let kind = match checks.active.probe {
                Probe::Tcp => "tcp",
                Probe::Http { tls: None, .. } => "http",
                Probe::Http { tls: Some(_), .. } => "https",
            };
            Some(UpstreamHealth { name: upstream.board.key(), kind, nodes: nodes(upstream) })
        })
    }
}

fn nodes(upstream: &Upstream) -> Vec<NodeHealth<'_>> {
    let node = |peer: &'_ Peer| (peer.node.addresses(), peer.node.health());
    let seen = upstream.peers.iter().map(|peer| (peer, node(peer)));
    let shown = seen.map(|(peer, (addresses, health))| NodeHealth {
        host: &peer.node.host,
        port: peer.node.port,
        address: addresses.first().and_then(|address| address.inet()),
        health,
    });
    shown.collect()
}
