//! Calls that plugins make on their own: `t/plugins/callout.wat` asks an upstream about every
//! request before it goes on.

use crate::harness::{Driver, Gateway, Refusing, Setup, Upstream, drivers, eventually};
use std::time::{Duration, Instant};

const PLUGIN: &str = "t/plugins/callout.wat";

/// `/*` goes to `upstream` if the service at `auth` lets it.
fn setup(upstream: &Upstream, auth: &str, keys: &str) -> Setup {
    let node = upstream.node();
    Setup::new(format!(
        "upstreams: [{{id: auth, nodes: {{\"{auth}\": 1}}}}]
routes:
  - uri: /*
    plugins: {{ask: {{conf: auth}}}}
    upstream: {{nodes: {{\"{node}\": 1}}}}"
    ))
    .wasm("ask", PLUGIN, keys)
}

/// A service that lets requests on as `alice`.
fn lets_all() -> Upstream {
    Upstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nalice")
}

#[test]
fn a_request_waits_for_the_reply_and_goes_on_with_it() {
    for driver in drivers() {
        let (upstream, auth) = (Upstream::hello(), lets_all());
        let gateway = setup(&upstream, &auth.node(), "").driver(*driver).start();
        let mut client = gateway.client();
        for number in 1..=20 {
            let response = client.get("/a");
            assert_eq!((response.status(), response.text().as_str()), (200, "hello world\n"));
            assert_eq!(auth.requests().len(), number);
        }
        let asked = &auth.requests()[0];
        assert_eq!((asked.method(), asked.target()), ("GET", "/check"));
        assert_eq!(asked.field("host"), Some("auth"));
        assert_eq!(upstream.requests()[7].field("x-auth"), Some("alice"));
        assert_eq!((auth.connections(), upstream.connections()), (1, 1), "connections are kept");
    }
}

#[test]
fn a_reply_can_be_the_answer() {
    for driver in drivers() {
        let upstream = Upstream::hello();
        let auth = Upstream::answering(
            "HTTP/1.1 401 No\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nnot \r\n3\r\nyou\r\n0\r\n\r\n",
        );
        let gateway = setup(&upstream, &auth.node(), "").driver(*driver).start();
        let mut client = gateway.client();
        for _ in 0..3 {
            let response = client.get("/a");
            assert_eq!((response.status(), response.text().as_str()), (403, "not you"));
        }
        assert_eq!(upstream.connections(), 0);
    }
}

/// How a service can fail, and how long that may take.
#[test]
fn no_reply_is_told_to_the_plugin() {
    let stalls = Upstream::script(|conversation| {
        conversation.request();
        conversation.stall();
    });
    let refuses = Refusing::new();
    let garbage = Upstream::once("SSH-2.0-x\r\n\r\n");
    let cut = Upstream::once("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nali");
    let closes = Upstream::script(|conversation| drop(conversation.request()));
    for driver in drivers() {
        for (what, auth, at_least_ms) in [
            ("stalls", stalls.node(), 400),
            ("refuses", refuses.node(), 0),
            ("garbage", garbage.node(), 0),
            ("cut", cut.node(), 0),
            ("closes", closes.node(), 0),
        ] {
            let upstream = Upstream::hello();
            let gateway = setup(&upstream, &auth, "").driver(*driver).start();
            let began = Instant::now();
            let response = gateway.get("/a");
            let took = began.elapsed();
            assert_eq!((response.status(), response.text().as_str()), (503, "no reply"), "{what}");
            assert!(took >= Duration::from_millis(at_least_ms), "{what}: {took:?}");
            assert!(took < Duration::from_secs(5), "{what}: {took:?}");
        }
    }
}

#[test]
fn a_stale_connection_is_not_the_services_failure() {
    let auth = Upstream::script(|conversation| {
        if conversation.request().is_some() {
            conversation.answer("alice");
        }
    });
    let upstream = Upstream::hello();
    let gateway = setup(&upstream, &auth.node(), "").start();
    let mut client = gateway.client();
    for number in 1..=5 {
        assert_eq!(client.get("/a").status(), 200);
        assert_eq!(auth.connections(), number);
    }
}

#[test]
fn many_requests_wait_at_once_and_each_gets_its_own_reply() {
    let auth = Upstream::script(|conversation| {
        while conversation.request().is_some() {
            let name = format!("caller{}", conversation.number);
            conversation.answer(&name);
        }
    });
    let upstream = Upstream::hello();
    let gateway = setup(&upstream, &auth.node(), "").start();
    let mut clients: Vec<_> = (0..50).map(|_| gateway.client()).collect();
    for _ in 0..4 {
        for client in &mut clients {
            client.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
        }
        for client in &mut clients {
            assert_eq!(client.response().status(), 200);
        }
    }
    assert_eq!((auth.requests().len(), upstream.requests().len()), (200, 200));
    assert!(upstream.requests().iter().all(|request| request.field("x-auth").is_some()));
}

#[test]
fn a_reply_after_the_client_is_gone_harms_nobody() {
    let auth = Upstream::script(|conversation| {
        while let Some(request) = conversation.request() {
            if conversation.number == 1 {
                std::thread::sleep(Duration::from_millis(100));
            }
            drop(request);
            conversation.answer("alice");
        }
    });
    let upstream = Upstream::hello();
    let gateway = setup(&upstream, &auth.node(), "").start();
    let mut leaver = gateway.client();
    leaver.send("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc");
    eventually("the service is asked", || auth.connections() > 0);
    drop(leaver);
    for _ in 0..5 {
        assert_eq!(gateway.get("/a").status(), 200);
    }
}

#[test]
fn two_calls_of_one_request() {
    let (upstream, auth) = (Upstream::hello(), lets_all());
    let gateway = setup(&upstream, &auth.node(), "").start();
    for _ in 0..5 {
        assert_eq!(gateway.get("/twice").status(), 200);
    }
    eventually("all calls are made", || auth.requests().len() == 10);
}

#[test]
fn every_request_in_an_instance_of_its_own_calls_too() {
    for driver in drivers() {
        let (upstream, auth) = (Upstream::hello(), lets_all());
        let gateway = setup(&upstream, &auth.node(), "isolation: request").driver(*driver).start();
        let mut client = gateway.client();
        for _ in 0..20 {
            assert_eq!(client.get("/a").status(), 200);
        }
        assert_eq!(upstream.requests()[19].field("x-auth"), Some("alice"));
    }
}

/// Where calls may go beside the configuration's upstreams.
#[test]
fn addresses_are_called_where_the_plugin_may() {
    let (upstream, auth) = (Upstream::hello(), lets_all());
    let node = upstream.node();
    let port = auth.address.port();
    let start = |target: &str, keys: &str| -> Gateway {
        Setup::new(format!(
            "routes:
  - {{uri: /*, plugins: {{ask: {{conf: \"{target}\"}}}}, upstream: {{nodes: {{\"{node}\": 1}}}}}}"
        ))
        .wasm("ask", PLUGIN, keys)
        .driver(Driver::Epoll)
        .start()
    };
    for (target, keys, status) in [
        (format!("127.0.0.1:{port}"), "callouts: {direct: true}".to_owned(), 200),
        (format!("localhost:{port}"), "callouts: {direct: true}".to_owned(), 200),
        (
            format!("127.0.0.1:{port}"),
            format!("callouts: {{direct: true, allow: [\"127.0.0.1:{port}\"]}}"),
            200,
        ),
        (format!("no-such-host.invalid:{port}"), "callouts: {direct: true}".to_owned(), 503),
        // The guest traps on the refusal.
        (format!("127.0.0.1:{port}"), String::new(), 503),
        (format!("127.0.0.1:{port}"), "callouts: {direct: true, allow: [other]}".to_owned(), 503),
    ] {
        let gateway = start(&target, &keys);
        let response = gateway.get("/a");
        assert_eq!(response.status(), status, "{target} {keys}: {}", response.text());
    }
}

/// What is kept for a verdict on trailers does not go upstream before it.
#[test]
fn a_body_and_its_trailers_wait_for_the_reply() {
    for driver in drivers() {
        for (verdict, status) in [("200 OK", 200), ("401 No", 403)] {
            let upstream = Upstream::hello();
            let auth =
                Upstream::answering(format!("HTTP/1.1 {verdict}\r\nContent-Length: 0\r\n\r\n"));
            let gateway = Setup::new(format!(
                "upstreams: [{{id: auth, nodes: {{\"{}\": 1}}}}]
routes:
  - {{uri: /*, plugins: {{verdict: {{conf: x}}}}, upstream: {{nodes: {{\"{}\": 1}}}}}}",
                auth.node(),
                upstream.node()
            ))
            .wasm("verdict", "t/plugins/verdict.wat", "")
            .driver(*driver)
            .start();
            let mut client = gateway.client();
            client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
            client.send("5\r\nhello\r\n0\r\nx-sig: bad\r\n\r\n");
            assert_eq!(client.response().status(), status);
            assert_eq!(auth.requests().len(), 1);
            let seen = upstream.requests();
            if status == 403 {
                assert!(seen.iter().all(|request| request.body.is_empty()), "{seen:?}");
                continue;
            }
            assert_eq!(seen.len(), 1);
            assert_eq!(String::from_utf8_lossy(&seen[0].body), "hello");
            assert_eq!(seen[0].trailers, [("x-sig".to_owned(), "seen".to_owned())]);
        }
    }
}
