//! Health checks: probes, what requests meet, and who is asked then.

use crate::harness::{Gateway, Refusing, Setup, Upstream, eventually};
use rustix::process::Signal;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

/// An upstream whose status can be changed; probes ask for `/health`.
struct Moody {
    upstream: Upstream,
    status: Arc<AtomicU16>,
}

impl Moody {
    fn new() -> Self {
        let status = Arc::new(AtomicU16::new(200));
        let shown = Arc::clone(&status);
        let upstream = Upstream::script(move |conversation| {
            while conversation.request().is_some() {
                let status = shown.load(Ordering::Acquire);
                conversation.send(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"));
            }
        });
        Self { upstream, status }
    }

    fn set(&self, status: u16) {
        self.status.store(status, Ordering::Release);
    }

    /// Requests that are no probes.
    fn served(&self) -> usize {
        let requests = self.upstream.requests();
        requests.iter().filter(|request| request.target() != "/health").count()
    }
}

fn start(nodes: &[String], keys: &str) -> Gateway {
    Setup::new(upstream(nodes, keys, "u")).metrics().start()
}

fn upstream(nodes: &[String], keys: &str, name: &str) -> String {
    let nodes: Vec<String> = nodes.iter().map(|node| format!("\"{node}\": 1")).collect();
    let nodes = nodes.join(", ");
    format!(
        "routes: [{{id: r, uri: /*, upstream_id: 1}}]\n\
         upstreams: [{{id: 1, name: {name}, nodes: {{{nodes}}}, {keys}}}]"
    )
}

fn is_used(gateway: &Gateway, node: &str) -> bool {
    let port = node.rsplit(':').next().expect("a port");
    let sample = format!(
        "apisix_upstream_status{{name=\"/apisix/upstreams/1\",ip=\"127.0.0.1\",port=\"{port}\"}}"
    );
    gateway.metric(&sample).expect("the node has a status") > 0.0
}

#[test]
fn probes_find_out_who_fails_and_who_is_back() {
    let (good, moody) = (Moody::new(), Moody::new());
    let nodes = [good.upstream.node(), moody.upstream.node()];
    let checks = "retries: 0, checks: {active: {http_path: /health, req_headers: ['X-A: b'], \
        host: probe.test, healthy: {interval: 1, successes: 1}, \
        unhealthy: {interval: 1, http_failures: 2}}}";
    let gateway = start(&nodes, checks);
    assert!(is_used(&gateway, &nodes[1]));
    moody.set(500);
    eventually("probes see it", || !is_used(&gateway, &nodes[1]));
    let before = moody.served();
    (0..6).for_each(|_| assert_eq!(gateway.get("/").status(), 200));
    assert_eq!(moody.served(), before, "an unhealthy node gets no request");
    moody.set(200);
    eventually("probes see that it is back", || is_used(&gateway, &nodes[1]));
    (0..6).for_each(|_| assert_eq!(gateway.get("/").status(), 200));
    assert!(moody.served() > before);
    let probes = moody.upstream.requests();
    let probe = probes.iter().find(|request| request.target() == "/health").expect("a probe");
    assert_eq!((probe.field("host"), probe.field("x-a")), (Some("probe.test"), Some("b")));
    assert_eq!(probe.field("connection"), Some("close"));
}

#[test]
fn connections_are_probes_enough_where_they_are_asked_for() {
    let (refusing, good) = (Refusing::new(), Moody::new());
    let nodes = [refusing.node(), good.upstream.node()];
    let checks = "retries: 0, checks: {active: {type: tcp, healthy: {interval: 1}, \
        unhealthy: {interval: 1, tcp_failures: 1}}}";
    let gateway = start(&nodes, checks);
    eventually("the probe is refused", || !is_used(&gateway, &nodes[0]));
    (0..6).for_each(|_| assert_eq!(gateway.get("/").status(), 200));
    // It comes up on the port it was configured with.
    let port = refusing.port();
    drop(refusing);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port again");
    let revived = Upstream::on(listener, |conversation| {
        while conversation.request().is_some() {
            conversation.answer("back");
        }
    });
    eventually("the probe is taken", || is_used(&gateway, &nodes[0]));
    (0..6).for_each(|_| assert_eq!(gateway.get("/").status(), 200));
    assert!(!revived.requests().is_empty());
}

/// Probes that never come leave it to requests alone.
const PASSIVE: &str = "retries: 0, checks: {active: {type: tcp}, passive: {unhealthy: \
    {http_statuses: [500], http_failures: 2, tcp_failures: 1}}}";

#[test]
fn responses_count_too() {
    let (good, moody) = (Moody::new(), Moody::new());
    let nodes = [good.upstream.node(), moody.upstream.node()];
    let gateway = start(&nodes, PASSIVE);
    moody.set(500);
    let failed = (0..8).filter(|_| gateway.get("/").status() == 500).count();
    assert_eq!(failed, 2, "the second one was the last");
    assert!(!is_used(&gateway, &nodes[1]));
    gateway.wait_for_log("is unhealthy");
}

#[test]
fn a_node_that_refuses_is_found_out_by_a_request() {
    let (good, refusing) = (Moody::new(), Refusing::new());
    let nodes = [good.upstream.node(), refusing.node()];
    let gateway = start(&nodes, PASSIVE);
    let failed = (0..8).filter(|_| gateway.get("/").status() == 502).count();
    assert_eq!(failed, 1);
    assert!(!is_used(&gateway, &nodes[1]));
}

#[test]
fn all_are_used_when_none_is_healthy() {
    let nodes = [Moody::new(), Moody::new()];
    nodes.iter().for_each(|node| node.set(500));
    let gateway = start(&nodes.each_ref().map(|node| node.upstream.node()), PASSIVE);
    (0..10).for_each(|_| assert_eq!(gateway.get("/").status(), 500, "from a node, not from us"));
    let served = nodes.each_ref().map(Moody::served);
    assert!(served.iter().all(|count| *count >= 3), "{served:?}");
}

/// All workers see what one found out, and a reload forgets nothing.
#[test]
fn health_is_everybodys_and_outlives_a_reload() {
    let (good, moody) = (Moody::new(), Moody::new());
    let nodes = [good.upstream.node(), moody.upstream.node()];
    let gateway = Setup::new(upstream(&nodes, PASSIVE, "u")).workers(2).metrics().start();
    moody.set(500);
    eventually("some worker finds out", || {
        gateway.get("/").status();
        !is_used(&gateway, &nodes[1])
    });
    let before = moody.served();
    (0..20).for_each(|_| assert_eq!(gateway.get("/").status(), 200));
    let text = format!("{}\n#END\n", upstream(&nodes, PASSIVE, "again"));
    gateway.folder().write("apisix.yaml", text);
    gateway.process().signal(Signal::HUP);
    gateway.wait_for_log("snapshot 2 published");
    (0..20).for_each(|_| assert_eq!(gateway.get("/").status(), 200));
    assert_eq!(moody.served(), before);
    assert!(!is_used(&gateway, &nodes[1]));
}
