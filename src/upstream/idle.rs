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
#[derive(Debug)]
pub struct IdlePool<C> {
    by_address: FxHashMap<Address, VecDeque<Idle<C>>>,
}

impl<C> Default for IdlePool<C> {
    fn default() -> Self {
        Self { by_address: FxHashMap::default() }
    }
}

impl<C> IdlePool<C> {
    /// The newest idle connection to that address that `usable` accepts; others on top are dropped.
    pub fn take(
        &mut self,
        address: &Address,
        now_ms: u64,
        mut usable: impl FnMut(&C) -> bool,
    ) -> Option<Idle<C>> {
        let idle = self.by_address.get_mut(address)?;
        while let Some(candidate) = idle.pop_back() {
            if candidate.until_ms > now_ms && usable(&candidate.connection) {
                return Some(candidate);
            }
        }
        None
    }

    /// Keeps a connection that has carried `requests`, if policy allows; the oldest makes room.
    pub fn put(
        &mut self,
        address: Address,
        connection: C,
        requests: u64,
        policy: KeepAlive,
        now_ms: u64,
    ) {
        if requests >= policy.requests_max || policy.idle_max == 0 || policy.idle_ms == 0 {
            return;
        }
        let idle = match self.by_address.get_mut(&address) {
            Some(idle) => idle,
            None => self.by_address.entry(address).or_default(),
        };
        if idle.len() >= policy.idle_max {
            idle.pop_front();
        }
        let until_ms = now_ms + policy.idle_ms;
        idle.push_back(Idle { connection, requests, since_ms: now_ms, until_ms });
    }

    /// Drops what has been idle for too long. The (now empty) lists stay: addresses are few, and a
    /// list made again and again would allocate.
    pub fn sweep(&mut self, now_ms: u64) {
        for idle in self.by_address.values_mut() {
            idle.retain(|candidate| candidate.until_ms > now_ms);
        }
    }

    /// How many connections are kept, and for how long the oldest has been idle.
    #[must_use]
    pub fn level(&self, now_ms: u64) -> (usize, u64) {
        let all = || self.by_address.values().flatten();
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
        pool.take(&address(), now_ms, |_| true).map(|idle| idle.connection)
    }

    #[test]
    fn newest_first_and_bounded() {
        let mut pool = IdlePool::default();
        for connection in ['a', 'b', 'c'] {
            pool.put(address(), connection, 1, POLICY, 0);
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
        pool.put(address(), 'a', 1, POLICY, 0);
        assert_eq!(taken(&mut pool, 100), None, "idle for too long");
        pool.put(address(), 'b', 3, POLICY, 0);
        assert_eq!(taken(&mut pool, 1), None, "carried enough requests");
        pool.put(address(), 'c', 1, POLICY, 0);
        pool.put(address(), 'd', 1, POLICY, 0);
        let fresh = pool.take(&address(), 1, |c| *c != 'd').map(|idle| idle.connection);
        assert_eq!(fresh, Some('c'), "a stale one is passed over");
        pool.put(address(), 'e', 1, POLICY, 0);
        pool.sweep(100);
        assert_eq!(pool.level(100), (0, 0));
    }
}
