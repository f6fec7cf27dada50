//! From one router to the next: routes that come, change and go.

use super::candidate::{Candidate, Conditions, Glob, HostPattern, Part, Rest};
use super::table::{Table, hash};
use super::tree::Tree;
use super::{ANY_HOST, Leaf, NONE, RouteMatch, Router, RouterKind};
use rustc_hash::FxHashMap;
use std::cmp::Reverse;
use std::sync::Arc;

/// One route that comes, changes or goes.
#[derive(Clone, Debug, Default)]
pub struct Edit {
    /// Its number: nobody else's before or after.
    pub number: u32,
    /// What it was, if it was there. Only its hosts and paths are looked at.
    pub before: Option<RouteMatch>,
    /// What it is from now on, if it stays.
    pub after: Option<RouteMatch>,
}

/// A route comes to a path, or leaves it.
struct Step<'e> {
    is_prefix: bool,
    group: u32,
    /// The exact path, or what stands before the first star.
    key: &'e [u8],
    route: u32,
    /// `None`: it leaves.
    candidate: Option<Candidate>,
}

impl Step<'_> {
    fn place(&self) -> (bool, u32, &[u8]) {
        (self.is_prefix, self.group, self.key)
    }
}

impl Router {
    /// The router after edits, each of another route. It finds what one of all routes would.
    #[must_use]
    pub fn edit(&self, edits: &[Edit]) -> Self {
        let mut next = self.clone();
        next.add_hosts(edits);
        let mut steps = Vec::with_capacity(edits.len());
        for edit in edits {
            next.steps(edit, &mut steps);
        }
        // What leaves and what comes keep their order.
        steps.sort_by(|a, b| a.place().cmp(&b.place()));
        let exact = steps.partition_point(|step| !step.is_prefix);
        let (exact, prefixes) = steps.split_at(exact);
        next.edit_exact(exact);
        for group in prefixes.chunk_by(|a, b| a.group == b.group) {
            next.edit_prefixes(group);
        }
        next
    }

    /// Gives groups to hosts that have none.
    fn add_hosts(&mut self, edits: &[Edit]) {
        let mut new: FxHashMap<String, u32> = FxHashMap::default();
        let after = edits.iter().filter_map(|edit| edit.after.as_ref());
        let hosts = after.filter(|_| self.kind == RouterKind::HostUri).flat_map(|m| &m.hosts);
        for host in hosts {
            let host = host.to_ascii_lowercase();
            if self.group(&host).is_none() && !new.contains_key(&host) {
                new.insert(host, self.groups);
                self.groups += 1;
            }
        }
        let exact = new.iter().filter(|(host, _)| !host.starts_with('*'));
        let exact: Vec<_> = exact.map(|(host, group)| (0, host.as_bytes(), Some(*group))).collect();
        self.hosts = self.hosts.edit(&exact);
        let wildcards = new.iter().filter_map(|(host, group)| Some((reversed(host)?, *group)));
        let mut wildcards: Vec<_> = wildcards.collect();
        if !wildcards.is_empty() {
            wildcards.append(&mut self.wildcards.keys());
            wildcards.sort_unstable();
            self.wildcards = Tree::build(&wildcards);
        }
    }

    /// The group of a host in lower case.
    fn group(&self, host: &str) -> Option<u32> {
        match reversed(host) {
            Some(suffix) => self.wildcards.get(&suffix),
            None => self.hosts.find(0, hash(host.as_bytes()), host.as_bytes()).copied(),
        }
    }

    fn groups_of(&self, route: &RouteMatch) -> Vec<u32> {
        if self.kind == RouterKind::Uri || route.hosts.is_empty() {
            return vec![ANY_HOST];
        }
        let groups = route.hosts.iter().filter_map(|host| self.group(&host.to_ascii_lowercase()));
        groups.collect()
    }

    /// What an edit does, path by path; sets the route's part.
    fn steps<'e>(&mut self, edit: &'e Edit, steps: &mut Vec<Step<'e>>) {
        if let Some(before) = &edit.before {
            self.steps_of(edit.number, before, |_| None, steps);
        }
        let Some(after) = &edit.after else {
            return self.parts.set(edit.number as usize, Part::default());
        };
        let conditions = self.conditions(after);
        let mut globs = 0;
        let candidate = |uri: &str| {
            let glob = uri.contains('*') && Glob::of(uri).is_some();
            let rest = match (glob, conditions.is_some()) {
                (true, _) => Rest(globs),
                (false, true) => Rest::NO_GLOB,
                (false, false) => Rest::NOTHING,
            };
            globs += u32::from(glob);
            let written = u16::try_from(uri.len()).unwrap_or(u16::MAX);
            Some(Candidate { route: edit.number, rest, methods: after.methods, written })
        };
        self.steps_of(edit.number, after, candidate, steps);
        let (priority, order) = (after.priority, Arc::clone(&after.order));
        self.parts.set(edit.number as usize, Part { priority, order, conditions });
    }

    fn steps_of<'e>(
        &self,
        route: u32,
        of: &'e RouteMatch,
        mut candidate: impl FnMut(&str) -> Option<Candidate>,
        steps: &mut Vec<Step<'e>>,
    ) {
        let groups = self.groups_of(of);
        for uri in &of.uris {
            let (star, candidate) = (uri.find('*'), candidate(uri));
            let key = &uri.as_bytes()[..star.unwrap_or(uri.len())];
            let is_prefix = star.is_some();
            let step = |group: &u32| Step { is_prefix, group: *group, key, route, candidate };
            steps.extend(groups.iter().map(step));
        }
    }

    fn conditions(&self, route: &RouteMatch) -> Option<Arc<Conditions>> {
        let filtered = self.kind == RouterKind::Uri;
        let hosts = route.hosts.iter().filter(|_| filtered);
        let stars = route.uris.iter().filter(|uri| uri.contains('*'));
        let conditions = Conditions {
            remote_addrs: route.remote_addrs.iter().copied().collect(),
            hosts: hosts.map(|host| HostPattern::new(host)).collect(),
            vars: route.vars.clone(),
            globs: stars.filter_map(|uri| Glob::of(uri)).collect(),
        };
        (!conditions.is_empty()).then(|| Arc::new(conditions))
    }

    fn edit_exact(&mut self, steps: &[Step<'_>]) {
        let exact: Table<Leaf> = self.exact.clone();
        let mut changes = Vec::new();
        for path in steps.chunk_by(|a, b| a.place() == b.place()) {
            let (group, key) = (path[0].group, path[0].key);
            let leaf = self.leaf(exact.find(group, hash(key), key), path);
            changes.push((group, key, leaf));
        }
        self.exact = exact.edit(&changes);
    }

    /// Steps of one group.
    fn edit_prefixes(&mut self, steps: &[Step<'_>]) {
        let group = steps[0].group as usize;
        let prefixes = self.prefixes.get(group).cloned().unwrap_or_default();
        let mut changes = Vec::new();
        for path in steps.chunk_by(|a, b| a.key == b.key) {
            let key = path[0].key;
            let leaf = self.leaf(prefixes.get(key), path);
            changes.push((key, leaf));
        }
        self.prefixes.set(group, prefixes.edit(&changes));
    }

    /// What a leaf becomes by steps of its path.
    fn leaf(&mut self, before: Option<&Leaf>, steps: &[Step<'_>]) -> Option<Leaf> {
        let known = before.into_iter().flat_map(|leaf| self.candidates(leaf));
        let leaves = |route| steps.iter().any(|s| s.candidate.is_none() && s.route == route);
        let kept = known.filter(|candidate| !leaves(candidate.route)).copied();
        let mut all: Vec<Candidate> = kept.collect();
        all.extend(steps.iter().filter_map(|step| step.candidate));
        all.sort_by(|a, b| self.rank(a).cmp(&self.rank(b)));
        if let Some(leaf) = before.filter(|leaf| leaf.more != NONE) {
            self.lists.set(leaf.more as usize, None);
            self.list_numbers.give_back(leaf.more);
        }
        let (first, more) = all.split_first()?;
        let mut leaf = Leaf { first: *first, more: NONE };
        if !more.is_empty() {
            leaf.more = self.list_numbers.take();
            self.lists.set(leaf.more as usize, Some(more.into()));
        }
        Some(leaf)
    }

    /// By what candidates of one path are sorted.
    fn rank(&self, candidate: &Candidate) -> (Reverse<i64>, Reverse<u16>, &str, u32) {
        let part = self.parts.get(candidate.route as usize);
        let (priority, order) = part.map_or((0, ""), |part| (part.priority, &part.order));
        (Reverse(priority), Reverse(candidate.written), order, candidate.route)
    }
}

/// What stands after the star of a wildcard host, from its end.
fn reversed(host: &str) -> Option<Vec<u8>> {
    Some(host.strip_prefix('*')?.bytes().rev().collect())
}
