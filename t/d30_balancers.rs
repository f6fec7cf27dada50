//! Which node a request goes to.

use crate::harness::{DEADLINE, Gateway, Nginx, Refusing, Setup, Upstream, eventually};
use rustix::process::Signal;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// Upstreams that answer with their number.
fn numbered(count: usize) -> Vec<Upstream> {
    let one = |number: usize| {
        let body = number.to_string();
        Upstream::answering(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    };
    (0..count).map(one).collect()
}

fn nodes(upstreams: &[Upstream]) -> String {
    let node = |upstream: &Upstream| format!("\"{}\": 1", upstream.node());
    format!("{{{}}}", upstreams.iter().map(node).collect::<Vec<_>>().join(", "))
}

fn route(keys: &str, nodes: &str) -> String {
    format!("routes: [{{uri: /*, upstream: {{{keys}, nodes: {nodes}}}}}]")
}

/// Who answers a request with these fields, and whether that stays so.
fn steady(gateway: &Gateway, target: &str, fields: &str) -> String {
    let request = format!("GET {target} HTTP/1.1\r\nHost: h.test\r\n{fields}\r\n");
    let first = gateway.ask(&request).text();
    (0..3).for_each(|_| assert_eq!(gateway.ask(&request).text(), first, "{target} {fields}"));
    first
}

/// Keys until each of four nodes has had one. Nodes are on random ports, but a node has a tenth of
/// the ring at the very least: that one has none of so many keys is as good as impossible
/// (0.9^400 < 10^-18).
#[track_caller]
fn reach_all_four(answer: impl Fn(usize) -> String) {
    let mut seen = HashSet::new();
    let reached = (0..400).any(|at| {
        seen.insert(answer(at));
        seen.len() == 4
    });
    assert!(reached, "all nodes have some keys: {seen:?}");
}

/// Neighbours that are nothing alike: the sums that the ring is made of are alike for keys that
/// are.
fn scattered(at: usize) -> u64 {
    (at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The key decides, and nothing else: keys reach all four nodes, each the same one always.
#[test]
fn chash_hashes_what_it_is_told_to() {
    let upstreams = numbered(4);
    type Request = fn(usize) -> (String, String);
    let table: [(&str, Request); 5] = [
        ("key: arg_k", |at| (format!("/?k={}", scattered(at)), String::new())),
        ("key: uri, hash_on: vars", |at| (format!("/{}", scattered(at)), String::new())),
        ("key: X-Key, hash_on: header", |at| ("/".into(), format!("x-key: {}\r\n", scattered(at)))),
        ("key: sid, hash_on: cookie", |at| {
            ("/".into(), format!("Cookie: a=1; sid={}\r\n", scattered(at)))
        }),
        ("key: $arg_a-$http_b, hash_on: vars_combinations", |at| {
            (format!("/?a={}", scattered(at)), format!("B: {at}\r\n"))
        }),
    ];
    for (keys, request) in table {
        let gateway = Gateway::start(route(&format!("type: chash, {keys}"), &nodes(&upstreams)));
        reach_all_four(|at| {
            let (target, fields) = request(at);
            steady(&gateway, &target, &fields)
        });
    }
}

#[test]
fn chash_knows_consumers_and_does_without_a_key() {
    let upstreams = numbered(4);
    let consumers: String = (0..400)
        .map(|at| {
            let name = scattered(at);
            format!("  - {{username: u{name}, plugins: {{key-auth: {{key: k{at}}}}}}}\n")
        })
        .collect();
    let text = format!(
        "routes: [{{uri: /*, plugins: {{key-auth: {{}}}}, upstream: {{type: chash, hash_on: \
         consumer, nodes: {}}}}}]\nconsumers:\n{consumers}",
        nodes(&upstreams)
    );
    let gateway = Gateway::start(text);
    reach_all_four(|at| steady(&gateway, "/", &format!("apikey: k{at}\r\n")));
    // Without the header all requests have the client's address as their key.
    let keys = "type: chash, hash_on: header, key: x";
    let gateway = Gateway::start(route(keys, &nodes(&upstreams)));
    let first = steady(&gateway, "/", "");
    assert!((0..10).all(|at| steady(&gateway, &format!("/{at}"), "") == first));
}

/// nginx's ring has the same points, so the same key goes to the same node.
#[test]
fn chash_agrees_with_nginx() {
    let upstreams = numbered(5);
    let weights = [1, 2, 3, 1, 5];
    let servers: String = upstreams
        .iter()
        .zip(weights)
        .map(|(upstream, weight)| format!("server {} weight={weight};\n", upstream.node()))
        .collect();
    let server = "location / { proxy_pass http://ring; proxy_http_version 1.1; \
         proxy_set_header Connection \"\"; }";
    let ring = format!("upstream ring {{\nhash $arg_k consistent;\n{servers}keepalive 8;\n}}");
    let Some(nginx) = Nginx::start_with(&ring, server) else { return };
    let nodes: Vec<String> = upstreams
        .iter()
        .zip(weights)
        .map(|(upstream, weight)| format!("\"{}\": {weight}", upstream.node()))
        .collect();
    let nodes = format!("{{{}}}", nodes.join(", "));
    let gateway = Gateway::start(route("type: chash, key: arg_k", &nodes));
    let (mut ours, mut theirs) = (gateway.client(), crate::harness::Client::connect(nginx.address));
    for key in 0..1_000 {
        let path = format!("/?k=key-{key}");
        assert_eq!(ours.get(&path).text(), theirs.get(&path).text(), "{path}");
    }
}

#[test]
fn a_key_of_a_node_that_is_gone_has_another_one_of_its_own() {
    let (upstreams, refusing) = (numbered(3), Refusing::new());
    let nodes = nodes(&upstreams).replace('}', &format!(", \"{}\": 1}}", refusing.node()));
    let gateway = Gateway::start(route("type: chash, key: arg_k", &nodes));
    for key in 0..40 {
        steady(&gateway, &format!("/?k={key}"), "");
    }
}

/// An upstream whose answers wait for the test.
struct Gated {
    upstream: Upstream,
    arrived: Receiver<()>,
    go: Sender<()>,
}

impl Gated {
    fn new() -> Self {
        let (arrivals, arrived) = channel();
        let (go, gone) = channel();
        let (arrivals, gone) =
            (std::sync::Mutex::new(arrivals), Arc::new(std::sync::Mutex::new(gone)));
        let upstream = Upstream::script(move |conversation| {
            while conversation.request().is_some() {
                // The test may be over.
                let _ = arrivals.lock().expect("no panic").send(());
                let _ = gone.lock().expect("no panic").recv();
                conversation.answer("slow");
            }
        });
        Self { upstream, arrived, go }
    }
}

/// Requests in flight count: while the busy node holds some, the other one gets what comes.
#[test]
fn least_conn_goes_where_fewer_requests_are() {
    let (busy, idle) = (Gated::new(), Upstream::hello());
    let nodes = format!("{{\"{}\": 5, \"{}\": 2}}", busy.upstream.node(), idle.node());
    let gateway = Gateway::start(route("type: least_conn", &nodes));
    let mut waiting = Vec::new();
    while idle.requests().is_empty() {
        let mut client = gateway.client();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        eventually("somebody gets it", || {
            busy.arrived.try_recv().is_ok() || !idle.requests().is_empty()
        });
        waiting.push(client);
    }
    // (1 + 2) / 5 is more than (1 + 0) / 2, (1 + 1) / 5 is not.
    assert_eq!(busy.upstream.requests().len(), 2);
    let mut client = gateway.client();
    (0..10).for_each(|_| assert_eq!(client.get("/").text(), "hello world\n"));
    for _ in 0..waiting.len() {
        // One more than there are is of no harm.
        let _ = busy.go.send(());
    }
    waiting.iter_mut().for_each(|client| assert_eq!(client.response().status(), 200));
    let _ = busy.go.send(());
    assert_eq!(client.get("/").text(), "slow", "it is idle again");
}

/// Slow answers are learned from: of two nodes the slow one is asked until it is known, and then
/// the fast one only.
#[test]
fn ewma_prefers_the_faster_node() {
    let slow = Upstream::script(|conversation| {
        while conversation.request().is_some() {
            std::thread::sleep(Duration::from_millis(200));
            conversation.answer("slow");
        }
    });
    let fast = Upstream::hello();
    let nodes = format!("{{\"{}\": 1, \"{}\": 1}}", slow.node(), fast.node());
    let gateway = Gateway::start(route("type: ewma", &nodes));
    let mut client = gateway.client();
    (0..4).for_each(|_| assert_eq!(client.get("/").status(), 200));
    let before = slow.requests().len();
    assert!(before >= 1, "nobody knew");
    (0..20).for_each(|_| assert_eq!(client.get("/").text(), "hello world\n"));
    assert_eq!(slow.requests().len(), before);
}

/// As in APISIX's `t/node/priority-balancer`: the levels are gone down one after the other.
#[test]
fn priorities_with_every_balancer() {
    let dead: Vec<Refusing> = (0..4).map(|_| Refusing::new()).collect();
    let last = Upstream::hello();
    let node = |port: u16, priority: i32| {
        format!("{{host: 127.0.0.1, port: {port}, weight: 1, priority: {priority}}}")
    };
    let nodes = [
        node(dead[0].port(), 1),
        node(dead[1].port(), 1),
        node(dead[2].port(), 0),
        node(dead[3].port(), 0),
        node(last.address.port(), -1),
    ];
    let nodes = format!("[{}]", nodes.join(", "));
    for keys in ["type: roundrobin", "type: least_conn", "type: ewma", "type: chash, key: uri"] {
        let gateway = Setup::new(route(keys, &nodes)).start();
        assert_eq!(gateway.get("/").text(), "hello world\n", "{keys}");
        let tried = || -> Vec<usize> {
            let log = gateway.log();
            let at = |line: &str| dead.iter().position(|dead| line.contains(&dead.node()));
            log.lines().filter_map(at).collect()
        };
        eventually("four tries are in the log", || tried().len() == 4);
        let tried = tried();
        assert!(
            tried[..2].iter().all(|at| *at < 2) && tried[2..].iter().all(|at| *at >= 2),
            "{tried:?}"
        );
    }
}

/// A node that a reload adds to an upstream at work begins with a twentieth of its weight, and has
/// its share in the end. Those that were there from the beginning have theirs at once.
#[test]
fn slow_start_of_a_node_that_is_added() {
    let upstreams = numbered(2);
    // An hour: the first of its steps lasts longer than the test.
    let text = |count: usize, seconds: &str| {
        route(&format!("slow_start: {seconds}"), &nodes(&upstreams[..count]))
    };
    let share = |gateway: &Gateway| {
        let (before, mut client) = (upstreams[1].requests().len(), gateway.client());
        (0..210).for_each(|_| assert_eq!(client.get("/").status(), 200));
        upstreams[1].requests().len() - before
    };
    assert_eq!(share(&Gateway::start(text(2, "3600"))), 105, "both begin");
    let gateway = Gateway::start(text(1, "3600"));
    assert_eq!(gateway.get("/").text(), "0");
    let reload = |snapshot: usize, text: String| {
        gateway.folder().write("apisix.yaml", format!("{text}\n#END\n"));
        gateway.process().signal(Signal::HUP);
        gateway.wait_for_log(&format!("snapshot {snapshot} published"));
    };
    reload(2, text(2, "3600"));
    assert_eq!(share(&gateway), 10, "one of 21");
    // Of a shorter time, counted from the same beginning, all of it is over.
    reload(3, text(2, "0.001"));
    assert_eq!(share(&gateway), 105, "half of them");
}

/// The share grows while requests come.
#[test]
fn slow_start_ends() {
    let upstreams = numbered(2);
    let text = |count| route("slow_start: 2", &nodes(&upstreams[..count]));
    let gateway = Gateway::start(text(1));
    assert_eq!(gateway.get("/").text(), "0");
    gateway.folder().write("apisix.yaml", format!("{}\n#END\n", text(2)));
    gateway.process().signal(Signal::HUP);
    gateway.wait_for_log("snapshot 2 published");
    let (begun, mut client) = (Instant::now(), gateway.client());
    let (mut asked, mut half) = (0, 0);
    // Ten that take turns.
    while half < 10 {
        asked += 1;
        let turn = [(); 2].map(|()| client.get("/").text());
        half = if turn[0] == turn[1] { 0 } else { half + 1 };
        assert!(begun.elapsed() < DEADLINE, "no equal shares after {asked} pairs");
    }
    // From half of the time on there are ten such pairs in a row; clocks of workers are coarse.
    assert!(begun.elapsed() >= Duration::from_millis(500), "{:?}", begun.elapsed());
}
