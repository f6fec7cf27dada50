//! Instances of plugins: one a request, dry pools, plugins that keep failing, and new files while
//! requests run.

use crate::harness::{Gateway, Setup, Upstream, eventually};
use rustix::process::Signal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Answers with a letter: at once, or when the request's body is all there. Counts requests in its
/// memory, and adds the number when asked for `/n`.
const LETTER: &str = r#"(module
    (import "env" "proxy_send_local_response"
        (func $respond (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_define_metric"
        (func $define (param i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_increment_metric" (func $increment (param i32 i64) (result i32)))
    (import "env" "proxy_set_shared_data"
        (func $set (param i32 i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 64) "LETTER0")
    (data (i32.const 80) "answers;of=letter")
    (func (export "proxy_abi_version_0_2_1"))
    (func (export "malloc") (param i32) (result i32) (i32.const 1024))
    (func (export "proxy_on_context_create") (param i32 i32))
    (func (export "proxy_on_configure") (param i32 i32) (result i32)
        ;; MORE
        (drop (call $define (i32.const 0) (i32.const 80) (i32.const 17) (i32.const 16)))
        (i32.const 1))
    (func $answer (result i32)
        (drop (call $increment (i32.load (i32.const 16)) (i64.const 1)))
        (drop (call $set (i32.const 64) (i32.const 6) (i32.const 64) (i32.const 6) (i32.const 0)))
        (i32.store8 (i32.const 70) (i32.add (i32.const 1) (i32.load8_u (i32.const 70))))
        (drop (call $respond (i32.const 200) (i32.const 0) (i32.const 0)
            (i32.const 69) (i32.const 2) (i32.const 0) (i32.const 0) (i32.const -1)))
        (i32.const 1))
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (if (result i32) (local.get 2) (then (call $answer)) (else (i32.const 1))))
    (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
        (if (result i32) (local.get 2) (then (call $answer)) (else (i32.const 1)))))"#;

fn letter(letter: char) -> String {
    LETTER.replace("LETTER", &format!("     {letter}"))
}

/// The same plugin, with something that other instances may find otherwise before any request.
const UNLIKE: &str =
    "(drop (call $set (i32.const 64) (i32.const 6) (i32.const 64) (i32.const 6) (i32.const 0)))";

/// A gateway with that plugin on every path.
fn lettered(keys: &str) -> Gateway {
    lettered_with("", keys)
}

/// The same, with more in its `proxy_on_configure`.
fn lettered_with(more: &str, keys: &str) -> Gateway {
    let setup = Setup::new("routes:\n  - {uri: /*, plugins: {letter: {conf: x}}}\n").metrics();
    let path = setup.folder().write("letter.wat", letter('a').replace(";; MORE", more));
    let keys = format!("pause: body, {keys}");
    setup.wasm("letter", path.to_str().expect("a path of text"), &keys).start()
}

fn counted(gateway: &Gateway, name: &str) -> f64 {
    let sample = format!("ringgate_wasm_{name}{{plugin=\"letter\",worker=\"0\"}}");
    gateway.metric(&sample).unwrap_or_else(|| panic!("no {sample}"))
}

#[test]
fn every_request_has_an_instance_of_its_own() {
    // One is set back and used again where that can't be told from a new one, else made anew.
    for (more, started, dry) in [("", 4.0, 0.0), (UNLIKE, 204.0, 12.0)] {
        let gateway = lettered_with(more, "isolation: request, pool: 4");
        let mut client = gateway.client();
        for _ in 0..200 {
            assert_eq!(client.get("/").text(), "a1");
        }
        eventually("the pool is full", || counted(&gateway, "instances_spare") == 4.0);
        assert_eq!(counted(&gateway, "dry_total"), 0.0, "one was always ready");
        assert_eq!(counted(&gateway, "instances_started_total"), started);
        // Sixteen at once are more than were made ahead: new ones are made when they are needed.
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(16));
        for _ in 0..16 {
            assert_eq!(client.response().text(), "a1");
        }
        assert_eq!(counted(&gateway, "dry_total"), dry);
    }
    let shared = lettered("isolation: shared");
    assert_eq!(shared.get("/").text(), "a1");
    assert_eq!(shared.get("/").text(), "a2");
}

#[test]
fn a_dry_pool_waits_or_refuses() {
    let body = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n";
    for dry in ["dry: refuse, pool: 1", "dry: wait, pool: 1", "pool: 1"] {
        let limits = "limits: {instances: 1, wait_ms: 300}";
        let gateway = lettered(&format!("isolation: request, {dry}, {limits}"));
        let mut first = gateway.client();
        first.send(body);
        eventually("the first is there", || counted(&gateway, "calls_total") >= 3.0);
        let start = Instant::now();
        assert_eq!(gateway.get("/").status(), 503, "{dry}");
        let waited = start.elapsed() >= Duration::from_millis(290);
        assert_eq!(waited, !dry.contains("refuse"), "{dry}: {:?}", start.elapsed());
        assert_eq!(counted(&gateway, "dry_refused_total"), 1.0, "{dry}");
        // One that waits gets in when the first is done.
        let mut second = gateway.client();
        if waited {
            second.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            eventually("it waits", || counted(&gateway, "waiting") == 1.0);
        }
        first.send("body");
        assert_eq!(first.response().text(), "a1", "{dry}");
        if !waited {
            eventually("refilled", || counted(&gateway, "instances_spare") == 1.0);
            second.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        }
        assert_eq!(second.response().text(), "a1", "{dry}");
        assert_eq!(counted(&gateway, "waiting"), 0.0, "{dry}");
    }
}

#[test]
fn what_plugins_do_is_counted() {
    let gateway = lettered("limits: {shared_data_mb: 0}");
    let before = counted(&gateway, "calls_total");
    for _ in 0..10 {
        assert_eq!(gateway.get("/").status(), 200);
    }
    assert_eq!(counted(&gateway, "calls_total") - before, 20.0, "context_create and headers");
    // Levels are shown at the worker's next tick.
    let shown = || counted(&gateway, "memory_high_bytes") == 65_536.0;
    eventually("the guest's memory is shown", shown);
    assert_eq!(counted(&gateway, "shared_data_full_total"), 10.0);
    assert_eq!(gateway.metric("answers_of_letter"), Some(10.0), "its own, by a legal name");
    gateway.wait_for_log("[letter] shared data is full: `limits.shared_data_mb`");
}

/// Failures are counted by kind, and a plugin that does nothing else is left alone for a while.
#[test]
fn a_plugin_that_keeps_failing_is_left_alone() {
    let upstream = Upstream::hello();
    for (conf, kind) in
        [("trap=on_request_headers", "trap"), ("loop=on_request_headers", "deadline")]
    {
        let gateway = Setup::new(format!(
            "routes:\n  - {{uri: /bad, plugins: {{trap: {{conf: {conf}}}}}}}\n  \
             - {{uri: /plain, upstream: {{nodes: {{\"{}\": 1}}}}}}\n",
            upstream.node()
        ))
        .wasm("trap", "dist/trap.wasm", "limits: {deadline_ms: 10}")
        .metrics()
        .start();
        for _ in 0..10 {
            assert_eq!(gateway.get("/bad").status(), 503);
        }
        gateway.wait_for_log("[trap] failed 10 times in a row: left alone 100 ms");
        for _ in 0..5 {
            assert_eq!(gateway.get("/bad").status(), 503);
            assert_eq!(gateway.get("/plain").status(), 200);
        }
        let of = |name: &str| {
            let sample = format!("ringgate_wasm_{name}");
            gateway.metric(&sample).unwrap_or_else(|| panic!("no {sample}"))
        };
        let failures = format!("failures_total{{plugin=\"trap\",worker=\"0\",kind=\"{kind}\"}}");
        let backed_off = "backed_off_total{plugin=\"trap\",worker=\"0\"}";
        assert_eq!(of(&failures) + of(backed_off), 15.0, "{kind}");
        assert!(of(&failures) < 14.0 && of(backed_off) > 1.0, "{kind}: {}", of(&failures));
    }
}

/// New code under load: nothing is lost, requests that run keep theirs, the old code goes.
#[test]
fn a_new_file_takes_over_without_losing_a_request() {
    for keys in ["isolation: shared", "isolation: request"] {
        let gateway = lettered(keys);
        let swap = |to: char| {
            gateway.folder().write("letter.wat", letter(to));
            gateway.process().signal(Signal::HUP);
            let serves = || gateway.get("/").text().starts_with(to);
            eventually("the new one serves", serves);
        };
        let mut running = gateway.client();
        // The body is asked for when the headers are through the plugin.
        let expects = "Expect: 100-continue\r\nContent-Length: 4\r\n\r\n";
        running.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{expects}"));
        assert_eq!(running.wire().head().expect("an interim response").status(), 100);
        running.send("bo");
        let stop = AtomicBool::new(false);
        let (asked, rss) = std::thread::scope(|scope| {
            let load = scope.spawn(|| {
                let mut client = gateway.client();
                let mut asked = 0;
                while !stop.load(Ordering::Relaxed) {
                    let response = client.get("/");
                    assert_eq!(response.status(), 200);
                    asked += 1;
                }
                asked
            });
            let mut rss = Vec::new();
            for round in 0..20 {
                swap(if round % 2 == 0 { 'b' } else { 'a' });
                rss.push(resident_kib(&gateway));
            }
            stop.store(true, Ordering::Relaxed);
            (load.join().expect("no request was lost"), rss)
        });
        assert!(asked > 20, "{asked}");
        assert!(rss[19] < rss[9] + rss[9] / 10, "{keys}: memory grows: {rss:?} KiB");
        running.send("dy");
        let answer = running.response().body;
        assert!(answer.len() == 2 && answer[0] == b'a', "its own code: {answer:?}");
        let wanted = if keys.contains("shared") { 1.0 } else { 0.0 };
        let at_work = || counted(&gateway, "instances_at_work") == wanted;
        eventually("the old instances are gone", at_work);
    }
}

fn resident_kib(gateway: &Gateway) -> u64 {
    let path = format!("/proc/{}/status", gateway.process().id());
    let status = std::fs::read_to_string(path).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").trim().parse().expect("a number")
}
