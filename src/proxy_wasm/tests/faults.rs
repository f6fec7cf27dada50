//! Guests that fail: whose stream pays, and what is said about it.

use super::super::{OnError, PluginSettings};
use super::{Guest, Rig, lines, settings};
use crate::plugin::{Action, RouteFacts};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn failing(phase: &str, how: &str, on_error: OnError) -> Rig {
    let mut guest = Guest::new();
    guest.on(phase, how, 0);
    let mut settings = settings(&guest.text());
    settings.on_error = on_error;
    settings.deadline_ms = 20;
    Rig::with(settings)
}

/// The action of the callback that fails, and of those after it.
fn play(rig: &mut Rig) -> Vec<Action> {
    let actions = vec![
        rig.request_headers(),
        rig.request_body(b"x", true),
        rig.request_trailers(),
        rig.response_headers(),
        rig.response_body(b"x", true),
        rig.response_trailers(),
    ];
    rig.log();
    actions
}

const CALLBACKS: [&str; 6] = [
    "request_headers",
    "request_body",
    "request_trailers",
    "response_headers",
    "response_body",
    "response_trailers",
];

#[test]
fn a_trap_in_every_callback() {
    for (at, callback) in CALLBACKS.into_iter().enumerate() {
        let mut rig = failing(callback, "unreachable", OnError::Closed);
        for _ in 0..3 {
            let actions = play(&mut rig);
            for (n, action) in actions.into_iter().enumerate() {
                let expected = if n == at { Action::Respond } else { Action::Continue };
                assert_eq!(action, expected, "{callback}: callback {n}");
            }
            assert_eq!((rig.message.local.status, &rig.message.local.body), (503, &None));
            assert!(!rig.message.local.verbatim);
            assert_eq!(lines().len(), 1, "{callback}: one line");
            rig.next();
        }

        let mut rig = failing(callback, "unreachable", OnError::Open);
        assert!(play(&mut rig).iter().all(|action| *action == Action::Continue), "{callback}");
    }
    for callback in ["done", "log", "delete"] {
        let mut rig = failing(callback, "unreachable", OnError::Closed);
        assert!(play(&mut rig).iter().all(|action| *action == Action::Continue), "{callback}");
        assert_eq!(lines().len(), 1, "{callback}");
        rig.next();
        assert_eq!(rig.request_headers(), Action::Continue, "{callback}");
    }
}

#[test]
fn a_trap_when_the_stream_is_made() {
    let mut rig = failing(
        "context_create",
        "(if (i32.ne (local.get 1) (i32.const 0)) (then unreachable))",
        OnError::Closed,
    );
    assert_eq!(rig.request_headers(), Action::Respond);
    assert_eq!(rig.response_headers(), Action::Continue, "no callbacks after a failure");
    rig.log();
    assert_eq!(lines().len(), 1);
    rig.next();
    rig.log();
    assert_eq!(lines(), [""; 0], "it has no log to be shown");
}

#[test]
fn the_line_has_everything() {
    let mut guest = Guest::new();
    guest.on("request_headers", "(call $outer)", 0);
    let text = guest.text_with(
        "(func (export \"malloc\") (param i32) (result i32) (i32.const 0))
         (func $outer (call $inner)) (func $inner unreachable)",
    );
    let mut rig = Rig::new(&text);
    rig.message.route =
        Some(Rc::new(Arc::new(RouteFacts { route_id: "r1".to_owned(), ..RouteFacts::default() })));
    rig.request_headers();
    let line = lines().remove(0);
    let head = "ERROR [p] proxy_on_request_headers trapped (route r1, request 42): \
                wasm trap: wasm `unreachable` instruction executed";
    assert!(line.starts_with(head), "{line}");
    // Inlined functions may be missing in between; the callback itself never is.
    assert!(
        line.contains("proxy_on_request_headers\n") || line.ends_with("proxy_on_request_headers")
    );
}

#[test]
fn kinds_of_failure_have_names() {
    for (how, name) in [
        ("(loop $l (br $l))", "passed 20 ms"),
        ("(call $recurse)", "trapped"),
        ("(drop (i32.load (i32.const 70000)))", "trapped"),
        ("(drop (i32.div_u (i32.const 1) (i32.const 0)))", "trapped"),
        (
            "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable",
            "wanted more than 1 MiB",
        ),
        ("(call $exit (i32.const 3))", "exited with code 3"),
    ] {
        let mut guest = Guest::new();
        guest.on("request_headers", how, 0);
        let text = guest
            .text_with(
                "(func (export \"malloc\") (param i32) (result i32) (i32.const 0))
                 (func $recurse (call $recurse) (call $recurse))",
            )
            .replacen(
                "(memory ",
                "(import \"wasi_unstable\" \"proc_exit\" (func $exit (param i32))) (memory ",
                1,
            );
        let mut settings = settings(&text);
        settings.deadline_ms = 20;
        settings.memory_bytes_max = 1 << 20;
        let mut rig = Rig::with(settings);
        assert_eq!(rig.request_headers(), Action::Respond, "{how}");
        let line = lines().remove(0);
        assert!(line.contains(&format!("proxy_on_request_headers {name} (route")), "{line}");
    }
}

/// One more request; whether the guest was called.
fn is_called(rig: &mut Rig) -> bool {
    let counters = Arc::clone(&rig.host.counters()[0].counters);
    let before = counters.calls.get();
    rig.next();
    rig.request_headers();
    rig.log();
    counters.calls.get() > before
}

#[test]
fn a_plugin_that_keeps_failing_is_left_alone() {
    let name = b"good";
    let mut guest = Guest::new();
    let (key, len) = guest.bytes(name);
    let good = guest
        .call("env.proxy_get_header_map_value", &[0, key, len, 16, 20].map(super::guest::Arg::W));
    guest.on("request_headers", "(if (call $good) (then unreachable))", 0);
    let allocate = "(func (export \"malloc\") (param i32) (result i32) (i32.const 4096))";
    let text = guest.text_with(&format!("{allocate} (func $good (result i32) {good})"));
    for (on_error, action) in
        [(OnError::Closed, Action::Respond), (OnError::Open, Action::Continue)]
    {
        let mut rig = Rig::with(PluginSettings { on_error, ..settings(&text) });
        for _ in 0..9 {
            assert!(is_called(&mut rig));
        }
        rig.next();
        rig.message.request.headers.append(name, b"1");
        assert_eq!(rig.request_headers(), Action::Continue);
        rig.log();
        (0..10).for_each(|_| assert!(is_called(&mut rig), "a good request is a new beginning"));
        assert!(lines().iter().any(|line| line.contains("failed 10 times in a row: left alone")));
        for ms in [100, 200, 400, 800] {
            rig.next();
            assert_eq!(rig.request_headers(), action);
            rig.log();
            assert!(!is_called(&mut rig), "it is left alone {ms} ms");
            assert_eq!(lines().len(), usize::from(ms > 100) * 2, "and that is not said each time");
            rig.locals.now_ms += ms;
            assert!(is_called(&mut rig), "then it is tried again");
        }
        lines();
        rig.locals.now_ms += 10_000;
        rig.next();
        rig.message.request.headers.append(name, b"1");
        assert_eq!(rig.request_headers(), Action::Continue);
        rig.log();
        (0..9).for_each(|_| assert!(is_called(&mut rig)));
        let counters = &rig.host.counters()[0].counters;
        assert_eq!((counters.traps.get(), counters.backed_off.get()), (9 + 14 + 9, 8));
        lines();
    }
}

#[test]
fn an_endless_loop_ends_in_time() {
    let mut rig = failing("request_headers", "(loop $l (br $l))", OnError::Closed);
    for _ in 0..3 {
        let start = Instant::now();
        assert_eq!(rig.request_headers(), Action::Respond);
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(20), "{took:?}");
        assert!(took < Duration::from_secs(2), "{took:?}");
        rig.next();
    }
}

#[test]
fn more_memory_is_refused_not_trapped() {
    let mut guest = Guest::new();
    let grow = "(memory.grow (i32.const 32))";
    let report = guest.report(grow);
    guest.on("request_headers", &report, 0);
    let mut settings = settings(&guest.text());
    settings.memory_bytes_max = 1 << 20;
    let mut rig = Rig::with(settings);
    assert_eq!(rig.request_headers(), Action::Continue);
    assert_eq!(rig.reported().0, u32::MAX, "minus one");
}

#[test]
fn a_module_larger_than_its_limit_does_not_start() {
    let text = Guest::new().text().replace("\"memory\") 1)", "\"memory\") 100)");
    let mut settings = settings(&text);
    settings.memory_bytes_max = 1 << 20;
    let error = Rig::try_with(settings).map(|_| ()).expect_err("too large");
    assert!(error[0].to_string().contains("failed to start"), "{}", error[0]);
}
