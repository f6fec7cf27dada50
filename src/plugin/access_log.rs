//! One line for each request: as JSON, or in a format of nginx's variables
//! (`nginx_config.http.access_log_format`; nginx `ngx_http_log_module.c`).

use super::variables::{RequestFacts, Value, append_variable};
use std::io::Write;

/// A compiled format of lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFormat {
    /// `None`: the fields of [`JSON`].
    parts: Option<Box<[Part]>>,
    escape: Escape,
    /// It says how long upstreams take.
    timed: bool,
}

/// Variables that are there only if somebody looks at the clock.
const TIMES: [&str; 3] =
    ["upstream_connect_time", "upstream_header_time", "upstream_response_time"];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Variable(Box<str>),
}

/// How values are made harmless in a line (nginx `log_format … escape=`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Escape {
    /// `\xXX` for quotes, backslashes and what is not printable ASCII; `-` for no value.
    #[default]
    Default,
    /// As in a JSON string; nothing for no value.
    Json,
    /// Not at all.
    None,
}

/// What a finished request came to, beyond its facts.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// The status answered; 499 if the client left before that, 0 if a plugin closed.
    pub status: u16,
    /// Bytes received for it: head, and body as far as it was read.
    pub received: u64,
    /// Bytes sent, head included.
    pub sent: u64,
    /// Body bytes sent.
    pub body_sent: u64,
    /// When it was over, in nanoseconds since the epoch.
    pub ended_ns: u64,
    /// Its number in this process.
    pub number: u64,
}

/// The fields of a line of JSON, and the variables they hold.
const JSON: [(&str, &str, Kind); 27] = [
    ("time", "time_iso8601", Kind::Text),
    ("request", "request_number", Kind::Text),
    ("request_id", "http_x_request_id", Kind::Text),
    ("remote_addr", "remote_addr", Kind::Text),
    ("method", "request_method", Kind::Text),
    ("host", "http_host", Kind::Text),
    ("uri", "real_request_uri", Kind::Text),
    ("protocol", "server_protocol", Kind::Text),
    ("status", "status", Kind::Number),
    ("request_length", "request_length", Kind::Number),
    ("bytes_sent", "bytes_sent", Kind::Number),
    ("body_bytes_sent", "body_bytes_sent", Kind::Number),
    ("request_time", "request_time", Kind::Number),
    ("route_id", "route_id", Kind::Text),
    ("route_name", "route_name", Kind::Text),
    ("service_id", "service_id", Kind::Text),
    ("consumer", "consumer_name", Kind::Text),
    ("upstream", "upstream_name", Kind::Text),
    ("upstream_addr", "upstream_addr", Kind::Text),
    ("upstream_status", "upstream_status", Kind::Number),
    ("upstream_tries", "upstream_tries", Kind::Number),
    ("upstream_connect_time", "upstream_connect_time", Kind::Number),
    ("upstream_response_time", "upstream_response_time", Kind::Number),
    ("source", "response_source", Kind::Text),
    ("details", "response_details", Kind::Text),
    ("referer", "http_referer", Kind::Text),
    ("user_agent", "http_user_agent", Kind::Text),
];

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Text,
    Number,
}

impl LogFormat {
    /// Lines of JSON, one object each; fields without a value are left out.
    #[must_use]
    pub fn json() -> Self {
        Self { parts: None, escape: Escape::Json, timed: true }
    }

    /// Lines of text with `$name` or `${name}` in it. Every text is a format.
    #[must_use]
    pub fn compile(text: &str, escape: Escape) -> Self {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(dollar) = rest.find('$') {
            let (before, after) = (&rest[..dollar], &rest[dollar + 1..]);
            let braced = after.strip_prefix('{').and_then(|inside| inside.split_once('}'));
            let end = |c: char| !c.is_ascii_alphanumeric() && c != '_';
            let (name, left) = match braced {
                Some((name, left)) => (name, left),
                None => after.split_at(after.find(end).unwrap_or(after.len())),
            };
            push(&mut parts, if name.is_empty() { &rest[..=dollar] } else { before });
            if !name.is_empty() {
                parts.push(Part::Variable(name.into()));
            }
            rest = left;
        }
        push(&mut parts, rest);
        let format = Self { parts: Some(parts.into()), escape, timed: false };
        let timed = format.names().any(|name| TIMES.contains(&name));
        Self { timed, ..format }
    }

    /// The names of its variables, as often as they stand there; none in lines of JSON.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().flatten().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Variable(name) => Some(&**name),
        })
    }

    /// Whether a line says how long upstreams take, so that somebody has to look at the clock.
    #[must_use]
    pub fn is_timed(&self) -> bool {
        self.timed
    }

    /// Appends a line with its end. Allocates nothing, except what a field that stands twice does.
    pub fn write<F>(&self, facts: &F, outcome: &Outcome, line: &mut Vec<u8>)
    where
        F: RequestFacts + ?Sized,
    {
        match &self.parts {
            None => write_json(facts, outcome, line),
            Some(parts) => {
                for part in parts {
                    match part {
                        Part::Text(text) => line.extend_from_slice(text.as_bytes()),
                        Part::Variable(name) => self.write_variable(facts, outcome, name, line),
                    }
                }
            }
        }
        line.push(b'\n');
    }

    fn write_variable<F>(&self, facts: &F, outcome: &Outcome, name: &str, line: &mut Vec<u8>)
    where
        F: RequestFacts + ?Sized,
    {
        let start = line.len();
        let there = append(facts, outcome, name, line);
        match self.escape {
            Escape::Default if !there || line.len() == start => line.push(b'-'),
            Escape::Default => escape_default(line, start),
            Escape::Json => escape_json(line, start),
            Escape::None => {}
        }
    }
}

fn push(parts: &mut Vec<Part>, text: &str) {
    match parts.last_mut() {
        _ if text.is_empty() => {}
        Some(Part::Text(before)) => *before = format!("{before}{text}").into(),
        _ => parts.push(Part::Text(text.into())),
    }
}

fn write_json<F>(facts: &F, outcome: &Outcome, line: &mut Vec<u8>)
where
    F: RequestFacts + ?Sized,
{
    line.push(b'{');
    let begin = line.len();
    for (field, name, kind) in JSON {
        let before = line.len();
        if before > begin {
            line.push(b',');
        }
        line.push(b'"');
        line.extend_from_slice(field.as_bytes());
        line.extend_from_slice(b"\":");
        if kind == Kind::Text {
            line.push(b'"');
        }
        let start = line.len();
        if !append(facts, outcome, name, line) || line.len() == start {
            line.truncate(before);
            continue;
        }
        if kind == Kind::Text {
            escape_json(line, start);
            line.push(b'"');
        }
    }
    line.push(b'}');
}

/// Appends a variable and tells whether it has a value.
fn append<F>(facts: &F, outcome: &Outcome, name: &str, out: &mut Vec<u8>) -> bool
where
    F: RequestFacts + ?Sized,
{
    let value = match name {
        "status" if outcome.status == 0 => return false,
        "status" => Value::Number(outcome.status.into()),
        "request_length" => Value::Number(outcome.received),
        "bytes_sent" => Value::Number(outcome.sent),
        "body_bytes_sent" => Value::Number(outcome.body_sent),
        "request_time" => Value::Seconds(outcome.ended_ns.saturating_sub(facts.started_ns())),
        "request_number" => return hex(out, outcome.number),
        "request_id" | "apisix_request_id" => Value::RequestId(outcome.number),
        _ => return append_variable(facts, name, out),
    };
    value.write(out);
    true
}

/// As the log writes it: `request=00000000000004d2`.
fn hex(out: &mut Vec<u8>, number: u64) -> bool {
    // Writing to a vector can't fail.
    let _ = write!(out, "{number:016x}");
    true
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// Rewrites what was appended since `start`, if some of it needs that.
fn escape_default(line: &mut Vec<u8>, start: usize) {
    let odd = |byte: &u8| matches!(byte, b'"' | b'\\') || !(b' '..=b'~').contains(byte);
    rewrite(line, start, odd, |line, byte, _| {
        let hex = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
        line.extend_from_slice(&[b'\\', b'x', hex[0], hex[1]]);
        1
    });
}

/// The same for a JSON string: what is not UTF-8 becomes U+FFFD.
fn escape_json(line: &mut Vec<u8>, start: usize) {
    let odd = |byte: &u8| matches!(byte, b'"' | b'\\') || *byte < b' ' || *byte >= 0x7f;
    rewrite(line, start, odd, |line, byte, rest| {
        match byte {
            b'"' | b'\\' => line.extend_from_slice(&[b'\\', byte]),
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            b'\t' => line.extend_from_slice(b"\\t"),
            0x80.. => return push_utf8(line, byte, rest),
            _ => {
                let hex = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
                line.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex[0], hex[1]]);
            }
        }
        1
    });
}

/// Appends one character of more than one byte; gives how many bytes it took.
fn push_utf8(line: &mut Vec<u8>, first: u8, rest: &[u8]) -> usize {
    let len = match first {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => 1,
    };
    let mut bytes = [first, 0, 0, 0];
    let more = rest.get(..len - 1).unwrap_or_default();
    bytes[1..=more.len()].copy_from_slice(more);
    match std::str::from_utf8(&bytes[..len]) {
        Ok(character) => {
            line.extend_from_slice(character.as_bytes());
            len
        }
        Err(_) => {
            line.extend_from_slice("\u{fffd}".as_bytes());
            1
        }
    }
}

/// Copies what was appended since `start` behind itself, rewritten from its first odd byte on, and
/// moves it to its place. `write` gets an odd byte and what follows, and says how much it used.
fn rewrite(
    line: &mut Vec<u8>,
    start: usize,
    odd: impl Fn(&u8) -> bool,
    write: impl Fn(&mut Vec<u8>, u8, &[u8]) -> usize,
) {
    let Some(first) = line[start..].iter().position(&odd).map(|at| start + at) else { return };
    let end = line.len();
    let mut at = first;
    while at < end {
        let byte = line[at];
        if odd(&byte) {
            let mut rest = [0; 3];
            let more = (end - at - 1).min(rest.len());
            rest[..more].copy_from_slice(&line[at + 1..at + 1 + more]);
            at += write(line, byte, &rest[..more]);
        } else {
            line.push(byte);
            at += 1;
        }
    }
    line.copy_within(end.., first);
    line.truncate(first + line.len() - end);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::{Message, RouteFacts};
    use std::rc::Rc;
    use std::sync::Arc;

    fn message() -> Message {
        let mut message = Message {
            started_ns: 1_784_678_400_000_000_000,
            route: Some(Rc::new(Arc::new(RouteFacts {
                route_id: "r".to_owned(),
                ..Default::default()
            }))),
            ..Message::default()
        };
        message.connection.peer = ([127, 0, 0, 1], 80).into();
        message.request.method = b"GET".to_vec();
        message.request.target = b"/a?b=\"c\"".to_vec();
        message.request.path = b"/a".to_vec();
        message.request.authority = b"h".to_vec();
        message.request.headers.append(b"user-agent", "é\u{1}\"\\".as_bytes());
        message.request.headers.append(b"referer", b"\xff\xc3");
        message.response.status = 200;
        message
    }

    fn line(format: &LogFormat, message: &Message) -> String {
        let outcome = Outcome {
            status: 200,
            received: 40,
            sent: 120,
            body_sent: 5,
            ended_ns: message.started_ns + 1_234_567_890,
            number: 0xabc,
        };
        let mut line = b"before\n".to_vec();
        format.write(message, &outcome, &mut line);
        String::from_utf8(line.split_off(7)).expect("UTF-8")
    }

    #[test]
    fn json_lines_are_json() {
        let text = line(&LogFormat::json(), &message());
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let wanted = serde_json::json!({
            "time": "2026-07-22T00:00:00+00:00", "request": "0000000000000abc",
            "remote_addr": "127.0.0.1", "method": "GET", "host": "h", "uri": "/a?b=\"c\"",
            "protocol": "HTTP/1.1", "status": 200, "request_length": 40, "bytes_sent": 120,
            "body_bytes_sent": 5, "request_time": 1.234, "route_id": "r",
            "referer": "\u{fffd}\u{fffd}", "user_agent": "é\u{1}\"\\",
        });
        assert_eq!(value, wanted);
        assert!(text.ends_with("}\n") && text.matches('\n').count() == 1, "{text}");
    }

    #[test]
    fn formats_have_nginx_variables() {
        let message = message();
        for (format, escape, wanted) in [
            (
                "$remote_addr - $remote_user [$time_local] $http_host \"$request\" $status",
                Escape::Default,
                "127.0.0.1 - - [22/Jul/2026:00:00:00 +0000] h \"GET /a?b=\\x22c\\x22 HTTP/1.1\" 200",
            ),
            ("$body_bytes_sent $request_time.", Escape::Default, "5 1.234."),
            ("${route_id}x $$ $ ${", Escape::Default, "rx $$ $ ${"),
            ("\"$http_user_agent\"", Escape::Default, "\"\\xC3\\xA9\\x01\\x22\\x5C\""),
            ("\"$http_user_agent\"", Escape::Json, "\"é\\u0001\\\"\\\\\""),
            ("$upstream_addr|$http_none", Escape::Json, "|"),
            ("$upstream_addr|$http_none", Escape::Default, "-|-"),
            ("$arg_b", Escape::None, "\"c\""),
            ("$upstream_scheme://$upstream_host$upstream_uri", Escape::None, "http://h/a?b=\"c\""),
        ] {
            let format = LogFormat::compile(format, escape);
            assert_eq!(line(&format, &message), format!("{wanted}\n"));
        }
    }
}
