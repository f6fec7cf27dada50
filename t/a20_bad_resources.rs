//! Bad `apisix.yaml`: refused at start with file, line, column, and what to do.

use crate::harness::Setup;

#[track_caller]
fn refused(resources: &str) -> String {
    let ended = Setup::new(resources).refused();
    assert_eq!(ended.code, Some(1), "{resources}\n{ended:?}");
    assert!(!ended.stdout.contains("listening"), "{ended:?}");
    ended.stderr
}

#[track_caller]
fn check(resources: &str, wanted: &[&str]) {
    let stderr = refused(resources);
    for wanted in wanted {
        assert!(stderr.contains(wanted), "{wanted:?} of\n{resources}\n{stderr}");
    }
}

#[test]
fn unknown_keys() {
    check(
        "routes:\n  - uri: /a\n    plugin: {}\n    upstream_id: 1\n",
        &["apisix.yaml:3:5: error: unknown key `plugin` in routes[0]", "did you mean `plugins`?"],
    );
    check("route: []", &["apisix.yaml:1:1: error: unknown key `route`", "did you mean `routes`?"]);
}

/// A plugin that is not there must never leave a route open.
#[test]
fn unknown_plugins() {
    check(
        "routes:\n  - uri: /a\n    plugins:\n      fault-injektion: {}\n",
        &["apisix.yaml:4:7: error:", "fault-injektion", "did you mean `fault-injection`?"],
    );
    for (resources, place) in [
        ("services:\n  - id: s\n    plugins: {no-such: {}}\n", "apisix.yaml:3:15: error:"),
        ("plugin_configs:\n  - id: p\n    plugins: {no-such: {}}\n", "apisix.yaml:3:15: error:"),
        ("global_rules:\n  - id: g\n    plugins: {no-such: {}}\n", "apisix.yaml:3:15: error:"),
    ] {
        check(resources, &[place, "no-such"]);
    }
}

/// A rule with a variable that no request has would leave open what it guards.
#[test]
fn variables_that_no_request_has() {
    check(
        "routes:\n  - uri: /a\n    vars: [[post_arg_admin, \"==\", \"1\"]]\n    plugins: {}\n",
        &[
            "apisix.yaml:3:13: error: the variable `post_arg_admin` never has a value here",
            "no variable is made of the body",
        ],
    );
    for (plugin, name) in [
        (
            "ip-restriction: {whitelist: ['::1'], _meta: {filter: [[post_arg.a, ==, 1]]}}",
            "post_arg.a",
        ),
        (
            "fault-injection: {abort: {http_status: 403, vars: [[[uri_param_a, ==, 1]]]}}",
            "uri_param_a",
        ),
        ("fault-injection: {abort: {http_status: 403, body: $graphql_name}}", "graphql_name"),
        ("response-rewrite: {status_code: 200, vars: [[graphql_name, ==, 1]]}", "graphql_name"),
        ("response-rewrite: {headers: {add: [\"a: $post_arg_b\"]}}", "post_arg_b"),
        ("proxy-rewrite: {headers: {X-A: \"a $post_arg.b.c\"}}", "post_arg.b.c"),
        ("proxy-rewrite: {uri: /$uri_param_b}", "uri_param_b"),
        ("redirect: {uri: /$uri_param_b}", "uri_param_b"),
        ("mocking: {response_example: $post_arg_b}", "post_arg_b"),
        ("real-ip: {source: post_arg_b}", "post_arg_b"),
        ("limit-count: {count: 1, time_window: 1, key: post_arg_b}", "post_arg_b"),
        ("limit-count: {count: $post_arg_b, time_window: 1}", "post_arg_b"),
        (
            "limit-req: {rate: 1, burst: 0, key_type: var_combination, key: $post_arg_b}",
            "post_arg_b",
        ),
        (
            "limit-conn: {default_conn_delay: 1, rules: [{conn: 1, burst: 0, key: $post_arg_b}]}",
            "post_arg_b",
        ),
    ] {
        let message = format!("error: the variable `{name}` never has a value here");
        check(&format!("routes:\n  - {{uri: /a, plugins: {{{plugin}}}}}\n"), &[&message]);
    }
    for (hash_on, key) in [("vars", "uri_param_a"), ("vars_combinations", "$uri$uri_param_a")] {
        let upstream = format!("type: chash, hash_on: {hash_on}, key: {key}");
        check(
            &format!("upstreams:\n  - {{id: u, nodes: {{\"a:1\": 1}}, {upstream}}}\n"),
            &["apisix.yaml:2:", "error: the variable `uri_param_a` never has a value here"],
        );
    }
}

/// `plugins` of `config.yaml` is the list of those that may be used.
#[test]
fn plugins_that_are_not_enabled() {
    let resources =
        "routes:\n  - uri: /a\n    plugins:\n      fault-injection: {abort: {http_status: 200}}\n";
    let ended = Setup::new(resources).more("plugins: []").refused();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("apisix.yaml:4:7: error:"), "{ended:?}");
}

#[test]
fn wrong_types() {
    check(
        "routes:\n  - uri: /a\n    plugins: {}\n    priority: high\n",
        &["apisix.yaml:4:15: error: expected an integer", "high"],
    );
    check("routes: {uri: /a}\n", &["apisix.yaml:1:9: error: expected a list, found an object"]);
}

#[test]
fn an_upstream_without_nodes() {
    check(
        "upstreams:\n  - id: one\n",
        &["apisix.yaml:2:5: error: the upstream upstreams[0] has no `nodes`", "127.0.0.1:1980"],
    );
    check(
        "routes:\n  - uri: /a\n    upstream: {type: roundrobin}\n",
        &["apisix.yaml:3:", "has no `nodes`", "as in `nodes:"],
    );
}

#[test]
fn ids_that_are_there_twice() {
    for collection in ["routes", "services", "upstreams", "plugin_configs", "global_rules"] {
        let item = match collection {
            "routes" => "uri: /a, plugins: {}",
            "upstreams" => "nodes: {\"127.0.0.1:1\": 1}",
            "services" => "name: s",
            _ => "plugins: {}",
        };
        let resources = format!("{collection}:\n  - {{id: x, {item}}}\n  - {{id: x, {item}}}\n");
        let message = format!("error: the id `x` is there twice in `{collection}`");
        check(&resources, &["apisix.yaml:3:10:", &message, "the first is on line 2"]);
    }
}

#[test]
fn bad_yaml() {
    check(
        "routes:\n  - uri: /a\n   plugins: {}\n",
        &["apisix.yaml:3:4: error: did not find expected '-' indicator", "^"],
    );
    check("routes: [\n", &["apisix.yaml:", "error:"]);
}

#[test]
fn a_file_that_is_not_whole() {
    let setup = Setup::new("");
    let config = setup.write_path();
    setup.folder().write("apisix.yaml", "routes: []\n");
    for (arguments, code) in [(&["check", "-c"][..], 0), (&["check", "--strict", "-c"], 1)] {
        let ended = crate::harness::ringgate(arguments.iter().copied().chain([config.as_str()]));
        assert_eq!(ended.code, Some(code), "{ended:?}");
        assert!(
            ended.stderr.contains("warning: the document does not end with `#END`"),
            "{ended:?}"
        );
    }
}

#[test]
fn addresses_and_patterns() {
    for (fields, column, message) in [
        ("host: http://a", 41, "is not a host"),
        ("remote_addr: 1.2.3", 48, "is not an address or a network"),
        ("methods: [FETCH]", 45, "expected `GET`"),
        ("vars: [[arg_a, =~, b]]", 0, "=~"),
        ("vars: [arg_a, ==, b]", 0, "rule should be wrapped inside brackets"),
        ("timeout: {connect: 1}", 0, "missing key `send`"),
    ] {
        let resources = format!("routes:\n  - {{id: 1, uri: /a, plugins: {{}}, {fields}}}\n");
        let place = match column {
            0 => "apisix.yaml:2:".to_owned(),
            column => format!("apisix.yaml:2:{column}: error:"),
        };
        check(&resources, &[&place, message]);
    }
}

/// One bad item refuses all: what is left out of a gateway's configuration is left open.
#[test]
fn one_bad_item_refuses_the_start() {
    let good = "  - uri: /good\n    plugins: {fault-injection: {abort: {http_status: 200}}}\n";
    let bad = "  - uri: /bad\n    plugins: {fault-injection: {abort: {http_status: 20}}}\n";
    check(&format!("routes:\n{good}{bad}"), &["apisix.yaml:5:", "200"]);
}
