//! Proxying without plugins in the way.

use super::case::{Case, check, whole};
use super::double::{Effect, Phase, Scripted, edit};
use super::script::{Answers, Connects, Fate, Then};
use crate::exchange::Ending;
use crate::proxy_protocol::Version;
use crate::snapshot::Target;
use crate::upstream::HostPolicy;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

#[test]
fn a_get_goes_there_and_back() {
    check(
        || Case::get().peer(OK),
        |outcome| {
            assert_eq!((outcome.status(), outcome.body().as_str()), (200, "hello"));
            assert_eq!(outcome.field("content-length"), Some("5"));
            assert_eq!(outcome.field("connection"), None);
            assert_eq!(outcome.ending, Ending::KeepAlive);
            assert_eq!(outcome.links[0].fate, Fate::Released);
            let request = outcome.request(0);
            assert_eq!(request.start, "GET /a HTTP/1.1");
            assert_eq!(request.get("host"), Some("h"));
            assert_eq!(request.get("content-length"), None);
            assert_eq!(request.get("x-real-ip"), Some("192.0.2.1"));
        },
    );
}

#[test]
fn request_bodies_of_every_framing() {
    let table: [(Case, &str, Option<&str>); 5] = [
        (Case::post("hello world"), "hello world", Some("11")),
        (Case::post(""), "", Some("0")),
        (Case::chunked("5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n"), "hello world", None),
        (Case::chunked("0\r\n\r\n"), "", None),
        (Case::new("DELETE /a HTTP/1.1\r\nHost: h\r\n\r\n"), "", None),
    ];
    for (case, body, length) in table {
        let client = case.client;
        check(
            || Case { client: client.clone(), ..Case::get().peer(OK) },
            |outcome| {
                assert_eq!(outcome.status(), 200);
                let request = outcome.request(0);
                assert!(request.complete);
                assert_eq!(request.body, body.as_bytes());
                if length.is_some() {
                    assert_eq!(request.get("content-length"), length);
                }
                assert_eq!(outcome.ending, Ending::KeepAlive);
                assert_eq!(outcome.links[0].fate, Fate::Released);
            },
        );
    }
}

#[test]
fn chunks_and_trailers_go_both_ways() {
    check(
        || {
            Case::chunked("3\r\nabc\r\n0\r\nX-Sum: 1\r\nContent-Length: 9\r\n\r\n").peer(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                 4\r\nback\r\n0\r\nX-Back: 2\r\nHost: x\r\n\r\n",
            )
        },
        |outcome| {
            assert_eq!((outcome.status(), outcome.body().as_str()), (200, "back"));
            assert_eq!(outcome.parsed().trailers, [("X-Back".to_owned(), "2".to_owned())]);
            let request = outcome.request(0);
            assert_eq!(request.body, b"abc");
            assert_eq!(request.trailers, [("X-Sum".to_owned(), "1".to_owned())]);
            assert_eq!(outcome.links[0].fate, Fate::Released);
        },
    );
}

#[test]
fn responses_without_a_body() {
    let head = "HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n";
    let get = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
    for (request, answer, status, length) in [
        (head, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 200, Some("5")),
        (head, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200, None),
        (head, "HTTP/1.1 200 OK\r\n\r\n", 200, None),
        (get, "HTTP/1.1 204 No Content\r\n\r\n", 204, None),
        (get, "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", 204, None),
        (get, "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 304, Some("5")),
        (get, "HTTP/1.1 304 Not Modified\r\n\r\n", 304, None),
        (get, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, Some("0")),
    ] {
        check(
            || Case::new(request).peer(answer),
            |outcome| {
                assert_eq!(outcome.status(), status, "{answer}");
                assert_eq!(outcome.field("content-length"), length, "{answer}");
                assert_eq!(outcome.body(), "");
                assert_eq!(outcome.ending, Ending::KeepAlive);
                assert_eq!(outcome.links[0].fate, Fate::Released, "{answer}");
            },
        );
    }
}

#[test]
fn versions_and_framings_of_the_client() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let open = "HTTP/1.1 200 OK\r\n\r\nhello";
    for (version, fields, answer, framing, connection, ending) in [
        ("1.1", "", chunked, Some("chunked"), None, Ending::KeepAlive),
        ("1.1", "", open, Some("chunked"), None, Ending::KeepAlive),
        ("1.1", "Connection: close\r\n", OK, None, Some("close"), Ending::Close),
        ("1.0", "", OK, None, Some("close"), Ending::Close),
        ("1.0", "", chunked, None, Some("close"), Ending::Close),
        ("1.0", "", open, None, Some("close"), Ending::Close),
        ("1.0", "Connection: keep-alive\r\n", OK, None, Some("keep-alive"), Ending::KeepAlive),
        ("1.0", "Connection: keep-alive\r\n", chunked, None, Some("close"), Ending::Close),
    ] {
        check(
            || {
                let request = format!("GET /a HTTP/{version}\r\nHost: h\r\n{fields}\r\n");
                Case::new(&request).peer(answer).then(Then::Closes)
            },
            |outcome| {
                assert_eq!((outcome.status(), outcome.body().as_str()), (200, "hello"));
                assert_eq!(outcome.field("transfer-encoding"), framing, "{version} {answer}");
                assert_eq!(outcome.field("connection"), connection, "{version} {answer}");
                assert_eq!(outcome.ending, ending);
            },
        );
    }
}

#[test]
fn a_client_of_1_0_without_host() {
    let outcome = whole(Case::new("GET / HTTP/1.0\r\n\r\n").peer(OK));
    assert_eq!(outcome.request(0).get("host"), Some("node0"));
    let rewritten = Case::get().peer(OK).with(|s| s.host = HostPolicy::Rewrite(b"r.x".to_vec()));
    assert_eq!(whole(rewritten).request(0).get("host"), Some("r.x"));
}

#[test]
fn targets_as_they_go_upstream() {
    for (line, target) in [
        ("GET http://h HTTP/1.1", "GET / HTTP/1.1"),
        ("GET http://h/x?y HTTP/1.1", "GET /x?y HTTP/1.1"),
        ("OPTIONS http://h HTTP/1.1", "OPTIONS * HTTP/1.1"),
        ("OPTIONS * HTTP/1.1", "OPTIONS * HTTP/1.1"),
        ("GET /%2e%2e/a?b=%20 HTTP/1.1", "GET /%2e%2e/a?b=%20 HTTP/1.1"),
    ] {
        let outcome = whole(Case::new(&format!("{line}\r\nHost: h\r\n\r\n")).peer(OK));
        assert_eq!(outcome.request(0).start, target);
    }
}

#[test]
fn whether_the_upstream_connection_is_kept() {
    for (answer, fate) in [
        (OK, Fate::Released),
        ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", Fate::Closed),
        (
            "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi",
            Fate::Released,
        ),
        ("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi", Fate::Closed),
    ] {
        check(
            || Case::get().peer(answer),
            |outcome| {
                assert_eq!(outcome.status(), 200);
                assert_eq!(outcome.links[0].fate, fate, "{answer}");
                assert_eq!(outcome.ending, Ending::KeepAlive);
            },
        );
    }
}

#[test]
fn more_than_was_declared_is_not_passed_on() {
    let table = [
        (format!("{OK}HTTP/1.1 200 OK\r\n\r\n"), "hello"),
        ("HTTP/1.1 204 No Content\r\n\r\nbody".to_owned(), ""),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nx".to_owned(), ""),
    ];
    for (answer, body) in table {
        let outcome = whole(Case::get().peer(&answer));
        assert!(outcome.status() < 300);
        assert_eq!(outcome.body(), body);
        assert_eq!(outcome.links[0].fate, Fate::Closed, "{answer}");
        assert_eq!(outcome.ending, Ending::KeepAlive);
    }
}

#[test]
fn fields_of_one_hop_stay_there() {
    let answer = "HTTP/1.1 200 OK\r\nConnection: close\r\nConnection: X-Hop, keep-alive\r\n\
        X-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: x\r\nUpgrade: h2c\r\nX-Kept: 1\r\n\
        Set-Cookie: a\r\nServer: other\r\nContent-Length: 0\r\n\r\n";
    check(
        || {
            Case::new(
                "GET /a HTTP/1.1\r\nHost: h\r\nConnection: keep-alive\r\nConnection: X-Own\r\n\
                 X-Own: 1\r\nTE: trailers\r\nX-Kept: 2\r\n\r\n",
            )
            .peer(answer)
        },
        |outcome| {
            for gone in ["x-hop", "keep-alive", "proxy-connection", "upgrade"] {
                assert_eq!(outcome.field(gone), None, "{gone}");
            }
            assert_eq!(outcome.field("x-kept"), Some("1"));
            assert_eq!(outcome.field("set-cookie"), Some("a"));
            assert_eq!(outcome.field("server"), Some("ringgate"));
            assert_eq!(outcome.field("date"), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
            assert_eq!(outcome.request(0).get("x-own"), None);
            assert_eq!(outcome.request(0).get("x-kept"), Some("2"));
        },
    );
}

#[test]
fn date_and_upstream_status() {
    let answer = "HTTP/1.1 503 No\r\nDate: theirs\r\nContent-Length: 0\r\n\r\n";
    let outcome = whole(Case::get().peer(answer));
    assert_eq!(outcome.status(), 503);
    assert_eq!(outcome.field("date"), Some("theirs"));
    assert_eq!(outcome.field("x-apisix-upstream-status"), Some("503"));
    assert_eq!(whole(Case::get().peer(OK)).field("x-apisix-upstream-status"), None);
}

#[test]
fn interim_responses_pass_and_100_does_not() {
    let answer = format!(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </s>\r\n\
         Content-Length: 4\r\nConnection: x\r\n\r\n{OK}"
    );
    check(
        || Case::get().peer(&answer),
        |outcome| {
            assert_eq!((outcome.status(), outcome.body().as_str()), (200, "hello"));
            let [hints] = &outcome.interim[..] else { panic!("{:?}", outcome.interim) };
            assert_eq!(hints.start, "HTTP/1.1 103 Early Hints");
            let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
            assert_eq!(hints.fields, [field("Link", "</s>"), field("Via", "1.1 ringgate")]);
        },
    );
    let old = whole(Case::new("GET / HTTP/1.0\r\nHost: h\r\n\r\n").peer(&answer));
    assert!(old.status() == 200 && old.interim.is_empty());
}

#[test]
fn expectations_are_answered_by_us_when_the_body_is_wanted() {
    let request =
        "PUT /a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc";
    check(
        || Case::new(request).peer(OK).client(|client| client.waits_for_continue = true),
        |outcome| {
            assert_eq!(outcome.status(), 200);
            assert_eq!(outcome.interim.len(), 1);
            assert_eq!(outcome.request(0).body, b"abc");
            assert_eq!(outcome.ending, Ending::KeepAlive);
        },
    );
    let impatient = whole(Case::new(request).peer(OK).client(|client| client.early = 3));
    assert!(impatient.status() == 200 && impatient.interim.is_empty(), "the body was there");
}

#[test]
fn an_early_response_drops_the_rest_of_the_body() {
    let answer = "HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\nno";
    for (length, ending) in [(2_000, Ending::KeepAlive), (400_000, Ending::Close)] {
        let body = "x".repeat(length);
        let case = Case::post(&body).peer(answer).answers(Answers::After(1));
        let outcome = super::case::run(case, &mut |n| (n - 1).min(900));
        assert_eq!((outcome.status(), outcome.body().as_str()), (413, "no"));
        assert_eq!(outcome.ending, ending, "{length}");
        assert_eq!(outcome.links[0].fate, Fate::Closed, "it has not the whole request");
    }
}

#[test]
fn pipelined_bytes_stay_and_output_is_gathered() {
    let case = Case::new("POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nabGET /b")
        .peer(OK)
        .client(|client| {
            client.early = 8;
            client.gathered = b"earlier".to_vec();
        });
    let length = case.client.bytes.len();
    let outcome = whole(case);
    assert_eq!(outcome.used, length - "GET /b".len());
    assert!(outcome.text.starts_with("earlierHTTP/1.1 200 OK\r\n"), "{}", outcome.text);
    assert_eq!(outcome.sends, 1, "what was gathered goes out while the upstream works");

    let case = Case::new("GET /nowhere HTTP/1.1\r\nHost: h\r\n\r\n")
        .client(|client| client.gathered = b"earlier".to_vec());
    let outcome = whole(case);
    assert!(outcome.text.starts_with("earlierHTTP/1.1 404"), "{}", outcome.text);
    assert_eq!(outcome.sends, 0, "local responses are left to be gathered");
}

#[test]
fn a_method_that_a_plugin_changed() {
    let headers =
        |method| Scripted::new("p").on(Phase::RequestHeaders, &[edit(Effect::Method(method))]);
    // The upstream's answer to HEAD has a length and no body.
    check(
        || Case::get().plugin(headers("HEAD")).peer("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        |outcome| {
            assert_eq!(outcome.request(0).start, "HEAD /a HTTP/1.1");
            assert_eq!((outcome.status(), outcome.body().as_str()), (200, ""));
            assert_eq!(outcome.ending, Ending::KeepAlive);
            assert_eq!(outcome.links[0].fate, Fate::Released);
        },
    );
    let head = "HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n";
    check(
        || Case::new(head).plugin(headers("GET")).peer(OK),
        |outcome| {
            assert_eq!(outcome.request(0).start, "GET /a HTTP/1.1");
            assert!(outcome.text.ends_with("\r\n\r\n"), "a body after HEAD: {}", outcome.text);
            assert_eq!(outcome.field("content-length"), Some("5"));
            assert_eq!(outcome.links[0].fate, Fate::Released);
        },
    );
    // What is no longer idempotent is not sent twice.
    let closes = Case::get().plugin(headers("POST")).peer("").then(Then::Closes).peer(OK);
    let outcome = whole(closes.with(|s| s.retries = 1));
    assert_eq!((outcome.status(), outcome.links.len()), (502, 1));
}

#[test]
fn a_body_that_a_plugin_makes() {
    let make = || {
        Scripted::new("p")
            .on(Phase::ResponseHeaders, &[edit(Effect::Announce(4))])
            .on(Phase::ResponseBody, &[edit(Effect::Body("made"))])
    };
    let empty = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    check(
        || Case::get().plugin(make()).peer(empty),
        |outcome| {
            assert_eq!((outcome.status(), outcome.body().as_str()), (200, "made"));
            assert_eq!(outcome.field("content-length"), Some("4"));
            assert_eq!(outcome.ending, Ending::KeepAlive);
        },
    );
    for (client, peer) in [
        ("GET /a HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n"),
        ("HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"),
    ] {
        check(
            || Case::new(client).plugin(make()).peer(peer),
            |outcome| {
                assert!(outcome.text.ends_with("\r\n\r\n"), "a body: {}", outcome.text);
                assert_eq!(outcome.ending, Ending::KeepAlive);
            },
        );
    }
}

#[test]
fn fields_that_were_promised() {
    let promise = edit(Effect::Promise("X-Left", "1"));
    let plugin = || Scripted::new("p").on(Phase::RequestHeaders, std::slice::from_ref(&promise));
    check(
        || {
            Case::get()
                .plugin(plugin())
                .peer("HTTP/1.1 200 OK\r\nX-Left: 9\r\nContent-Length: 0\r\n\r\n")
        },
        |outcome| assert_eq!(outcome.field("x-left"), Some("1")),
    );
    check(
        || Case::get().plugin(plugin()).with(|s| s.target = Target::Status(503)),
        |outcome| assert_eq!((outcome.status(), outcome.field("x-left")), (503, Some("1"))),
    );
}

/// A new connection begins with who it is for; one that carried requests of that client does not,
/// and one made in place of such a one, which had gone stale, does again.
#[test]
fn connections_begin_with_who_they_are_for() {
    let line = b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 9080\r\n";
    let case = |connects| {
        // The naive reader knows no such line, so the peer answers by the count of bytes.
        let case = Case::get().peer(OK).answers(Answers::After(80)).connects(connects);
        case.with(|setup| setup.proxy_protocol = Some(Version::V1))
    };
    let outcome = whole(case(Connects::New));
    assert_eq!((outcome.status(), outcome.sends), (200, 0), "in the piece that has the head");
    assert!(outcome.links[0].received.starts_with(line));
    assert!(outcome.links[0].received[line.len()..].starts_with(b"GET /a HTTP/1.1\r\n"));
    assert!(whole(case(Connects::Reused)).links[0].received.starts_with(b"GET "));
    let stale = Case::get().peer("").connects(Connects::Reused).then(Then::Closes).peer(OK);
    let stale = stale.answers(Answers::After(80));
    let outcome = whole(stale.with(|setup| setup.proxy_protocol = Some(Version::V1)));
    assert_eq!(outcome.status(), 200);
    assert!(outcome.links[0].received.starts_with(b"GET "));
    assert!(outcome.links[1].received.starts_with(line));
}
