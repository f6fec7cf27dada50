//! RFC 9112 §2 to §4: messages, request lines, targets, status lines.

use super::{Expect, Row, get, row, story};
use crate::harness::{Gateway, Upstream};

fn with_line(line: &str) -> String {
    format!("{line}\r\nHost: a\r\n\r\n")
}

fn with_hosts(hosts: &str) -> String {
    format!("GET / HTTP/1.1\r\n{hosts}\r\n")
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = line_ends();
    rows.extend(versions());
    rows.extend(request_lines());
    rows.extend(hosts());
    rows.extend(targets());
    rows.extend(status_lines());
    rows
}

fn line_ends() -> Vec<Row> {
    const S: &str = "9112 §2.2";
    vec![
        row(S, "a bare LF ends no request line", "GET / HTTP/1.1\nHost: a\r\n\r\n").refused(400),
        row(S, "a bare LF ends no field", "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n").refused(400),
        row(S, "a bare LF ends no head", "GET / HTTP/1.1\r\nHost: a\r\n\n").refused(400),
        row(S, "LF LF ends no head", "GET / HTTP/1.1\nHost: a\n\n").refused(400),
        row(S, "a bare CR is no line end", "GET / HTTP/1.1\rHost: a\r\r\r\n\r\n").refused(400),
        row(S, "a bare CR in a field is invalid", get("X: a\rb\r\n")).refused(400),
        row(S, "a CR before CRLF is invalid", get("X: a\r\r\n")).refused(400),
        row(S, "a bare CR in the target is invalid", with_line("GET /\ra HTTP/1.1")).refused(400),
        row(S, "empty lines before a request are skipped", format!("\r\n\r\n{}", get(""))).served(),
        row(S, "an empty line is CRLF", format!("\n{}", get(""))).refused(400),
        row(S, "an empty line has no spaces", format!(" \r\n{}", get(""))).refused(400),
        row(S, "no space before the first field", with_hosts(" Host: a\r\n")).refused(400),
        row(S, "no tab before the first field", with_hosts("\tX: y\r\nHost: a\r\n")).refused(400),
        row(S, "what is no HTTP gets a 400", b"\x16\x03\x01\x02\x00\x01\r\n\r\n").refused(400),
        row(S, "octets beyond ASCII are octets", get("X: \u{e9}\u{4e2d}\r\n")).served(),
        row(S, "a closing CRLF too many is skipped", format!("{}\r\n", get(""))).served(),
        row(S, "an upstream's bare LF is a 502", get(""))
            .answer("HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nok")
            .status(502),
        row(S, "an upstream's bare CR is a 502", get(""))
            .answer("HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 2\r\n\r\nok")
            .status(502),
    ]
}

fn versions() -> Vec<Row> {
    const S: &str = "9112 §2.3";
    vec![
        row(S, "the name of the protocol is case-sensitive", with_line("GET / http/1.1"))
            .refused(400),
        row(S, "a version has one digit each side", with_line("GET / HTTP/1.10")).refused(400),
        row(S, "a version has a dot", with_line("GET / HTTP/11")).refused(400),
        row(S, "no zero before it", with_line("GET / HTTP/01.1")).refused(400),
        row(S, "1.2 to 1.9 are read as 1.1", with_line("GET / HTTP/1.9")).served(),
        row(S, "another major version is a 505", with_line("GET / HTTP/2.0")).refused(505),
        row(S, "so is one below", with_line("GET / HTTP/0.9")).refused(505),
        row(S, "the preface of HTTP/2 is a 505", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").refused(505),
        row(S, "no version is no HTTP/1", "GET /\r\n\r\n").refused(400),
        row(S, "the gateway's own version goes upstream", "GET / HTTP/1.0\r\n\r\n")
            .status(200)
            .line("GET / HTTP/1.1"),
        row(S, "and down, whatever the upstream speaks", get(""))
            .answer("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .served(),
        row(S, "an upstream that is no HTTP/1 is a 502", get(""))
            .answer("HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .status(502),
    ]
}

fn request_lines() -> Vec<Row> {
    const S: &str = "9112 §3";
    vec![
        row(S, "one space between its parts", with_line("GET  / HTTP/1.1")).refused(400),
        row(S, "one space before the version", with_line("GET /  HTTP/1.1")).refused(400),
        row(S, "a space, not a tab", with_line("GET\t/ HTTP/1.1")).refused(400),
        row(S, "a vertical tab is no space", with_line("GET\x0b/ HTTP/1.1")).refused(400),
        row(S, "no space at its start", with_line(" GET / HTTP/1.1")).refused(400),
        row(S, "no space at its end", with_line("GET / HTTP/1.1 ")).refused(400),
        row(S, "a method alone is none", "GET\r\n\r\n").refused(400),
        row(S, "a space in the target is not repaired", with_line("GET /a b HTTP/1.1"))
            .refused(400),
        row("9112 §3.1", "a method is a token", with_line("G@T / HTTP/1.1")).refused(400),
        row("9112 §3.1", "no control in it", with_line("GE\x01T / HTTP/1.1")).refused(400),
        row("9112 §3.1", "no octet beyond ASCII", with_line("G\u{c9}T / HTTP/1.1")).refused(400),
        row("9112 §3.1", "any token is one", with_line("M-SEARCH!#$%&'*+.^_`|~ / HTTP/1.1"))
            .served()
            .line("M-SEARCH!#$%&'*+.^_`|~ / HTTP/1.1"),
        row("9112 §3.1", "it is case-sensitive", with_line("get / HTTP/1.1"))
            .served()
            .line("get / HTTP/1.1"),
        story(S, "8000 octets are taken, and more than a head may have is a 414", lengths),
    ]
}

fn lengths(gateway: &Gateway, _: &Upstream) {
    let of_length = |length| with_line(&format!("GET /{} HTTP/1.1", "x".repeat(length)));
    assert_eq!(gateway.ask(of_length(8_000)).status(), 200);
    assert_eq!(gateway.ask(of_length(100_000)).status(), 414);
}

fn hosts() -> Vec<Row> {
    const S: &str = "9112 §3.2";
    vec![
        row(S, "HTTP/1.1 has a Host", with_hosts("")).refused(400),
        row(S, "no more than one", with_hosts("Host: a\r\nHost: a\r\n")).refused(400),
        row(S, "however it is spelled", with_hosts("Host: a\r\nhOST: b\r\n")).refused(400),
        row(S, "no list", with_hosts("Host: a, b\r\n")).refused(400),
        row(S, "no path", with_hosts("Host: a/b\r\n")).refused(400),
        row(S, "no user", with_hosts("Host: u@a\r\n")).refused(400),
        row(S, "no query or fragment", with_hosts("Host: a?b\r\n")).refused(400),
        row(S, "a port is a number", with_hosts("Host: a:b\r\n")).refused(400),
        row(S, "one port", with_hosts("Host: a:1:2\r\n")).refused(400),
        row(S, "a literal ends", with_hosts("Host: [::1\r\n")).refused(400),
        row(S, "a literal is an address", with_hosts("Host: [x]\r\n")).refused(400),
        row(S, "an encoding is whole", with_hosts("Host: a%2\r\n")).refused(400),
        row(S, "no control", with_hosts("Host: a\x7f\r\n")).refused(400),
        row(S, "no octet beyond ASCII", with_hosts("Host: \u{e9}\r\n")).refused(400),
        row(S, "an empty one is valid", with_hosts("Host:\r\n")).served(),
        row(S, "an address with a port is, too", with_hosts("Host: [::1]:80\r\n"))
            .served()
            .sees("host: [::1]:80"),
        row(S, "HTTP/1.0 may have none", "GET / HTTP/1.0\r\n\r\n").status(200),
        row(S, "but not two", "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n").refused(400),
    ]
}

fn targets() -> Vec<Row> {
    const S: &str = "9112 §3.2.1";
    const A: &str = "9112 §3.2.2";
    vec![
        row(S, "origin-form goes on as it is", with_line("GET /%41//b?c=%20&d HTTP/1.1"))
            .served()
            .line("GET /%41//b?c=%20&d HTTP/1.1"),
        row(S, "no fragment", with_line("GET /a#b HTTP/1.1")).refused(400),
        row(S, "no control", with_line("GET /\x01 HTTP/1.1")).refused(400),
        row(S, "no NUL", with_line("GET /\0 HTTP/1.1")).refused(400),
        row(S, "no octet beyond ASCII", with_line("GET /\u{e9} HTTP/1.1")).refused(400),
        row(S, "no path without a slash", with_line("GET a HTTP/1.1")).refused(400),
        row(S, "no path above the root", with_line("GET /../a HTTP/1.1")).refused(400),
        row(S, "no broken encoding", with_line("GET /%4 HTTP/1.1")).refused(400),
        row(
            A,
            "absolute-form is taken; its authority is the Host",
            "GET http://b.test:81/p?q HTTP/1.1\r\nHost: a\r\n\r\n",
        )
        .served()
        .line("GET /p?q HTTP/1.1")
        .sees("host: b.test:81"),
        row(A, "a scheme has no case", with_line("GET HTTP://b/ HTTP/1.1")).served(),
        row(A, "no path is the root", with_line("GET http://b HTTP/1.1"))
            .served()
            .line("GET / HTTP/1.1"),
        row(A, "a query without a path has the root", with_line("GET http://b?q HTTP/1.1"))
            .served()
            .line("GET /?q HTTP/1.1"),
        row(A, "an authority is needed", with_line("GET http:///p HTTP/1.1")).refused(400),
        row(A, "without a user", with_line("GET http://u:p@b/ HTTP/1.1")).refused(400),
        row(A, "of a known scheme", with_line("GET ftp://b/ HTTP/1.1")).refused(400),
        row(A, "a Host is still needed", "GET http://b/ HTTP/1.1\r\n\r\n").refused(400),
        row(A, "and still a valid one", "GET http://b/ HTTP/1.1\r\nHost: a b\r\n\r\n").refused(400),
        row("9112 §3.2.3", "authority-form is for CONNECT", with_line("GET a:80 HTTP/1.1"))
            .refused(400),
        row("9112 §3.2.3", "which is for forward proxies", with_line("CONNECT a:80 HTTP/1.1"))
            .refused(501),
        row("9112 §3.2.4", "asterisk-form is for OPTIONS", with_line("GET * HTTP/1.1"))
            .refused(400),
        row("9112 §3.2.4", "and is passed on", with_line("OPTIONS * HTTP/1.1"))
            .served()
            .line("OPTIONS * HTTP/1.1"),
        row(
            "9112 §3.2.4",
            "OPTIONS of an authority alone is one",
            with_line("OPTIONS http://b HTTP/1.1"),
        )
        .served()
        .line("OPTIONS * HTTP/1.1"),
        row("9112 §3.2.4", "but not with a query", with_line("OPTIONS http://b?q HTTP/1.1"))
            .served()
            .line("OPTIONS /?q HTTP/1.1"),
    ]
}

fn status_lines() -> Vec<Row> {
    const S: &str = "9112 §4";
    let bad = |rule, line: &str| {
        let answer = format!("{line}\r\nContent-Length: 2\r\n\r\nok");
        row(S, rule, get("")).answer(answer).status(502)
    };
    vec![
        bad("a status has three digits", "HTTP/1.1 20 OK"),
        bad("and no more", "HTTP/1.1 2000 OK"),
        bad("and is a number", "HTTP/1.1 2x0 OK"),
        bad("of 100 at least", "HTTP/1.1 099 OK"),
        bad("one space before it", "HTTP/1.1  200 OK"),
        bad("no control in the reason", "HTTP/1.1 200 O\x01K"),
        row(S, "the reason is the gateway's own, or none", get(""))
            .answer("HTTP/1.1 299 Whatever\r\nContent-Length: 2\r\n\r\nok")
            .status(299)
            .expect(Expect::Persists),
        row(S, "a status without a reason is passed on", get(""))
            .answer("HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok")
            .served(),
    ]
}
