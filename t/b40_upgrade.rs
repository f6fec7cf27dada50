//! Another protocol on the same connection: tunnels, on both drivers, raw and with real websockets.

use crate::harness::{Client, Cut, Driver, Gateway, Setup, Upstream, WebSocketEcho};
use crate::harness::{drivers, eventually};
use rustix::process::Signal;
use std::time::{Duration, Instant};

const ASKS: &str =
    "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c, foo/2\r\n\r\n";
const SWITCHES: &str = "HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: foo/2\r\nX-A: b\r\n\r\n";

fn routes(node: &str, keys: &str) -> String {
    format!(
        "routes:
  - {{uri: /ws, enable_websocket: true, upstream: {{nodes: {{\"{node}\": 1}}{keys}}}}}
  - {{uri: /service, service_id: s, upstream: {{nodes: {{\"{node}\": 1}}}}}}
  - {{uri: /own, service_id: s, enable_websocket: false, upstream: {{nodes: {{\"{node}\": 1}}}}}}
  - {{uri: /*, upstream: {{nodes: {{\"{node}\": 1}}}}}}
services: [{{id: s, enable_websocket: true}}]"
    )
}

/// Switches, then gives every byte back until the other side ends, and says goodbye.
fn echo() -> Upstream {
    Upstream::script(|conversation| {
        if conversation.request().is_none() {
            return;
        }
        conversation.send(SWITCHES);
        while let Some(bytes) = conversation.wire.some() {
            conversation.send(bytes);
        }
        conversation.send("bye");
    })
}

fn start(upstream: &Upstream, driver: Driver) -> Gateway {
    Setup::new(routes(&upstream.node(), "")).driver(driver).metrics().start()
}

fn switched(gateway: &Gateway) -> Client {
    let mut client = gateway.client();
    client.send(ASKS);
    let response = client.response();
    assert_eq!(response.start, "HTTP/1.1 101 Switching Protocols");
    assert_eq!(response.field("upgrade"), Some("foo/2"));
    assert_eq!(response.field("connection"), Some("Upgrade"));
    assert_eq!(response.field("x-a"), Some("b"));
    client
}

fn exchange(client: &mut Client, text: &str) {
    client.send(text);
    assert_eq!(client.wire().exactly(text.len()), text.as_bytes());
}

#[test]
fn bytes_of_any_kind_go_both_ways_until_both_have_ended() {
    for driver in drivers() {
        let upstream = echo();
        let gateway = start(&upstream, *driver);
        let mut client = switched(&gateway);
        for text in ["hello", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "\0\r\n0\r\n\r\n"] {
            exchange(&mut client, text);
        }
        assert_eq!(gateway.metric("ringgate_worker_tunnels_open{worker=\"0\"}"), Some(1.0));
        client.wire().end_sending();
        assert_eq!(client.wire().rest(), (b"bye".to_vec(), Cut::End), "the other way goes on");
        let request = upstream.request();
        assert_eq!(request.field("upgrade"), Some("foo/2"), "h2c is not offered");
        let open = "ringgate_worker_tunnels_open{worker=\"0\"}";
        eventually("it is over", || gateway.metric(open) == Some(0.0));
        assert_eq!(gateway.metric("ringgate_worker_tunnels_total{worker=\"0\"}"), Some(1.0));
        let answered = "ringgate_worker_responses_total{worker=\"0\",class=\"1xx\"}";
        assert_eq!(gateway.metric(answered), Some(1.0));
    }
}

/// What comes with the 101, and what the client sends before it, is not lost.
#[test]
fn early_bytes_are_not_lost() {
    for driver in drivers() {
        let upstream = Upstream::script(|conversation| {
            if conversation.request().is_some() {
                conversation.send(format!("{SWITCHES}first"));
                let early = conversation.wire.exactly(5).to_ascii_uppercase();
                conversation.send(early);
            }
        });
        let gateway = start(&upstream, *driver);
        let mut client = gateway.client();
        client.send(format!("{ASKS}early"));
        assert_eq!(client.response().status(), 101);
        let (rest, cut) = client.wire().rest();
        assert_eq!((String::from_utf8_lossy(&rest).as_ref(), cut), ("firstEARLY", Cut::End));
    }
}

#[test]
fn a_route_says_whether_it_may() {
    let upstream = Upstream::hello();
    let gateway = Gateway::start(routes(&upstream.node(), ""));
    for (path, offered) in [("/ws", true), ("/service", true), ("/own", false), ("/x", false)] {
        let before = upstream.requests().len();
        assert_eq!(gateway.ask(ASKS.replacen("/ws", path, 1)).text(), "hello world\n");
        let request = upstream.requests().remove(before);
        assert_eq!(request.field("upgrade"), offered.then_some("foo/2"), "{path}");
    }
}

/// What a plugin answers, or the upstream answers instead, is an ordinary response.
#[test]
fn a_declined_upgrade_leaves_the_connection_in_step() {
    let upstream = Upstream::hello();
    let gateway = Gateway::start(routes(&upstream.node(), ""));
    let mut client = gateway.client();
    for _ in 0..2 {
        client.send(ASKS);
        assert_eq!(client.response().text(), "hello world\n");
        assert_eq!(client.get("/other").text(), "hello world\n");
    }
}

/// Thirty megabytes each way at the same time, through a client that reads late.
#[test]
fn both_ways_at_once_with_back_pressure() {
    const BYTES: usize = 30_000_000;
    for driver in drivers() {
        let upstream = echo();
        let gateway = start(&upstream, *driver);
        let mut client = switched(&gateway);
        let body: Vec<u8> = (0..BYTES).map(|at| (at * 31 + at / 251) as u8).collect();
        let sent = body.clone();
        let mut stream = client.wire().stream().try_clone().expect("a second handle");
        let sender = std::thread::spawn(move || {
            std::io::Write::write_all(&mut stream, &sent).expect("all of it is taken");
            let _ = stream.shutdown(std::net::Shutdown::Write);
        });
        std::thread::sleep(Duration::from_millis(200));
        let (came, cut) = client.wire().rest();
        sender.join().expect("the sender ends");
        assert_eq!(cut, Cut::End);
        assert!(came.len() == BYTES + 3 && came[..BYTES] == body, "{} bytes", came.len());
        let held = gateway.process().peak_memory_kb();
        assert!(held < 200_000, "{held} kB for a tunnel that nobody read");
    }
}

#[test]
fn silence_ends_it() {
    let upstream = echo();
    let keys = ", timeout: {connect: 5, send: 5, read: 0.4}";
    let gateway = Gateway::start(routes(&upstream.node(), keys));
    let mut client = switched(&gateway);
    let start = Instant::now();
    for _ in 0..6 {
        std::thread::sleep(Duration::from_millis(150));
        exchange(&mut client, "still here");
    }
    assert!(start.elapsed() > Duration::from_millis(800), "what moves stays");
    assert_eq!(client.wire().rest(), (vec![], Cut::End));
}

#[test]
fn a_reset_on_one_side_resets_the_other() {
    for driver in drivers() {
        let upstream = Upstream::script(|conversation| {
            if conversation.request().is_some() {
                conversation.send(SWITCHES);
                conversation.wire.exactly(1);
                conversation.wire.reset_on_drop();
            }
        });
        let gateway = start(&upstream, *driver);
        let mut client = switched(&gateway);
        client.send("x");
        assert_eq!(client.wire().rest(), (vec![], Cut::Reset));
        let upstream = echo();
        let gateway = start(&upstream, *driver);
        let client = switched(&gateway);
        client.into_wire().reset();
        let open = "ringgate_worker_tunnels_open{worker=\"0\"}";
        eventually("it is over", || gateway.metric(open) == Some(0.0));
    }
}

#[test]
fn a_reload_leaves_tunnels_alone_and_a_drain_waits_for_them() {
    for driver in drivers() {
        let upstream = echo();
        let mut gateway = start(&upstream, *driver);
        let mut client = switched(&gateway);
        let new =
            "routes: [{uri: /*, plugins: {fault-injection: {abort: {http_status: 418}}}}]\n#END\n";
        gateway.folder().write("apisix.yaml", new);
        gateway.process().signal(Signal::HUP);
        eventually("the new route answers", || gateway.get("/ws").status() == 418);
        exchange(&mut client, "still here");
        gateway.process().signal(Signal::TERM);
        let address = gateway.address;
        eventually("nobody listens", || std::net::TcpStream::connect(address).is_err());
        exchange(&mut client, "and here");
        client.wire().end_sending();
        assert_eq!(client.wire().rest(), (b"bye".to_vec(), Cut::End));
        assert_eq!(gateway.end().code, Some(0));
    }
}

#[test]
fn a_drain_waits_for_so_long_only() {
    let upstream = echo();
    let setup = Setup::new(routes(&upstream.node(), "")).ringgate("timeouts: {drain: 300ms}");
    let mut gateway = setup.start();
    let mut client = switched(&gateway);
    exchange(&mut client, "here");
    gateway.process().signal(Signal::TERM);
    assert_ne!(client.wire().rest().1, Cut::Late);
    assert_eq!(gateway.end().code, Some(0));
}

#[test]
fn real_websockets() {
    let Some(server) = WebSocketEcho::start() else { return };
    for driver in drivers() {
        let gateway = Setup::new(routes(&server.node(), "")).driver(*driver).workers(2).start();
        let ended = server.talk(gateway.address, "/ws");
        assert!(ended.code == Some(0) && ended.stdout.contains("done"), "{ended:?}");
        let refused = server.talk(gateway.address, "/plain");
        assert_ne!(refused.code, Some(0), "a route that allows none");
    }
}
