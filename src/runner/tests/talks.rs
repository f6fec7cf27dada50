//! Conversations, frame by frame.

use super::rig::{Case, Desk, load, place};
use super::{Changes, asks, refused, response, rewrite, stop, token, unchanged};
use crate::http::{BodyLength, Headers};
use crate::plugin::{Action, Hold, Plugin, ResponseSource, RunnerTalk, TalkFailure};
use crate::runner::schema::a6;
use crate::runner::{Ask, Frame, Kind, Runners, first_frame};
use serde_json::json;
use std::sync::Arc;

const PAUSE: Action = Action::Pause(Hold::All);
const GATHER: Action = Action::Pause(Hold::Body);
/// The first id of the worker of the rig.
const ID: u32 = 3 << 22 | 2;

fn plugin_with(name: &str, degrades: bool) -> Arc<dyn Plugin> {
    let conf = json!({
        "conf": [{"name": "say", "value": "{}"}],
        "allow_degradation": degrades,
    });
    load(&mut Runners::new(vec![place("")]), name, &conf).expect("good").plugin
}

/// A case whose call is with the runner: the token was prepared before.
fn called(name: &str, change: impl FnOnce(Case) -> Case) -> (Desk, Case, Box<RunnerTalk>) {
    let plugin = plugin_with(name, false);
    let mut desk = Desk::new(&*plugin);
    let mut case = change(Case::new(&plugin, &desk));
    let begun = if name == "ext-plugin-post-resp" {
        case.response(&mut desk)
    } else {
        case.request(&mut desk)
    };
    assert_eq!(begun, PAUSE);
    let talk = desk.sends(Kind::PrepareConf);
    assert_eq!(case.frame(&mut desk, talk, Kind::PrepareConf, &token(0)), PAUSE);
    let call = match name {
        "ext-plugin-post-resp" => Kind::ResponseCall,
        _ => Kind::RequestCall,
    };
    let talk = desk.sends(call);
    (desk, case, talk)
}

fn rewritten(of: Changes<'_>, change: impl FnOnce(Case) -> Case) -> (Desk, Case, Action) {
    let (mut desk, mut case, talk) = called("ext-plugin-pre-req", change);
    let action = case.frame(&mut desk, talk, Kind::RequestCall, &rewrite(of));
    (desk, case, action)
}

fn listed(headers: &Headers) -> String {
    let text = |(name, value): (&[u8], &[u8])| {
        format!("{}: {}", String::from_utf8_lossy(name), String::from_utf8_lossy(value))
    };
    headers.iter().map(text).collect::<Vec<_>>().join("; ")
}

fn answer(talk: &RunnerTalk) -> Option<Vec<u8>> {
    let Frame::Whole { kind: 3, payload } = first_frame(&talk.out) else { panic!("an answer") };
    let table = flatbuffers::root::<a6::extra_info::Resp<'_>>(payload).expect("a table");
    table.result().map(|result| result.bytes().to_vec())
}

#[test]
fn a_request_goes_on_unchanged() {
    let (mut desk, mut case, talk) = called("ext-plugin-post-req", |case| case);
    let action = case.frame(&mut desk, talk, Kind::RequestCall, &unchanged(ID));
    assert_eq!(action, Action::Continue);
    assert!(desk.releases());
    assert_eq!(case.message.request.target, b"/hello?a=1&b=2");
    let mut next = Case::new(&case.plugin, &desk);
    assert_eq!(next.request(&mut desk), PAUSE);
    desk.sends(Kind::RequestCall);
}

#[test]
fn an_error_in_a_replys_clothes_does_not_open_the_route() {
    for reply in [refused(0), refused(1), unchanged(0), unchanged(ID + 1)] {
        let (mut desk, mut case, talk) = called("ext-plugin-pre-req", |case| case);
        let action = case.frame(&mut desk, talk, Kind::RequestCall, &reply);
        assert_eq!((action, case.message.local.status), (Action::Respond, 503));
        assert!(!desk.releases(), "the connection is not used again");
    }
}

#[test]
fn stops() {
    let (mut desk, mut case, talk) = called("ext-plugin-pre-req", |case| case);
    let headers = [
        ("X-Same", Some("one")),
        ("x-same", Some("two")),
        ("Content-Length", Some("999")),
        ("Content-Type", Some("text/x")),
    ];
    let reply = stop(0, &headers, b"hello");
    assert_eq!(case.frame(&mut desk, talk, Kind::RequestCall, &reply), Action::Respond);
    let local = &case.message.local;
    assert_eq!((local.status, local.body.as_deref()), (200, Some(&b"hello"[..])));
    assert_eq!(listed(&local.headers), "X-Same: one; x-same: two; Content-Type: text/x");
    assert!(desk.releases());
}

#[test]
fn rewrites_of_headers() {
    let of = Changes {
        headers: &[
            ("X-New", Some("new")),
            ("x-old", Some("changed")),
            ("X-Gone", None),
            ("Host", Some("other.host")),
            ("Content-Length", Some("7")),
        ],
        ..Changes::default()
    };
    let (_, case, action) = rewritten(of, |mut case| {
        case.message.request.headers.append(b"X-Old", b"1");
        case.message.request.headers.append(b"X-Gone", b"1");
        case
    });
    assert_eq!(action, Action::Continue);
    assert_eq!(listed(&case.message.request.headers), "X-Old: changed; X-New: new");
    assert_eq!(case.message.request.authority, b"other.host");
    assert_eq!(case.message.request.target, b"/hello?a=1&b=2");
}

#[test]
fn rewrites_of_targets() {
    let some = Some;
    type Row<'a> = (Option<&'a str>, super::Pairs<'a>, &'a str);
    let table: [Row<'_>; 9] = [
        (some("/uri"), &[], "/uri?a=1&b=2"),
        (some("/x?a=2"), &[], "/x%3Fa=2?a=1&b=2"),
        (some("/a b/ü%"), &[], "/a%20b/%C3%BC%25?a=1&b=2"),
        (some("no/slash"), &[], "/no/slash?a=1&b=2"),
        (None, &[("a", Some("foo")), ("a", Some("bar"))], "/hello?a=foo&a=bar&b=2"),
        (None, &[("a", None)], "/hello?b=2"),
        (None, &[("a", None), ("b", None)], "/hello"),
        (None, &[("a", Some("x y&")), ("c", Some("bar"))], "/hello?a=x%20y%26&b=2&c=bar"),
        (some("/n"), &[("a", Some("1")), ("a", None), ("a", Some("2"))], "/n?a=2&b=2"),
    ];
    for (path, args, target) in table {
        let (_, case, action) = rewritten(Changes { path, args, ..Changes::default() }, |c| c);
        assert_eq!(action, Action::Continue);
        assert_eq!(String::from_utf8_lossy(&case.message.request.target), target);
    }
}

#[test]
fn fields_of_the_response_to_come() {
    let resp_headers = [
        ("X-Resp", Some("one")),
        ("X-Resp", Some("two")),
        ("Content-Type", Some("no")),
        ("Location", Some("no")),
    ];
    let of = Changes { resp_headers: &resp_headers, ..Changes::default() };
    let (mut desk, mut case, action) = rewritten(of, |case| case);
    assert_eq!(action, Action::Continue);
    case.message.response.source = ResponseSource::Upstream;
    case.message.response.headers.append(b"x-resp", b"the upstream's");
    assert_eq!(case.response(&mut desk), Action::Continue);
    assert_eq!(listed(&case.message.response.headers), "x-resp: one; X-Resp: two");
    case.over(&mut desk);
}

#[test]
fn a_new_body_for_a_request_without() {
    let of = Changes { body: b"abc\n", ..Changes::default() };
    let (_, case, action) = rewritten(of, |case| case);
    assert_eq!(action, Action::Continue);
    assert_eq!(case.message.body, b"abc\n");
    assert_eq!(listed(&case.message.request.headers), "Content-Length: 4");
}

#[test]
fn a_new_body_in_the_place_of_one_on_its_way() {
    let of = Changes { body: b"new", ..Changes::default() };
    let (mut desk, mut case, action) = rewritten(of, |mut case| {
        case.message.request.body = BodyLength::Known(8);
        case.message.request.headers.append(b"content-length", b"8");
        case
    });
    assert_eq!(action, GATHER);
    assert!(desk.releases(), "the runner is not kept waiting");
    case.message.body = b"old ".to_vec();
    assert_eq!(case.call(&mut desk, |p, s| p.on_request_body(s, false)), GATHER);
    assert!(case.message.body.is_empty());
    case.message.body = b"body".to_vec();
    assert_eq!(case.call(&mut desk, |p, s| p.on_request_body(s, true)), Action::Continue);
    assert_eq!(case.message.body, b"new");
    assert_eq!(listed(&case.message.request.headers), "content-length: 3");
}

#[test]
fn variables_are_told() {
    let (mut desk, mut case, mut talk) = called("ext-plugin-pre-req", |case| case);
    for (name, value) in [
        ("arg_a", Some("1")),
        ("uri", Some("/hello")),
        ("arg_missing", None),
        ("\u{fffd}", None),
        ("is_args", Some("?")),
    ] {
        let asked = asks(Ask::Var(name.as_bytes()));
        assert_eq!(case.frame(&mut desk, talk, Kind::ExtraInfo, &asked), PAUSE);
        talk = desk.talk().expect("an answer");
        assert_eq!(answer(&talk).as_deref(), value.map(str::as_bytes), "{name}");
    }
    let response = asks(Ask::ResponseBody);
    assert_eq!(case.frame(&mut desk, talk, Kind::ExtraInfo, &response), PAUSE);
    talk = desk.talk().expect("an answer");
    assert_eq!(answer(&talk), None, "there is no response yet");
    let action = case.frame(&mut desk, talk, Kind::RequestCall, &unchanged(ID));
    assert_eq!(action, Action::Continue);
}

#[test]
fn bodies_are_gathered_when_asked_for() {
    let (mut desk, mut case, talk) = called("ext-plugin-pre-req", |mut case| {
        case.message.request.body = BodyLength::Chunked;
        case
    });
    let wanted = asks(Ask::RequestBody);
    assert_eq!(case.frame(&mut desk, talk, Kind::ExtraInfo, &wanted), GATHER);
    assert!(desk.talk().is_none(), "the body is not there yet");
    case.message.body = b"cat ".to_vec();
    assert_eq!(case.call(&mut desk, |p, s| p.on_request_body(s, false)), GATHER);
    case.message.body = b"cat and dog".to_vec();
    assert_eq!(case.call(&mut desk, |p, s| p.on_request_body(s, true)), GATHER);
    let talk = desk.talk().expect("an answer");
    assert_eq!(answer(&talk).as_deref(), Some(&b"cat and dog"[..]));
    // Asked again it is told again.
    assert_eq!(case.frame(&mut desk, talk, Kind::ExtraInfo, &wanted), GATHER);
    let talk = desk.talk().expect("an answer");
    assert_eq!(answer(&talk).as_deref(), Some(&b"cat and dog"[..]));
    let of = Changes { body: b"mouse", ..Changes::default() };
    assert_eq!(case.frame(&mut desk, talk, Kind::RequestCall, &rewrite(of)), Action::Continue);
    assert_eq!(case.message.body, b"mouse", "it stands in for what was held");
}

#[test]
fn no_body_is_no_result() {
    let (mut desk, mut case, talk) = called("ext-plugin-pre-req", |case| case);
    assert_eq!(case.frame(&mut desk, talk, Kind::ExtraInfo, &asks(Ask::RequestBody)), PAUSE);
    assert_eq!(answer(&desk.talk().expect("an answer")), None);
}

#[test]
fn bodies_larger_than_a_frame() {
    let (mut desk, mut case, talk) = called("ext-plugin-pre-req", |mut case| {
        case.message.request.body = BodyLength::Known(1 << 24);
        case
    });
    let wanted = asks(Ask::RequestBody);
    assert_eq!(case.frame(&mut desk, talk, Kind::ExtraInfo, &wanted), Action::Respond);
    assert_eq!(case.message.local.status, 413);

    let (mut desk, mut case, talk) =
        called("ext-plugin-post-resp", |case| case.answered(200, BodyLength::Chunked));
    let wanted = asks(Ask::ResponseBody);
    assert_eq!(case.frame(&mut desk, talk, Kind::ExtraInfo, &wanted), GATHER);
    case.message.body = vec![b'x'; 1 << 24];
    let action = case.call(&mut desk, |p, s| p.on_response_body(s, false));
    assert_eq!((action, case.message.local.status), (Action::Respond, 503));
}

#[test]
fn responses_change() {
    let known = BodyLength::Known(3);
    let (mut desk, mut case, talk) = called("ext-plugin-post-resp", |c| c.answered(200, known));
    let reply = response(304, &[], b"");
    assert_eq!(case.frame(&mut desk, talk, Kind::ResponseCall, &reply), Action::Continue);
    assert_eq!(case.message.response.status, 304);
    let kept = "Content-Type: text/plain; Content-Encoding: gzip; X-Old: 1";
    assert_eq!(listed(&case.message.response.headers), kept);

    let (mut desk, mut case, talk) = called("ext-plugin-post-resp", |c| c.answered(200, known));
    let changes = [("X-A", Some("1")), ("X-A", Some("2")), ("x-old", None), ("Connection", None)];
    let reply = response(0, &changes, b"");
    assert_eq!(case.frame(&mut desk, talk, Kind::ResponseCall, &reply), Action::Continue);
    assert_eq!(case.message.response.status, 200);
    let changed = "Content-Type: text/plain; Content-Encoding: gzip; X-A: 1; X-A: 2";
    assert_eq!(listed(&case.message.response.headers), changed);
}

#[test]
fn bodies_of_responses_change() {
    let (mut desk, mut case, talk) =
        called("ext-plugin-post-resp", |c| c.answered(200, BodyLength::Known(3)));
    let wanted = asks(Ask::ResponseBody);
    assert_eq!(case.frame(&mut desk, talk, Kind::ExtraInfo, &wanted), GATHER);
    case.message.body = b"dog".to_vec();
    assert_eq!(case.call(&mut desk, |p, s| p.on_response_body(s, true)), GATHER);
    let talk = desk.talk().expect("an answer");
    assert_eq!(answer(&talk).as_deref(), Some(&b"dog"[..]));
    let reply = response(0, &[], b"kitten");
    assert_eq!(case.frame(&mut desk, talk, Kind::ResponseCall, &reply), Action::Continue);
    assert_eq!(case.message.body, b"kitten");
    let fields = "Content-Type: text/plain; X-Old: 1; Content-Length: 6";
    assert_eq!(listed(&case.message.response.headers), fields);

    // Unseen, the old body goes by.
    let (mut desk, mut case, talk) =
        called("ext-plugin-post-resp", |c| c.answered(200, BodyLength::UntilClose));
    assert_eq!(case.frame(&mut desk, talk, Kind::ResponseCall, &reply), GATHER);
    case.message.body = b"dog".to_vec();
    assert_eq!(case.call(&mut desk, |p, s| p.on_response_body(s, true)), Action::Continue);
    assert_eq!(case.message.body, b"kitten");

    // Where none was, a whole response is made; but none for HEAD.
    for (method, action) in [("GET", Action::Respond), ("HEAD", Action::Continue)] {
        let (mut desk, mut case, talk) =
            called("ext-plugin-post-resp", |c| c.answered(200, BodyLength::None));
        case.message.request.method = method.into();
        assert_eq!(case.frame(&mut desk, talk, Kind::ResponseCall, &reply), action);
    }
}

#[test]
fn only_the_upstreams_response_is_shown() {
    let plugin = plugin_with("ext-plugin-post-resp", false);
    let mut desk = Desk::new(&*plugin);
    let mut case = Case::new(&plugin, &desk);
    case.message.response.source = ResponseSource::Plugin;
    assert_eq!(case.response(&mut desk), Action::Continue);
    assert!(desk.talk().is_none());
}

#[test]
fn one_request_prepares_for_all() {
    let plugin = plugin_with("ext-plugin-pre-req", false);
    let mut desk = Desk::new(&*plugin);
    let mut cases: Vec<Case> = (0..16).map(|_| Case::new(&plugin, &desk)).collect();
    let mut talks = Vec::new();
    for case in &mut cases {
        assert_eq!(case.request(&mut desk), PAUSE);
        talks.extend(desk.talk());
    }
    let [talk] = &mut talks[..] else { panic!("one preparation") };
    let talk = std::mem::replace(talk, Box::new(RunnerTalk { ..copy_of(talk) }));
    assert_eq!(cases[0].frame(&mut desk, talk, Kind::PrepareConf, &token(233)), PAUSE);
    desk.sends(Kind::RequestCall);
    desk.deliver();
    for case in &mut cases[1..] {
        assert_eq!(case.woken(&mut desk), Some(PAUSE));
        desk.sends(Kind::RequestCall);
    }
}

fn copy_of(talk: &RunnerTalk) -> RunnerTalk {
    RunnerTalk {
        key: talk.key,
        place: Arc::clone(&talk.place),
        out: talk.out.clone(),
        kind: 0,
        payload: Vec::new(),
        failure: None,
        left_ms: 0,
        again: false,
        link: None,
    }
}

#[test]
fn a_failed_preparation_is_everybodys() {
    let plugin = plugin_with("ext-plugin-pre-req", false);
    let mut desk = Desk::new(&*plugin);
    let (mut first, mut second) = (Case::new(&plugin, &desk), Case::new(&plugin, &desk));
    assert_eq!((first.request(&mut desk), second.request(&mut desk)), (PAUSE, PAUSE));
    let talk = desk.sends(Kind::PrepareConf);
    assert_eq!(first.failed(&mut desk, talk, TalkFailure::Closed), Action::Respond);
    desk.deliver();
    assert_eq!(second.woken(&mut desk), Some(Action::Respond));
    assert_eq!(second.message.local.status, 503);
}

#[test]
fn who_gives_up_lets_another_prepare() {
    let plugin = plugin_with("ext-plugin-pre-req", false);
    let mut desk = Desk::new(&*plugin);
    let (mut first, mut second) = (Case::new(&plugin, &desk), Case::new(&plugin, &desk));
    assert_eq!((first.request(&mut desk), second.request(&mut desk)), (PAUSE, PAUSE));
    desk.sends(Kind::PrepareConf);
    first.over(&mut desk);
    desk.deliver();
    assert_eq!(second.woken(&mut desk), Some(PAUSE));
    desk.sends(Kind::PrepareConf);
}

#[test]
fn a_forgotten_token_is_made_again_twice() {
    let (mut desk, mut case, mut talk) = called("ext-plugin-pre-req", |case| case);
    for again in 1..=2 {
        assert_eq!(case.frame(&mut desk, talk, Kind::Error, &refused(2)), PAUSE);
        talk = desk.sends(Kind::PrepareConf);
        assert!(talk.link.is_some(), "over the same connection");
        assert_eq!(case.frame(&mut desk, talk, Kind::PrepareConf, &token(again)), PAUSE);
        talk = desk.sends(Kind::RequestCall);
    }
    assert_eq!(case.frame(&mut desk, talk, Kind::Error, &refused(2)), Action::Respond);
    assert_eq!(case.message.local.status, 503);
}

#[test]
fn failures_are_503_or_nothing() {
    for degrades in [false, true] {
        let plugin = plugin_with("ext-plugin-pre-req", degrades);
        let wanted = if degrades { Action::Continue } else { Action::Respond };
        let mut desk = Desk::new(&*plugin);
        let mut case = Case::new(&plugin, &desk);
        assert_eq!(case.request(&mut desk), PAUSE);
        let talk = desk.sends(Kind::PrepareConf);
        assert_eq!(case.frame(&mut desk, talk, Kind::Error, &refused(0)), wanted);
        let mut case = Case::new(&plugin, &desk);
        case.message.request.method = b"PURGE".to_vec();
        assert_eq!(case.request(&mut desk), PAUSE, "the token first");
        let talk = desk.sends(Kind::PrepareConf);
        assert_eq!(case.frame(&mut desk, talk, Kind::PrepareConf, &token(1)), wanted);
    }
}

#[test]
fn a_reply_that_comes_too_late_changes_nothing() {
    let (mut desk, mut case, talk) = called("ext-plugin-pre-req", |case| case);
    case.message.response.source = ResponseSource::Gateway;
    case.message.local.status = 504;
    let reply = stop(200, &[], b"hello");
    assert_eq!(case.frame(&mut desk, talk, Kind::RequestCall, &reply), Action::Continue);
    assert_eq!(case.message.local.status, 504);
}
