//! Which node a request goes to.

use crate::harness::{Gateway, Nginx, Refusing, Setup, Upstream, eventually};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

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

/// The key decides, and nothing else: twenty keys reach all four nodes, each the same one always.
#[test]
fn chash_hashes_what_it_is_told_to() {
    let upstreams = numbered(4);
    type Request = fn(usize) -> (String, String);
    let table: [(&str, Request); 5] = [
        ("key: arg_k", |at| (format!("/?k={at}"), String::new())),
        ("key: uri, hash_on: vars", |at| (format!("/{at}"), String::new())),
        ("key: X-Key, hash_on: header", |at| ("/".into(), format!("x-key: {at}\r\n"))),
        ("key: sid, hash_on: cookie", |at| ("/".into(), format!("Cookie: a=1; sid={at}\r\n"))),
        ("key: $arg_a-$http_b, hash_on: vars_combinations", |at| {
            (format!("/?a={}", at % 5), format!("B: {}\r\n", at / 5))
        }),
    ];
    for (keys, request) in table {
        let gateway = Gateway::start(route(&format!("type: chash, {keys}"), &nodes(&upstreams)));
        let answers = (0..20).map(|at| {
            let (target, fields) = request(at);
            steady(&gateway, &target, &fields)
        });
        let mut answers: Vec<String> = answers.collect();
        answers.sort_unstable();
        answers.dedup();
        assert_eq!(answers.len(), 4, "{keys}: all nodes have some keys");
    }
}

#[test]
fn chash_knows_consumers_and_does_without_a_key() {
    let upstreams = numbered(4);
    let consumers: String = (0..20)
        .map(|at| format!("  - {{username: u{at}, plugins: {{key-auth: {{key: k{at}}}}}}}\n"))
        .collect();
    let text = format!(
        "routes: [{{uri: /*, plugins: {{key-auth: {{}}}}, upstream: {{type: chash, hash_on: \
         consumer, nodes: {}}}}}]\nconsumers:\n{consumers}",
        nodes(&upstreams)
    );
    let gateway = Gateway::start(text);
    let answers = (0..20).map(|at| steady(&gateway, "/", &format!("apikey: k{at}\r\n")));
    let mut answers: Vec<String> = answers.collect();
    answers.sort_unstable();
    answers.dedup();
    assert_eq!(answers.len(), 4, "consumers are told apart");
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
            std::thread::sleep(std::time::Duration::from_millis(200));
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
