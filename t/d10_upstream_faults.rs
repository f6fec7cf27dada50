//! Upstreams that refuse, close, lie and stall.

use crate::harness::{
    Client, Conversation, Cut, DEADLINE, Gateway, Refusing, Setup, Upstream, drivers,
};
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

fn to(node: &str, keys: &str) -> String {
    format!("routes: [{{uri: /*, upstream: {{nodes: {{\"{node}\": 1}}{keys}}}}}]")
}

fn proxy(upstream: &Upstream) -> String {
    to(&upstream.node(), "")
}

const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";

#[test]
fn refused_is_502() {
    for driver in drivers() {
        let refusing = Refusing::new();
        let gateway = Setup::new(to(&refusing.node(), "")).driver(*driver).start();
        let mut client = gateway.client();
        for _ in 0..2 {
            let response = client.get("/");
            assert_eq!(response.status(), 502);
            assert!(
                response.text().contains("502 Bad Gateway"),
                "the client's connection persists"
            );
        }
        client.send(POST);
        assert_eq!(client.response().status(), 502);
    }
}

/// Nothing was sent yet: even a POST may go to the next node.
#[test]
fn a_node_that_refuses_is_passed_over() {
    let (refusing, upstream) = (Refusing::new(), Upstream::echo());
    let nodes = format!("{{\"{}\": 1, \"{}\": 1}}", refusing.node(), upstream.node());
    let gateway = Gateway::start(format!("routes: [{{uri: /*, upstream: {{nodes: {nodes}}}}}]"));
    for _ in 0..4 {
        assert_eq!(gateway.get("/").status(), 200);
        assert_eq!(gateway.ask(POST).text(), "hi");
    }
}

#[test]
fn retries_are_counted() {
    let (one, two, upstream) = (Refusing::new(), Refusing::new(), Upstream::hello());
    let nodes = format!(
        "[{{host: 127.0.0.1, port: {}, weight: 1, priority: 2}}, \
         {{host: 127.0.0.1, port: {}, weight: 1, priority: 1}}, \
         {{host: 127.0.0.1, port: {}, weight: 1}}]",
        one.port(),
        two.port(),
        upstream.address.port()
    );
    let gateway = Gateway::start(format!(
        "routes:
  - {{uri: /none, upstream: {{nodes: {nodes}, retries: 0}}}}
  - {{uri: /one, upstream: {{nodes: {nodes}, retries: 1}}}}
  - {{uri: /two, upstream: {{nodes: {nodes}, retries: 2}}}}
  - {{uri: /default, upstream: {{nodes: {nodes}}}}}"
    ));
    for (path, status) in [("/none", 502), ("/one", 502), ("/two", 200), ("/default", 200)] {
        assert_eq!(gateway.get(path).status(), status, "{path}");
    }
}

/// A new connection that closes without a word: GET is tried on the next node, POST is not.
#[test]
fn closing_before_the_response_is_502_or_another_node() {
    for driver in drivers() {
        let silent = Upstream::script(|conversation| drop(conversation.request()));
        let gateway = Setup::new(proxy(&silent)).driver(*driver).start();
        assert_eq!(gateway.get("/").status(), 502);
        assert_eq!(gateway.ask(POST).status(), 502);
        assert_eq!(silent.requests().len(), 2, "one node is not tried twice without `retries`");
    }
    let (silent, good) = (Upstream::script(|c| drop(c.request())), Upstream::hello());
    let nodes = format!(
        "[{{host: 127.0.0.1, port: {}, weight: 1, priority: 1}}, \
         {{host: 127.0.0.1, port: {}, weight: 1}}]",
        silent.address.port(),
        good.address.port()
    );
    let gateway = Gateway::start(format!("routes: [{{uri: /*, upstream: {{nodes: {nodes}}}}}]"));
    assert_eq!(gateway.get("/").status(), 200);
    assert_eq!(gateway.ask(POST).status(), 502);
    assert_eq!(good.requests().len(), 1);
}

#[test]
fn garbage_is_502() {
    for garbage in [
        "garbage\r\n\r\n",
        "HTTP/1.1\r\n\r\n",
        "HTTP/1.1 2 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/3.0 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        "\n\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: \0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nab",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nConte",
        "\x16\x03\x01\x02",
        "",
    ] {
        let upstream = Upstream::once(garbage);
        let gateway = Gateway::start(proxy(&upstream));
        let mut client = gateway.client();
        assert_eq!(client.get("/").status(), 502, "{garbage:?}");
        assert_eq!(client.get("/").status(), 502, "{garbage:?}: the connection persists");
    }
}

#[test]
fn a_response_head_without_end_is_502() {
    let upstream = Upstream::script(|conversation| {
        conversation.request();
        conversation.send("HTTP/1.1 200 OK\r\n");
        for _ in 0..100 {
            conversation.send(format!("X-Padding: {}\r\n", "x".repeat(1000)));
        }
        conversation.stall();
    });
    assert_eq!(Gateway::start(proxy(&upstream)).get("/").status(), 502);
}

/// What the client has of a response that was cut off must not look whole.
#[track_caller]
fn cut_off(mut client: Client, received: &str, there: &Sender<()>) {
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.wire().wait_for(received);
    let _ = there.send(());
    let cut = client.outcome(false).expect_err("a response that is cut off");
    assert_eq!(cut.message.status(), 200);
    assert_eq!(cut.message.text(), received);
    assert_eq!(cut.cut, Cut::Reset);
}

#[test]
fn closing_in_the_body_cuts_the_response_off() {
    for driver in drivers() {
        for response in [
            "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n",
        ] {
            let (upstream, there) = half_then(response, |_| {});
            let gateway = Setup::new(proxy(&upstream)).driver(*driver).start();
            cut_off(gateway.client(), "half", &there);
        }
    }
}

#[test]
fn bad_chunks_cut_the_response_off() {
    for bad in ["x\r\n", "-1\r\n", "fffffffffffffffff\r\n", "0\r\nA : b\r\n\r\n"] {
        let response = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n";
        let (upstream, there) = half_then(response, move |conversation| {
            conversation.send(bad);
            conversation.stall();
        });
        cut_off(Gateway::start(proxy(&upstream)).client(), "half", &there);
    }
}

/// Sends a part of a response, waits until it is told that the client has it, and goes on.
fn half_then(
    response: &'static str,
    then: impl Fn(&mut Conversation) + Send + Sync + 'static,
) -> (Upstream, Sender<()>) {
    let (there, told) = channel();
    let told = Mutex::new(told);
    let upstream = Upstream::script(move |conversation| {
        if conversation.request().is_some() {
            conversation.send(response);
            let _ = told.lock().expect("unpoisoned").recv_timeout(DEADLINE);
            then(conversation);
        }
    });
    (upstream, there)
}

/// Bytes after the end of a response belong to nobody: they never become another's response.
#[test]
fn more_than_declared_is_dropped_with_its_connection() {
    for driver in drivers() {
        for body in [
            "Content-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
            "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\nevil",
        ] {
            let upstream = Upstream::answering(format!("HTTP/1.1 200 OK\r\n{body}"));
            let gateway = Setup::new(proxy(&upstream)).driver(*driver).start();
            let mut client = gateway.client();
            for _ in 0..3 {
                assert_eq!(client.get("/").text(), "hello");
            }
            assert_eq!(upstream.connections(), 3);
        }
    }
}

const SHORT: &str = ", timeout: {connect: 5, send: 5, read: 0.3}";

#[test]
fn stalling_is_504() {
    for driver in drivers() {
        let upstream = Upstream::script(|conversation| {
            conversation.request();
            conversation.stall();
        });
        let gateway = Setup::new(to(&upstream.node(), SHORT)).driver(*driver).start();
        let mut client = gateway.client();
        let start = Instant::now();
        assert_eq!(client.get("/").status(), 504);
        assert!(start.elapsed() >= Duration::from_millis(100), "{:?}", start.elapsed());
        assert_eq!(client.get("/").status(), 504, "the client's connection persists");
    }
}

#[test]
fn a_route_has_timeouts_of_its_own() {
    let upstream = Upstream::script(|conversation| {
        conversation.request();
        conversation.stall();
    });
    let node = upstream.node();
    let gateway = Gateway::start(format!(
        "routes:
  - uri: /*
    timeout: {{connect: 5, send: 5, read: 0.2}}
    upstream: {{nodes: {{\"{node}\": 1}}, timeout: {{connect: 60, send: 60, read: 60}}}}"
    ));
    assert_eq!(gateway.get("/").status(), 504);
}

#[test]
fn stalling_in_the_body_cuts_the_response_off() {
    let response = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf";
    let (upstream, there) = half_then(response, Conversation::stall);
    let gateway = Gateway::start(to(&upstream.node(), SHORT));
    cut_off(gateway.client(), "half", &there);
}

/// An upstream that takes nothing of a large request.
#[test]
fn an_upstream_that_never_reads_is_504() {
    for driver in drivers() {
        let upstream = Upstream::script(|conversation| {
            // Nothing of the body; the socket stays open longer than the test lasts.
            let _ = conversation.head();
            std::thread::park_timeout(DEADLINE);
        });
        let timeout = ", timeout: {connect: 5, send: 0.3, read: 20}";
        let gateway = Setup::new(to(&upstream.node(), timeout)).driver(*driver).start();
        let mut client = gateway.client();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 30000000\r\n\r\n");
        for _ in 0..300 {
            // It may have given up already.
            if !client.wire().send(vec![b'x'; 100_000]) {
                break;
            }
        }
        assert_eq!(client.response().status(), 504);
    }
}

/// An upstream that answers without reading a large request: the answer counts.
#[test]
fn an_early_answer_to_a_large_request_is_passed_on() {
    let upstream = Upstream::script(|conversation| {
        if conversation.head().is_some() {
            conversation
                .send("HTTP/1.1 403 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
            conversation.wire.end_sending();
            conversation.stall();
        }
    });
    let gateway = Gateway::start(proxy(&upstream));
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n");
    for _ in 0..20 {
        // It may have hung up already.
        let _ = client.wire().send(vec![b'x'; 100_000]);
    }
    assert_eq!(client.response().status(), 403);
}

#[test]
fn a_connection_that_is_not_accepted_is_504() {
    let full = Full::new();
    let keys = ", timeout: {connect: 0.3, send: 5, read: 5}, retries: 0";
    let gateway = Gateway::start(to(&full.node(), keys));
    assert_eq!(gateway.get("/").status(), 504);
}

/// A listener whose queue is full: the kernel answers no further connection.
struct Full {
    address: std::net::SocketAddr,
    _listener: std::os::fd::OwnedFd,
    _queued: Vec<std::net::TcpStream>,
}

impl Full {
    fn new() -> Self {
        use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};
        let listener = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        bind(&listener, &any).expect("a port");
        listen(&listener, 0).expect("a listener");
        let address = getsockname(&listener).expect("an address").try_into().expect("of IPv4");
        let short = Duration::from_millis(100);
        let connect = || std::net::TcpStream::connect_timeout(&address, short).ok();
        let queued = std::iter::from_fn(connect).take(100).collect();
        Self { address, _listener: listener, _queued: queued }
    }

    fn node(&self) -> String {
        self.address.to_string()
    }
}

/// A status of 5xx from the upstream is told apart from one of the gateway.
#[test]
fn an_upstream_error_is_marked() {
    let upstream = Upstream::answering("HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy");
    let gateway = Gateway::start(proxy(&upstream));
    let response = gateway.get("/");
    assert_eq!((response.status(), response.text().as_str()), (503, "busy"));
    assert_eq!(response.field("x-apisix-upstream-status"), Some("503"));
}
