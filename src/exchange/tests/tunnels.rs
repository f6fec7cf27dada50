//! Another protocol after a 101.

use super::case::{Case, Outcome, check, run, whole};
use super::script::{Answers, Fate, Takes, Then};
use crate::exchange::Ending;

const ASKS: &str = "GET /a HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\n\
    Upgrade: h2c, websocket\r\nSec-WebSocket-Key: k\r\n\r\n";
const SWITCHES: &str = "HTTP/1.1 101 Switching\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: a\r\n\r\n";
const HEAD: &str = "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: a\r\n\
    Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nServer: ringgate\r\nVia: 1.1 ringgate\r\n\
    Upgrade: WebSocket\r\nConnection: Upgrade\r\n\r\n";

/// A client that asks and then says `says`; a peer that accepts and then says `answers`.
fn case(says: &str, answers: &str) -> Case {
    Case::new(&format!("{ASKS}{says}"))
        .with(|setup| setup.upgrades = true)
        .peer(&format!("{SWITCHES}{answers}"))
        .answers(Answers::AfterHead)
}

/// What the peer got behind the request.
fn said(outcome: &Outcome) -> String {
    let received = &outcome.links[0].received;
    let at = received.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    String::from_utf8_lossy(&received[at..]).into_owned()
}

#[test]
fn bytes_go_both_ways_and_both_ends_are_told() {
    check(
        || case("GET / HTTP/1.1\r\n", "ping").then(Then::Closes).client(|c| c.closes = true),
        |outcome| {
            assert_eq!(outcome.text, format!("{HEAD}ping"));
            assert_eq!(said(outcome), "GET / HTTP/1.1\r\n", "none of it is a request");
            let link = &outcome.links[0];
            assert!(link.told && outcome.client_told && link.fate == Fate::Closed);
            assert_eq!(outcome.ending, Ending::Close);
            assert_eq!(outcome.request(0).get("upgrade"), Some("websocket"), "no h2c");
        },
    );
}

#[test]
fn one_end_is_told_while_the_other_goes_on() {
    // Nobody but the upstream ends: the client may still send until nothing moves any more.
    check(
        || case("more", "bye").then(Then::Closes),
        |outcome| {
            assert_eq!((said(outcome).as_str(), outcome.client_told), ("more", true));
            assert!(!outcome.links[0].told);
            assert_eq!((outcome.ending, outcome.ms), (Ending::Close, 3_000));
        },
    );
}

#[test]
fn silence_ends_it() {
    let outcome = whole(case("a", "b"));
    assert_eq!((outcome.ending, outcome.ms), (Ending::Close, 3_000));
    assert!(!outcome.client_told && outcome.text.ends_with("\r\n\r\nb"));
}

#[test]
fn a_broken_side_breaks_the_other() {
    check(
        || case("a", "b").then(Then::Breaks),
        |outcome| assert_eq!(outcome.ending, Ending::Abort),
    );
    check(
        || case(&"a".repeat(300), "b").takes(400, Takes::ThenFails),
        |outcome| assert_eq!(outcome.ending, Ending::Abort),
    );
}

/// A side that takes nothing more stops the other one from being read.
#[test]
fn back_pressure() {
    let much = "x".repeat(1_000_000);
    let run = |case| run(case, &mut |n| n.min(10_000) - 1);
    let outcome = run(case(&much, "").takes(500, Takes::ThenStalls));
    assert!(outcome.used < 400_000, "{} bytes were read", outcome.used);
    let outcome = run(case("", &much).client(|client| client.takes = Some((HEAD.len(), false))));
    assert!(outcome.links[0].read < 400_000, "{} bytes were read", outcome.links[0].read);
}

/// A side that took a part and then nothing more: what is lost must not look like an end, and no
/// later bytes may follow what was lost.
#[test]
fn silence_with_bytes_that_wait_is_no_end() {
    for (says, answers) in [("".to_owned(), "x".repeat(2_000)), ("x".repeat(2_000), String::new())]
    {
        check(
            || {
                let case = case(&says, &answers).then(Then::Closes);
                let case = case.client(|client| client.closes = true);
                match says.is_empty() {
                    true => case.client(|client| client.takes = Some((HEAD.len(), false))),
                    false => case.takes(500, Takes::ThenStalls),
                }
            },
            |outcome| {
                let behind = outcome.text.get(HEAD.len()..).unwrap_or_default();
                let all = behind.len() + said(outcome).len();
                assert_eq!(outcome.ending == Ending::Abort, all < 2_000, "{all}");
            },
        );
    }
}

#[test]
fn what_was_not_offered_is_not_accepted() {
    let switches = |fields: &str| format!("HTTP/1.1 101 S\r\n{fields}\r\n");
    for (request, allowed, answer) in [
        (ASKS, false, switches("Upgrade: websocket\r\nConnection: Upgrade\r\n")),
        (ASKS, true, switches("Upgrade: h2c\r\nConnection: Upgrade\r\n")),
        (ASKS, true, switches("Upgrade: websocket, foo\r\nConnection: Upgrade\r\n")),
        (ASKS, true, switches("Upgrade: websocket\r\n")),
        (ASKS, true, switches("Connection: Upgrade\r\n")),
        (
            "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: x\r\n\r\n",
            true,
            switches("Upgrade: x\r\nConnection: Upgrade\r\n"),
        ),
        (
            "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
            true,
            switches("Upgrade: h2c\r\nConnection: Upgrade\r\n"),
        ),
        (
            "GET / HTTP/1.0\r\nHost: h\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
            true,
            switches("Upgrade: x\r\nConnection: Upgrade\r\n"),
        ),
    ] {
        let case = Case::new(request).with(|setup| {
            setup.upgrades = allowed;
            setup.retries = 0;
        });
        assert_eq!(whole(case.peer(&answer)).status(), 502, "{request:?} {answer:?}");
    }
}

/// An upstream that does not switch answers as usual, and what follows is the next request.
#[test]
fn an_upstream_may_decline() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno";
    check(
        || Case::new(&format!("{ASKS}GET /next")).with(|s| s.upgrades = true).peer(answer),
        |outcome| {
            assert_eq!((outcome.status(), outcome.ending), (200, Ending::KeepAlive));
            assert_eq!(outcome.used, ASKS.len());
        },
    );
}
