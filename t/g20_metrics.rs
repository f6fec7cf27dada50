//! Metrics: where they are, what they count, what they are called.

use crate::harness::{Gateway, Setup, Upstream, eventually, get};
use rustix::process::Signal;
use std::net::TcpListener;

const ROUTES: &str = "\
routes:
  - {id: fast, uri: /fast, plugins: {fault-injection: {abort: {http_status: 418, body: short}}}}
  - id: some
    uri: /some
    service_id: s1
services:
  - id: s1
    upstream: {type: roundrobin, nodes: {UPSTREAM: 1}}
";

fn gateway() -> (Gateway, Upstream) {
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let routes = ROUTES.replace("UPSTREAM", &upstream.node());
    (Setup::new(routes).metrics().start(), upstream)
}

#[test]
fn what_routes_answer_is_counted() {
    let (gateway, _upstream) = gateway();
    for _ in 0..3 {
        assert_eq!(gateway.get("/fast").status(), 418);
    }
    assert_eq!(gateway.get("/some").text(), "ok");
    assert_eq!(gateway.get("/none").status(), 404);
    assert_eq!(gateway.ask("GET / HTTP/1.1\r\n\r\n").status(), 400);
    for (sample, wanted) in [
        ("apisix_http_requests_total", 6.0),
        ("apisix_http_status{code=\"418\",route=\"fast\",service=\"\"}", 3.0),
        ("apisix_http_status{code=\"200\",route=\"some\",service=\"s1\"}", 1.0),
        ("apisix_http_status{code=\"404\",route=\"\",service=\"\"}", 1.0),
        ("apisix_http_status{code=\"400\",route=\"\",service=\"\"}", 1.0),
        ("apisix_http_latency_count{type=\"request\",route=\"some\",service=\"s1\"}", 1.0),
        ("apisix_http_latency_count{type=\"request\",route=\"fast\",service=\"\"}", 0.0),
        ("apisix_nginx_http_current_connections{state=\"accepted\"}", 6.0),
        ("ringgate_worker_requests_total{worker=\"0\"}", 6.0),
        ("ringgate_worker_prepared_total{worker=\"0\"}", 3.0),
        ("ringgate_worker_responses_total{worker=\"0\",class=\"4xx\"}", 5.0),
        ("ringgate_worker_refused_total{worker=\"0\"}", 1.0),
        ("ringgate_worker_snapshot{worker=\"0\"}", 1.0),
        ("ringgate_loads_total{result=\"good\"}", 1.0),
    ] {
        eventually(sample, || gateway.metric(sample) == Some(wanted));
    }
}

/// Connections to upstreams: made, used again, at work, kept.
#[test]
fn pools_of_connections_are_counted() {
    let (ask, asked) = std::sync::mpsc::channel::<()>();
    let asked = std::sync::Mutex::new(asked);
    let upstream = Upstream::script(move |conversation| {
        while let Some(request) = conversation.request() {
            if request.target() == "/some?wait" {
                let _ = asked.lock().expect("one at a time").recv();
            }
            conversation.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let routes = ROUTES.replace("UPSTREAM", &upstream.node());
    let gateway = Setup::new(routes).metrics().start();
    let wait_for = |name: &str, wanted: f64| {
        let sample = format!("ringgate_worker_upstream_{name}{{worker=\"0\"}}");
        eventually(&format!("{name} is {wanted}"), || gateway.metric(&sample) == Some(wanted));
    };
    for _ in 0..3 {
        assert_eq!(gateway.get("/some").text(), "ok");
    }
    for (name, wanted) in
        [("made_total", 1.0), ("reused_total", 2.0), ("in_use", 0.0), ("idle", 1.0)]
    {
        wait_for(name, wanted);
    }
    let mut waiting = gateway.client();
    waiting.send("GET /some?wait HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_for("in_use", 1.0);
    wait_for("idle", 0.0);
    ask.send(()).expect("the upstream waits");
    assert_eq!(waiting.response().text(), "ok");
    wait_for("in_use", 0.0);
    wait_for("idle", 1.0);
}

/// Bytes are those on the wire, heads included, also of requests that came in one piece.
#[test]
fn bytes_are_counted() {
    let (gateway, _upstream) = gateway();
    let mut client = gateway.client();
    let request = "GET /fast HTTP/1.1\r\nHost: a\r\n\r\n";
    let first = "POST /some HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";
    client.send(format!("{request}{first}{request}"));
    let lengths = [client.response(), client.response(), client.response()].map(|response| {
        let head: usize = response.text().len();
        head
    });
    assert_eq!(lengths, [5, 2, 5]);
    let fast = "{type=\"ingress\",route=\"fast\",service=\"\"}";
    let some = "{type=\"ingress\",route=\"some\",service=\"s1\"}";
    let of = |labels: &str| gateway.metric(&format!("apisix_bandwidth{labels}"));
    eventually("bytes", || of(some) == Some(first.len() as f64));
    assert_eq!(of(fast), Some(2.0 * request.len() as f64));
    let sent = |labels: &str| of(&labels.replace("ingress", "egress")).expect("a sample");
    let (fast, some) = (sent(fast), sent(some));
    assert!(fast > 2.0 * 60.0 && fast < 2.0 * 400.0, "{fast}");
    assert!(some > 60.0 && some < 400.0, "{some}");
}

#[test]
fn the_text_is_what_prometheus_reads() {
    let (gateway, _upstream) = gateway();
    gateway.get("/some");
    for path in ["/apisix/prometheus/metrics", "/metrics", "/metrics?x=y"] {
        let page = get(gateway.metrics(), path);
        assert_eq!(page.status(), 200, "{path}");
        let wanted = Some("text/plain; version=0.0.4; charset=utf-8");
        assert_eq!(page.field("content-type"), wanted);
        let mut family = String::new();
        for line in page.text().lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                family = rest.split(' ').next().unwrap_or_default().to_owned();
            } else if !line.starts_with('#') {
                assert!(line.starts_with(&family), "{line:?} is not of {family}");
                let value = line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
                assert!(value.is_some(), "{line:?} has no value");
            }
        }
    }
    assert_eq!(get(gateway.metrics(), "/").status(), 404);
}

/// Metrics are there without it; it takes no prepared response away.
#[test]
fn the_plugin_changes_nothing() {
    let answers = "fault-injection: {abort: {http_status: 200}}";
    let gateway = Setup::new(format!(
        "global_rules: [{{id: 1, plugins: {{prometheus: {{}}}}}}]
routes: [{{id: a, uri: /a, plugins: {{prometheus: {{prefer_name: true}}, {answers}}}}}]"
    ));
    let gateway = gateway.metrics().start();
    gateway.wait_for_log("warning: `prefer_name` has no effect");
    assert_eq!(gateway.get("/a").status(), 200);
    let prepared = "ringgate_worker_prepared_total{worker=\"0\"}";
    eventually("it was prepared", || gateway.metric(prepared) == Some(1.0));
}

#[test]
fn reloads_are_counted() {
    let (gateway, _upstream) = gateway();
    let load = |text: &str| {
        gateway.folder().write("apisix.yaml", format!("{text}\n#END\n"));
        gateway.process().signal(Signal::HUP);
    };
    load("routes: 7");
    let refused = "ringgate_loads_total{result=\"refused\"}";
    eventually("a refusal", || gateway.metric(refused) == Some(1.0));
    load("routes: []");
    let snapshot = "ringgate_worker_snapshot{worker=\"0\"}";
    eventually("a new snapshot", || gateway.metric(snapshot) == Some(2.0));
    assert_eq!(gateway.metric("ringgate_loads_total{result=\"good\"}"), Some(2.0));
}

/// The default address is given up when it is in use; one that is named is not.
#[test]
fn an_address_in_use() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let setup = Setup::new("routes: []").metrics();
    let config = setup.write_with(
        "export_addr: {ip: 127.0.0.1, port: 0}",
        &format!("export_addr: {{ip: 127.0.0.1, port: {port}}}"),
    );
    let ended = crate::harness::ringgate(["run", "-c", &config]);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(ended.stderr.contains(&format!("metrics on 127.0.0.1:{port}")), "{ended:?}");
    let setup = Setup::new("routes: []");
    let gateway = setup.start();
    assert_eq!(gateway.get("/").status(), 404);
}
