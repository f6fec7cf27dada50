//! `apisix.yaml`: every field, exact messages, every rule.

use super::super::model::{Balancer, HashOn, PassHost, Upstream};
use super::*;
use crate::http::{Method, Methods};
use crate::proxy_protocol::Version;
use crate::schema::validate;
use serde_json::json;
use std::sync::LazyLock;
use std::time::Duration;

fn env(name: &str) -> Option<String> {
    (name == "UPSTREAM").then(|| "127.0.0.1:1980".to_owned())
}

fn good(text: &str) -> Resources {
    static SCHEMA: LazyLock<Value> = LazyLock::new(|| super::super::resources_schema(&[]));
    let document: Value = serde_yaml::from_str(text).expect("YAML");
    // A document with merge keys, tags or variables in their place is not what it looks like.
    if !document.is_null() && !text.contains("<<") {
        let misfit = validate::misfit(&document, &SCHEMA, &SCHEMA);
        assert!(misfit.is_none(), "{text}\n{misfit:?}");
    }
    let source = Source::new("a.yaml", text);
    match parse(&source, &env, false) {
        Ok((resources, report)) if report.is_empty() => resources,
        Ok((_, report)) | Err(report) => panic!("{report}"),
    }
}

fn bad(text: &str) -> String {
    let source = Source::new("a.yaml", text);
    parse(&source, &env, false).expect_err(text).to_string()
}

fn warned(text: &str) -> String {
    let source = Source::new("a.yaml", text);
    parse(&source, &env, false).expect("only warnings").1.to_string()
}

/// The messages and hints alone.
fn said(text: &str) -> Vec<String> {
    let report = parse(&Source::new("a.yaml", text), &env, false).expect_err(text);
    let line = |diagnostic: &super::super::Diagnostic| match &diagnostic.hint {
        Some(hint) => format!("{} | {hint}", diagnostic.message),
        None => diagnostic.message.clone(),
    };
    report.diagnostics().iter().map(line).collect()
}

fn upstream(text: &str) -> Upstream {
    let text = format!("upstreams: [{{id: 1, {text}}}]");
    Arc::unwrap_or_clone(good(&text).upstreams.pop().expect("one upstream"))
}

#[test]
fn nothing_is_fine() {
    for text in ["", "#END", "routes:\nupstreams: []\n", "{}", "{\"routes\": []}"] {
        assert_eq!(good(text), Resources::default());
    }
}

#[test]
fn a_route_has_all_its_fields() {
    let resources = good(
        r#"
routes:
  - id: 7
    name: all
    desc: everything
    labels: {team: a}
    uris: [/a, /b/*]
    priority: -3
    methods: [GET, PURGE]
    hosts: ["*.Example.com", "[::1]"]
    remote_addrs: [10.1.2.3/8, "::1"]
    vars: [[arg_a, ==, b]]
    timeout: {connect: 1, send: 0.5, read: 2.5}
    plugin_config_id: p
    service_id: "s"
    upstream_id: 1
    enable_websocket: true
    status: 0
    create_time: 1
    update_time: 2
    plugins:
      fault-injection:
        abort: {http_status: 503}
        _meta:
          disable: true
          priority: 5
          filter: [[arg_x, ==, y]]
          error_response: {message: no}
      limit: {}
  - uri: /only
    host: ONE.test
    remote_addr: 192.168.0.1
    methods: []
    upstream: {nodes: {"${{UPSTREAM}}": 1}}
services: [{id: s}]
plugin_configs: [{id: p, plugins: {}}]
upstreams: [{id: 1, nodes: [{host: a, weight: 1}]}]
#END
"#,
    );
    let route = &resources.routes[0];
    assert_eq!((route.id.as_str(), route.name.as_deref()), ("7", Some("all")));
    assert_eq!(route.labels, [("team".to_owned(), "a".to_owned())]);
    assert_eq!((&route.uris[..], route.priority), (&["/a".to_owned(), "/b/*".to_owned()][..], -3));
    assert_eq!(route.methods, Methods::default().with(Method::Get).with(Method::Purge));
    assert_eq!(route.hosts, ["*.example.com", "[::1]"]);
    let networks: Vec<_> = route.remote_addrs.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["10.0.0.0/8", "::1/128"]);
    let vars = route.vars.as_ref().expect("vars");
    assert_eq!(
        (vars.at.to_string().as_str(), &vars.value),
        ("routes[0].vars", &json!([["arg_a", "==", "b"]]))
    );
    let timeout = route.timeout.expect("timeout");
    assert_eq!(
        (timeout.send, timeout.read),
        (Duration::from_millis(500), Duration::from_millis(2500))
    );
    assert_eq!(route.plugin_config_id.as_deref(), Some("p"));
    assert_eq!(route.service_id.as_deref(), Some("s"));
    assert_eq!(route.upstream_id.as_deref(), Some("1"));
    assert_eq!((route.enable_websocket, route.enabled), (Some(true), false));

    let fault = &route.plugins[0];
    assert_eq!(fault.at.to_string(), "routes[0].plugins.fault-injection");
    assert_eq!(fault.conf, json!({"abort": {"http_status": 503}}));
    assert_eq!((fault.meta.disable, fault.meta.priority), (true, Some(5)));
    assert_eq!(fault.meta.error_response, Some(json!({"message": "no"})));
    let filter = fault.meta.filter.as_ref().expect("filter");
    assert_eq!(filter.at.to_string(), "routes[0].plugins.fault-injection._meta.filter");
    assert_eq!(route.plugins[1].meta, super::super::Meta::default());

    let route = &resources.routes[1];
    assert_eq!((route.id.as_str(), route.enabled), ("arr_2", true));
    assert_eq!((route.methods, route.hosts[0].as_str()), (Methods::ANY, "one.test"));
    let upstream = route.upstream.as_ref().expect("upstream");
    assert_eq!((upstream.nodes[0].host.as_str(), upstream.nodes[0].port), ("127.0.0.1", 1980));
    assert_eq!(upstream.id, None);
}

#[test]
fn upstreams_have_all_their_fields() {
    let one = upstream(
        "type: chash, hash_on: header, key: x-user, retries: 2, retry_timeout: 1.5, scheme: http, \
         pass_host: rewrite, upstream_host: Inner.test, timeout: {connect: 1, send: 1, read: 1}, \
         keepalive_pool: {size: 5}, proxy_protocol: v2, nodes: {b.test: 3, \"[::1]:81\": 0, \"a.test:8080\": 1}",
    );
    assert_eq!((one.balancer, one.hash_on), (Balancer::Chash, HashOn::Header));
    assert_eq!((one.key.as_deref(), one.retries), (Some("x-user"), Some(2)));
    assert_eq!(one.retry_timeout, Some(Duration::from_millis(1500)));
    assert_eq!(one.pass_host, PassHost::Rewrite("inner.test".to_owned()));
    assert_eq!(one.proxy_protocol, Some(Version::V2));
    let pool = one.keepalive_pool.expect("pool");
    assert_eq!((pool.size, pool.requests, pool.idle_timeout.as_secs()), (5, 1000, 60));
    let nodes: Vec<_> = one.nodes.iter().map(|n| (n.host.as_str(), n.port, n.weight)).collect();
    assert_eq!(nodes, [("b.test", 80, 3), ("::1", 81, 0), ("a.test", 8080, 1)]);

    let two = upstream(
        "pass_host: node, retry_timeout: 0, slow_start: 0.5, nodes: [{host: \"::1\", port: 9, weight: 2, \
         priority: -1, metadata: {a: 1}}, {host: x, weight: 1}]",
    );
    assert_eq!(
        (two.balancer, two.pass_host, two.retry_timeout),
        (Balancer::RoundRobin, PassHost::Node, None)
    );
    assert_eq!((one.slow_start, two.slow_start), (None, Some(Duration::from_millis(500))));
    let nodes: Vec<_> = two.nodes.iter().map(|n| (n.host.as_str(), n.port, n.priority)).collect();
    assert_eq!(nodes, [("::1", 9, -1), ("x", 80, 0)]);
    assert_eq!(two.nodes[1].at.to_string(), "upstreams[0].nodes[1]");
}

#[test]
fn broken_documents_are_shown_exactly() {
    for (text, wanted) in [
        (
            "routes:\n  - uri: /a\n    plugin:\n      x: {}\n    upstream_id: 1\nupstreams:\n  - {id: 1, nodes: {\"a:1\": 1}}\n",
            "\
a.yaml:3:5: error: unknown key `plugin` in routes[0]
    3 |     plugin:
      |     ^^^^^^ did you mean `plugins`?",
        ),
        (
            "routes:\n  - uri: /a\n    status: on\n    plugins: {}\n    methods: [GET, get]\n",
            "\
a.yaml:3:13: error: expected an integer from 0 to 1, found string \"on\"
    3 |     status: on
      |             ^^
a.yaml:5:20: error: expected `GET`, `POST`, `PUT`, `DELETE`, `PATCH`, `HEAD`, `OPTIONS`, `CONNECT`, `TRACE` or `PURGE`, found string \"get\"
    5 |     methods: [GET, get]
      |                    ^^^ did you mean `GET`?",
        ),
        (
            "upstreams:\n  - id: one\n    nodes: {}\n  - id: two\n",
            "\
a.yaml:3:12: warning: without a node its requests will be answered 503
    3 |     nodes: {}
      |            ^ as in `nodes: {\"127.0.0.1:1980\": 1}`
a.yaml:4:5: error: the upstream upstreams[1] has no `nodes`
    4 |   - id: two
      |     ^ as in `nodes: {\"127.0.0.1:1980\": 1}`",
        ),
        (
            "routes:\n  - id: a\n    uri: /a\n    plugins: {}\n  - uri: /b\n    plugins: {}\n    id: a\n",
            "\
a.yaml:7:9: error: the id `a` is there twice in `routes`
    7 |     id: a
      |         ^ the first is on line 2",
        ),
        (
            "routes:\n  - uri: /a\n    plugins: {}\n    uri: /b\n",
            "\
a.yaml:4:5: error: the key `routes[0].uri` is there twice
    4 |     uri: /b
      |     ^^^ the first is on line 2",
        ),
        (
            "routes:\n  - uri: /a\n   plugins: {}\n",
            "\
a.yaml:3:4: error: did not find expected '-' indicator
    3 |    plugins: {}
      |    ^ while parsing a block collection that begins at line 2 column 3",
        ),
        (
            "routes:\n  - uri: ${{ NO_SUCH }}\n    priority: ${{PRIORITY}}\n    plugins: {x: 1}\n",
            "\
a.yaml:2:10: error: the environment variable `NO_SUCH` is not set
    2 |   - uri: ${{ NO_SUCH }}
      |          ^^^^^^^^^^^^^^ set it, or give a default: ${{NO_SUCH:=value}}
a.yaml:3:15: error: the environment variable `PRIORITY` is not set
    3 |     priority: ${{PRIORITY}}
      |               ^^^^^^^^^^^^^ set it, or give a default: ${{PRIORITY:=value}}
a.yaml:4:18: error: expected an object, found integer 1
    4 |     plugins: {x: 1}
      |                  ^",
        ),
        (
            "routes:\n- uri: ${{UPSTREAM}} ${{UPSTREAM}}: ]\n",
            "\
a.yaml:2:35: error: mapping values are not allowed in this context
    2 | - uri: ${{UPSTREAM}} ${{UPSTREAM}}: ]
      |                                   ^",
        ),
        (
            "route:\n  - uri: /a\n",
            "\
a.yaml:1:1: error: unknown key `route`
    1 | route:
      | ^^^^^ did you mean `routes`?",
        ),
        (
            "routes:\n  - hosts: [a.*.b]\n    host: x\n",
            "\
a.yaml:2:5: error: missing key `uri` in routes[0]
    2 |   - hosts: [a.*.b]
      |     ^ `uri: /*` matches every path
a.yaml:2:5: error: routes[0] does nothing
    2 |   - hosts: [a.*.b]
      |     ^ give it `plugins`, `upstream`, `upstream_id` or `service_id`
a.yaml:2:5: error: `host` and `hosts` exclude each other
    2 |   - hosts: [a.*.b]
      |     ^^^^^ put all of them in `hosts`
a.yaml:2:13: error: \"a.*.b\" is not a host
    2 |   - hosts: [a.*.b]
      |             ^^^^^ a `*` may only stand first: `*.example.com`",
        ),
        (
            "a: 1\n---\nb: 2\n",
            "\
a.yaml:2:1: error: more than one YAML document
    2 | ---
      | ^^^ one file is one document: remove the `---`",
        ),
        ("- uri: /a\n", "\
a.yaml:1:1: error: expected an object, found a list
    1 | - uri: /a
      | ^"),
        (
            "{\"routes\": [{\"uri\": \"/a\", \"plugins\": {\"x\": {\"_meta\": {\"disabled\": true}}}}]}",
            "\
a.yaml:1:55: error: unknown key `disabled` in routes[0].plugins.x._meta
    1 | {\"routes\": [{\"uri\": \"/a\", \"plugins\": {\"x\": {\"_meta\": {\"disabled\": true}}}}]}
      |                                                       ^^^^^^^^^^ did you mean `disable`?",
        ),
    ] {
        assert_eq!(bad(text), wanted, "\n{}", bad(text));
    }
}

#[test]
fn every_limit_has_a_message() {
    for (fields, wanted) in [
        ("id: 0", "expected an integer of at least 1, found integer 0"),
        ("id: a b", "the id \"a b\" may only have letters, digits, `-`, `_`, `.`"),
        ("id: [1]", "expected a string or an integer of at least 1, found a list"),
        ("name: \"\"", "expected a string of 1 to 256 characters, found string \"\""),
        ("labels: {a: b c}", "labels have no white space"),
        ("uris: [/b]", "`uri` and `uris` exclude each other | put all of them in `uris`"),
        ("hosts: []", "expected a list that is not empty, found one of 0"),
        ("hosts: [a, a]", "\"a\" is there twice"),
        (
            "host: http://a",
            "\"http://a\" is not a host | a host is a name or an address, as in `*.example.com`",
        ),
        (
            "remote_addr: 1.2.3",
            "\"1.2.3\" is not an address or a network | as in `10.1.2.3`, `10.0.0.0/8` or `fd00::/8`",
        ),
        (
            "remote_addr: 1.2.3.4/33",
            "\"1.2.3.4/33\" is not an address or a network | as in `10.1.2.3`, `10.0.0.0/8` or `fd00::/8`",
        ),
        ("vars: {a: b}", "expected a list, found an object"),
        (
            "timeout: {connect: 1, send: 0}",
            "missing key `read` in routes[0].timeout; expected a number above 0, found integer 0",
        ),
        (
            "timeout: {connect: 1, send: 1, read: 1.0e+10}",
            "expected at most a year, 31536000 seconds",
        ),
        (
            "script: function",
            "`script` needs Lua, which is not supported yet | write it as a plugin in WebAssembly",
        ),
        (
            "filter_func: function",
            "`filter_func` needs Lua, which is not supported yet | write it as a plugin in WebAssembly",
        ),
        (
            "plugins: {a: {_meta: {pre_function: x, filter: 1, error_response: 1}}}",
            "`pre_function` needs Lua, which is not supported yet | write it as a plugin in WebAssembly; expected a list, found integer 1; expected a string or an object, found integer 1",
        ),
        (
            "enable_websocket: yes",
            "expected true or false, found string \"yes\" | write `true`, without quotes",
        ),
        ("priority: .nan", "numbers must be finite"),
        (
            "upstream: {type: round}",
            "the upstream routes[0].upstream has no `nodes` | as in `nodes: {\"127.0.0.1:1980\": 1}`; expected `roundrobin`, `chash`, `least_conn` or `ewma`, found string \"round\" | did you mean `roundrobin`?",
        ),
        (
            "upstream: {service_name: x, discovery_type: dns}",
            "`service_name`: discovery is not supported yet | list the `nodes`, as in `nodes: {\"127.0.0.1:1980\": 1}`; `discovery_type`: discovery is not supported yet | list the `nodes`, as in `nodes: {\"127.0.0.1:1980\": 1}`",
        ),
        (
            "upstream: {nodes: {\"a:99999\": 1}}",
            "\"a:99999\" is not a host with a port | a port is a number from 1 to 65535",
        ),
        (
            "upstream: {nodes: {a: -1}}",
            "expected an integer from 0 to 4294967295, found integer -1",
        ),
        (
            "upstream: {nodes: [{host: \"a:1\"}]}",
            "missing key `weight` in routes[0].upstream.nodes[0]; \"a:1\" is a host with a port | write `host: a` and `port: 1`",
        ),
        ("upstream: {nodes: 1}", "expected an object or a list, found integer 1"),
        ("upstream: {nodes: {a: 1}, scheme: https}", "the scheme `https` is not supported yet"),
        (
            "upstream: {nodes: {a: 1}, scheme: htp}",
            "expected `http`, `https`, `grpc`, `grpcs`, `tcp`, `tls`, `udp` or `kafka`, found string \"htp\" | did you mean `http`?",
        ),
        (
            "upstream: {nodes: {a: 1}, pass_host: rewrite}",
            "`pass_host: rewrite` needs `upstream_host`",
        ),
        ("upstream: {nodes: {a: 1}, type: chash}", "`chash` needs `key`"),
        (
            "upstream: {nodes: {a: 1}, checks: {passive: {}}}",
            "missing key `active` in routes[0].upstream.checks",
        ),
        (
            "upstream: {nodes: {a: 1}, checks: {active: {http_path: x, req_headers: [a b], healthy: {interval: 0}}}}",
            "\"x\" is not a path | as in `/health`; \"a b\" is not a header | as in `User-Agent: probe`; expected an integer from 1 to 4294967295, found integer 0",
        ),
        (
            "upstream: {nodes: {\"unix:a\": 1}}",
            "\"a\" is no absolute path of a socket | as in `unix:/run/app.sock`",
        ),
        (
            "upstream: {nodes: {a: 1}, type: chash, hash_on: cookie, key: a b}",
            "names of headers and cookies have letters, digits, `-` and `_`",
        ),
        ("upstream: {nodes: {a: 1}, tls: {verify: true}}", "`tls` is not supported yet"),
        (
            "upstream: {nodes: {a: 1}, keepalive_pool: {sizes: 0}}",
            "unknown key `sizes` in routes[0].upstream.keepalive_pool | did you mean `size`?",
        ),
    ] {
        let plugins = if fields.starts_with("plugins") { "" } else { "plugins: {}, " };
        let text = format!("routes: [{{uri: /a, {plugins}{fields}}}]");
        assert_eq!(said(&text).join("; "), wanted, "{text}");
    }
    let text =
        "services: [{script: x}]\nplugin_configs: [{plugins: {}}]\nglobal_rules: [{id: 1}]\n";
    assert_eq!(
        said(text),
        [
            "`script` needs Lua, which is not supported yet | write it as a plugin in WebAssembly",
            "missing key `id` in plugin_configs[0]",
            "missing key `plugins` in global_rules[0]",
        ]
    );
}

#[test]
fn health_checks_have_apisix_defaults() {
    let checks = |text: &str| upstream(&format!("nodes: {{a: 1}}, checks: {text}")).checks;
    let bare = checks("{active: {}}").expect("checks");
    let (active, judgement) = (&bare.active, &bare.active.judgement);
    assert_eq!((active.healthy_interval, active.unhealthy_interval), (None, None));
    assert_eq!(
        (active.timeout, active.concurrency, active.port),
        (Duration::from_secs(1), 10, None)
    );
    assert_eq!((judgement.successes, judgement.http_failures), (2, 5));
    assert_eq!((judgement.tcp_failures, judgement.timeouts), (2, 3));
    assert_eq!(judgement.good_statuses, [200, 302]);
    let http = active.http.as_ref().expect("http is the default");
    assert_eq!((http.method.as_str(), http.path.as_str(), &http.host), ("GET", "/", &None));
    assert_eq!(bare.passive, None);

    let full = checks(
        "{active: {type: tcp, timeout: 0.5, concurrency: 2, port: 99, healthy: {interval: 5, \
         successes: 1}, unhealthy: {tcp_failures: 1}}, passive: {healthy: {successes: 0}, \
         unhealthy: {http_statuses: [500], http_failures: 1}}}",
    );
    let full = full.expect("checks");
    assert_eq!((&full.active.http, full.active.port), (&None, Some(99)));
    assert_eq!(full.active.healthy_interval, Some(Duration::from_secs(5)));
    assert_eq!(full.active.unhealthy_interval, Some(Duration::from_secs(1)));
    let passive = full.passive.expect("passive");
    assert_eq!((passive.successes, passive.http_failures, passive.timeouts), (0, 1, 7));
    assert_eq!((passive.bad_statuses.as_slice(), passive.good_statuses.len()), (&[500][..], 19));
}

#[test]
fn what_has_no_effect_is_warned_of() {
    let text = "\
routes:
  - uri: no-slash
    service_id: gone
    upstream: {nodes: {a: 1}, upstream_host: b}
ssls: [{id: 1}]
consumers: []
routes_conf_version: 3
";
    let wanted = "\
a.yaml:2:10: warning: this matches no path: paths begin with `/`
    2 |   - uri: no-slash
      |          ^^^^^^^^
a.yaml:3:17: warning: no service has the id `gone`: requests will be answered 404
    3 |     service_id: gone
      |                 ^^^^
a.yaml:4:31: warning: `upstream_host` has no effect without `pass_host: rewrite`
    4 |     upstream: {nodes: {a: 1}, upstream_host: b}
      |                               ^^^^^^^^^^^^^
a.yaml:5:1: warning: `ssls` is not supported yet and has no effect
    5 | ssls: [{id: 1}]
      | ^^^^ there are no listeners for TLS: no certificate is used";
    assert_eq!(warned(text), wanted, "\n{}", warned(text));
}

#[test]
fn consumers_and_their_credentials() {
    let resources = good(
        "\
consumers:
  - id: jack/credentials/c1
    name: second
    plugins: {key-auth: {key: b}}
  - username: jack
    labels: {custom_id: '7'}
    plugins: {key-auth: {key: a}, basic-auth: {username: j, password: p}}
  - {username: rose, group_id: g}
consumer_groups:
  - {id: g, desc: some, plugins: {echo: {}}}
",
    );
    assert_eq!(resources.consumer_groups[0].plugins[0].name, "echo");
    let [jack, rose] = &resources.consumers[..] else { panic!("two") };
    assert_eq!((jack.username.as_str(), rose.username.as_str()), ("jack", "rose"));
    assert_eq!(jack.labels, [("custom_id".to_owned(), "7".to_owned())]);
    assert_eq!(jack.plugins.len(), 2);
    assert_eq!((&jack.group_id, rose.group_id.as_deref()), (&None, Some("g")));
    assert_eq!((jack.credentials.len(), jack.credentials[0].id.as_str()), (1, "c1"));
    assert_eq!(jack.credentials[0].plugins[0].conf, json!({"key": "b"}));
    let text = "\
consumers:
  - plugins: {}
  - username: a b
  - {username: x, group_id: g!}
  - username: x
  - {id: nobody/credentials/c, plugins: {a: {}, b: {}}}
";
    assert_eq!(
        said(text),
        [
            "missing key `username` in consumers[0]",
            "the username \"a b\" may only have letters, digits, `-`, `_`",
            "the id \"g!\" may only have letters, digits, `-`, `_`, `.`",
            "the id `x` is there twice in `consumers` | the first is on line 4",
            "a credential has one plugin",
            "no consumer has the username `nobody`",
        ]
    );
}

#[test]
fn the_end_mark_is_asked_for() {
    for text in ["#END", "routes: []\n#END\n", "routes: []\n  #END  \n\n"] {
        assert!(parse(&Source::new("a.yaml", text), &env, true).is_ok(), "{text}");
    }
    let whole =
        |text: &str| parse(&Source::new("a.yaml", text), &env, true).expect_err(text).to_string();
    let wanted = "\
a.yaml:2:3: error: the document does not end with `#END`
    2 | #E
      |   ^ write `#END` on a last line: it shows that the file is whole";
    assert_eq!(whole("routes: []\n#E"), wanted);
    assert!(whole("").starts_with("a.yaml: error: the document does not end with `#END`"));
    let both = whole("routes: [\n");
    assert_eq!(both.matches("error:").count(), 2, "{both}");
}

#[test]
fn problems_found_later_have_positions() {
    let text = "routes:\n  - uri: /a\n    plugins:\n      nope: {a: ${{UPSTREAM}}}\n";
    let source = Source::new("a.yaml", text);
    let (resources, _) = parse(&source, &env, false).expect("good");
    let plugin = &resources.routes[0].plugins[0];
    assert_eq!(plugin.conf, json!({"a": "127.0.0.1:1980"}));
    let problem = Problem::new(plugin.at.clone(), "unknown plugin `nope`").on_key();
    let value = Problem::new(plugin.at.key("a"), "bad");
    let wanted = "\
a.yaml:4:7: error: unknown plugin `nope`
    4 |       nope: {a: ${{UPSTREAM}}}
      |       ^^^^
a.yaml:4:17: error: bad
    4 |       nope: {a: ${{UPSTREAM}}}
      |                 ^^^^^^^^^^^^^";
    assert_eq!(super::super::report(&source, vec![value, problem]).to_string(), wanted);
}
