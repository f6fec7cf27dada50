//! From valid resources to a snapshot: what did not change since the one before stays, what did is
//! made anew.
//!
//! ```text
//! upstreams ─► services ─► plugin configs ─► global rules ─► routes ─► router
//!     └── a change goes on to what names the changed one ──────┘
//! ```
//!
//! Everything that is wrong is found in one go; on any error there is no snapshot.

use super::assembly::{Assembly, Difference, ServiceParts, Tally};
use super::routes::Places;
use super::upstreams::{ms, names_of};
use super::{Chain, MinRate, Route, Rules, Snapshot, Target};
use crate::conf::{self, Config, PluginMetadata, Resources, Router as RouterConf};
use crate::http::HeadLimits;
use crate::plugin::{Loader, UpstreamNames};
use crate::route::{Edit, Router, RouterKind};
use crate::schema::{Fault, Problem, Problems, Reader};
use crate::upstream::NodeTable;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

/// What a snapshot is compiled from.
pub struct Inputs<'a> {
    /// Its number.
    pub number: u64,
    /// The process's settings.
    pub config: &'a Config,
    /// The resources.
    pub resources: &'a Arc<Resources>,
    /// Whoever can make plugins; the first that knows a name makes it.
    pub loaders: Vec<&'a mut dyn Loader>,
    /// Nodes as the snapshot before knows them.
    pub nodes: &'a NodeTable,
    /// Looks names up, all at the same time; the core asks no system itself.
    pub resolve: &'a dyn Fn(HashSet<String>) -> HashMap<String, Vec<IpAddr>>,
    /// What an earlier snapshot was made of, by the same settings and loaders, if it
    /// [leads](Assembly::leads_to) to these resources; loaders then know what they were shown. If
    /// it is made of nothing, everything is made.
    pub before: &'a Assembly,
}

impl std::fmt::Debug for Inputs<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inputs").field("number", &self.number).finish_non_exhaustive()
    }
}

/// What compiling comes to.
#[derive(Debug)]
pub struct Compiled {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// What it was made of, for the next one.
    pub assembly: Assembly,
    /// What the user should know.
    pub warnings: Vec<Problem>,
}

/// Compiles a snapshot; problems are those of the resources' document, by path.
///
/// # Errors
/// All that is wrong with them.
pub fn compile(inputs: Inputs<'_>) -> Result<Compiled, Refused> {
    let mut compiler = Compiler::new(inputs);
    compiler.run();
    let (errors, warnings) = std::mem::take(&mut compiler.problems).into_parts();
    if !errors.is_empty() {
        return Err(Refused { errors, warnings });
    }
    let snapshot = compiler.snapshot();
    Ok(Compiled { snapshot, assembly: compiler.next, warnings })
}

/// Why there is no snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What is wrong; not empty.
    pub errors: Vec<Problem>,
    /// What the user should know beside it.
    pub warnings: Vec<Problem>,
}

pub(super) struct Compiler<'a> {
    pub(super) inputs: Inputs<'a>,
    pub(super) problems: Problems,
    pub(super) places: Places<'a>,
    pub(super) before: &'a Assembly,
    /// Begins as what was before.
    pub(super) next: Assembly,
    /// Addresses of the names that are new.
    pub(super) names: HashMap<String, Vec<IpAddr>>,
    touched: Touched<'a>,
}

/// Ids of resources that changed, came or went, as far as that shows in what names them.
#[derive(Default)]
struct Touched<'a> {
    upstreams: FxHashSet<&'a str>,
    services: FxHashSet<&'a str>,
    plugin_configs: FxHashSet<&'a str>,
}

impl Touched<'_> {
    /// Whether a route looks otherwise though it is the same.
    fn shows_in(&self, route: &conf::Route) -> bool {
        let has = |ids: &FxHashSet<&str>, id: &Option<String>| {
            !ids.is_empty() && id.as_ref().is_some_and(|id| ids.contains(id.as_str()))
        };
        has(&self.upstreams, &route.upstream_id)
            || has(&self.services, &route.service_id)
            || has(&self.plugin_configs, &route.plugin_config_id)
    }
}

impl<'a> Compiler<'a> {
    fn new(inputs: Inputs<'a>) -> Self {
        let (resources, before) = (inputs.resources, inputs.before);
        let router = match inputs.config.router {
            _ if before.is_made => before.router.clone(),
            RouterConf::HostUri => Router::empty(RouterKind::HostUri),
            RouterConf::Uri => Router::empty(RouterKind::Uri),
        };
        Self {
            places: Places::of(resources),
            problems: Problems::new(),
            before,
            next: Assembly {
                is_made: true,
                resources: Arc::clone(resources),
                router,
                ..before.clone()
            },
            names: HashMap::new(),
            touched: Touched::default(),
            inputs,
        }
    }

    fn run(&mut self) {
        let (resources, is_first) = (self.inputs.resources, !self.before.is_made);
        if is_first {
            resources.plugin_metadata.iter().for_each(|metadata| self.set_metadata(metadata));
            resources.consumers.iter().for_each(|consumer| self.add_consumer(consumer));
        }
        let old = &self.before.resources;
        let upstreams = Difference::of(&old.upstreams, &resources.upstreams);
        let services = Difference::of(&old.services, &resources.services);
        let configs = Difference::of(&old.plugin_configs, &resources.plugin_configs);
        let routes = Difference::of(&old.routes, &resources.routes);
        self.look_names_up(&upstreams, &services, &routes);
        self.upstreams(&upstreams);
        self.services(&services);
        self.plugin_configs(&configs);
        if is_first {
            self.next.global = self.global_steps(&resources.global_rules);
            Tally::add(&mut self.next.tally, &self.next.global);
            self.next.consumers = Arc::new(self.consumer_plugins());
            for steps in self.next.consumers.steps() {
                Tally::add(&mut self.next.tally, steps);
            }
        }
        self.routes(&routes);
        if !upstreams.is_none() {
            self.next.upstream_names = Arc::new(self.upstream_names());
        }
        if !Arc::ptr_eq(&self.next.tally, &self.before.tally) {
            self.next.plugins = self.next.tally.plugins();
        }
        self.list_upkeep();
    }

    /// Metadata of a plugin that has no use for it, or is not here, is kept for others: a warning.
    fn set_metadata(&mut self, metadata: &PluginMetadata) {
        let PluginMetadata { at, name, conf } = metadata;
        let mut loaders = self.inputs.loaders.iter_mut();
        let loader = loaders.find(|loader| loader.names().contains(&name.as_str()));
        let hint = match loader {
            Some(loader) => {
                let reader = Reader::new(conf, at.clone(), &self.problems);
                if loader.set_metadata(name, reader) {
                    return;
                }
                "this plugin has none here"
            }
            None => "there is no such plugin",
        };
        let fault = Fault::new(format!("the metadata of plugin {name} has no effect")).hint(hint);
        self.problems.warn(Problem::new(at.key("id"), fault));
    }

    fn look_names_up(&mut self, listed: &Difference, services: &Difference, routes: &Difference) {
        let resources = self.inputs.resources;
        let mut names = HashSet::new();
        names_of(new(&resources.upstreams, listed).map(|upstream| &**upstream), &mut names);
        let services = new(&resources.services, services);
        names_of(services.filter_map(|service| service.upstream.as_ref()), &mut names);
        let routes = new(&resources.routes, routes);
        names_of(routes.filter_map(|route| route.upstream.as_ref()), &mut names);
        if !names.is_empty() {
            self.names = (self.inputs.resolve)(names);
        }
    }

    fn upstreams(&mut self, difference: &Difference) {
        let (old, before) = (&self.before.resources.upstreams, self.before);
        let of = |at: &usize| (old[*at].id.as_deref().unwrap_or_default(), *at);
        let mut gone: FxHashMap<&str, usize> = difference.gone.iter().map(of).collect();
        self.next.upstreams_at.clear();
        for (item, kept) in self.inputs.resources.upstreams.iter().zip(&difference.kept) {
            let id = item.id.as_deref().unwrap_or_default();
            let number = match kept {
                Some(at) => before.upstreams_at[*at as usize],
                None => {
                    let known = gone.remove(id);
                    // What its routes say of it, and where they find it, is then the same.
                    let same = known
                        .map(|at| &old[at])
                        .is_some_and(|old| (&old.name, &old.labels) == (&item.name, &item.labels));
                    if !same {
                        self.touched.upstreams.insert(id);
                    }
                    let number = known.map(|at| before.upstreams_at[at]);
                    let number = number.unwrap_or_else(|| self.next.upstream_numbers.take());
                    self.set_upstream(number, "upstreams", id, item);
                    number
                }
            };
            self.next.upstreams_at.push(number);
        }
        for (id, at) in gone {
            self.touched.upstreams.insert(id);
            self.free_upstream(before.upstreams_at[at]);
        }
    }

    fn services(&mut self, difference: &Difference) {
        let (old, before) = (&self.before.resources.services, self.before);
        for at in &difference.gone {
            let parts = &before.services_at[*at];
            self.touched.services.insert(&old[*at].id);
            Tally::remove(&mut self.next.tally, &parts.steps);
            parts.upstream.into_iter().for_each(|number| self.free_upstream(number));
        }
        self.next.services_at.clear();
        for (item, kept) in self.inputs.resources.services.iter().zip(&difference.kept) {
            let parts = match kept {
                Some(at) => {
                    let names = item.upstream_id.as_deref();
                    if names.is_some_and(|id| self.touched.upstreams.contains(id)) {
                        self.touched.services.insert(&item.id);
                    }
                    before.services_at[*at as usize].clone()
                }
                None => {
                    self.touched.services.insert(&item.id);
                    self.service(item)
                }
            };
            self.next.services_at.push(parts);
        }
    }

    fn service(&mut self, service: &conf::Service) -> ServiceParts {
        let upstream = service.upstream.as_ref().map(|upstream| {
            let number = self.next.upstream_numbers.take();
            self.set_upstream(number, "services", &service.id, upstream);
            number
        });
        let steps: Arc<[_]> = self.steps(&service.plugins).into();
        Tally::add(&mut self.next.tally, &steps);
        ServiceParts { steps, upstream }
    }

    fn plugin_configs(&mut self, difference: &Difference) {
        let (old, before) = (&self.before.resources.plugin_configs, self.before);
        for at in &difference.gone {
            self.touched.plugin_configs.insert(&old[*at].id);
            Tally::remove(&mut self.next.tally, &before.configs_at[*at]);
        }
        self.next.configs_at.clear();
        for (item, kept) in self.inputs.resources.plugin_configs.iter().zip(&difference.kept) {
            let steps = match kept {
                Some(at) => Arc::clone(&before.configs_at[*at as usize]),
                None => {
                    self.touched.plugin_configs.insert(&item.id);
                    let steps: Arc<[_]> = self.steps(&item.plugins).into();
                    Tally::add(&mut self.next.tally, &steps);
                    steps
                }
            };
            self.next.configs_at.push(steps);
        }
    }

    fn routes(&mut self, difference: &Difference) {
        let (old, before) = (&self.before.resources.routes, self.before);
        let places_before = Places::of(&before.resources);
        let of = |at: &usize| (old[*at].id.as_str(), *at);
        let mut gone: FxHashMap<&str, usize> = difference.gone.iter().map(of).collect();
        let mut edits = Vec::new();
        // What goes makes room first.
        let ids: FxHashSet<&str> = match gone.is_empty() {
            true => FxHashSet::default(),
            false => new(&self.inputs.resources.routes, difference).map(|r| &*r.id).collect(),
        };
        for (_, at) in gone.extract_if(|id, _| !ids.contains(id)) {
            if let Some(number) = self.take_apart(&old[at], before.routes_at[at]) {
                let was = Some(places_before.route_match(&old[at]));
                self.next.routes.set(number as usize, None);
                self.next.route_numbers.give_back(number);
                edits.push(Edit { number, before: was, after: None });
            }
        }
        self.next.routes_at.clear();
        for (item, kept) in self.inputs.resources.routes.iter().zip(&difference.kept) {
            let known = kept.map(|at| at as usize).or_else(|| gone.remove(item.id.as_str()));
            let number = known.and_then(|at| before.routes_at[at]);
            if kept.is_some() && !self.touched.shows_in(item) {
                self.next.routes_at.push(number);
                continue;
            }
            let was = known.map(|at| &*old[at]);
            let edit = self.remake_route(was, number, item, &places_before);
            self.next.routes_at.push(edit.as_ref().filter(|e| e.after.is_some()).map(|e| e.number));
            edits.extend(edit);
        }
        self.next.edits += if before.is_made { edits.len() } else { 0 };
        self.next.router = self.next.router.edit(&edits);
    }

    /// A route that changed or is new: `number` is the one it had. Its edit of the router, if it is
    /// or was switched on.
    fn remake_route(
        &mut self,
        was: Option<&conf::Route>,
        number: Option<u32>,
        item: &'a conf::Route,
        places_before: &Places<'_>,
    ) -> Option<Edit> {
        if let Some(was) = was {
            self.take_apart(was, number);
        }
        let before = was.filter(|_| number.is_some()).map(|was| places_before.route_match(was));
        if !item.enabled {
            let number = number?;
            self.next.routes.set(number as usize, None);
            self.next.route_numbers.give_back(number);
            return Some(Edit { number, before, after: None });
        }
        let number = number.unwrap_or_else(|| self.next.route_numbers.take());
        let after = Some(self.route_match(item));
        let route = self.route(item);
        Tally::add(&mut self.next.tally, route.chain.steps());
        self.next.routes.set(number as usize, Some(Arc::new(route)));
        Some(Edit { number, before, after })
    }

    /// Gives back what only this route had, all but its number.
    fn take_apart(&mut self, route: &conf::Route, number: Option<u32>) -> Option<u32> {
        let own = self.before.own_upstream(route, number);
        own.into_iter().for_each(|number| self.free_upstream(number));
        let made = number.and_then(|number| self.before.routes.get(number as usize)?.as_ref());
        if let Some(made) = made {
            Tally::remove(&mut self.next.tally, made.chain.steps());
        }
        number
    }

    fn free_upstream(&mut self, number: u32) {
        self.next.upstreams.set(number as usize, None);
        self.next.upstream_numbers.give_back(number);
    }

    /// An id wins over the same word as a name.
    fn upstream_names(&self) -> UpstreamNames {
        let all = || self.inputs.resources.upstreams.iter().zip(&self.next.upstreams_at);
        let names =
            all().filter_map(|(upstream, number)| Some((upstream.name.as_deref()?, number)));
        let ids = all().filter_map(|(upstream, number)| Some((upstream.id.as_deref()?, number)));
        let both = names.chain(ids);
        both.map(|(name, number)| (name.as_bytes().into(), *number as usize)).collect()
    }

    fn snapshot(&self) -> Snapshot {
        let (next, config) = (&self.next, self.inputs.config);
        let mut snapshot = Snapshot {
            number: self.inputs.number,
            router: next.router.clone(),
            routes: next.routes.clone(),
            unmatched: Route::none(Chain::new(next.global.to_vec()), Target::NoRoute),
            consumers: Arc::clone(&next.consumers),
            upstreams: next.upstreams.clone(),
            upkeep: Arc::clone(&next.upkeep),
            upstream_names: Arc::clone(&next.upstream_names),
            plugins: Arc::clone(&next.plugins),
            rules: rules(config),
            listen: None,
            access_log: config.access_log.as_ref().map(|log| log.format.clone()),
        };
        if self.inputs.resources.lacks_global_rule {
            snapshot.close();
        }
        snapshot
    }
}

/// Items that were not there before.
fn new<'a, T>(items: &'a [Arc<T>], difference: &Difference) -> impl Iterator<Item = &'a Arc<T>> {
    let is_new = |(_, kept): &(&Arc<T>, &Option<u32>)| kept.is_none();
    items.iter().zip(&difference.kept).filter(is_new).map(|(item, _)| item)
}

fn rules(config: &Config) -> Rules {
    let grace_ms = ms(config.limits.rate_grace);
    Rules {
        head: HeadLimits { bytes: config.limits.head_bytes, fields: config.limits.headers },
        body_bytes_max: config.downstream.client_max_body_size,
        head_ms: ms(config.downstream.client_header_timeout),
        body_ms: ms(config.downstream.client_body_timeout),
        idle_ms: ms(config.downstream.keepalive_timeout),
        send_ms: ms(config.downstream.send_timeout),
        head_rate: MinRate { bytes: config.limits.head_rate, grace_ms },
        body_rate: MinRate { bytes: config.limits.body_rate, grace_ms },
        requests_max: config.downstream.keepalive_requests.unwrap_or(u64::MAX),
        age_ms: config.downstream.keepalive_time.map_or(u64::MAX, ms),
        connections_max: config.limits.connections.unwrap_or(usize::MAX),
        connections_per_source_max: config.limits.connections_per_source.unwrap_or(usize::MAX),
        running_max: config.limits.requests_per_worker.unwrap_or(u64::MAX),
        cut_tail_slash: config.delete_uri_tail_slash,
        underscores: config.downstream.underscores_in_headers,
        via: config.via,
        trusted: config.trusted_addresses.as_slice().into(),
    }
}

#[cfg(test)]
#[path = "incremental_tests.rs"]
mod incremental_tests;

#[cfg(test)]
#[path = "compile_tests.rs"]
mod tests;
