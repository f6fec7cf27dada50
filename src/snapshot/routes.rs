//! Routes: references followed, plugins merged, chains ordered.

use super::compile::Compiler;
use super::upstreams::timeouts;
use super::{Chain, Prepared, Route, Step, Target};
use crate::conf::{Resources, Route as RouteConf, Service};
use crate::plugin::{Properties, PropertyTraits, RouteFacts};
use crate::route::RouteMatch;
use crate::schema;
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Where the items of some resources stand in their lists, by their ids.
#[derive(Debug)]
pub(super) struct Places<'a> {
    resources: &'a Resources,
    services: FxHashMap<&'a str, usize>,
    plugin_configs: FxHashMap<&'a str, usize>,
    upstreams: FxHashMap<&'a str, usize>,
}

/// A resource that another one names.
#[derive(Clone, Copy, Debug)]
pub(super) enum Named {
    /// It names none.
    None,
    /// There is none of that id.
    Missing,
    /// Its place in the list.
    At(usize),
}

impl<'a> Places<'a> {
    pub(super) fn of(resources: &'a Resources) -> Self {
        let Resources { services, plugin_configs, upstreams, .. } = resources;
        let services = services.iter().enumerate().map(|(at, item)| (item.id.as_str(), at));
        let configs = plugin_configs.iter().enumerate().map(|(at, item)| (item.id.as_str(), at));
        let upstreams = upstreams.iter().enumerate();
        let upstreams = upstreams.filter_map(|(at, item)| Some((item.id.as_deref()?, at)));
        Self {
            resources,
            services: services.collect(),
            plugin_configs: configs.collect(),
            upstreams: upstreams.collect(),
        }
    }

    /// The place of an upstream.
    pub(super) fn upstream(&self, id: &str) -> Option<usize> {
        self.upstreams.get(id).copied()
    }

    fn service(&self, route: &RouteConf) -> Named {
        named(&self.services, route.service_id.as_deref())
    }

    fn service_of(&self, route: &RouteConf) -> Option<&'a Service> {
        match self.service(route) {
            Named::At(at) => Some(&self.resources.services[at]),
            Named::None | Named::Missing => None,
        }
    }

    fn plugin_config(&self, route: &RouteConf) -> Named {
        named(&self.plugin_configs, route.plugin_config_id.as_deref())
    }

    /// What a route matches, but for its `vars`.
    pub(super) fn route_match(&self, route: &RouteConf) -> RouteMatch {
        let hosts = match self.service_of(route) {
            Some(service) if route.hosts.is_empty() => service.hosts.clone(),
            _ => route.hosts.clone(),
        };
        RouteMatch {
            hosts,
            uris: route.uris.clone(),
            methods: route.methods,
            remote_addrs: route.remote_addrs.clone(),
            vars: None,
            priority: route.priority,
            order: order(route),
        }
    }
}

fn named(places: &FxHashMap<&str, usize>, id: Option<&str>) -> Named {
    match id.map(|id| places.get(id)) {
        None => Named::None,
        Some(None) => Named::Missing,
        Some(Some(at)) => Named::At(*at),
    }
}

/// Routes of a list are in its order, which is that of their numbers. Those that are kept under
/// their ids, where a number says nothing, are in the order of these.
fn order(route: &RouteConf) -> Arc<str> {
    match route.at.steps() {
        [_, schema::Step::Key(id), ..] => id.as_str().into(),
        _ => Arc::default(),
    }
}

impl<'a> Compiler<'a> {
    pub(super) fn route_match(&self, route: &RouteConf) -> RouteMatch {
        let vars = route.vars.as_ref().and_then(|rule| self.rule(rule));
        RouteMatch { vars, ..self.places.route_match(route) }
    }

    pub(super) fn route(&mut self, route: &'a RouteConf) -> Route {
        let (config, service) = (self.places.plugin_config(route), self.places.service(route));
        let mut steps = self.steps(&route.plugins);
        let target = match (config, service) {
            // As in APISIX these answer before any plugin runs (reference §9, §5.2).
            (Named::Missing, _) => return self.broken_route(route, 503),
            (_, Named::Missing) => return self.broken_route(route, 404),
            (_, service) => self.target(route, service),
        };
        if let Named::At(at) = config {
            add_missing(&mut steps, &self.next.configs_at[at]);
        }
        if let Named::At(at) = service {
            add_missing(&mut steps, &self.next.services_at[at].steps);
        }
        steps.extend_from_slice(&self.next.global);
        let chain = Chain::new(steps);
        let service = self.places.service_of(route);
        let of_service = service.and_then(|service| service.enable_websocket);
        let upgrades = route.enable_websocket.or(of_service).unwrap_or(false);
        Route {
            facts: self.facts(route, service, target),
            prepared: prepare(&chain),
            chain,
            target,
            timeouts: route.timeout.map(timeouts),
            upgrades,
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
    fn target(&mut self, route: &'a RouteConf, service: Named) -> Target {
        if let Some(id) = &route.upstream_id {
            return self.upstream_id(id);
        }
        if let Some(upstream) = &route.upstream {
            let number = self.next.upstream_numbers.take();
            self.set_upstream(number, "routes", &route.id, upstream);
            return Target::Upstream(number as usize);
        }
        let Named::At(at) = service else { return Target::Status(503) };
        if let Some(id) = &self.inputs.resources.services[at].upstream_id {
            return self.upstream_id(id);
        }
        match self.next.services_at[at].upstream {
            Some(number) => Target::Upstream(number as usize),
            None => Target::Status(503),
        }
    }

    fn upstream_id(&self, id: &str) -> Target {
        let number = self.places.upstream(id).map(|at| self.next.upstreams_at[at]);
        number.map_or(Target::Status(502), |number| Target::Upstream(number as usize))
    }

    fn facts(
        &self,
        route: &RouteConf,
        service: Option<&Service>,
        target: Target,
    ) -> Arc<RouteFacts> {
        let upstream = match target {
            Target::Upstream(number) => self.next.upstreams.get(number).and_then(Option::as_ref),
            _ => None,
        };
        Arc::new(RouteFacts {
            route_id: route.id.clone(),
            route_name: route.name.clone().unwrap_or_default(),
            service_id: service.map(|s| s.id.clone()).unwrap_or_default(),
            service_name: service.and_then(|s| s.name.clone()).unwrap_or_default(),
            upstream_name: upstream.map(|u| u.name.clone()).unwrap_or_default(),
            labels: metadata(&route.labels),
            service_labels: service.map(|s| metadata(&s.labels)).unwrap_or_default(),
            upstream_labels: upstream.map(|u| metadata(&u.labels)).unwrap_or_default(),
        })
    }
}

/// Adds the steps of plugins whose names are not there yet: whole configurations win, nothing is
/// mixed.
fn add_missing(steps: &mut Vec<Step>, below: &[Step]) {
    for step in below {
        if !steps.iter().any(|known| known.plugin.name() == step.plugin.name()) {
            steps.push(step.clone());
        }
    }
}

/// The response of a chain that can only give one (DESIGN §1, fast path): a single plugin that
/// answers everything alike, with nothing else to run before, after or instead. Plugins without a
/// callback are nothing.
fn prepare(chain: &Chain) -> Option<Prepared> {
    let step = chain.sole()?;
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
