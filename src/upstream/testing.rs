//! Upstreams for tests.

use super::*;
use std::time::Duration;

/// Peers at 10.0.0.1, 10.0.0.2, …, port 80, with these weights.
pub(super) fn peers(weights: &[u32]) -> Vec<Peer> {
    let board = Board::new("/apisix/upstreams/test");
    let peer = |(last, weight): (u8, &u32)| {
        let node = board.node(&format!("10.0.0.{last}"), 80);
        node.set_addresses(&[Address::from(([10, 0, 0, last], 80))]);
        Peer { node, host: vec![], weight: *weight, priority: 0 }
    };
    (1..).zip(weights).map(peer).collect()
}

/// An upstream of those.
pub(super) fn upstream(peers: Vec<Peer>, balancer: Balancer) -> Upstream {
    Upstream::new(peers[0].node.board(), peers, balancer)
}

/// Checks with which every event counts at once.
pub(super) fn checks() -> Checks {
    let thresholds = Thresholds { successes: 1, http_failures: 1, tcp_failures: 1, timeouts: 1 };
    Checks {
        active: Active {
            lead: Vec::new(),
            probe: Probe::Tcp,
            timeout: Duration::from_secs(1),
            concurrency: 1,
            port: None,
            healthy_every: None,
            unhealthy_every: None,
            thresholds,
        },
        passive: Passive { statuses: None, thresholds },
    }
}
