//! Guards: how many connections, how many requests on each, how slow, how old.

use crate::harness::{Client, Gateway, Setup, Upstream, drivers, eventually};
use std::time::{Duration, Instant};

const LOCAL: &str =
    "routes: [{uri: /*, plugins: {fault-injection: {abort: {http_status: 200, body: ok}}}}]";

fn turned_away(gateway: &Gateway) -> Option<f64> {
    gateway.metric("ringgate_worker_turned_away_total{worker=\"0\"}")
}

/// The next connection is told 503 at once, and ended.
#[track_caller]
fn is_turned_away(gateway: &Gateway) {
    let begun = Instant::now();
    let mut client = gateway.client();
    let answer = client.response();
    assert_eq!(answer.status(), 503);
    assert!(answer.closes(), "{:?}", answer.fields);
    client.expect_end();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn connections_are_capped() {
    for driver in drivers() {
        let setup = Setup::new(LOCAL).ringgate("limits: {connections: 8}").metrics();
        let gateway = setup.driver(*driver).start();
        let mut inside: Vec<Client> = (0..8).map(|_| gateway.client()).collect();
        for client in &mut inside {
            assert_eq!(client.get("/").status(), 200);
        }
        for _ in 0..20 {
            is_turned_away(&gateway);
        }
        // Those who are in notice nothing.
        for client in &mut inside {
            assert_eq!(client.get("/").status(), 200);
        }
        eventually("all are counted", || turned_away(&gateway) == Some(20.0));
        inside.pop();
        eventually("there is room again", || {
            let mut client = gateway.client();
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            client.response().status() == 200
        });
    }
}

#[test]
fn connections_of_a_source_are_capped() {
    let gateway = Setup::new(LOCAL)
        .ringgate("limits: {connections_per_source: 2}")
        .ringgate("listen: [{address: '127.0.0.1:0', proxy_protocol: true}]")
        .start();
    let mut inside = [gateway.client(), gateway.client()];
    for client in &mut inside {
        assert_eq!(client.get("/").status(), 200);
    }
    is_turned_away(&gateway);
    // Behind a proxy the source is whom it names.
    let address = crate::b50_listeners::second(&gateway);
    let from = |ip: &str| {
        let mut client = Client::connect(address);
        client.send(format!("PROXY TCP4 {ip} 192.0.2.200 1 2\r\n"));
        client
    };
    let mut others = [from("192.0.2.1"), from("192.0.2.1"), from("192.0.2.2")];
    for client in &mut others {
        assert_eq!(client.get("/").status(), 200);
    }
    assert_eq!(from("192.0.2.1").response().status(), 503);
    assert_eq!(inside[0].get("/").status(), 200);
}

#[test]
fn a_connection_carries_so_many_requests() {
    let upstream = Upstream::hello();
    let node = upstream.node();
    let routes = format!(
        "routes: [{{uri: /local, plugins: {{fault-injection: {{abort: {{http_status: 200, body: \
         ok}}}}}}}}, {{uri: /far, upstream: {{nodes: {{\"{node}\": 1}}}}}}]"
    );
    for driver in drivers() {
        let setup = Setup::new(&routes).http("keepalive_requests: 3").driver(*driver);
        let gateway = setup.start();
        for paths in [["/local"; 3], ["/far"; 3], ["/local", "/far", "/local"]] {
            let mut client = gateway.client();
            // In one piece, with one too many behind.
            let request = |path: &&str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
            let all: String = paths.iter().chain(&paths[..1]).map(request).collect();
            client.send(all);
            for at in 0..3 {
                let answer = client.response();
                assert_eq!((answer.status(), answer.closes()), (200, at == 2), "{paths:?} {at}");
            }
            client.expect_end();
        }
    }
}

#[test]
fn an_old_connection_carries_one_more() {
    let gateway = Setup::new(LOCAL).http("keepalive_time: 300ms").start();
    let begun = Instant::now();
    let mut client = gateway.client();
    // It is not closed for its age alone: each request gets its answer, and the one that comes too
    // late gets the last.
    eventually("it is too old", || client.get("/").closes());
    // A worker's clock is coarse.
    assert!(begun.elapsed() >= Duration::from_millis(100), "{:?}", begun.elapsed());
    client.expect_end();
}

#[test]
fn heads_and_bodies_have_a_least_rate() {
    let upstream = Upstream::hello();
    let routes =
        format!("routes: [{{uri: /*, upstream: {{nodes: {{\"{}\": 1}}}}}}]", upstream.node());
    for driver in drivers() {
        let limits = "limits: {head_rate: 1000, body_rate: 1000, rate_grace: 300ms}";
        let gateway = Setup::new(&routes).ringgate(limits).driver(*driver).start();
        let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n";
        for (first, drip) in [("GET / HTTP/1.1\r\nX: ", "x"), (head, "y")] {
            let mut client = gateway.client();
            client.send(first);
            let begun = Instant::now();
            // Some bytes now and then, for as long as the gateway takes them.
            while begun.elapsed() < Duration::from_secs(20) && client.wire().send(drip) {
                std::thread::sleep(Duration::from_millis(20));
                if begun.elapsed() > Duration::from_secs(2) {
                    break;
                }
            }
            assert_eq!(client.response().status(), 408, "{first:?}");
        }
        // As slow as allowed is fast enough, and what a slow upstream makes wait does not count.
        let mut client = gateway.client();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 600\r\n\r\n");
        for _ in 0..6 {
            client.send("z".repeat(100));
            std::thread::sleep(Duration::from_millis(60));
        }
        assert_eq!(client.response().status(), 200);
    }
}

/// Many connections that each hold what a connection may hold while its head arrives.
#[test]
fn memory_of_half_sent_heads_is_bounded() {
    const CONNECTIONS: usize = 200;
    let gateway = Gateway::start(LOCAL);
    assert_eq!(gateway.get("/").status(), 200);
    let resident = || {
        let path = format!("/proc/{}/status", gateway.process().id());
        let status = std::fs::read_to_string(path).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
        let kib: usize = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kib * 1024
    };
    let before = resident();
    let half = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(30_000));
    let mut clients: Vec<Client> = (0..CONNECTIONS).map(|_| gateway.client()).collect();
    for client in &mut clients {
        client.send(&half);
    }
    for client in &mut clients {
        client.send("\r\n\r\n");
        assert_eq!(client.response().status(), 200);
    }
    let grown = resident().saturating_sub(before);
    let most = CONNECTIONS * ringgate::limits::IDLE_CONNECTION_BYTES_MAX + (8 << 20);
    assert!(grown < most, "{grown} bytes for {CONNECTIONS} connections, {most} allowed");
}
