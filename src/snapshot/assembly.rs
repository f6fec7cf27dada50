//! What a snapshot was made of, kept to make the next one of: what did not change is not made
//! again.
//!
//! ```text
//! Resources before ─┐ the same item, by its address in memory: its parts stay
//!                   ├─►  another one under a known id: made anew, with its old number
//! Resources now ────┘    a new id: made, with a free number;  gone: its number is free
//! ```
//!
//! Items are compared by address: who keeps resources (`control`) reads an item once and hands out
//! the same one until somebody changes it. An assembly is never changed itself, so that a
//! configuration that turns out to be wrong leaves nothing behind.

use super::chain::Step;
use super::consumers::ConsumerPlugins;
use super::{Route, Target};
use crate::conf::{self, Resources};
use crate::persistent::{Array, Numbers};
use crate::plugin::{Loader, Plugin, UpstreamNames};
use crate::route::Router;
use crate::upstream::Upstream;
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Edits after which all is made anew: what routers and tables never give back stays bounded.
const EDITS_MAX: usize = 100_000;

/// What a snapshot was made of; by default of nothing. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Assembly {
    /// Of something.
    pub(super) is_made: bool,
    pub(super) resources: Arc<Resources>,
    /// The routes' numbers, by their places in `resources`; `None`: switched off.
    pub(super) routes_at: Vec<Option<u32>>,
    /// The upstreams' numbers, likewise.
    pub(super) upstreams_at: Vec<u32>,
    /// Likewise.
    pub(super) services_at: Vec<ServiceParts>,
    /// The steps of plugin configs, likewise.
    pub(super) configs_at: Vec<Arc<[Step]>>,
    /// Those of global rules.
    pub(super) global: Arc<[Step]>,
    /// What consumers bring along.
    pub(super) consumers: Arc<ConsumerPlugins>,
    pub(super) routes: Array<Option<Arc<Route>>>,
    pub(super) route_numbers: Numbers,
    pub(super) upstreams: Array<Option<Arc<Upstream>>>,
    pub(super) upstream_numbers: Numbers,
    pub(super) router: Router,
    pub(super) upstream_names: Arc<UpstreamNames>,
    pub(super) upkeep: Arc<[Arc<Upstream>]>,
    pub(super) tally: Arc<Tally>,
    pub(super) plugins: Arc<[Arc<dyn Plugin>]>,
    /// Routes that were made since all were.
    pub(super) edits: usize,
}

/// What is made of a service.
#[derive(Clone, Debug)]
pub(super) struct ServiceParts {
    pub(super) steps: Arc<[Step]>,
    /// The number of its own upstream.
    pub(super) upstream: Option<u32>,
}

impl Assembly {
    /// Whether other resources can be compiled from here. Not so if something changed that may show
    /// in any plugin: consumers and their groups, global rules, metadata, or plugins that look at
    /// others. Then everything is made anew, as at the start; the settings and the loaders must be
    /// the same in any case.
    #[must_use]
    pub fn leads_to(&self, resources: &Resources, loaders: &[&dyn Loader]) -> bool {
        // Whatever else resources come to have has to be thought of here.
        let Resources { routes, services, upstreams: _, plugin_configs, .. } = resources;
        let Resources { global_rules, consumers, consumer_groups, plugin_metadata, .. } = resources;
        let old = &self.resources;
        let looks = |plugin: &conf::PluginConf| {
            loaders.iter().any(|loader| loader.looks_at_others(&plugin.name, &plugin.conf))
        };
        self.is_made
            && self.edits < EDITS_MAX
            && *global_rules == old.global_rules
            && *consumers == old.consumers
            && *consumer_groups == old.consumer_groups
            && *plugin_metadata == old.plugin_metadata
            && !changed(&old.routes, routes).flat_map(|route| &route.plugins).any(looks)
            && !changed(&old.services, services).flat_map(|service| &service.plugins).any(looks)
            && !changed(&old.plugin_configs, plugin_configs).flat_map(|c| &c.plugins).any(looks)
    }

    /// The number of the upstream that stands in a route itself.
    pub(super) fn own_upstream(&self, route: &conf::Route, number: Option<u32>) -> Option<u32> {
        if route.upstream_id.is_some() || route.upstream.is_none() {
            return None;
        }
        match self.routes.get(number? as usize)?.as_ref()?.target {
            Target::Upstream(number) => Some(number as u32),
            Target::Status(_) | Target::NoRoute => None,
        }
    }
}

/// What two lists of items have in common, and what not.
#[derive(Debug)]
pub(super) struct Difference {
    /// For each new item its place in the old list, if it is there.
    pub(super) kept: Vec<Option<u32>>,
    /// Places of old items that are not in the new list.
    pub(super) gone: Vec<usize>,
}

impl Difference {
    /// Compares by address. Most of two lists is alike at both ends.
    pub(super) fn of<T>(old: &[Arc<T>], new: &[Arc<T>]) -> Self {
        let [begin, old_end, new_end] = middle(old, new);
        let mut places: FxHashMap<*const T, u32> = FxHashMap::default();
        places.extend((begin..old_end).map(|at| (Arc::as_ptr(&old[at]), at as u32)));
        let kept = (0..new.len()).map(|at| match at {
            at if at < begin => Some(at as u32),
            at if at < new_end => places.remove(&Arc::as_ptr(&new[at])),
            at => Some((at - new_end + old_end) as u32),
        });
        let kept = kept.collect();
        let mut gone: Vec<usize> = places.into_values().map(|at| at as usize).collect();
        gone.sort_unstable();
        Self { kept, gone }
    }

    pub(super) fn is_none(&self) -> bool {
        self.gone.is_empty() && self.kept.iter().all(Option::is_some)
    }
}

/// Where the difference of two lists begins and where it ends in each.
fn middle<T>(old: &[Arc<T>], new: &[Arc<T>]) -> [usize; 3] {
    let same = |(a, b): &(&Arc<T>, &Arc<T>)| Arc::ptr_eq(a, b);
    let begin = old.iter().zip(new).take_while(same).count();
    let end = old[begin..].iter().rev().zip(new[begin..].iter().rev()).take_while(same).count();
    [begin, old.len() - end, new.len() - end]
}

/// Items that only one of two lists has, or that have moved.
fn changed<'a, T>(old: &'a [Arc<T>], new: &'a [Arc<T>]) -> impl Iterator<Item = &'a T> {
    let [begin, old_end, new_end] = middle(old, new);
    old[begin..old_end].iter().chain(&new[begin..new_end]).map(|item| &**item)
}

/// The plugins with state per worker, and how many steps each stands in.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// By their addresses in memory.
    steps: FxHashMap<usize, (Arc<dyn Plugin>, usize)>,
}

impl Tally {
    /// A chain comes.
    pub(super) fn add(this: &mut Arc<Self>, steps: &[Step]) {
        for step in steps.iter().filter(|step| step.plugin.is_per_worker()) {
            let known = Arc::make_mut(this).steps.entry(address(step));
            known.or_insert_with(|| (Arc::clone(&step.plugin), 0)).1 += 1;
        }
    }

    /// A chain goes.
    pub(super) fn remove(this: &mut Arc<Self>, steps: &[Step]) {
        for step in steps.iter().filter(|step| step.plugin.is_per_worker()) {
            let (steps, key) = (&mut Arc::make_mut(this).steps, address(step));
            if let Some((_, count)) = steps.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    steps.remove(&key);
                }
            }
        }
    }

    /// All of them.
    pub(super) fn plugins(&self) -> Arc<[Arc<dyn Plugin>]> {
        self.steps.values().map(|(plugin, _)| Arc::clone(plugin)).collect()
    }
}

fn address(step: &Step) -> usize {
    Arc::as_ptr(&step.plugin).cast::<()>().addr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences() {
        let items: Vec<Arc<u8>> = (0..8).map(Arc::new).collect();
        let list = |of: &[usize]| of.iter().map(|at| Arc::clone(&items[*at])).collect::<Vec<_>>();
        for (old, new, kept, gone) in [
            (&[0, 1, 2][..], &[0, 1, 2][..], &[Some(0), Some(1), Some(2)][..], &[][..]),
            (&[0, 1, 2], &[0, 3, 2], &[Some(0), None, Some(2)], &[1]),
            (&[0, 1, 2], &[0, 2], &[Some(0), Some(2)], &[1]),
            (&[0, 2], &[0, 1, 2], &[Some(0), None, Some(1)], &[]),
            (&[0, 1, 2, 3], &[4, 2, 1, 5], &[None, Some(2), Some(1), None], &[0, 3]),
            (&[], &[1], &[None], &[]),
            (&[1, 2], &[], &[], &[0, 1]),
        ] {
            let found = Difference::of(&list(old), &list(new));
            assert_eq!((&found.kept[..], &found.gone[..]), (kept, gone), "{old:?} {new:?}");
            assert_eq!(found.is_none(), old == new, "{old:?} {new:?}");
        }
    }
}
