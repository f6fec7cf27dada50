//! HTTP/1.1 towards clients: connections that persist, pipelining, framing, HEAD, 1.0.

use crate::harness::{Cut, Gateway, Setup, Upstream, drivers};

/// `/local` is answered by the gateway, all else by the upstream.
fn resources(upstream: &Upstream) -> String {
    format!(
        "routes:
  - uri: /local
    plugins: {{fault-injection: {{abort: {{http_status: 200, body: \"local\\n\"}}}}}}
  - uri: /made
    plugins: {{fault-injection: {{abort: {{http_status: 200, body: \"$arg_n\\n\"}}}}}}
  - uri: /*
    upstream: {{nodes: {{\"{}\": 1}}}}",
        upstream.node()
    )
}

#[test]
fn a_connection_persists() {
    for driver in drivers() {
        let upstream = Upstream::hello();
        let gateway = Setup::new(resources(&upstream)).driver(*driver).start();
        let mut client = gateway.client();
        for _ in 0..3 {
            assert_eq!(client.get("/local").text(), "local\n");
            assert_eq!(client.get("/made?n=7").text(), "7\n");
            assert_eq!(client.get("/hello").text(), "hello world\n");
            assert_eq!(client.get("/hello").field("connection"), None);
        }
    }
}

#[test]
fn connection_close_closes() {
    let upstream = Upstream::hello();
    let gateway = Gateway::start(resources(&upstream));
    for path in ["/local", "/made", "/hello"] {
        let mut client = gateway.client();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
        let response = client.response();
        assert_eq!(response.status(), 200);
        assert!(response.closes(), "{path}: {:?}", response.fields);
        client.expect_end();
    }
}

#[test]
fn http_1_0_closes_unless_asked_not_to() {
    let upstream = Upstream::hello();
    let gateway = Gateway::start(resources(&upstream));
    for path in ["/local", "/made", "/hello"] {
        let mut client = gateway.client();
        client.send(format!("GET {path} HTTP/1.0\r\n\r\n"));
        assert_eq!(client.response().status(), 200);
        client.expect_end();

        let mut client = gateway.client();
        for _ in 0..2 {
            client.send(format!("GET {path} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
            let response = client.response();
            assert_eq!(response.status(), 200);
            assert_eq!(response.field("connection"), Some("keep-alive"), "{path}");
        }
    }
}

/// A client of HTTP/1.0 knows no chunks: the end of the connection is the end of the body.
#[test]
fn http_1_0_gets_no_chunks() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n",
    );
    let gateway = Gateway::start(resources(&upstream));
    let mut client = gateway.client();
    client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let response = client.response();
    assert_eq!((response.text().as_str(), response.chunked), ("abcdef", false));
    client.expect_end();
}

/// Answers come in order, and what one read brought is answered by few sends.
#[test]
fn pipelined_requests_are_answered_in_order() {
    for driver in drivers() {
        let upstream = Upstream::script(|conversation| {
            while let Some(request) = conversation.request() {
                conversation.answer(request.target());
            }
        });
        let gateway = Setup::new(resources(&upstream)).driver(*driver).start();
        let mut client = gateway.client();
        let mut all = String::new();
        for number in 0..30 {
            let path = match number % 3 {
                0 => "/local".to_owned(),
                1 => format!("/made?n={number}"),
                _ => format!("/up/{number}"),
            };
            all.push_str(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        }
        client.send(all);
        for number in 0..30 {
            let wanted = match number % 3 {
                0 => "local\n".to_owned(),
                1 => format!("{number}\n"),
                _ => format!("/up/{number}"),
            };
            assert_eq!(client.response().text(), wanted);
        }
    }
}

/// All that one read brought is answered with one send: they arrive together.
#[test]
fn answers_to_pipelined_requests_are_coalesced() {
    let upstream = Upstream::hello();
    let gateway = Gateway::start(resources(&upstream));
    let mut client = gateway.client();
    client.send("GET /local HTTP/1.1\r\nHost: a\r\n\r\n".repeat(8));
    client.response();
    let together = client.wire().unused().len();
    for _ in 1..8 {
        client.response();
    }
    assert!(together > 0, "the first answer came alone");
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let upstream = Upstream::echo();
    let gateway = Gateway::start(resources(&upstream));
    let mut client = gateway.client();
    for byte in
        b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    {
        client.send([*byte]);
    }
    assert_eq!(client.response().text(), "abc");
    assert_eq!(client.get("/local").text(), "local\n");
}

#[test]
fn empty_lines_before_a_request_are_skipped() {
    let upstream = Upstream::hello();
    let gateway = Gateway::start(resources(&upstream));
    let mut client = gateway.client();
    client.send("\r\n\r\nGET /local HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().text(), "local\n");
}

#[test]
fn a_head_has_a_length_and_no_body() {
    let upstream = Upstream::script(|conversation| {
        while let Some(request) = conversation.request() {
            let body = if request.method() == "HEAD" { "" } else { "hello" };
            let head = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: \"e\"\r\n\r\n";
            conversation.send(format!("{head}{body}"));
        }
    });
    let gateway = Gateway::start(resources(&upstream));
    let mut client = gateway.client();
    for (path, length) in [("/local", "6"), ("/made?n=12", "3"), ("/up", "5"), ("/local", "6")] {
        client.send(format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let response = client.response_to_head();
        assert_eq!(response.status(), 200);
        assert_eq!(response.field("content-length"), Some(length), "{path}");
        assert_eq!(client.get("/local").text(), "local\n", "the connection is in step");
    }
}

#[test]
fn an_absolute_target_names_the_host() {
    let upstream = Upstream::hello();
    let gateway = Gateway::start(format!(
        "routes: [{{uri: /a, host: one.test, upstream: {{nodes: {{\"{}\": 1}}}}}}]",
        upstream.node()
    ));
    let response = gateway.ask("GET http://one.test/a?q HTTP/1.1\r\nHost: two.test\r\n\r\n");
    assert_eq!(response.status(), 200);
    let request = upstream.request();
    assert_eq!(request.target(), "/a?q");
    assert_eq!(request.field("host"), Some("one.test"), "RFC 9112 §3.2.2");
    let response = gateway.ask("GET http://two.test/a HTTP/1.1\r\nHost: one.test\r\n\r\n");
    assert_eq!(response.status(), 404);
}

#[test]
fn an_absolute_target_without_a_path_is_the_root() {
    let upstream = Upstream::hello();
    let gateway = Gateway::start(resources(&upstream));
    let response = gateway.ask("GET http://one.test HTTP/1.1\r\nHost: one.test\r\n\r\n");
    assert_eq!(response.status(), 200);
    assert_eq!(upstream.request().target(), "/");
}

#[test]
fn date_server_and_type_are_there() {
    let upstream = Upstream::hello();
    let gateway = Gateway::start(resources(&upstream));
    for path in ["/local", "/made?n=1"] {
        let response = gateway.get(path);
        assert!(response.field("server").is_some_and(|s| s.starts_with("ringgate")));
        assert_eq!(response.field("content-type"), Some("text/plain; charset=utf-8"));
        let date = response.field("date").unwrap_or_default();
        assert!(date.len() == 29 && date.ends_with(" GMT"), "{date}");
    }
}

/// Statuses that have no body have neither a body nor a length (RFC 9110 §8.6).
#[test]
fn statuses_without_a_body() {
    let upstream = Upstream::script(|conversation| {
        while let Some(request) = conversation.request() {
            let status = request.target().trim_start_matches('/').to_owned();
            conversation.send(format!("HTTP/1.1 {status} X\r\nETag: \"e\"\r\n\r\n"));
        }
    });
    let gateway = Gateway::start(resources(&upstream));
    let mut client = gateway.client();
    for status in ["204", "304"] {
        let response = client.get(&format!("/{status}"));
        assert_eq!(response.start.split(' ').nth(1), Some(status));
        assert_eq!(response.field("content-length"), None);
        assert_eq!(response.field("transfer-encoding"), None);
        assert_eq!(response.field("etag"), Some("\"e\""));
    }
    assert_eq!(client.get("/local").text(), "local\n");
}

/// `client_max_body_size`, `head_bytes` and others have tests in `b30_limits`; this one is about
/// what follows an answer that came before its request was read.
#[test]
fn the_body_of_a_request_that_was_answered_early_is_skipped() {
    let upstream = Upstream::hello();
    let gateway = Gateway::start(resources(&upstream));
    let mut client = gateway.client();
    client.send("POST /local HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nGET /");
    assert_eq!(client.response().text(), "local\n");
    client.send("POST /local HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send("5\r\nGET /\r\n0\r\n\r\n");
    assert_eq!(client.response().text(), "local\n");
    assert_eq!(client.get("/made?n=1").text(), "1\n");
}

/// An answer must not be lost in a reset because the client was still sending.
#[test]
fn a_large_body_that_nobody_reads_does_not_lose_the_answer() {
    let upstream = Upstream::hello();
    let gateway = Gateway::start(resources(&upstream));
    let mut client = gateway.client();
    client.send("POST /local HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n");
    client.send(vec![b'x'; 300_000]);
    let response = client.response();
    assert_eq!(response.text(), "local\n");
    assert!(response.closes(), "{:?}", response.fields);
    let (bytes, cut) = client.wire().rest();
    assert!(bytes.is_empty() && cut != Cut::Late, "{cut:?}");
}

#[test]
fn a_client_that_ends_its_side_still_gets_its_answers() {
    let upstream = Upstream::hello();
    let gateway = Gateway::start(resources(&upstream));
    let mut client = gateway.client();
    client.send("GET /local HTTP/1.1\r\nHost: a\r\n\r\nGET /up HTTP/1.1\r\nHost: a\r\n\r\n");
    client.wire().end_sending();
    assert_eq!(client.response().text(), "local\n");
    assert_eq!(client.response().text(), "hello world\n");
    client.expect_end();
}

/// `Via` is left out where it is not wanted; that of others stays.
#[test]
fn via_can_be_switched_off() {
    let upstream =
        Upstream::answering("HTTP/1.1 200 OK\r\nVia: 1.1 x\r\nContent-Length: 2\r\n\r\nok");
    let gateway = Setup::new(resources(&upstream)).ringgate("via: false").start();
    let mut client = gateway.client();
    client.send("GET /up HTTP/1.1\r\nHost: a\r\nVia: 1.0 y\r\n\r\n");
    assert_eq!(client.response().field("via"), Some("1.1 x"));
    assert_eq!(upstream.request().field("via"), Some("1.0 y"));
}
