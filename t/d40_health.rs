//! Health checks: probes, what requests meet, and who is asked then.

use crate::harness::{
    Certificates, Conversation, Gateway, Nginx, Refusing, Setup, Upstream, eventually,
};
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

/// What a probe says and to whom: its own method, body and fields, and the Host that requests get.
#[test]
fn probes_say_what_they_are_told_to() {
    let upstream = Upstream::hello();
    let probe = |keys: &str| {
        let before = upstream.requests().len();
        let _gateway = start(&[upstream.node()], keys);
        eventually("a probe comes", || upstream.requests().len() > before);
        upstream.requests().remove(before)
    };
    let told = probe(
        "pass_host: rewrite, upstream_host: re.test, checks: {active: {http_method: POST, \
         http_path: '/well?a=b', http_req_body: 'are you?', req_headers: ['User-Agent: me'], \
         healthy: {interval: 1}}}",
    );
    assert_eq!(told.start, "POST /well?a=b HTTP/1.1");
    assert_eq!(told.text(), "are you?");
    assert_eq!((told.field("host"), told.field("user-agent")), (Some("re.test"), Some("me")));
    let plain = probe("checks: {active: {healthy: {interval: 1}}}");
    assert_eq!(plain.start, "GET / HTTP/1.1");
    assert_eq!(plain.field("host"), Some(upstream.node().as_str()));
}

/// A probe that takes too long is a timeout, whether it was taken or not.
#[test]
fn probes_have_their_time() {
    let (good, silent) = (Moody::new(), Upstream::script(Conversation::stall));
    let nodes = [good.upstream.node(), silent.node()];
    let checks = "checks: {active: {timeout: 0.2, http_path: /health, healthy: {interval: 1}, \
        unhealthy: {interval: 1, timeouts: 2, tcp_failures: 254, http_failures: 254}}}";
    let gateway = start(&nodes, checks);
    eventually("it is found out", || !is_used(&gateway, &nodes[1]));
    assert!(is_used(&gateway, &nodes[0]));
}

/// `concurrency` bounds how many probes of an upstream run at the same time.
#[test]
fn so_many_probes_at_a_time() {
    for concurrency in [1, 2] {
        let (running, most, all) =
            (Arc::new(AtomicU16::new(0)), Arc::new(AtomicU16::new(0)), Arc::new(AtomicU16::new(0)));
        let node = || {
            let [running, most, all] = [&running, &most, &all].map(Arc::clone);
            Upstream::script(move |conversation| {
                while conversation.request().is_some() {
                    let at_once = running.fetch_add(1, Ordering::SeqCst) + 1;
                    most.fetch_max(at_once, Ordering::SeqCst);
                    // Long enough for all that may come to come.
                    std::thread::sleep(std::time::Duration::from_millis(100));
                    running.fetch_sub(1, Ordering::SeqCst);
                    all.fetch_add(1, Ordering::SeqCst);
                    conversation.answer("well");
                }
            })
        };
        let upstreams = [node(), node(), node(), node()];
        let checks = format!(
            "checks: {{active: {{timeout: 20, concurrency: {concurrency}, healthy: {{interval: 1}}}}}}"
        );
        let _gateway = start(&upstreams.each_ref().map(Upstream::node), &checks);
        let at_most = || most.load(Ordering::SeqCst);
        eventually("two rounds", || all.load(Ordering::SeqCst) >= 8 && at_most() >= concurrency);
        assert_eq!(at_most(), concurrency);
    }
}

/// A node that works again gets its share little by little, if `slow_start` says so.
#[test]
fn a_node_that_is_back_starts_slowly() {
    for (slow_start, share) in [("slow_start: 3600, ", 10), ("", 105)] {
        let (good, moody) = (Moody::new(), Moody::new());
        let nodes = [good.upstream.node(), moody.upstream.node()];
        let checks = format!(
            "{slow_start}retries: 0, checks: {{active: {{http_path: /health, healthy: {{interval: \
             1, successes: 1}}, unhealthy: {{interval: 1, http_failures: 1}}}}}}"
        );
        let gateway = start(&nodes, &checks);
        moody.set(500);
        eventually("probes see it", || !is_used(&gateway, &nodes[1]));
        moody.set(200);
        eventually("probes see that it is back", || is_used(&gateway, &nodes[1]));
        let mut client = gateway.client();
        (0..210).for_each(|_| assert_eq!(client.get("/").status(), 200));
        assert_eq!(moody.served(), share, "{slow_start}");
    }
}

/// Probes over TLS: who signed the certificate and whose it is counts, unless it need not.
#[test]
fn probes_over_tls() {
    let Some(certificates) = Certificates::make() else { return };
    // Probes go to nginx, requests to this one.
    let upstream = Upstream::hello();
    let page = "location /health { if ($ssl_server_name != \"server.test\") { return 421; } }";
    let any = "location /health { }";
    let start = |nginx: &Nginx, trusted: &str, keys: &str| {
        let checks = format!(
            "checks: {{active: {{type: https, port: {}, http_path: /health, {keys} \
             healthy: {{interval: 1, successes: 1}}, unhealthy: {{interval: 1, http_failures: 1, \
             http_statuses: [404], tcp_failures: 2, timeouts: 254}}}}}}",
            nginx.address.port()
        );
        let trusted = certificates.text(trusted);
        let text = self::upstream(&[upstream.node()], &checks, "u");
        let setup =
            Setup::new(text).apisix(&format!("ssl: {{ssl_trusted_certificate: '{trusted}'}}"));
        setup.metrics().start()
    };
    let wanted = [
        (page, "ca.pem", "host: server.test,"),
        (page, "ca.pem", "host: 'server.test:8443',"),
        // The node's own address is in the certificate, too.
        (any, "ca.pem", ""),
        (page, "other.pem", "host: server.test, https_verify_certificate: false,"),
        (any, "other.pem", "host: elsewhere.test, https_verify_certificate: false,"),
        ("ssl_protocols TLSv1.2; location /health { }", "ca.pem", ""),
        (
            "ssl_protocols TLSv1.2; location /health { }",
            "other.pem",
            "https_verify_certificate: false,",
        ),
    ];
    let wanted = wanted.map(|(server, trusted, keys)| {
        let nginx = Nginx::tls(&certificates, server)?;
        let gateway = start(&nginx, trusted, keys);
        Some((nginx, gateway, keys))
    });
    let refused = [
        (any, "other.pem", "", "UnknownIssuer"),
        (any, "ca.pem", "host: elsewhere.test,", "not valid for name"),
    ];
    let refused = refused.map(|(server, trusted, keys, why)| {
        let nginx = Nginx::tls(&certificates, server)?;
        let gateway = start(&nginx, trusted, keys);
        Some((nginx, gateway, why))
    });
    let node = upstream.node();
    for (nginx, gateway, keys) in wanted.iter().flatten() {
        // No such page: nginx was understood.
        eventually(&format!("{keys:?} 404"), || !is_used(gateway, &node));
        nginx.file("health", "well");
    }
    for (_nginx, gateway, keys) in wanted.iter().flatten() {
        eventually(&format!("{keys:?} 200"), || is_used(gateway, &node));
    }
    for (_nginx, gateway, why) in refused.iter().flatten() {
        eventually(why, || !is_used(gateway, &node));
        gateway.wait_for_log(why);
    }
}

/// The header of the PROXY protocol comes before TLS.
#[test]
fn probes_over_tls_say_first_whose_they_are() {
    let Some(certificates) = Certificates::make() else { return };
    let Some(nginx) = Nginx::tls_proxied(&certificates, "location /health { }") else { return };
    let checks = format!(
        "proxy_protocol: v2, checks: {{active: {{type: https, port: {}, http_path: /health, \
         https_verify_certificate: false, healthy: {{interval: 1, successes: 1}}, unhealthy: \
         {{interval: 1, http_failures: 1, tcp_failures: 254}}}}}}",
        nginx.address.port()
    );
    let node = Upstream::hello().node();
    let gateway = start(std::slice::from_ref(&node), &checks);
    eventually("a 404", || !is_used(&gateway, &node));
    nginx.file("health", "well");
    eventually("a 200", || is_used(&gateway, &node));
}

/// A file of certificates that is named must be there when the process starts.
#[test]
fn trusted_certificates_must_be_there() {
    let line = "ssl: {ssl_trusted_certificate: '/nowhere/ca.pem'}";
    let ended = Setup::new("").apisix(line).refused();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("/nowhere/ca.pem: can't be read"), "{}", ended.stderr);
}
