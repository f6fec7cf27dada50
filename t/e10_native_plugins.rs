//! Native plugins where sockets matter: what upstreams and clients really get, what is counted
//! across connections and workers, bodies in pieces. The rest is in the plugins' own tables.

use crate::harness::{Gateway, Setup, Upstream, drivers, eventually};
use std::io::Read;
use std::sync::{Arc, Barrier};

/// Routes by path, each with its plugins, in front of an upstream.
fn routes(upstream: &Upstream, rows: &[(&str, &str)]) -> String {
    let node = upstream.node();
    let route = |(path, plugins): &(&str, &str)| {
        format!("  - {{uri: {path}, plugins: {plugins}, upstream: {{nodes: {{\"{node}\": 1}}}}}}\n")
    };
    format!("routes:\n{}", rows.iter().map(route).collect::<String>())
}

#[test]
fn what_goes_upstream_and_what_comes_back() {
    for driver in drivers() {
        let upstream = Upstream::hello();
        let rewrite = "{proxy-rewrite: {regex_uri: ['^/u/(.*)', '/users?name=$1'], method: POST, \
            host: inner.example, headers: {set: {X-Name: $1}, remove: [X-Secret]}}, \
            response-rewrite: {status_code: 201, body: replaced, headers: {X-Status: $status}}}";
        let resources = routes(&upstream, &[("/u/*", rewrite)]);
        let gateway = Setup::new(resources).driver(*driver).start();
        let response =
            gateway.ask("GET /u/jack?x=1 HTTP/1.1\r\nHost: outer.example\r\nX-Secret: s\r\n\r\n");
        assert_eq!((response.status(), response.text().as_str()), (201, "replaced"));
        assert_eq!(response.field("content-length"), Some("8"));
        assert_eq!(response.field("x-status"), Some("201"));
        let request = upstream.request();
        assert_eq!((request.method(), request.target()), ("POST", "/users?name=jack&x=1"));
        assert_eq!(request.field("host"), Some("inner.example"));
        assert_eq!(request.field("x-forwarded-host"), Some("outer.example"));
        assert_eq!((request.field("x-name"), request.field("x-secret")), (Some("jack"), None));
    }
}

#[test]
fn clients_are_sent_elsewhere() {
    let upstream = Upstream::hello();
    let https = "{redirect: {http_to_https: true}}";
    let regex = "{redirect: {regex_uri: ['^/old/(.*)', '/new/$1'], append_query_string: true}}";
    let gateway = Gateway::start(routes(&upstream, &[("/s", https), ("/old/*", regex)]));
    let response =
        gateway.ask("POST /s?a=%0d HTTP/1.1\r\nHost: a.b:80\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(response.status(), 308);
    assert_eq!(response.field("location"), Some("https://a.b/s?a=%0d"));
    let response = gateway.get("/old/x?y");
    assert_eq!((response.status(), response.field("location")), (302, Some("/new/x?y")));
    assert!(response.text().contains("302 Found"), "{}", response.text());
    assert_eq!(upstream.connections(), 0);
}

/// `cors` and `request-id` go by the request as it came to them, whatever plugins after them do.
#[test]
fn what_the_client_sent_is_kept_for_the_response() {
    let upstream = Upstream::hello();
    let gone = "{cors: {allow_origins: 'https://a.com,https://b.com'}, request-id: {}, \
        proxy-rewrite: {headers: {remove: [Origin, X-Request-Id]}}}";
    let changed = "{request-id: {}, proxy-rewrite: {headers: {set: \
        {X-Request-Id: pre-$http_x_request_id}}}}";
    let gateway = Gateway::start(routes(&upstream, &[("/gone", gone), ("/changed", changed)]));
    let ask = |path: &str| {
        let fields = "Origin: https://b.com\r\nX-Request-Id: mine";
        gateway.ask(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n"))
    };
    let response = ask("/gone");
    assert_eq!(response.field("access-control-allow-origin"), Some("https://b.com"));
    assert_eq!(response.field("x-request-id"), Some("mine"));
    assert_eq!(ask("/changed").field("x-request-id"), Some("mine"));
    let sent = upstream.requests();
    assert_eq!((sent[0].field("origin"), sent[0].field("x-request-id")), (None, None));
    assert_eq!(sent[1].field("x-request-id"), Some("pre-mine"));
    let made = gateway.get("/gone").field("x-request-id").map(str::len);
    assert_eq!(made, Some(36));
}

/// Whose word counts for having come by HTTPS: without it a redirect would never end.
#[test]
fn only_trusted_clients_came_by_https() {
    for (trusted, status) in [("127.0.0.1", 200), ("192.0.2.0/24", 301)] {
        let upstream = Upstream::hello();
        let resources = routes(&upstream, &[("/s", "{redirect: {http_to_https: true}}")]);
        let trusted = format!("trusted_addresses: [{trusted}]");
        let gateway = Setup::new(resources).apisix(&trusted).start();
        let response =
            gateway.ask("GET /s HTTP/1.1\r\nHost: a.b\r\nX-Forwarded-Proto: https\r\n\r\n");
        assert_eq!(response.status(), status, "{trusted}");
    }
}

#[test]
fn the_told_address_is_the_clients() {
    let upstream = Upstream::hello();
    let plugins = "{real-ip: {source: http_x_forwarded_for, trusted_addresses: [127.0.0.0/8]}, \
        ip-restriction: {blacklist: [192.0.2.0/24]}, \
        proxy-rewrite: {headers: {X-Direct: $realip_remote_addr}}}";
    let gateway = Gateway::start(routes(&upstream, &[("/", plugins)]));
    let ask = |address: &str| {
        gateway.ask(format!("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {address}\r\n\r\n"))
    };
    assert_eq!(ask("203.0.113.7").status(), 200);
    let request = upstream.request();
    assert_eq!(request.field("x-real-ip"), Some("203.0.113.7"));
    assert_eq!(request.field("x-forwarded-for"), Some("203.0.113.7, 203.0.113.7"));
    assert_eq!(request.field("x-direct"), Some("127.0.0.1"));
    let refused = ask("203.0.113.7, 192.0.2.1");
    let body = "{\"message\":\"Your IP address is not allowed\"}\n";
    assert_eq!((refused.status(), refused.text().as_str()), (403, body));
}

/// A place is free again when its exchange is over.
#[test]
fn places_of_limit_conn_are_given_back() {
    for driver in drivers() {
        let gate = Arc::new(Barrier::new(2));
        let opened = Arc::clone(&gate);
        let upstream = Upstream::script(move |conversation| {
            while let Some(request) = conversation.request() {
                if request.target() == "/slow" {
                    opened.wait();
                }
                conversation.answer("done");
            }
        });
        let plugins = "{limit-conn: {conn: 1, burst: 0, default_conn_delay: 0.1, \
            key: remote_addr, rejected_code: 429}}";
        let resources = routes(&upstream, &[("/*", plugins)]);
        let gateway = Setup::new(resources).driver(*driver).start();
        for _ in 0..3 {
            assert_eq!(gateway.get("/quick").status(), 200);
        }
        let served = upstream.requests().len();
        let mut slow = gateway.client();
        slow.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
        eventually("the slow request is there", || upstream.requests().len() > served);
        assert_eq!(gateway.get("/quick").status(), 429);
        gate.wait();
        assert_eq!(slow.response().text(), "done");
        assert_eq!(gateway.get("/quick").status(), 200);
    }
}

#[test]
fn workers_count_together() {
    let upstream = Upstream::hello();
    let plugins = "{limit-count: {count: 5, time_window: 600, rejected_code: 429}}";
    let resources = routes(&upstream, &[("/", plugins)]);
    let gateway = Setup::new(resources).workers(2).start();
    let answers: Vec<(u16, String)> = (0..8)
        .map(|_| {
            let response = gateway.get("/");
            let left = response.field("x-ratelimit-remaining").unwrap_or_default().to_owned();
            (response.status(), left)
        })
        .collect();
    let passed = answers.iter().filter(|(status, _)| *status == 200).count();
    assert_eq!((passed, answers[4].1.as_str()), (5, "0"), "{answers:?}");
    assert_eq!((answers[7].0, answers[7].1.as_str()), (429, "0"));
}

#[test]
fn waiting_for_limit_req() {
    let upstream = Upstream::hello();
    let plugins = "{limit-req: {rate: 10, burst: 1, key: remote_addr}}";
    let gateway = Gateway::start(routes(&upstream, &[("/", plugins)]));
    let (mut first, mut second, mut third) = (gateway.client(), gateway.client(), gateway.client());
    let start = std::time::Instant::now();
    assert_eq!(first.get("/").status(), 200);
    second.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let waits = second.response();
    assert_eq!(waits.status(), 200);
    // The second was told to wait until a tenth of a second after the first.
    assert!(start.elapsed().as_millis() >= 85, "{:?}", start.elapsed());
    assert!([200, 503].contains(&third.get("/").status()));
}

#[test]
fn consumers_are_known() {
    let upstream = Upstream::hello();
    let mut resources = routes(
        &upstream,
        &[
            ("/key", "{key-auth: {hide_credentials: true}}"),
            (
                "/basic",
                "{basic-auth: {}, limit-count: {count: 1, time_window: 600, key: consumer_name}}",
            ),
        ],
    );
    resources.push_str(
        "consumers:\n  - {username: jack, plugins: {key-auth: {key: k1}, basic-auth: {username: j, \
         password: 'p:w'}}}\n  - {id: jack/credentials/c2, plugins: {key-auth: {key: k2}}}\n",
    );
    let gateway = Gateway::start(resources);
    assert_eq!(gateway.get("/key").status(), 401);
    assert_eq!(gateway.get("/key?apikey=k2&x").status(), 200);
    let request = upstream.request();
    assert_eq!(request.target(), "/key?x");
    assert_eq!(request.field("x-consumer-username"), Some("jack"));
    assert_eq!(request.field("x-credential-identifier"), Some("c2"));
    let basic = "GET /basic HTTP/1.1\r\nHost: a\r\nAuthorization: Basic ajpwOnc=\r\n\r\n";
    assert_eq!(gateway.ask(basic).status(), 200);
    assert_eq!(gateway.ask(basic).status(), 503);
    let refused = gateway.get("/basic");
    assert_eq!(refused.status(), 401);
    assert_eq!(refused.field("www-authenticate"), Some("Basic realm=\"basic\""));
}

#[test]
fn compressed_streams() {
    for driver in drivers() {
        let upstream = Upstream::script(|conversation| {
            while conversation.request().is_some() {
                conversation.send(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n",
                );
                for number in 0..50 {
                    let line = format!("line {number} of many\n").repeat(100);
                    conversation.send(format!("{:x}\r\n{line}\r\n", line.len()));
                }
                conversation.send("0\r\n\r\n");
            }
        });
        let plugins = "{gzip: {comp_level: 6}, response-rewrite: {filters: [{regex: 'line 7', \
            replace: seven}]}}";
        let resources = routes(&upstream, &[("/", "{gzip: {}}"), ("/seven", plugins)]);
        let gateway = Setup::new(resources).driver(*driver).start();
        let mut client = gateway.client();
        for (path, first) in [("/", "line 7"), ("/seven", "seven"), ("/", "line 7")] {
            client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n"));
            let response = client.response();
            assert_eq!(response.field("content-encoding"), Some("gzip"));
            let mut text = String::new();
            let mut decoder = flate2::read::GzDecoder::new(&response.body[..]);
            decoder.read_to_string(&mut text).expect("gzip");
            assert_eq!(text.lines().count(), 5000);
            assert!(text.contains(&format!("{first} of many")), "{path}");
            assert!(response.body.len() < text.len() / 10);
        }
        assert_eq!(client.get("/").field("content-encoding"), None);
    }
}

/// Trailers behind a body are no reason to leave it as it is, or to forget its end.
#[test]
fn bodies_with_trailers_are_changed_too() {
    for driver in drivers() {
        let upstream = Upstream::answering(
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n\
             3\r\nabc\r\n3\r\ndef\r\n0\r\nX-Sum: 1\r\n\r\n",
        );
        let filters = "response-rewrite: {filters: [{regex: cd, replace: '-'}]}";
        let rows = [
            ("/filters", format!("{{{filters}}}"), "ab-ef"),
            ("/body", "{response-rewrite: {body: new}}".to_owned(), "new"),
            ("/echo", "{echo: {before_body: '<', after_body: '>'}}".to_owned(), "<abcdef>"),
            ("/instead", "{echo: {body: new}}".to_owned(), "new"),
            ("/gzip", "{gzip: {}}".to_owned(), "abcdef"),
            ("/all", format!("{{gzip: {{}}, echo: {{after_body: '>'}}, {filters}}}"), "ab-ef>"),
        ];
        let plugins: Vec<_> = rows.iter().map(|(path, plugins, _)| (*path, &**plugins)).collect();
        let gateway = Setup::new(routes(&upstream, &plugins)).driver(*driver).start();
        let mut client = gateway.client();
        for (path, _, wanted) in &rows {
            client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n"));
            let response = client.response();
            assert_eq!(response.trailer("x-sum"), Some("1"), "{path}");
            let mut text = response.text();
            if response.field("content-encoding").is_some() {
                text.clear();
                let mut decoder = flate2::read::GzDecoder::new(&response.body[..]);
                decoder.read_to_string(&mut text).expect("gzip");
            }
            assert_eq!(text, *wanted, "{path}");
        }
    }
}
