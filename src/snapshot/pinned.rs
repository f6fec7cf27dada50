//! One worker's hold on a snapshot.

use super::{Brought, Chain, Route, Snapshot};
use crate::limits;
use crate::persistent::Lazy;
use crate::plugin::RouteRef;
use crate::upstream::{Ask, Balance, InFlight, Picked, Upstream};
use rustc_hash::FxHashMap;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

/// A snapshot as one worker uses it: counted without atomics, so that workers share no cache line,
/// and with the worker's own place in every upstream's rounds.
///
/// What it has of single routes and upstreams comes to be when the first request wants it, and goes
/// on in the next snapshot where that has the same ones: to take a snapshot costs the same however
/// many routes there are.
#[derive(Debug)]
pub struct Pinned {
    /// The snapshot.
    pub snapshot: Arc<Snapshot>,
    facts: Lazy<RouteRef>,
    balances: Lazy<RefCell<Balance>>,
    in_flight: InFlight,
    joined: Rc<RefCell<Joined>>,
    bin: Bin,
}

/// Chains of routes with a consumer's plugins, by the numbers of both, made at their first use;
/// each with the route it is of, for a route's number may become another's.
type Joined = FxHashMap<(u32, u32), (Arc<Route>, Rc<Chain>)>;

impl Pinned {
    /// Pins a snapshot. Rounds begin at random nodes, or go on where they were in the snapshot
    /// `before`; requests that still run by that one count in this one too.
    #[must_use]
    pub fn new(snapshot: Arc<Snapshot>, before: Option<&Self>) -> Rc<Self> {
        let Some(before) = before else {
            let (facts, balances) = (Lazy::of(&snapshot.routes), Lazy::of(&snapshot.upstreams));
            let (in_flight, joined, bin) = Default::default();
            return Rc::new(Self { snapshot, facts, balances, in_flight, joined, bin });
        };
        let old = &before.snapshot;
        Rc::new(Self {
            facts: Lazy::following(&snapshot.routes, &before.facts, &old.routes),
            balances: Lazy::following(&snapshot.upstreams, &before.balances, &old.upstreams),
            in_flight: before.in_flight.clone(),
            joined: match Arc::ptr_eq(&snapshot.consumers, &old.consumers) {
                true => Rc::clone(&before.joined),
                false => Rc::default(),
            },
            bin: before.bin.clone(),
            snapshot,
        })
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
        let Some(Some(of)) = self.snapshot.routes.get(route as usize) else { return Ok(None) };
        let mut joined = self.joined.borrow_mut();
        if let Some((known, chain)) = joined.get(&(route, consumer))
            && Arc::ptr_eq(known, of)
        {
            return Ok(Some(Rc::clone(chain)));
        }
        // Those that are in use begin anew: requests that have one keep it.
        if joined.len() >= limits::JOINED_CHAINS_MAX {
            joined.clear();
        }
        let chain = Rc::new(of.chain.with_consumer(steps));
        joined.insert((route, consumer), (Arc::clone(of), Rc::clone(&chain)));
        Ok(Some(chain))
    }

    /// The facts of a route.
    #[must_use]
    pub fn facts(&self, route: u32) -> RouteRef {
        let make = || Rc::new(Arc::clone(&self.snapshot.route(Some(route)).facts));
        self.facts.get_or_make(route as usize, make).map_or_else(make, Rc::clone)
    }

    /// An upstream of the snapshot.
    #[must_use]
    pub fn upstream(&self, number: usize) -> &Upstream {
        self.snapshot.upstream(number)
    }

    /// The next peer of an upstream.
    #[must_use]
    pub fn pick(&self, upstream: usize, ask: Ask<'_>) -> Option<Picked> {
        let of = self.upstream(upstream);
        let make = || RefCell::new(Balance::new(of, &self.in_flight, ask.random));
        self.balances.get_or_make(upstream, make)?.borrow_mut().pick(of, ask)
    }

    /// A peer has one more request.
    pub fn begin(&self, upstream: usize, peer: usize) {
        self.balances.get(upstream).into_iter().for_each(|balance| balance.borrow().begin(peer));
    }

    /// And one less.
    pub fn end(&self, upstream: usize, peer: usize) {
        self.balances.get(upstream).into_iter().for_each(|balance| balance.borrow().end(peer));
    }

    /// Where this and what follows it leave what is no longer of use.
    #[must_use]
    pub fn bin(&self) -> &Bin {
        &self.bin
    }
}

/// What a worker had of snapshots that are out of use, until it has a moment: a hundred thousand
/// values dropped at once would be a pause.
#[derive(Clone, Debug, Default)]
pub struct Bin(Rc<RefCell<Vec<Waste>>>);

#[derive(Debug)]
struct Waste {
    facts: Lazy<RouteRef>,
    balances: Lazy<RefCell<Balance>>,
    /// Dropped last: what the others point to is not the worker's to drop.
    _snapshot: Arc<Snapshot>,
}

/// Chunks dropped at a time, of each thing that waits: some 10 µs.
const CHUNKS_AT_A_TIME: usize = 4;

impl Bin {
    /// Drops some of what is there.
    pub fn empty_some(&self) {
        let done = |waste: &mut Waste| {
            let left = waste.facts.discard(CHUNKS_AT_A_TIME);
            left > 0 && waste.balances.discard(left) > 0
        };
        self.0.borrow_mut().retain_mut(|waste| !done(waste));
    }

    /// How many snapshots something is there of.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.borrow().len()
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let Self { snapshot, facts, balances, bin, .. } = self;
        let (facts, balances) = (std::mem::take(facts), std::mem::take(balances));
        let waste = Waste { facts, balances, _snapshot: Arc::clone(snapshot) };
        bin.0.borrow_mut().push(waste);
    }
}
