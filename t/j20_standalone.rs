//! The API-driven standalone mode: the whole configuration at once.

use crate::harness::{Admin, Client, Gateway, Setup};
use serde_json::json;

const MODE: &str = "role: traditional\n  role_traditional: {config_provider: yaml}";

fn gateway() -> (Gateway, Admin) {
    let gateway = Setup::new("").admin(MODE).start();
    let admin = gateway.admin();
    (gateway, admin)
}

fn put(admin: &Admin, digest: &str, kind: &str, body: &str) -> (u16, String) {
    let fields =
        format!("X-API-KEY: {}\r\nX-Digest: {digest}\r\nContent-Type: {kind}\r\n", Admin::KEY);
    let (status, answer) = admin.ask_with(&fields, "PUT", "/configs", body);
    (status, answer["error_msg"].as_str().unwrap_or_default().to_owned())
}

fn route(uri: &str, body: &str) -> String {
    format!(
        "{{uri: {uri}, plugins: {{fault-injection: {{abort: {{http_status: 200, body: {body}}}}}}}}}"
    )
}

#[test]
fn configurations_replace_one_another() {
    let (gateway, admin) = gateway();
    let (status, answer) = admin.ask("GET", "/configs", "");
    assert_eq!((status, &answer["routes_conf_version"]), (200, &json!(0)));
    let yaml = "application/yaml";
    assert_eq!(
        admin.ask("PUT", "/configs", "{}"),
        (400, json!({"error_msg": "missing digest header"}))
    );
    let one = format!("routes:\n- {}\n", route("/a", "one"));
    assert_eq!(put(&admin, "d1", yaml, &one).0, 202);
    assert_eq!(gateway.get("/a").text(), "one");
    assert_eq!(put(&admin, "d1", yaml, "routes: []").0, 204, "the same digest is the same thing");
    assert_eq!(gateway.get("/a").text(), "one");
    assert_eq!(admin.ask("GET", "/configs", "").1["routes_conf_version"], 1);

    let two = "{\"routes_conf_version\": 5, \"routes\": [{\"id\": \"b\", \"uri\": \"/b\", \
               \"plugins\": {\"fault-injection\": {\"abort\": {\"http_status\": 203}}}}]}";
    assert_eq!(put(&admin, "d2", "application/json", two).0, 202);
    assert_eq!((gateway.get("/a").status(), gateway.get("/b").status()), (404, 203));
    let older = put(&admin, "d3", yaml, "routes_conf_version: 4");
    let message = "routes_conf_version must be greater than or equal to (5)";
    assert_eq!(older, (400, message.to_owned()));
    assert_eq!(put(&admin, "d4", yaml, "routes_conf_version: 5").0, 202, "equal: unchanged");
    assert_eq!(gateway.get("/b").status(), 203);
    assert_eq!(put(&admin, "d5", yaml, "routes_conf_version: 6").0, 202, "greater: replaced");
    assert_eq!(gateway.get("/b").status(), 404);
}

#[test]
fn a_wrong_configuration_changes_nothing() {
    let (gateway, admin) = gateway();
    let yaml = "application/yaml";
    assert_eq!(put(&admin, "d1", yaml, &format!("routes:\n- {}\n", route("/a", "one"))).0, 202);
    for (body, said) in [
        ("routes: [{uri: /a, plugins: {nothing: {}}}]", "unknown plugin `nothing`"),
        ("rutes: []", "unknown key `rutes`"),
        ("routes: [", "invalid request body: "),
        ("routes: {}", "routes: expected a list"),
        (
            "routes: [{id: 1, uri: /a, plugins: {}}, {id: 1, uri: /b, plugins: {}}]",
            "found duplicate id 1",
        ),
        ("routes_conf_version: x", "routes_conf_version must be a number"),
    ] {
        let (status, message) = put(&admin, body, yaml, body);
        assert!(status == 400 && message.contains(said), "{body}: {status} {message}");
        assert_eq!(gateway.get("/a").text(), "one");
    }
    assert_eq!(admin.ask("GET", "/routes", "").0, 404, "there are no single resources");
}

#[test]
fn its_headers() {
    let (_gateway, admin) = gateway();
    assert_eq!(put(&admin, "some-digest", "application/json", "{}").0, 202);
    for method in ["GET", "HEAD"] {
        let mut client = Client::connect(admin.address);
        client.send(format!(
            "{method} /apisix/admin/configs HTTP/1.1\r\nHost: a\r\nX-API-KEY: {}\r\nAccept: application/yaml\r\n\r\n",
            Admin::KEY
        ));
        let head = method == "HEAD";
        let response = if head { client.response_to_head() } else { client.response() };
        assert_eq!(response.field("x-digest"), Some("some-digest"));
        assert_eq!(response.field("content-type"), Some("application/yaml"));
        assert!(response.field("x-last-modified").is_some());
    }
}
