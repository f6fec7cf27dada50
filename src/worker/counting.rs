//! Counting what was answered, route by route: plain stores into cells of this worker.

use super::Worker;
use crate::snapshot::{Pinned, Route, Snapshot};
use crate::stats::{RouteCounters, RouteLabels};
use std::collections::HashSet;
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

/// The counters of the current snapshot's routes, by number; those without a route have the last
/// place. Each is looked up when it is first needed.
#[derive(Default)]
pub(super) struct RouteCells {
    snapshot: u64,
    cells: Vec<Option<Arc<RouteCounters>>>,
}

impl RouteCells {
    fn new(snapshot: &Snapshot) -> Self {
        Self { snapshot: snapshot.number, cells: vec![None; snapshot.routes.len() + 1] }
    }
}

impl Worker {
    /// Counts a request and its response.
    pub(super) fn count(&self, pinned: &Pinned, route: Option<u32>, answer: &Answer) {
        self.counters.count_response(answer.status);
        let snapshot = &pinned.snapshot;
        let find = || self.counters.routes.of(labels(snapshot.route(route)));
        let mut cells = self.routes.borrow_mut();
        // One that outlived its snapshot is looked up by name.
        let late;
        let counters = if cells.snapshot == snapshot.number {
            let at = route.map_or(snapshot.routes.len(), |route| route as usize);
            cells.cells[at].get_or_insert_with(find)
        } else {
            late = find();
            &late
        };
        counters.count(answer.status, answer.ingress, answer.egress);
        if let Some(ns) = answer.latency_ns {
            counters.latency.count(ns);
        }
    }

    /// A snapshot was taken: what its routes don't have any more is forgotten.
    pub(super) fn count_for(&self, snapshot: &Snapshot) {
        *self.routes.borrow_mut() = RouteCells::new(snapshot);
        let routes = snapshot.routes.iter().chain([&snapshot.unmatched]);
        let there: HashSet<_> = routes.map(labels).collect();
        self.counters.routes.keep(|labels| there.contains(labels));
        self.counters.snapshot.set(snapshot.number);
    }
}

fn labels(route: &Route) -> RouteLabels {
    let facts = &route.facts;
    RouteLabels { route: facts.route_id.as_str().into(), service: facts.service_id.as_str().into() }
}
