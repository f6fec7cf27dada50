//! Headers that plugins hold, and letting them go.

use super::case::{Case, check, whole};
use super::double::{Effect, Later, Phase, Scripted, close, edit, go, pause, respond};
use crate::exchange::Ending;
use crate::plugin::Hold;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
const EMPTY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

#[test]
fn nobody_resumes() {
    for hold in [Hold::All, Hold::Body] {
        for phase in [Phase::RequestHeaders, Phase::ResponseHeaders] {
            for (case, answer) in [(Case::get(), OK), (Case::post("abc"), EMPTY)] {
                let plugin = Scripted::new("p").on(phase, &[pause(hold)]);
                let outcome = whole(case.plugin(plugin).peer(answer));
                assert_eq!((outcome.status(), outcome.ms), (504, 60_000), "{hold:?} {phase:?}");
                assert_eq!(outcome.links.len(), usize::from(phase == Phase::ResponseHeaders));
            }
        }
    }
}

#[test]
fn a_resume_in_the_same_callback_takes_the_pause_back() {
    for (phase, effect) in [
        (Phase::RequestHeaders, Effect::ResumeRequest),
        (Phase::ResponseHeaders, Effect::ResumeResponse),
    ] {
        let act = pause(Hold::All).and(effect);
        let outcome = whole(Case::get().plugin(Scripted::new("p").on(phase, &[act])).peer(OK));
        assert_eq!((outcome.status(), outcome.ms), (200, 0));
    }
}

#[test]
fn sleeping_and_being_asked_again() {
    let sleeper = |phase, due: &[super::double::Act]| {
        Scripted::new("a").on(phase, &[pause(Hold::Sleep(30))]).on(Phase::Due, due)
    };
    for phase in [Phase::RequestHeaders, Phase::ResponseHeaders] {
        for (due, status, ms) in [
            (vec![go()], 200, 30),
            (vec![pause(Hold::Sleep(20)), go()], 200, 50),
            (vec![respond(403, Some("no"))], 403, 30),
            (vec![pause(Hold::All)], 504, 60_030),
        ] {
            for answer in [OK, EMPTY] {
                let later = Scripted::new("b").on(phase, &[go()]);
                let case = Case::post("abc").plugin(sleeper(phase, &due)).plugin(later);
                let outcome = whole(case.peer(answer));
                assert_eq!((outcome.status(), outcome.ms), (status, ms), "{phase:?} {due:?}");
                let last = outcome.calls_of(&format!("{phase:?}")).last().cloned();
                assert_eq!(last.is_some_and(|call| call.starts_with('b')), status == 200);
            }
        }
    }
}

#[test]
fn a_body_callback_lets_held_headers_go() {
    let acts = [pause(Hold::Body), go()];
    let holds =
        |headers, body| Scripted::new("a").on(headers, &[pause(Hold::Body)]).on(body, &acts);
    let sees = |headers, body| Scripted::new("b").on(headers, &[go()]).on(body, &[go()]);
    check(
        || {
            let (headers, body) = (Phase::RequestHeaders, Phase::RequestBody);
            let case = Case::chunked("3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n").peer(OK);
            case.plugin(holds(headers, body)).plugin(sees(headers, body))
        },
        |outcome| {
            // Whole, the end comes with the first piece and is kept with it.
            if outcome.ms == 0 {
                assert_eq!(outcome.status(), 200);
                assert_eq!(outcome.request(0).body, b"abcdef");
                let first = outcome.calls.iter().position(|call| call.starts_with("b RequestH"));
                let piece = outcome.calls.iter().position(|call| call.starts_with("b RequestB"));
                assert!(first < piece, "{:?}", outcome.calls);
            } else {
                assert_eq!((outcome.status(), outcome.ms), (504, 60_000));
            }
        },
    );
    check(
        || {
            let (headers, body) = (Phase::ResponseHeaders, Phase::ResponseBody);
            let plugin = Scripted::new("a").on(headers, &[pause(Hold::Body)]).on(body, &[go()]);
            Case::get().plugin(plugin).plugin(sees(headers, body)).peer(OK)
        },
        |outcome| {
            assert_eq!((outcome.status(), outcome.body().as_str()), (200, "hello"));
            assert_eq!(outcome.ending, Ending::KeepAlive);
        },
    );
}

#[test]
fn trailers_let_held_headers_go() {
    check(
        || {
            let plugin = Scripted::new("a")
                .on(Phase::RequestHeaders, &[pause(Hold::Body)])
                .on(Phase::RequestBody, &[pause(Hold::Body)])
                .on(Phase::RequestTrailers, &[edit(Effect::SetRequest("X-Late", "1"))]);
            Case::chunked("3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n").plugin(plugin).peer(OK)
        },
        |outcome| {
            assert_eq!(outcome.status(), 200);
            let request = outcome.request(0);
            assert_eq!((request.body.as_slice(), request.get("x-late")), (&b"abc"[..], Some("1")));
            assert_eq!(request.trailers.len(), 1);
        },
    );
}

#[test]
fn what_waits_behind_a_sleep_is_shown_when_it_is_over() {
    // `a` lets the headers go in its body callback; `b` sleeps on them; `c` sees everything then.
    check(
        || {
            let a = Scripted::new("a")
                .on(Phase::RequestHeaders, &[pause(Hold::Body)])
                .on(Phase::RequestBody, &[go()]);
            let b = Scripted::new("b")
                .on(Phase::RequestHeaders, &[pause(Hold::Sleep(40))])
                .on(Phase::RequestBody, &[edit(Effect::Upper)]);
            let c = Scripted::new("c")
                .on(Phase::RequestHeaders, &[go()])
                .on(Phase::RequestBody, &[go()]);
            Case::chunked("3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n").plugin(a).plugin(b).plugin(c).peer(OK)
        },
        |outcome| {
            assert_eq!((outcome.status(), outcome.ms), (200, 40));
            assert_eq!(outcome.request(0).body, b"ABC");
            assert_eq!(outcome.request(0).trailers.len(), 1);
        },
    );
}

#[test]
fn a_plugin_without_body_callbacks_may_hold_headers_too() {
    // Nobody resumes it, but bodies wait behind it instead of passing.
    let plugin = Scripted::new("a").on(Phase::ResponseHeaders, &[pause(Hold::Body)]);
    let outcome = whole(Case::get().plugin(plugin).peer(OK));
    assert_eq!((outcome.status(), outcome.ms), (504, 60_000));
    let local = Scripted::new("a")
        .on(Phase::RequestHeaders, &[respond(403, Some("no"))])
        .on(Phase::ResponseHeaders, &[pause(Hold::Body)])
        .on(Phase::ResponseBody, &[go()]);
    let outcome = whole(Case::get().plugin(local));
    assert_eq!((outcome.status(), outcome.body().as_str(), outcome.ms), (403, "no", 0));
}

#[test]
fn held_headers_go_on_when_somebody_asks() {
    for (phase, resume) in [
        (Phase::RequestHeaders, Later::ResumeRequest),
        (Phase::ResponseHeaders, Later::ResumeResponse),
    ] {
        for later in [resume, Later::EditHeld, Later::Reply] {
            let act = pause(Hold::All).and(Effect::Later(later));
            let plugins = || {
                let a = Scripted::new("a").on(phase, std::slice::from_ref(&act));
                [a, Scripted::new("b").on(phase, &[go()])]
            };
            check(
                || {
                    let [a, b] = plugins();
                    Case::post("abc").plugin(a).plugin(b).peer(OK)
                },
                |outcome| {
                    assert_eq!((outcome.status(), outcome.ms), (200, 0), "{later:?}");
                    assert_eq!(outcome.body(), "hello");
                    assert_eq!(outcome.request(0).body, b"abc");
                    let seen = outcome.calls_of(&format!("{phase:?}"));
                    assert!(seen.last().is_some_and(|call| call.starts_with('b')), "{seen:?}");
                },
            );
        }
    }
}

#[test]
fn a_held_body_can_be_edited_while_it_waits() {
    for (phase, to_client) in [(Phase::RequestBody, false), (Phase::ResponseBody, true)] {
        check(
            || {
                // Every piece is kept, and each asks to be edited and let go.
                let act = pause(Hold::Body).and(Effect::Later(Later::EditHeld));
                let plugin = Scripted::new("a").on(phase, &[act]);
                Case::post("abc").plugin(plugin).peer(OK)
            },
            |outcome| {
                assert_eq!((outcome.status(), outcome.ms), (200, 0));
                let whole: Vec<u8> =
                    if to_client { outcome.body().into_bytes() } else { outcome.request(0).body };
                let expected: &[u8] = if to_client { b"HELLO" } else { b"ABC" };
                assert!(whole.eq_ignore_ascii_case(expected), "{whole:?}");
                assert!(whole.iter().any(u8::is_ascii_uppercase), "{whole:?}");
            },
        );
    }
}

#[test]
fn what_a_plugin_does_with_its_reply() {
    for phase in [Phase::RequestHeaders, Phase::ResponseHeaders] {
        let waits = pause(Hold::All).and(Effect::Later(Later::Reply));
        for (reply, status, body) in [
            (vec![go()], Some(200), "hello"),
            (vec![edit(Effect::SetResponse("X-Reply", "1"))], Some(200), "hello"),
            (vec![respond(403, Some("no"))], Some(403), "no"),
            (vec![close()], None, ""),
            (vec![pause(Hold::All).and(Effect::Later(Later::Reply)), go()], Some(200), "hello"),
            (vec![pause(Hold::All)], Some(504), ""),
        ] {
            let plugin =
                Scripted::new("a").on(phase, std::slice::from_ref(&waits)).on(Phase::Reply, &reply);
            let outcome = whole(Case::get().plugin(plugin).peer(OK));
            let found = outcome.response.as_ref().map(|response| response.status());
            assert_eq!(found, status, "{phase:?} {reply:?}");
            if status == Some(200) || status == Some(403) {
                assert_eq!(outcome.body(), body, "{phase:?} {reply:?}");
            }
        }
    }
}

#[test]
fn a_waiting_exchange_can_be_answered_or_closed() {
    for phase in [Phase::RequestHeaders, Phase::RequestBody, Phase::ResponseHeaders] {
        for (later, status) in [(Later::Respond(403), Some(403)), (Later::Close, None)] {
            let act = pause(Hold::All).and(Effect::Later(later));
            let plugin = Scripted::new("a").on(phase, &[act]);
            let outcome = whole(Case::post("abc").plugin(plugin).peer(OK));
            let found = outcome.response.as_ref().map(|response| response.status());
            assert_eq!((found, outcome.ms), (status, 0), "{phase:?} {later:?}");
        }
    }
}

/// A verdict on trailers comes before anything that waits for it has gone on.
#[test]
fn trailers_and_what_was_kept_wait_where_a_plugin_pauses_on_them() {
    const TRAILED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                           3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n";
    for (body, trailers, resume, answered) in [
        (Phase::RequestBody, Phase::RequestTrailers, Later::ResumeRequest, "hello"),
        (Phase::ResponseBody, Phase::ResponseTrailers, Later::ResumeResponse, "abc"),
    ] {
        let peer = if answered == "abc" { TRAILED } else { OK };
        let case = |act| {
            let a = Scripted::new("a").on(body, &[pause(Hold::Body)]).on(trailers, &[act]);
            let b = Scripted::new("b").on(body, &[edit(Effect::Upper)]).on(trailers, &[go()]);
            Case::chunked("3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n").plugin(a).plugin(b).peer(peer)
        };
        let paused = pause(Hold::All);
        let outcome = whole(case(paused.clone()));
        assert_eq!((outcome.status(), outcome.ms), (504, 60_000), "{trailers:?}");
        assert!(outcome.calls_of(&format!("{trailers:?}")).iter().all(|c| c.starts_with('a')));
        let denied = paused.clone().and(Effect::Later(Later::Respond(403)));
        let outcome = whole(case(denied));
        assert_eq!((outcome.status(), outcome.body().as_str()), (403, "asked"));
        if trailers == Phase::RequestTrailers {
            let bodies = (0..outcome.links.len()).map(|link| outcome.request(link).body);
            assert!(bodies.into_iter().all(|body| body.is_empty()), "nothing of it went upstream");
        }
        for later in [resume, Later::Reply, Later::EditHeld] {
            check(
                || case(paused.clone().and(Effect::Later(later))),
                |outcome| {
                    assert_eq!((outcome.status(), outcome.ms), (200, 0), "{later:?}");
                    let calls = outcome.calls_of(&format!("{trailers:?}"));
                    assert_eq!(calls.len(), 2, "each sees them once: {calls:?}");
                    if trailers == Phase::RequestTrailers {
                        let request = outcome.request(0);
                        assert_eq!((&request.body[..], request.trailers.len()), (&b"ABC"[..], 1));
                    } else {
                        assert_eq!(outcome.body(), "ABC");
                        assert_eq!(outcome.parsed().trailers.len(), 1);
                    }
                },
            );
        }
    }
}

#[test]
fn what_was_answered_does_not_go_on() {
    let act = pause(Hold::All).and(Effect::Later(Later::RespondAndResume(403)));
    let a = Scripted::new("a").on(Phase::RequestHeaders, &[act]);
    let b = Scripted::new("b").on(Phase::RequestHeaders, &[respond(429, Some("too many"))]);
    let outcome = whole(Case::get().plugin(a).plugin(b).peer(OK));
    assert_eq!((outcome.status(), outcome.body().as_str()), (403, "asked"));
    assert_eq!(outcome.calls_of("RequestHeaders").len(), 1);
}

/// A plugin whose instance is gone fails the streams it holds, not those it let go.
#[test]
fn what_is_lost_matters_where_something_is_held() {
    for phase in [Phase::RequestHeaders, Phase::RequestBody, Phase::ResponseHeaders] {
        for (act, status) in [(go(), 200), (pause(Hold::All), 503)] {
            let act = act.and(Effect::Later(Later::Lost));
            let plugin =
                Scripted::new("a").on(phase, &[act]).on(Phase::Reply, &[respond(503, None)]);
            let outcome = whole(Case::post("abc").plugin(plugin).peer(OK));
            assert_eq!((outcome.status(), outcome.ms), (status, 0), "{phase:?}");
        }
    }
}
