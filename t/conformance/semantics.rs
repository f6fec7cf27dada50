//! RFC 9110 §6, §8, §9, §10 and §15, as far as they bind a gateway.

use super::{Expect, Row, answered, get, post, row, story};
use crate::harness::{Gateway, Upstream};

const HEAD: &str = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n";

pub(super) fn rows() -> Vec<Row> {
    let mut rows = dates_and_lengths();
    rows.extend(malformed_heads());
    rows.extend(expectations());
    rows.extend(interim());
    rows
}

fn dates_and_lengths() -> Vec<Row> {
    let coded = post("Content-Encoding: x, y\r\nContent-Length: 2\r\n", "hi");
    let head = "HEAD /local HTTP/1.1\r\nHost: a\r\n\r\n";
    vec![
        row("9110 §6.6.1", "a Date of the upstream's stays", get(""))
            .answer(answered("Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"))
            .served()
            .gets("date: Sun, 06 Nov 1994 08:49:37 GMT"),
        row("9110 §6.6.1", "without one it gets one", get("")).served(),
        row("9110 §6.6.1", "so has every answer of the gateway's own", get("X : y\r\n"))
            .refused(400),
        row("9110 §8.6", "the length in answer to HEAD is that of a GET", head)
            .status(200)
            .gets("content-length: 4")
            .body(""),
        row("9110 §8.6", "that an upstream says is passed on", HEAD)
            .answer("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n")
            .status(200)
            .gets("content-length: 1234"),
        row("9110 §8.6", "no body, no length is made up", "POST / HTTP/1.1\r\nHost: a\r\n\r\n")
            .served()
            .misses("content-length")
            .misses("transfer-encoding"),
        row("9110 §8.6", "a length of 0 goes on", post("Content-Length: 0\r\n", ""))
            .served()
            .sees("content-length: 0"),
        row("9110 §8.4", "content codings are not the gateway's", coded)
            .served()
            .sees("content-encoding: x, y"),
        row("9110 §7.7", "content is passed on as it is", get(""))
            .answer("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n\0\r\n")
            .served()
            .body("\0\r\n"),
        row("9110 §9.3.2", "HEAD is passed on as HEAD", HEAD)
            .answer("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
            .status(200)
            .line("HEAD / HTTP/1.1"),
    ]
}

/// An answer to HEAD has no body, whatever else is wrong with the request.
fn malformed_heads() -> Vec<Row> {
    const S: &str = "9110 §9.3.2";
    let with = |fields: &str| format!("HEAD / HTTP/1.1\r\n{fields}\r\n");
    vec![
        row(S, "a HEAD with a bad field gets no body", with("Host: a\r\nX : y\r\n")).refused(400),
        row(S, "nor one without Host", with("")).refused(400),
        row(S, "nor one of a bad target", "HEAD /a#b HTTP/1.1\r\nHost: a\r\n\r\n").refused(400),
        row(S, "nor one of a path that leads out", "HEAD /../a HTTP/1.1\r\nHost: a\r\n\r\n")
            .refused(400),
        row(S, "nor one of another version", "HEAD / HTTP/2.0\r\nHost: a\r\n\r\n").refused(505),
        row(S, "nor an expectation of one", with("Host: a\r\nExpect: tea\r\n")).refused(417),
        row(S, "nor one that announces a bad body", with("Host: a\r\nContent-Length: +1\r\n"))
            .refused(400),
    ]
}

fn expectations() -> Vec<Row> {
    const S: &str = "9110 §10.1.1";
    let with = |expect: &str| post(&format!("Content-Length: 2\r\nExpect: {expect}\r\n"), "hi");
    vec![
        row(S, "an unknown expectation is a 417", with("tea")).refused(417),
        row(S, "so is one among known ones", with("100-continue, tea")).refused(417),
        row(S, "and one with a parameter", with("100-continue;a=b")).refused(417),
        row(S, "100-continue has no case", with("100-CONTINUE"))
            .status(200)
            .expect(Expect::SeesBody("hi"))
            .misses("expect"),
        row(S, "empty members are nothing", with(", 100-continue ,"))
            .status(200)
            .expect(Expect::SeesBody("hi")),
        row(S, "without a body there is nothing to wait for", get("Expect: 100-continue\r\n"))
            .served()
            .expect(Expect::Interim(vec![])),
        row(
            S,
            "in HTTP/1.0 it is ignored",
            "POST / HTTP/1.0\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nhi",
        )
        .status(200)
        .expect(Expect::Interim(vec![])),
        story(S, "a 100 comes when the body is wanted", continues),
        story(S, "none comes before a final answer that needs no body", no_continue),
    ]
}

fn continues(gateway: &Gateway, _: &Upstream) {
    let mut client = gateway.client();
    client.send(post("Content-Length: 2\r\nExpect: 100-continue\r\n", ""));
    assert_eq!(client.response().status(), 100);
    client.send("hi");
    assert_eq!(client.response().status(), 200);
}

fn no_continue(gateway: &Gateway, _: &Upstream) {
    let mut client = gateway.client();
    client.send(
        "POST /local HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n",
    );
    let response = client.response();
    assert!(response.status() == 200 && response.closes(), "the body may come or not");
}

fn interim() -> Vec<Row> {
    const S: &str = "9110 §15.2";
    let hints =
        "HTTP/1.1 103 Early\r\nLink: </a>\r\nContent-Length: 5\r\nConnection: x\r\nX: y\r\n\r\n";
    let ok = super::OK;
    vec![
        row(S, "interim responses are passed on", get(""))
            .answer(format!("{hints}HTTP/1.1 102 P\r\n\r\n{ok}"))
            .served()
            .expect(Expect::Interim(vec![103, 102])),
        row(S, "but not a 100 that only the gateway asked for", get(""))
            .answer(format!("HTTP/1.1 100 C\r\n\r\n{ok}"))
            .served()
            .expect(Expect::Interim(vec![])),
        row(S, "and not to HTTP/1.0", "GET / HTTP/1.0\r\n\r\n")
            .answer(format!("{hints}{ok}"))
            .status(200)
            .expect(Expect::Interim(vec![])),
        row(S, "they have no body", get(""))
            .answer(format!("HTTP/1.1 103 E\r\nContent-Length: 2\r\n\r\n{ok}"))
            .served()
            .body("ok"),
        row(S, "an unknown one is one, too", get(""))
            .answer(format!("HTTP/1.1 199 X\r\n\r\n{ok}"))
            .served()
            .expect(Expect::Interim(vec![199])),
        row(S, "what is none is a 502", get(""))
            .answer(format!("HTTP/1.1 103 E\r\nX : y\r\n\r\n{ok}"))
            .status(502),
        row("9110 §15", "a status of no known class is passed on", get(""))
            .answer("HTTP/1.1 799 X\r\nContent-Length: 2\r\n\r\nok")
            .status(799)
            .body("ok"),
    ]
}
