//! RFC 9112 §8 and §9: messages that are cut off, and connections.

use super::{Expect, OK, Row, get, post, row, story};
use crate::harness::{Cut, Gateway, Setup, Upstream};
use std::time::Duration;

pub(super) fn rows() -> Vec<Row> {
    let mut rows = incomplete();
    rows.extend(connections());
    rows
}

fn incomplete() -> Vec<Row> {
    const S: &str = "9112 §8";
    vec![
        row(S, "a length that is not reached cuts the response off", get(""))
            .answer("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
            .then_closes()
            .status(200)
            .expect(Expect::Cut),
        row(S, "so do chunks without the last one", get(""))
            .answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
            .then_closes()
            .status(200)
            .expect(Expect::Cut),
        row(S, "and a trailer section that does not end", get(""))
            .answer(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\nX: y\r\n",
            )
            .then_closes()
            .status(200)
            .expect(Expect::Cut),
        row(S, "in HTTP/1.0, too: an end would look whole", "GET / HTTP/1.0\r\n\r\n")
            .answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
            .then_closes()
            .status(200)
            .expect(Expect::Cut),
        row(S, "a head that does not end is a 502", get(""))
            .answer("HTTP/1.1 200 OK\r\nContent-Le")
            .then_closes()
            .status(502),
        row(S, "no response at all is a 502", post("Content-Length: 1\r\n", "x"))
            .answer("")
            .then_closes()
            .status(502),
        story(S, "a request that is cut off never looks whole upstream", cut_requests),
    ]
}

fn cut_requests(gateway: &Gateway, upstream: &Upstream) {
    let before = upstream.requests().len();
    for request in [
        post("Content-Length: 5\r\n", "half"),
        post("Transfer-Encoding: chunked\r\n", "4\r\nhalf\r\n"),
        post("Transfer-Encoding: chunked\r\n", "4\r\nhalf\r\n0\r\n"),
        "GET / HTTP/1.1\r\nHost: a\r\n".to_owned(),
    ] {
        let mut client = gateway.client();
        client.send(request);
        client.wire().end_sending();
        client.expect_end();
    }
    assert_eq!(upstream.requests().len(), before);
}

fn connections() -> Vec<Row> {
    let old = |fields: &str| format!("GET / HTTP/1.0\r\n{fields}\r\n");
    vec![
        row("9112 §9.3", "HTTP/1.1 persists", get("")).served().lacks("connection"),
        row("9112 §9.3", "unless it says close", get("Connection: close\r\n"))
            .status(200)
            .expect(Expect::Closes),
        row("9112 §9.3", "among other options", get("Connection: x, Close\r\n"))
            .status(200)
            .expect(Expect::Closes),
        row("9112 §9.3", "in any line", get("Connection: keep-alive\r\nConnection: close\r\n"))
            .status(200)
            .expect(Expect::Closes),
        row("9112 §9.3", "HTTP/1.0 ends", old("")).status(200).expect(Expect::Closes),
        row("9112 §9.3", "unless it says keep-alive", old("Connection: keep-alive\r\n"))
            .served()
            .gets("connection: keep-alive"),
        row(
            "9112 §9.3",
            "the body of an answered request is read first",
            format!("POST /local HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nGET{}", get("")),
        )
        .statuses(&[200, 200])
        .expect(Expect::Forwarded(1)),
        row(
            "9112 §9.3.2",
            "pipelined requests are answered in order",
            format!(
                "{}HEAD /local HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
                get("").repeat(3)
            ),
        )
        .statuses(&[200, 200, 200])
        .expect(Expect::Forwarded(3)),
        row(
            "9112 §9.3.2",
            "what is behind a refused one is not looked at",
            format!("{}{}", get(""), get("X : y\r\n")),
        )
        .statuses(&[200, 400])
        .expect(Expect::Closes)
        .expect(Expect::Forwarded(1)),
        row(
            "9112 §9.6",
            "nothing is served behind a close",
            format!("{}{}", get("Connection: close\r\n"), get("")),
        )
        .status(200)
        .expect(Expect::Closes)
        .expect(Expect::Forwarded(1)),
        row("9112 §9.6", "an upstream's close is its own affair", get(""))
            .answer("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
            .then_closes()
            .status(200)
            .lacks("connection")
            .expect(Expect::Persists),
        story("9112 §9.2", "bytes behind a response are nobody's", behind),
        story("9112 §9.3.1", "what may have had an effect is not sent again", not_again),
        story("9112 §9.5", "a request that drips in too slowly is a 408", drip),
        story("9112 §9.6", "a client that ended its side still gets its answers", half_closed),
        story("9112 §9.6", "an answer is not lost in a reset", large_unread),
    ]
}

fn to(upstream: &Upstream) -> Setup {
    let node = upstream.node();
    Setup::new(format!("routes: [{{uri: /*, upstream: {{nodes: {{\"{node}\": 1}}}}}}]"))
}

fn behind(_: &Gateway, _: &Upstream) {
    let upstream = Upstream::answering(format!("{OK}HTTP/1.1 200 OK\r\n\r\nevil"));
    let gateway = to(&upstream).start();
    let mut client = gateway.client();
    for _ in 0..3 {
        assert_eq!(client.get("/").text(), "ok");
    }
    assert_eq!(upstream.connections(), 3);
}

fn not_again(_: &Gateway, _: &Upstream) {
    let upstream = Upstream::script(|conversation| drop(conversation.request()));
    let gateway = to(&upstream).start();
    assert_eq!(gateway.ask(post("Content-Length: 1\r\n", "x")).status(), 502);
    assert_eq!(upstream.requests().len(), 1);
}

fn drip(_: &Gateway, _: &Upstream) {
    let upstream = Upstream::hello();
    let gateway = to(&upstream).http("client_header_timeout: 300ms").start();
    let mut client = gateway.client();
    for byte in get("X: y\r\n").bytes().take(60) {
        if !client.wire().send([byte]) {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(client.response().status(), 408);
    client.expect_end();
}

fn half_closed(gateway: &Gateway, _: &Upstream) {
    let mut client = gateway.client();
    client.send(get("").repeat(2));
    client.wire().end_sending();
    for _ in 0..2 {
        assert_eq!(client.response().status(), 200);
    }
    client.expect_end();
}

fn large_unread(gateway: &Gateway, _: &Upstream) {
    let mut client = gateway.client();
    client.send("POST /local HTTP/1.1\r\nHost: a\r\nContent-Length: 90000000\r\n\r\n");
    client.send(vec![b'x'; 300_000]);
    let response = client.response();
    assert!(response.status() == 200 && response.closes());
    let (bytes, cut) = client.wire().rest();
    assert!(bytes.is_empty() && cut != Cut::Late);
}
