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
        ("/plugin_metadata/echo", "{\"x\": 1}"),
        ("/protos/p", "{\"content\": \"syntax\"}"),
        ("/secrets/vault/v", "{\"uri\": \"http://a\"}"),
        ("/stream_routes/s", "{\"server_port\": 1}"),
        ("/global_rules/g", "{\"plugins\": {\"request-id\": {}}}"),
    ] {
        let (status, answer) = admin.ask("PUT", path, body);
        assert_eq!((status, &answer["key"]), (201, &json!(format!("/apisix{path}"))), "{answer}");
        assert_eq!(admin.ask("GET", path, "").0, 200, "{path}");
        let means_something = ["/consumer", "/global", "/plugin_metadata/cors"];
        let warned = !means_something.iter().any(|start| path.starts_with(start));
        assert_eq!(answer["warning"].is_string(), warned, "{answer}");
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

/// What APISIX fills in, so that clients find the same.
#[test]
fn defaults_are_filled_in() {
    let (gateway, admin) = gateway();
    let upstream = json!({"type": "roundrobin", "scheme": "http", "pass_host": "pass",
        "hash_on": "vars", "nodes": {"127.0.0.1:1": 1}});
    let nodes = || json!({"nodes": {"127.0.0.1:1": 1}});
    let route = json!({"uri": "/a", "priority": 0, "status": 1, "upstream": upstream});
    for (path, sent, wanted) in [
        ("/upstreams/1", nodes(), upstream.clone()),
        ("/services/1", json!({"upstream": nodes()}), json!({"upstream": upstream})),
        ("/routes/1", json!({"uri": "/a", "upstream": nodes()}), route),
        ("/global_rules/1", json!({"plugins": {}}), json!({"plugins": {}})),
    ] {
        let (status, put) = admin.ask("PUT", path, sent.to_string());
        assert_eq!(status, 201, "{path}: {put}");
        let (_, got) = admin.ask("GET", path, "");
        for mut value in [put["value"].clone(), got["value"].clone()] {
            let members = value.as_object_mut().expect("an object");
            members.retain(|key, _| !["id", "create_time", "update_time"].contains(&key.as_str()));
            assert_eq!(value, wanted, "{path}");
        }
    }
    // What is said is what counts, also where a part of it is changed.
    let patch = json!({"status": 0, "upstream": {"type": "least_conn", "scheme": null}});
    let (status, route) = admin.ask("PATCH", "/routes/1", patch.to_string());
    assert_eq!((status, &route["value"]["status"]), (200, &json!(0)), "{route}");
    let upstream = &route["value"]["upstream"];
    assert_eq!((&upstream["type"], &upstream["scheme"]), (&json!("least_conn"), &json!("http")));
    assert_eq!(gateway.get("/a").status(), 404);
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
    for path in ["/plugins/key-auth", "/schema/plugins/key-auth"] {
        let (_, of_route) = admin.ask("GET", path, "");
        let (status, schema) = admin.ask("GET", &format!("{path}?schema_type=consumer"), "");
        assert!(status == 200 && schema["properties"]["key"].is_object(), "{schema}");
        assert!(of_route["properties"]["header"].is_object() && schema["required"][0] == "key");
    }
    // As in APISIX.
    let without = admin.ask("GET", "/plugins/limit-count?schema_type=consumer", "");
    assert_eq!(without, (400, json!({"error_msg": "not found schema"})));
    assert_eq!(admin.ask("GET", "/plugins/none?schema_type=consumer", "").0, 404);
    let (status, all) = admin.ask("GET", "/plugins?all=true", "");
    let of = |name: &str| {
        let members = all[name].as_object().unwrap_or_else(|| panic!("{name}: {all}"));
        let names: Vec<_> = members.keys().map(String::as_str).collect();
        (names.join(" "), members["priority"].as_i64())
    };
    assert_eq!(status, 200);
    assert_eq!(of("echo"), ("schema priority".to_owned(), Some(412)));
    assert_eq!(of("key-auth"), ("schema priority type consumer_schema".to_owned(), Some(2500)));
    assert_eq!(of("cors"), ("schema priority metadata_schema".to_owned(), Some(4000)));
    let metadata = &all["cors"]["metadata_schema"]["properties"];
    assert!(metadata["allow_origins"].is_object(), "{metadata}");
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

/// The plugin is fine for whoever checks the change and for one worker; another can't run it.
#[test]
fn a_worker_that_refuses_a_change_is_in_the_answer() {
    let setup = Setup::new("").admin("role: traditional").operators().workers(2);
    let gateway = setup.wasm("third", "t/plugins/third.wat", "pool: 1").start();
    let admin = gateway.admin();
    let route = |uri: &str, plugins: Value| {
        let abort = json!({"abort": {"http_status": 200, "body": uri}});
        let mut plugins = plugins;
        plugins["fault-injection"] = abort;
        json!({"uri": uri, "plugins": plugins}).to_string()
    };
    admin.put("/routes/1", route("/a", json!({})));
    let (status, answer) =
        admin.ask("PUT", "/routes/1", route("/b", json!({"third": {"conf": "x"}})));
    assert_eq!(status, 400, "{answer}");
    let said = answer["error_msg"].as_str().expect("a message");
    assert!(said.starts_with("invalid configuration: worker "), "{said}");
    assert!(said.contains(": third: "), "{said}");
    // What served before serves on, on all workers, and is what is kept.
    assert_eq!(admin.ask("GET", "/routes/1", "").1["value"]["uri"], "/a");
    for _ in 0..20 {
        assert_eq!((gateway.get("/a").text(), gateway.get("/b").status()), ("/a".to_owned(), 404));
    }
    let status = crate::harness::get(gateway.page("status"), "/status").text();
    let status: Value = serde_json::from_str(&status).expect("JSON");
    assert_eq!(status["loads"]["refused"], 1);
    let errors = status["last_try"]["errors"].as_array().expect("a list");
    assert!(errors[0].as_str().is_some_and(|error| error.starts_with("worker ")), "{errors:?}");
    // No worker refuses this one.
    admin.put("/routes/1", route("/b", json!({"third": {"conf": "fine"}})));
    for _ in 0..20 {
        assert_eq!((gateway.get("/b").text(), gateway.get("/a").status()), ("/b".to_owned(), 404));
    }
}

/// What all instances of a plugin share, and a change of it.
#[test]
fn metadata_of_plugins() {
    let (gateway, admin) = gateway();
    let metadata = |path: &str, value: Value| {
        admin.ask("PUT", &format!("/plugin_metadata/{path}"), value.to_string())
    };
    let limit = json!({"count": 9, "time_window": 60});
    let plugins = json!({
        "cors": {"allow_origins": "http://own", "allow_origins_by_metadata": ["shared"]},
        "limit-count": limit,
    });
    let upstream = Upstream::hello();
    let nodes = json!({"nodes": {upstream.node(): 1}});
    let route = json!({"uri": "/", "plugins": plugins, "upstream": nodes});
    admin.put("/routes/1", route.to_string());
    let ask = |origin: &str| {
        gateway.ask(format!("GET / HTTP/1.1\r\nHost: a\r\nOrigin: {origin}\r\n\r\n"))
    };
    let allowed =
        |origin: &str| ask(origin).field("access-control-allow-origin").map(str::to_owned);
    assert_eq!(allowed("http://a").as_deref(), Some("http://own"));
    assert_eq!(ask("http://a").field("x-ratelimit-limit"), Some("9"));
    let lists = json!({"allow_origins": {"shared": "http://a,http://b"}});
    assert_eq!(metadata("cors", lists).0, 201);
    let fields = json!({"limit_header": "X-Most", "reset_header": "X-Again"});
    assert_eq!(metadata("limit-count", fields).0, 201);
    assert_eq!(allowed("http://b").as_deref(), Some("http://b"));
    let answer = ask("http://a");
    let shown = ["x-most", "x-ratelimit-limit", "x-again"].map(|name| answer.field(name).is_some());
    assert_eq!(shown, [true, false, true]);
    assert!(answer.field("x-ratelimit-remaining").is_some());
    for (path, value, words) in [
        ("cors", json!({"allow_origins": {"shared": 7}}), "allow_origins.shared: expected"),
        ("limit-count", json!({"limit_header": "a b"}), "\"a b\" is not a header name"),
    ] {
        let (status, answer) = metadata(path, value);
        assert_eq!(status, 400, "{answer}");
        let said = answer["error_msg"].as_str().unwrap_or_default();
        assert!(said.contains(words), "{said}");
    }
    assert_eq!(admin.ask("DELETE", "/plugin_metadata/cors", "").0, 200);
    assert_eq!(allowed("http://b").as_deref(), Some("http://own"));
}
