//! Compiling: references, merging, prepared responses, what is refused.

use super::*;
use crate::conf::{Source, process, resources};
use crate::http::Method;
use crate::plugin::{
    Consumer, Hooks, Loaded, LocalResponse, Message, Plugin, RequestPhase, refuse_credential,
};
use crate::route::Lookup;
use crate::schema::Reader;
use crate::upstream::Timeouts;
use serde_json::Value;

/// A plugin that answers everything alike if its conf has `only`. `worker` has something on each
/// worker, `idle` no callback.
#[derive(Debug)]
struct Double {
    name: &'static str,
    only: Option<u16>,
}

impl Plugin for Double {
    fn name(&self) -> &str {
        self.name
    }

    fn hooks(&self) -> Hooks {
        if self.name == "idle" { Hooks::NONE } else { Hooks::REQUEST_HEADERS }
    }

    fn is_per_worker(&self) -> bool {
        self.name == "worker"
    }

    fn only_response(&self) -> Option<LocalResponse> {
        self.only.map(|status| LocalResponse { status, ..LocalResponse::default() })
    }
}

/// Knows three plugins, and `three` as one that tells consumers apart.
#[derive(Default)]
pub(super) struct Doubles {
    /// Who was shown, and by what they are known.
    consumers: Vec<String>,
}

const NAMES: [&str; 5] = ["one", "two", "three", "worker", "idle"];

impl Loader for Doubles {
    fn names(&self) -> Vec<&str> {
        NAMES.to_vec()
    }

    fn load(&mut self, name: &str, conf: Reader<'_>) -> Option<Loaded> {
        let name = NAMES.into_iter().find(|known| *known == name)?;
        let only = conf.value().get("only").and_then(Value::as_u64).map(|status| status as u16);
        if conf.value().get("bad").is_some() {
            conf.error("bad");
            return None;
        }
        let priority = if name == "one" { 1 } else { 2 };
        if name == "three" {
            conf.warn(self.consumers.join(", "));
        }
        let plugin = Arc::new(Double { name, only });
        Some(Loaded { plugin, phase: RequestPhase::Access, priority })
    }

    fn tells_consumers_apart(&self, name: &str) -> bool {
        name == "three"
    }

    fn looks_at_others(&self, _: &str, conf: &Value) -> bool {
        conf.get("joint").is_some()
    }

    fn add_consumer(&mut self, consumer: &Arc<Consumer>) {
        self.consumers.push(consumer.username.clone());
    }

    fn add_credential(&mut self, name: &str, conf: Reader<'_>, consumer: &Arc<Consumer>) {
        if name != "three" {
            return refuse_credential(name, &conf);
        }
        let credential = consumer.credential_id.as_deref().unwrap_or("-");
        let custom = consumer.custom_id.as_deref().unwrap_or("-");
        let known = format!("{} {credential} {custom} by {}", consumer.username, conf.value());
        self.consumers.push(known);
    }
}

fn compiled(config: &str, text: &str) -> Result<Snapshot, Vec<String>> {
    let none = |_: &str| None;
    let (config, _) = process::parse(&Source::new("config.yaml", config), &none).expect("config");
    let (resources, _) =
        resources::parse(&Source::new("apisix.yaml", text), &none, false).expect("resources");
    let mut doubles = Doubles::default();
    let inputs = Inputs {
        number: 7,
        config: &config,
        resources: &Arc::new(resources),
        loaders: vec![&mut doubles],
        nodes: &NodeTable::default(),
        before: &Assembly::default(),
        resolve: &|names| {
            let known = names.into_iter().filter(|name| name == "known");
            known.map(|name| (name, vec![[10, 0, 0, 1].into()])).collect()
        },
    };
    let text = |problem: &Problem| format!("{}: {}", problem.at, problem.message);
    compile(inputs)
        .map(|compiled| compiled.snapshot)
        .map_err(|refused| refused.errors.iter().map(text).collect())
}

fn route_of(snapshot: &Snapshot, number: u32) -> &Route {
    snapshot.routes.get(number as usize).and_then(Option::as_ref).expect("a route")
}

fn good(text: &str) -> Snapshot {
    compiled("", text).expect("compiles")
}

fn names(route: &Route) -> Vec<String> {
    let chain = &route.chain;
    let step = |at: &u16| chain.steps()[*at as usize].plugin.name().to_owned();
    chain.request_order().iter().map(step).collect()
}

const NODES: &str = "{ nodes: { '127.0.0.1:80': 1 } }";

#[test]
fn targets_of_routes_and_what_stands_for_missing_ones() {
    let table = [
        (format!("upstream: {NODES}"), Target::Upstream(1)),
        ("upstream_id: u".to_owned(), Target::Upstream(0)),
        (format!("upstream_id: u, upstream: {NODES}"), Target::Upstream(0)),
        ("upstream_id: nobody".to_owned(), Target::Status(502)),
        ("plugins: { one: {} }".to_owned(), Target::Status(503)),
        ("service_id: nobody".to_owned(), Target::Status(404)),
        (format!("plugin_config_id: nobody, upstream: {NODES}"), Target::Status(503)),
        ("service_id: s".to_owned(), Target::Upstream(0)),
        (format!("service_id: s, upstream: {NODES}"), Target::Upstream(1)),
    ];
    for (fields, target) in table {
        let text = format!(
            "routes: [ {{ uri: /, {fields} }} ]\n\
             upstreams: [ {{ id: u, nodes: {{ 'known:80': 1 }} }} ]\n\
             services: [ {{ id: s, upstream_id: u }} ]\n"
        );
        assert_eq!(route_of(&good(&text), 0).target, target, "{fields}");
    }
}

#[test]
fn plugins_of_a_route_win_over_its_plugin_config_and_service() {
    let snapshot = good(
        "routes: [ { uri: /, service_id: s, plugin_config_id: c, plugins: { one: { only: 201 } } } ]\n\
         plugin_configs: [ { id: c, plugins: { one: { only: 202 }, two: { only: 203 } } } ]\n\
         services: [ { id: s, plugins: { two: { only: 204 }, three: {} } } ]\n",
    );
    let route = route_of(&snapshot, 0);
    assert_eq!(names(route), ["two", "three", "one"]);
    let status_of = |name: &str| {
        let step = route.chain.steps().iter().find(|step| step.plugin.name() == name);
        step.and_then(|step| step.plugin.only_response()).map(|response| response.status)
    };
    assert_eq!((status_of("one"), status_of("two")), (Some(201), Some(203)));
    assert_eq!(snapshot.number, 7);
}

#[test]
fn only_a_lone_plugin_that_looks_at_nothing_is_prepared() {
    let table = [
        ("plugins: { one: { only: 201 } }", "", true),
        ("plugins: { one: {} }", "", false),
        ("plugins: { idle: {}, one: { only: 201 } }", "", true),
        ("plugins: { idle: {} }", "", false),
        ("plugins: { one: { only: 201 }, two: {} }", "", false),
        ("plugins: { one: { only: 201, _meta: { filter: [[arg_a, '==', b]] } } }", "", false),
        ("plugins: { one: { only: 201, _meta: { priority: 9 } } }", "", true),
        ("plugins: { one: { only: 201 }, two: { _meta: { disable: true } } }", "", true),
        (
            "plugins: { one: { only: 201 } }",
            "global_rules: [ { id: g, plugins: { two: {} } } ]",
            false,
        ),
        (
            "plugins: { one: { only: 201 } }",
            "global_rules: [ { id: g, plugins: { idle: {} } } ]",
            true,
        ),
    ];
    for (fields, more, prepared) in table {
        let snapshot = good(&format!("routes: [ {{ uri: /, {fields} }} ]\n{more}\n"));
        assert_eq!(route_of(&snapshot, 0).prepared.is_some(), prepared, "{fields} {more}");
    }
}

#[test]
fn global_rules_run_first_and_for_requests_without_a_route() {
    let snapshot = good(
        "routes: [ { uri: /, plugins: { two: {} } } ]\n\
         global_rules: [ { id: a, plugins: { one: {} } } ]\n",
    );
    assert_eq!(names(route_of(&snapshot, 0)), ["one", "two"]);
    assert_eq!(names(&snapshot.unmatched), ["one"]);
    assert_eq!(snapshot.unmatched.target, Target::NoRoute);
}

#[test]
fn a_closed_one_answers_everything_503() {
    let mut snapshot = good(
        "routes: [{uri: /a, plugins: {one: {only: 200}}}]
global_rules: [{id: 1, plugins: {worker: {}}}]",
    );
    let peer = [10, 0, 0, 1].into();
    let lookup = Lookup { host: b"a", path: b"/a", method: Method::Get, peer };
    let find = |snapshot: &Snapshot| snapshot.router.find(&lookup, &Message::default());
    assert_eq!((find(&snapshot), snapshot.is_closed()), (Some(0), false));
    snapshot.close();
    assert_eq!((find(&snapshot), snapshot.is_closed()), (None, true));
    let route = snapshot.route(None);
    assert_eq!((route.target, names(route).len()), (Target::Status(503), 0));
    assert_eq!(snapshot.route_count(), 1, "it is counted, and its nodes are probed");
}

#[test]
fn disabled_routes_are_left_out_and_services_lend_their_hosts() {
    let snapshot = good(
        "routes:\n\
         - { id: off, uri: /, status: 0, plugins: { one: {} } }\n\
         - { id: on, uri: /, service_id: s, plugins: { one: {} } }\n\
         services: [ { id: s, name: shop, hosts: [ a.com ] } ]\n",
    );
    assert_eq!(snapshot.route_count(), 1);
    assert_eq!(route_of(&snapshot, 0).facts.route_id, "on");
    assert_eq!(route_of(&snapshot, 0).facts.service_name, "shop");
    let peer = IpAddr::from([127, 0, 0, 1]);
    let find = |host: &'static [u8]| {
        let lookup = Lookup { host, path: b"/", method: Method::Get, peer };
        snapshot.router.find(&lookup, &Message::default())
    };
    assert_eq!((find(b"a.com"), find(b"b.com")), (Some(0), None));
}

#[test]
fn upstreams_get_their_defaults() {
    let config = "nginx_config: { http: { upstream: { keepalive: 5 } } }";
    let text = "routes: [ { uri: /, upstream: { nodes: { 'known:80': 1, '[::1]:81': 2, 'lost:80': 1 }, \
                pass_host: node } } ]\n";
    let snapshot = compiled(config, text).expect("compiles");
    let upstream = snapshot.upstream(0);
    let hosts: Vec<&[u8]> = upstream.peers.iter().map(|peer| &peer.host[..]).collect();
    assert_eq!(hosts, [&b"known"[..], b"[::1]:81", b"lost"]);
    let addresses: Vec<_> = upstream.peers.iter().map(|peer| peer.node.addresses()).collect();
    assert_eq!(addresses[0][0].to_string(), "10.0.0.1:80");
    assert_eq!(addresses[1][0].to_string(), "[::1]:81");
    assert!(addresses[2].is_empty(), "a name that can't be resolved");
    assert_eq!(upstream.board.key(), "/apisix/routes/arr_1");
    assert_eq!((upstream.retries, upstream.keep_alive.idle_max), (2, 5));
    assert_eq!(upstream.timeouts, Timeouts::default());
}

#[test]
fn everything_wrong_is_found_at_once() {
    let errors = compiled(
        "plugins: [ one, two ]",
        "routes:\n\
         - { uri: /, plugins: { oen: {} } }\n\
         - { uri: /, plugins: { three: {} } }\n\
         - { uri: /, plugins: { one: { bad: 1 } } }\n\
         - { uri: /, plugins: { one: { _meta: { filter: [[a, '!=', b]] } } } }\n\
         - { uri: /, vars: [[a, nope, b]], plugins: { one: {} } }\n\
         - { uri: /, upstream: { type: chash, key: uri, nodes: { a: 100000, b: 1 } } }\n\
         global_rules: [ { id: a, plugins: { two: {} } }, { id: b, plugins: { two: {} } } ]\n",
    )
    .expect_err("refused");
    for expected in [
        "routes[0].plugins.oen: plugin oen is not enabled",
        "routes[1].plugins.three: plugin three is not enabled",
        "routes[2].plugins.one: bad",
        "routes[3].plugins.one._meta.filter[0]",
        "routes[4].vars[0]",
        "routes[5].upstream.nodes: the ring of `chash` would have 16000160 points",
        "global_rules[1].plugins.two: plugin two stands in two global rules",
    ] {
        assert!(errors.iter().any(|e| e.starts_with(expected)), "{expected}\n{errors:#?}");
    }
    assert_eq!(errors.len(), 7, "{errors:#?}");
    let unknown =
        compiled("", "routes: [ { uri: /, plugins: { oen: {} } } ]\n").expect_err("refused");
    assert_eq!(unknown, ["routes[0].plugins.oen: unknown plugin `oen`"]);
}

#[test]
fn consumers_are_shown_before_plugins_are_made() {
    let none = |_: &str| None;
    let text = "\
routes: [{ uri: /, plugins: { three: {} } }]
consumers:
  - { username: jack, labels: { custom_id: '7' }, plugins: { three: { k: 1 } } }
  - { id: jack/credentials/c, plugins: { three: { k: 2 } } }
  - { username: rose, plugins: { nope: {}, one: {}, two: { _meta: { disable: true } } } }
";
    let errors = compiled("", text).expect_err("refused");
    let unknown = "consumers[2].plugins.nope: unknown plugin `nope`";
    assert_eq!(errors, [unknown]);
    let text = text.replace("/c, plugins: { three: { k: 2 } }", "/c, plugins: { one: {} }");
    let errors = compiled("", &text).expect_err("refused");
    let other = "consumers[1].plugins.one: plugin one can't stand in a credential";
    assert_eq!(errors, [other, unknown]);
    let good = text.replace("plugins: { one: {} }", "plugins: { three: { k: 2 } }");
    let good = &good[..good.find("  - { username: rose").expect("rose")];
    let (config, _) = process::parse(&Source::new("config.yaml", ""), &none).expect("config");
    let (resources, _) =
        resources::parse(&Source::new("apisix.yaml", good), &none, false).expect("resources");
    let mut doubles = Doubles::default();
    let loaders: Vec<&mut dyn Loader> = vec![&mut doubles];
    let inputs = Inputs {
        number: 1,
        config: &config,
        resources: &Arc::new(resources),
        loaders,
        nodes: &NodeTable::default(),
        before: &Assembly::default(),
        resolve: &|_| HashMap::new(),
    };
    let Compiled { warnings, .. } = compile(inputs).expect("compiles");
    let shown = "jack, jack - 7 by {\"k\":1}, jack c 7 by {\"k\":2}";
    assert_eq!(warnings[0].message, shown);
}

#[test]
fn consumers_bring_their_plugins_and_their_groups() {
    let snapshot = good(
        "routes: [ { uri: /, plugins: { three: {}, two: { only: 1 } } } ]\n\
         consumers:\n\
         - { username: none, plugins: { three: {} } }\n\
         - { username: own, plugins: { two: { only: 2 } } }\n\
         - { username: member, group_id: g }\n\
         - { username: both, group_id: g, plugins: { one: { only: 4 } } }\n\
         - { username: off, group_id: g, plugins: { one: { _meta: { disable: true } } } }\n\
         - { username: lost, group_id: gone }\n\
         consumer_groups: [ { id: g, plugins: { one: { only: 3 }, two: { only: 3 } } } ]\n",
    );
    let snapshot = Arc::new(snapshot);
    let pinned = crate::snapshot::Pinned::new(snapshot, None);
    let chain = |username| {
        let chain = pinned.chain_with(0, username)?;
        let text = |chain: &Chain| -> Vec<String> {
            let step = |at: &u16| &chain.steps()[*at as usize].plugin;
            let shown = |plugin: &Arc<dyn Plugin>| {
                let only = plugin.only_response().map_or(0, |response| response.status);
                format!("{}{only}", plugin.name())
            };
            chain.request_order().iter().map(|at| shown(step(at))).collect()
        };
        Ok(chain.map(|chain| text(&chain).join(" ")))
    };
    let joined = |text: &str| Ok(Some(text.to_owned()));
    assert_eq!(chain("none"), Ok(None));
    assert_eq!(chain("nobody"), Ok(None));
    assert_eq!(chain("own"), joined("three0 two2"));
    assert_eq!(chain("member"), joined("three0 two3 one3"));
    assert_eq!(chain("both"), joined("three0 two3 one4"));
    // Its own word on a plugin counts, also when it is that there is none.
    assert_eq!(chain("off"), joined("three0 two3"));
    assert_eq!(chain("lost"), Err(503));
    let again = || pinned.chain_with(0, "own").expect("a chain").expect("a chain");
    assert!(std::rc::Rc::ptr_eq(&again(), &again()), "made once");
}
