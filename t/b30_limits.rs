//! Bounds of size and of time towards clients: a status for each, and a closed connection.

use crate::harness::{Gateway, Setup, Upstream, drivers};
use std::time::{Duration, Instant};

const LOCAL: &str =
    "routes: [{uri: /*, plugins: {fault-injection: {abort: {http_status: 200, body: ok}}}}]";

fn proxy(upstream: &Upstream) -> String {
    format!("routes: [{{uri: /*, upstream: {{nodes: {{\"{}\": 1}}}}}}]", upstream.node())
}

/// Sends and expects the status, and the end of the connection.
#[track_caller]
fn refused(gateway: &Gateway, request: &str, wanted: u16) {
    let mut client = gateway.client();
    // The gateway may have hung up before everything was sent.
    let _ = client.wire().send(request);
    let response = client.response();
    assert_eq!(response.status(), wanted, "{:?}", &request[..request.len().min(80)]);
    assert!(response.closes(), "{:?}", response.fields);
    client.expect_end();
}

#[test]
fn a_hundred_kilobytes_of_headers_are_431() {
    let gateway = Gateway::start(LOCAL);
    let line = format!("X-Padding: {}\r\n", "x".repeat(1000));
    refused(&gateway, &format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", line.repeat(100)), 431);
    // Also when they never end.
    refused(&gateway, &format!("GET / HTTP/1.1\r\nHost: a\r\n{}", line.repeat(100)), 431);
    refused(&gateway, &format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(100_000)), 431);
    assert_eq!(gateway.get("/").status(), 200);
}

#[test]
fn too_many_headers_are_431() {
    let gateway = Gateway::start(LOCAL);
    let with = |count: usize| {
        let fields: String = (1..count).map(|n| format!("X-{n}: y\r\n")).collect();
        format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
    };
    assert_eq!(gateway.ask(with(100)).status(), 200);
    refused(&gateway, &with(101), 431);
}

#[test]
fn a_target_longer_than_a_head_is_414() {
    let gateway = Gateway::start(LOCAL);
    let target = "a".repeat(100_000);
    refused(&gateway, &format!("GET /{target} HTTP/1.1\r\nHost: a\r\n\r\n"), 414);
    let fits = "a".repeat(30_000);
    assert_eq!(gateway.get(&format!("/{fits}")).status(), 200);
}

#[test]
fn head_limits_can_be_set() {
    let setup = Setup::new(LOCAL).ringgate("limits: {head_bytes: 4096, headers: 5}");
    let gateway = setup.start();
    let head =
        |bytes: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(bytes));
    assert_eq!(gateway.ask(head(3000)).status(), 200);
    refused(&gateway, &head(5000), 431);
    let six = "GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 1\r\nC: 1\r\nD: 1\r\nE: 1\r\n\r\n";
    refused(&gateway, six, 431);
}

/// Fields with `_` are another's fields to servers that make variables of names.
#[test]
fn fields_with_underscores_may_be_dropped() {
    for (setting, wanted) in [("\"on\"", Some("1")), ("\"off\"", None)] {
        let upstream = Upstream::hello();
        let line = format!("underscores_in_headers: {setting}");
        let gateway = Setup::new(proxy(&upstream)).http(&line).start();
        gateway.ask("GET / HTTP/1.1\r\nHost: a\r\nX_User: 1\r\nX-User: 2\r\n\r\n");
        let request = upstream.request();
        assert_eq!(request.field("x_user"), wanted, "{setting}");
        assert_eq!(request.field("x-user"), Some("2"));
    }
}

#[test]
fn a_body_over_its_limit_is_413() {
    for driver in drivers() {
        let upstream = Upstream::echo();
        let setup = Setup::new(proxy(&upstream)).http("client_max_body_size: 1k").driver(*driver);
        let gateway = setup.start();
        let post = |fields: &str, body: &str| {
            format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{body}")
        };
        refused(&gateway, &post("Content-Length: 1025", ""), 413);
        refused(&gateway, &post("Content-Length: 4000000000", ""), 413);
        let chunk = format!("400\r\n{}\r\n", "x".repeat(1024));
        let chunked = "Transfer-Encoding: chunked";
        refused(&gateway, &post(chunked, &format!("{chunk}1\r\ny\r\n0\r\n\r\n")), 413);
        assert!(upstream.requests().is_empty());
        let body = "x".repeat(1024);
        assert_eq!(gateway.ask(post("Content-Length: 1024", &body)).text(), body);
        assert_eq!(gateway.ask(post(chunked, &format!("{chunk}0\r\n\r\n"))).text(), body);
    }
}

/// A worker's clock moves by its tick, which comes late on a busy machine.
const COARSE: Duration = Duration::from_millis(200);

/// A time that something took is near the time it was set to; much earlier is wrong.
#[track_caller]
fn about(start: Instant, wanted: Duration) {
    let took = start.elapsed();
    assert!(took + COARSE >= wanted, "{took:?}, not {wanted:?}");
    assert!(took < wanted + Duration::from_secs(10), "{took:?}, not {wanted:?}");
}

const SHORT: Duration = Duration::from_millis(500);

#[test]
fn a_head_that_does_not_end_is_408() {
    for driver in drivers() {
        let setup = Setup::new(LOCAL).http("client_header_timeout: 500ms").driver(*driver);
        let gateway = setup.start();
        let mut client = gateway.client();
        let start = Instant::now();
        client.send("GET / HTTP/1.1\r\nHo");
        let response = client.response();
        about(start, SHORT);
        assert_eq!(response.status(), 408);
        assert!(response.closes());
        client.expect_end();
    }
}

/// The answer to a HEAD has no body, also where all that came of it is its method.
#[test]
fn a_late_head_gets_a_head() {
    let gateway = Setup::new(LOCAL).http("client_header_timeout: 300ms").start();
    for begun in ["HEAD / HTTP/1.1\r\nHo", "\r\nHEAD "] {
        let mut client = gateway.client();
        client.send(begun);
        let response = client.response_to_head();
        assert!(response.status() == 408 && response.closes());
        client.expect_end();
    }
}

/// Each byte must not begin the time anew (slowloris).
#[test]
fn a_head_that_trickles_in_is_408_all_the_same() {
    let gateway = Setup::new(LOCAL).http("client_header_timeout: 500ms").start();
    let mut client = gateway.client();
    let start = Instant::now();
    for _ in 0..200 {
        if !client.wire().send("X") || start.elapsed() > SHORT * 3 {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let outcome = client.outcome(false);
    assert!(outcome.is_err() || outcome.is_ok_and(|response| response.status() == 408));
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn an_idle_connection_is_closed() {
    for driver in drivers() {
        let setup = Setup::new(LOCAL).driver(*driver);
        let config = setup.write_with("keepalive_timeout: 60s", "keepalive_timeout: 500ms");
        let gateway = setup.start_written(&config);
        let mut client = gateway.client();
        assert_eq!(client.get("/").status(), 200);
        let start = Instant::now();
        client.expect_end();
        about(start, SHORT);
    }
}

#[test]
fn keepalive_timeout_zero_keeps_no_connection() {
    let upstream = Upstream::hello();
    let resources = format!(
        "routes:
  - {{uri: /up, upstream: {{nodes: {{\"{}\": 1}}}}}}
  - {{uri: /*, plugins: {{fault-injection: {{abort: {{http_status: 200, body: ok}}}}}}}}",
        upstream.node()
    );
    let setup = Setup::new(resources);
    let config = setup.write_with("keepalive_timeout: 60s", "keepalive_timeout: 0");
    let gateway = setup.start_written(&config);
    for path in ["/", "/up"] {
        let mut client = gateway.client();
        let response = client.get(path);
        assert_eq!(response.status(), 200);
        assert!(response.closes(), "{path}: {:?}", response.fields);
        client.expect_end();
    }
}

#[test]
fn a_body_that_stops_is_408() {
    for driver in drivers() {
        let upstream = Upstream::echo();
        let setup = Setup::new(proxy(&upstream)).http("client_body_timeout: 500ms");
        let gateway = setup.driver(*driver).start();
        let mut client = gateway.client();
        let start = Instant::now();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf");
        let response = client.response();
        about(start, SHORT);
        assert_eq!(response.status(), 408);
        client.expect_end();
        assert!(upstream.requests().is_empty());
    }
}

/// A client that takes nothing must not hold memory for ever; what it got must not look whole.
#[test]
fn a_client_that_never_reads_is_cut_off() {
    for driver in drivers() {
        let upstream = Upstream::script(|conversation| {
            while conversation.request().is_some() {
                conversation.send("HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n");
                for _ in 0..50 {
                    conversation.send(vec![b'x'; 1_000_000]);
                }
            }
        });
        let setup = Setup::new(proxy(&upstream)).http("send_timeout: 500ms").driver(*driver);
        let gateway = setup.start();
        let mut silent = gateway.client();
        silent.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut busy = gateway.client();
        busy.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(busy.response().body.len(), 50_000_000, "others are served meanwhile");
        // Asked of the socket: reading would make it a client that reads.
        crate::harness::eventually("the silent client is reset", || {
            let error = silent.wire().stream().take_error().expect("a socket");
            error.is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
        });
        let (bytes, _) = silent.wire().rest();
        assert!(bytes.len() < 50_000_000, "{} bytes", bytes.len());
    }
}

const DELAYED: &str = "routes:
  - {uri: /delay, plugins: {fault-injection: {delay: {duration: 0.2}, abort: {http_status: 200}}}}
  - {uri: /*, plugins: {fault-injection: {abort: {http_status: 200, body: ok}}}}";

/// A head that began in the read that ended another one has its time too, and all of it.
#[test]
fn a_head_behind_another_one_has_its_own_time() {
    for driver in drivers() {
        for path in ["/delay", "/"] {
            let setup = Setup::new(DELAYED).http("client_header_timeout: 500ms").driver(*driver);
            let gateway = setup.start();
            let mut client = gateway.client();
            client.send(format!("GET {path} HTTP/1.1\r\nHo"));
            std::thread::sleep(SHORT / 2);
            let start = Instant::now();
            client.send("st: a\r\n\r\nGET / HTTP/1.1\r\nHo");
            assert_eq!(client.response().status(), 200);
            let response = client.response();
            about(start, SHORT);
            assert_eq!(response.status(), 408, "{path}");
            client.expect_end();
        }
    }
}

/// Two heads that took longer than the time for one, each in time.
#[test]
fn the_time_of_a_head_is_not_that_of_the_next() {
    for driver in drivers() {
        let setup = Setup::new(LOCAL).http("client_header_timeout: 2s").driver(*driver);
        let gateway = setup.start();
        let mut client = gateway.client();
        client.send("GET / HTTP/1.1\r\nHo");
        std::thread::sleep(Duration::from_millis(1_300));
        client.send("st: a\r\n\r\nGET / HTTP/1.1\r\nHo");
        assert_eq!(client.response().status(), 200);
        std::thread::sleep(Duration::from_millis(1_300));
        client.send("st: a\r\n\r\n");
        assert_eq!(client.response().status(), 200);
    }
}

/// Twelve megabytes, all in the connection's output at once.
fn huge() -> String {
    let filter = |from: &str, to: &str| {
        format!("{{regex: {from}, scope: global, replace: {}}}", to.repeat(1_000))
    };
    format!(
        "routes: [{{uri: /*, plugins: {{fault-injection: {{abort: {{http_status: 200, body: \
         xxxxxxxxxxxx}}}}, response-rewrite: {{filters: [{}, {}]}}}}}}]",
        filter("x", "y"),
        filter("y", "z"),
    )
}

/// `send_timeout` is the time between two sends, not that of a whole response.
#[test]
fn a_client_that_reads_slowly_gets_everything() {
    for driver in drivers() {
        let setup = Setup::new(huge()).http("send_timeout: 2s").driver(*driver);
        let gateway = setup.start();
        let mut client = gateway.client();
        let room = rustix::net::sockopt::set_socket_recv_buffer_size;
        room(client.wire().stream(), 64 * 1024).expect("a socket");
        let start = Instant::now();
        client.send("GET / HTTP/1.0\r\n\r\n");
        let message = client.wire().head().expect("a head");
        assert_eq!(message.field("content-length"), Some("12000000"));
        for _ in 0..12_000_000 / 60_000 {
            client.wire().exactly(60_000);
            std::thread::sleep(Duration::from_millis(40));
        }
        client.expect_end();
        assert!(start.elapsed() > Duration::from_secs(6), "{:?}", start.elapsed());
    }
}

/// One that takes nothing of it sees a reset: what it got must not look whole.
#[test]
fn a_response_that_is_not_taken_is_reset() {
    for driver in drivers() {
        let setup = Setup::new(huge()).http("send_timeout: 500ms").driver(*driver);
        let gateway = setup.start();
        let mut silent = gateway.client();
        silent.send("GET / HTTP/1.0\r\n\r\n");
        crate::harness::eventually("the silent client is reset", || {
            let error = silent.wire().stream().take_error().expect("a socket");
            error.is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
        });
    }
}
