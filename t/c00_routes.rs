//! Which route a request finds: paths, hosts, methods, addresses, vars, priorities, status.

use crate::harness::{Gateway, Setup};

/// Routes that answer with their own name; `fields` is what each matches by.
fn routes(fields: &[(&str, &str)]) -> String {
    let route = |(name, fields): &(&str, &str)| {
        format!(
            "  - {{id: {name}, {fields}, plugins: {{fault-injection: {{abort: {{http_status: 200, \
             body: {name}}}}}}}}}\n"
        )
    };
    format!("routes:\n{}", fields.iter().map(route).collect::<String>())
}

fn start(fields: &[(&str, &str)]) -> Gateway {
    Gateway::start(routes(fields))
}

/// The name of the route found for a method, host and path; its status if none answers.
#[track_caller]
fn found(gateway: &Gateway, method: &str, host: &str, path: &str) -> String {
    let response = gateway.ask(format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    match response.status() {
        200 => response.text(),
        status => status.to_string(),
    }
}

#[track_caller]
fn check(gateway: &Gateway, rows: &[(&str, &str, &str, &str)]) {
    for (method, host, path, wanted) in rows {
        let found = found(gateway, method, host, path);
        assert_eq!(found, *wanted, "{method} {host}{path}");
    }
}

#[test]
fn exact_paths_then_the_longest_prefix() {
    let gateway = start(&[
        ("all", "uri: /*"),
        ("exact", "uri: /a/b"),
        ("segment", "uri: /a/*"),
        ("raw", "uri: /a*"),
        ("middle", "uri: /m/*/end"),
        ("two", "uris: [/one, /two]"),
        ("literal", "uri: /p/:id"),
    ]);
    check(
        &gateway,
        &[
            ("GET", "h", "/a/b", "exact"),
            ("GET", "h", "/a/b/", "segment"),
            ("GET", "h", "/a/", "segment"),
            ("GET", "h", "/a", "raw"),
            ("GET", "h", "/abc", "raw"),
            ("GET", "h", "/b", "all"),
            ("GET", "h", "/", "all"),
            ("GET", "h", "/m/x/end", "middle"),
            ("GET", "h", "/m/x/other", "all"),
            ("GET", "h", "/one", "two"),
            ("GET", "h", "/two?x=/one", "two"),
            ("GET", "h", "/p/:id", "literal"),
            ("GET", "h", "/p/7", "all"),
        ],
    );
}

/// What is routed on is nginx's `$uri`: decoded, dots resolved, slashes merged.
#[test]
fn paths_are_normalised_first() {
    let gateway = start(&[("target", "uri: /a/b c"), ("all", "uri: /*")]);
    check(
        &gateway,
        &[
            ("GET", "h", "/a/b%20c", "target"),
            ("GET", "h", "//a///b%20c", "target"),
            ("GET", "h", "/x/../a/./b%20c", "target"),
            ("GET", "h", "/x%2f..%2fa/%62%20c", "target"),
            ("GET", "h", "/A/b%20c", "all"),
            ("GET", "h", "/a/b%2520c", "all"),
        ],
    );
}

#[test]
fn hosts_go_before_paths() {
    let gateway = start(&[
        ("path", "uri: /deep/path"),
        ("exact", "uri: /*, host: a.foo.test"),
        ("wild", "uri: /*, host: \"*.foo.test\""),
        ("wilder", "uri: /*, host: \"*.test\""),
        ("list", "uri: /*, hosts: [one.example, Two.Example]"),
        ("inner", "uri: /only, host: b.foo.test"),
    ]);
    check(
        &gateway,
        &[
            ("GET", "a.foo.test", "/deep/path", "exact"),
            ("GET", "A.FOO.TEST:8080", "/x", "exact"),
            ("GET", "x.y.foo.test", "/deep/path", "wild"),
            ("GET", "foo.test", "/x", "wilder"),
            ("GET", "bar.test", "/x", "wilder"),
            ("GET", "two.example", "/x", "list"),
            ("GET", "other", "/deep/path", "path"),
            ("GET", "other", "/x", "404"),
            // No path of the exact host fits: the next wider one is asked.
            ("GET", "b.foo.test", "/only", "inner"),
            ("GET", "b.foo.test", "/x", "wild"),
        ],
    );
}

#[test]
fn radixtree_uri_asks_for_the_path_first() {
    let fields = [("path", "uri: /deep/path"), ("host", "uri: /*, host: a.test")];
    let setup = Setup::new(routes(&fields));
    let listen = "apisix:\n  node_listen:";
    let config =
        setup.write_with(listen, "apisix:\n  router: {http: radixtree_uri}\n  node_listen:");
    let gateway = setup.start_written(&config);
    check(&gateway, &[("GET", "a.test", "/deep/path", "path"), ("GET", "a.test", "/x", "host")]);
}

#[test]
fn methods() {
    let gateway = start(&[
        ("write", "uri: /a, methods: [POST, PUT]"),
        ("read", "uri: /a, methods: [GET]"),
        ("purge", "uri: /b, methods: [PURGE]"),
        ("any", "uri: /c"),
    ]);
    check(
        &gateway,
        &[
            ("GET", "h", "/a", "read"),
            ("POST", "h", "/a", "write"),
            ("PUT", "h", "/a", "write"),
            ("DELETE", "h", "/a", "404"),
            ("PURGE", "h", "/b", "purge"),
            ("get", "h", "/a", "404"),
            ("BREW", "h", "/a", "404"),
            ("BREW", "h", "/c", "any"),
        ],
    );
}

#[test]
fn addresses() {
    let gateway = start(&[
        ("far", "uri: /a, remote_addr: 10.0.0.0/8"),
        ("near", "uri: /a, remote_addrs: [192.168.0.1, 127.0.0.0/8]"),
        ("exactly", "uri: /b, remote_addr: 127.0.0.1"),
        ("never", "uri: /c, remote_addr: 127.0.0.2"),
    ]);
    check(
        &gateway,
        &[("GET", "h", "/a", "near"), ("GET", "h", "/b", "exactly"), ("GET", "h", "/c", "404")],
    );
}

#[test]
fn vars() {
    let gateway = start(&[
        ("both", "uri: /a, priority: 3, vars: [[arg_name, ==, jack], [arg_age, \">\", 18]]"),
        ("header", "uri: /a, priority: 2, vars: [[http_x_kind, in, [one, two]]]"),
        ("either", "uri: /a, priority: 1, vars: [OR, [cookie_c, ==, y], [uri, \"~~\", \"^/zzz\"]]"),
        ("rest", "uri: /a"),
    ]);
    let with = |path: &str, field: &str| {
        let field = if field.is_empty() { String::new() } else { format!("{field}\r\n") };
        gateway.ask(format!("GET {path} HTTP/1.1\r\nHost: h\r\n{field}\r\n")).text()
    };
    for (path, field, wanted) in [
        ("/a?name=jack&age=20", "", "both"),
        ("/a?name=jack&age=18", "", "rest"),
        ("/a?name=jill&age=20", "", "rest"),
        ("/a", "X-Kind: two", "header"),
        ("/a?name=jack&age=19", "X-Kind: two", "both"),
        ("/a", "X-Kind: three", "rest"),
        ("/a", "Cookie: b=x; c=y", "either"),
        ("/a", "Cookie: c=x", "rest"),
    ] {
        assert_eq!(with(path, field), wanted, "{path} {field}");
    }
}

/// A priority decides among routes of the same path; a shorter prefix never wins by it.
#[test]
fn priorities() {
    let gateway = start(&[
        ("low", "uri: /a/*"),
        ("high", "uri: /a/*, priority: 5"),
        ("shorter", "uri: /*, priority: 100"),
        ("first", "uri: /same"),
        ("second", "uri: /same"),
    ]);
    check(
        &gateway,
        &[
            ("GET", "h", "/a/x", "high"),
            ("GET", "h", "/b", "shorter"),
            ("GET", "h", "/same", "first"),
        ],
    );
}

#[test]
fn a_route_of_status_0_is_not_there() {
    let gateway =
        start(&[("off", "uri: /a, status: 0, priority: 9"), ("on", "uri: /a, status: 1")]);
    check(&gateway, &[("GET", "h", "/a", "on")]);
}

#[test]
fn no_route_is_404_with_a_body() {
    let gateway = Gateway::start("routes: []");
    let response = gateway.get("/nothing");
    assert_eq!(response.status(), 404);
    assert_eq!(response.text(), "{\"error_msg\":\"404 Route Not Found\"}\n");
    assert_eq!(response.field("content-type"), Some("text/plain; charset=utf-8"));
    let mut client = gateway.client();
    for _ in 0..2 {
        assert_eq!(client.get("/nothing").status(), 404, "the connection persists");
    }
    client.send("HEAD /nothing HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response_to_head().field("content-length"), Some("36"));
}

/// Lookup does not slow down with many routes, and finds the right one among them.
#[test]
fn ten_thousand_routes() {
    let many: String = (0..10_000)
        .map(|n| {
            format!(
                "  - {{uri: /r/{n}/*, plugins: {{fault-injection: {{abort: {{http_status: 200, \
                 body: \"{n}\"}}}}}}}}\n"
            )
        })
        .collect();
    let gateway = Gateway::start(format!("routes:\n{many}"));
    for n in [0, 1, 999, 5_000, 9_999] {
        assert_eq!(gateway.get(&format!("/r/{n}/x")).text(), n.to_string());
    }
    assert_eq!(gateway.get("/r/10000/x").status(), 404);
}
