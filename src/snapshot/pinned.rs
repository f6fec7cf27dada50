//! One worker's hold on a snapshot.

use super::Snapshot;
use crate::plugin::RouteFacts;
use crate::upstream::{Peer, RoundRobin};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

/// A snapshot as one worker uses it: counted without atomics, so that workers share no cache line,
/// and with the worker's own place in every upstream's rounds.
#[derive(Debug)]
pub struct Pinned {
    /// The snapshot.
    pub snapshot: Arc<Snapshot>,
    facts: Vec<Rc<RouteFacts>>,
    rounds: RefCell<Vec<RoundRobin>>,
}

impl Pinned {
    /// Pins a snapshot; rounds begin at random nodes.
    #[must_use]
    pub fn new(snapshot: Arc<Snapshot>, random: &mut fastrand::Rng) -> Rc<Self> {
        let facts = snapshot.routes.iter().map(|route| Rc::new(route.facts.clone())).collect();
        let begin = |count: usize| RoundRobin::starting_at(random.usize(0..count.max(1)));
        let rounds = snapshot.upstreams.iter().map(|u| u.peers.len()).map(begin).collect();
        Rc::new(Self { facts, rounds: RefCell::new(rounds), snapshot })
    }

    /// The facts of a route.
    #[must_use]
    pub fn facts(&self, route: u32) -> Rc<RouteFacts> {
        Rc::clone(&self.facts[route as usize])
    }

    /// The next peer of an upstream that is not in `tried`.
    #[must_use]
    pub fn pick(&self, upstream: usize, tried: &[usize]) -> Option<(usize, &Peer)> {
        let peers = &self.snapshot.upstreams[upstream].peers;
        let at = self.rounds.borrow_mut()[upstream].pick(peers, tried)?;
        Some((at, &peers[at]))
    }
}
