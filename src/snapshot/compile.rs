//! From valid resources to a snapshot: references followed, plugins made and merged, chains
//! ordered.
//!
//! Everything that is wrong is found in one go; on any error there is no snapshot.

use super::upstreams::{ms, timeouts};
use super::{Chain, MinRate, Prepared, Route, Rules, Snapshot, Step, Target};
use crate::conf::{Config, GlobalRule, Meta, PluginConf, Resources, Router as RouterConf, Rule};
use crate::conf::{Route as RouteConf, Service};
use crate::expr::Expr;
use crate::http::HeadLimits;
use crate::plugin::{
    Loaded, Loader, Plugin, Properties, PropertyTraits, RouteFacts, UpstreamNames,
};
use crate::route::{RouteMatch, Router, RouterKind};
use crate::schema::{Fault, Path, Problem, Problems, Reader, nearest};
use crate::upstream::{NodeTable, Upstream};
use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::Value;
use std::net::IpAddr;
use std::sync::Arc;

/// What a snapshot is compiled from.
pub struct Inputs<'a> {
    /// Its number.
    pub number: u64,
    /// The process's settings.
    pub config: &'a Config,
    /// The resources.
    pub resources: &'a Resources,
    /// Whoever can make plugins; the first that knows a name makes it.
    pub loaders: Vec<&'a mut dyn Loader>,
    /// Nodes as the snapshot before knows them.
    pub nodes: &'a NodeTable,
    /// Looks a name up; the core asks no system itself.
    pub resolve: &'a dyn Fn(&str) -> Vec<IpAddr>,
}

impl std::fmt::Debug for Inputs<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inputs").field("number", &self.number).finish_non_exhaustive()
    }
}

/// Compiles a snapshot; problems are those of the resources' document, by path.
///
/// # Errors
/// All that is wrong with them.
pub fn compile(inputs: Inputs<'_>) -> Result<(Snapshot, Vec<Problem>), Refused> {
    let mut compiler = Compiler::new(inputs);
    let snapshot = compiler.run();
    let (errors, warnings) = compiler.problems.into_parts();
    if errors.is_empty() { Ok((snapshot, warnings)) } else { Err(Refused { errors, warnings }) }
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
    services: FxHashMap<&'a str, &'a Service>,
    plugin_configs: FxHashMap<&'a str, &'a [PluginConf]>,
    upstream_ids: FxHashMap<&'a str, usize>,
    pub(super) upstreams: Vec<Upstream>,
    /// Services' own upstreams, by service id.
    service_upstreams: FxHashMap<&'a str, usize>,
    /// Each configured plugin once, by where it stands; `None`: it is disabled or wrong.
    made: FxHashMap<Path, Option<Step>>,
    plugins: Vec<Arc<dyn Plugin>>,
}

impl<'a> Compiler<'a> {
    fn new(inputs: Inputs<'a>) -> Self {
        let resources = inputs.resources;
        let services = resources.services.iter().map(|s| (s.id.as_str(), s)).collect();
        let plugin_configs =
            resources.plugin_configs.iter().map(|c| (c.id.as_str(), &c.plugins[..])).collect();
        Self {
            inputs,
            problems: Problems::new(),
            services,
            plugin_configs,
            upstream_ids: FxHashMap::default(),
            upstreams: Vec::new(),
            service_upstreams: FxHashMap::default(),
            made: FxHashMap::default(),
            plugins: Vec::new(),
        }
    }

    fn run(&mut self) -> Snapshot {
        let resources = self.inputs.resources;
        for consumer in &resources.consumers {
            self.add_consumer(consumer);
        }
        for upstream in &resources.upstreams {
            let id = upstream.id.as_deref().unwrap_or_default();
            let number = self.add_upstream("upstreams", id, upstream);
            if let Some(id) = &upstream.id {
                self.upstream_ids.insert(id, number);
            }
        }
        for service in &resources.services {
            if let Some(upstream) = &service.upstream {
                let number = self.add_upstream("services", &service.id, upstream);
                self.service_upstreams.insert(&service.id, number);
            }
            self.make_all(&service.plugins, false);
        }
        for config in &resources.plugin_configs {
            self.make_all(&config.plugins, false);
        }
        let global = self.global_steps(&resources.global_rules);
        let enabled = || resources.routes.iter().filter(|route| route.enabled);
        let matches = enabled().map(|route| self.route_match(route)).collect();
        let routes = enabled().map(|route| self.route(route, &global)).collect();
        let upstream_names = Arc::new(self.upstream_names());
        let kind = match self.inputs.config.router {
            RouterConf::HostUri => RouterKind::HostUri,
            RouterConf::Uri => RouterKind::Uri,
        };
        Snapshot {
            number: self.inputs.number,
            router: Router::of_kind(kind, matches),
            routes,
            unmatched: unmatched(global),
            upstreams: std::mem::take(&mut self.upstreams),
            upstream_names,
            plugins: std::mem::take(&mut self.plugins),
            rules: rules(self.inputs.config),
            listen: None,
            access_log: self.inputs.config.access_log.as_ref().map(|log| log.format.clone()),
        }
    }

    /// An id wins over the same word as a name.
    fn upstream_names(&self) -> UpstreamNames {
        let all = || self.inputs.resources.upstreams.iter().enumerate();
        let names = all().filter_map(|(at, upstream)| Some((upstream.name.as_deref()?, at)));
        let ids = all().filter_map(|(at, upstream)| Some((upstream.id.as_deref()?, at)));
        names.chain(ids).map(|(name, at)| (name.as_bytes().into(), at)).collect()
    }

    fn route_match(&self, route: &RouteConf) -> RouteMatch {
        let service = route.service_id.as_deref().and_then(|id| self.services.get(id));
        let hosts = match service {
            Some(service) if route.hosts.is_empty() => service.hosts.clone(),
            _ => route.hosts.clone(),
        };
        RouteMatch {
            hosts,
            uris: route.uris.clone(),
            methods: route.methods,
            remote_addrs: route.remote_addrs.clone(),
            vars: route.vars.as_ref().and_then(|rule| self.rule(rule)),
            priority: route.priority,
        }
    }

    fn route(&mut self, route: &'a RouteConf, global: &[Step]) -> Route {
        let service = route.service_id.as_deref().map(|id| self.services.get(id).copied());
        let config =
            route.plugin_config_id.as_deref().map(|id| self.plugin_configs.get(id).copied());
        let own = self.make_all(&route.plugins, false);
        let target = match (config, service) {
            // As in APISIX these answer before any plugin runs (reference §9, §5.2).
            (Some(None), _) => return self.broken_route(route, 503),
            (_, Some(None)) => return self.broken_route(route, 404),
            (_, service) => self.target(route, service.flatten()),
        };
        let mut steps = own;
        let below = [config.flatten(), service.flatten().map(|service| &service.plugins[..])];
        for plugins in below.into_iter().flatten() {
            self.add_missing(&mut steps, plugins);
        }
        steps.extend_from_slice(global);
        let chain = Chain::new(steps);
        let of_service = service.flatten().and_then(|service| service.enable_websocket);
        let upgrades = route.enable_websocket.or(of_service).unwrap_or(false);
        Route {
            facts: self.facts(route, service.flatten(), target),
            prepared: prepare(&chain),
            chain,
            target,
            timeouts: route.timeout.map(timeouts),
            upgrades,
        }
    }

    /// Adds the plugins whose names are not there yet: whole configurations win, nothing is mixed.
    fn add_missing(&mut self, steps: &mut Vec<Step>, plugins: &[PluginConf]) {
        for plugin in plugins {
            if !steps.iter().any(|step| step.plugin.name() == plugin.name) {
                steps.extend(self.make(plugin, false));
            }
        }
    }

    fn broken_route(&self, route: &RouteConf, status: u16) -> Route {
        let target = Target::Status(status);
        Route {
            facts: self.facts(route, None, target),
            chain: Chain::default(),
            target,
            prepared: None,
            timeouts: None,
            upgrades: false,
        }
    }

    /// `upstream_id` wins over an inline upstream, the route's over the service's (reference §4).
    fn target(&mut self, route: &RouteConf, service: Option<&Service>) -> Target {
        if let Some(id) = &route.upstream_id {
            return self.upstream_id(id);
        }
        if let Some(upstream) = &route.upstream {
            return Target::Upstream(self.add_upstream("routes", &route.id, upstream));
        }
        let Some(service) = service else { return Target::Status(503) };
        if let Some(id) = &service.upstream_id {
            return self.upstream_id(id);
        }
        match self.service_upstreams.get(service.id.as_str()) {
            Some(number) => Target::Upstream(*number),
            None => Target::Status(503),
        }
    }

    fn upstream_id(&self, id: &str) -> Target {
        self.upstream_ids.get(id).map_or(Target::Status(502), |number| Target::Upstream(*number))
    }

    fn facts(&self, route: &RouteConf, service: Option<&Service>, target: Target) -> RouteFacts {
        let upstream = match target {
            Target::Upstream(number) => Some(&self.upstreams[number]),
            _ => None,
        };
        RouteFacts {
            route_id: route.id.clone(),
            route_name: route.name.clone().unwrap_or_default(),
            service_id: service.map(|s| s.id.clone()).unwrap_or_default(),
            service_name: service.and_then(|s| s.name.clone()).unwrap_or_default(),
            upstream_name: upstream.map(|u| u.name.clone()).unwrap_or_default(),
            labels: metadata(&route.labels),
            service_labels: service.map(|s| metadata(&s.labels)).unwrap_or_default(),
            upstream_labels: upstream.map(|u| metadata(&u.labels)).unwrap_or_default(),
        }
    }

    /// Global rules of all ids form one set; a plugin may stand in one of them only (reference §6).
    fn global_steps(&mut self, rules: &'a [GlobalRule]) -> Vec<Step> {
        let mut names = FxHashSet::default();
        let mut steps = Vec::new();
        for plugin in rules.iter().flat_map(|rule| &rule.plugins) {
            if !names.insert(plugin.name.as_str()) {
                let fault =
                    Fault::new(format!("plugin {} stands in two global rules", plugin.name))
                        .hint("keep it in one of them");
                self.problems.error(Problem::new(plugin.at.clone(), fault).on_key());
            }
            steps.extend(self.make(plugin, true));
        }
        steps
    }

    fn make_all(&mut self, plugins: &[PluginConf], global: bool) -> Vec<Step> {
        plugins.iter().filter_map(|plugin| self.make(plugin, global)).collect()
    }

    /// The step of a configured plugin, made at its first use.
    fn make(&mut self, plugin: &PluginConf, global: bool) -> Option<Step> {
        if let Some(made) = self.made.get(&plugin.at) {
            return made.clone();
        }
        let made = self.make_new(plugin, global);
        self.made.insert(plugin.at.clone(), made.clone());
        made
    }

    fn make_new(&mut self, plugin: &PluginConf, global: bool) -> Option<Step> {
        if plugin.meta.disable {
            return None;
        }
        let loaded = self.load(plugin)?;
        let known = &self.plugins;
        if loaded.plugin.is_per_worker() && !known.iter().any(|k| Arc::ptr_eq(k, &loaded.plugin)) {
            self.plugins.push(Arc::clone(&loaded.plugin));
        }
        let Meta { priority, filter, error_response, .. } = &plugin.meta;
        Some(Step {
            hooks: loaded.plugin.hooks(),
            plugin: loaded.plugin,
            filter: filter.as_ref().and_then(|rule| self.rule(rule)),
            error_response: error_response.as_ref().map(error_body),
            phase: loaded.phase,
            global,
            priority: priority.unwrap_or(loaded.priority),
        })
    }

    fn load(&mut self, plugin: &PluginConf) -> Option<Loaded> {
        let loader = self.loader_of(plugin)?;
        let reader = Reader::new(&plugin.conf, plugin.at.clone(), &self.problems);
        self.inputs.loaders[loader].load(&plugin.name, reader)
    }

    /// Which loader knows a plugin, if it is enabled; else a problem.
    pub(super) fn loader_of(&self, plugin: &PluginConf) -> Option<usize> {
        let config = self.inputs.config;
        let is_wasm = config.wasm_plugins.iter().any(|wasm| wasm.name == plugin.name);
        if let Some(enabled) = &config.plugins
            && !is_wasm
            && !enabled.iter().any(|name| name.name == plugin.name)
        {
            let fault = Fault::new(format!("plugin {} is not enabled", plugin.name))
                .hint("add it to `plugins` in config.yaml");
            self.problems.error(Problem::new(plugin.at.clone(), fault).on_key());
            return None;
        }
        let mut loaders = self.inputs.loaders.iter();
        let known = loaders.position(|l| l.names().contains(&plugin.name.as_str()));
        // A wasm plugin that could not be loaded is a problem of its own.
        if known.is_none() && !is_wasm {
            self.unknown(plugin);
        }
        known
    }

    fn unknown(&self, plugin: &PluginConf) {
        let names: Vec<&str> = self.inputs.loaders.iter().flat_map(|l| l.names()).collect();
        let hint = match nearest(&plugin.name, names.iter().copied()) {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!("plugins here: {}", names.join(", ")),
        };
        let fault = Fault::new(format!("unknown plugin `{}`", plugin.name)).hint(hint);
        self.problems.error(Problem::new(plugin.at.clone(), fault).on_key());
    }

    fn rule(&self, rule: &Rule) -> Option<Expr> {
        Expr::compile(&rule.value)
            .map_err(|error| {
                let at = error.path.iter().fold(rule.at.clone(), |at, step| at.index(*step));
                self.problems.error(Problem::new(at, error.message));
            })
            .ok()
    }
}

/// Labels as metadata. Their namespace says whose labels they are.
fn metadata(labels: &[(String, String)]) -> Properties {
    let mut metadata = Properties::default();
    for (name, value) in labels {
        let path = ["apisix", name].join("\0");
        // What there is no room for is left out: labels are short, and a thousand of them many.
        let _ = metadata.set(path.as_bytes(), value.as_bytes(), PropertyTraits::default());
    }
    metadata
}

/// What a request without a route meets.
fn unmatched(global: Vec<Step>) -> Route {
    Route {
        facts: RouteFacts::default(),
        chain: Chain::new(global),
        target: Target::NoRoute,
        prepared: None,
        timeouts: None,
        upgrades: false,
    }
}

/// The response of a chain that can only give one (DESIGN §1, fast path): a single plugin that
/// answers everything alike, with nothing else to run before, after or instead.
fn prepare(chain: &Chain) -> Option<Prepared> {
    let [step] = chain.steps() else { return None };
    if step.filter.is_some() {
        return None;
    }
    let mut response = step.plugin.only_response()?;
    if let Some(body) = &step.error_response
        && response.status >= 400
    {
        response.body = Some(body.clone());
    }
    Some(Prepared::new(&response))
}

/// A string is sent as it is, an object as JSON and a line end (reference §9).
fn error_body(value: &Value) -> Vec<u8> {
    match value {
        Value::String(text) => text.clone().into_bytes(),
        other => format!("{other}\n").into_bytes(),
    }
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
    }
}

#[cfg(test)]
#[path = "compile_tests.rs"]
mod tests;
