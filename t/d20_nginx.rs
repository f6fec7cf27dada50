//! A real nginx: as the upstream, and as the one whose answers ours are compared with.

use crate::harness::{Gateway, Message, Nginx, Wire};

fn proxy(nginx: &Nginx) -> String {
    format!("routes: [{{uri: /*, upstream: {{nodes: {{\"{}\": 1}}}}}}]", nginx.node())
}

#[test]
fn files_ranges_and_conditions() {
    let Some(nginx) = Nginx::start("location / { }") else { return };
    let content: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
    nginx.file("large.bin", &content);
    nginx.file("small.txt", "0123456789");
    let gateway = Gateway::start(proxy(&nginx));
    let mut client = gateway.client();
    assert!(client.get("/large.bin").body == content, "a large file came changed");
    let small = client.get("/small.txt");
    assert_eq!(small.text(), "0123456789");
    let tag = small.field("etag").expect("nginx gives a tag").to_owned();
    client.send(format!("GET /small.txt HTTP/1.1\r\nHost: a\r\nIf-None-Match: {tag}\r\n\r\n"));
    assert_eq!(client.response().status(), 304);
    client.send("GET /small.txt HTTP/1.1\r\nHost: a\r\nRange: bytes=2-4\r\n\r\n");
    let part = client.response();
    assert_eq!((part.status(), part.text().as_str()), (206, "234"));
    client.send("HEAD /small.txt HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response_to_head().field("content-length"), Some("10"));
    assert_eq!(client.get("/none").status(), 404);
    assert_eq!(client.get("/small.txt").text(), "0123456789");
}

#[test]
fn nginx_understands_what_it_gets() {
    let server = "client_max_body_size 20m; location / { return 200 \
        \"$request_method $uri $http_host $http_x_real_ip $http_x_forwarded_for $server_protocol\"; }";
    let Some(nginx) = Nginx::start(server) else { return };
    let gateway = Gateway::start(proxy(&nginx));
    let mut client = gateway.client();
    for method in ["GET", "DELETE", "OPTIONS"] {
        client.send(format!("{method} /a%20b HTTP/1.1\r\nHost: h.test\r\n\r\n"));
        let wanted = format!("{method} /a b h.test 127.0.0.1 127.0.0.1 HTTP/1.1");
        assert_eq!(client.response().text(), wanted);
    }
    client.send("POST /p HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..100 {
        client.send(format!("2710\r\n{}\r\n", "x".repeat(10_000)));
    }
    client.send("0\r\n\r\n");
    assert_eq!(client.response().text(), "POST /p h 127.0.0.1 127.0.0.1 HTTP/1.1");
}

/// What variables are, by the one who invented them. Two are APISIX's own: `request_uri` is made of
/// the normalised path, and `arg_*` are decoded.
#[test]
fn variables_are_those_of_nginx() {
    const NAMES: [&str; 16] = [
        "uri",
        "args",
        "query_string",
        "is_args",
        "arg_a",
        "arg_b",
        "host",
        "http_host",
        "http_x_y",
        "cookie_c",
        "request_method",
        "scheme",
        "remote_addr",
        "server_protocol",
        "content_length",
        "http_user_agent",
    ];
    let shown: String = NAMES.iter().map(|name| format!("[{name}=${name}]")).collect();
    let Some(nginx) = Nginx::start(&format!("location / {{ return 200 \"{shown}\"; }}")) else {
        return;
    };
    let gateway = Gateway::start(format!(
        "routes: [{{uri: /*, plugins: {{fault-injection: {{abort: {{http_status: 200, body: '{shown}'}}}}}}}}]"
    ));
    for request in [
        "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /a%20b//c/../d?a=1&b=x&a=2 HTTP/1.1\r\nHost: H.Test:80\r\n\r\n",
        "GET /x? HTTP/1.1\r\nHost: h.\r\n\r\n",
        "GET /%2e%2e%2fa/./b/ HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n",
        "GET /a?b=&a=x HTTP/1.1\r\nHost: h\r\nX-Y: one\r\nCookie: b=1; c=2\r\n\r\n",
        "POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
        "GET /%c3%a9+%2B HTTP/1.1\r\nHost: h\r\n\r\n",
    ] {
        let theirs = ask(nginx.wire(), request);
        let ours = ask(Wire::connect(gateway.address), request);
        if theirs.status() == 400 {
            assert_eq!(ours.status(), 400, "{request:?}");
        } else {
            assert_eq!(ours.text(), theirs.text(), "{request:?}");
        }
    }
}

fn ask(mut wire: Wire, request: &str) -> Message {
    assert!(wire.send(request));
    let mut message = wire.head().expect("a head");
    let framing = message.response_framing(false);
    wire.body(&mut message, framing).expect("a body");
    message
}

/// Which paths are the same to a router.
#[test]
fn paths_are_normalised_as_nginx_does() {
    let Some(nginx) = Nginx::start("location / { return 200 \"$uri\"; }") else { return };
    let gateway = Gateway::start(
        "routes: [{uri: /*, plugins: {fault-injection: {abort: {http_status: 200, body: $uri}}}}]",
    );
    for path in [
        "/",
        "//",
        "///a",
        "/a/",
        "/a/.",
        "/a/./",
        "/a/..",
        "/a/../",
        "/a/b/../../c",
        "/a/...",
        "/.a",
        "/a./b",
        "/%61",
        "/%2f",
        "/a%2fb",
        "/a%2F..%2Fb",
        "/%2e/a",
        "/%2E%2E/a",
        "/a%20b",
        "/a%3fb",
        "/a%23b",
        "/a%25b",
        "/a%2525",
        "/a+b",
        "/a%zz",
        "/a%2",
        "/a%",
        "/%00",
        "/..",
        "/a/../../b",
        "/a\\b",
        "/a;b/c",
        "/*",
        "/a:b",
        "/~a",
        "/\"a\"",
        "/a|b",
        "/{a}",
        "/a^b",
        "/a`b",
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n");
        let theirs = ask(nginx.wire(), &request);
        let ours = ask(Wire::connect(gateway.address), &request);
        assert_eq!(ours.status(), theirs.status(), "{path}");
        if ours.status() == 200 {
            assert_eq!(ours.text(), theirs.text(), "{path}");
        }
    }
}

/// What both refuse. nginx takes some things that we do not; nothing the other way round.
#[test]
fn nothing_is_taken_that_nginx_refuses() {
    let Some(nginx) = Nginx::start("location / { return 200 ok; }") else { return };
    let gateway = Gateway::start(
        "routes: [{uri: /*, plugins: {fault-injection: {abort: {http_status: 200, body: ok}}}}]",
    );
    for request in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nA: b\0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\nx",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
        "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1 x\r\nHost: a\r\n\r\n",
        "GET / HTTX/1.1\r\nHost: a\r\n\r\n",
        "GET /../a HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET a HTTP/1.1\r\nHost: a\r\n\r\n",
        "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let theirs = ask(nginx.wire(), request).status();
        let ours = ask(Wire::connect(gateway.address), request).status();
        assert!(theirs == 200 || ours >= 400, "{request:?}: nginx {theirs}, ringgate {ours}");
    }
}
