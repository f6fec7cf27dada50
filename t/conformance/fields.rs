//! RFC 9112 §5 and RFC 9110 §5: field lines and their values.

use super::{Expect, Row, answered, get, post, row, story};
use crate::harness::{Gateway, Upstream};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = syntax();
    rows.extend(values());
    rows
}

fn syntax() -> Vec<Row> {
    const S: &str = "9112 §5";
    const C: &str = "9112 §5.1";
    const F: &str = "9112 §5.2";
    let names = [
        ("no parenthesis in a name", "X(y): z\r\n"),
        ("no slash in a name", "X/y: z\r\n"),
        ("no at sign in a name", "X@y: z\r\n"),
        ("no quote in a name", "X\"y: z\r\n"),
        ("no brace in a name", "X{y: z\r\n"),
        ("no NUL in a name", "X\0y: z\r\n"),
        ("no control in a name", "X\x01y: z\r\n"),
        ("no octet beyond ASCII in a name", "X\u{e9}: z\r\n"),
        ("a name is not empty", ": z\r\n"),
        ("a line has a colon", "no colon\r\n"),
    ];
    let mut rows: Vec<Row> =
        names.iter().map(|(rule, fields)| row(S, rule, get(fields)).refused(400)).collect();
    rows.extend([
        row(S, "any token is a name", get("!#$%&'*+-.^_`|~9a: z\r\n"))
            .served()
            .sees("!#$%&'*+-.^_`|~9a: z"),
        row(S, "space around a value is no part of it", get("X: \t y z \t\r\n"))
            .served()
            .sees("x: y z"),
        row(S, "an empty value is one", get("X:\r\n")).served().sees("x: "),
        row(C, "no space before the colon", get("X : y\r\n")).refused(400),
        row(C, "no tab before the colon", get("X\t: y\r\n")).refused(400),
        row(C, "least of all in framing", post("Content-Length : 1\r\n", "x")).refused(400),
        row(C, "or in Host", "GET / HTTP/1.1\r\nHost : a\r\n\r\n").refused(400),
        row(C, "a response with one is a 502", get("")).answer(answered("X : y\r\n")).status(502),
        row(C, "no name, no response", get("")).answer(answered(": y\r\n")).status(502),
        row(F, "a folded line is refused", get("X: y\r\n z\r\n")).refused(400),
        row(F, "with a tab, too", get("X: y\r\n\tz\r\n")).refused(400),
        row(F, "an empty one, too", get("X: y\r\n \r\n")).refused(400),
        row(F, "in framing, too", post("Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n"))
            .refused(400),
        row(F, "a response with one is a 502", get(""))
            .answer(answered("X: y\r\n z\r\n"))
            .status(502),
    ]);
    rows
}

fn values() -> Vec<Row> {
    const N: &str = "9110 §5.1";
    const O: &str = "9110 §5.3";
    const V: &str = "9110 §5.5";
    const L: &str = "9110 §5.6.1";
    let controls = [
        ("no NUL in a value", "X: a\0b\r\n"),
        ("no backspace in a value", "X: a\x08b\r\n"),
        ("no escape in a value", "X: a\x1bb\r\n"),
        ("no vertical tab in a value", "X: a\x0bb\r\n"),
        ("no form feed in a value", "X: \x0ca\r\n"),
        ("no delete in a value", "X: a\x7fb\r\n"),
    ];
    let mut rows: Vec<Row> =
        controls.iter().map(|(rule, fields)| row(V, rule, get(fields)).refused(400)).collect();
    rows.extend([
        row(N, "names have no case", post("cOnTeNt-LeNgTh: 2\r\n", "hi"))
            .served()
            .expect(Expect::SeesBody("hi")),
        row(N, "unknown fields are passed on", get("X-Unknown-9: v\r\n"))
            .served()
            .sees("x-unknown-9: v"),
        row(N, "in responses, too", get(""))
            .answer(answered("X-Unknown: v\r\n"))
            .served()
            .gets("x-unknown: v"),
        row(O, "values of one name keep their order", get("X: 1\r\nY: a\r\nx: 2\r\nX: 3\r\n"))
            .served()
            .sees("x: 1|2|3"),
        row(O, "in responses, too", get(""))
            .answer(answered("Set-Cookie: a=1, b\r\nX: y\r\nSet-Cookie: c=2\r\n"))
            .served()
            .gets("set-cookie: a=1, b|c=2"),
        story("9110 §5.4", "more fields than are taken are a 431", too_many),
        story("9110 §5.4", "a larger head than is taken is a 431", too_large),
        row(V, "a tab in a value is text", get("X: a\tb\r\n")).served().sees("x: a\tb"),
        row(V, "octets beyond ASCII are opaque", get("X: \u{fc}\r\n")).served().sees("x: \u{fc}"),
        row(V, "a NUL of an upstream is a 502", get(""))
            .answer(answered("X: a\0b\r\n"))
            .status(502),
        row(
            L,
            "empty members of a list are nothing",
            get("Connection: , ,x-gone ,,\r\nX-Gone: 1\r\n"),
        )
        .served()
        .misses("x-gone"),
        row(L, "options have no case", get("Connection: X-GONE, CLOSE\r\nx-gone: 1\r\n"))
            .status(200)
            .misses("x-gone")
            .expect(Expect::Closes),
    ]);
    rows
}

fn too_many(gateway: &Gateway, _: &Upstream) {
    assert_eq!(gateway.ask(get(&"X: y\r\n".repeat(1_000))).status(), 431);
}

fn too_large(gateway: &Gateway, _: &Upstream) {
    assert_eq!(gateway.ask(get(&format!("X: {}\r\n", "y".repeat(100_000)))).status(), 431);
}
