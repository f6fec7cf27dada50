//! Guests that fail: whose stream pays, and what is said about it.

use super::super::OnError;
use super::{Guest, Rig, lines, settings};
use crate::plugin::{Action, RouteFacts};
use std::rc::Rc;
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
        Some(Rc::new(RouteFacts { route_id: "r1".to_owned(), ..RouteFacts::default() }));
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
