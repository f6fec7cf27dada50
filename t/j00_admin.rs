//! The Admin API: what it takes, what it gives back, and that it is live when it says so.

use crate::harness::{Admin, Gateway, Setup, get};
use serde_json::{Value, json};

fn gateway() -> (Gateway, Admin) {
    let gateway = Setup::new("").admin("role: traditional").start();
    let admin = gateway.admin();
    (gateway, admin)
}

fn fault(uri: &str, body: &str) -> String {
    json!({"uri": uri, "plugins": {"fault-injection": {"abort": {"http_status": 200, "body": body}}}})
        .to_string()
}

/// What is filled in by the clock is left out.
fn timeless(mut answer: Value) -> Value {
    if let Some(value) = answer.get_mut("value").and_then(Value::as_object_mut) {
        let made = value.shift_remove("create_time").expect("a time");
        let changed = value.shift_remove("update_time").expect("a time");
        assert!(made.as_u64() <= changed.as_u64());
    }
    answer
}

#[test]
fn a_route_from_its_beginning_to_its_end() {
    let (gateway, admin) = gateway();
    assert_eq!(gateway.get("/a").status(), 404);
    let route = fault("/a", "one");
    let value = json!({
        "uri": "/a", "id": "r1", "priority": 0, "status": 1,
        "plugins": {"fault-injection": {"abort": {"http_status": 200, "body": "one"}}},
    });
    let key = "/apisix/routes/r1";
    let (status, answer) = admin.ask("PUT", "/routes/r1", &route);
    assert_eq!((status, timeless(answer)), (201, json!({"key": key, "value": value})));
    assert_eq!(gateway.get("/a").text(), "one");
    let (status, answer) = admin.ask("GET", "/routes/r1", "");
    let wanted = json!({"key": key, "value": value, "createdIndex": 1, "modifiedIndex": 1});
    assert_eq!((status, timeless(answer.clone())), (200, wanted));
    let (status, list) = admin.ask("GET", "/routes", "");
    assert_eq!((status, list), (200, json!({"total": 1, "list": [answer]})));

    assert_eq!(admin.ask("PUT", "/routes/r1", fault("/a", "two")).0, 200);
    assert_eq!(gateway.get("/a").text(), "two");
    let patch = json!({"plugins": {"fault-injection": {"abort": {"body": "three"}}}, "name": "n"});
    let (status, answer) = admin.ask("PATCH", "/routes/r1", patch.to_string());
    assert_eq!((status, &answer["value"]["name"]), (200, &json!("n")));
    assert_eq!(gateway.get("/a").text(), "three");
    assert_eq!(admin.ask("PATCH", "/routes/r1", "{\"name\": null}").1["value"].get("name"), None);
    let (status, answer) = admin.ask("PATCH", "/routes/r1/uri", "\"/b\"");
    assert_eq!((status, &answer["value"]["uri"]), (200, &json!("/b")));
    assert_eq!((gateway.get("/a").status(), gateway.get("/b").text()), (404, "three".to_owned()));

    let (status, answer) = admin.ask("DELETE", "/routes/r1", "");
    assert_eq!((status, answer), (200, json!({"deleted": "1", "key": key})));
    assert_eq!(gateway.get("/b").status(), 404);
    let gone = json!({"message": "Key not found"});
    for method in ["GET", "DELETE"] {
        assert_eq!(admin.ask(method, "/routes/r1", ""), (404, gone.clone()));
    }
    assert_eq!(admin.ask("PATCH", "/routes/r1", "{}"), (404, gone));
}

#[test]
fn a_put_is_live_on_every_worker_before_its_answer() {
    let gateway = Setup::new("").workers(3).admin("role: traditional").start();
    let admin = gateway.admin();
    for round in 0..10 {
        let body = format!("round {round}");
        admin.put("/routes/1", fault("/r", &body));
        for _ in 0..6 {
            assert_eq!(gateway.get("/r").text(), body);
        }
    }
}

#[test]
fn posts_get_ids() {
    let (gateway, admin) = gateway();
    let (status, answer) = admin.ask("POST", "/routes", fault("/p", "posted"));
    assert_eq!(status, 201, "{answer}");
    let id = answer["value"]["id"].as_str().expect("an id");
    assert!(id.len() == 20 && id.bytes().all(|digit| digit.is_ascii_digit()), "{id}");
    assert_eq!(answer["key"], format!("/apisix/routes/{id}"));
    assert_eq!(gateway.get("/p").text(), "posted");
    let (_, other) = admin.ask("POST", "/routes", fault("/q", "posted"));
    assert_ne!(other["value"]["id"], answer["value"]["id"]);
}

const GOOD: &str =
    "{\"uri\": \"/a\", \"plugins\": {\"fault-injection\": {\"abort\": {\"http_status\": 200}}}}";

/// Method, path and body; the answer's status and how its message begins.
const REFUSED: &[(&str, &str, &str, u16, &str)] = &[
    ("PUT", "/routes/1", "{", 400, "invalid request body: "),
    ("PUT", "/routes/1", "", 400, "missing configurations"),
    ("PUT", "/routes/1", "[]", 400, "invalid configuration: expected an object"),
    ("PUT", "/routes", GOOD, 400, "missing route id"),
    ("PUT", "/routes/1", "{\"id\": 2, \"uri\": \"/a\", \"plugins\": {}}", 400, "wrong route id"),
    ("POST", "/routes/1", GOOD, 400, "wrong route id, do not need it"),
    ("DELETE", "/routes", "", 400, "missing route id"),
    ("PATCH", "/routes", "{}", 400, "missing route id"),
    ("PATCH", "/routes/1/uri/x", "1", 400, "invalid sub-path: uri/x"),
    ("PATCH", "/routes/1", "{\"uri\": 7}", 400, "invalid configuration: uri: expected a string"),
    (
        "PUT",
        "/routes/1",
        "{\"uri\": \"/a\", \"plugins\": {\"fault-injektion\": {}}}",
        400,
        "invalid configuration: plugins.fault-injektion: unknown plugin `fault-injektion`; did you mean `fault-injection`?",
    ),
    ("PUT", "/routes/1", "{\"uri\": \"/a\"}", 400, "invalid configuration: "),
    (
        "PUT",
        "/routes/1",
        "{\"uri\": \"/a\", \"plugins\": {}, \"create_time\": 1}",
        400,
        "invalid configuration: property \"create_time\" validation failed: the property is forbidden",
    ),
    (
        "PUT",
        "/routes/1",
        "{\"uri\": \"/a\", \"upstream_id\": \"u\"}",
        400,
        "failed to fetch upstream info by upstream id [u], response code: 404",
    ),
    (
        "PUT",
        "/routes/1",
        "{\"uri\": \"/a\", \"service_id\": 5}",
        400,
        "failed to fetch service info by service id [5], response code: 404",
    ),
    ("PUT", "/gadgets/1", "{}", 404, "Unsupported resource type: gadgets"),
    (
        "POST",
        "/consumers",
        "{\"username\": \"a\"}",
        405,
        "not supported `POST` method for consumer",
    ),
    ("PUT", "/consumers/a/credentials/1", "{\"plugins\": {}}", 404, "consumer not found"),
    ("PUT", "/plugin_metadata/none", "{}", 400, "invalid plugin name"),
    ("PUT", "/routes/1?ttl=x", GOOD, 400, "invalid ttl: x"),
    ("PUT", "/routes/bad%20id", GOOD, 400, "invalid configuration: "),
    ("LOCK", "/routes/1", "", 405, "method not allowed"),
];

/// What is refused changes nothing, and says why in APISIX's words or our checker's.
#[test]
fn refusals() {
    let (gateway, admin) = gateway();
    admin.put("/routes/1", fault("/a", "kept"));
    for (method, path, body, status, said) in REFUSED.iter().copied() {
        let (answered, answer) = admin.ask(method, path, body);
        assert_eq!(answered, status, "{method} {path} {body}: {answer}");
        let message = answer["error_msg"].as_str().expect("a message");
        assert!(message.starts_with(said), "{method} {path}: {message}");
        assert_eq!(gateway.get("/a").text(), "kept", "{method} {path} {body}");
    }
    let large = format!("{{\"uri\": \"/{}\"}}", "x".repeat(1536 * 1024));
    let (status, answer) = admin.ask("PUT", "/routes/1", large);
    let message = answer["error_msg"].as_str().expect("a message");
    assert!(status == 400 && message.contains("greater than the maximum size"), "{message}");
}

#[test]
fn what_is_in_use_stays() {
    let (_gateway, admin) = gateway();
    let upstream = "{\"nodes\": {\"127.0.0.1:1\": 1}}";
    admin.put("/upstreams/u", upstream);
    admin.put("/services/s", "{\"upstream_id\": \"u\"}");
    admin.put("/plugin_configs/p", "{\"plugins\": {}}");
    admin.put("/routes/r", "{\"uri\": \"/\", \"service_id\": \"s\", \"plugin_config_id\": \"p\"}");
    for (path, message) in [
        ("/upstreams/u", "can not delete this upstream, service [s] is still using it now"),
        ("/services/s", "can not delete this service directly, route [r] is still using it now"),
        ("/plugin_configs/p", "can not delete this plugin config, route [r] is still using it now"),
    ] {
        assert_eq!(admin.ask("DELETE", path, ""), (400, json!({"error_msg": message})));
    }
    assert_eq!(admin.ask("DELETE", "/plugin_configs/p?force=true", "").0, 200);
    for path in ["/routes/r", "/services/s", "/upstreams/u"] {
        assert_eq!(admin.ask("DELETE", path, "").0, 200);
    }
}

#[test]
fn keys_roles_and_addresses() {
    let (gateway, admin) = gateway();
    let denied = |why: &str| json!({"error_msg": "failed to check token", "description": why});
    let viewer = format!("X-API-KEY: {}\r\n", Admin::VIEWER_KEY);
    for (fields, method, path, status, body) in [
        ("", "GET", "/routes", 401, denied("missing apikey")),
        ("X-API-KEY: no\r\n", "GET", "/routes", 401, denied("wrong apikey")),
        (viewer.as_str(), "DELETE", "/routes/1", 401, denied("invalid method for role viewer")),
        (viewer.as_str(), "GET", "/routes", 200, json!({"total": 0, "list": []})),
        ("", "GET", "/routes?api_key=the-key-of-a-viewer", 200, json!({"total": 0, "list": []})),
        ("Cookie: x_api_key=the-key-of-a-viewer\r\n", "HEAD", "", 200, Value::Null),
        ("", "OPTIONS", "/routes", 200, Value::Null),
    ] {
        assert_eq!(admin.ask_with(fields, method, path, ""), (status, body), "{method} {path}");
    }
    // No key is ever logged.
    admin.ask("PUT", "/routes/1?api_key=the-key-of-the-tests", fault("/", "x"));
    let log = gateway.log();
    assert!(!log.contains(Admin::KEY) && !log.contains(Admin::VIEWER_KEY), "{log}");

    let strict = Setup::new("").admin("role: traditional");
    let config = strict.write_with("admin_key:", "allow_admin: [10.0.0.0/8]\n    admin_key:");
    let strict = strict.start_written(&config);
    let (status, _) = strict.admin().ask("GET", "/routes", "");
    assert_eq!(status, 403);
}

/// A key that nobody configured is made, kept, and never shown.
#[test]
fn a_key_of_its_own() {
    let setup = Setup::new("").admin("role: traditional");
    let config = setup.write_with("admin_key:", "admin_key: []\n  # none:");
    let text = std::fs::read_to_string(&config).expect("the configuration");
    let kept: Vec<&str> = text.lines().filter(|line| !line.contains("- {name: ")).collect();
    std::fs::write(&config, kept.join("\n")).expect("written");
    let gateway = setup.start_written(&config);
    let admin = gateway.admin();
    let file = gateway.folder().path().join("store/admin.key");
    let key = std::fs::read_to_string(&file).expect("a key");
    assert_eq!(admin.ask("GET", "/routes", "").0, 401);
    let fields = format!("X-API-KEY: {}\r\n", key.trim());
    assert_eq!(admin.ask_with(&fields, "GET", "/routes", "").0, 200);
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&file.metadata().expect("a file").permissions());
    assert_eq!(mode & 0o777, 0o600);
    assert!(!gateway.log().contains(key.trim()));
    assert_eq!(get(admin.address, "/").status(), 401);
}
