//! Requests, most of them with one thing about them that is odd.

use fastrand::Rng;

/// Bytes to send, and what is odd about them.
pub(super) struct Case {
    pub(super) bytes: Vec<u8>,
    pub(super) oddity: &'static str,
}

/// A plain request behind another one tells where that one was taken to end.
pub(super) const AFTER: &[u8] = b"GET /after HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// What would be a request of its own, if a body were not read as one.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: a\r\nX: ";

/// One request in its parts.
struct Parts {
    line: String,
    fields: Vec<String>,
    end: &'static str,
    body: String,
}

fn chunked(pieces: &[&str], trailers: &str) -> String {
    let mut body = String::new();
    for piece in pieces {
        body += &format!("{:x}\r\n{piece}\r\n", piece.len());
    }
    format!("{body}0\r\n{trailers}\r\n")
}

fn parts(random: &mut Rng, number: u64) -> Parts {
    let mut fields = vec!["Host: a".to_owned(), format!("X-Case: {number}")];
    let content = ["", "x", "hello world", HIDDEN][random.usize(..4)];
    let (method, body) = match random.u8(..4) {
        0 => ("GET", String::new()),
        1 => {
            fields.push(format!("Content-Length: {}", content.len()));
            ("POST", content.to_owned())
        }
        _ => {
            fields.push("Transfer-Encoding: chunked".to_owned());
            let trailers = ["", "", "X-Sum: 1\r\n"][random.usize(..3)];
            let pieces: &[&str] = if content.is_empty() { &[] } else { &[content, "end"] };
            ("PUT", chunked(pieces, trailers))
        }
    };
    random.shuffle(&mut fields);
    Parts { line: format!("{method} /case HTTP/1.1"), fields, end: "\r\n", body }
}

impl Parts {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.line.clone().into_bytes();
        bytes.extend_from_slice(self.end.as_bytes());
        for field in &self.fields {
            // Written in Latin 1, so that a test can have any byte.
            bytes.extend(field.chars().map(|c| c as u32 as u8));
            bytes.extend_from_slice(self.end.as_bytes());
        }
        bytes.extend_from_slice(self.end.as_bytes());
        bytes.extend(self.body.chars().map(|c| c as u32 as u8));
        bytes
    }

    /// Takes the framing away; a test brings its own.
    fn unframe(&mut self) {
        self.fields.retain(|field| !field.starts_with(['C', 'T']));
        "POST /case HTTP/1.1".clone_into(&mut self.line);
    }
}

fn one_of<'a>(random: &mut Rng, all: &[&'a str]) -> &'a str {
    all[random.usize(..all.len())]
}

type Odd = fn(&mut Parts, &mut Rng);

/// What may be odd, each with a name that `docs/HTTP.md` judges it by.
const ODDITIES: &[(&str, Odd)] = &[
    ("nothing", |_, _| {}),
    ("line-end", |parts, random| parts.end = ["\n", "\r", "\r\r\n"][random.usize(..3)]),
    ("request-line-space", |parts, random| {
        let space = one_of(random, &["  ", "\t", " \t", "\x0b"]);
        parts.line = parts.line.replacen(' ', space, 1 + random.usize(..2));
    }),
    ("request-line-edge", |parts, random| {
        parts.line = match random.u8(..3) {
            0 => format!(" {}", parts.line),
            1 => format!("{} ", parts.line),
            _ => format!("\r\n{}", parts.line),
        };
    }),
    ("version", |parts, random| {
        let version =
            one_of(random, &["HTTP/1.0", "HTTP/1.2", "HTTP/1.10", "http/1.1", "HTTP/2.0", ""]);
        parts.line = parts.line.replace("HTTP/1.1", version);
    }),
    ("method", |parts, random| {
        let method = one_of(random, &["get", "G@T", "M-SEARCH", "P\u{e9}T", "GE\x01T"]);
        let rest = parts.line.split_once(' ').map_or("", |(_, rest)| rest).to_owned();
        parts.line = format!("{method} {rest}");
    }),
    ("target", |parts, random| {
        let target = one_of(
            random,
            &["/case#x", "/ca\x01se", "http://b/case", "case", "*", "/c\x7f", "/\"<>"],
        );
        parts.line = parts.line.replace("/case", target);
    }),
    ("host", |parts, random| {
        let host = one_of(
            random,
            &["Host: a b", "Host: a/b", "Host: a:x", "Host: u@a", "X: y", "Host: a, b"],
        );
        if random.bool() {
            parts.fields.retain(|field| !field.starts_with("Host"));
        }
        parts.fields.push(host.to_owned());
    }),
    ("field-name", |parts, random| {
        let field = one_of(random, &["X y: z", "X(: z", "X\0: z", "\u{e9}: z", ": z", "no colon"]);
        parts.fields.push(field.to_owned());
    }),
    ("field-value", |parts, random| {
        let field = one_of(random, &["X: \0", "X: a\rb", "X: \x01", "X: \x7f", "X: \x0b"]);
        parts.fields.push(field.to_owned());
    }),
    ("fold", |parts, random| {
        let at = random.usize(1..=parts.fields.len());
        parts.fields.insert(at, one_of(random, &[" x", "\tx: y", " "]).to_owned());
    }),
    ("space-before-colon", |parts, random| {
        let at = random.usize(..parts.fields.len());
        let space = one_of(random, &[" :", "\t:", "\x0b:", "\u{a0}:"]);
        parts.fields[at] = parts.fields[at].replacen(':', space, 1);
    }),
    ("length-value", |parts, random| {
        let value = one_of(
            random,
            &[
                "+5",
                "-5",
                "0x5",
                "5 5",
                "5,5",
                "5, 5",
                "5;",
                "05",
                "5e0",
                "",
                "4294967301",
                "18446744073709551621",
            ],
        );
        parts.unframe();
        parts.fields.push(format!("Content-Length: {value}"));
        "hello".clone_into(&mut parts.body);
    }),
    ("two-lengths", |parts, random| {
        let (one, two) = [("5", "5"), ("5", "0"), ("0", "5"), ("5", "6")][random.usize(..4)];
        parts.unframe();
        parts.fields.push(format!("Content-Length: {one}"));
        parts.fields.push(format!("Content-Length: {two}"));
        "hello".clone_into(&mut parts.body);
    }),
    ("length-and-coding", |parts, random| {
        let length = one_of(random, &["0", "5", "44", "4"]);
        parts.unframe();
        parts.fields.push("Transfer-Encoding: chunked".to_owned());
        parts.fields.push(format!("Content-Length: {length}"));
        random.shuffle(&mut parts.fields);
        parts.body = chunked(&[HIDDEN], "");
    }),
    ("coding", |parts, random| {
        let coding = one_of(
            random,
            &[
                "gzip",
                "identity",
                "gzip, chunked",
                "chunked, gzip",
                "chunked, chunked",
                "xchunked",
                "\"chunked\"",
                "chunked;a",
                "\x0bchunked",
                "chunked\x0c",
                "\u{a0}chunked",
                "",
                ",chunked",
                "chunked,",
                "CHUNKED",
            ],
        );
        parts.unframe();
        parts.fields.push(format!("Transfer-Encoding: {coding}"));
        parts.body = chunked(&["hello"], "");
    }),
    ("two-codings", |parts, random| {
        let (one, two) = [("chunked", "identity"), ("gzip", "chunked"), ("chunked", "chunked")]
            [random.usize(..3)];
        parts.unframe();
        parts.fields.push(format!("Transfer-Encoding: {one}"));
        parts.fields.push(format!("Transfer-Encoding: {two}"));
        parts.body = chunked(&["hello"], "");
    }),
    ("coding-in-1.0", |parts, _| {
        parts.unframe();
        parts.line = parts.line.replace("1.1", "1.0");
        parts.fields.push("Transfer-Encoding: chunked".to_owned());
        parts.fields.push("Connection: keep-alive".to_owned());
        parts.body = chunked(&["hello"], "");
    }),
    ("framing-name", |parts, random| {
        let name =
            one_of(random, &["Transfer_Encoding", "Transfer Encoding", "Transfer-Encoding\u{e9}"]);
        parts.unframe();
        parts.fields.push(format!("{name}: chunked"));
        parts.body = chunked(&["hello"], "");
    }),
    ("chunk-size", |parts, random| {
        let size = one_of(
            random,
            &[
                "+5",
                "-5",
                "0x5",
                " 5",
                "5 ",
                "5\t",
                "5 5",
                "005",
                "5h",
                "0_5",
                "",
                "100000005",
                "10000000000000005",
            ],
        );
        parts.unframe();
        parts.fields.push("Transfer-Encoding: chunked".to_owned());
        parts.body = format!("{size}\r\nhello\r\n0\r\n\r\n");
    }),
    ("chunk-extension", |parts, random| {
        let extension = one_of(
            random,
            &[
                ";a",
                ";a=b",
                "; a = b",
                ";a=\"b\"",
                ";",
                ";=b",
                ";a=",
                " a",
                ";a b",
                ";a=\"b",
                ";a=\"\r\n\"",
                ";\0",
                ";a\n",
                ";a\r",
                ";a=\"\\\"\"",
            ],
        );
        parts.unframe();
        parts.fields.push("Transfer-Encoding: chunked".to_owned());
        parts.body = format!("5{extension}\r\nhello\r\n0\r\n\r\n");
    }),
    ("chunk-line-end", |parts, random| {
        let body = one_of(
            random,
            &[
                "5\nhello\r\n0\r\n\r\n",
                "5\rhello\r\n0\r\n\r\n",
                "5\r\nhello\n0\r\n\r\n",
                "5\r\nhelloXX0\r\n\r\n",
                "5\r\nhello\r\n0\n\r\n",
                "5\r\nhello\r\n0\r\n\n",
                "5\r\nhello0\r\n\r\n",
                "5\r\nhello\r\n0\r\r\n\r\n",
            ],
        );
        parts.unframe();
        parts.fields.push("Transfer-Encoding: chunked".to_owned());
        body.clone_into(&mut parts.body);
    }),
    ("trailer", |parts, random| {
        let trailer = one_of(
            random,
            &[
                "Content-Length: 9\r\n",
                "Transfer-Encoding: chunked\r\n",
                "Host: b\r\n",
                "X : y\r\n",
                "X: y\n",
                "no colon\r\n",
                " X: y\r\n",
                "X: y\r\n z\r\n",
                "X: \0\r\n",
                "GET /hidden HTTP/1.1\r\n",
            ],
        );
        parts.unframe();
        parts.fields.push("Transfer-Encoding: chunked".to_owned());
        parts.body = chunked(&["hello"], trailer);
    }),
];

/// A request, and a plain one behind it.
pub(super) fn case(random: &mut Rng, number: u64) -> Case {
    let mut parts = parts(random, number);
    let (oddity, change) = ODDITIES[random.usize(..ODDITIES.len())];
    change(&mut parts, random);
    let mut bytes = parts.bytes();
    let mut oddity = oddity;
    if random.u8(..6) == 0 {
        oddity = "any-byte";
        let at = random.usize(..bytes.len());
        let odd = *random.choice(b"\r\n\0 :;\t,=\"0x\x0b\xff").expect("some");
        match random.u8(..3) {
            0 => bytes[at] = odd,
            1 => bytes.insert(at, odd),
            _ => drop(bytes.remove(at)),
        }
    }
    bytes.extend_from_slice(AFTER);
    Case { bytes, oddity }
}
