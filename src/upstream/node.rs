//! What all workers and the control side know of the nodes of an upstream, kept from one snapshot
//! to the next.
//!
//! ```text
//! NodeTable ─ an upstream's key ─► Board ─ host, port ─► Node: addresses, health, latency
//!                                    └ version: counts changes of addresses and health
//! ```
//!
//! A worker compares versions at each pick: one load. Only when something changed does it look at
//! the nodes again.

use super::ewma::Latency;
use super::health::{Health, Report, SharedHealth};
use super::warmth::Warmth;
use super::{Address, Thresholds};
use rustc_hash::FxHashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// One node, as everybody sees it.
#[derive(Debug)]
pub struct Node {
    /// As the configuration names it: an address, a name, or `unix:` and a path.
    pub host: Box<str>,
    /// Its port; 0 for a unix socket.
    pub port: u16,
    /// Only looked at when the version changed.
    addresses: Mutex<Arc<[Address]>>,
    health: SharedHealth,
    /// For the balancer `ewma`.
    pub(super) latency: Latency,
    pub(super) warmth: Warmth,
    board: Arc<Board>,
}

impl Node {
    /// Where it listens; nothing if its name could not be resolved yet.
    #[must_use]
    pub fn addresses(&self) -> Arc<[Address]> {
        Arc::clone(&self.addresses.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Its name was resolved; tells whether that changed anything.
    pub fn set_addresses(&self, addresses: &[Address]) -> bool {
        let mut known = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if **known == *addresses {
            return false;
        }
        *known = addresses.into();
        drop(known);
        self.board.change();
        true
    }

    /// The upstream it is of.
    #[cfg(test)]
    pub(super) fn board(&self) -> Arc<Board> {
        Arc::clone(&self.board)
    }

    /// How it is.
    #[must_use]
    pub fn health(&self) -> Health {
        self.health.get()
    }

    /// Something happened with it.
    pub fn report(&self, report: Report, thresholds: &Thresholds) {
        let changed = self.health.report(report, thresholds.of(report));
        if let Some((before, after)) = changed
            && before.is_usable() != after.is_usable()
        {
            if after.is_usable() {
                self.warmth.cool();
            }
            self.board.change();
            let (Self { host, port, .. }, key) = (self, &self.board.key);
            log::warn!("node {host}:{port} of {key} is {}", after.as_str());
        }
    }
}

/// Host and port, as configured.
type Place = (Box<str>, u16);

/// The nodes of one upstream, whichever snapshots it is in.
#[derive(Debug)]
pub struct Board {
    key: Box<str>,
    version: AtomicU64,
    /// Requests were served: what nodes there are now no longer came with the first snapshot.
    serves: AtomicBool,
    nodes: Mutex<FxHashMap<Place, Weak<Node>>>,
}

impl Board {
    /// An upstream that nobody else knows.
    #[must_use]
    pub fn new(key: &str) -> Arc<Self> {
        let (version, nodes) = (AtomicU64::new(1), Mutex::default());
        Arc::new(Self { key: key.into(), version, serves: AtomicBool::new(false), nodes })
    }

    /// The node of that host and port; a new one has no address.
    pub fn node(self: &Arc<Self>, host: &str, port: u16) -> Arc<Node> {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.retain(|_, node| node.strong_count() > 0);
        let known = nodes.entry((host.into(), port)).or_default();
        known.upgrade().unwrap_or_else(|| {
            let node = Arc::new(Node {
                host: host.into(),
                port,
                addresses: Mutex::new(Arc::new([])),
                health: SharedHealth::default(),
                latency: Latency::default(),
                warmth: Warmth::new(self.serves.load(Ordering::Relaxed)),
                board: Arc::clone(self),
            });
            *known = Arc::downgrade(&node);
            node
        })
    }

    /// The upstream's key, as in APISIX's store: `/apisix/upstreams/1`.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Counts up with every change that balancers must see.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// A worker chooses among its nodes.
    pub(super) fn serve(&self) {
        self.serves.store(true, Ordering::Relaxed);
    }

    fn change(&self) {
        self.version.fetch_add(1, Ordering::AcqRel);
    }
}

/// Boards that are not swept; many more than those in use are not kept.
const SWEEP_AT_MIN: usize = 64;

/// The boards of all upstreams that a snapshot still has.
#[derive(Debug, Default)]
pub struct NodeTable {
    boards: Mutex<Boards>,
}

#[derive(Debug, Default)]
struct Boards {
    by_key: FxHashMap<Box<str>, Weak<Board>>,
    /// With so many of them those that are gone are looked for.
    sweep_at: usize,
}

impl NodeTable {
    /// The board of an upstream.
    pub fn board(&self, key: &str) -> Arc<Board> {
        let mut boards = self.boards.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(board) = boards.by_key.get(key).and_then(Weak::upgrade) {
            return board;
        }
        if boards.by_key.len() >= boards.sweep_at {
            boards.by_key.retain(|_, board| board.strong_count() > 0);
            boards.sweep_at = boards.by_key.len() * 2 + SWEEP_AT_MIN;
        }
        let board = Board::new(key);
        boards.by_key.insert(key.into(), Arc::downgrade(&board));
        board
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Status;

    const LIMITS: Thresholds =
        Thresholds { successes: 1, http_failures: 1, tcp_failures: 2, timeouts: 1 };

    #[test]
    fn nodes_outlive_a_snapshot_as_long_as_another_has_them() {
        let table = NodeTable::default();
        let board = table.board("/apisix/upstreams/1");
        let node = board.node("a", 80);
        node.report(Report::Timeout, &LIMITS);
        let again = table.board("/apisix/upstreams/1").node("a", 80);
        assert!(Arc::ptr_eq(&node, &again));
        assert_eq!(again.health().status, Status::Unhealthy);
        assert_eq!(board.node("a", 81).health().status, Status::Healthy);
        drop((node, again));
        assert_eq!(board.node("a", 80).health().status, Status::Healthy, "a new node");
        drop(board);
        assert_eq!(table.board("/apisix/upstreams/1").version(), 1, "a new board");
    }

    #[test]
    fn versions_change_when_balancers_must_look() {
        let board = Board::new("u");
        let (node, address) = (board.node("a", 80), Address::from(([10, 0, 0, 1], 80)));
        assert!(node.set_addresses(std::slice::from_ref(&address)));
        assert_eq!(board.version(), 2);
        assert!(!node.set_addresses(&[address]), "the same again");
        node.report(Report::TcpFailure, &LIMITS);
        assert_eq!(board.version(), 2, "mostly healthy is used all the same");
        node.report(Report::TcpFailure, &LIMITS);
        assert_eq!(board.version(), 3);
    }
}
