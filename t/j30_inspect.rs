//! The control API and the status.

use crate::harness::{Client, Refusing, Setup, Upstream, eventually, get};
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

/// What stands in `apisix.yaml`, as it was taken.
#[test]
fn a_file_can_be_looked_at() {
    let setup = Setup::new(
        "routes: [{uri: /a, upstream_id: 7}, {id: b, uri: '/${{RG_TEST_PATH:=b}}', upstream_id: \
         7}]\nupstreams: [{id: 7, nodes: {'127.0.0.1:1': 1}}]\nconsumers: [{username: jack}]\n",
    );
    let gateway = setup.operators().start();
    let control = gateway.page("control API");
    let (status, routes) = page(control, "/v1/routes");
    let keys = [0, 1].map(|at| routes[at]["key"].clone());
    assert_eq!((status, keys), (200, [json!("/apisix/routes/arr_1"), json!("/apisix/routes/b")]));
    assert_eq!(page(control, "/v1/route/b").1["value"]["uri"], "/b");
    assert_eq!(page(control, "/v1/upstream/7").1["value"]["id"], 7);
    assert_eq!(page(control, "/v1/consumer/jack").0, 200);
    assert_eq!(page(control, "/v1/services"), (200, json!([])));
    let missing = (404, json!({"error_msg": "route[x] not found"}));
    assert_eq!(page(control, "/v1/route/x"), missing);
    // A file that is not taken is not shown for what serves.
    let path = gateway.folder().path().join("apisix.yaml");
    std::fs::write(path, "routes: [{uris: 7}]\n#END\n").expect("written");
    eventually("it is refused", || page(control, "/v1/routes").0 == 503);
}

/// The health of nodes, in APISIX's shape.
#[test]
fn health_can_be_looked_at() {
    let (good, bad) = (Upstream::hello(), Refusing::new());
    let active = json!({"type": "tcp", "healthy": {"interval": 1, "successes": 1},
        "unhealthy": {"interval": 1, "tcp_failures": 1}});
    let resources = json!({
        "routes": [
            {"id": "r", "uri": "/", "upstream_id": "1"},
            {"id": "unchecked", "uri": "/u", "upstream": {"nodes": {good.node(): 1}}},
        ],
        "services": [{"id": "s", "upstream": {"nodes": {good.node(): 1}}}],
        "upstreams": [{"id": "1", "checks": {"active": active},
            "nodes": {good.node(): 1, bad.node(): 1}}],
    });
    let gateway = Setup::new(resources.to_string()).operators().start();
    let control = gateway.page("control API");
    let one = "/v1/healthcheck/upstreams/1";
    eventually("the probe is refused", || {
        let (_, upstream) = page(control, one);
        upstream["nodes"]
            .as_array()
            .is_some_and(|nodes| nodes.iter().any(|node| node["status"] == "unhealthy"))
    });
    let (status, upstream) = page(control, one);
    assert_eq!((status, &upstream["name"]), (200, &json!("/apisix/upstreams/1")));
    assert_eq!(upstream["type"], "tcp");
    let of = |port: u16| {
        let nodes = upstream["nodes"].as_array().expect("nodes");
        nodes.iter().find(|node| node["port"] == port).expect("the node").clone()
    };
    let port = |node: String| node.rsplit(':').next().and_then(|port| port.parse().ok());
    let refused = of(bad.port());
    assert_eq!((&refused["ip"], &refused["hostname"]), (&json!("127.0.0.1"), &json!("127.0.0.1")));
    let counters = ["success", "http_failure", "tcp_failure", "timeout_failure"];
    let counted = |node: &Value| counters.map(|name| node["counter"][name].clone());
    assert_eq!(counted(&refused), [0, 0, 1, 0].map(|count: u8| json!(count)));
    let used = of(port(good.node()).expect("a port"));
    assert_eq!((&used["status"], &used["counter"]["tcp_failure"]), (&json!("healthy"), &json!(0)));
    assert_eq!(page(control, "/v1/healthcheck").1, json!([upstream]));
    for (path, status, message) in [
        ("upstreams/2", 404, "upstreams[2] not found"),
        ("services/s", 404, "no checker for services[s]"),
        ("routes/unchecked", 404, "no checker for routes[unchecked]"),
        ("routes/r", 404, "no checker for routes[r]"),
        ("routes/none", 404, "routes[none] not found"),
        ("routes", 404, "missing src id for src type routes"),
        ("gadgets/1", 400, "invalid src type gadgets"),
    ] {
        let answer = page(control, &format!("/v1/healthcheck/{path}"));
        assert_eq!(answer, (status, json!({"error_msg": message})), "{path}");
    }
    let mut client = Client::connect(control);
    client.send("GET /v1/healthcheck HTTP/1.1\r\nHost: a\r\nAccept: text/html, */*\r\n\r\n");
    let shown = client.response();
    assert_eq!(shown.field("content-type"), Some("text/html; charset=utf-8"));
    assert!(shown.text().contains("<td>unhealthy</td>"), "{}", shown.text());
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
