//! A snapshot that was made of the one before is the one that would have been made from nothing.

use super::tests::Doubles;
use super::*;
use crate::conf::resources::{Entry, gather, read_item};
use crate::conf::{Source, process};
use crate::http::Method;
use crate::plugin::Message;
use crate::route::Lookup;
use crate::snapshot::Pinned;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Items by their keys, as the Admin API keeps them.
type Items = BTreeMap<String, Entry>;

struct Rig {
    config: Config,
    nodes: NodeTable,
    random: fastrand::Rng,
}

impl Rig {
    fn new(seed: u64) -> Self {
        let text = "plugins: [one, two, three, worker]";
        let (config, _) =
            process::parse(&Source::new("config.yaml", text), &|_| None).expect("config");
        Self { config, nodes: NodeTable::default(), random: fastrand::Rng::with_seed(seed) }
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.random.usize(0..of.len())]
    }

    fn chance(&mut self, of: u8) -> bool {
        self.random.u8(0..of) == 0
    }

    fn id(&mut self) -> String {
        self.random.u8(0..6).to_string()
    }

    fn upstream(&mut self) -> Value {
        let port = self.random.u16(1..4);
        let mut value = json!({"nodes": {format!("10.0.0.1:{port}"): 1}});
        if self.chance(2) {
            value["name"] = self.pick(&["a", "b"]).into();
        }
        if self.chance(8) {
            value["nodes"] = json!({"known:80": 1, "lost:80": 1});
        }
        if self.chance(20) {
            value = json!({"type": "chash", "key": "uri", "nodes": {"a:1": 100_000, "b:1": 1}});
        }
        value
    }

    fn plugins(&mut self) -> Value {
        let mut plugins = json!({});
        for name in ["one", "two", "three", "worker"] {
            if self.chance(3) {
                plugins[name] = json!({"only": self.random.u16(200..203)});
            }
        }
        if self.chance(30) {
            plugins["one"] = json!({"bad": 1});
        }
        if self.chance(30) {
            plugins["two"] = json!({"joint": 1});
        }
        plugins
    }

    fn target(&mut self, value: &mut Value) {
        if self.chance(3) {
            value["upstream_id"] = self.id().into();
        }
        if self.chance(3) {
            value["upstream"] = self.upstream();
        }
    }

    fn route(&mut self) -> Value {
        let uri = self.pick(&["/a", "/b", "/a/*", "/*", "/a/*/c"]);
        let mut value = json!({"uri": uri, "plugins": self.plugins()});
        self.target(&mut value);
        if self.chance(3) {
            value["service_id"] = self.id().into();
        }
        if self.chance(4) {
            value["plugin_config_id"] = self.id().into();
        }
        if self.chance(3) {
            value["host"] = self.pick(&["a.com", "*.com", "b.com"]).into();
        }
        if self.chance(4) {
            value["priority"] = self.random.u8(0..3).into();
        }
        if self.chance(6) {
            value["status"] = 0.into();
        }
        if self.chance(8) {
            value["vars"] = json!([["arg_a", self.pick(&["==", "nope"]), "1"]]);
        }
        value
    }

    /// Some item, or that it goes.
    fn change(&mut self) -> (String, Option<Entry>) {
        let collection = self.pick(&[
            "routes",
            "routes",
            "routes",
            "services",
            "upstreams",
            "plugin_configs",
            "global_rules",
        ]);
        let id = self.id();
        let mut value = match collection {
            "routes" => self.route(),
            "upstreams" => self.upstream(),
            _ => json!({"id": id, "plugins": self.plugins()}),
        };
        if collection == "services" {
            self.target(&mut value);
            if self.chance(2) {
                value["hosts"] = json!([self.pick(&["a.com", "*.a.com"])]);
            }
        }
        let rare = collection == "global_rules" && !self.chance(4);
        if rare || self.chance(4) {
            return (format!("{collection}/{id}"), None);
        }
        let problems = Problems::new();
        let entry = read_item(collection, &id, &value, &problems);
        assert!(problems.is_ok(), "{value}: {:?}", problems.into_parts());
        (format!("{collection}/{id}"), entry)
    }

    fn compile(
        &self,
        items: &Items,
        before: &Assembly,
        doubles: &mut Doubles,
    ) -> Result<Compiled, Refused> {
        let resources = Arc::new(gather(items.values()));
        let nothing = Assembly::default();
        let leads = before.leads_to(&resources, &[&*doubles]);
        compile(Inputs {
            number: 1,
            config: &self.config,
            resources: &resources,
            loaders: vec![doubles],
            nodes: &self.nodes,
            resolve: &|names| {
                let known = names.into_iter().filter(|name| name == "known");
                known.map(|name| (name, vec![[10, 0, 0, 1].into()])).collect()
            },
            before: if leads { before } else { &nothing },
        })
    }
}

/// All that a route is, numbers aside.
fn shown(snapshot: &Snapshot, number: Option<u32>) -> String {
    let route = snapshot.route(number);
    let upstream = match route.target {
        Target::Upstream(number) => {
            let upstream = snapshot.upstream(number);
            let peers = upstream.peers.iter();
            let peer = |peer: &crate::upstream::Peer| {
                format!("{}:{} {:?}", peer.node.host, peer.node.port, peer.node.addresses())
            };
            let peers: Vec<String> = peers.map(peer).collect();
            format!("{} {} {peers:?}", upstream.board.key(), upstream.name)
        }
        other => format!("{other:?}"),
    };
    let step = |at: &u16| {
        let step = &route.chain.steps()[*at as usize];
        format!("{} {} {:?}", step.plugin.name(), step.global, step.plugin.only_response())
    };
    let steps: Vec<String> = route.chain.request_order().iter().map(step).collect();
    format!("{:?} {upstream} {steps:?} {:?}", route.facts, route.prepared)
}

fn assert_same(made: &Snapshot, whole: &Snapshot) {
    for host in ["a.com", "x.a.com", "b.com", "x"] {
        for path in ["/a", "/b", "/a/x", "/a/x/c", "/x"] {
            let (peer, method) = ([10, 0, 0, 1].into(), Method::Get);
            let lookup = Lookup { host: host.as_bytes(), path: path.as_bytes(), method, peer };
            let shown = |snapshot: &Snapshot| {
                let found = snapshot.router.find(&lookup, &Message::default());
                shown(snapshot, found)
            };
            assert_eq!(shown(made), shown(whole), "{host}{path}");
        }
    }
    let all = |snapshot: &Snapshot| {
        let numbers = (0..snapshot.routes.len() as u32)
            .filter(|number| snapshot.routes.get(*number as usize).is_some_and(Option::is_some));
        let mut all: Vec<String> = numbers.map(|number| shown(snapshot, Some(number))).collect();
        all.sort_unstable();
        all
    };
    assert_eq!(all(made), all(whole));
    let names = |snapshot: &Snapshot| {
        let names = snapshot.upstream_names.iter();
        let key = |number: usize| snapshot.upstream(number).board.key();
        let mut names: Vec<String> =
            names.map(|(name, number)| format!("{name:?} {}", key(*number))).collect();
        names.sort_unstable();
        names
    };
    assert_eq!(names(made), names(whole));
    let keys = |upstreams: &mut dyn Iterator<Item = &Arc<crate::upstream::Upstream>>| {
        let mut keys: Vec<String> = upstreams.map(|u| u.board.key().to_owned()).collect();
        keys.sort_unstable();
        keys
    };
    let both = |s: &Snapshot| (keys(&mut s.upkeep.iter()), keys(&mut s.upstreams.iter().flatten()));
    assert_eq!(both(made), both(whole));
    // Each plugin with state per worker once; how many there are depends on what was made anew.
    let chains = made.routes.iter().flatten();
    let used = chains.flat_map(|route| route.chain.steps()).filter(|s| s.plugin.is_per_worker());
    for step in used {
        let listed = made.plugins.iter().filter(|plugin| Arc::ptr_eq(plugin, &step.plugin));
        assert_eq!(listed.count(), 1);
    }
    assert_eq!(made.plugins.len(), whole.plugins.len());
}

fn messages(refused: &Refused) -> Vec<String> {
    let mut all: Vec<String> =
        refused.errors.iter().map(|e| format!("{}: {}", e.at, e.message)).collect();
    all.sort_unstable();
    all
}

#[test]
fn edits_make_what_would_be_made_from_nothing() {
    let (mut good, mut refused, mut followed) = (0, 0, 0);
    for seed in 0..60 {
        let mut rig = Rig::new(seed);
        let (mut items, mut before) = (Items::new(), Assembly::default());
        let mut doubles = Doubles::default();
        for _ in 0..40 {
            let mut draft = items.clone();
            for _ in 0..rig.random.usize(1..4) {
                match rig.change() {
                    (key, Some(entry)) => drop(draft.insert(key, entry)),
                    (key, None) => drop(draft.remove(&key)),
                }
            }
            let whole = rig.compile(&draft, &Assembly::default(), &mut Doubles::default());
            let made = rig.compile(&draft, &before, &mut doubles);
            match (made, whole) {
                (Ok(made), Ok(whole)) => {
                    assert_same(&made.snapshot, &whole.snapshot);
                    followed += usize::from(made.assembly.edits > 0);
                    (items, before, good) = (draft, made.assembly, good + 1);
                }
                (Err(made), Err(whole)) => {
                    // What is wrong was wrong in nothing that stays.
                    assert_eq!(messages(&made), messages(&whole));
                    refused += 1;
                }
                (made, whole) => panic!("seed {seed}: {made:?}\n{whole:?}"),
            }
        }
    }
    assert!(good > 1_000 && refused > 100 && followed > 500, "{good} {refused} {followed}");
}

#[test]
fn one_route_among_many_shares_all_the_others() {
    let rig = Rig::new(1);
    let mut items = Items::new();
    let read = |n: usize, uri: &str| {
        let value = json!({"uri": uri, "upstream": {"nodes": {"10.0.0.1:1": 1}}});
        read_item("routes", &n.to_string(), &value, &Problems::new()).expect("a route")
    };
    for n in 0..2_000 {
        items.insert(format!("routes/{n}"), read(n, &format!("/{n}")));
    }
    let mut doubles = Doubles::default();
    let first = rig.compile(&items, &Assembly::default(), &mut doubles).expect("compiles");
    items.insert("routes/77".to_owned(), read(77, "/new"));
    let second = rig.compile(&items, &first.assembly, &mut doubles).expect("compiles");
    let (old, new) = (&first.snapshot, &second.snapshot);
    assert_eq!(new.routes.own_chunks(&old.routes), 1);
    assert_eq!(new.upstreams.own_chunks(&old.upstreams), 1);
    assert!(Arc::ptr_eq(&new.plugins, &old.plugins));
    assert!(Arc::ptr_eq(&new.upkeep, &old.upkeep));
    assert_eq!(new.route_count(), 2_000);
}

#[test]
fn a_consumers_chain_is_made_anew_with_its_route() {
    let rig = Rig::new(1);
    let mut items = Items::new();
    let read = |collection: &str, id: &str, value: Value| {
        read_item(collection, id, &value, &Problems::new()).expect("an item")
    };
    let route = |plugins: Value| read("routes", "1", json!({"uri": "/a", "plugins": plugins}));
    items.insert("routes/1".to_owned(), route(json!({"three": {}, "one": {"only": 200}})));
    let other = read("routes", "2", json!({"uri": "/b", "plugins": {"three": {}}}));
    items.insert("routes/2".to_owned(), other);
    let jack = json!({"username": "jack", "plugins": {"two": {"only": 201}}});
    items.insert("consumers/jack".to_owned(), read("consumers", "jack", jack));
    let mut doubles = Doubles::default();
    let first = rig.compile(&items, &Assembly::default(), &mut doubles).expect("compiles");
    items.insert("routes/1".to_owned(), route(json!({"three": {}})));
    let second = rig.compile(&items, &first.assembly, &mut doubles).expect("compiles");
    assert_eq!(second.assembly.edits, 1, "only the route was made");

    let before = Pinned::new(Arc::new(first.snapshot), None);
    let chain = |pinned: &Pinned, route| {
        pinned.chain_with(route, "jack").expect("no group is missing").expect("he brings something")
    };
    let number = |pinned: &Pinned, id: &str| {
        let routes = &pinned.snapshot.routes;
        let is = |number: &u32| {
            let route = routes.get(*number as usize).and_then(Option::as_ref);
            route.is_some_and(|route| route.facts.route_id == id)
        };
        (0..routes.len() as u32).find(is).expect("a route")
    };
    let at = number(&before, "1");
    assert_eq!(chain(&before, at).steps().len(), 3);
    let kept = chain(&before, number(&before, "2"));
    let after = Pinned::new(Arc::new(second.snapshot), Some(&before));
    assert_eq!(number(&after, "1"), at, "it has its number still");
    assert_eq!(chain(&after, at).steps().len(), 2);
    assert!(Rc::ptr_eq(&kept, &chain(&after, number(&after, "2"))), "the other one stays");
}
