//! The plugins of `examples/plugins` that talk to other services: forward-auth and access-log.

use crate::harness::{
    Conversation, Gateway, Message, Refusing, Setup, Upstream, drivers, eventually,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// A gateway with one plugin in front of an upstream. The plugin's service is named `service`.
fn setup(upstream: &Upstream, service: &str, module: &str, conf: &Value) -> Setup {
    let resources = json!({
        "upstreams": [{"id": "service", "nodes": {service: 1}, "retries": 0}],
        "routes": [{
            "uri": "/*",
            "name": "the-route",
            "plugins": {"plugin": {"conf": conf}},
            "upstream": {"nodes": {upstream.node(): 1}},
        }],
    });
    Setup::new(resources.to_string()).wasm("plugin", module, "")
}

fn ask(gateway: &Gateway, fields: &str) -> Message {
    gateway.ask(format!("GET /page?x=1 HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n"))
}

const FORWARD_AUTH: &str = "dist/forward_auth_rust.wasm";

/// A service that knows two bearers and is slow about a third.
fn service() -> Upstream {
    Upstream::script(|conversation: &mut Conversation| {
        while let Some(request) = conversation.request() {
            match request.field("authorization") {
                Some("good") => conversation.send(
                    "HTTP/1.1 204 No Content\r\nX-User: alice\r\nX-Role: a\r\nX-Role: b\r\n\
                     X-Private: 1\r\n\r\n",
                ),
                Some("plain") => conversation.answer("welcome"),
                Some("slow") => return conversation.stall(),
                _ => conversation.send(
                    "HTTP/1.1 401 Unauthorized\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\
                     WWW-Authenticate: Basic realm=\"r\"\r\nX-Private: 1\r\n\r\nwho?\n",
                ),
            }
        }
    })
}

fn auth_conf() -> Value {
    json!({
        "upstream": "service",
        "path": "/check",
        "authority": "auth.test",
        "request_headers": ["Authorization", "x-forwarded-host", "x-absent"],
        "upstream_headers": ["X-User", "x-role"],
        "client_headers": ["WWW-Authenticate"],
        "timeout": 20_000,
    })
}

#[test]
fn who_is_known_passes() {
    for driver in drivers() {
        let (upstream, service) = (Upstream::echo(), service());
        let setup = setup(&upstream, &service.node(), FORWARD_AUTH, &auth_conf());
        let gateway = setup.driver(*driver).start();
        let mut client = gateway.client();
        for _ in 0..2 {
            client.send(
                "POST /page?x=1 HTTP/1.1\r\nHost: a.test\r\nAuthorization: good\r\nX-User: mallory\r\n\
                 X-Forwarded-Host: b.test\r\nCookie: c\r\nContent-Length: 5\r\n\r\nhello",
            );
            let response = client.response();
            assert_eq!((response.status(), response.text().as_str()), (200, "hello"));
        }
        for request in upstream.requests() {
            assert_eq!(request.field("x-user"), Some("alice"));
            assert_eq!(request.values("x-role"), ["a", "b"]);
            assert_eq!(request.field("x-private"), None);
            assert_eq!(request.text(), "hello");
        }
        assert_eq!(upstream.requests().len(), 2);
        for request in service.requests() {
            assert_eq!((request.method(), request.target()), ("GET", "/check"));
            assert_eq!(request.field("host"), Some("auth.test"));
            assert_eq!(request.field("authorization"), Some("good"));
            assert_eq!(request.field("x-forwarded-proto"), Some("http"));
            assert_eq!(request.field("x-forwarded-method"), Some("POST"));
            assert_eq!(request.field("x-forwarded-host"), Some("a.test"));
            assert_eq!(request.field("x-forwarded-uri"), Some("/page?x=1"));
            assert_eq!(request.field("x-forwarded-for"), Some("127.0.0.1"));
            assert_eq!(request.field("cookie"), None);
        }
    }
}

#[test]
fn only_the_service_says_who_it_is() {
    let (upstream, service) = (Upstream::hello(), service());
    let gateway = setup(&upstream, &service.node(), FORWARD_AUTH, &auth_conf()).start();
    let response = ask(&gateway, "Authorization: plain\r\nX-User: mallory\r\n");
    assert_eq!(response.text(), "hello world\n");
    assert_eq!(upstream.request().field("x-user"), None);
}

#[test]
fn who_is_not_known_gets_the_services_answer() {
    for driver in drivers() {
        let (upstream, service) = (Upstream::hello(), service());
        let setup = setup(&upstream, &service.node(), FORWARD_AUTH, &auth_conf());
        let response = ask(&setup.driver(*driver).start(), "Authorization: bad\r\n");
        assert_eq!((response.status(), response.text().as_str()), (401, "who?\n"));
        assert_eq!(response.field("content-type"), Some("text/plain"));
        assert_eq!(response.field("www-authenticate"), Some("Basic realm=\"r\""));
        assert_eq!(response.field("x-private"), None);
        assert!(upstream.requests().is_empty());
    }
}

/// Each answer finds the request that asked, whatever else is under way.
#[test]
fn many_ask_at_once() {
    let (upstream, service) = (Upstream::hello(), service());
    let gateway = setup(&upstream, &service.node(), FORWARD_AUTH, &auth_conf()).start();
    std::thread::scope(|scope| {
        for client in 0..8 {
            let gateway = &gateway;
            scope.spawn(move || {
                let mut connection = gateway.client();
                for request in 0..20 {
                    let known = (client + request) % 3 > 0;
                    let who = if known { "good" } else { "bad" };
                    connection
                        .send(format!("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: {who}\r\n\r\n"));
                    assert_eq!(connection.response().status(), if known { 200 } else { 401 });
                }
            });
        }
    });
}

#[test]
fn a_service_that_does_not_answer() {
    let upstream = Upstream::hello();
    let slow = service();
    let refusing = Refusing::new();
    let garbage = Upstream::once("no HTTP at all\r\n\r\n");
    for node in [slow.node(), refusing.node(), garbage.node()] {
        let mut conf = auth_conf();
        conf["timeout"] = json!(300);
        let gateway = setup(&upstream, &node, FORWARD_AUTH, &conf).start();
        let begin = Instant::now();
        assert_eq!(ask(&gateway, "Authorization: slow\r\n").status(), 503, "{node}");
        assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
        assert!(upstream.requests().is_empty());
    }
    for (key, value, status) in
        [("status_on_error", json!(403), 403), ("allow_degradation", json!(true), 200)]
    {
        let mut conf = auth_conf();
        conf[key] = value;
        let gateway = setup(&upstream, &refusing.node(), FORWARD_AUTH, &conf).start();
        assert_eq!(ask(&gateway, "Authorization: good\r\n").status(), status, "{key}");
    }
}

/// An upstream that is none can't be asked, and nobody passes for that.
#[test]
fn a_service_without_a_name() {
    let upstream = Upstream::hello();
    let mut conf = auth_conf();
    conf["upstream"] = json!("no-such-upstream");
    let gateway = setup(&upstream, &upstream.node(), FORWARD_AUTH, &conf).start();
    assert_eq!(ask(&gateway, "Authorization: good\r\n").status(), 503);
    assert!(upstream.requests().is_empty());
}

const ACCESS_LOG: &str = "dist/access_log_go.wasm";

fn log_conf(batch: u32, milliseconds: u32) -> Value {
    json!({
        "upstream": "service",
        "path": "/logs",
        "batch_max_size": batch,
        "inactive_timeout": milliseconds,
        "headers": ["User-Agent", "x-absent"],
    })
}

/// The lines of each request that the collector got.
fn batches(collector: &Upstream) -> Vec<Vec<Value>> {
    let lines = |request: &Message| -> Vec<Value> {
        let text = request.text();
        assert!(text.ends_with('\n'), "{text}");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    collector.requests().iter().map(lines).collect()
}

#[test]
fn a_request_is_logged() {
    for driver in drivers() {
        let (upstream, collector) = (Upstream::hello(), Upstream::hello());
        let setup = setup(&upstream, &collector.node(), ACCESS_LOG, &log_conf(100, 50));
        let gateway = setup.driver(*driver).start();
        assert_eq!(ask(&gateway, "User-Agent: t \"1\"\r\n").status(), 200);
        eventually("a line came", || !collector.requests().is_empty());
        let request = collector.request();
        assert_eq!((request.method(), request.target()), ("POST", "/logs"));
        assert_eq!(request.field("host"), Some("service"));
        assert_eq!(request.field("content-type"), Some("application/x-ndjson"));
        let line: Value = serde_json::from_slice(&request.body).expect("one line of JSON");
        for (name, wanted) in [
            ("method", json!("GET")),
            ("host", json!("a.test")),
            ("path", json!("/page?x=1")),
            ("status", json!(200)),
            ("route", json!("the-route")),
            ("headers", json!({"user-agent": "t \"1\""})),
        ] {
            assert_eq!(line[name], wanted, "{name} of {line}");
        }
        assert!(line["time"].as_str().is_some_and(|time| time.starts_with("20")), "{line}");
        assert!(line["client"].as_str().is_some_and(|client| client.starts_with("127.")), "{line}");
        assert!(line["duration_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{line}");
    }
}

/// A batch that is whole goes at once, long before the lines have waited long enough.
#[test]
fn whole_batches_do_not_wait() {
    let (upstream, collector) = (Upstream::hello(), Upstream::hello());
    let conf = log_conf(5, 60_000);
    let gateway = setup(&upstream, &collector.node(), ACCESS_LOG, &conf).start();
    let mut client = gateway.client();
    for request in 0..10 {
        client.get(&format!("/{request}"));
    }
    eventually("both batches came", || batches(&collector).concat().len() == 10);
    let batches = batches(&collector);
    assert!(batches.iter().all(|batch| batch.len() == 5), "{batches:?}");
    let paths: BTreeSet<_> = batches.concat().iter().map(|line| line["path"].to_string()).collect();
    assert_eq!(paths.len(), 10);
}

#[test]
fn what_the_collector_does_not_take_is_sent_again() {
    let upstream = Upstream::hello();
    let collector = Upstream::script(|conversation: &mut Conversation| {
        while conversation.request().is_some() {
            // The first connection's requests are not taken, and then it closes.
            if conversation.number == 1 {
                return conversation
                    .send("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            }
            conversation.answer("thanks");
        }
    });
    let gateway = setup(&upstream, &collector.node(), ACCESS_LOG, &log_conf(100, 50)).start();
    assert_eq!(gateway.get("/once").status(), 200);
    eventually("it came again", || collector.requests().len() >= 2);
    // It was taken: nothing else is logged, and later lines come alone.
    assert_eq!(gateway.get("/twice").status(), 200);
    eventually("the other came", || collector.requests().len() >= 3);
    let paths: Vec<_> =
        batches(&collector).concat().iter().map(|line| line["path"].clone()).collect();
    assert_eq!(paths, ["/once", "/once", "/twice"]);
}

#[test]
fn all_workers_send_each_line_once() {
    let (upstream, collector) = (Upstream::hello(), Upstream::hello());
    let conf = log_conf(7, 50);
    let gateway = setup(&upstream, &collector.node(), ACCESS_LOG, &conf).workers(2).start();
    for request in 0..60 {
        assert_eq!(gateway.get(&format!("/{request}")).status(), 200);
    }
    eventually("all lines came", || batches(&collector).concat().len() >= 60);
    let batches = batches(&collector);
    assert!(batches.iter().all(|batch| (1..=7).contains(&batch.len())), "{batches:?}");
    let lines = batches.concat();
    let paths: BTreeSet<_> = lines.iter().map(|line| line["path"].to_string()).collect();
    assert_eq!((paths.len(), lines.len()), (60, 60));
}
