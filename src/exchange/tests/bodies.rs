//! Plugins that look at bodies and change them.

use super::case::{Case, check, run, whole};
use super::double::{Effect, Phase, Scripted, edit, go, pause};
use super::script::{Answers, Fate};
use crate::exchange::Ending;
use crate::plugin::{Action, Hold};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
    3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n";
const TRAILED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
    5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n";

/// Keeps a body until its end, then makes it `text`.
fn replaces(phase: Phase, text: &'static str) -> Scripted {
    let act = edit(Effect::Body(text));
    Scripted::new("p").on(phase, &[act])
}

#[test]
fn a_whole_body_is_replaced_and_its_length_is_right() {
    for (answer, text) in [(OK, "longer than before"), (OK, ""), (CHUNKED, "x")] {
        let outcome = whole(Case::get().plugin(replaces(Phase::ResponseBody, text)).peer(answer));
        assert_eq!((outcome.status(), outcome.body().as_str()), (200, text));
        assert_eq!(outcome.field("content-length"), Some(text.len().to_string().as_str()));
        assert_eq!(outcome.ending, Ending::KeepAlive);
    }
    let case = Case::post("abc").plugin(replaces(Phase::RequestBody, "replaced")).peer(OK);
    let outcome = whole(case);
    assert_eq!(outcome.request(0).body, b"replaced");
    assert_eq!(outcome.request(0).get("content-length"), Some("8"));
}

#[test]
fn a_body_kept_to_its_end_is_shown_whole() {
    let keeps = |phase| {
        let paused = pause(Hold::Body);
        Scripted::new("p").on(phase, &[paused])
    };
    // The script's last act is repeated, so the end is kept too: only its own resume lets it go.
    let resumes = |phase, effect: Effect| {
        let act = pause(Hold::All).and(effect);
        keeps(phase).on(phase, &[act])
    };
    check(
        || Case::post("abcdef").plugin(resumes(Phase::RequestBody, Effect::ResumeRequest)).peer(OK),
        |outcome| assert_eq!(outcome.request(0).body, b"abcdef"),
    );
    let outcome = whole(Case::post("abc").plugin(keeps(Phase::RequestBody)).peer(OK));
    assert_eq!((outcome.status(), outcome.ms), (504, 60_000), "nobody resumes it");
    assert_eq!(outcome.links.len(), 0, "and no peer is bothered meanwhile");
    let outcome = whole(Case::get().plugin(keeps(Phase::ResponseBody)).peer(CHUNKED));
    assert_eq!((outcome.status(), outcome.ms), (504, 60_000));
}

#[test]
fn kept_pieces_come_again_with_more() {
    let acts = [pause(Hold::Body), pause(Hold::Body), edit(Effect::Append("!"))];
    let case = Case::get().plugin(Scripted::new("p").on(Phase::ResponseBody, &acts)).peer(OK);
    // Heads come whole, bodies byte by byte.
    let outcome = run(case, &mut |n| if n > 8 { n - 6 } else { 0 });
    assert_eq!(outcome.body(), "hel!");
    let shown = ["p \"h\"", "p \"he\"", "p \"hel\"", "p \"l\""];
    assert_eq!(outcome.calls_of("ResponseBody"), shown);
    assert_eq!(outcome.ending, Ending::Abort, "the length was kept in the headers, wrongly");
}

#[test]
fn bodies_edited_on_their_way_need_no_length() {
    let removes = |phase, effect| Scripted::new("p").on(phase, &[edit(effect)]);
    check(
        || {
            let plugin = removes(Phase::ResponseHeaders, Effect::RemoveResponse("content-length"))
                .on(Phase::ResponseBody, &[edit(Effect::Upper)]);
            Case::get().plugin(plugin).peer(OK)
        },
        |outcome| {
            assert_eq!((outcome.status(), outcome.body().as_str()), (200, "HELLO"));
            assert_eq!(outcome.ending, Ending::KeepAlive);
        },
    );
    check(
        || {
            let plugin = removes(Phase::RequestHeaders, Effect::RemoveRequest("content-length"))
                .on(Phase::RequestBody, &[edit(Effect::Append("."))]);
            Case::post("abc").plugin(plugin).peer(OK)
        },
        |outcome| {
            assert_eq!(outcome.status(), 200);
            let body = outcome.request(0).body;
            assert_eq!(body.iter().filter(|byte| **byte != b'.').count(), 3);
            assert!(body.len() > 3 && body.ends_with(b"."));
        },
    );
}

#[test]
fn a_length_that_was_left_is_kept_and_checked() {
    check(
        || Case::get().plugin(Scripted::new("p").on(Phase::ResponseBody, &[go()])).peer(OK),
        |outcome| {
            assert_eq!((outcome.status(), outcome.body().as_str()), (200, "hello"));
            assert_eq!(outcome.field("content-length"), Some("5"));
        },
    );
    let appends = Scripted::new("p").on(Phase::RequestBody, &[edit(Effect::Append("."))]);
    let outcome = run(Case::post("twenty bytes of body").plugin(appends).peer(OK), &mut |n| {
        if n > 5 { 0 } else { n - 1 }
    });
    assert_eq!((outcome.status(), outcome.links[0].fate), (500, Fate::Closed));
}

#[test]
fn a_length_that_a_plugin_sets_counts_where_it_may_edit() {
    let sets = |name| {
        let act = edit(Effect::SetResponse("Content-Length", "7"));
        Scripted::new(name).on(Phase::ResponseHeaders, &[act])
    };
    let acts = [edit(Effect::Append("!!")), go()];
    check(
        || Case::get().plugin(sets("p").on(Phase::ResponseBody, &acts)).peer(OK),
        |outcome| {
            assert_eq!((outcome.status(), outcome.body().len()), (200, 7));
            assert_eq!(outcome.field("content-length"), Some("7"));
        },
    );
    let outcome = whole(Case::get().plugin(sets("p")).peer(OK));
    assert_eq!((outcome.body().as_str(), outcome.field("content-length")), ("hello", Some("5")));
}

#[test]
fn plugins_see_bodies_in_the_order_of_the_chain() {
    let first = Scripted::new("a").on(Phase::ResponseBody, &[edit(Effect::Append("1"))]);
    let second = Scripted::new("b").on(Phase::ResponseBody, &[edit(Effect::Append("2"))]);
    let outcome = whole(Case::get().plugin(first).plugin(second).peer(OK));
    assert_eq!(outcome.body(), "hello12");
    assert_eq!(outcome.calls_of("ResponseBody"), ["a \"hello\" end", "b \"hello1\" end"]);
}

#[test]
fn trailers_take_along_what_was_kept() {
    let keeps = || {
        Scripted::new("a")
            .on(Phase::ResponseBody, &[pause(Hold::Body)])
            .on(Phase::ResponseTrailers, &[edit(Effect::Append("!"))])
    };
    let sees = || Scripted::new("b").on(Phase::ResponseBody, &[edit(Effect::Upper)]);
    check(
        || Case::get().plugin(keeps()).plugin(sees()).peer(TRAILED),
        |outcome| {
            assert_eq!((outcome.status(), outcome.body().as_str()), (200, "HELLO!"));
            assert_eq!(outcome.parsed().trailers, [("X-T".to_owned(), "1".to_owned())]);
        },
    );
    check(
        || {
            let plugin = Scripted::new("a")
                .on(Phase::RequestBody, &[pause(Hold::Body)])
                .on(Phase::RequestTrailers, &[go()]);
            Case::chunked("3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n").plugin(plugin).peer(OK)
        },
        |outcome| {
            let request = outcome.request(0);
            assert_eq!(request.body, b"abc");
            assert_eq!(request.trailers, [("X-T".to_owned(), "1".to_owned())]);
        },
    );
}

#[test]
fn a_status_without_a_body_drops_it() {
    for (status, length) in [(204, None), (304, Some("5"))] {
        check(
            || {
                let act = edit(Effect::Status(status));
                Case::get().plugin(Scripted::new("p").on(Phase::ResponseHeaders, &[act])).peer(OK)
            },
            |outcome| {
                assert_eq!((outcome.status(), outcome.body().as_str()), (status, ""));
                assert_eq!(outcome.field("content-length"), length);
                assert_eq!(outcome.ending, Ending::KeepAlive);
            },
        );
    }
}

#[test]
fn a_resume_from_the_other_direction() {
    // The request's body is kept at its end; the answer, given early, lets it go.
    let acts = [go(), pause(Hold::Body)];
    let plugin = || {
        Scripted::new("p")
            .on(Phase::RequestBody, &acts)
            .on(Phase::ResponseHeaders, &[edit(Effect::ResumeRequest)])
    };
    let body = "abcdef";
    let case = Case::post(body).plugin(plugin()).peer(OK).answers(Answers::AfterHead);
    let outcome = run(case, &mut |n| if n == 6 { 2 } else { n - 1 });
    assert_eq!(outcome.status(), 200);
    assert_eq!(outcome.ms, 0);
    let sleeps = Scripted::new("p").on(Phase::RequestHeaders, &[pause(Hold::Sleep(70))]);
    let outcome = whole(Case::post(body).plugin(sleeps).peer(OK));
    assert_eq!((outcome.status(), outcome.ms), (200, 70));
    assert_eq!(pause(Hold::All).action, Action::Pause(Hold::All));
}
