//! The control API and the status.

use crate::harness::{Setup, get};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::net::SocketAddr;

fn page(address: SocketAddr, path: &str) -> (u16, Value) {
    let response = get(address, path);
    let text = response.text();
    (response.status(), serde_json::from_str(&text).unwrap_or_else(|_| panic!("{path}: {text}")))
}

#[test]
fn resources_can_be_looked_at_without_a_key() {
    let gateway = Setup::new("").operators().admin("role: traditional").start();
    let admin = gateway.admin();
    admin.put("/upstreams/1", "{\"nodes\": {\"127.0.0.1:1\": 1}}");
    admin.put("/routes/r", "{\"uri\": \"/\", \"upstream_id\": \"1\"}");
    let control = gateway.page("control API");
    let (status, routes) = page(control, "/v1/routes");
    assert_eq!((status, routes[0]["value"]["upstream_id"].clone()), (200, json!("1")));
    let (status, upstream) = page(control, "/v1/upstream/1");
    assert_eq!((status, upstream["key"].clone()), (200, json!("/apisix/upstreams/1")));
    let missing = (404, json!({"error_msg": "route[1] not found"}));
    assert_eq!(page(control, "/v1/route/1"), missing);
    for path in ["/v1/services", "/v1/plugin_metadatas", "/v1/consumers"] {
        assert_eq!(page(control, path), (200, json!([])), "{path}");
    }
    let (status, schema) = page(control, "/v1/schema");
    assert_eq!(status, 200);
    assert!(schema["main"]["route"]["properties"]["uri"].is_object());
    assert!(schema["plugins"]["echo"]["schema"].is_object());
    assert_eq!(page(control, "/v1/nothing").0, 404);
    assert_eq!(get(control, "/").status(), 404);
}

#[test]
fn the_status_has_the_runners() {
    let setup = Setup::new("routes: []").operators();
    let socket = setup.folder().path().join("runner.sock");
    let config = format!("ext-plugin: {{path_for_test: {}}}\nringgate:", socket.display());
    let config = setup.write_with("ringgate:", &config);
    let gateway = setup.start_written(&config);
    let (_, status) = page(gateway.page("status"), "/status");
    let runner = &status["runners"][0];
    assert_eq!(runner["socket"], json!(socket));
    let fresh = json!([false, 0, 0, 0, 0, 0]);
    let names = ["running", "restarts", "calls", "failures", "connections", "waiting"];
    assert_eq!(json!(names.map(|name| &runner[name])), fresh, "{runner}");
}

#[test]
fn the_status_says_what_became_of_the_last_try() {
    let gateway = Setup::new("routes: []").operators().start();
    let address = gateway.page("status");
    let (code, status) = page(address, "/status");
    assert_eq!(
        (code, &status["status"], &status["snapshot"]["number"]),
        (200, &json!("ok"), &json!(1))
    );
    assert_eq!(page(address, "/status/ready"), (200, json!({"status": "ok"})));
    gateway.folder().write("apisix.yaml", "routes: [{uri: 7, plugins: {}}]\n#END\n");
    gateway.process().signal(Signal::HUP);
    gateway.wait_for_log("what ran before goes on");
    let (_, status) = page(address, "/status");
    assert_eq!(status["loads"], json!({"good": 1, "refused": 1}));
    let last = &status["last_try"];
    assert_eq!((&last["cause"], &last["number"]), (&json!("SIGHUP"), &json!(2)));
    let error = last["errors"][0].as_str().expect("an error");
    assert!(error.contains("apisix.yaml:1:16: error: expected a string"), "{error}");
}
