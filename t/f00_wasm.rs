//! Proxy-Wasm plugins that do what they should: those of `examples/plugins`.

use crate::harness::{Gateway, Message, Setup, Upstream, drivers, module};

/// The same plugin in every language, through its SDK or on the bare ABI.
const FAULT_INJECTIONS: [&str; 6] = [
    "dist/fault_injection_rust.wasm",
    "dist/fault_injection_as.wasm",
    "dist/fault_injection_c.wasm",
    "dist/fault_injection_cpp.wasm",
    "dist/fault_injection_zig.wasm",
    "dist/fault_injection_go.wasm",
];

/// Routes by path, each with a plugin's `conf`, in front of an upstream.
fn routes(upstream: &Upstream, rows: &[(&str, &str, &str)]) -> String {
    let node = upstream.node();
    let route = |(path, plugin, conf): &(&str, &str, &str)| {
        format!(
            "  - {{uri: {path}, plugins: {{{plugin}: {{conf: {conf}}}}}, upstream: {{nodes: \
             {{\"{node}\": 1}}}}}}\n"
        )
    };
    format!("routes:\n{}", rows.iter().map(route).collect::<String>())
}

#[track_caller]
fn answer(response: &Message, status: u16, body: &str) {
    assert_eq!((response.status(), response.text().as_str()), (status, body));
}

#[test]
fn fault_injection_in_every_language() {
    for driver in drivers() {
        for file in FAULT_INJECTIONS {
            let upstream = Upstream::hello();
            let resources = routes(
                &upstream,
                &[
                    ("/text", "fault", "'{\"http_status\":401,\"body\":\"HIT\\n\"}'"),
                    ("/object", "fault", "{http_status: 401, body: \"HIT\\n\"}"),
                    ("/never", "fault", "{http_status: 401, body: HIT, percentage: 0}"),
                    ("/always", "fault", "{http_status: 200, body: HIT, percentage: 100}"),
                    ("/half", "fault", "{http_status: 418, percentage: 50}"),
                ],
            );
            let gateway = Setup::new(resources).wasm("fault", file, "").driver(*driver).start();
            let mut client = gateway.client();
            for _ in 0..3 {
                answer(&client.get("/text"), 401, "HIT\n");
                answer(&client.get("/object"), 401, "HIT\n");
                answer(&client.get("/never"), 200, "hello world\n");
                answer(&client.get("/always"), 200, "HIT");
            }
            let hits = (0..200).filter(|_| client.get("/half").status() == 418).count();
            // Seven standard deviations from 100.
            assert!((50..=150).contains(&hits), "{file}: {hits}");
        }
    }
}

/// The whole way of an answer a plugin gives: its length, HEAD, pipelining, a body that nobody
/// reads.
#[test]
fn a_plugins_answer_is_framed_like_any_other() {
    for file in FAULT_INJECTIONS {
        let upstream = Upstream::hello();
        let resources = routes(&upstream, &[("/*", "fault", "{http_status: 200, body: answer}")]);
        let gateway = Setup::new(resources).wasm("fault", file, "").start();
        let mut client = gateway.client();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(5));
        for _ in 0..5 {
            let response = client.response();
            assert_eq!(response.field("content-length"), Some("6"), "{file}");
            answer(&response, 200, "answer");
        }
        client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response_to_head().field("content-length"), Some("6"));
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
        answer(&client.response(), 200, "answer");
        client.send("GET / HTTP/1.0\r\n\r\n");
        answer(&client.response(), 200, "answer");
        client.expect_end();
        assert!(upstream.requests().is_empty());
    }
}

#[test]
fn a_text_module_answers() {
    let upstream = Upstream::hello();
    let resources = routes(&upstream, &[("/", "minimal", "any")]);
    for isolation in ["shared", "request"] {
        let keys = format!("isolation: {isolation}, pool: 3");
        let setup = Setup::new(resources.clone()).wasm("minimal", "fixtures/minimal.wat", &keys);
        let gateway = setup.start();
        let mut client = gateway.client();
        // More requests than instances were made ahead.
        for _ in 0..50 {
            answer(&client.get("/"), 200, "minimal\n");
        }
    }
}

/// In both isolations an instance serves one request after the other, or one each.
#[test]
fn isolation_by_request_works_for_sdk_plugins() {
    for file in FAULT_INJECTIONS {
        let upstream = Upstream::hello();
        let resources = routes(
            &upstream,
            &[
                ("/hit", "fault", "{http_status: 403, body: HIT}"),
                ("/miss", "fault", "{http_status: 403, percentage: 0}"),
            ],
        );
        let gateway = Setup::new(resources).wasm("fault", file, "isolation: request").start();
        let mut client = gateway.client();
        for _ in 0..20 {
            answer(&client.get("/hit"), 403, "HIT");
            answer(&client.get("/miss"), 200, "hello world\n");
        }
    }
}

/// Higher priority first; rewrite before access whatever the priorities; native plugins among them.
#[test]
fn the_order_of_plugins() {
    let upstream = Upstream::hello();
    let node = upstream.node();
    let says = |word: &str| format!("{{conf: {{http_status: 200, body: {word}}}}}");
    let file = FAULT_INJECTIONS[2];
    let gateway = Setup::new(format!(
        "routes:
  - {{uri: /priority, plugins: {{low: {low}, high: {high}}}}}
  - {{uri: /phase, plugins: {{high: {high}, early: {early}}}}}
  - {{uri: /meta, plugins: {{high: {high}, low: {{conf: {{http_status: 200, body: low}}, _meta: {{priority: 9000}}}}}}}}
  - {{uri: /native, plugins: {{high: {high}, fault-injection: {{abort: {{http_status: 200, body: native}}}}}}}}
  - {{uri: /off, plugins: {{high: {{conf: x, _meta: {{disable: true}}}}}}, upstream: {{nodes: {{\"{node}\": 1}}}}}}
  - {{uri: /filter, plugins: {{high: {{conf: {{http_status: 200, body: high}}, _meta: {{filter: [[arg_x, ==, y]]}}}}}}, upstream: {{nodes: {{\"{node}\": 1}}}}}}",
        low = says("low"),
        high = says("high"),
        early = says("early"),
    ))
    .wasm("low", file, "priority: 10")
    .wasm("high", file, "priority: 8000")
    .wasm("early", file, "priority: 1, http_request_phase: rewrite")
    .start();
    for (path, wanted) in [
        ("/priority", "high"),
        ("/phase", "early"),
        ("/meta", "low"),
        ("/native", "native"),
        ("/off", "hello world\n"),
        ("/filter?x=y", "high"),
        ("/filter", "hello world\n"),
    ] {
        answer(&gateway.get(path), 200, wanted);
    }
}

#[test]
fn plugins_of_services_configs_and_global_rules() {
    let gateway = Setup::new(
        "services: [{id: s, plugins: {fault: {conf: {http_status: 200, body: service}}}}]
plugin_configs: [{id: p, plugins: {fault: {conf: {http_status: 200, body: config}}}}]
routes:
  - {uri: /service, service_id: s}
  - {uri: /config, plugin_config_id: p, plugins: {}}",
    )
    .wasm("fault", FAULT_INJECTIONS[2], "")
    .start();
    answer(&gateway.get("/service"), 200, "service");
    answer(&gateway.get("/config"), 200, "config");
    let gateway = Setup::new(
        "global_rules: [{id: g, plugins: {fault: {conf: {http_status: 418, body: global}}}}]",
    )
    .wasm("fault", FAULT_INJECTIONS[2], "")
    .start();
    answer(&gateway.get("/no-route"), 418, "global");
}

#[test]
fn a_module_may_lie_beside_the_configuration() {
    let setup = Setup::new("routes: [{uri: /, plugins: {beside: {conf: x}}}]")
        .more("wasm:\n  plugins: [{name: beside, priority: 1, file: plugins/m.wat}]");
    let text = std::fs::read(module("fixtures/minimal.wat")).expect("a fixture");
    setup.folder().write("plugins/m.wat", text);
    answer(&setup.start().get("/"), 200, "minimal\n");
}

/// What a plugin is shown of a request.
#[test]
fn headers_and_properties() {
    for driver in drivers() {
        let resources = "routes: [{uri: /probe/*, name: the route, plugins: {probe: {conf: x}}}]";
        let setup = Setup::new(resources).driver(*driver);
        let gateway = setup.wasm("probe", "dist/probe.wasm", "root_id: the root").start();
        let mut client = gateway.client();
        client.send(
            "GET /probe/a%20b?c=d HTTP/1.1\r\nHost: H.Test:8080\r\nX-Two: 1\r\nX-TWO: 2\r\n\
             X-Request-Id: r-1\r\n\r\n",
        );
        let response = client.response();
        assert_eq!(response.field("content-type"), Some("text/plain"));
        let text = response.text();
        let port = client.wire().stream().local_addr().expect("an address").port();
        for line in [
            ":method: GET",
            ":path: /probe/a%20b?c=d",
            ":authority: H.Test:8080",
            ":scheme: http",
            "x-two: 1",
            "x-two: 2",
            "prop request.path=/probe/a%20b?c=d",
            "prop request.method=GET",
            "prop request.host=H.Test:8080",
            "prop request.protocol=HTTP/1.1",
            "prop plugin_root_id=the root",
            "prop plugin_name=probe",
            "prop route_name=the route",
            "set probe.note status=0",
            "prop probe.note=written by the plugin",
        ] {
            assert!(text.lines().any(|found| found == line), "{line:?}:\n{text}");
        }
        assert!(text.contains("prop source.address=127.0.0.1"), "{text}");
        assert!(text.contains(&format!("prop source.port={port}\n")), "{text}");
    }
}

#[test]
fn headers_are_set_in_both_directions() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Old: upstream\r\nX-Kept: yes\r\n\r\nok",
    );
    let conf = "{request: {x-name: value, x-replaced: new, \":path\": /other}, \
                response: {x-old: plugin, x-more: added}}";
    let resources = routes(&upstream, &[("/*", "headers", conf)]);
    let gateway = Setup::new(resources).wasm("headers", "dist/header_rust.wasm", "").start();
    let response = gateway.ask("GET /path HTTP/1.1\r\nHost: a\r\nX-Replaced: old\r\n\r\n");
    answer(&response, 200, "ok");
    assert_eq!(response.field("x-old"), Some("plugin"));
    assert_eq!(response.field("x-more"), Some("added"));
    assert_eq!(response.field("x-kept"), Some("yes"));
    let request = upstream.request();
    assert_eq!(request.target(), "/other");
    assert_eq!(request.field("x-name"), Some("value"));
    assert_eq!(request.field("x-replaced"), Some("new"));
}

/// The response callbacks also see what another plugin answers; a plugin that the request did not
/// come to is not shown the response, as in Envoy.
#[test]
fn headers_are_set_on_local_responses_too() {
    let resources = "routes:
  - uri: /*
    plugins:
      headers: {conf: {response: {x-more: added}}}
      fault-injection: {abort: {http_status: 403, body: no}}";
    for (keys, wanted) in [
        ("http_request_phase: rewrite, priority: 12000", Some("added")),
        ("http_request_phase: access", None),
    ] {
        let setup = Setup::new(resources).wasm("headers", "dist/header_rust.wasm", keys);
        let response = setup.start().get("/");
        answer(&response, 403, "no");
        assert_eq!(response.field("x-more"), wanted, "{keys}");
    }
}

/// Guests that were never called do not stop a start, and a module without `proxy_on_*` for a phase
/// is not asked in it.
#[test]
fn a_plugin_that_no_route_uses() {
    let gateway = Setup::new("routes: []").wasm("minimal", "fixtures/minimal.wat", "").start();
    assert_eq!(gateway.get("/").status(), 404);
}

#[test]
fn two_entries_of_one_file_are_two_plugins() {
    let resources = "routes:
  - {uri: /one, plugins: {one: {conf: {http_status: 200, body: one}}}}
  - {uri: /two, plugins: {two: {conf: {http_status: 200, body: two}}}}";
    let setup = Setup::new(resources).wasm("one", FAULT_INJECTIONS[0], "");
    let gateway: Gateway = setup.wasm("two", FAULT_INJECTIONS[0], "").start();
    answer(&gateway.get("/one"), 200, "one");
    answer(&gateway.get("/two"), 200, "two");
}
