//! RFC 9112 §6 and §7: how long a body is, and its chunks.

use super::{Expect, Row, get, post, row};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = codings();
    rows.extend(lengths());
    rows.extend(bodies());
    rows.extend(responses());
    rows.extend(chunks());
    rows.extend(extensions());
    rows.extend(trailers());
    rows
}

fn codings() -> Vec<Row> {
    const S: &str = "9112 §6.1";
    let coding = |value: &str| post(&format!("Transfer-Encoding: {value}\r\n"), "0\r\n\r\n");
    let twice = |one: &str, two: &str| coding(&format!("{one}\r\nTransfer-Encoding: {two}"));
    vec![
        row(S, "chunked is understood, whatever its case", coding("cHuNkEd")).served(),
        row(S, "another coding before it is a 501", coding("gzip, chunked")).refused(501),
        row(S, "chunked is there once", coding("chunked, chunked")).refused(400),
        row(S, "once in two lines, too", twice("chunked", "chunked")).refused(400),
        row(S, "two lines are one list", twice("gzip", "chunked")).refused(400),
        row(S, "identity is no coding any more", twice("chunked", "identity")).refused(400),
        row(S, "no other spelling: a control", coding("\x0bchunked")).refused(400),
        row(S, "no other spelling: quotes", coding("\"chunked\"")).refused(400),
        row(S, "no other spelling: a parameter", coding("chunked;q=1")).refused(400),
        row(S, "no other spelling: a longer word", coding("xchunked")).refused(400),
        row(S, "no other spelling: beyond ASCII", coding("\u{a0}chunked")).refused(400),
        row(S, "an empty one is none", coding("")).refused(400),
        row(S, "no likeness of it", post("Transfer_Encoding: chunked\r\n", "0\r\n\r\n"))
            .refused(400),
        row(
            S,
            "no coding beside a length",
            post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        )
        .refused(400),
        row(
            S,
            "in whatever order",
            post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"),
        )
        .refused(400),
        row(
            S,
            "not even beside a length of 0",
            post("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        )
        .refused(400),
        row(
            S,
            "HTTP/1.0 has no codings",
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        )
        .refused(400),
        row(
            S,
            "not even with a length",
            "POST / HTTP/1.0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        )
        .refused(400),
        row(S, "HTTP/1.0 clients get no coding", "GET / HTTP/1.0\r\n\r\n")
            .answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
            .status(200)
            .body("ok")
            .lacks("transfer-encoding"),
        row(S, "a 204 has no coding", get(""))
            .answer("HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n")
            .status(204)
            .lacks("transfer-encoding"),
        row(S, "an upstream of HTTP/1.0 has none", get(""))
            .answer("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
            .status(502),
    ]
}

fn lengths() -> Vec<Row> {
    const S: &str = "9112 §6.2";
    let length = |value: &str| post(&format!("Content-Length: {value}\r\n"), "xx");
    let bad = [
        ("no plus sign", "+2"),
        ("no minus sign", "-2"),
        ("no hexadecimal", "0x2"),
        ("no exponent", "2e0"),
        ("no fraction", "2.0"),
        ("no space in it", "2 2"),
        ("no underscore in it", "0_2"),
        ("no letter behind it", "2a"),
        ("no semicolon behind it", "2;"),
        ("not empty", ""),
        ("no overflow", "18446744073709551618"),
        ("no overflow to the right number", "36893488147419103234"),
        ("no overflow of signed numbers", "9223372036854775808"),
        ("no digit beyond ASCII", "\u{0662}"),
        ("no list", "2, 2"),
        ("no list of different ones", "2, 3"),
        ("no list with an empty member", "2,"),
    ];
    let mut rows: Vec<Row> =
        bad.iter().map(|(rule, value)| row(S, rule, length(value)).refused(400)).collect();
    rows.extend([
        row(S, "one line, not two alike", length("2\r\nContent-Length: 2")).refused(400),
        row(S, "nor two unlike", length("2\r\nContent-Length: 3")).refused(400),
        row(S, "zeros before it are digits", length("0002"))
            .served()
            .sees("content-length: 2")
            .expect(Expect::SeesBody("xx")),
        row(S, "it is made anew from what is sent", length("2")).served().sees("content-length: 2"),
    ]);
    rows
}

fn bodies() -> Vec<Row> {
    const S: &str = "9112 §6.3";
    let one = get("");
    vec![
        row(
            S,
            "chunked is the last coding",
            post("Transfer-Encoding: chunked, gzip\r\n", "0\r\n\r\n"),
        )
        .refused(400),
        row(S, "a coding that is not chunked has no end", post("Transfer-Encoding: gzip\r\n", "x"))
            .refused(400),
        row(S, "identity has none either", post("Transfer-Encoding: identity\r\n", "x"))
            .refused(400),
        row(S, "no framing, no body", format!("{}{one}", post("", "")))
            .statuses(&[200, 200])
            .expect(Expect::Forwarded(2))
            .misses("content-length"),
        row(
            S,
            "a body is as long as it says",
            format!("{}{one}", post("Content-Length: 3\r\n", "GET")),
        )
        .statuses(&[200, 200])
        .expect(Expect::Forwarded(2)),
        row(
            S,
            "chunks are as long as they say",
            format!("{}{one}", post("Transfer-Encoding: chunked\r\n", "3\r\nGET\r\n0\r\n\r\n")),
        )
        .statuses(&[200, 200])
        .expect(Expect::Forwarded(2)),
        row(S, "a GET may have a body", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
            .served()
            .expect(Expect::SeesBody("hi")),
        row(S, "so may a HEAD", "HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
            .answer("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
            .status(200)
            .gets("content-length: 9"),
    ]
}

fn responses() -> Vec<Row> {
    const S: &str = "9112 §6.3";
    let answer = |rule, fields: &str, body: &str| {
        row(S, rule, get("")).answer(format!("HTTP/1.1 200 OK\r\n{fields}\r\n{body}"))
    };
    vec![
        answer(
            "two lengths of an upstream are a 502",
            "Content-Length: 2\r\nContent-Length: 3\r\n",
            "ok",
        )
        .status(502),
        answer("so is a list", "Content-Length: 2, 2\r\n", "ok").status(502),
        answer("so is a sign", "Content-Length: +2\r\n", "ok").status(502),
        answer("so is an overflow", "Content-Length: 99999999999999999999\r\n", "ok").status(502),
        answer(
            "so are two framings",
            "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
            "0\r\n\r\n",
        )
        .status(502),
        answer("so is a coding not asked for", "Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n")
            .status(502),
        answer("so is chunked twice", "Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n")
            .status(502),
        answer("without a length it ends with its connection", "", "ok")
            .then_closes()
            .status(200)
            .body("ok")
            .gets("transfer-encoding: chunked")
            .expect(Expect::Persists),
        row(
            S,
            "to HTTP/1.0 that is its end, too",
            "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        )
        .answer("HTTP/1.1 200 OK\r\n\r\nok")
        .then_closes()
        .status(200)
        .body("ok")
        .expect(Expect::Closes),
        row(S, "a response to HEAD has no body", "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
            .answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            .status(200)
            .body(""),
        row(S, "nor has a 204", get("")).answer("HTTP/1.1 204 No\r\n\r\n").status(204).body(""),
        row(S, "nor a 304, which may say a length", get(""))
            .answer("HTTP/1.1 304 No\r\nContent-Length: 7\r\n\r\n")
            .status(304)
            .body("")
            .gets("content-length: 7"),
        row("9112 §6.2", "a 204 has no length", get(""))
            .answer("HTTP/1.1 204 No\r\nContent-Length: 0\r\n\r\n")
            .status(204)
            .lacks("content-length"),
    ]
}

fn chunked(body: &str) -> String {
    post("Transfer-Encoding: chunked\r\n", body)
}

fn chunks() -> Vec<Row> {
    const S: &str = "9112 §7.1";
    let bad = [
        ("a size is hexadecimal", "g\r\n"),
        ("no plus sign", "+2\r\nhi\r\n0\r\n\r\n"),
        ("no minus sign", "-2\r\nhi\r\n0\r\n\r\n"),
        ("no prefix", "0x2\r\nhi\r\n0\r\n\r\n"),
        ("no h behind it", "2h\r\nhi\r\n0\r\n\r\n"),
        ("no underscore", "0_2\r\nhi\r\n0\r\n\r\n"),
        ("no space before it", " 2\r\nhi\r\n0\r\n\r\n"),
        ("no space behind it", "2 \r\nhi\r\n0\r\n\r\n"),
        ("no tab behind it", "2\t\r\nhi\r\n0\r\n\r\n"),
        ("no second number", "2 2\r\nhi\r\n0\r\n\r\n"),
        ("not empty", "\r\nhi\r\n0\r\n\r\n"),
        ("no overflow", "10000000000000002\r\nhi\r\n0\r\n\r\n"),
        ("no overflow of the sign", "ffffffffffffffff\r\nhi\r\n0\r\n\r\n"),
        ("a size line ends in CRLF, not LF", "2\nhi\r\n0\r\n\r\n"),
        ("not in CR", "2\rhi\r\n0\r\n\r\n"),
        ("nor in CR CR LF", "2\r\r\nhi\r\n0\r\n\r\n"),
        ("data ends in CRLF, not LF", "2\r\nhi\n0\r\n\r\n"),
        ("nor in two octets of any kind", "2\r\nhiXX0\r\n\r\n"),
        ("data is no longer than its size", "2\r\nhiX\r\n0\r\n\r\n"),
        ("data is no shorter", "3\r\nhi\r\n0\r\n\r\n"),
        ("the last chunk ends in CRLF, not LF", "2\r\nhi\r\n0\n\r\n"),
    ];
    let mut rows: Vec<Row> =
        bad.iter().map(|(rule, body)| row(S, rule, chunked(body)).refused(400)).collect();
    rows.extend([
        row(
            S,
            "digits of either case and zeros before them",
            chunked("00000A\r\n0123456789\r\n0b\r\n0123456789A\r\n000\r\n\r\n"),
        )
        .served()
        .expect(Expect::SeesBody("01234567890123456789A")),
        row(S, "chunks of an upstream are held to the same", get(""))
            .answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-2\r\nok\r\n0\r\n\r\n")
            .status(502),
        row(S, "and cut the response off where it has begun", get(""))
            .answer(late_bad_chunk())
            .status(200)
            .expect(Expect::Cut),
    ]);
    rows
}

/// More than one read brings, then a chunk that is none.
fn late_bad_chunk() -> String {
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    format!("{head}{}-2\r\nok\r\n0\r\n\r\n", chunk.repeat(40))
}

fn extensions() -> Vec<Row> {
    const S: &str = "9112 §7.1.1";
    let bad = [
        ("a bare LF ends no extension", "2;a\nhi\r\n0\r\n\r\n"),
        ("nor does a bare CR", "2;a\rb\r\nhi\r\n0\r\n\r\n"),
        ("no NUL in it", "2;a\0\r\nhi\r\n0\r\n\r\n"),
        ("it has a name", "2;\r\nhi\r\n0\r\n\r\n"),
        ("and a semicolon", "2 a=b\r\nhi\r\n0\r\n\r\n"),
        ("a value after the equals sign", "2;a=\r\nhi\r\n0\r\n\r\n"),
        ("a quote ends", "2;a=\"b\r\nhi\r\n0\r\n\r\n"),
        ("no CRLF in a quote", "2;a=\"b\r\n\"\r\nhi\r\n0\r\n\r\n"),
    ];
    let mut rows: Vec<Row> =
        bad.iter().map(|(rule, body)| row(S, rule, chunked(body)).refused(400)).collect();
    let long = format!("2;a={}\r\nhi\r\n0\r\n\r\n", "b".repeat(5_000));
    let many = format!("1;a={}\r\nx\r\n", "b".repeat(1_000)).repeat(20);
    rows.extend([
        row(
            S,
            "unknown ones are ignored, and not passed on",
            chunked("2 ; a=b;c = \"d\\\";e\" ;f\r\nhi\r\n0;g\r\n\r\n"),
        )
        .served()
        .expect(Expect::SeesBody("hi")),
        row(S, "one has a bound", chunked(&long)).refused(400),
        row(S, "all together have one", chunked(&format!("{many}0\r\n\r\n"))).refused(400),
    ]);
    rows
}

fn trailers() -> Vec<Row> {
    const S: &str = "9112 §7.1.2";
    const M: &str = "9110 §6.5.1";
    let with = |trailers: &str| chunked(&format!("2\r\nhi\r\n0\r\n{trailers}\r\n"));
    let dropped = |rule, name: &'static str| {
        let trailers = format!("{name}: 1\r\nX-Kept: 2\r\n");
        row(M, rule, with(&trailers))
            .served()
            .expect(Expect::SeesTrailer(name, None))
            .expect(Expect::SeesTrailer("x-kept", Some("2")))
    };
    let large = format!("X: {}\r\n", "y".repeat(20_000));
    vec![
        row(S, "trailers are passed on", with("X-Sum: 1\r\n"))
            .served()
            .expect(Expect::SeesTrailer("x-sum", Some("1"))),
        row(S, "their lines end in CRLF", with("X: y\n")).refused(400),
        row(S, "no space before a colon", with("X : y\r\n")).refused(400),
        row(S, "no folded line", with("X: y\r\n z\r\n")).refused(400),
        row(S, "no line without a colon", with("x\r\n")).refused(400),
        row(S, "no NUL", with("X: \0\r\n")).refused(400),
        row(S, "their section has a bound", with(&large)).refused(400),
        dropped("no trailer is a coding", "transfer-encoding"),
        dropped("nor a length", "content-length"),
        dropped("nor a host", "host"),
        dropped("nor what the gateway saw", "x-forwarded-for"),
        dropped("nor who asks", "authorization"),
        dropped("nor a condition", "if-match"),
        dropped("nor a format", "content-type"),
        dropped("nor of one connection", "connection"),
        row(
            "9112 §7.4",
            "TE is of one connection; trailers are wanted where they are passed on",
            get("TE: trailers, gzip;q=0.5\r\nConnection: TE\r\n"),
        )
        .served()
        .sees("te: trailers")
        .sees("connection: TE"),
        row("9112 §7.4", "other codings are not asked for", get("TE: gzip\r\nConnection: TE\r\n"))
            .served()
            .misses("te"),
        row(
            "9112 §7.3",
            "no coding but chunked is known",
            post("Transfer-Encoding: x-gzip, chunked\r\n", "0\r\n\r\n"),
        )
        .refused(501),
    ]
}
