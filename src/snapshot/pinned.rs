//! One worker's hold on a snapshot.

use super::{Brought, Chain, Snapshot};
use crate::limits;
use crate::plugin::RouteFacts;
use crate::upstream::{Ask, Balance, Picked};
use rustc_hash::FxHashMap;
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
    balances: RefCell<Vec<Balance>>,
    /// Chains of routes with a consumer's plugins, made at their first use.
    joined: RefCell<FxHashMap<(u32, u32), Rc<Chain>>>,
}

impl Pinned {
    /// Pins a snapshot; rounds begin at random nodes. Requests that are still running by the
    /// snapshot `before` count in this one too.
    #[must_use]
    pub fn new(
        snapshot: Arc<Snapshot>,
        before: Option<&Self>,
        random: &mut fastrand::Rng,
    ) -> Rc<Self> {
        let facts = snapshot.routes.iter().map(|route| Rc::new(route.facts.clone())).collect();
        let known = before.map(|before| (before.numbers_by_key(), before.balances.borrow()));
        let balance = |upstream: &crate::upstream::Upstream| {
            let of_before = known.as_ref().and_then(|(numbers, balances)| {
                Some(&balances[*numbers.get(upstream.board.key())?])
            });
            Balance::new(upstream, of_before, random)
        };
        let balances = snapshot.upstreams.iter().map(balance).collect();
        let joined = RefCell::default();
        Rc::new(Self { facts, balances: RefCell::new(balances), joined, snapshot })
    }

    /// The chain of a route with what a consumer brings along. `Ok(None)`: it brings nothing.
    ///
    /// # Errors
    /// The status that such a request is answered with.
    pub fn chain_with(&self, route: u32, username: &str) -> Result<Option<Rc<Chain>>, u16> {
        let Some(consumer) = self.snapshot.consumers.number(username) else { return Ok(None) };
        let steps = match self.snapshot.consumers.of(consumer) {
            Brought::Steps(steps) => steps,
            Brought::Status(status) => return Err(*status),
        };
        let mut joined = self.joined.borrow_mut();
        if let Some(chain) = joined.get(&(route, consumer)) {
            return Ok(Some(Rc::clone(chain)));
        }
        // Those that are in use begin anew: requests that have one keep it.
        if joined.len() >= limits::JOINED_CHAINS_MAX {
            joined.clear();
        }
        let own = &self.snapshot.routes[route as usize].chain;
        let chain = Rc::new(own.with_consumer(steps));
        joined.insert((route, consumer), Rc::clone(&chain));
        Ok(Some(chain))
    }

    fn numbers_by_key(&self) -> FxHashMap<&str, usize> {
        let upstreams = self.snapshot.upstreams.iter().enumerate();
        upstreams.map(|(number, upstream)| (upstream.board.key(), number)).collect()
    }

    /// The facts of a route.
    #[must_use]
    pub fn facts(&self, route: u32) -> Rc<RouteFacts> {
        Rc::clone(&self.facts[route as usize])
    }

    /// The next peer of an upstream.
    #[must_use]
    pub fn pick(&self, upstream: usize, ask: Ask<'_>) -> Option<Picked> {
        let of = &self.snapshot.upstreams[upstream];
        self.balances.borrow_mut()[upstream].pick(of, ask)
    }

    /// A peer has one more request.
    pub fn begin(&self, upstream: usize, peer: usize) {
        self.balances.borrow()[upstream].begin(peer);
    }

    /// And one less.
    pub fn end(&self, upstream: usize, peer: usize) {
        self.balances.borrow()[upstream].end(peer);
    }
}
