//! Services, upstreams, plugin configs and global rules by id, what wins, and what is missing.

use crate::harness::{Gateway, Upstream};

/// A fault that answers with a word.
fn says(word: &str) -> String {
    format!("fault-injection: {{abort: {{http_status: 200, body: {word}}}}}")
}

#[test]
fn every_way_to_name_an_upstream() {
    let upstream = Upstream::hello();
    let node = upstream.node();
    let gateway = Gateway::start(format!(
        "upstreams:
  - {{id: 1, nodes: {{\"{node}\": 1}}}}
  - {{id: list, nodes: [{{host: 127.0.0.1, port: {port}, weight: 1}}]}}
services:
  - {{id: by-id, upstream_id: 1}}
  - {{id: inline, upstream: {{nodes: {{\"{node}\": 1}}}}}}
routes:
  - {{uri: /inline, upstream: {{nodes: {{\"{node}\": 1}}}}}}
  - {{uri: /id, upstream_id: 1}}
  - {{uri: /text-id, upstream_id: \"1\"}}
  - {{uri: /list, upstream_id: list}}
  - {{uri: /service-id, service_id: by-id}}
  - {{uri: /service-inline, service_id: inline}}",
        port = upstream.address.port()
    ));
    for path in ["/inline", "/id", "/text-id", "/list", "/service-id", "/service-inline"] {
        assert_eq!(gateway.get(path).text(), "hello world\n", "{path}");
    }
}

/// Controllers write such upstreams when they scale to zero.
#[test]
fn an_upstream_without_nodes_is_a_503() {
    let gateway = Gateway::start(
        "upstreams: [{id: 1, nodes: []}]
services: [{id: s, upstream: {nodes: {}}}]
routes:
  - {uri: /inline, upstream: {nodes: {}, type: chash, key: uri, checks: {active: {type: tcp}}}}
  - {uri: /id, upstream_id: 1}
  - {uri: /service, service_id: s}",
    );
    gateway.wait_for_log("warning: without a node its requests will be answered 503");
    for path in ["/inline", "/id", "/service"] {
        let answer = gateway.get(path);
        assert_eq!(answer.status(), 503, "{path}");
        assert!(answer.text().contains("<title>503 Service Unavailable</title>"));
    }
    let body = "POST /id HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    assert_eq!(gateway.ask(body).status(), 503);
}

#[test]
fn a_route_wins_over_its_plugin_config_and_that_over_the_service() {
    let gateway = Gateway::start(format!(
        "services: [{{id: s, plugins: {{{}}}}}]
plugin_configs: [{{id: p, plugins: {{{}}}}}]
routes:
  - {{uri: /route, service_id: s, plugin_config_id: p, plugins: {{{}}}}}
  - {{uri: /config, service_id: s, plugin_config_id: p}}
  - {{uri: /service, service_id: s}}",
        says("service"),
        says("config"),
        says("route"),
    ));
    for word in ["route", "config", "service"] {
        assert_eq!(gateway.get(&format!("/{word}")).text(), word);
    }
}

#[test]
fn a_service_lends_its_hosts() {
    let gateway = Gateway::start(format!(
        "services: [{{id: s, hosts: [a.test], plugins: {{{}}}}}]
routes:
  - {{uri: /x, service_id: s}}
  - {{uri: /y, service_id: s, host: b.test}}",
        says("service"),
    ));
    let status = |host: &str, path: &str| {
        gateway.ask(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).status()
    };
    assert_eq!((status("a.test", "/x"), status("b.test", "/x")), (200, 404));
    assert_eq!((status("a.test", "/y"), status("b.test", "/y")), (404, 200));
}

#[test]
fn an_upstream_id_wins_over_an_inline_upstream_of_the_service() {
    let (one, two) = (Upstream::answering(said("one")), Upstream::answering(said("two")));
    let gateway = Gateway::start(format!(
        "upstreams: [{{id: 1, nodes: {{\"{}\": 1}}}}]
services: [{{id: s, upstream: {{nodes: {{\"{}\": 1}}}}}}]
routes: [{{uri: /a, service_id: s, upstream_id: 1}}, {{uri: /b, service_id: s}}]",
        one.node(),
        two.node()
    ));
    assert_eq!(gateway.get("/a").text(), "one");
    assert_eq!(gateway.get("/b").text(), "two");
}

fn said(word: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{word}", word.len())
}

/// Global rules run for every request, those without a route too, and before the route's plugins.
#[test]
fn global_rules() {
    let gateway = Gateway::start(format!(
        "global_rules:
  - id: g
    plugins: {{fault-injection: {{abort: {{http_status: 418, body: global, \
         vars: [[[arg_stop, ==, \"1\"]]]}}}}}}
routes: [{{uri: /a, plugins: {{{}}}}}]",
        says("route"),
    ));
    assert_eq!(gateway.get("/a").text(), "route");
    assert_eq!(gateway.get("/a?stop=1").status(), 418);
    assert_eq!(gateway.get("/none?stop=1").text(), "global");
    assert_eq!(gateway.get("/none").status(), 404);
}

/// Reference §4 and §5.2: what is named and not there is a status, and a warning at start.
#[test]
fn statuses_for_missing_pieces() {
    let gateway = Gateway::start(
        "services: [{id: empty}, {id: lost, upstream_id: gone}]
routes:
  - {uri: /no-upstream, plugins: {}}
  - {uri: /no-such-upstream, upstream_id: gone}
  - {uri: /no-such-service, service_id: gone}
  - {uri: /no-such-config, plugin_config_id: gone, plugins: {}}
  - {uri: /empty-service, service_id: empty}
  - {uri: /service-without, service_id: lost}",
    );
    for (path, status) in [
        ("/no-upstream", 503),
        ("/no-such-upstream", 502),
        ("/no-such-service", 404),
        ("/no-such-config", 503),
        ("/empty-service", 503),
        ("/service-without", 502),
    ] {
        let response = gateway.get(path);
        assert_eq!(response.status(), status, "{path}");
        assert!(response.text().contains(&format!("<title>{status} ")), "{path}: a page");
        assert_eq!(response.field("content-type"), Some("text/html; charset=utf-8"));
    }
    for what in ["upstream", "service", "plugin config"] {
        gateway.wait_for_log(&format!("warning: no {what} has the id `gone`"));
    }
}

/// A fault that is certain needs no upstream; one that may miss leads to a 503 without one.
#[test]
fn a_fault_without_an_upstream() {
    let gateway = Gateway::start(
        "routes:
  - {uri: /always, plugins: {fault-injection: {abort: {http_status: 200, body: a}}}}
  - {uri: /never, plugins: {fault-injection: {abort: {http_status: 200, percentage: 0}}}}",
    );
    assert_eq!(gateway.get("/always").status(), 200);
    assert_eq!(gateway.get("/never").status(), 503);
}
