//! Requests that are wrong: a status and a closed connection, never a guess.

use crate::harness::{Gateway, Setup, Upstream, drivers};

/// Everything goes upstream, where nothing may arrive.
fn proxy(upstream: &Upstream) -> String {
    format!("routes: [{{uri: /*, upstream: {{nodes: {{\"{}\": 1}}}}}}]", upstream.node())
}

/// Sends bytes, of which a good request follows at once: an answer to that would be a smuggled one.
#[track_caller]
fn check(gateway: &Gateway, bytes: &[u8], wanted: u16) {
    let mut client = gateway.client();
    client.send([bytes, b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"].concat());
    let response = client.outcome(false);
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
    let response = response.unwrap_or_else(|cut| panic!("{shown:?}: {cut:?}"));
    assert_eq!(response.status(), wanted, "{shown:?}");
    assert!(response.closes(), "{shown:?}: {:?}", response.fields);
    client.expect_end();
}

const HEADS: &[(&[u8], u16)] = &[
    // The request line.
    (b"GET\r\n\r\n", 400),
    (b"GET /\r\n\r\n", 400),
    (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"G@T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET nopath HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET /../../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET http:// HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET http://u:p@h/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400),
    (b"GET / HTTP/11\r\nHost: a\r\n\r\n", 400),
    (b"GET / http/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    (b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 501),
    // TLS on a plain port.
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    // Line ends and fields.
    (b"GET / HTTP/1.1\nHost: a\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\n\n", 400),
    (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    (b"GET / HTTP/1.1\rHost: a\r\r", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\nA: b\rc\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\nA: b\0c\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\nA\0: b\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\nA : b\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n folded\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\nA(b): c\r\n\r\n", 400),
    // Host.
    (b"GET / HTTP/1.1\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", 400),
    // Framing.
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\nx", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nx", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\nx", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\nx", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1 2\r\n\r\nx", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\nx", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\nx", 400),
    (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\nx", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400),
    (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        400,
    ),
    (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400),
    (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: tea\r\n\r\nx", 417),
];

#[test]
fn heads() {
    for driver in drivers() {
        let upstream = Upstream::hello();
        let gateway = Setup::new(proxy(&upstream)).driver(*driver).start();
        for (head, status) in HEADS {
            check(&gateway, head, *status);
        }
        assert!(upstream.requests().is_empty(), "{:?}", upstream.requests());
        assert_eq!(gateway.get("/good").status(), 200);
    }
}

const CHUNKS: &[&str] = &[
    "x\r\n",
    " 1\r\na\r\n0\r\n\r\n",
    "-1\r\n",
    "+1\r\na\r\n0\r\n\r\n",
    "0x1\r\na\r\n0\r\n\r\n",
    "1\na\r\n0\r\n\r\n",
    "1\r\nab\r\n0\r\n\r\n",
    "1\r\na\n0\r\n\r\n",
    "fffffffffffffffff\r\n",
    "10000000000000001\r\na\r\n0\r\n\r\n",
    "0\r\nbad trailer\r\n\r\n",
    "0\r\nA : b\r\n\r\n",
    "0\r\nA: b\n\r\n",
];

/// A body may turn out wrong after its head went upstream; nothing after it is a request, and the
/// upstream never sees the end of it.
#[test]
fn chunked_bodies() {
    let upstream = Upstream::hello();
    let gateway = Gateway::start(proxy(&upstream));
    for chunks in CHUNKS {
        let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        check(&gateway, format!("{head}{chunks}").as_bytes(), 400);
    }
    assert!(upstream.requests().is_empty(), "{:?}", upstream.requests());
    assert_eq!(gateway.get("/good").status(), 200);
}

/// The same on a route that is answered without reading the body.
#[test]
fn chunked_bodies_that_nobody_wants() {
    let gateway = Gateway::start(
        "routes: [{uri: /*, plugins: {fault-injection: {abort: {http_status: 200, body: ok}}}}]",
    );
    for chunks in CHUNKS {
        let mut client = gateway.client();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.send(format!("{chunks}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"));
        let status = client.response().status();
        assert!(status == 200 || status == 400, "{chunks:?}: {status}");
        client.expect_end();
    }
}

/// What ends in the middle of a head or body has no answer to wait for; the gateway just goes on.
#[test]
fn truncated_requests() {
    let upstream = Upstream::hello();
    let gateway = Gateway::start(proxy(&upstream));
    let whole = "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    for end in 0..whole.len() {
        let mut client = gateway.client();
        client.send(&whole[..end]);
        client.wire().end_sending();
        client.expect_end();
    }
    let chunked =
        "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    for end in [60, chunked.len() - 8, chunked.len() - 5, chunked.len() - 2, chunked.len() - 1] {
        let mut client = gateway.client();
        client.send(&chunked[..end]);
        client.wire().end_sending();
        client.expect_end();
    }
    assert!(upstream.requests().is_empty(), "{:?}", upstream.requests());
    assert_eq!(gateway.get("/good").status(), 200);
}

/// Mutated requests from a seed: the gateway answers or closes, and goes on.
#[test]
fn mutated_requests() {
    let upstream = Upstream::hello();
    let gateway = Gateway::start(proxy(&upstream));
    let seed = 20_260_122;
    let mut random = fastrand::Rng::with_seed(seed);
    let good = b"POST /a?b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nA: b\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    for round in 0..300 {
        let mut bytes = good.to_vec();
        for _ in 0..random.usize(1..5) {
            let at = random.usize(0..bytes.len());
            match random.u8(..3) {
                0 => bytes[at] = random.u8(..),
                1 => bytes.insert(at, *random.choice(b"\r\n\0 :;\xff").expect("some")),
                _ => drop(bytes.remove(at)),
            }
        }
        let mut client = gateway.client();
        client.send(&bytes);
        client.wire().end_sending();
        let (_, cut) = client.wire().rest();
        assert_ne!(cut, crate::harness::Cut::Late, "seed {seed} round {round}: {bytes:?}");
    }
    assert_eq!(gateway.get("/good").status(), 200);
}
