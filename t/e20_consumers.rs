//! What consumers and their groups bring along to routes that tell them apart.

use crate::harness::{Gateway, Message, Setup, Upstream, eventually};
use serde_json::{Value, json};

/// `jack` brings plugins of his own, `rose` those of a group, `kim` both, `plain` nothing.
fn resources(upstream: &Upstream) -> Value {
    let node = json!({"nodes": {upstream.node(): 1}});
    let header = |of: &str| json!({"conf": {"response": {"set": {"x-wasm": of}}}});
    let limit = |count: u32| json!({"count": count, "time_window": 600, "rejected_code": 429});
    let marks = |by: &str| json!({"headers": {"set": {"X-Marked": by}}});
    json!({
        "routes": [
            {"id": "known", "uri": "/known/*", "upstream": node, "plugins": {
                "key-auth": {}, "header": header("route"), "response-rewrite": marks("route"),
            }},
            {"id": "open", "uri": "/open", "upstream": node, "plugins": {"echo": {"body": "open"}}},
        ],
        "consumers": [
            {"username": "jack", "plugins": {
                "key-auth": {"key": "k-jack"},
                "limit-count": limit(3),
                "header": header("jack"),
                "proxy-rewrite": {"headers": {"set": {"X-Plan": "$consumer_name"}}},
            }},
            {"username": "rose", "group_id": "gold", "plugins": {"key-auth": {"key": "k-rose"}}},
            {"username": "kim", "group_id": "gold", "plugins": {
                "key-auth": {"key": "k-kim"}, "response-rewrite": marks("kim"),
            }},
            {"username": "plain", "plugins": {"key-auth": {"key": "k-plain"}}},
            {"username": "banned", "plugins": {
                "key-auth": {"key": "k-banned"},
                "fault-injection": {"abort": {"http_status": 403, "body": "banned"}},
            }},
            {"username": "lost", "group_id": "gone", "plugins": {"key-auth": {"key": "k-lost"}}},
            {"id": "jack/credentials/c2", "plugins": {"key-auth": {"key": "k-jack-2"}}},
        ],
        "consumer_groups": [{"id": "gold", "plugins": {
            "limit-count": limit(2),
            "response-rewrite": marks("$consumer_group_id"),
        }}],
    })
}

fn ask(gateway: &Gateway, key: &str) -> Message {
    gateway.get(&format!("/known/x?apikey={key}"))
}

fn last(upstream: &Upstream) -> Message {
    upstream.requests().pop().expect("a request")
}

fn start(upstream: &Upstream) -> Gateway {
    let setup = Setup::new(resources(upstream).to_string());
    setup.wasm("header", "dist/header_rust.wasm", "").start()
}

#[test]
fn plugins_of_consumers_and_groups_join_their_requests() {
    let upstream = Upstream::hello();
    let gateway = start(&upstream);
    let marks = |answer: &Message| {
        let field = |name| answer.field(name).unwrap_or("-").to_owned();
        (answer.status(), field("x-marked"), field("x-wasm"))
    };
    let marked = |by: &str, wasm: &str| (200, by.to_owned(), wasm.to_owned());
    assert_eq!(marks(&ask(&gateway, "k-plain")), marked("route", "route"));
    assert_eq!(last(&upstream).field("x-plan"), None);
    // His own conf of a plugin takes the place of the route's; others are new.
    assert_eq!(marks(&ask(&gateway, "k-jack")), marked("route", "jack"));
    assert_eq!(last(&upstream).field("x-plan"), Some("jack"));
    assert_eq!(marks(&ask(&gateway, "k-rose")), marked("gold", "route"));
    assert_eq!(marks(&ask(&gateway, "k-kim")), marked("kim", "route"));
    let banned = ask(&gateway, "k-banned");
    assert_eq!((banned.status(), banned.text()), (403, "banned".to_owned()));
    assert_eq!(gateway.get("/known/x").status(), 401);
    assert_eq!(gateway.get("/open").text(), "open");
    // The group does not exist: no request passes without what it would have brought.
    assert_eq!(ask(&gateway, "k-lost").status(), 503);
    assert!(gateway.log().contains("no consumer group has the id `gone`"), "{}", gateway.log());
    // A limit is one consumer's, whatever he was known by, or one group's.
    assert_eq!(ask(&gateway, "k-jack-2").status(), 200);
    assert_eq!(ask(&gateway, "k-jack").status(), 200);
    assert_eq!(ask(&gateway, "k-jack-2").status(), 429);
    assert_eq!(ask(&gateway, "k-rose").status(), 429);
    assert_eq!(ask(&gateway, "k-plain").status(), 200);
}

/// One connection after another's requests, bodies both ways, and a limit that outlives a reload.
#[test]
fn joined_chains_are_ordinary_chains() {
    let upstream = Upstream::hello();
    let mut resources = resources(&upstream);
    let jack = &mut resources["consumers"][0]["plugins"];
    jack["limit-count"]["count"] = 30.into();
    jack["echo"] = json!({"before_body": "for jack: "});
    let setup = Setup::new(resources.to_string()).wasm("header", "dist/header_rust.wasm", "");
    let gateway = setup.ringgate("watch: true").start();
    let mut client = gateway.client();
    for round in 0..10 {
        for (key, text) in [("k-plain", "hello world\n"), ("k-jack", "for jack: hello world\n")] {
            client.send(format!(
                "POST /known/x HTTP/1.1\r\nHost: a\r\napikey: {key}\r\nTransfer-Encoding: \
                 chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"
            ));
            assert_eq!(client.response().text(), text, "round {round}");
            assert_eq!(last(&upstream).text(), "body");
        }
    }
    let path = gateway.folder().path().join("apisix.yaml");
    let more = resources.to_string().replace("\"open\"", "\"opened\"");
    std::fs::write(path, format!("{more}\n#END\n")).expect("written");
    eventually("the new file serves", || gateway.get("/open").text() == "opened");
    let statuses: Vec<u16> = (0..21).map(|_| ask(&gateway, "k-jack").status()).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 20, "{statuses:?}");
}

#[test]
fn the_admin_api_knows_groups() {
    let gateway = Setup::new("").admin("role: traditional").start();
    let admin = gateway.admin();
    let group = |by: &str| json!({"plugins": {"response-rewrite": {"headers": {"X-By": by}}}});
    let jack = json!({"username": "jack", "group_id": "g", "plugins": {"key-auth": {"key": "k"}}});
    let (status, answer) = admin.ask("PUT", "/consumers", jack.to_string());
    assert_eq!(
        (status, &answer["error_msg"]),
        (400, &json!("failed to fetch consumer group info by group id [g], response code: 404"))
    );
    let bad = json!({"plugins": {"response-rewrite": {"headers": 7}}});
    assert_eq!(admin.ask("PUT", "/consumer_groups/g", bad.to_string()).0, 400);
    admin.put("/consumer_groups/g", group("one").to_string());
    admin.put("/consumers", jack.to_string());
    let plugins = json!({"key-auth": {}, "mocking": {"response_example": "mocked"}});
    admin.put("/routes/1", json!({"uri": "/a", "plugins": plugins}).to_string());
    let by = || gateway.get("/a?apikey=k").field("x-by").map(str::to_owned);
    assert_eq!(by().as_deref(), Some("one"));
    admin.put("/consumer_groups/g", group("two").to_string());
    assert_eq!(by().as_deref(), Some("two"));
    let (status, answer) = admin.ask("DELETE", "/consumer_groups/g", "");
    assert_eq!(status, 400, "{answer}");
    let own = json!({"username": "jack", "plugins": {
        "key-auth": {"key": "k"}, "response-rewrite": {"headers": {"X-By": "jack"}},
    }});
    admin.put("/consumers", own.to_string());
    assert_eq!(by().as_deref(), Some("jack"));
    assert_eq!(admin.ask("DELETE", "/consumer_groups/g", "").0, 200);
    let credential = json!({"plugins": {"echo": {"body": "x"}}});
    let (status, answer) =
        admin.ask("PUT", "/consumers/jack/credentials/1", credential.to_string());
    assert_eq!(status, 400);
    let said = answer["error_msg"].as_str().unwrap_or_default();
    assert!(said.contains("plugin echo can't stand in a credential"), "{said}");
}
