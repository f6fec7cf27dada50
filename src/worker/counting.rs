//! Counting what was answered, route by route: plain stores into cells of this worker.

use super::Worker;
use crate::persistent::Lazy;
use crate::snapshot::{Pinned, Route, Snapshot};
use crate::stats::{RouteCounters, RouteLabels};
use std::cell::OnceCell;
use std::sync::Arc;

/// What one request came to.
pub(super) struct Answer {
    pub(super) status: u16,
    /// Bytes received for it and sent.
    pub(super) ingress: u64,
    pub(super) egress: u64,
    /// From its head to the end of its response, where that was measured.
    pub(super) latency_ns: Option<u64>,
}

/// The counters of the current snapshot's routes, by number. Each is looked up when it is first
/// needed, and goes on in the next snapshot where that has the same route.
pub(super) struct RouteCells {
    snapshot: u64,
    cells: Lazy<Arc<RouteCounters>>,
    /// Of requests without a route.
    unmatched: OnceCell<Arc<RouteCounters>>,
}

/// Chunks of cells dropped at a time, of each snapshot that is out of use.
const CHUNKS_AT_A_TIME: usize = 4;

impl RouteCells {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let cells = Lazy::of(&snapshot.routes);
        Self { snapshot: snapshot.number, cells, unmatched: OnceCell::new() }
    }

    fn following(&self, snapshot: &Snapshot, before: &Snapshot) -> Self {
        let cells = Lazy::following(&snapshot.routes, &self.cells, &before.routes);
        Self { snapshot: snapshot.number, cells, unmatched: self.unmatched.clone() }
    }

    /// Drops some cells; tells whether that was all.
    pub(super) fn discard_some(&mut self) -> bool {
        self.cells.discard(CHUNKS_AT_A_TIME) > 0
    }
}

impl Worker {
    /// Counts a request and its response.
    pub(super) fn count(&self, pinned: &Pinned, route: Option<u32>, answer: &Answer) {
        self.counters.count_response(answer.status);
        let snapshot = &pinned.snapshot;
        let find = || self.counters.routes.of(labels(snapshot.route(route)));
        let cells = self.routes.borrow();
        let known = match route {
            // One that outlived its snapshot is looked up by name.
            _ if cells.snapshot != snapshot.number => None,
            Some(route) => cells.cells.get_or_make(route as usize, find),
            None => Some(cells.unmatched.get_or_init(find)),
        };
        let late;
        let counters = match known {
            Some(counters) => counters,
            None => {
                late = find();
                &late
            }
        };
        counters.count(answer.status, answer.ingress, answer.egress);
        if let Some(ns) = answer.latency_ns {
            counters.latency.count(ns);
        }
    }

    /// A snapshot was taken after another one.
    pub(super) fn count_for(&self, snapshot: &Snapshot, before: &Snapshot) {
        let next = self.routes.borrow().following(snapshot, before);
        self.old_cells.borrow_mut().push(self.routes.replace(next));
        self.counters.snapshot.set(snapshot.number);
    }
}

fn labels(route: &Route) -> RouteLabels {
    let [route, service] = route.labels().map(Into::into);
    RouteLabels { route, service }
}
