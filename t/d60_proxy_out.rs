//! The PROXY protocol towards upstreams: a real nginx and a real HAProxy say who they were told is
//! there, and on which connection.

use crate::b50_listeners::second;
use crate::harness::{
    Client, DEADLINE, Gateway, HaProxy, Nginx, Setup, Upstream, drivers, eventually,
};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

/// Who is there, and how many requests the connection to nginx has carried.
const NGINX: &str = "location / { return 200 \"$proxy_protocol_addr $proxy_protocol_port \
    $proxy_protocol_server_addr $proxy_protocol_server_port|$connection_requests\"; }\n\
    location /fails { return 500; }";

/// Who is there.
const HAPROXY: &str = "http-request return status 200 content-type text/plain \
    lf-string \"%[src] %[src_port] %[dst] %[dst_port]|%[fc_http_major]\"";

fn setup(node: &str, keys: &str) -> Setup {
    Setup::new(format!("routes: [{{uri: /*, upstream: {{{keys}, nodes: {{\"{node}\": 1}}}}}}]"))
        .ringgate("listen: [{address: '127.0.0.1:0', proxy_protocol: true}]")
}

/// The two halves of an answer.
fn halves(text: &str) -> (&str, &str) {
    text.split_once('|').unwrap_or_else(|| panic!("{text:?}"))
}

/// What a peer must say of a client that a proxy before us named, one that connected itself, and
/// one of another family than our own address.
#[track_caller]
fn names_clients(gateway: &Gateway) {
    let address = second(gateway);
    let mut named = Client::connect(address);
    named.send("PROXY TCP4 192.0.2.1 198.51.100.2 4000 80\r\n");
    for _ in 0..3 {
        assert_eq!(halves(&named.get("/").text()).0, "192.0.2.1 4000 198.51.100.2 80");
    }
    let mut wide = Client::connect(address);
    wide.send("PROXY TCP6 2001:db8::1 2001:db8::2 5 6\r\n");
    assert_eq!(halves(&wide.get("/").text()).0, "2001:db8::1 5 2001:db8::2 6");
    let mut direct = gateway.client();
    let us = direct.wire().stream().local_addr().expect("an address");
    let wanted = format!("127.0.0.1 {} 127.0.0.1 {}", us.port(), gateway.address.port());
    assert_eq!(halves(&direct.get("/").text()).0, wanted);
    // The first one is still who it was.
    assert_eq!(halves(&named.get("/").text()).0, "192.0.2.1 4000 198.51.100.2 80");
}

#[test]
fn nginx_is_told_who_is_there() {
    let Some(nginx) = Nginx::proxied(NGINX) else { return };
    for driver in drivers() {
        for version in ["v1", "v2"] {
            let keys = format!("proxy_protocol: {version}");
            names_clients(&setup(&nginx.node(), &keys).driver(*driver).start());
        }
    }
}

#[test]
fn haproxy_is_told_who_is_there() {
    let Some(haproxy) = HaProxy::start("accept-proxy", HAPROXY) else { return };
    for driver in drivers() {
        for version in ["v1", "v2"] {
            let keys = format!("proxy_protocol: {version}");
            names_clients(&setup(&haproxy.address.to_string(), &keys).driver(*driver).start());
        }
    }
}

#[test]
fn connections_are_kept_for_their_client_alone() {
    let Some(nginx) = Nginx::proxied(NGINX) else { return };
    for driver in drivers() {
        let gateway = setup(&nginx.node(), "proxy_protocol: v2").driver(*driver).start();
        let mut clients = [gateway.client(), gateway.client()];
        for round in 1..=3 {
            for client in &mut clients {
                let us = client.wire().stream().local_addr().expect("an address");
                let text = client.get("/").text();
                let (who, requests) = halves(&text);
                assert_eq!(requests, round.to_string(), "its own connection, kept");
                assert_eq!(who.split(' ').nth(1), Some(us.port().to_string().as_str()));
            }
        }
        // Whoever comes after them finds none of theirs.
        drop(clients);
        assert_eq!(halves(&gateway.get("/").text()).1, "1");
        let pool = "proxy_protocol: v2, keepalive_pool: {requests: 2}";
        let gateway = setup(&nginx.node(), pool).driver(*driver).start();
        let mut client = gateway.client();
        let carried = [(); 4].map(|()| halves(&client.get("/").text()).1.to_owned());
        assert_eq!(carried, ["1", "2", "1", "2"]);
    }
}

#[test]
fn upstream_connections_end_with_their_client() {
    let upstream = Upstream::script(|conversation| {
        // The header's line, then requests. HTTP has no word for the line: it is read by hand.
        let _ = conversation.wire.line();
        while conversation.request().is_some() {
            conversation.answer("ok");
        }
        conversation.ended();
    });
    for driver in drivers() {
        let gateway = setup(&upstream.node(), "proxy_protocol: v1").driver(*driver).start();
        let (ended, mut client) = (upstream.ended(), gateway.client());
        (0..3).for_each(|_| assert_eq!(client.get("/").text(), "ok"));
        assert_eq!(upstream.ended(), ended);
        drop(client);
        eventually("the upstream's connection ends", || upstream.ended() == ended + 1);
    }
}

/// Clients of unix sockets have no address: the header says that there is nothing to say.
#[test]
fn clients_of_unix_sockets_are_nobody() {
    let Some(nginx) = Nginx::proxied(NGINX) else { return };
    for version in ["v1", "v2"] {
        let routes = format!(
            "routes: [{{uri: /*, upstream: {{proxy_protocol: {version}, nodes: {{\"{}\": 1}}}}}}]",
            nginx.node()
        );
        let setup = Setup::new(routes);
        let path = setup.folder().path().join("gateway.sock");
        let _gateway =
            setup.ringgate(&format!("listen: [{{address: 'unix:{}'}}]", path.display())).start();
        let mut stream = UnixStream::connect(&path).expect("the gateway listens there");
        stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer and an end");
        assert!(answer.ends_with("\r\n\r\n   |1"), "{version}: {answer:?}");
    }
}

/// The connection is one client's, whatever address a plugin believes its requests to be from.
#[test]
fn the_header_is_of_the_connection() {
    let Some(nginx) = Nginx::proxied(NGINX) else { return };
    let node = nginx.node();
    let gateway = Gateway::start(format!(
        "routes: [{{uri: /*, plugins: {{real-ip: {{source: http_x_forwarded_for, \
         trusted_addresses: [127.0.0.1]}}}}, \
         upstream: {{proxy_protocol: v2, nodes: {{\"{node}\": 1}}}}}}]"
    ));
    let mut client = gateway.client();
    for one in ["203.0.113.1", "203.0.113.2"] {
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {one}\r\n\r\n");
        client.send(head);
        assert!(client.response().text().starts_with("127.0.0.1 "));
    }
}

/// Probes and plugins' own calls begin with a header too, one that says they are the gateway's.
#[test]
fn probes_and_callouts_are_the_gateways_own() {
    let Some(nginx) = Nginx::proxied(NGINX) else { return };
    let node = nginx.node();
    for version in ["v1", "v2"] {
        let checks = format!(
            "proxy_protocol: {version}, checks: {{active: {{http_path: /, healthy: {{interval: 1, \
             successes: 1}}, unhealthy: {{interval: 1}}}}, passive: {{unhealthy: \
             {{http_statuses: [500], http_failures: 1}}}}}}"
        );
        let routes = format!(
            "routes: [{{uri: /*, upstream_id: 1}}]\n\
             upstreams: [{{id: 1, {checks}, nodes: {{\"{node}\": 1}}}}]"
        );
        let gateway = Setup::new(routes).start();
        assert_eq!(gateway.get("/fails").status(), 500);
        gateway.wait_for_log(&format!("node {node} of /apisix/upstreams/1 is unhealthy"));
        gateway.wait_for_log(&format!("node {node} of /apisix/upstreams/1 is healthy"));

        let upstream = Upstream::hello();
        let gateway = Setup::new(format!(
            "upstreams: [{{id: auth, proxy_protocol: {version}, nodes: {{\"{node}\": 1}}}}]\n\
             routes: [{{uri: /*, plugins: {{ask: {{conf: auth}}}}, \
             upstream: {{nodes: {{\"{}\": 1}}}}}}]",
            upstream.node()
        ))
        .wasm("ask", "t/plugins/callout.wat", "")
        .start();
        for _ in 0..2 {
            assert_eq!(gateway.get("/a").status(), 200);
        }
        let told: Vec<_> = upstream.requests();
        let told: Vec<_> = told.iter().map(|request| request.field("x-auth")).collect();
        assert_eq!(told, [Some("|1"), Some("|1")], "a connection of its own for each");
    }
}

#[test]
fn other_versions_are_refused() {
    let ended = Setup::new(
        "routes: [{uri: /*, upstream: {proxy_protocol: v3, nodes: {\"127.0.0.1:1\": 1}}}]",
    )
    .refused();
    assert!(ended.stderr.contains("proxy_protocol"), "{}", ended.stderr);
}
