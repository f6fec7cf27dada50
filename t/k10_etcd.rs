//! etcd as the store of a fleet: a real one, two gateways, failures.

use crate::harness::{Admin, Etcd, Gateway, Setup, Upstream, eventually, get};
use serde_json::json;
use std::time::{Duration, Instant};

fn setup(etcd: &Etcd) -> Setup {
    let url = etcd.url();
    Setup::new("").operators().admin(&format!(
        "role: traditional\n  role_traditional: {{config_provider: etcd}}\n  \
         etcd: {{host: \"{url}\", timeout: 5, startup_retry: 0}}"
    ))
}

fn start(etcd: &Etcd) -> (Gateway, Admin) {
    let gateway = setup(etcd).start();
    let admin = gateway.admin();
    (gateway, admin)
}

fn route(uri: &str, body: &str) -> String {
    json!({"uri": uri, "plugins": {"fault-injection": {"abort": {
        "http_status": 200, "body": body}}}})
    .to_string()
}

fn serves(gateway: &Gateway, uri: &str, body: &str) {
    eventually(&format!("{uri} gives {body}"), || gateway.get(uri).text() == body);
}

#[test]
fn two_gateways_see_the_same() {
    let Some(etcd) = Etcd::start() else { return };
    let ((one, first), (two, second)) = (start(&etcd), start(&etcd));
    first.put("/routes/1", route("/a", "from one"));
    assert_eq!(one.get("/a").text(), "from one");
    serves(&two, "/a", "from one");
    second.put("/routes/1", route("/a", "from two"));
    assert_eq!(two.get("/a").text(), "from two");
    serves(&one, "/a", "from two");
    // APISIX's layout: its tools read and write it too.
    let kept = etcd.ctl(&["get", "/apisix/routes/1", "--print-value-only"]);
    let kept: serde_json::Value = serde_json::from_str(&kept).expect("JSON");
    assert_eq!((&kept["uri"], &kept["id"]), (&json!("/a"), &json!("1")));
    etcd.ctl(&["put", "/apisix/routes/", "init_dir"]);
    etcd.ctl(&["put", "/apisix/routes/2", &route("/b", "from a tool")]);
    for gateway in [&one, &two] {
        serves(gateway, "/b", "from a tool");
    }
    let (_, posted) = first.ask("POST", "/routes", route("/c", "posted"));
    let (_, other) = second.ask("POST", "/routes", route("/d", "posted"));
    assert_ne!(posted["value"]["id"], other["value"]["id"]);
    serves(&two, "/c", "posted");
    assert_eq!(second.ask("DELETE", "/routes/1", "").0, 200);
    eventually("the route is gone", || one.get("/a").status() == 404);
    first.put("/routes/3?ttl=2", route("/t", "for a while"));
    serves(&two, "/t", "for a while");
    eventually("its lease ran out", || one.get("/t").status() == 404);
}

/// What one writer does wrong harms that item and nothing else.
#[test]
fn bad_items_are_left_out() {
    let Some(etcd) = Etcd::start() else { return };
    etcd.ctl(&["put", "/apisix/routes/bad", "{\"uri\": \"/x\", \"plugins\": {\"nothing\": {}}}"]);
    etcd.ctl(&["put", "/apisix/routes/worse", "no JSON"]);
    etcd.ctl(&["put", "/apisix/routes/good", &route("/g", "good")]);
    let (gateway, admin) = start(&etcd);
    assert_eq!((gateway.get("/g").text(), gateway.get("/x").status()), ("good".to_owned(), 404));
    etcd.ctl(&["put", "/apisix/routes/good", "{\"uri\": 7}"]);
    gateway.wait_for_log("routes/good: left out");
    assert_eq!(gateway.get("/g").text(), "good", "what served before serves on");
    let status: serde_json::Value =
        serde_json::from_str(&get(gateway.page("status"), "/status").text()).expect("JSON");
    let left_out = status["left_out"].as_object().expect("an object");
    let keys: Vec<_> = left_out.keys().collect();
    assert_eq!(keys, ["routes/bad", "routes/good", "routes/worse"]);
    admin.put("/routes/good", route("/g", "mended"));
    assert_eq!(gateway.get("/g").text(), "mended");
}

/// As controllers do it: the nodes of before get no requests any more.
#[test]
fn an_upstream_is_scaled_to_zero_and_back() {
    let Some(etcd) = Etcd::start() else { return };
    let upstream = Upstream::hello();
    let (gateway, admin) = start(&etcd);
    let nodes = |nodes: &str| format!("{{\"id\": \"1\", \"nodes\": {nodes}}}");
    let some = nodes(&format!("{{\"{}\": 1}}", upstream.node()));
    admin.put("/upstreams/1", &some);
    admin.put("/routes/1", "{\"uri\": \"/a\", \"upstream_id\": \"1\"}");
    for none in ["[]", "{}"] {
        etcd.ctl(&["put", "/apisix/upstreams/1", &some]);
        serves(&gateway, "/a", "hello world\n");
        etcd.ctl(&["put", "/apisix/upstreams/1", &nodes(none)]);
        eventually("there is no node", || gateway.get("/a").status() == 503);
    }
    admin.put("/upstreams/1", some);
    assert_eq!(gateway.get("/a").text(), "hello world\n");
    admin.put("/upstreams/1", nodes("[]"));
    assert_eq!(gateway.get("/a").status(), 503);
}

/// A global rule that can't be used closes the gateway, unless an earlier version of it serves.
#[test]
fn no_request_goes_on_without_a_global_rule() {
    let Some(etcd) = Etcd::start() else { return };
    let put = |id: &str, rule: &str| {
        etcd.ctl(&["put", &format!("/apisix/global_rules/{id}"), rule]);
    };
    let rule = |plugins: &str| format!("{{\"id\": \"1\", \"plugins\": {{{plugins}}}}}");
    let blocks = rule("\"uri-blocker\": {\"block_rules\": [\"/\"]}");
    etcd.ctl(&["put", "/apisix/routes/1", &route("/a", "open")]);
    for bad in [rule("\"nothing\": {}, \"cors\": {}"), "no JSON".to_owned()] {
        put("1", &bad);
        let (gateway, _) = start(&etcd);
        let page = |path: &str| get(gateway.page("status"), path);
        let ready = || page("/status/ready").status();
        assert_eq!((gateway.get("/a").status(), ready()), (503, 503), "{bad}");
        put("1", &rule("\"cors\": {}"));
        serves(&gateway, "/a", "open");
        assert_eq!(ready(), 200);
        // It arrives broken, and the one before serves on.
        put("1", &blocks);
        eventually("it keeps out", || gateway.get("/a").status() == 403);
        put("1", &bad);
        eventually("it is left out", || page("/status").text().contains("global_rules/1"));
        assert_eq!((gateway.get("/a").status(), ready()), (403, 200), "{bad}");
        // One that nothing serves for.
        put("2", &bad);
        eventually("nothing goes on", || gateway.get("/a").status() == 503);
        assert_eq!(ready(), 503);
        etcd.ctl(&["del", "/apisix/global_rules/2"]);
        eventually("the first one serves", || gateway.get("/a").status() == 403);
        etcd.ctl(&["del", "/apisix/global_rules/1"]);
        serves(&gateway, "/a", "open");
        assert_eq!(ready(), 200);
    }
}

#[test]
fn etcd_may_go_and_come_back() {
    let Some(mut etcd) = Etcd::start() else { return };
    let ((one, first), (two, _)) = (start(&etcd), start(&etcd));
    first.put("/routes/1", route("/a", "before"));
    serves(&two, "/a", "before");
    let kept = two.folder().path().join("store/etcd.json");
    eventually("the local file has it", || {
        std::fs::read_to_string(&kept).is_ok_and(|text| text.contains("before"))
    });
    etcd.kill();
    assert_eq!(first.ask("PUT", "/routes/1", route("/a", "lost")).0, 503);
    for gateway in [&one, &two] {
        assert_eq!(gateway.get("/a").text(), "before");
    }
    // A third one starts with what the second knew.
    let third = setup(&etcd)
        .ringgate(&format!("store_dir: {}", kept.parent().expect("a folder").display()));
    let third = third.start();
    assert_eq!(third.get("/a").text(), "before");
    etcd.restart();
    eventually("writes are taken again", || {
        first.ask("PUT", "/routes/1", route("/a", "after")).0 == 200
    });
    for gateway in [&one, &two, &third] {
        serves(gateway, "/a", "after");
    }
}

/// Changes that are forgotten before a gateway could see them: it reads everything again.
#[test]
fn compaction_while_nobody_watched() {
    let Some(mut etcd) = Etcd::start() else { return };
    let (gateway, admin) = start(&etcd);
    admin.put("/routes/1", route("/a", "old"));
    admin.put("/routes/2", route("/b", "to be deleted"));
    let kept = gateway.folder().path().join("store/etcd.json");
    eventually("the local file has it", || {
        std::fs::read_to_string(&kept).is_ok_and(|text| text.contains("to be deleted"))
    });
    etcd.kill();
    let stopped = gateway.folder().path().join("stopped");
    std::fs::create_dir_all(&stopped).expect("a folder");
    std::fs::copy(&kept, stopped.join("etcd.json")).expect("copied");
    let late = setup(&etcd).ringgate(&format!("store_dir: {}", stopped.display())).start();
    late.process().signal(rustix::process::Signal::STOP);
    etcd.restart();
    etcd.ctl(&["put", "/apisix/routes/1", &route("/a", "new")]);
    etcd.ctl(&["del", "/apisix/routes/2"]);
    let header = etcd.ctl(&["get", "/apisix/routes/1", "-w", "json"]);
    let header: serde_json::Value = serde_json::from_str(&header).expect("JSON");
    etcd.ctl(&["compact", &header["header"]["revision"].to_string()]);
    late.process().signal(rustix::process::Signal::CONT);
    serves(&late, "/a", "new");
    eventually("the deleted route is gone", || late.get("/b").status() == 404);
}

#[test]
fn without_etcd_and_without_a_local_file_there_is_no_start() {
    let Some(mut etcd) = Etcd::start() else { return };
    etcd.kill();
    let ended = setup(&etcd).refused();
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(ended.stderr.contains("it was never seen before"), "{}", ended.stderr);
}

#[test]
fn etcd_with_users() {
    let Some(etcd) = Etcd::start() else { return };
    etcd.ctl(&["user", "add", "root:secret"]);
    etcd.ctl(&["user", "grant-role", "root", "root"]);
    etcd.ctl(&["auth", "enable"]);
    let with = |password: &str| {
        let url = etcd.url();
        Setup::new("").admin(&format!(
            "role: traditional\n  etcd: {{host: [\"{url}\"], user: root, password: {password}, \
             startup_retry: 0, prefix: /fleet}}"
        ))
    };
    let ended = with("wrong").refused();
    assert!(ended.code == Some(3) && !ended.stderr.contains("wrong:"), "{ended:?}");
    let gateway = with("secret").start();
    gateway.admin().put("/routes/1", route("/a", "allowed"));
    assert_eq!(gateway.get("/a").text(), "allowed");
}

/// Over TLS, with an authority of our own: etcd's certificate is checked against it.
#[test]
fn etcd_over_tls() {
    let Some(etcd) = Etcd::start_tls(false) else { return };
    etcd.ctl(&["user", "add", "root:secret"]);
    etcd.ctl(&["user", "grant-role", "root", "root"]);
    etcd.ctl(&["auth", "enable"]);
    let with = |tls: &str, password: &str| {
        let url = etcd.url();
        Setup::new("").operators().admin(&format!(
            "role: traditional\n  etcd: {{host: [\"{url}\"], user: root, password: {password}, \
             startup_retry: 0, timeout: 15, tls: {tls}}}"
        ))
    };
    let (ca, other) = (etcd.certificates().text("ca.pem"), etcd.certificates().text("other.pem"));
    let own = format!("{{ca: {ca}}}");
    let gateway = with(&own, "secret").start();
    gateway.admin().put("/routes/1", route("/a", "through TLS"));
    assert_eq!(gateway.get("/a").text(), "through TLS");
    etcd.ctl(&["--user", "root:secret", "put", "/apisix/routes/2", &route("/b", "watched")]);
    serves(&gateway, "/b", "watched");
    for (tls, password, words) in [
        (format!("{{ca: {other}}}"), "secret", "certificate"),
        // Not one of those that the system knows.
        ("{}".to_owned(), "secret", "certificate"),
        (own, "guessed", "authentication failed"),
        (format!("{{ca: {ca}, sni: elsewhere.example}}"), "secret", "certificate"),
    ] {
        let ended = with(&tls, password).refused();
        assert_eq!(ended.code, Some(3), "{tls}: {ended:?}");
        assert!(ended.stderr.contains(words), "{tls}: {words}: {}", ended.stderr);
        assert!(!ended.stderr.contains("guessed"), "{}", ended.stderr);
    }
    // There is no way to leave it unchecked.
    let ended = with(&format!("{{ca: {ca}, verify: false}}"), "secret").refused();
    assert!(ended.stderr.contains("etcd's certificate is always checked"), "{}", ended.stderr);
}

/// etcd checks who we are by a certificate, too.
#[test]
fn etcd_that_wants_a_certificate() {
    let Some(etcd) = Etcd::start_tls(true) else { return };
    let with = |identity: &str| {
        let (url, ca) = (etcd.url(), etcd.certificates().text("ca.pem"));
        Setup::new("").admin(&format!(
            "role: traditional\n  etcd: {{host: [\"{url}\"], startup_retry: 0, timeout: 15, tls: \
             {{ca: {ca}{identity}}}}}"
        ))
    };
    let file = |name| etcd.certificates().text(name);
    let gateway =
        with(&format!(", cert: {}, key: {}", file("client.pem"), file("client.key"))).start();
    gateway.admin().put("/routes/1", route("/a", "known"));
    assert_eq!(gateway.get("/a").text(), "known");
    // Over TLS 1.3 it hears of that only as a connection that ends.
    let ended = with("").refused();
    assert_eq!(ended.code, Some(3), "{ended:?}");
}

/// `make soak` prints the figures of issue 6.
#[test]
#[ignore = "figures"]
fn figures() {
    let Some(etcd) = Etcd::start() else { return };
    let keys = (0..10_000)
        .map(|n| (format!("/apisix/routes/{n}"), route(&format!("/r{n}"), &format!("route {n}"))));
    etcd.fill(keys);
    let begun = Instant::now();
    let (one, first) = start(&etcd);
    let started = begun.elapsed();
    assert_eq!(one.get("/r9999").text(), "route 9999");
    let (two, _) = start(&etcd);
    let mut times: Vec<Duration> = (0..21)
        .map(|round| {
            let body = format!("round {round}");
            let begun = Instant::now();
            first.put("/routes/5", route("/r5", &body));
            while one.get("/r5").text() != body || two.get("/r5").text() != body {
                std::thread::sleep(Duration::from_millis(1));
            }
            begun.elapsed()
        })
        .collect();
    times.sort();
    println!(
        "etcd, 10,000 keys: start {started:?}; a change live on both gateways: median {:?}, \
              longest {:?}",
        times[10], times[20]
    );
}
