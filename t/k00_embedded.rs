//! The embedded store: what was acknowledged is there again, whatever happens.

use crate::harness::{Admin, Gateway, Setup, eventually, get};
use serde_json::json;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

fn setup(store: &Path) -> Setup {
    Setup::new("").admin("role: traditional").ringgate(&format!("store_dir: {}", store.display()))
}

fn start(store: &Path) -> (Gateway, Admin) {
    let gateway = setup(store).start();
    let admin = gateway.admin();
    (gateway, admin)
}

fn route(n: usize) -> String {
    json!({"uri": format!("/r{n}"), "plugins": {"fault-injection": {"abort": {
        "http_status": 200, "body": format!("route {n}")}}}})
    .to_string()
}

#[test]
fn resources_outlive_the_process() {
    let home = crate::harness::Folder::new();
    let store = home.path().join("store");
    let (gateway, admin) = start(&store);
    admin.put("/routes/1", route(1));
    admin.put("/routes/2", route(2));
    assert_eq!(admin.ask("DELETE", "/routes/2", "").0, 200);
    let before = admin.ask("GET", "/routes/1", "").1;
    assert_eq!(gateway.stop().code, Some(0));
    let (gateway, admin) = start(&store);
    assert_eq!(
        (gateway.get("/r1").text(), gateway.get("/r2").status()),
        ("route 1".to_owned(), 404)
    );
    assert_eq!(admin.ask("GET", "/routes/1", "").1, before);
    // One process has the store at a time.
    let ended = setup(&store).refused();
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(ended.stderr.contains("resources.redb"), "{}", ended.stderr);
}

/// A global rule that can't be used, as its plugins may be what keeps requests out: no request goes
/// on, until somebody mends or deletes it.
#[test]
fn no_request_goes_on_without_a_global_rule() {
    let home = crate::harness::Folder::new();
    let store = home.path().join("store");
    let rule =
        |plugin: &str| json!({"plugins": {plugin: {}, "uri-blocker": {"block_rules": ["/"]}}});
    let without = "plugins: [fault-injection, uri-blocker, cors]";
    for is_mended in [true, false] {
        let (gateway, admin) = start(&store);
        admin.put("/routes/1", route(1));
        admin.put("/global_rules/1", rule("request-id").to_string());
        assert_eq!(gateway.get("/r1").status(), 403);
        assert_eq!(gateway.stop().code, Some(0));
        let gateway = setup(&store).operators().metrics().more(without).start();
        let admin = gateway.admin();
        for uri in ["/r1", "/nothing"] {
            let answer = gateway.get(uri);
            assert_eq!(answer.status(), 503, "{uri}");
            assert!(answer.text().contains("<title>503 Service Unavailable</title>"));
        }
        gateway.wait_for_log("every request is answered 503");
        let ready = || get(gateway.page("status"), "/status/ready");
        let text = ready().text();
        assert_eq!(ready().status(), 503);
        assert!(text.contains("plugin request-id is not enabled"), "{text}");
        let counted = "apisix_http_status{code=\"503\",route=\"\",service=\"\"} 2";
        let metrics = || get(gateway.metrics(), "/metrics").text();
        eventually("they are counted", || metrics().contains(counted));
        // What else changes opens nothing.
        admin.put("/routes/2", route(2));
        assert_eq!(gateway.get("/r2").status(), 503);
        if is_mended {
            admin.put("/global_rules/1", rule("cors").to_string());
            assert_eq!(gateway.get("/r1").status(), 403);
        } else {
            assert_eq!(admin.ask("DELETE", "/global_rules/1", "").0, 200);
            assert_eq!(gateway.get("/r1").text(), "route 1");
        }
        assert_eq!(ready().status(), 200);
    }
}

/// kill -9 in the middle of a thousand writes: no acknowledged one is lost.
#[test]
fn nothing_acknowledged_is_lost_by_a_kill() {
    let home = crate::harness::Folder::new();
    let store = home.path().join("store");
    let (gateway, admin) = start(&store);
    const WRITERS: usize = 4;
    const EACH: usize = 250;
    let (acknowledged, killed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let written: Vec<Vec<usize>> = std::thread::scope(|scope| {
        let write = |writer: usize| {
            let (admin, acknowledged, killed) = (&admin, &acknowledged, &killed);
            move || {
                let mut done = Vec::new();
                for n in (0..EACH).map(|n| writer * EACH + n) {
                    let ask = || admin.ask("PUT", &format!("/routes/{n}"), route(n)).0;
                    // A connection that the kill cuts off is a write nobody acknowledged.
                    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(ask)) {
                        Ok(status) => assert!([200, 201].contains(&status), "{status}"),
                        Err(_) => {
                            assert!(killed.load(Ordering::SeqCst), "only the kill ends a write");
                            break;
                        }
                    }
                    done.push(n);
                    acknowledged.fetch_add(1, Ordering::SeqCst);
                }
                done
            }
        };
        let writers: Vec<_> = (0..WRITERS).map(|writer| scope.spawn(write(writer))).collect();
        while acknowledged.load(Ordering::SeqCst) < WRITERS * EACH / 2 {
            std::thread::sleep(Duration::from_millis(1));
        }
        killed.store(true, Ordering::SeqCst);
        gateway.kill();
        writers.into_iter().map(|writer| writer.join().expect("a writer")).collect()
    });
    let written: Vec<usize> = written.into_iter().flatten().collect();
    assert!(written.len() < WRITERS * EACH, "the kill came in the middle");
    let (gateway, admin) = start(&store);
    for n in &written {
        assert_eq!(gateway.get(&format!("/r{n}")).text(), format!("route {n}"));
    }
    let total = admin.ask("GET", "/routes", "").1["total"].as_u64().expect("a number");
    let most = (written.len() + WRITERS) as u64;
    assert!((written.len() as u64..=most).contains(&total), "{total} of {}", written.len());
}
