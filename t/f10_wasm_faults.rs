//! Plugins that misbehave at run time: it costs their request, never the worker.
//!
//! All of it is done by `examples/plugins/fixtures/trap.c`, whose `conf` says what to do where. The
//! gateways have one worker, so that the next request meets the same one.

use crate::harness::{Gateway, Message, Setup, Upstream, drivers};
use std::time::{Duration, Instant};

const ISOLATIONS: [&str; 2] = ["isolation: shared", "isolation: request"];

/// `/bad` has the plugin with that conf, `/good` with an empty one, in front of an upstream.
fn setup(upstream: &Upstream, conf: &str, keys: &str) -> Setup {
    let node = upstream.node();
    Setup::new(format!(
        "upstreams: [{{id: 1, nodes: {{\"{node}\": 1}}}}]
routes:
  - {{uri: /bad, upstream_id: 1, plugins: {{trap: {{conf: \"{conf}\"}}}}}}
  - {{uri: /good, upstream_id: 1, plugins: {{trap: {{conf: echo}}}}}}
  - {{uri: /plain, upstream_id: 1}}"
    ))
    .wasm("trap", "dist/trap.wasm", keys)
}

/// Answers with a body in chunks and a trailer, so that every callback of a response is called.
fn chunks() -> Upstream {
    Upstream::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
    )
}

/// A request with a body in chunks and a trailer.
#[track_caller]
fn ask(gateway: &Gateway, path: &str) -> Message {
    gateway.ask(format!(
        "POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
         2\r\nhi\r\n0\r\nX-Check: 2\r\n\r\n"
    ))
}

/// Callbacks whose failure is the request's failure.
const DURING: [&str; 7] = [
    "on_stream_create",
    "on_request_headers",
    "on_request_body",
    "on_request_trailers",
    "on_response_headers",
    "on_response_body",
    "on_response_trailers",
];

/// Callbacks after the response.
const AFTER: [&str; 3] = ["on_done", "on_log", "on_delete"];

#[test]
fn a_trap_in_any_callback_costs_its_request_only() {
    for isolation in ISOLATIONS {
        for callback in DURING.into_iter().chain(AFTER) {
            let upstream = chunks();
            let gateway = setup(&upstream, &format!("trap={callback}"), isolation).start();
            // More often than instances were made ahead.
            for _ in 0..6 {
                let mut client = gateway.client();
                client.send(
                    "POST /bad HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                     2\r\nhi\r\n0\r\nX-Check: 2\r\n\r\n",
                );
                let outcome = client.outcome(false);
                if AFTER.contains(&callback) {
                    assert_eq!(outcome.expect("a response").text(), "hello", "{callback}");
                } else if callback == "on_response_trailers" {
                    // Its head may be on its way already: then it is cut off.
                    assert!(outcome.is_err() || outcome.is_ok_and(|r| r.status() == 503));
                } else {
                    assert_eq!(outcome.expect("a response").status(), 503, "{callback}");
                }
                assert_eq!(ask(&gateway, "/good").text(), "hello", "{isolation} {callback}");
            }
            assert_eq!(gateway.get("/plain").text(), "hello");
            gateway.wait_for_log("unreachable");
            gateway.wait_for_log("callback on_request_headers");
        }
    }
}

/// The log says which plugin, which callback and where in the guest.
#[test]
fn a_trap_is_logged_with_a_backtrace() {
    let upstream = chunks();
    let gateway = setup(&upstream, "trap=on_request_headers", "").start();
    assert_eq!(gateway.get("/bad").status(), 503);
    gateway.wait_for_log("[trap]");
    gateway.wait_for_log("proxy_on_request_headers");
    gateway.wait_for_log("0: ");
}

#[test]
fn on_error_open_lets_the_request_go_on() {
    for callback in ["on_stream_create", "on_request_headers", "on_response_headers"] {
        let upstream = chunks();
        let conf = format!("trap={callback}");
        let gateway = setup(&upstream, &conf, "on_error: open").start();
        for _ in 0..4 {
            assert_eq!(ask(&gateway, "/bad").text(), "hello", "{callback}");
        }
        assert_eq!(ask(&gateway, "/good").text(), "hello", "{callback}");
    }
}

/// In `isolation: shared` other streams of the instance fall with it, but not the worker.
#[test]
fn many_connections_survive_many_traps() {
    for driver in drivers() {
        let upstream = chunks();
        let setup = setup(&upstream, "trap=on_request_headers", "").driver(*driver);
        let gateway = setup.start();
        let mut clients: Vec<_> = (0..20).map(|_| gateway.client()).collect();
        for round in 0..5 {
            for (number, client) in clients.iter_mut().enumerate() {
                let path = if number % 2 == 0 { "/bad" } else { "/plain" };
                client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
            }
            for (number, client) in clients.iter_mut().enumerate() {
                let wanted = if number % 2 == 0 { 503 } else { 200 };
                assert_eq!(client.response().status(), wanted, "round {round}, client {number}");
            }
        }
    }
}

/// An endless loop ends at its deadline; another connection of the same worker is then served, and
/// one of another worker all the time.
#[test]
fn an_endless_loop_ends_at_its_deadline() {
    for isolation in ISOLATIONS {
        for callback in ["on_request_headers", "on_response_headers", "on_log"] {
            let upstream = chunks();
            let keys = format!("{isolation}, limits: {{deadline_ms: 100}}");
            let gateway = setup(&upstream, &format!("loop={callback}"), &keys).start();
            let mut looping = gateway.client();
            let start = Instant::now();
            looping.send("GET /bad HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(gateway.get("/plain").text(), "hello");
            assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
            let wanted = if callback == "on_log" { 200 } else { 503 };
            assert_eq!(looping.response().status(), wanted, "{callback}");
            assert_eq!(ask(&gateway, "/good").text(), "hello");
            gateway.wait_for_log("deadline");
        }
    }
}

#[test]
fn other_workers_serve_while_one_loops() {
    let upstream = chunks();
    let keys = "limits: {deadline_ms: 3000}";
    let gateway = setup(&upstream, "loop=on_request_headers", keys).workers(2).start();
    // The kernel spreads connections over the workers: not all are with the one that will loop,
    // unless the coin fell on one side twenty times.
    let clients: Vec<_> = (0..20).map(|_| gateway.client()).collect();
    let mut looping = gateway.client();
    let start = Instant::now();
    looping.send("GET /bad HTTP/1.1\r\nHost: a\r\n\r\n");
    let asking = clients.into_iter().map(|mut client| {
        std::thread::spawn(move || {
            assert_eq!(client.get("/plain").text(), "hello");
            start.elapsed()
        })
    });
    let asking: Vec<_> = asking.collect();
    let took = asking.into_iter().map(|asking| asking.join().expect("an answer"));
    let quick = took.filter(|took| *took < Duration::from_millis(2500)).count();
    assert_eq!(looping.response().status(), 503);
    assert!(start.elapsed() >= Duration::from_millis(2900), "{:?}", start.elapsed());
    assert!(quick > 0, "nobody was served meanwhile");
}

#[test]
fn recursion_without_end_is_a_trap() {
    for isolation in ISOLATIONS {
        let upstream = chunks();
        let gateway = setup(&upstream, "recurse=on_request_headers", isolation).start();
        for _ in 0..4 {
            assert_eq!(gateway.get("/bad").status(), 503);
            assert_eq!(gateway.get("/good").text(), "hello");
        }
        gateway.wait_for_log("stack");
    }
}

#[test]
fn memory_stops_at_its_limit() {
    for isolation in ISOLATIONS {
        let upstream = chunks();
        let keys = format!("{isolation}, limits: {{memory_mb: 8}}");
        let gateway = setup(&upstream, "grow=on_request_headers", &keys).start();
        for _ in 0..4 {
            let response = gateway.get("/bad");
            assert_eq!(response.status(), 200);
            assert_eq!(response.text(), "pages=128\n", "8 MiB in pages of 64 KiB");
            assert_eq!(gateway.get("/good").text(), "hello");
        }
    }
}

/// Pointers beyond the guest's memory are answered with a status, in every call.
#[test]
fn pointers_out_of_range_are_statuses() {
    let upstream = chunks();
    let gateway = setup(&upstream, "oob=on_request_headers", "").start();
    for _ in 0..3 {
        let response = gateway.get("/bad");
        assert_eq!(response.status(), 200);
        assert_eq!(
            response.text(),
            "log=6 log_wrap=6 get_header=6 get_header_wrap=6 get_header_out=6 get_buffer=6 \
             get_buffer_size=6 send=6 send_wrap=6\n"
        );
        assert_eq!(gateway.get("/good").text(), "hello");
    }
}

/// A plugin that pauses and never goes on holds its request, and nobody else's; a client that leaves
/// ends it.
#[test]
fn a_pause_without_end_holds_one_request() {
    for callback in ["on_request_headers", "on_response_headers"] {
        let upstream = chunks();
        let setup = setup(&upstream, &format!("pause={callback}"), "");
        let gateway = setup.ringgate("timeouts: {drain: 200ms}").start();
        for _ in 0..3 {
            let mut held = gateway.client();
            held.send("GET /bad HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(gateway.get("/good").text(), "hello", "{callback}");
        }
        let ended = gateway.stop();
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
}

/// Every callback is called, in the order of the ABI, and the request's number is the same in all.
#[test]
fn callbacks_come_in_their_order() {
    let upstream = chunks();
    let gateway = setup(&upstream, "echo", "").start();
    assert_eq!(ask(&gateway, "/bad").text(), "hello");
    gateway.wait_for_log("callback on_delete");
    let log = gateway.log();
    let mut called: Vec<(String, String)> = Vec::new();
    for line in log.lines() {
        let Some((_, words)) = line.split_once("callback ") else { continue };
        let mut words = words.split_whitespace();
        let (Some(name), Some(context)) = (words.next(), words.next()) else { continue };
        called.push((name.to_owned(), context.to_owned()));
    }
    let stream = called.iter().find(|(name, _)| name == "on_stream_create").expect("a stream");
    let context = stream.1.clone();
    let mut names: Vec<&str> = called.iter().filter(|c| c.1 == context).map(|c| &*c.0).collect();
    names.dedup();
    assert_eq!(
        names,
        [
            "on_stream_create",
            "on_request_headers",
            "on_request_body",
            "on_request_trailers",
            "on_response_headers",
            "on_response_body",
            "on_response_trailers",
            "on_done",
            "on_log",
            "on_delete"
        ],
        "{log}"
    );
}
