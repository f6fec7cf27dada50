//! External plugin runners: what they are shown, what they decide, what they ask for. The rows are
//! those of APISIX's own tests (`t/plugin/ext-plugin`).

use crate::harness::runner::{
    Came, Changes, ERROR, INFO, PREPARE, REQUEST, RESPONSE, Runner, Talk, refused, request_body,
    response, response_body, rewrite, stop, token, unchanged, var,
};
use crate::harness::{Gateway, Setup, Upstream, drivers, eventually};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

const CONF: &str = "{conf: [{name: say, value: '{}'}]}";

/// A gateway whose one route has these plugins, and the socket where its runner is to listen.
pub(crate) fn setup(plugins: &str, upstream: &Upstream) -> (Setup, PathBuf) {
    let node = upstream.node();
    let setup = Setup::new(format!(
        "routes:\n  - {{id: r1, uri: /*, plugins: {{{plugins}}}, upstream: {{nodes: \
         {{\"{node}\": 1}}}}}}\n"
    ));
    let socket = setup.folder().path().join("runner.sock");
    let setup = setup.more(&format!("ext-plugin: {{path_for_test: {}}}", socket.display()));
    (setup, socket)
}

fn pre_req() -> String {
    format!("ext-plugin-pre-req: {CONF}")
}

fn post_resp() -> String {
    format!("ext-plugin-post-resp: {CONF}")
}

/// One request to a gateway whose runner replies so; gives what the client and the upstream got.
fn asked(
    plugins: &str,
    request: &str,
    upstream: Upstream,
    reply: impl Fn(&mut Talk, &Came) + Send + Sync + 'static,
) -> (crate::harness::Message, Vec<crate::harness::Message>) {
    let (setup, socket) = setup(plugins, &upstream);
    let _runner = Runner::answering(&socket, reply);
    let gateway = setup.start();
    (gateway.ask(request), upstream.requests())
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: test.local\r\nX-Req: foo\r\n\r\n")
}

#[test]
fn three_plugins_prepare_once_each() {
    for driver in drivers() {
        let upstream = Upstream::hello();
        let plugins = format!("{}, ext-plugin-post-req: {CONF}, {}", pre_req(), post_resp());
        let (setup, socket) = setup(&plugins, &upstream);
        let runner = Runner::answering(&socket, |talk, came| match came.kind {
            RESPONSE => talk.send(RESPONSE, &response(0, &[], b"")),
            _ => talk.send(REQUEST, &unchanged(came.id())),
        });
        let gateway = setup.driver(*driver).start();
        let mut client = gateway.client();
        assert_eq!(client.get("/").text(), "hello world\n");
        let first = [PREPARE, REQUEST, PREPARE, REQUEST, PREPARE, RESPONSE];
        assert_eq!(runner.kinds(), first);
        assert_eq!(client.get("/").text(), "hello world\n");
        assert_eq!(runner.kinds()[6..], [REQUEST, REQUEST, RESPONSE]);
        assert_eq!(runner.connections(), 1, "one after the other they need one connection");
        let keys: Vec<String> =
            runner.frames().iter().filter(|c| c.kind == PREPARE).map(Came::key).collect();
        for (key, plugin) in keys.iter().zip(["pre-req", "post-req", "post-resp"]) {
            assert!(key.starts_with(&format!("route#r1#ext-plugin-{plugin}#")), "{key}");
        }
        assert!(runner.calls().iter().all(|call| call.token == 233 && call.id != 0));
    }
}

#[test]
fn a_request_is_shown_whole() {
    let upstream = Upstream::hello();
    let (setup, socket) = setup(&pre_req(), &upstream);
    let runner = Runner::answering(&socket, |talk, came| {
        talk.send(REQUEST, &unchanged(came.id()));
    });
    let gateway = setup.start();
    let answer = gateway.ask(
        "PUT /hello?xx=y&xx=z&&y=&&z HTTP/1.1\r\nHost: localhost\r\nX-Req: foo\r\nX-Req: bar\r\n\
         X-Resp: cat\r\nContent-Length: 0\r\n\r\n",
    );
    assert_eq!(answer.status(), 200);
    let call = runner.call();
    assert_eq!((call.path.as_str(), call.method), ("/hello", 3));
    assert_eq!(call.src_ip, [127, 0, 0, 1]);
    let pair = |name: &str, value: Option<&str>| (name.to_owned(), value.map(str::to_owned));
    let args = [("xx", Some("y")), ("xx", Some("z")), ("y", Some("")), ("z", None)];
    assert_eq!(call.args, args.map(|(name, value)| pair(name, value)));
    let headers = [
        ("host", "localhost"),
        ("x-req", "foo"),
        ("x-req", "bar"),
        ("x-resp", "cat"),
        ("content-length", "0"),
    ];
    assert_eq!(call.headers, headers.map(|(name, value)| pair(name, Some(value))));
}

#[test]
fn a_runner_stops_a_request() {
    let table: [(u16, &[u8], u16, &str); 3] =
        [(0, b"hello", 200, "hello"), (418, b"tea", 418, "tea"), (204, b"", 204, "")];
    for (status, body, seen, text) in table {
        let reply = stop(status, &[("X-Same", Some("one")), ("x-same", Some("two"))], body);
        let (answer, requests) = asked(&pre_req(), &get("/"), Upstream::hello(), move |talk, _| {
            talk.send(REQUEST, &reply);
        });
        assert_eq!((answer.status(), answer.text().as_str()), (seen, text));
        assert_eq!(answer.values("x-same"), ["one", "two"]);
        assert!(requests.is_empty(), "nothing goes upstream");
    }
    let (answer, _) = asked(&pre_req(), &get("/"), Upstream::hello(), |talk, _| {
        talk.send(REQUEST, &stop(403, &[], b""));
    });
    assert_eq!(answer.status(), 403);
    assert!(answer.text().contains("<h1>403 Forbidden</h1>"), "{}", answer.text());
}

#[test]
fn a_runner_rewrites_a_request() {
    let reply = rewrite(Changes {
        path: Some("/uri x"),
        headers: &[("X-Add", Some("bar")), ("X-Req", None), ("Host", Some("other.local"))],
        args: &[("a", Some("foo")), ("a", Some("bar")), ("d", None), ("c", Some("bar"))],
        resp_headers: &[("X-Same", Some("one")), ("X-Same", Some("two")), ("Server", Some("x"))],
        body: b"",
    });
    let upstream = Upstream::hello();
    let (answer, requests) =
        asked(&pre_req(), &get("/hello?a=1&b=2&d=3"), upstream, move |talk, _| {
            talk.send(REQUEST, &reply);
        });
    assert_eq!(answer.values("x-same"), ["one", "two"]);
    let [request] = &requests[..] else { panic!("one request") };
    assert_eq!(request.target(), "/uri%20x?a=foo&a=bar&b=2&c=bar");
    assert_eq!(request.field("host"), Some("other.local"));
    assert_eq!((request.field("x-add"), request.field("x-req")), (Some("bar"), None));
}

#[test]
fn a_path_has_no_query() {
    let (_, requests) = asked(&pre_req(), &get("/hello"), Upstream::hello(), |talk, _| {
        talk.send(REQUEST, &rewrite(Changes { path: Some("/x?a=2"), ..Changes::default() }));
    });
    assert_eq!(requests[0].target(), "/x%3Fa=2");
}

#[test]
fn a_body_takes_anothers_place() {
    for driver in drivers() {
        let large = "x".repeat(300_000);
        for request in [
            get("/"),
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nold".to_owned(),
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nold\r\n0\r\n\r\n"
                .to_owned(),
            format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n{large}"),
        ] {
            let upstream = Upstream::echo();
            let (setup, socket) = setup(&pre_req(), &upstream);
            let _runner = Runner::answering(&socket, |talk, _| {
                talk.send(REQUEST, &rewrite(Changes { body: b"abc\n", ..Changes::default() }));
            });
            let gateway = setup.driver(*driver).start();
            let mut client = gateway.client();
            client.send(&request);
            assert_eq!(client.response().text(), "abc\n");
            assert_eq!(upstream.requests()[0].field("content-length"), Some("4"));
            // The connection is where it should be.
            assert_eq!(client.get("/again").text(), "abc\n");
        }
    }
}

#[test]
fn variables_and_bodies_are_told() {
    for driver in drivers() {
        let upstream = Upstream::echo();
        let (setup, socket) = setup(&pre_req(), &upstream);
        let _runner = Runner::answering(&socket, |talk, came| {
            let text = |bytes: Option<Vec<u8>>| {
                bytes.map_or("-".to_owned(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
            };
            let vars = ["server_addr", "remote_addr", "route_id", "arg_x", "unknown"];
            let mut told: Vec<String> =
                vars.iter().map(|name| text(talk.ask(&var(name)))).collect();
            told.push(text(talk.ask(&request_body())));
            told.push(text(talk.ask(&response_body())));
            told.push(text(talk.ask(&request_body())));
            let told = told.join(" ");
            let headers = [("X-Told", Some(told.as_str()))];
            assert_eq!(came.kind, REQUEST);
            talk.send(REQUEST, &rewrite(Changes { headers: &headers, ..Changes::default() }));
        });
        let gateway = setup.driver(*driver).start();
        let body = "name=a&value=b";
        for (request, told) in [
            (get("/?x="), "127.0.0.1 127.0.0.1 r1  - - - -".to_owned()),
            (
                format!("POST /?x=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 14\r\n\r\n{body}"),
                format!("127.0.0.1 127.0.0.1 r1 1 - {body} - {body}"),
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n7\r\nname=a&\r\n\
                 7\r\nvalue=b\r\n0\r\nX-Trailer: t\r\n\r\n"
                    .to_owned(),
                format!("127.0.0.1 127.0.0.1 r1 - - {body} - {body}"),
            ),
        ] {
            let seen = upstream.requests().len();
            let answer = gateway.ask(&request);
            let requests = upstream.requests();
            assert_eq!(requests[seen].field("x-told"), Some(told.as_str()), "{request}");
            assert_eq!(answer.body, requests[seen].body, "the body goes on as it was");
            assert_eq!(requests[seen].body.is_empty(), !request.starts_with("POST"));
        }
    }
}

/// The Java runner asks for all it needs before it reads an answer.
#[test]
fn questions_may_come_before_answers() {
    let upstream = Upstream::echo();
    let (setup, socket) = setup(&pre_req(), &upstream);
    let _runner = Runner::answering(&socket, |talk, came| {
        for question in [var("route_id"), request_body(), var("unknown"), var("uri")] {
            talk.send(INFO, &question);
        }
        let mut told = String::new();
        for _ in 0..4 {
            let answer = talk.receive().expect("an answer").answer().unwrap_or(b"-".to_vec());
            told.push_str(&String::from_utf8_lossy(&answer));
            told.push(';');
        }
        let headers = [("X-Told", Some(told.as_str()))];
        assert_eq!(came.kind, REQUEST);
        talk.send(REQUEST, &rewrite(Changes { headers: &headers, ..Changes::default() }));
    });
    let gateway = setup.start();
    let answer = gateway.ask("POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(answer.text(), "hello");
    assert_eq!(upstream.request().field("x-told"), Some("r1;hello;-;/p;"));
}

#[test]
fn responses_change() {
    for driver in drivers() {
        let page = "HTTP/1.1 200 OK\r\nContent-Type: text/x\r\nX-Up: 1\r\nContent-Length: 3\r\n\r\n\
                    dog";
        let chunked = "HTTP/1.1 200 OK\r\nContent-Type: text/x\r\nX-Up: 1\r\nTransfer-Encoding: \
                       chunked\r\n\r\n1\r\nd\r\n2\r\nog\r\n0\r\n\r\n";
        for page in [page, chunked] {
            let upstream = Upstream::answering(page);
            let (setup, socket) = setup(&post_resp(), &upstream);
            let runner = Runner::answering(&socket, |talk, came| {
                assert_eq!(came.kind, RESPONSE);
                let reply = match talk.ask(&var("uri")).as_deref() {
                    Some(b"/status") => response(304, &[], b""),
                    Some(b"/headers") => {
                        let headers = [("X-A", Some("1")), ("X-A", Some("2")), ("x-up", None)];
                        response(0, &headers, b"")
                    }
                    Some(b"/cat") => response(0, &[], b"cat"),
                    Some(b"/body") => {
                        let body = talk.ask(&response_body()).expect("a body");
                        response(201, &[], &[&body[..], b" and cat"].concat())
                    }
                    _ => response(0, &[], b""),
                };
                talk.send(RESPONSE, &reply);
            });
            let gateway = setup.driver(*driver).start();
            let mut client = gateway.client();
            let answer = client.get("/none");
            assert_eq!((answer.status(), answer.text().as_str()), (200, "dog"));
            let answer = client.get("/status");
            assert_eq!(answer.status(), 304);
            let answer = client.get("/headers");
            assert_eq!((answer.status(), answer.text().as_str()), (200, "dog"));
            assert_eq!(answer.values("x-a"), ["1", "2"]);
            assert_eq!(answer.field("x-up"), None);
            assert_eq!(answer.field("content-type"), Some("text/x"));
            for (path, status, body) in [("/cat", 200, "cat"), ("/body", 201, "dog and cat")] {
                let answer = client.get(path);
                assert_eq!((answer.status(), answer.text().as_str()), (status, body));
                assert_eq!(answer.field("content-type"), Some("text/x"), "it is kept");
            }
            let shown = &runner.calls()[0];
            assert_eq!(shown.status, 200);
            assert!(shown.headers.contains(&("X-Up".to_owned(), Some("1".to_owned()))));
        }
    }
}

/// APISIX's plugin calls the node itself and loses its balancer; here a dead node is passed over.
#[test]
fn responses_come_the_usual_way() {
    let (upstream, refusing) = (Upstream::hello(), crate::harness::Refusing::new());
    let nodes = format!("{{\"{}\": 1, \"{}\": 1}}", upstream.node(), refusing.node());
    let setup = Setup::new(format!(
        "routes:\n  - {{uri: /*, plugins: {{{}}}, upstream: {{nodes: {nodes}}}}}\n",
        post_resp()
    ));
    let socket = setup.folder().path().join("runner.sock");
    let _runner = Runner::answering(&socket, |talk, _| {
        talk.send(RESPONSE, &response(0, &[("X-Seen", Some("yes"))], b""));
    });
    let gateway =
        setup.more(&format!("ext-plugin: {{path_for_test: {}}}", socket.display())).start();
    for _ in 0..4 {
        let answer = gateway.get("/");
        assert_eq!((answer.status(), answer.field("x-seen")), (200, Some("yes")));
    }
}

#[test]
fn a_forgotten_token_is_asked_for_again() {
    let upstream = Upstream::hello();
    let (setup, socket) = setup(&pre_req(), &upstream);
    let next = AtomicU32::new(1);
    let runner = Runner::script(&socket, move |talk| {
        while let Some(came) = talk.receive() {
            match came.kind {
                PREPARE => talk.send(PREPARE, &token(next.fetch_add(1, Ordering::Relaxed))),
                _ if next.load(Ordering::Relaxed) < 4 => talk.send(ERROR, &refused(2)),
                _ => talk.send(REQUEST, &unchanged(came.id())),
            }
        }
    });
    let gateway = setup.start();
    assert_eq!(gateway.get("/").status(), 200);
    assert_eq!(runner.kinds(), [PREPARE, REQUEST, PREPARE, REQUEST, PREPARE, REQUEST]);
}

/// The official Java runner sends every token twice.
#[test]
fn a_token_that_comes_twice() {
    for driver in drivers() {
        let upstream = Upstream::hello();
        let (setup, socket) = setup(&pre_req(), &upstream);
        let runner = Runner::script(&socket, |talk| {
            while let Some(came) = talk.receive() {
                match came.kind {
                    PREPARE => {
                        talk.send(PREPARE, &token(7));
                        talk.send(PREPARE, &token(7));
                    }
                    _ => talk.send(REQUEST, &stop(201, &[], b"")),
                }
            }
        });
        let gateway = setup.driver(*driver).start();
        let mut client = gateway.client();
        for _ in 0..3 {
            assert_eq!(client.get("/").status(), 201);
        }
        assert_eq!(runner.kinds(), [PREPARE, REQUEST, REQUEST, REQUEST]);
        assert_eq!(runner.connections(), 1);
    }
}

/// APISIX makes a connection for each request beyond its pool, and closes it again.
#[test]
fn more_clients_than_connections_make_no_more_of_them() {
    for driver in drivers() {
        let upstream = Upstream::hello();
        let (setup, socket) = setup(&pre_req(), &upstream);
        let runner = Runner::answering(&socket, |talk, came| {
            talk.send(REQUEST, &unchanged(came.id()));
        });
        let path = format!("ext-plugin: {{path_for_test: {}", socket.display());
        let setup = setup.metrics().driver(*driver);
        let config = setup.write_with(&format!("{path}}}"), &format!("{path}, connections: 4}}"));
        let gateway = setup.start_written(&config);
        let mut clients: Vec<_> = (0..64).map(|_| gateway.client()).collect();
        for _ in 0..10 {
            for client in &mut clients {
                client.send(get("/"));
            }
            for client in &mut clients {
                assert_eq!(client.response().status(), 200);
            }
        }
        let prepared = runner.kinds().iter().filter(|kind| **kind == PREPARE).count();
        assert_eq!(prepared, 1, "they share a token");
        assert_eq!(runner.calls().len(), 640);
        assert_eq!(runner.connections(), 4, "{driver:?}");
        for (name, wanted) in [
            ("connections", 4.0),
            ("waiting", 0.0),
            ("calls_total", 640.0),
            ("failures_total", 0.0),
            ("running", 0.0),
            ("restarts_total", 0.0),
        ] {
            let sample = format!("ringgate_runner_{name}{{runner=\"\"}}");
            eventually(&sample, || gateway.metric(&sample) == Some(wanted));
        }
    }
}

#[test]
fn several_runners_have_names() {
    let upstream = Upstream::hello();
    let setup = Setup::new(format!(
        "routes:\n  - {{uri: /a, plugins: {{ext-plugin-pre-req: {{runner: a}}}}, upstream: \
         {{nodes: {{\"{node}\": 1}}}}}}\n  - {{uri: /b, plugins: {{ext-plugin-pre-req: {{runner: \
         b}}}}, upstream: {{nodes: {{\"{node}\": 1}}}}}}\n",
        node = upstream.node()
    ));
    let folder = setup.folder().path().to_owned();
    let runners: Vec<Runner> = ["a", "b"]
        .map(|name| {
            Runner::answering(&folder.join(name), move |talk, _| {
                talk.send(REQUEST, &stop(200, &[], name.as_bytes()));
            })
        })
        .into();
    let sockets = ["a", "b"].map(|name| format!("{name}: {{socket: {}/{name}}}", folder.display()));
    let gateway =
        setup.more(&format!("ext-plugin: {{runners: {{{}}}}}", sockets.join(", "))).start();
    let gateway: Gateway = gateway;
    for (path, runner) in [("/a", &runners[0]), ("/b", &runners[1])] {
        assert_eq!(gateway.get(path).text(), path[1..]);
        assert_eq!(runner.calls().len(), 1);
    }
}
