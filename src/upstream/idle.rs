//! Idle connections of one worker, newest first: the newest is the least likely to be stale, and
//! the oldest can time out.

use super::{Address, KeepAlive};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;

/// A connection between two requests.
#[derive(Debug)]
pub struct Idle<C> {
    /// The connection.
    pub connection: C,
    /// Requests it carried so far.
    pub requests: u64,
    /// Since when it is idle.
    since_ms: u64,
    /// After when it is no longer used.
    until_ms: u64,
}

/// All idle connections of a worker, by address.
///
/// Each address has a shelf, which stays once it is there: addresses are few, and a list made again
/// and again would allocate. Who remembers the shelf need not look for it.
#[derive(Debug)]
pub struct IdlePool<C> {
    shelves: Vec<(Address, VecDeque<Idle<C>>)>,
    by_address: FxHashMap<Address, Shelf>,
    /// The one that was looked for last.
    last: Shelf,
}

/// Where the connections to one address are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shelf(usize);

impl<C> Default for IdlePool<C> {
    fn default() -> Self {
        let last = Shelf::default();
        Self { shelves: Vec::new(), by_address: FxHashMap::default(), last }
    }
}

impl<C> IdlePool<C> {
    /// The newest idle connection to that address that `usable` accepts, and its shelf; others on
    /// top are dropped.
    pub fn take(
        &mut self,
        address: &Address,
        now_ms: u64,
        mut usable: impl FnMut(&C) -> bool,
    ) -> Option<(Shelf, Idle<C>)> {
        let shelf = self.find(address, self.last)?;
        self.last = shelf;
        let idle = &mut self.shelves[shelf.0].1;
        while let Some(candidate) = idle.pop_back() {
            if candidate.until_ms > now_ms && usable(&candidate.connection) {
                return Some((shelf, candidate));
            }
        }
        None
    }

    /// Keeps a connection that has carried `requests`, if policy allows; the oldest makes room.
    /// `shelf`: where its like may be.
    pub fn put(
        &mut self,
        (address, shelf): (Address, Shelf),
        connection: C,
        requests: u64,
        policy: KeepAlive,
        now_ms: u64,
    ) {
        if requests >= policy.requests_max || policy.idle_max == 0 || policy.idle_ms == 0 {
            return;
        }
        let shelf = self.find(&address, shelf).unwrap_or_else(|| self.add(address));
        let idle = &mut self.shelves[shelf.0].1;
        if idle.len() >= policy.idle_max {
            idle.pop_front();
        }
        let until_ms = now_ms + policy.idle_ms;
        idle.push_back(Idle { connection, requests, since_ms: now_ms, until_ms });
    }

    /// The shelf of an address; `likely` is looked at first.
    fn find(&self, address: &Address, likely: Shelf) -> Option<Shelf> {
        match self.shelves.get(likely.0) {
            Some((known, _)) if known == address => Some(likely),
            _ => self.by_address.get(address).copied(),
        }
    }

    #[cold]
    fn add(&mut self, address: Address) -> Shelf {
        let shelf = Shelf(self.shelves.len());
        self.shelves.push((address.clone(), VecDeque::new()));
        self.by_address.insert(address, shelf);
        shelf
    }

    /// Drops what has been idle for too long.
    pub fn sweep(&mut self, now_ms: u64) {
        for (_, idle) in &mut self.shelves {
            idle.retain(|candidate| candidate.until_ms > now_ms);
        }
    }

    /// How many connections are kept, and for how long the oldest has been idle.
    #[must_use]
    pub fn level(&self, now_ms: u64) -> (usize, u64) {
        let all = || self.shelves.iter().flat_map(|(_, idle)| idle);
        let oldest = all().map(|idle| now_ms.saturating_sub(idle.since_ms)).max();
        (all().count(), oldest.unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: KeepAlive = KeepAlive { idle_max: 2, idle_ms: 100, requests_max: 3 };

    fn address() -> Address {
        Address::from(([127, 0, 0, 1], 80))
    }

    fn taken(pool: &mut IdlePool<char>, now_ms: u64) -> Option<char> {
        pool.take(&address(), now_ms, |_| true).map(|(_, idle)| idle.connection)
    }

    #[test]
    fn newest_first_and_bounded() {
        let mut pool = IdlePool::default();
        for connection in ['a', 'b', 'c'] {
            pool.put((address(), Shelf(0)), connection, 1, POLICY, 0);
        }
        assert_eq!(pool.level(5), (2, 5));
        assert_eq!(
            [taken(&mut pool, 1), taken(&mut pool, 1), taken(&mut pool, 1)],
            [Some('c'), Some('b'), None]
        );
    }

    #[test]
    fn old_worn_and_stale_ones_are_not_used() {
        let mut pool = IdlePool::default();
        pool.put((address(), Shelf(0)), 'a', 1, POLICY, 0);
        assert_eq!(taken(&mut pool, 100), None, "idle for too long");
        pool.put((address(), Shelf(0)), 'b', 3, POLICY, 0);
        assert_eq!(taken(&mut pool, 1), None, "carried enough requests");
        pool.put((address(), Shelf(0)), 'c', 1, POLICY, 0);
        pool.put((address(), Shelf(0)), 'd', 1, POLICY, 0);
        let fresh = pool.take(&address(), 1, |c| *c != 'd').map(|(_, idle)| idle.connection);
        assert_eq!(fresh, Some('c'), "a stale one is passed over");
        pool.put((address(), Shelf(0)), 'e', 1, POLICY, 0);
        pool.sweep(100);
        assert_eq!(pool.level(100), (0, 0));
    }

    #[test]
    fn each_address_has_its_shelf_whichever_is_looked_at_first() {
        let mut pool = IdlePool::default();
        let addresses = [1, 2, 3].map(|last| Address::from(([127, 0, 0, last], 80)));
        for (at, address) in addresses.iter().enumerate() {
            for hint in 0..4 {
                pool.put((address.clone(), Shelf(hint)), (at, hint), 1, POLICY, 0);
            }
        }
        for (at, address) in addresses.iter().enumerate() {
            let (shelf, idle) = pool.take(address, 1, |_| true).expect("one is there");
            assert_eq!((shelf, idle.connection), (Shelf(at), (at, 3)));
        }
        assert_eq!(pool.level(1).0, 3, "two were kept of each");
    }
}
