//! Bounds on what is held, read and kept waiting.

use super::case::{Case, check, run, whole};
use super::double::{Phase, Scripted, pause};
use super::script::{Fate, Takes};
use crate::exchange::Ending;
use crate::limits::{BACKLOG_BYTES_MAX, BODY_BUFFER_BYTES};
use crate::plugin::Hold;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

#[test]
fn a_plugin_that_holds_too_much() {
    let holds = |phase| Scripted::new("p").on(phase, &[pause(Hold::Body)]).holds_at_most(4);
    check(
        || Case::post("abcdef").plugin(holds(Phase::RequestBody)).peer(OK),
        |outcome| {
            assert_eq!((outcome.status(), outcome.ms), (413, 0));
        },
    );
    check(
        || Case::get().plugin(holds(Phase::ResponseBody)).peer(OK),
        |outcome| {
            assert_eq!((outcome.status(), outcome.ms), (500, 0));
            assert_eq!((outcome.links[0].fate, outcome.ending), (Fate::Closed, Ending::KeepAlive));
        },
    );
}

#[test]
fn a_chunked_body_that_grows_too_large() {
    check(
        || {
            let case = Case::chunked("3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n").peer(OK);
            case.with(|setup| setup.rules.body_bytes_max = Some(4))
        },
        |outcome| {
            // Where all of it was there in one piece, the connection is as good as before.
            let closes = outcome.ending == Ending::Close;
            assert_eq!(outcome.status(), 413);
            assert_eq!(outcome.field("connection"), closes.then_some("close"));
        },
    );
}

#[test]
fn framing_counts_among_what_is_thrown_away() {
    // Chunks of one byte with long extensions: 300,000 bytes of framing around 300 of body.
    let coded = format!("1;{}\r\nx\r\n", "e".repeat(1_000)).repeat(300) + "0\r\n\r\n";
    let case = Case::chunked(&coded).with(|setup| setup.target = crate::snapshot::Target::NoRoute);
    let outcome = run(case, &mut |n| (n - 1).min(10_000));
    assert_eq!((outcome.status(), outcome.ending), (404, Ending::Close));
}

#[test]
fn a_peer_that_takes_nothing_stops_the_client() {
    let body = "x".repeat(10 * BACKLOG_BYTES_MAX);
    let case = Case::post(&body).peer(OK).takes(0, Takes::ThenStalls);
    let head = case.client.bytes.len() - body.len();
    let outcome = run(case.with(|s| s.retries = 0), &mut |n| (n - 1).min(BODY_BUFFER_BYTES));
    assert_eq!((outcome.status(), outcome.ending), (504, Ending::Close));
    let read = outcome.used - head;
    assert!(read <= 3 * BACKLOG_BYTES_MAX + BODY_BUFFER_BYTES, "{read}");
}

#[test]
fn a_client_that_takes_nothing_stops_the_peer() {
    let body = "x".repeat(10 * BACKLOG_BYTES_MAX);
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let case = Case::get().peer(&answer).client(|client| client.takes = Some((0, false)));
    let outcome = run(case, &mut |n| (n - 1).min(BODY_BUFFER_BYTES));
    assert_eq!((outcome.ending, outcome.ms), (Ending::Abort, 5_000));
    assert!(outcome.links[0].read <= 3 * BACKLOG_BYTES_MAX, "{}", outcome.links[0].read);
}

#[test]
fn large_bodies_stream_both_ways() {
    let body = "0123456789abcdef".repeat(60_000);
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let case = Case::post(&body).peer(&answer);
    let outcome = run(case, &mut |n| (n - 1).min(BODY_BUFFER_BYTES));
    assert_eq!(outcome.status(), 200);
    assert!(outcome.body() == body && outcome.request(0).body == body.as_bytes());
    let outcome = whole(Case::post(&body).peer(&answer));
    assert!(outcome.body() == body && outcome.request(0).body == body.as_bytes());
}
