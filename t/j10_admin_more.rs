//! The Admin API's other resources: consumers, certificates, lists, schemas, time to live.

use crate::harness::{Admin, Gateway, Setup, Upstream, eventually};
use serde_json::{Value, json};

fn gateway() -> (Gateway, Admin) {
    let gateway = Setup::new("").admin("role: traditional").start();
    let admin = gateway.admin();
    (gateway, admin)
}

#[test]
fn consumers_and_their_credentials() {
    let (gateway, admin) = gateway();
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nin");
    let node = upstream.node();
    let route = json!({"uri": "/k", "upstream": {"nodes": {node: 1}}, "plugins": {"key-auth": {}}});
    admin.put("/routes/k", route.to_string());
    let status = |key: &str| {
        gateway.ask(format!("GET /k HTTP/1.1\r\nHost: a\r\napikey: {key}\r\n\r\n")).status()
    };
    assert_eq!(status("one"), 401);
    let key = |key: &str| json!({"plugins": {"key-auth": {"key": key}}});
    let mut jack = key("one");
    jack["username"] = "jack".into();
    assert_eq!(admin.ask("PUT", "/consumers", jack.to_string()).0, 201);
    assert_eq!(status("one"), 200);
    let credentials = "/consumers/jack/credentials";
    let (code, answer) = admin.ask("PUT", &format!("{credentials}/c2"), key("two").to_string());
    assert_eq!((code, &answer["key"]), (201, &json!("/apisix/consumers/jack/credentials/c2")));
    assert_eq!((status("two"), status("three")), (200, 401));
    assert_eq!(admin.ask("GET", credentials, "").1["total"], 1);
    assert_eq!(admin.ask("GET", "/consumers", "").1["total"], 1, "credentials are no consumers");
    assert_eq!(admin.ask("GET", "/consumers/jack", "").1["value"]["username"], "jack");
    assert_eq!(admin.ask("DELETE", &format!("{credentials}/c2"), "").0, 200);
    assert_eq!((status("one"), status("two")), (200, 401));
    admin.put(&format!("{credentials}/c3"), key("three").to_string());
    assert_eq!(admin.ask("DELETE", "/consumers/jack", "").0, 200);
    assert_eq!((status("one"), status("three")), (401, 401));
    assert_eq!(
        admin.ask("GET", credentials, ""),
        (404, json!({"error_msg": "consumer not found"}))
    );
}

#[test]
fn private_keys_are_never_given_back() {
    let (_gateway, admin) = gateway();
    let ssl = json!({"cert": "CERT", "key": "SECRET", "certs": ["C"], "keys": ["SECRET"], "sni": "a.com"});
    let (status, answer) = admin.ask("PUT", "/ssls/1", ssl.to_string());
    assert_eq!((status, &answer["value"]["cert"]), (201, &json!("CERT")));
    let answers = [answer, admin.ask("GET", "/ssls/1", "").1, admin.ask("GET", "/ssls", "").1];
    for answer in answers {
        assert!(!answer.to_string().contains("SECRET"), "{answer}");
    }
    // A part can be changed without sending the key again.
    assert_eq!(admin.ask("PATCH", "/ssls/1", "{\"sni\": \"b.com\"}").0, 200);
}

#[test]
fn what_is_only_kept_comes_back() {
    let (_gateway, admin) = gateway();
    for (path, body) in [
        ("/consumer_groups/g", "{\"plugins\": {}}"),
        ("/plugin_metadata/cors", "{\"x\": 1}"),
        ("/protos/p", "{\"content\": \"syntax\"}"),
        ("/secrets/vault/v", "{\"uri\": \"http://a\"}"),
        ("/stream_routes/s", "{\"server_port\": 1}"),
        ("/global_rules/g", "{\"plugins\": {\"request-id\": {}}}"),
    ] {
        let (status, answer) = admin.ask("PUT", path, body);
        assert_eq!((status, &answer["key"]), (201, &json!(format!("/apisix{path}"))), "{answer}");
        assert_eq!(admin.ask("GET", path, "").0, 200, "{path}");
    }
    assert_eq!(admin.ask("GET", "/secrets/vault", "").1["total"], 1);
    let second = admin.ask("PUT", "/global_rules/h", "{\"plugins\": {\"request-id\": {}}}");
    let message = second.1["error_msg"].as_str().expect("a message");
    assert!(second.0 == 400 && message.contains("stands in two global rules"), "{message}");
}

#[test]
fn lists_have_pages_and_filters() {
    let (_gateway, admin) = gateway();
    for n in 0..12 {
        let label = if n % 2 == 0 { "even" } else { "odd" };
        let route = json!({"uri": format!("/r{n}"), "name": format!("route-{n}"),
            "labels": {"is": label}, "plugins": {}});
        admin.put(&format!("/routes/{n:02}"), route.to_string());
    }
    let total = |query: &str| {
        let (status, answer) = admin.ask("GET", &format!("/routes?{query}"), "");
        assert_eq!(status, 200, "{answer}");
        let list = answer["list"].as_array().map(Vec::len).expect("a list");
        (answer["total"].as_u64().expect("a number"), list)
    };
    assert_eq!(total("page=1&page_size=10"), (12, 10));
    assert_eq!(total("page=2&page_size=10"), (12, 2));
    assert_eq!(total("label=is:odd"), (6, 6));
    assert_eq!(total("name=route-1"), (3, 3));
    assert_eq!(total("uri=r1$"), (1, 1));
    assert_eq!(admin.ask("GET", "/routes?page_size=5", "").0, 400);
}

#[test]
fn time_to_live() {
    let (gateway, admin) = gateway();
    let route = "{\"uri\": \"/t\", \"plugins\": {\"fault-injection\": {\"abort\": {\"http_status\": 202}}}}";
    admin.put("/routes/t?ttl=1", route);
    assert_eq!(gateway.get("/t").status(), 202);
    eventually("the route is gone", || gateway.get("/t").status() == 404);
    assert_eq!(admin.ask("GET", "/routes/t", "").0, 404);
}

#[test]
fn schemas_and_validation() {
    let (gateway, admin) = gateway();
    let (status, plugins) = admin.ask("GET", "/plugins/list", "");
    let plugins = plugins.as_array().expect("a list").clone();
    assert!(status == 200 && plugins.contains(&json!("fault-injection")), "{plugins:?}");
    for path in ["/plugins/limit-count", "/schema/plugins/limit-count"] {
        let (status, schema) = admin.ask("GET", path, "");
        assert!(status == 200 && schema["properties"]["count"].is_object(), "{schema}");
    }
    assert_eq!(admin.ask("GET", "/plugins/none", "").0, 404);
    let (status, route) = admin.ask("GET", "/schema/route", "");
    assert!(status == 200 && route["properties"]["uri"].is_object(), "{route}");
    assert_eq!(
        admin.ask("GET", "/schema/nothing", ""),
        (400, json!({"error_msg": "not found schema"}))
    );
    let (status, answer) = admin.ask("PUT", "/plugins/reload", "");
    assert_eq!((status, answer), (200, json!("done")));
    assert_eq!(admin.ask("GET", "/plugins/reload", "").0, 405);

    let good = "{\"uri\": \"/v\", \"plugins\": {\"echo\": {\"body\": \"x\"}}}";
    assert_eq!(admin.ask("POST", "/schema/validate/routes", good), (200, Value::Null));
    let bad = "{\"uri\": \"/v\", \"plugins\": {\"echo\": {\"body\": 1}}}";
    let (status, answer) = admin.ask("POST", "/schema/validate/routes", bad);
    let message = answer["error_msg"].as_str().expect("a message");
    assert!(status == 400 && message.contains("plugins.echo.body"), "{message}");
    let whole = format!("{{\"routes\": [{good}]}}");
    assert_eq!(admin.ask("POST", "/configs/validate", whole).0, 200);
    assert_eq!(admin.ask("POST", "/configs/validate", format!("{{\"routes\": [{bad}]}}")).0, 400);
    assert_eq!(gateway.get("/v").status(), 404, "nothing was changed");
}
