//! Bodies both ways: lengths, chunks, trailers, `Expect`, and ten megabytes of them.

use crate::harness::{Gateway, Message, Setup, Upstream, drivers};
use std::io::Write;

fn proxy(upstream: &Upstream) -> String {
    format!("routes: [{{uri: /*, upstream: {{nodes: {{\"{}\": 1}}}}}}]", upstream.node())
}

#[test]
fn a_length_stays_a_length() {
    let upstream = Upstream::echo();
    let gateway = Gateway::start(proxy(&upstream));
    let response = gateway.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!((response.text().as_str(), response.chunked), ("hello", false));
    let request = upstream.request();
    assert_eq!((request.text().as_str(), request.chunked), ("hello", false));
    assert_eq!(request.field("content-length"), Some("5"));
}

#[test]
fn chunks_go_both_ways() {
    for driver in drivers() {
        let upstream = Upstream::answering(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n2;x=y\r\nbc\r\n0\r\n\r\n",
        );
        let gateway = Setup::new(proxy(&upstream)).driver(*driver).start();
        let mut client = gateway.client();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.send("4\r\nwiki\r\n5;ext=\"v\"\r\npedia\r\n00\r\n\r\n");
        let response = client.response();
        assert_eq!((response.text().as_str(), response.chunked), ("abc", true));
        // A body that is all there may go on with its length instead.
        assert_eq!(upstream.request().text(), "wikipedia");
    }
}

#[test]
fn trailers_go_both_ways() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
         3\r\nabc\r\n0\r\nX-Sum: 42\r\nX-More: yes\r\n\r\n",
    );
    let gateway = Gateway::start(proxy(&upstream));
    let mut client = gateway.client();
    client.send(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\r\n\
         2\r\nhi\r\n0\r\nX-Check: 7\r\n\r\n",
    );
    let response = client.response();
    assert_eq!(response.text(), "abc");
    assert_eq!(response.trailer("x-sum"), Some("42"));
    assert_eq!(response.trailer("x-more"), Some("yes"));
    let request = upstream.request();
    assert_eq!(request.text(), "hi");
    assert_eq!(request.trailer("x-check"), Some("7"));
    assert_eq!(client.get("/").text(), "abc", "the connection is in step");
}

/// A body until the end of the connection is a body of chunks for a client that goes on.
#[test]
fn a_response_until_the_end_is_made_of_chunks() {
    let upstream = Upstream::once("HTTP/1.1 200 OK\r\n\r\nall there is");
    let gateway = Gateway::start(proxy(&upstream));
    let mut client = gateway.client();
    for _ in 0..2 {
        let response = client.get("/");
        assert_eq!((response.text().as_str(), response.chunked), ("all there is", true));
    }
}

#[test]
fn an_http_1_0_upstream_is_understood() {
    let upstream = Upstream::once("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nold");
    let gateway = Gateway::start(proxy(&upstream));
    let mut client = gateway.client();
    assert_eq!(client.get("/").text(), "old");
    assert_eq!(client.get("/").text(), "old");
    assert_eq!(upstream.connections(), 2, "1.0 does not persist by itself");
}

#[test]
fn a_continue_is_sent_when_the_body_is_wanted() {
    for driver in drivers() {
        let upstream = Upstream::echo();
        let gateway = Setup::new(proxy(&upstream)).driver(*driver).start();
        let mut client = gateway.client();
        let head =
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
        client.send(head);
        assert_eq!(client.response().status(), 100);
        client.send("body");
        assert_eq!(client.response().text(), "body");
        assert_eq!(upstream.request().field("expect"), None, "the gateway answered it");
    }
}

/// Without the wait for a 100 the client may send at once: then none is needed, and none is
/// harmful.
#[test]
fn a_body_that_does_not_wait_is_taken() {
    let upstream = Upstream::echo();
    let gateway = Gateway::start(proxy(&upstream));
    let mut client = gateway.client();
    client.send(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\nbody",
    );
    let mut response = client.response();
    if response.status() == 100 {
        response = client.response();
    }
    assert_eq!(response.text(), "body");
}

#[test]
fn no_continue_before_an_answer_that_needs_no_body() {
    let gateway = Gateway::start(
        "routes: [{uri: /*, plugins: {fault-injection: {abort: {http_status: 403, body: no}}}}]",
    );
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
    let response = client.response();
    assert_eq!(response.status(), 403);
    assert!(response.closes(), "whether the body comes is not known: {:?}", response.fields);
    client.expect_end();
}

#[test]
fn interim_responses_pass_and_100_does_not() {
    let upstream = Upstream::answering(
        "HTTP/1.1 100 Continue\r\n\r\n\
         HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    );
    let gateway = Gateway::start(proxy(&upstream));
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let hints = client.response();
    assert_eq!((hints.status(), hints.field("link")), (103, Some("</a.css>")));
    assert_eq!(client.response().text(), "ok");
    client.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(client.response().text(), "ok", "HTTP/1.0 knows no 1xx");
}

/// A response that begins before the request ends: both go on.
#[test]
fn a_response_may_begin_before_the_request_ends() {
    let upstream = Upstream::script(|conversation| {
        if conversation.head().is_none() {
            return;
        }
        conversation.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
        let mut body = Message::default();
        let framing =
            Message { fields: vec![("content-length".into(), "6".into())], ..body.clone() };
        if conversation.wire.body(&mut body, framing.request_framing()).is_ok() {
            conversation.send(format!("6\r\n{}\r\n0\r\n\r\n", body.text()));
        }
    });
    let gateway = Gateway::start(proxy(&upstream));
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n");
    let mut head = client.wire().head().expect("a head before the body was sent");
    assert_eq!(head.status(), 200);
    client.send("second");
    let framing = head.response_framing(false);
    client.wire().body(&mut head, framing).expect("the whole body");
    assert_eq!(head.text(), "firstsecond");
}

const TEN_MEGABYTES: usize = 10 * 1024 * 1024;

/// Bytes that differ by position, so that a piece lost or doubled shows.
fn patterned(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 + at / 251) as u8).collect()
}

#[test]
fn ten_megabytes_up_and_down() {
    for driver in drivers() {
        let upstream = Upstream::echo();
        let gateway = Setup::new(proxy(&upstream)).driver(*driver).start();
        let body = patterned(TEN_MEGABYTES);
        let mut client = gateway.client();
        client
            .send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {TEN_MEGABYTES}\r\n\r\n"));
        client.send(&body);
        assert!(client.response().body == body, "the body came back changed");
        client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        for chunk in body.chunks(70_001) {
            client.send(format!("{:x}\r\n", chunk.len()));
            client.send(chunk);
            client.send("\r\n");
        }
        client.send("0\r\n\r\n");
        assert!(client.response().body == body, "the chunked body came back changed");
    }
}

/// A gigabyte up and the same down at once, both streamed: what the process holds is bounded.
#[test]
fn a_gigabyte_each_way_through_a_process_of_fifty_megabytes() {
    const PIECE: usize = 1024 * 1024;
    const PIECES: usize = 1024;
    let upstream = Upstream::script(|conversation| {
        let Some(head) = conversation.head() else { return };
        let length = head.field("content-length").unwrap_or_default();
        conversation.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"));
        while let Some(bytes) = conversation.wire.some() {
            conversation.send(bytes);
        }
    });
    for driver in drivers() {
        let gateway = Setup::new(proxy(&upstream)).driver(*driver).start();
        let mut client = gateway.client();
        let length = PIECE * PIECES;
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"));
        let mut stream = client.wire().stream().try_clone().expect("a second handle");
        let sender = std::thread::spawn(move || {
            let piece = patterned(PIECE);
            (0..PIECES).for_each(|_| stream.write_all(&piece).expect("it is taken"));
        });
        assert_eq!(client.wire().head().expect("a head").status(), 200);
        let piece = patterned(PIECE);
        for at in 0..PIECES {
            assert!(client.wire().exactly(PIECE) == piece, "megabyte {at} came back changed");
        }
        sender.join().expect("everything was sent");
        let peak = gateway.process().peak_memory_kb();
        assert!(peak < 50_000, "{peak} kB for {length} bytes each way");
    }
}

/// Where it is asked for, a request goes upstream when its body is there; what would be too much to
/// hold goes on its way.
#[test]
fn bodies_may_be_gathered_first() {
    for driver in drivers() {
        let upstream = Upstream::echo();
        let node = upstream.node();
        let gateway = Setup::new(format!(
            "routes: [{{uri: /*, plugins: {{proxy-control: {{request_buffering: true}}}}, \
             upstream: {{nodes: {{\"{node}\": 1}}}}}}]"
        ));
        let gateway = gateway.driver(*driver).start();
        let mut client = gateway.client();
        for (fields, first, second) in [
            ("Content-Length: 10", "hello", "world"),
            ("Transfer-Encoding: chunked", "5\r\nhello\r\n", "5\r\nworld\r\n0\r\n\r\n"),
            ("Transfer-Encoding: chunked", "5\r\nhello\r\n", "5\r\nworld\r\n0\r\nX-T: 1\r\n\r\n"),
        ] {
            let before = upstream.connections();
            let mut slow = gateway.client();
            slow.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{first}"));
            // A request behind it, on the same worker, is through before the body is whole.
            client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
            assert_eq!(client.response().text(), "hi");
            assert_eq!(upstream.connections(), before.max(1), "{fields}: no connection of its own");
            slow.send(second);
            assert_eq!(slow.response().text(), "helloworld", "{fields}");
        }
        assert_eq!(gateway.get("/").text(), "", "no body, nothing to wait for");
        client.send(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n",
        );
        assert_eq!(client.response().status(), 100);
        client.send("body");
        assert_eq!(client.response().text(), "body");
        let large = patterned(TEN_MEGABYTES);
        client
            .send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {TEN_MEGABYTES}\r\n\r\n"));
        client.send(&large);
        assert!(client.response().body == large, "the body came back changed");
    }
}
