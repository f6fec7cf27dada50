//! Who may have a connection, and how many of them at a time, over all workers; how many requests
//! may run on one of these.
//!
//! ```text
//! accepted ─► fewer than `connections` open? ─► header ─► fewer of this source? ─► served
//!                 │ no                                      │ no
//!                 └────────► 503, some at a time, the rest just closed ◄┘
//! ```

use super::connection::{Downstream, Served};
use super::{Shared, Worker};
use crate::http::Method;
use crate::snapshot::Pinned;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks that sources are spread over: taken when a connection begins and ends.
const SHARDS: usize = 16;

/// Connections of one worker that are told 503 at the same time. Beyond it they are closed without
/// a word: telling must stay cheap.
const TOLD_MAX: usize = 64;

/// Open connections of this process.
#[derive(Debug, Default)]
pub(super) struct Guard {
    open: AtomicUsize,
    sources: [Mutex<HashMap<IpAddr, usize>>; SHARDS],
}

impl Guard {
    /// One connection more; gives how many there are now.
    fn enter(&self) -> usize {
        self.open.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn leave(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// One connection more of a source, unless it has as many as it may.
    fn enter_source(&self, ip: IpAddr, most: usize) -> bool {
        let key = source(ip);
        let mut sources = self.shard(key);
        let count = sources.entry(key).or_default();
        let fits = *count < most;
        *count += usize::from(fits);
        fits
    }

    fn leave_source(&self, ip: IpAddr) {
        let key = source(ip);
        let mut sources = self.shard(key);
        if let Some(count) = sources.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                sources.remove(&key);
            }
        }
    }

    fn shard(&self, key: IpAddr) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        let last = match key {
            IpAddr::V4(ip) => ip.octets()[3],
            IpAddr::V6(ip) => ip.octets()[7],
        };
        let shard = &self.sources[usize::from(last) % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What counts as one source: an IPv4 address, or the network that an IPv6 host is given (/64).
fn source(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// A connection's place among those that are open, given back when it is dropped.
pub(super) struct Pass {
    shared: Arc<Shared>,
    source: Option<IpAddr>,
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.shared.guard.leave();
        if let Some(ip) = self.source {
            self.shared.guard.leave_source(ip);
        }
    }
}

impl Downstream {
    /// Finds a place for the connection; without one, or without the header it must begin with, it
    /// is over.
    pub(super) async fn enter(&mut self, worker: &Rc<Worker>, proxied: bool) -> Option<Pass> {
        let (most, of_a_source) = {
            let rules = &worker.pinned.borrow().snapshot.rules;
            (rules.connections_max, rules.connections_per_source_max)
        };
        let open = worker.shared.guard.enter();
        let mut pass = Pass { shared: Arc::clone(&worker.shared), source: None };
        if open > most {
            self.turn_away(worker).await;
            return None;
        }
        if proxied && !self.learn_origin(worker).await {
            return None;
        }
        if of_a_source == usize::MAX {
            return Some(pass);
        }
        // A plugin may name another client later; it is this one's connection all the same.
        let ip = self.facts.peer.ip();
        if !pass.shared.guard.enter_source(ip, of_a_source) {
            self.turn_away(worker).await;
            return None;
        }
        pass.source = Some(ip);
        Some(pass)
    }

    /// The worker has as many requests as it may: one more is told so at once, so that those that
    /// run stay as fast as they are. Its connection is kept where nothing else must be read from it
    /// first: a new one would cost more than the answer.
    #[cold]
    pub(super) fn shed(&mut self, worker: &Worker, pinned: &Pinned, route: Option<u32>) -> Served {
        worker.counters.shed.up();
        let keeps = self.is_plain(worker, pinned);
        let (answer, page_bytes) =
            self.write_page(worker, 503, !keeps, self.head.method != Method::Head);
        worker.count(pinned, route, &answer);
        if pinned.snapshot.access_log.is_some() {
            self.log_unforwarded(worker, pinned, route, &answer, page_bytes as usize);
        }
        if !keeps {
            return Served::Close;
        }
        self.at += self.head.len;
        self.requests_left -= 1;
        Served::Next
    }

    /// Tells that there is no room, before any request is read.
    async fn turn_away(&mut self, worker: &Rc<Worker>) {
        worker.counters.turned_away.up();
        if worker.telling.get() >= TOLD_MAX {
            return;
        }
        worker.telling.set(worker.telling.get() + 1);
        self.write_error(worker, 503, false);
        if self.send_output(worker).await {
            self.linger(worker).await;
        }
        worker.telling.set(worker.telling.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_counted_apart() {
        let guard = Guard::default();
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert!(guard.enter_source(ip("192.0.2.1"), 2) && guard.enter_source(ip("192.0.2.1"), 2));
        assert!(!guard.enter_source(ip("::ffff:192.0.2.1"), 2), "the same address");
        assert!(guard.enter_source(ip("192.0.2.2"), 2));
        guard.leave_source(ip("192.0.2.1"));
        assert!(guard.enter_source(ip("192.0.2.1"), 2));
        assert!(guard.enter_source(ip("2001:db8::1"), 1));
        assert!(!guard.enter_source(ip("2001:db8::2"), 1), "the same network");
        assert!(guard.enter_source(ip("2001:db8:0:1::1"), 1));
        for gone in ["192.0.2.1", "192.0.2.1", "192.0.2.2", "2001:db8::9", "2001:db8:0:1::1"] {
            guard.leave_source(ip(gone));
        }
        assert!(guard.sources.iter().all(|shard| shard.lock().expect("unpoisoned").is_empty()));
    }
}
