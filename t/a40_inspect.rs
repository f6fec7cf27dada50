//! `check --json`, `explain`, `diff` and `schema`: what is said of a configuration without a start.

use crate::harness::{Ended, Setup, ringgate};
use serde_json::Value;

fn json(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
}

const WRONG: &str = "
routes:
  - id: a
    uri: /a
    vars: [[arg_x, '~~', '(']]
    plugins: {fault-injektion: {}}
  - id: b
    uri: /b
    remote_addr: 10.0.0.0/33
    plugins: {limit-req: {rate: 1, burst: -1, key: remote_addr}}
  - id: c
    uri: /c
    upstream_id: gone
";

/// What is wrong with types, plugins and settings is said in one go, each at its place.
#[test]
fn all_errors_of_both_files_at_once() {
    let setup = Setup::new(WRONG);
    let config = setup.write_with("keepalive_timeout: 60s", "keepalive_timeuot: 60s");
    let ended = ringgate(["check", "--json", "-c", &config]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let report = json(&ended);
    assert_eq!(report["ok"], false);
    let found = report["diagnostics"].as_array().expect("a list");
    for (file, line, column, message, hint) in [
        ("config.yaml", 6, 5, "unknown key `keepalive_timeuot`", "keepalive_timeout"),
        ("apisix.yaml", 5, 26, "invalid regular expression", ""),
        ("apisix.yaml", 6, 15, "unknown plugin `fault-injektion`", "fault-injection"),
        ("apisix.yaml", 9, 18, "\"10.0.0.0/33\" is not an address or a network", "10.0.0.0/8"),
        ("apisix.yaml", 10, 43, "expected a number of at least 0", ""),
        ("apisix.yaml", 13, 18, "no upstream has the id `gone`", ""),
    ] {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let one = found.iter().find(|one| {
            text(&one["message"]).contains(message) && text(&one["file"]).ends_with(file)
        });
        let one = one.unwrap_or_else(|| panic!("no {message:?} in {report:#}"));
        assert_eq!(
            (one["line"].as_u64(), one["column"].as_u64()),
            (Some(line), Some(column)),
            "{one}"
        );
        assert!(text(&one["hint"]).contains(hint), "{one}");
    }
}

#[test]
fn warnings_are_errors_if_one_wants() {
    let setup = Setup::new("routes: [{uri: /a, upstream_id: gone}]");
    let config = setup.write_path();
    let ended = ringgate(["check", "-c", &config]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("warning: no upstream has the id `gone`"), "{ended:?}");
    let ended = ringgate(["check", "--strict", "-c", &config]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(!ended.stdout.contains("is good"), "{ended:?}");
}

const ROUTES: &str = "
upstreams: [{id: u, nodes: {\"127.0.0.1:1980\": 2}}]
global_rules: [{id: g, plugins: {request-id: {}}}]
routes:
  - id: exact
    uri: /users/me
    methods: [POST]
    upstream_id: u
  - id: mine
    uri: /users/*
    hosts: [\"*.shop.test\"]
    priority: 5
    vars: [[http_x_team, ==, blue]]
    plugins:
      cors: {}
      limit-req: {rate: 9, burst: 9, key: remote_addr, _meta: {filter: [[arg_limit, ==, yes]]}}
    upstream_id: u
  - id: everyone
    uri: /users*
    upstream_id: u
  - id: fixed
    uri: /fixed
    plugins: {fault-injection: {abort: {http_status: 418}}, request-id: {}}
";

fn explained(arguments: &[&str]) -> String {
    let setup = Setup::new(ROUTES);
    let config = setup.write_path();
    let all = ["explain"].iter().chain(arguments).copied().chain(["-c", &config]);
    let ended = ringgate(all);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended.stdout
}

#[test]
fn explain_says_which_route_and_why() {
    let url = "http://a.shop.test/users/me?limit=no";
    let text = explained(&["GET", url, "-H", "X-Team: blue", "--from", "10.1.2.3"]);
    for line in [
        "GET a.shop.test/users/me?limit=no from 10.1.2.3",
        "route     mine (line 9), /users/*",
        "found by a wildcard host and a prefix of its path",
        "rewrite      request-id, priority 12015, of a global rule",
        "rewrite      cors, priority 4000",
        "access       limit-req, priority 1001, skipped: its filter does not match",
        "upstream  u, RoundRobin over 127.0.0.1:1980 weight 2",
        "exact (line 5), /users/me: after, but its methods leave GET out",
        "everyone (line 18), /users*: after, it fits too, but by any host, and hosts come first",
    ] {
        assert!(text.contains(line), "{line}\n--- in\n{text}");
    }
    let order: Vec<_> = ["request-id", "cors", "limit-req"].iter().map(|p| text.find(p)).collect();
    assert!(order.is_sorted(), "{text}");
}

#[test]
fn explain_says_why_not() {
    let text = explained(&["GET", "http://a.shop.test/users/x", "-H", "x-team: red"]);
    assert!(text.contains("route     everyone"), "{text}");
    assert!(
        text.contains("mine (line 9), /users/*: asked before, but its vars don't match"),
        "{text}"
    );
    let text = explained(&["GET", "/fixd"]);
    assert!(text.contains("route     none: 404"), "{text}");
    assert!(text.contains("did you mean `/fixed`?"), "{text}");
    let setup = Setup::new(ROUTES);
    let ended = ringgate(["explain", "GET", "ftp://a/", "-c", &setup.write_path()]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("`ftp` is not http or https"), "{ended:?}");
}

#[test]
fn diff_names_fields_and_what_they_mean() {
    let old = Setup::new(
        "routes: [{id: a, uri: /a, plugins: {limit-req: {rate: 1, burst: 1, key: \
                          remote_addr}}}, {id: gone, uri: /g, upstream_id: u}]\nconsumers: [{username: \
                          jack, plugins: {key-auth: {key: rosebud}}}]",
    );
    let new = Setup::new(
        "routes: [{id: a, uri: /a, plugins: {limit-req: {rate: 2, burst: 1, key: \
                          remote_addr}}}, {id: new, uri: /n, upstream_id: u}]\nconsumers: [{username: \
                          jack, plugins: {key-auth: {key: xanadu}}}]",
    );
    let (before, after) = (old.write_path(), new.write_with("port: 0", "port: 9999"));
    let ended = ringgate(["diff", &before, &after]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for line in [
        "~ config.yaml apisix.node_listen[0].port: 0 → 9999",
        "127.0.0.1:9999 opens",
        "~ route a\n    plugins.limit-req.rate: 1 → 2\n    limit-req is configured anew",
        "+ route new for \"/n\"",
        "- route gone",
        "~ consumer jack\n    plugins.key-auth.key: \"(hidden)\" → \"(hidden)\"",
    ] {
        assert!(ended.stdout.contains(line), "{line}\n--- in\n{}", ended.stdout);
    }
    assert!(!ended.stdout.contains("rosebud"), "{ended:?}");
    let ended = ringgate(["diff", &before, &before]);
    assert_eq!(ended.stdout, "nothing changes\n");
}

#[test]
fn schemas_name_what_is_there() {
    let schema = json(&ringgate(["schema", "config"]));
    let apisix = &schema["properties"]["apisix"].to_string();
    assert!(apisix.contains("node_listen") && apisix.contains("radixtree_host_uri"), "{apisix}");
    let schema = json(&ringgate(["schema"]));
    for name in ["plugin:fault-injection", "plugin:cors", "credential:key-auth", "meta"] {
        assert!(schema["$defs"][name].is_object(), "{name}");
    }
    assert!(schema["properties"]["routes"].to_string().contains("#/$defs/plugin:cors"));
}
