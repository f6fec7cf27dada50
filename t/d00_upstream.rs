//! Where requests go, on which connection, and with which fields.

use crate::b50_listeners::second;
use crate::harness::{Client, Gateway, Setup, Upstream, drivers};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn proxy(upstream: &Upstream) -> String {
    format!("routes: [{{uri: /*, upstream: {{nodes: {{\"{}\": 1}}}}}}]", upstream.node())
}

/// Weights are kept exactly over whole rounds: 3 to 1.
#[test]
fn weights_are_kept() {
    let (heavy, light) = (Upstream::hello(), Upstream::hello());
    for nodes in [
        format!("{{\"{}\": 3, \"{}\": 1}}", heavy.node(), light.node()),
        format!(
            "[{{host: 127.0.0.1, port: {}, weight: 3}}, {{host: 127.0.0.1, port: {}, weight: 1}}]",
            heavy.address.port(),
            light.address.port()
        ),
    ] {
        let (heavy_before, light_before) = (heavy.requests().len(), light.requests().len());
        let gateway =
            Gateway::start(format!("routes: [{{uri: /*, upstream: {{nodes: {nodes}}}}}]"));
        let mut client = gateway.client();
        for _ in 0..40 {
            assert_eq!(client.get("/").status(), 200);
        }
        assert_eq!(heavy.requests().len() - heavy_before, 30);
        assert_eq!(light.requests().len() - light_before, 10);
    }
}

#[test]
fn weight_zero_is_never_chosen_beside_others() {
    let (one, none) = (Upstream::hello(), Upstream::hello());
    let nodes = format!("{{\"{}\": 1, \"{}\": 0}}", one.node(), none.node());
    let gateway = Gateway::start(format!("routes: [{{uri: /*, upstream: {{nodes: {nodes}}}}}]"));
    for _ in 0..6 {
        assert_eq!(gateway.get("/").status(), 200);
    }
    assert_eq!((one.requests().len(), none.requests().len()), (6, 0));
}

#[test]
fn connections_are_used_again() {
    for driver in drivers() {
        let upstream = Upstream::hello();
        let gateway = Setup::new(proxy(&upstream)).driver(*driver).start();
        for _ in 0..10 {
            assert_eq!(gateway.get("/").text(), "hello world\n");
        }
        assert_eq!((upstream.connections(), upstream.requests().len()), (1, 10));
    }
}

#[test]
fn keepalive_settings_bound_the_use() {
    let upstream = Upstream::hello();
    let setup = Setup::new(proxy(&upstream)).http("upstream: {keepalive_requests: 3}");
    let gateway = setup.start();
    for _ in 0..9 {
        assert_eq!(gateway.get("/").status(), 200);
    }
    assert_eq!(upstream.connections(), 3);

    let upstream = Upstream::hello();
    let pool = "keepalive_pool: {size: 1, idle_timeout: 0, requests: 1}";
    let gateway = Gateway::start(format!(
        "routes: [{{uri: /*, upstream: {{{pool}, nodes: {{\"{}\": 1}}}}}}]",
        upstream.node()
    ));
    for _ in 0..4 {
        assert_eq!(gateway.get("/").status(), 200);
    }
    assert_eq!(upstream.connections(), 4);
}

/// A connection that the upstream closed while it was idle costs no request, safe or not.
#[test]
fn an_idle_connection_that_ended_is_not_used() {
    for driver in drivers() {
        let closed = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&closed);
        let upstream = Upstream::script(move |conversation| {
            while conversation.request().is_some() {
                conversation.answer("fine");
                if conversation.number == 1 {
                    let _ = conversation.wire.stream().shutdown(std::net::Shutdown::Both);
                    flag.store(true, Ordering::Release);
                    return;
                }
            }
        });
        let gateway = Setup::new(proxy(&upstream)).driver(*driver).start();
        assert_eq!(gateway.get("/").text(), "fine");
        crate::harness::eventually("the upstream closes", || closed.load(Ordering::Acquire));
        let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
        assert_eq!(gateway.ask(post).text(), "fine");
        assert_eq!(upstream.connections(), 2);
    }
}

/// One that ends with the request already sent: an idempotent request is sent again, another is
/// not.
#[test]
fn a_stale_connection_is_retried_where_that_is_safe() {
    for (method, status) in [("GET", 200), ("DELETE", 200), ("POST", 502), ("PATCH", 502)] {
        let upstream = Upstream::script(|conversation| {
            let mut served = 0;
            while conversation.request().is_some() {
                served += 1;
                if conversation.number == 1 && served == 2 {
                    return;
                }
                conversation.answer("fine");
            }
        });
        let gateway = Gateway::start(proxy(&upstream));
        assert_eq!(gateway.get("/").status(), 200);
        let response = gateway.ask(format!("{method} /x HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(response.status(), status, "{method}");
        let sent = upstream.requests().iter().filter(|request| request.target() == "/x").count();
        assert_eq!(sent, if status == 200 { 2 } else { 1 }, "{method}");
    }
}

#[test]
fn the_host_is_passed_replaced_or_the_nodes_own() {
    let upstream = Upstream::hello();
    let node = upstream.node();
    let gateway = Gateway::start(format!(
        "routes:
  - {{uri: /pass, upstream: {{nodes: {{\"{node}\": 1}}}}}}
  - {{uri: /node, upstream: {{pass_host: node, nodes: {{\"{node}\": 1}}}}}}
  - {{uri: /rewrite, upstream: {{pass_host: rewrite, upstream_host: In.Test, nodes: {{\"{node}\": 1}}}}}}"
    ));
    for path in ["/pass", "/node", "/rewrite"] {
        gateway.ask(format!("GET {path} HTTP/1.1\r\nHost: Client.Test:81\r\n\r\n"));
    }
    let hosts: Vec<_> = upstream
        .requests()
        .iter()
        .map(|r| r.field("host").unwrap_or_default().to_owned())
        .collect();
    assert_eq!(hosts, ["Client.Test:81", node.as_str(), "in.test"]);
}

#[test]
fn forwarding_fields_say_what_was_observed() {
    let upstream = Upstream::hello();
    let gateway = Gateway::start(proxy(&upstream));
    gateway.ask(
        "GET / HTTP/1.1\r\nHost: a.test:8080\r\nX-Real-IP: 9.9.9.9\r\nX-Forwarded-For: 1.1.1.1\r\n\
         X-Forwarded-For: 2.2.2.2\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\n\
         X-Forwarded-Port: 1\r\nForwarded: for=9.9.9.9\r\nX-Own: kept\r\n\r\n",
    );
    let request = upstream.request();
    let port = gateway.address.port().to_string();
    for (name, wanted) in [
        ("x-real-ip", Some("127.0.0.1")),
        ("x-forwarded-for", Some("1.1.1.1, 2.2.2.2, 127.0.0.1")),
        ("x-forwarded-proto", Some("http")),
        ("x-forwarded-host", Some("a.test")),
        ("x-forwarded-port", Some(port.as_str())),
        ("forwarded", None),
        ("x-own", Some("kept")),
    ] {
        assert_eq!(request.field(name), wanted, "{name}");
    }
}

#[test]
fn a_trusted_client_is_believed() {
    for (trusted, proto) in [("127.0.0.1/8", "https"), ("10.0.0.0/8, 127.0.0.2", "http")] {
        let upstream = Upstream::hello();
        let line = format!("trusted_addresses: [{trusted}]");
        let gateway = Setup::new(proxy(&upstream)).apisix(&line).start();
        gateway.ask(
            "GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: 1.1.1.1\r\n\
             X-Forwarded-Proto: https\r\nX-Real-IP: 9.9.9.9\r\n\r\n",
        );
        let request = upstream.request();
        for (name, wanted) in [
            ("x-forwarded-proto", proto),
            ("x-real-ip", "127.0.0.1"),
            ("x-forwarded-for", "1.1.1.1, 127.0.0.1"),
            ("x-forwarded-host", "a.test"),
        ] {
            assert_eq!(request.field(name), Some(wanted), "{name}");
        }
    }
}

/// As in APISIX: what a plugin says of how a request came reaches the upstream, and plugins
/// see nothing of what a client says of it that nobody trusts.
#[test]
fn plugins_say_how_a_request_came() {
    let upstream = Upstream::hello();
    let route = |id: &str, set: &str| {
        let node = upstream.node();
        format!(
            "{{id: {id}, uri: /{id}, plugins: {{proxy-rewrite: {{headers: {{set: {{{set}}}}}}}}},
              upstream: {{nodes: {{\"{node}\": 1}}}}}}"
        )
    };
    let routes = [
        route("set", "X-Forwarded-Proto: https"),
        route("seen", "X-Seen: $http_x_forwarded_proto"),
    ];
    let gateway = Setup::new(format!("routes: [{}]", routes.join(", "))).start();
    for (path, claimed, proto, seen) in [
        ("set", None, "https", None),
        ("set", Some("ftp"), "https", None),
        ("seen", Some("https"), "http", None),
    ] {
        let claim =
            claimed.map(|proto| format!("X-Forwarded-Proto: {proto}\r\nForwarded: a=b\r\n"));
        let claim = claim.unwrap_or_default();
        gateway.ask(format!("GET /{path} HTTP/1.1\r\nHost: a.test\r\n{claim}\r\n"));
        let request = upstream.requests().pop().expect("it was asked");
        assert_eq!(request.field("x-forwarded-proto"), Some(proto), "{path} {claimed:?}");
        assert_eq!(request.field("x-seen"), seen);
        assert_eq!(request.field("forwarded"), None);
    }
}

/// It is the proxy that is believed, not the client that it names.
#[test]
fn a_trusted_proxy_is_believed_whoever_its_client_is() {
    for (trusted, proto) in [("127.0.0.1", "https"), ("192.0.2.0/24", "http")] {
        let upstream = Upstream::hello();
        let gateway = Setup::new(proxy(&upstream))
            .apisix(&format!("trusted_addresses: [{trusted}]"))
            .ringgate("listen: [{address: '127.0.0.1:0', proxy_protocol: true}]")
            .start();
        let mut client = Client::connect(second(&gateway));
        client.send(
            "PROXY TCP4 192.0.2.1 198.51.100.2 4000 80\r\n\
             GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-Proto: https\r\n\r\n",
        );
        assert_eq!(client.response().status(), 200);
        let request = upstream.request();
        assert_eq!(request.field("x-forwarded-proto"), Some(proto), "{trusted}");
        assert_eq!(request.field("x-real-ip"), Some("192.0.2.1"));
    }
}

#[test]
fn hop_by_hop_fields_stay_on_their_hop() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive, X-Inner\r\n\
         Keep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nUpgrade: h2c\r\nX-Inner: 1\r\n\
         X-Outer: 2\r\nTrailer: X\r\n\r\nok",
    );
    let gateway = Gateway::start(proxy(&upstream));
    let response = gateway.ask(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Secret\r\nKeep-Alive: 300\r\n\
         X-Secret: 1\r\nX-Open: 2\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\n\
         Upgrade: websocket\r\n\r\n",
    );
    let request = upstream.request();
    for name in ["keep-alive", "x-secret", "proxy-connection", "upgrade"] {
        assert_eq!(request.field(name), None, "{name} went upstream");
    }
    let own = (request.field("te"), request.field("connection"));
    assert_eq!(own, (Some("trailers"), Some("TE")), "trailers are passed on by this hop, too");
    assert_eq!(request.field("x-open"), Some("2"));
    for name in ["connection", "keep-alive", "x-inner", "upgrade"] {
        assert_eq!(response.field(name), None, "{name} went downstream");
    }
    assert_eq!(response.field("x-outer"), Some("2"));
}

/// `Connection: content-length` must not take the framing away, nor `host` the host.
#[test]
fn a_client_can_not_name_away_what_the_gateway_needs() {
    let upstream = Upstream::echo();
    let gateway = Gateway::start(proxy(&upstream));
    let response = gateway.ask(
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: content-length, host, x-forwarded-for\r\n\
         Content-Length: 2\r\n\r\nhi",
    );
    assert_eq!(response.text(), "hi");
    let request = upstream.request();
    assert_eq!(request.field("host"), Some("a"));
    assert_eq!(request.field("x-forwarded-for"), Some("127.0.0.1"));
}

/// The upstream gets the target as it was sent, whatever the route matched on.
#[test]
fn the_target_is_not_touched() {
    let upstream = Upstream::hello();
    let gateway = Gateway::start(proxy(&upstream));
    for target in ["/a/../b%20c//d?x=%2F&y", "/%7Euser", "/?", "/a;v=1,2"] {
        assert_eq!(gateway.get(target).status(), 200);
        let requests = upstream.requests();
        assert_eq!(requests.last().map(|request| request.target()), Some(target));
    }
}

#[test]
fn fields_keep_their_order_spelling_and_number() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 Fine\r\nSet-Cookie: a=1\r\nX-ODD-case: x\r\nSet-Cookie: b=2\r\n\
         Server: mine\r\nContent-Length: 0\r\n\r\n",
    );
    let gateway = Gateway::start(proxy(&upstream));
    let response = gateway.ask("GET / HTTP/1.1\r\nHost: a\r\nx-LIST: 1\r\nx-LIST: 2\r\n\r\n");
    assert_eq!(response.values("set-cookie"), ["a=1", "b=2"]);
    assert!(response.fields.iter().any(|(name, _)| name == "X-ODD-case"));
    assert_eq!(upstream.request().values("x-list"), ["1", "2"]);
    assert!(upstream.request().fields.iter().any(|(name, _)| name == "x-LIST"));
}

#[test]
fn a_name_is_resolved_when_it_is_loaded() {
    let upstream = Upstream::hello();
    let gateway = Gateway::start(format!(
        "routes: [{{uri: /*, upstream: {{nodes: {{\"127.0.0.1.:{0}\": 0, \"127.0.0.1:{0}\": 1}}}}}}]",
        upstream.address.port()
    ));
    assert_eq!(gateway.get("/").status(), 200);
}
