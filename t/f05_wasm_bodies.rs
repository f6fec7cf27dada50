//! Bodies through a plugin that replaces a text in them, `examples/plugins/body-rust`.

use crate::harness::{Gateway, Setup, Upstream, drivers};

fn setup(upstream: &Upstream, conf: &str, keys: &str) -> Setup {
    let resources = format!(
        "routes: [{{uri: /*, plugins: {{body: {{conf: {conf}}}}}, upstream: {{nodes: {{\"{}\": 1}}}}}}]",
        upstream.node()
    );
    Setup::new(resources).wasm("body", "dist/body_rust.wasm", keys)
}

const BOTH: &str = "{request: {from: cat, to: tiger}, response: {from: tiger, to: lion}}";

fn start(upstream: &Upstream) -> Gateway {
    setup(upstream, BOTH, "").start()
}

#[test]
fn lengths_are_right_after_an_edit() {
    for driver in drivers() {
        let upstream = Upstream::echo();
        let gateway = setup(&upstream, BOTH, "").driver(*driver).start();
        let mut client = gateway.client();
        for _ in 0..2 {
            client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\na cat sat");
            let response = client.response();
            assert_eq!(response.text(), "a lion sat");
            let length = response.field("content-length");
            assert!(length == Some("10") || response.chunked, "{:?}", response.fields);
        }
        for request in upstream.requests() {
            assert_eq!(request.text(), "a tiger sat");
        }
    }
}

#[test]
fn a_text_across_chunks_is_found() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\na t\r\n2\r\nig\r\n6\r\ner sat\r\n0\r\n\r\n",
    );
    let gateway = start(&upstream);
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for piece in ["3\r\na c\r\n", "2\r\nat\r\n", "4\r\n sat\r\n", "0\r\n\r\n"] {
        client.send(piece);
    }
    assert_eq!(client.response().text(), "a lion sat");
    assert_eq!(upstream.request().text(), "a tiger sat");
}

#[test]
fn trailers_follow_an_edited_body() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\ntiger\r\n0\r\nX-Sum: 1\r\n\r\n",
    );
    let gateway = start(&upstream);
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send("3\r\ncat\r\n0\r\nX-Check: 2\r\n\r\n");
    let response = client.response();
    assert_eq!((response.text().as_str(), response.trailer("x-sum")), ("lion", Some("1")));
    let request = upstream.request();
    assert_eq!((request.text().as_str(), request.trailer("x-check")), ("tiger", Some("2")));
}

#[test]
fn bodies_without_the_text_and_without_bytes_pass() {
    let upstream = Upstream::echo();
    let gateway = start(&upstream);
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\ndog");
    assert_eq!(client.response().text(), "dog");
    assert_eq!(client.get("/").text(), "");
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response_to_head().status(), 200);
    assert_eq!(client.get("/").text(), "");
}

#[test]
fn a_body_until_the_end_of_the_connection() {
    let upstream = Upstream::once("HTTP/1.1 200 OK\r\n\r\nthe tiger sat");
    let gateway = start(&upstream);
    let mut client = gateway.client();
    assert_eq!(client.get("/").text(), "the lion sat");
    client.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(client.response().text(), "the lion sat");
}

#[test]
fn a_local_answer_is_edited_too() {
    let resources = "routes:
  - uri: /*
    plugins:
      body: {conf: {response: {from: tiger, to: lion}}}
      fault-injection: {abort: {http_status: 200, body: the tiger sat}}";
    let keys = "http_request_phase: rewrite, priority: 12000";
    let gateway = Setup::new(resources).wasm("body", "dist/body_rust.wasm", keys).start();
    let response = gateway.get("/");
    assert_eq!(response.text(), "the lion sat");
    assert_eq!(response.field("content-length"), Some("12"));
}

#[test]
fn ten_megabytes_through_a_plugin() {
    let upstream = Upstream::echo();
    let gateway =
        setup(&upstream, BOTH, "limits: {body_mb: 16, memory_mb: 256, deadline_ms: 20000}");
    let gateway = gateway.start();
    let line = format!("{}cat{}\n", "x".repeat(497), "y".repeat(499));
    let body = line.repeat(10_000);
    let mut client = gateway.client();
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()));
    client.send(&body);
    let response = client.response();
    assert_eq!(response.status(), 200);
    assert!(response.text() == body.replace("cat", "lion"), "{} bytes", response.body.len());
}

/// What a plugin holds back has a bound: 413 towards the upstream, 500 towards the client.
#[test]
fn a_plugin_may_not_hold_back_everything() {
    let keys = "limits: {body_mb: 1}";
    let upstream = Upstream::echo();
    let gateway = setup(&upstream, "{request: {from: cat, to: tiger}}", keys).start();
    let post = |bytes: usize| {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {bytes}\r\n\r\n");
        let mut client = gateway.client();
        client.send(head);
        // It may hang up before all of it was sent.
        let _ = client.wire().send(vec![b'x'; bytes]);
        client.response().status()
    };
    assert_eq!(post(2_000_000), 413);
    assert_eq!(post(1_000_000), 200);
    assert_eq!(upstream.requests().len(), 1);
    let upstream = Upstream::script(|conversation| {
        while conversation.request().is_some() {
            conversation.send("HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n");
            conversation.send(vec![b'x'; 2_000_000]);
        }
    });
    let gateway = setup(&upstream, "{response: {from: cat, to: tiger}}", keys).start();
    assert_eq!(gateway.get("/").status(), 500);
    assert_eq!(gateway.get("/").status(), 500);
}

/// The plugin asks for no compressed response, which it could not search.
#[test]
fn the_plugin_may_remove_a_request_header() {
    let upstream = Upstream::hello();
    let gateway = start(&upstream);
    gateway.ask("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n");
    assert_eq!(upstream.request().field("accept-encoding"), None);
}
