//! What single routes answered on one worker.

use super::{Counter, Latency};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Different statuses counted for one route; all others together are one more. Routes answer with a
/// handful, and a plugin that makes them up must not fill the memory.
const STATUSES_MAX: usize = 16;

/// One route on one worker. Only that worker writes; anyone may read.
#[derive(Debug, Default)]
pub struct RouteCounters {
    statuses: [(AtomicU16, Counter); STATUSES_MAX],
    others: Counter,
    /// Bytes received: heads, and bodies as far as they were read.
    pub ingress: Counter,
    /// Bytes sent.
    pub egress: Counter,
    /// From a request's head to the end of its response, of requests that were not answered by a
    /// prepared response: those take no measurable time.
    pub latency: Latency,
}

/// What a route is called in the exposition.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteLabels {
    /// Its id; empty for requests without a route.
    pub route: Box<str>,
    /// The id of its service, if it has one.
    pub service: Box<str>,
}

/// The routes that answered on one worker, in parts with a lock each: the worker takes one when a
/// route answers for the first time, and must not wait then while somebody reads a hundred
/// thousand.
#[derive(Debug, Default)]
pub struct Routes([Mutex<Part>; PARTS]);

type Part = HashMap<Arc<RouteLabels>, Arc<RouteCounters>>;

const PARTS: usize = 32;

impl RouteCounters {
    /// Counts a response.
    #[inline]
    pub fn count(&self, status: u16, ingress: u64, egress: u64) {
        self.ingress.add(ingress);
        self.egress.add(egress);
        for (code, counter) in &self.statuses {
            match code.load(Ordering::Relaxed) {
                // Nobody else writes, so a free place stays free until it is taken here.
                0 if status != 0 => code.store(status, Ordering::Relaxed),
                found if found == status => {}
                _ => continue,
            }
            counter.up();
            return;
        }
        self.others.up();
    }

    /// The statuses answered and how often. `None`: all that found no place of their own.
    pub fn statuses(&self) -> impl Iterator<Item = (Option<u16>, u64)> {
        let known = self.statuses.iter().map(|(code, counter)| {
            (Some(code.load(Ordering::Relaxed)).filter(|code| *code != 0), counter.get())
        });
        known.chain([(None, self.others.get())]).filter(|(_, count)| *count > 0)
    }
}

impl Routes {
    /// The counters of a route; they count on where they are when a later snapshot has it again.
    pub fn of(&self, labels: RouteLabels) -> Arc<RouteCounters> {
        let mut hasher = DefaultHasher::new();
        labels.hash(&mut hasher);
        let part = &self.0[hasher.finish() as usize % PARTS];
        Arc::clone(lock(part).entry(Arc::new(labels)).or_default())
    }

    /// Forgets routes that are gone and that nobody counts for any more.
    pub fn keep(&self, is_there: impl Fn(&RouteLabels) -> bool) {
        let is_counted = |counters: &Arc<RouteCounters>| Arc::strong_count(counters) > 1;
        for part in &self.0 {
            lock(part).retain(|labels, counters| is_counted(counters) || is_there(labels));
        }
    }

    /// All of them now.
    #[must_use]
    pub fn all(&self) -> Vec<(Arc<RouteLabels>, Arc<RouteCounters>)> {
        let mut all = Vec::new();
        for part in &self.0 {
            let known = lock(part);
            all.extend(known.iter().map(|(labels, one)| (Arc::clone(labels), Arc::clone(one))));
        }
        all
    }
}

/// Nothing here is left half done when a thread panics.
fn lock(part: &Mutex<Part>) -> MutexGuard<'_, Part> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_beyond_the_places_are_counted_together() {
        let route = RouteCounters::default();
        (200..300).for_each(|status| route.count(status, 1, 2));
        route.count(200, 0, 0);
        route.count(0, 0, 0);
        let statuses: Vec<_> = route.statuses().collect();
        assert_eq!(statuses[0], (Some(200), 2));
        assert_eq!(statuses[STATUSES_MAX - 1], (Some(215), 1));
        assert_eq!(statuses[STATUSES_MAX], (None, 100 - STATUSES_MAX as u64 + 1));
        assert_eq!((route.ingress.get(), route.egress.get()), (100, 200));
    }

    #[test]
    fn routes_keep_their_counters() {
        let routes = Routes::default();
        let labels = |route: &str| RouteLabels { route: route.into(), service: "s".into() };
        routes.of(labels("a")).count(200, 0, 0);
        routes.of(labels("b"));
        let late = routes.of(labels("c"));
        assert_eq!(routes.of(labels("a")).statuses().collect::<Vec<_>>(), [(Some(200), 1)]);
        let names = || {
            let mut names: Vec<_> =
                routes.all().into_iter().map(|(labels, _)| labels.route.clone()).collect();
            names.sort_unstable();
            names
        };
        routes.keep(|labels| &*labels.route == "b");
        assert_eq!(names(), ["b".into(), "c".into()], "somebody still counts for c");
        drop(late);
        routes.keep(|labels| &*labels.route == "b");
        assert_eq!(names(), ["b".into()]);
    }
}
