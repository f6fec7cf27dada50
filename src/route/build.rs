//! From a list of routes to a router.

use super::candidate::{Candidate, Conditions, Filter, Glob, HostPattern};
use super::table::Table;
use super::tree::TreeBuilder;
use super::{ANY_HOST, Leaf, NONE, RouteMatch, Router, RouterKind};
use crate::expr::canonical_network;
use rustc_hash::FxHashMap;
use std::cmp::Reverse;
use std::sync::Arc;

/// One route under one host and one path.
struct Entry<'a> {
    group: u32,
    /// The exact path, or what stands before the first star.
    key: &'a [u8],
    priority: i64,
    /// Length of the path as it is written.
    written: usize,
    candidate: Candidate,
}

#[derive(Default)]
struct Builder<'a> {
    /// Host as written in lower case → group.
    groups: FxHashMap<String, u32>,
    exact: Vec<Entry<'a>>,
    prefixes: Vec<Entry<'a>>,
    filters: Vec<Filter>,
    candidates: Vec<Candidate>,
}

/// The parts of a route that outlive the building, taken out of it first.
struct Rest {
    groups: Vec<u32>,
    conditions: Option<Arc<Conditions>>,
}

pub(super) fn router(kind: RouterKind, mut routes: Vec<RouteMatch>) -> Router {
    let mut builder = Builder::default();
    let rests: Vec<Rest> = routes.iter_mut().map(|route| builder.rest(kind, route)).collect();
    for (number, (route, rest)) in routes.iter().zip(rests).enumerate() {
        builder.add(number as u32, route, &rest);
    }
    builder.finish()
}

impl<'a> Builder<'a> {
    fn rest(&mut self, kind: RouterKind, route: &mut RouteMatch) -> Rest {
        let hosts = std::mem::take(&mut route.hosts);
        let filtered = kind == RouterKind::Uri;
        let groups = if filtered || hosts.is_empty() {
            vec![ANY_HOST]
        } else {
            hosts.iter().map(|host| self.group(host)).collect()
        };
        let conditions = Conditions {
            remote_addrs: route.remote_addrs.drain(..).map(canonical_network).collect(),
            hosts: hosts.iter().filter(|_| filtered).map(|host| HostPattern::new(host)).collect(),
            vars: route.vars.take(),
        };
        let some = !conditions.remote_addrs.is_empty()
            || !conditions.hosts.is_empty()
            || conditions.vars.is_some();
        Rest { groups, conditions: some.then(|| Arc::new(conditions)) }
    }

    fn group(&mut self, host: &str) -> u32 {
        let next = self.groups.len() as u32 + 1;
        *self.groups.entry(host.to_ascii_lowercase()).or_insert(next)
    }

    fn add(&mut self, number: u32, route: &'a RouteMatch, rest: &Rest) {
        for uri in &route.uris {
            let star = uri.find('*');
            let filter = self.filter(rest, star.and_then(|_| Glob::of(uri)));
            let candidate =
                Candidate { route: number, filter, methods: route.methods, last: false };
            let entries = if star.is_some() { &mut self.prefixes } else { &mut self.exact };
            entries.extend(rest.groups.iter().map(|group| Entry {
                group: *group,
                key: &uri.as_bytes()[..star.unwrap_or(uri.len())],
                priority: route.priority,
                written: uri.len(),
                candidate,
            }));
        }
    }

    /// The index of a filter; a route's paths without stars inside share one.
    fn filter(&mut self, rest: &Rest, glob: Option<Glob>) -> u32 {
        if rest.conditions.is_none() && glob.is_none() {
            return NONE;
        }
        let filter = Filter { conditions: rest.conditions.clone(), rest: glob };
        if self.filters.last() != Some(&filter) {
            self.filters.push(filter);
        }
        self.filters.len() as u32 - 1
    }

    fn finish(mut self) -> Router {
        let exact = self.exact_table();
        let (prefixes, roots) = self.prefix_trees();
        let (hosts, wildcards, wildcards_root) = host_index(&self.groups);
        Router {
            hosts,
            wildcards,
            wildcards_root,
            exact,
            prefixes,
            roots,
            candidates: self.candidates.into(),
            filters: self.filters.into(),
        }
    }

    fn exact_table(&mut self) -> Table<Leaf> {
        let mut entries = std::mem::take(&mut self.exact);
        sort(&mut entries);
        let mut leaves: Vec<(u32, &[u8], Leaf)> = lists(&entries)
            .map(|list| {
                let first = Candidate { last: list.len() == 1, ..list[0].candidate };
                let more = push_list(&mut self.candidates, &list[1..]);
                (list[0].group, list[0].key, Leaf { first, more })
            })
            .collect();
        // Equal paths of different hosts side by side: they share their text.
        leaves.sort_by_key(|(_, path, _)| *path);
        Table::build(leaves.into_iter())
    }

    /// One tree a group, and their roots.
    fn prefix_trees(&mut self) -> (super::Tree, Box<[u32]>) {
        let mut entries = std::mem::take(&mut self.prefixes);
        sort(&mut entries);
        let mut roots = vec![NONE; self.groups.len() + 1];
        let mut trees = TreeBuilder::default();
        for group in entries.chunk_by(|a, b| a.group == b.group) {
            let keys: Vec<(&[u8], u32)> = lists(group)
                .map(|list| (list[0].key, push_list(&mut self.candidates, list)))
                .collect();
            roots[group[0].group as usize] = trees.add(&keys);
        }
        (trees.finish(), roots.into())
    }
}

/// Sorts by key, and under one key in the order candidates are tried. Keeps the order of insertion.
fn sort(entries: &mut [Entry<'_>]) {
    entries.sort_by_key(|e| (e.group, e.key, Reverse(e.priority), Reverse(e.written)));
}

fn lists<'e, 'a>(entries: &'e [Entry<'a>]) -> impl Iterator<Item = &'e [Entry<'a>]> {
    entries.chunk_by(|a, b| (a.group, a.key) == (b.group, b.key))
}

/// Appends a list, marks its end, gives back its index; `NONE` for an empty one.
fn push_list(candidates: &mut Vec<Candidate>, list: &[Entry<'_>]) -> u32 {
    let start = candidates.len() as u32;
    candidates.extend(list.iter().map(|entry| entry.candidate));
    match (list, candidates.last_mut()) {
        ([_, ..], Some(last)) => {
            last.last = true;
            start
        }
        _ => NONE,
    }
}

/// The tables from hosts to groups: exact ones, and wildcards by their reversed suffix.
fn host_index(groups: &FxHashMap<String, u32>) -> (Table<u32>, super::Tree, u32) {
    let mut exact = Vec::new();
    let mut wildcards = Vec::new();
    for (host, &group) in groups {
        match host.strip_prefix('*') {
            None => exact.push((0, host.as_bytes(), group)),
            Some(suffix) => wildcards.push((suffix.bytes().rev().collect::<Vec<u8>>(), group)),
        }
    }
    wildcards.sort_unstable();
    let mut tree = TreeBuilder::default();
    let root = tree.add(&wildcards);
    (Table::build(exact.into_iter()), tree.finish(), root)
}
