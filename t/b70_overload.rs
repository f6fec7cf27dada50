//! More than there is room for: requests that run at a time, and what a connection costs at worst.

use crate::harness::{Client, Gateway, Setup, Upstream, drivers, eventually};
use rustix::net::sockopt;
use std::io::Write;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Closed until the test opens it.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn pass(&self) {
        let (open, changed) = &*self.0;
        let mut is_open = open.lock().unwrap_or_else(PoisonError::into_inner);
        while !*is_open {
            is_open = changed.wait(is_open).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn open(&self) {
        let (open, changed) = &*self.0;
        *open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        changed.notify_all();
    }
}

/// Opens when the test is over, however it ends: threads wait there.
struct OpensAtEnd(Gate);

impl Drop for OpensAtEnd {
    fn drop(&mut self) {
        self.0.open();
    }
}

fn worker(gateway: &Gateway, name: &str) -> Option<f64> {
    gateway.metric(&format!("ringgate_worker_{name}{{worker=\"0\"}}"))
}

fn capped(upstream: &Upstream, most: usize) -> Setup {
    let node = upstream.node();
    let local = "fault-injection: {abort: {http_status: 200, body: ok}}";
    Setup::new(format!(
        "routes: [{{uri: /local, plugins: {{{local}}}}}, {{uri: /ws, enable_websocket: true, \
         upstream: {{nodes: {{\"{node}\": 1}}}}}}, {{uri: /*, upstream: {{nodes: {{\"{node}\": \
         1}}}}}}]"
    ))
    .ringgate(&format!("limits: {{requests_per_worker: {most}}}"))
    .metrics()
}

#[test]
fn running_requests_are_capped() {
    for driver in drivers() {
        let gate = Gate::default();
        let (_end, waits) = (OpensAtEnd(gate.clone()), gate.clone());
        let upstream = Upstream::script(move |conversation| {
            while conversation.request().is_some() {
                waits.pass();
                conversation.answer("late");
            }
        });
        let setup = capped(&upstream, 4).driver(*driver);
        let log = setup.folder().path().join("access.log");
        let gateway = setup.http(&format!("access_log: {}", log.display())).start();
        let mut inside: Vec<Client> = (0..4).map(|_| gateway.client()).collect();
        for client in &mut inside {
            client.send("GET /in HTTP/1.1\r\nHost: a\r\n\r\n");
        }
        eventually("all four run", || worker(&gateway, "requests_running") == Some(4.0));
        // The fifth is told at once, again and again on the same connection.
        let (mut outside, begun) = (gateway.client(), Instant::now());
        for _ in 0..50 {
            let answer = outside.get("/out");
            assert_eq!((answer.status(), answer.closes()), (503, false));
            assert!(answer.text().contains("503 Service Unavailable"));
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        outside.send("HEAD /out HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(outside.response_to_head().status(), 503);
        // In one piece: what is answered from memory takes no room.
        let three = ["/out", "/local", "/out"];
        outside.send(three.map(|path| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).concat());
        assert_eq!([(); 3].map(|()| outside.response().status()), [503, 200, 503]);
        // A body would have to be read first.
        let mut posts = gateway.client();
        posts.send("POST /out HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
        let answer = posts.response();
        assert_eq!((answer.status(), answer.closes()), (503, true));
        posts.expect_end();
        eventually("they are counted", || worker(&gateway, "shed_total") == Some(54.0));
        assert_eq!(upstream.requests().len(), 4);
        eventually("they are in the access log", || {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            text.lines().filter(|line| line.contains("/out") && line.contains("503")).count() == 54
        });
        gate.open();
        for client in &mut inside {
            assert_eq!(
                (client.response().text().as_str(), client.get("/").status()),
                ("late", 200)
            );
        }
        assert_eq!(outside.get("/in").status(), 200);
        eventually("none runs", || worker(&gateway, "requests_running") == Some(0.0));
    }
}

#[test]
fn tunnels_take_no_room() {
    for driver in drivers() {
        let upstream = Upstream::script(|conversation| {
            while let Some(request) = conversation.request() {
                if request.target() != "/ws" {
                    conversation.answer("ok");
                    continue;
                }
                conversation.send("HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n");
                return conversation.stall();
            }
        });
        let gateway = capped(&upstream, 1).driver(*driver).start();
        let mut tunnels: Vec<Client> = (0..3).map(|_| gateway.client()).collect();
        let offer = "Connection: Upgrade\r\nUpgrade: foo\r\n";
        for client in &mut tunnels {
            client.send(format!("GET /ws HTTP/1.1\r\nHost: a\r\n{offer}\r\n"));
            assert_eq!(client.response().status(), 101);
        }
        assert_eq!(gateway.get("/").text(), "ok");
        drop(tunnels);
        eventually("they are over", || worker(&gateway, "tunnels_open") == Some(0.0));
        assert_eq!(worker(&gateway, "requests_running"), Some(0.0));
    }
}

/// How long an upstream that serves one request at a time takes for each.
const SERVICE: Duration = Duration::from_millis(5);

const CROWD: usize = 32;

/// A crowd asks for two seconds, each again as soon as it was answered (or, turned away, after a
/// moment). Sorted, how long the 200s took, and how long the 503s.
fn ask_in_a_crowd(most: usize) -> [Vec<Duration>; 2] {
    let one_at_a_time = Mutex::new(());
    let upstream = Upstream::script(move |conversation| {
        while conversation.request().is_some() {
            let turn = one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
            // This is how slow it is.
            std::thread::sleep(SERVICE);
            drop(turn);
            conversation.answer("ok");
        }
    });
    let gateway = capped(&upstream, most).start();
    let until = Instant::now() + Duration::from_secs(2);
    let ask = || {
        let (mut client, mut took) = (gateway.client(), [Vec::new(), Vec::new()]);
        while Instant::now() < until {
            let begun = Instant::now();
            let status = client.get("/").status();
            took[usize::from(status == 503)].push(begun.elapsed());
            if status == 503 {
                std::thread::sleep(SERVICE * 4);
            }
        }
        took
    };
    let mut all = [Vec::new(), Vec::new()];
    std::thread::scope(|scope| {
        let crowd: Vec<_> = (0..CROWD).map(|_| scope.spawn(ask)).collect();
        for one in crowd {
            let [good, shed] = one.join().expect("a client");
            all[0].extend(good);
            all[1].extend(shed);
        }
    });
    all.iter_mut().for_each(|took| took.sort_unstable());
    all
}

#[test]
fn accepted_requests_stay_fast_when_there_are_too_many() {
    let median = |took: &[Duration]| took[took.len() / 2];
    let [open, none] = ask_in_a_crowd(CROWD);
    let [good, shed] = ask_in_a_crowd(4);
    println!(
        "{CROWD} clients, an upstream that serves one at a time: {} answers of {:?} without a cap; \
         with a cap of 4 {} of {:?}, and {} turned away in {:?}",
        open.len(),
        median(&open),
        good.len(),
        median(&good),
        shed.len(),
        median(&shed),
    );
    assert!(none.is_empty() && !shed.is_empty());
    // With room for a crowd each waits for all others; with room for four, for three.
    assert!(median(&good) * 3 < median(&open), "{:?}, {:?}", median(&good), median(&open));
    assert!(median(&shed) * 3 < median(&open), "{:?}", median(&shed));
    assert!(good.len() * 2 > open.len(), "and as many are served");
}

#[test]
fn header_sections_are_bounded_by_route() {
    let upstream = Upstream::hello();
    let node = upstream.node();
    let route = |uri: &str, conf: &str| {
        format!(
            "{{uri: {uri}, plugins: {{client-control: {{{conf}}}}}, \
             upstream: {{nodes: {{\"{node}\": 1}}}}}}"
        )
    };
    let (size, count) = (route("/size", "max_header_size: 200"), route("/count", "max_headers: 3"));
    let body = route("/body", "max_body_size: 10, max_header_size: 100000");
    let gateway = Gateway::start(format!("routes: [{size}, {count}, {body}]"));
    let mut client = gateway.client();
    let mut ask = |path: &str, fields: &str| {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        client.response().status()
    };
    let long = format!("X: {}\r\n", "x".repeat(200));
    assert_eq!((ask("/size", ""), ask("/size", &long), ask("/count", &long)), (200, 431, 200));
    assert_eq!((ask("/count", "A: 1\r\nB: 2\r\n"), ask("/size", "A: 1\r\nB: 2\r\n")), (200, 200));
    assert_eq!(ask("/count", "A: 1\r\nB: 2\r\nC: 3\r\n"), 200, "Host is none of them");
    assert_eq!(ask("/count", "A: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\n"), 431);
    assert_eq!((ask("/body", &long), ask("/body", "Content-Length: 11\r\n")), (200, 413));
}

fn resident(gateway: &Gateway) -> usize {
    let path = format!("/proc/{}/status", gateway.process().id());
    let status = std::fs::read_to_string(path).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    let kib: usize = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib * 1024
}

/// So that what waits does so in the gateway, not in the kernel.
fn narrow(socket: impl AsFd) {
    sockopt::set_socket_send_buffer_size(&socket, 16 * 1024).expect("a socket");
    sockopt::set_socket_recv_buffer_size(&socket, 16 * 1024).expect("a socket");
}

/// Writes to all of them until none takes anything for a while.
fn fill(clients: &mut [Client]) {
    let piece = [b'y'; 64 * 1024];
    let mut streams: Vec<&TcpStream> =
        clients.iter_mut().map(|client| client.wire().stream()).collect();
    for stream in &streams {
        stream.set_nonblocking(true).expect("a socket");
    }
    let mut moved = Instant::now();
    while moved.elapsed() < Duration::from_secs(1) {
        for stream in &mut streams {
            while stream.write(&piece).is_ok_and(|bytes| bytes > 0) {
                moved = Instant::now();
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A head that is almost full.
fn long_head(path: &str) -> String {
    let filler = "x".repeat(30_000);
    format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\nX: {filler}\r\n\r\n")
}

/// Bytes of memory for each of `count` clients that all do their worst; the kernel's come on top.
fn cost(gateway: &Gateway, count: usize, path: &str) -> usize {
    assert_eq!(gateway.get("/local").status(), 200);
    let before = resident(gateway);
    let mut clients: Vec<Client> = (0..count).map(|_| gateway.client()).collect();
    for client in &mut clients {
        narrow(client.wire().stream());
        client.send(long_head(path));
    }
    fill(&mut clients);
    let mut highest = resident(gateway);
    let settled = Instant::now();
    while settled.elapsed() < Duration::from_secs(1) {
        highest = highest.max(resident(gateway));
        std::thread::sleep(Duration::from_millis(20));
    }
    highest.saturating_sub(before) / count
}

/// Every connection has a head as long as may be, a body that nobody takes and a response that
/// nobody reads; with a plugin that holds bodies, one that is almost as large as may be.
#[test]
fn the_worst_connections_cost_what_is_said() {
    const COUNT: usize = 64;
    const HOLDING: usize = 8;
    let gate = Gate::default();
    let (_end, waits) = (OpensAtEnd(gate.clone()), gate);
    // Reads the head alone, then sends for as long as somebody takes it.
    let upstream = Upstream::script(move |conversation| {
        let Some(head) = conversation.head() else { return };
        narrow(conversation.wire.stream());
        let length = if head.target() == "/held" { 4_100_000 } else { 1_000_000_000 };
        conversation.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"));
        let mut left = length.min(4_000_000);
        if head.target() != "/held" {
            left = usize::MAX;
        }
        let piece = [b'z'; 50_000];
        let time = Some(Duration::from_secs(2));
        conversation.wire.stream().set_write_timeout(time).expect("a socket");
        while left >= piece.len() && conversation.wire.send(piece) {
            left -= piece.len();
        }
        waits.pass();
    });
    let node = upstream.node();
    for driver in drivers() {
        let gateway = Setup::new(format!(
            "routes: [{{uri: /local, plugins: {{fault-injection: {{abort: {{http_status: 200, \
             body: ok}}}}}}}}, {{uri: /held, plugins: {{response-rewrite: {{filters: [{{regex: z, \
             scope: global, replace: y}}]}}}}, upstream: {{nodes: {{\"{node}\": 1}}}}}}, \
             {{uri: /*, upstream: {{nodes: {{\"{node}\": 1}}}}}}]"
        ))
        .http("send_timeout: 60s")
        .driver(*driver)
        .start();
        let plain = cost(&gateway, COUNT, "/");
        let most =
            ringgate::limits::IDLE_CONNECTION_BYTES_MAX + ringgate::limits::EXCHANGE_BYTES_MAX;
        println!("{driver:?}: {} KiB each of at most {} KiB", plain / 1024, most / 1024);
        assert!(plain <= most, "{plain} bytes for a connection, {most} are said");
        assert!(plain > 128 * 1024, "{plain} bytes: that was not the worst");
        let held = cost(&gateway, HOLDING, "/held");
        let most = most + ringgate::limits::HOLDING_BYTES_MAX;
        println!("{driver:?}: held, {} KiB each of at most {} KiB", held / 1024, most / 1024);
        assert!(held <= most, "{held} bytes for a connection, {most} are said");
        assert!(held > 3 << 20, "{held} bytes: that was not the worst");
    }
}
