//! Responses that come from the gateway or from plugins, and what `_meta` does to them.

use super::case::{Case, check, whole};
use super::double::{Effect, Phase, Scripted, close, edit, go, pause, respond};
use crate::exchange::Ending;
use crate::expr::Expr;
use crate::plugin::{Hold, Hooks};
use crate::snapshot::Target;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
    5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n";

#[test]
fn the_gateways_own() {
    let nowhere = Case::new("GET /nowhere HTTP/1.1\r\nHost: h\r\n\r\n");
    for (case, status, body) in [
        (nowhere, 404, "{\"error_msg\":\"404 Route Not Found\"}\n"),
        (Case::get().with(|s| s.target = Target::Status(503)), 503, "<title>503 Service Unav"),
        (Case::get().with(|s| s.target = Target::Status(502)), 502, "<title>502 Bad Gateway"),
        (Case::get().with(|s| s.peers = 0), 503, "<title>503 Service Unav"),
        (Case::post("abc").with(|s| s.rules.body_bytes_max = Some(2)), 413, "<title>413 "),
    ] {
        let outcome = whole(case);
        assert_eq!(outcome.status(), status);
        assert!(outcome.body().contains(body), "{}", outcome.text);
        let ending = if status == 413 { Ending::Close } else { Ending::KeepAlive };
        assert_eq!(outcome.ending, ending);
        assert!(outcome.field("date").is_some() && outcome.field("server") == Some("ringgate"));
        let html = outcome.body().starts_with("<html>");
        assert_eq!(outcome.field("content-type") == Some("text/html; charset=utf-8"), html);
    }
}

#[test]
fn plugins_answer_in_every_phase() {
    let coded = "3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n";
    for phase in [
        Phase::RequestHeaders,
        Phase::RequestBody,
        Phase::RequestTrailers,
        Phase::ResponseHeaders,
        Phase::ResponseBody,
        Phase::ResponseTrailers,
    ] {
        check(
            || {
                let before = [pause(Hold::Body)];
                let answer = [respond(403, Some("no")).and(Effect::RespondField("X-Own", "1"))];
                let mut plugin = Scripted::new("p").on(phase, &answer);
                // Where a response would have begun, it is held back.
                if phase == Phase::ResponseTrailers {
                    plugin = plugin.on(Phase::ResponseBody, &before);
                }
                Case::chunked(coded).plugin(plugin).peer(CHUNKED)
            },
            |outcome| {
                assert_eq!((outcome.status(), outcome.body().as_str()), (403, "no"), "{phase:?}");
                assert_eq!(outcome.field("x-own"), Some("1"));
                assert_eq!(outcome.field("content-length"), Some("2"));
                assert_eq!(outcome.ending, Ending::KeepAlive, "{phase:?}");
                assert_eq!(outcome.calls.last().map(String::as_str), Some("p log 403"));
            },
        );
    }
}

#[test]
fn plugins_close_in_every_phase() {
    for phase in [Phase::RequestHeaders, Phase::RequestBody, Phase::ResponseHeaders] {
        check(
            || Case::post("abc").plugin(Scripted::new("p").on(phase, &[close()])).peer(OK),
            |outcome| {
                assert!(outcome.response.is_none() && outcome.ending == Ending::Close);
                assert_eq!(outcome.calls.iter().filter(|call| call.contains(" log ")).count(), 1);
            },
        );
    }
}

#[test]
fn bodies_and_pages() {
    for (status, body, length, html) in [
        (200, None, Some("0"), false),
        (200, Some("hi"), Some("2"), false),
        (503, Some(""), Some("0"), false),
        (503, None, None, true),
        (204, Some("dropped"), None, false),
        (304, None, None, false),
    ] {
        for method in ["GET", "HEAD"] {
            let act = [respond(status, body)];
            let request = format!("{method} / HTTP/1.1\r\nHost: h\r\n\r\n");
            let plugin = Scripted::new("p").on(Phase::RequestHeaders, &act);
            let outcome = whole(Case::new(&request).plugin(plugin));
            assert_eq!(outcome.status(), status);
            let expected = if status == 204 || method == "HEAD" { "" } else { body.unwrap_or("") };
            assert!(html || outcome.body() == expected);
            assert!(html || outcome.field("content-length") == length);
            assert_eq!(html, outcome.field("content-type") == Some("text/html; charset=utf-8"));
        }
    }
}

#[test]
fn local_responses_take_the_responses_way() {
    let sets = [edit(Effect::SetResponse("X-Seen", "1")).and(Effect::RemoveResponse("x-own"))];
    let first = Scripted::new("a").on(Phase::ResponseHeaders, &sets);
    let last = Scripted::new("b")
        .on(
            Phase::RequestHeaders,
            &[respond(401, Some("who")).and(Effect::RespondField("X-Own", "1"))],
        )
        .on(Phase::ResponseBody, &[edit(Effect::Append(" are you"))]);
    let never = Scripted::new("c").on(Phase::RequestHeaders, &[go()]);
    let outcome = whole(Case::get().plugin(first).plugin(last).plugin(never));
    assert_eq!((outcome.status(), outcome.body().as_str()), (401, "who are you"));
    assert_eq!((outcome.field("x-seen"), outcome.field("x-own")), (Some("1"), None));
    assert_eq!(outcome.field("content-length"), Some("11"));
    let calls = [
        "b RequestHeaders \"\" end",
        "a ResponseHeaders \"\"",
        "b ResponseBody \"who\" end",
        "a log 401",
        "b log 401",
        "c log 401",
    ];
    assert_eq!(outcome.calls, calls);
}

#[test]
fn a_second_response_replaces_the_first_without_another_round() {
    let first = Scripted::new("a").on(Phase::RequestHeaders, &[respond(401, Some("first"))]);
    let second = Scripted::new("b").on(Phase::ResponseHeaders, &[respond(402, Some("second"))]);
    let third = Scripted::new("c").on(Phase::ResponseHeaders, &[go()]);
    let outcome = whole(Case::get().plugin(first).plugin(second).plugin(third));
    assert_eq!((outcome.status(), outcome.body().as_str()), (402, "second"));
    assert_eq!(outcome.calls_of("ResponseHeaders"), ["b \"\""]);
}

#[test]
fn error_responses_replace_bodies_of_errors() {
    for (status, body, expected) in
        [(400, Some("own"), "theirs"), (503, None, "theirs"), (200, Some("own"), "own")]
    {
        let plugin = Scripted::new("p").on(Phase::RequestHeaders, &[respond(status, body)]);
        let case = Case::get().plugin(plugin);
        let outcome = whole(case.with(|setup| {
            setup.meta = |steps| steps[0].error_response = Some(b"theirs".to_vec());
        }));
        assert_eq!((outcome.status(), outcome.body().as_str()), (status, expected));
    }
}

#[test]
fn filters_choose_the_requests() {
    for (argument, status) in [("1", 403), ("2", 200)] {
        let request = format!("GET /?stop={argument} HTTP/1.1\r\nHost: h\r\n\r\n");
        let plugin = Scripted::new("p").on(Phase::RequestHeaders, &[respond(403, None)]);
        let case = Case::new(&request).plugin(plugin).peer(OK);
        let outcome = whole(case.with(|setup| {
            setup.meta = |steps| {
                let rule = serde_json::json!([["arg_stop", "==", "1"]]);
                steps[0].filter = Some(Expr::compile(&rule).expect("a rule"));
                assert!(steps[0].hooks.has(Hooks::LOG));
            };
        }));
        assert_eq!(outcome.status(), status);
        let logs = outcome.calls.iter().filter(|call| call.contains("log")).count();
        assert_eq!(logs, usize::from(status == 403), "a filtered step is not logged either");
    }
}
