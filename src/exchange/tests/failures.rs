//! Peers and clients that fail: retries, timeouts, cut-off and broken messages.

use super::case::{Case, Outcome, check, whole};
use super::double::{Phase, Scripted, pause};
use super::script::{Answers, Connects, Fate, Takes, Then};
use crate::exchange::Ending;
use crate::plugin::Hold;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

/// Peers by their connections, in the order they were asked.
fn peers(outcome: &Outcome) -> Vec<usize> {
    outcome.links.iter().map(super::script::Link::peer).collect()
}

#[test]
fn a_refused_connection_goes_to_the_next_peer() {
    for case in [Case::get, || Case::post("abc")] {
        check(
            || case().peer("").connects(Connects::Refused).peer(OK).with(|s| s.peers = 2),
            |outcome| {
                assert_eq!(outcome.status(), 200);
                assert_eq!(outcome.links.len(), 1, "a POST that was not sent may be tried again");
            },
        );
    }
}

#[test]
fn tries_run_out() {
    let refused = |case: Case| case.peer("").connects(Connects::Refused);
    for (retries, nodes, ms) in [(0, 3, 0), (1, 3, 0), (9, 3, 0)] {
        let case = refused(refused(refused(Case::get())));
        let outcome = whole(case.with(|setup| (setup.retries, setup.peers) = (retries, nodes)));
        assert_eq!(outcome.status(), 502);
        assert_eq!((outcome.ms, outcome.ending), (ms, Ending::KeepAlive));
        assert!(outcome.body().contains("502 Bad Gateway"));
    }
    let slow = Case::get().peer("").connects(Connects::Never).peer(OK);
    let outcome = whole(slow.with(|setup| (setup.peers, setup.retry_ms) = (2, 500)));
    assert_eq!((outcome.status(), outcome.ms), (502, 1_000), "too late for another try");
}

#[test]
fn a_stale_connection_is_made_anew_to_the_same_peer() {
    for then in [Then::Closes, Then::Breaks] {
        check(
            || {
                let case = Case::get().peer("").connects(Connects::Reused).then(then);
                case.peer(OK).connects(Connects::Reused).with(|s| (s.peers, s.retries) = (3, 0))
            },
            |outcome| {
                assert_eq!(outcome.status(), 200);
                let asked = peers(outcome);
                assert_eq!(asked[0], asked[1]);
                assert!(outcome.links[0].reused && !outcome.links[1].reused);
            },
        );
    }
}

#[test]
fn what_was_sent_and_may_have_had_an_effect_is_not_sent_again() {
    let put = || Case::new("PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc");
    let delete = || Case::new("DELETE /a HTTP/1.1\r\nHost: h\r\n\r\n");
    let patch = || Case::new("PATCH /a HTTP/1.1\r\nHost: h\r\n\r\n");
    for (case, connects, answer, links, status) in [
        (Case::post("abc"), Connects::New, "", 1, 502),
        (Case::post("abc"), Connects::Reused, "", 1, 502),
        (Case::post(""), Connects::Reused, "", 1, 502),
        (patch(), Connects::New, "", 1, 502),
        (put(), Connects::New, "", 1, 502),
        (delete(), Connects::New, "", 2, 200),
        (Case::get(), Connects::New, "", 2, 200),
        (Case::get(), Connects::New, "HTTP/1.1 2", 1, 502),
        (Case::get(), Connects::Reused, "HTTP/1.1 100 Continue\r\n\r\n", 1, 502),
    ] {
        let case = case.peer(answer).connects(connects).then(Then::Closes).peer(OK);
        let outcome = whole(case.with(|setup| setup.peers = 2));
        assert_eq!((outcome.links.len(), outcome.status()), (links, status), "{answer}");
    }
}

#[test]
fn every_timer_has_its_status() {
    let stall = |case: Case| case.peer("HTTP/1.1 200").with(|s| s.retries = 0);
    for (case, status, ms, ending) in [
        (Case::get().peer("").connects(Connects::Never), 504, 1_000, Ending::KeepAlive),
        (Case::get().peer("").takes(0, Takes::ThenStalls), 504, 2_000, Ending::KeepAlive),
        (Case::get().peer(""), 504, 3_000, Ending::KeepAlive),
        (stall(Case::get()), 504, 3_000, Ending::KeepAlive),
        (stall(Case::post("abc")), 504, 3_000, Ending::KeepAlive),
        (Case::post("abcdef").peer(OK).client(|c| c.bytes.truncate(50)), 408, 4_000, Ending::Close),
    ] {
        let outcome = whole(case.with(|setup| setup.retries = 0));
        assert_eq!((outcome.status(), outcome.ms, outcome.ending), (status, ms, ending));
        let closes = outcome.field("connection") == Some("close");
        assert_eq!(closes, ending == Ending::Close);
        assert!(outcome.links.iter().all(|link| link.fate == Fate::Closed));
    }
}

#[test]
fn a_stalled_peer_is_left_for_another() {
    let case = Case::get().peer("").peer(OK).with(|setup| setup.peers = 2);
    let outcome = whole(case);
    assert_eq!((outcome.status(), outcome.ms), (200, 3_000));
    let asked = peers(&outcome);
    assert_ne!(asked[0], asked[1]);
}

#[test]
fn stalls_in_the_middle_cut_off() {
    let outcome = whole(Case::get().peer("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhell"));
    assert_eq!((outcome.ending, outcome.ms), (Ending::Abort, 3_000));
    let outcome = whole(Case::get().peer(OK).client(|client| client.takes = Some((0, false))));
    assert_eq!(outcome.ending, Ending::KeepAlive, "small answers are left to the connection");
    let long = format!("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", "x".repeat(5));
    let stalled = Case::get().peer(&long).client(|client| client.takes = Some((0, false)));
    let outcome = whole(stalled.with(|setup| setup.timeouts.read_ms = 60_000));
    assert_eq!((outcome.ending, outcome.ms), (Ending::Abort, 5_000), "the client takes nothing");
}

#[test]
fn a_cut_off_answer_never_looks_whole() {
    for (answer, then) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhell", Then::Closes),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhell\r\n", Then::Closes),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhell\r\n0\r\n", Then::Closes),
        ("HTTP/1.1 200 OK\r\n\r\nhell", Then::Breaks),
    ] {
        for version in ["1.1", "1.0"] {
            check(
                || {
                    let request = format!("GET / HTTP/{version}\r\nHost: h\r\n\r\n");
                    Case::new(&request).peer(answer).then(then)
                },
                |outcome| {
                    assert_eq!(outcome.ending, Ending::Abort, "{answer}");
                    assert_eq!(outcome.links[0].fate, Fate::Closed);
                    assert!(outcome.response.as_ref().is_none_or(|parsed| !parsed.complete));
                },
            );
        }
    }
}

/// As long as nothing of the response was sent, a bad body is as bad as a bad head.
#[test]
fn a_bad_chunk_is_a_502_or_cuts_the_response_off() {
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhell\r\nx";
    let case = || Case::get().peer(answer);
    let outcome = whole(case().client(|client| client.gathered = OK.into()));
    assert_eq!((outcome.status(), outcome.ending), (502, Ending::KeepAlive));
    assert!(outcome.text.starts_with(OK), "what was there before stays");
    check(case, |outcome| {
        assert_eq!(outcome.links[0].fate, Fate::Closed);
        match outcome.ending {
            Ending::Abort => {
                assert!(outcome.response.as_ref().is_none_or(|parsed| !parsed.complete));
            }
            _ => assert_eq!(outcome.status(), 502),
        }
    });
}

#[test]
fn garbage_is_a_502() {
    for answer in [
        "SSH-2.0-OpenSSH\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
        "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    ] {
        check(
            || Case::get().peer(answer).peer(OK).with(|setup| setup.peers = 2),
            |outcome| {
                assert_eq!(outcome.status(), 502, "{answer}");
                assert_eq!(outcome.links.len(), 1, "it answered: no other is asked");
                assert_eq!(outcome.ending, Ending::KeepAlive);
            },
        );
    }
    let large = format!("HTTP/1.1 200 OK\r\nA: {}", "a".repeat(40_000));
    assert_eq!(whole(Case::get().peer(&large)).status(), 502);
}

#[test]
fn malformed_chunks_are_a_400() {
    for coded in
        ["x\r\n", "5\r\nhelloX", "-1\r\n", "0\r\nA: b\n\r\n", "5\r\nhello\r\n0\r\nbad\r\n\r\n"]
    {
        check(
            || Case::chunked(coded).peer(OK),
            |outcome| {
                assert_eq!(outcome.status(), 400, "{coded:?}");
                assert_eq!(outcome.field("connection"), Some("close"));
                assert_eq!(outcome.ending, Ending::Close);
                assert!(outcome.links.iter().all(|link| link.fate == Fate::Closed));
            },
        );
    }
}

#[test]
fn a_client_that_goes_away() {
    check(
        || {
            let case = Case::post("abcdef").peer(OK);
            case.client(|client| {
                client.bytes.truncate(client.bytes.len() - 2);
                client.closes = true;
            })
        },
        |outcome| {
            assert!(outcome.response.is_none() && outcome.ending == Ending::Close);
            assert!(outcome.links.iter().all(|link| link.fate == Fate::Closed));
        },
    );
    let long = format!("HTTP/1.1 200 OK\r\nContent-Length: 400000\r\n\r\n{}", "x".repeat(9_000));
    let case = Case::get().peer(&long).client(|client| client.takes = Some((10, true)));
    assert_eq!(whole(case).ending, Ending::Abort);
}

#[test]
fn an_answer_before_a_broken_send_counts() {
    let answer = "HTTP/1.1 413 No\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno";
    let body = "x".repeat(2_000);
    let make = || Case::post(&body).peer(answer).answers(Answers::After(0));
    let outcome = whole(make().takes(10, Takes::ThenFails));
    assert_eq!((outcome.status(), outcome.body().as_str()), (413, "no"));
    let outcome = whole(
        Case::post(&body)
            .peer("")
            .takes(10, Takes::ThenFails)
            .then(Then::Breaks)
            .answers(Answers::After(0)),
    );
    assert_eq!(outcome.status(), 502);
}

#[test]
fn an_answer_that_announces_its_close_does_not_stop_the_request() {
    let answer = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
    let body = "x".repeat(200_000);
    let case = Case::post(&body).peer(answer).answers(Answers::AfterAll);
    let outcome = super::case::run(case, &mut |n| (n - 1).min(3_000));
    assert_eq!(outcome.status(), 200);
    assert_eq!(outcome.request(0).body.len(), body.len());
}

/// Of responses to earlier requests a part may be out when the client is given up: nothing may
/// follow it, as if it was whole.
#[test]
fn a_client_that_takes_nothing_more() {
    let gathered = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let case = Case::get().peer("").with(|setup| setup.timeouts.read_ms = 60_000);
    let case = case.client(|client| {
        client.gathered = gathered.to_vec();
        client.takes = Some((0, false));
    });
    let outcome = whole(case);
    assert_eq!((outcome.ending, outcome.ms), (Ending::Abort, 5_000));
}

/// A send may take as long as it needs, as long as some of it is taken in time.
#[test]
fn who_takes_slowly_is_not_stalled() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nslow text";
    check(
        || {
            let case = Case::get().peer(answer).client(|client| client.slow = true);
            case.with(|setup| setup.timeouts.read_ms = 1_000_000_000)
        },
        |outcome| assert_eq!((outcome.status(), outcome.body().as_str()), (200, "slow text")),
    );
    check(
        || {
            let case = Case::post("abc").peer(OK).takes(0, Takes::Slowly);
            case.with(|setup| setup.rules.body_ms = 1_000_000_000)
        },
        |outcome| {
            assert_eq!((outcome.status(), outcome.body().as_str()), (200, "hello"));
            assert_eq!(outcome.attempts, 1);
        },
    );
}

/// A client that nobody reads from or sends to may be gone all the same.
#[test]
fn a_client_that_left_is_not_waited_for() {
    let holds = |phase| Scripted::new("p").on(phase, &[pause(Hold::All)]);
    let cases: [(fn() -> Case, usize); 3] = [
        (|| Case::get().peer("").with(|setup| setup.peers = 2), 1),
        (|| Case::post("abc").peer("").connects(Connects::Never), 0),
        (|| Case::get().peer("HTTP/1.1 103 Early"), 1),
    ];
    for (case, links) in cases {
        check(
            || case().client(|client| client.gone_ms = Some(500)),
            |outcome| gone(outcome, links),
        );
    }
    for (phase, links) in [(Phase::RequestHeaders, 0), (Phase::ResponseHeaders, 1)] {
        check(
            || {
                let case = Case::get().plugin(holds(phase)).peer(OK);
                case.client(|client| client.gone_ms = Some(500))
            },
            |outcome| gone(outcome, links),
        );
    }
}

#[track_caller]
fn gone(outcome: &Outcome, links: usize) {
    assert_eq!((outcome.ms, outcome.ending, outcome.text.as_str()), (500, Ending::Close, ""));
    assert_eq!(outcome.links.len(), links);
    assert!(outcome.links.iter().all(|link| link.fate == Fate::Closed));
    assert_eq!((outcome.details.as_str(), outcome.flags), ("downstream_remote_disconnect", 0x4000));
}
