//! Rules for request heads, by raw bytes.

use super::*;

fn parse(input: &[u8]) -> Result<Option<RequestHead>, RequestError> {
    let mut head = RequestHead::default();
    head.parse(input, HeadLimits::default()).map(|complete| complete.then_some(head))
}

fn good(input: &[u8]) -> RequestHead {
    parse(input).expect("valid").expect("complete")
}

fn status(input: &[u8]) -> u16 {
    parse(input).map(|_| 0).unwrap_or_else(RequestError::status)
}

#[test]
fn a_plain_get() {
    let input = b"GET /a?b HTTP/1.1\r\nHost: x:80\r\nA: 1\r\n\r\nrest";
    let head = good(input);
    assert_eq!(head.len, input.len() - 4);
    assert_eq!(head.method, Method::Get);
    assert_eq!(head.target.of(input), b"/a?b");
    assert_eq!(head.authority.of(input), b"x:80");
    assert_eq!(head.fields.len(), 1, "Host is kept apart");
    assert_eq!(head.body, BodyLength::None);
    assert!(head.keep_alive && !head.expect_continue && !head.upgrade);
}

#[test]
fn every_prefix_is_incomplete_not_wrong() {
    let input = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";
    for end in 0..input.len() {
        assert_eq!(parse(&input[..end]).map(|head| head.is_some()), Ok(false), "{end}");
    }
}

#[test]
fn framing_facts() {
    let body =
        |fields: &str| good(format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes()).body;
    assert_eq!(body(""), BodyLength::None);
    assert_eq!(body("Content-Length: 0\r\n"), BodyLength::None);
    assert_eq!(body("content-length:  12 \r\n"), BodyLength::Known(12));
    assert_eq!(body("Transfer-Encoding: Chunked\r\n"), BodyLength::Chunked);
}

#[test]
fn persistence() {
    let keeps = |version: &str, fields: &str| {
        good(format!("GET / HTTP/{version}\r\nHost: a\r\n{fields}\r\n").as_bytes()).keep_alive
    };
    let table = [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: foo, Close\r\n", false),
        ("1.1", "Connection: keep-alive\r\nConnection: close\r\n", false),
        ("1.0", "", false),
        ("1.0", "Connection: keep-alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
    ];
    for (version, fields, expected) in table {
        assert_eq!(keeps(version, fields), expected, "{version} {fields:?}");
    }
}

#[test]
fn expectations() {
    let head =
        |fields: &str| parse(format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes());
    let waits = |fields: &str| head(fields).expect("valid").expect("complete").expect_continue;
    assert!(waits("Content-Length: 1\r\nExpect: 100-Continue\r\n"));
    assert!(!waits("Expect: 100-continue\r\n"), "no body, nothing to wait for");
    assert!(waits("Content-Length: 1\r\nExpect: , 100-continue,\r\n"), "empty members");
    assert!(!waits("Content-Length: 1\r\nExpect:\r\n"));
    assert_eq!(head("Expect: 100-continue, tea\r\n").expect_err("unknown").status(), 417);
    assert_eq!(head("Expect: tea\r\n").expect_err("unknown").status(), 417);
    let old = good(b"POST / HTTP/1.0\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n");
    assert!(!old.expect_continue, "RFC 9110 §10.1.1: ignored in HTTP/1.0");
}

#[test]
fn target_forms() {
    let input = b"GET http://b.example:8080/p?q HTTP/1.1\r\nHost: other\r\n\r\n";
    let head = good(input);
    assert_eq!(head.authority.of(input), b"b.example:8080");
    assert_eq!(head.target.of(input), b"/p?q");
    let input = b"GET http://b HTTP/1.1\r\nHost: other\r\n\r\n";
    assert_eq!(good(input).target.of(input), b"");
    let input = b"GET http://b?q HTTP/1.1\r\nHost: other\r\n\r\n";
    assert_eq!(good(input).target.of(input), b"?q", "RFC 3986: a query without a path");
    let input = b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(good(input).target.of(input), b"*");
    for target in
        ["*", "a", "ftp://a/", "http:///", "http://u@h/", "http://a#q", "/a#b", "/\u{7f}", "/é"]
    {
        let head = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(status(head.as_bytes()), 400, "{target}");
    }
    assert_eq!(status(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n"), 501);
}

#[test]
fn host_rules() {
    let with = |hosts: &str| status(format!("GET / HTTP/1.1\r\n{hosts}\r\n").as_bytes());
    assert_eq!(with("Host: a\r\n"), 0);
    assert_eq!(with("Host:\r\n"), 0, "an empty Host is valid");
    assert_eq!(with("Host: [::1]:80\r\n"), 0);
    assert_eq!(with("Host: a%2Db%41:80\r\n"), 0);
    for hosts in [
        "",
        "Host: a\r\nHost: a\r\n",
        "Host: a b\r\n",
        "Host: a/b\r\n",
        "Host: u@a\r\n",
        "Host: a:b\r\n",
        "Host: a:123456\r\n",
        "Host: :80\r\n",
        "Host: [::1\r\n",
        "Host: [g]\r\n",
        "Host: [::1]x\r\n",
        "Host: a%\r\n",
        "Host: a%2\r\n",
        "Host: a%zz:80\r\n",
        "Host: a%20b/\r\n",
    ] {
        assert_eq!(with(hosts), 400, "{hosts:?}");
    }
    assert_eq!(status(b"GET / HTTP/1.0\r\n\r\n"), 0, "HTTP/1.0 may leave it out");
}

#[test]
fn what_is_refused() {
    let table: [(&[u8], u16); 35] = [
        (b"GET / HTTP/1.1\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA: b\rc\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA: \0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA : b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n A: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n c\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA(b): b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nnocolon\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"G@T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTQ/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / http/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent_Length: 1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\ntransfer_encoding: x\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n", 400),
    ];
    for (input, expected) in table {
        assert_eq!(status(input), expected, "{}", String::from_utf8_lossy(input));
    }
}

#[test]
fn later_minor_versions_are_read_as_the_last_known() {
    let input = b"\r\nGET /a HTTP/1.7\r\nHost: a\r\n\r\nrest";
    let head = good(input);
    assert_eq!((head.version, head.target.of(input)), (Version::Http11, &b"/a"[..]));
    assert_eq!(head.len, input.len() - 4);
    assert!(head.keep_alive);
    for end in 0..input.len() - 4 {
        let complete = parse(&input[..end]).map(|head| head.is_some());
        assert!(complete == Ok(false), "{end}: {complete:?}");
    }
}

#[test]
fn upgrades_are_said_twice() {
    let head = |fields: &str, version: &str| {
        good(format!("GET / HTTP/{version}\r\nHost: a\r\n{fields}\r\n").as_bytes())
    };
    assert!(head("Upgrade: x\r\nConnection: a, Upgrade\r\n", "1.1").upgrade);
    assert!(!head("Upgrade: x\r\n", "1.1").upgrade);
    assert!(!head("Connection: upgrade\r\n", "1.1").upgrade);
    assert!(!head("Upgrade: x\r\nConnection: upgrade\r\n", "1.0").upgrade);
    assert!(head("Connection: close, x-a\r\n", "1.1").nominates);
    assert!(!head("Connection: close, keep-alive, upgrade\r\n", "1.1").nominates);
}

#[test]
fn sizes() {
    let limits = HeadLimits { bytes: 100, fields: 3 };
    let parse = |text: String| RequestHead::default().parse(text.as_bytes(), limits);
    assert_eq!(parse(format!("GET /{}", "a".repeat(200))), Err(RequestError::TargetTooLong));
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nB: {}", "b".repeat(200));
    assert_eq!(parse(long), Err(RequestError::HeadTooLarge));
    let many = "GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 2\r\nC: 3\r\n\r\n";
    assert_eq!(parse(many.to_owned()), Err(RequestError::HeadTooLarge));
    let full = "GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 2\r\n\r\n";
    assert_eq!(parse(full.to_owned()), Ok(true));
}

#[test]
fn empty_lines_before_the_request_line() {
    assert_eq!(status(b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), 0, "RFC 9112 §2.2");
    assert_eq!(status(b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
}

#[test]
fn random_bytes_never_panic() {
    let mut random = fastrand::Rng::with_seed(1);
    let seed = b"POST http://a/b HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
    for _ in 0..20_000 {
        let mut input = seed.to_vec();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(0..input.len());
            input[at] = random.u8(..);
        }
        if let Ok(Some(head)) = parse(&input) {
            assert!(head.len <= input.len());
        }
    }
}

#[test]
fn what_begins_with_head() {
    for (input, is_head) in [
        ("HEAD / HTTP/1.1\r\n", true),
        ("\r\nHEAD  / x", true),
        ("HEAD ", true),
        ("HEAD", false),
        ("head / HTTP/1.1\r\n", false),
        ("HEADS / HTTP/1.1\r\n", false),
        (" HEAD / HTTP/1.1\r\n", false),
        ("HEAD\t/ HTTP/1.1\r\n", false),
        ("GET /HEAD HTTP/1.1\r\n", false),
        ("\r\n", false),
        ("", false),
    ] {
        assert_eq!(begins_with_head(input.as_bytes()), is_head, "{input:?}");
    }
}
