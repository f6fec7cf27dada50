//! RFC 9110 and RFC 9112, rule by rule: each that binds a server or an intermediary is a row with
//! its section, what a client sends, what the upstream answers, and what must come of it on both
//! sides. The built binary runs between a raw client and a raw upstream.
//!
//! ```text
//! row: section, rule ─┬─ bytes sent ──► gateway ──► what the upstream must see
//!                     └─ what must come ◄────────── what the upstream answers
//! ```

mod fields;
mod framing;
mod messages;
mod routing;
mod running;
mod semantics;

use crate::harness::{Client, Gateway, Message, Setup, Upstream, drivers};
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

/// What must hold.
enum Expect {
    /// The statuses of all final responses, in order.
    Statuses(Vec<u16>),
    /// The statuses of the interim responses before the first final one.
    Interim(Vec<u16>),
    /// The connection ends after the last response, and that one says so.
    Closes,
    /// Another request on the same connection is served.
    Persists,
    /// The last response has this field, written as `name: value`.
    Gets(&'static str),
    /// It has no such field.
    Lacks(&'static str),
    /// It has this body.
    Body(&'static str),
    /// It is cut off, and that shows.
    Cut,
    /// How many whole requests the upstream saw.
    Forwarded(usize),
    /// The last one's request line.
    Line(&'static str),
    /// It had this field, with all of the values that it had, joined by `|`.
    Sees(&'static str),
    /// It had no such field.
    Misses(&'static str),
    /// It had this body.
    SeesBody(&'static str),
    /// It had this trailer field, or it must not have had it.
    SeesTrailer(&'static str, Option<&'static str>),
}

/// What the upstream does with every request of a row.
#[derive(Clone)]
struct Answer {
    bytes: Vec<u8>,
    closes: bool,
}

/// A rule that more than one exchange of bytes is needed for.
type Story = fn(&Gateway, &Upstream);

/// One rule.
struct Row {
    section: &'static str,
    rule: &'static str,
    sends: Vec<u8>,
    to_head: bool,
    answer: Answer,
    expects: Vec<Expect>,
    story: Option<Story>,
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// What follows a request that must be the connection's last.
const SMUGGLED: &[u8] = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

fn row(section: &'static str, rule: &'static str, sends: impl AsRef<[u8]>) -> Row {
    let sends = sends.as_ref().to_vec();
    Row {
        section,
        rule,
        to_head: sends.starts_with(b"HEAD "),
        sends,
        answer: Answer { bytes: OK.as_bytes().to_vec(), closes: false },
        expects: Vec::new(),
        story: None,
    }
}

fn story(section: &'static str, rule: &'static str, story: Story) -> Row {
    Row { story: Some(story), ..row(section, rule, "") }
}

/// A GET with these lines behind its Host.
fn get(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

/// A POST with these lines behind its Host, and what follows.
fn post(fields: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}")
}

/// An upstream's 200 with these lines and a body.
fn answered(fields: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\nok")
}

impl Row {
    fn expect(mut self, expect: Expect) -> Self {
        self.expects.push(expect);
        self
    }

    /// The status, and the end: what follows on the connection is not looked at. Nothing of it goes
    /// upstream.
    fn refused(mut self, status: u16) -> Self {
        self.sends.extend_from_slice(SMUGGLED);
        self.statuses(&[status]).expect(Expect::Closes).expect(Expect::Forwarded(0))
    }

    fn statuses(self, statuses: &[u16]) -> Self {
        self.expect(Expect::Statuses(statuses.to_vec()))
    }

    fn status(self, status: u16) -> Self {
        self.statuses(&[status])
    }

    /// It is forwarded, answered, and the connection persists.
    fn served(self) -> Self {
        self.status(200).expect(Expect::Forwarded(1)).expect(Expect::Persists)
    }

    fn sees(self, field: &'static str) -> Self {
        self.expect(Expect::Sees(field))
    }

    fn misses(self, name: &'static str) -> Self {
        self.expect(Expect::Misses(name))
    }

    fn line(self, line: &'static str) -> Self {
        self.expect(Expect::Line(line))
    }

    fn gets(self, field: &'static str) -> Self {
        self.expect(Expect::Gets(field))
    }

    fn lacks(self, name: &'static str) -> Self {
        self.expect(Expect::Lacks(name))
    }

    fn body(self, body: &'static str) -> Self {
        self.expect(Expect::Body(body))
    }

    fn answer(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.answer.bytes = bytes.as_ref().to_vec();
        self
    }

    fn then_closes(mut self) -> Self {
        self.answer.closes = true;
        self
    }
}

/// Everything of both sides of one row.
#[derive(Debug, Default)]
struct Came {
    interim: Vec<u16>,
    finals: Vec<Message>,
    cut: bool,
    seen: Vec<Message>,
}

impl Came {
    fn check(&self, expect: &Expect) -> bool {
        let (last, seen) = (self.finals.last(), self.seen.last());
        let has = |message: Option<&Message>, field: &str| {
            let (name, value) = field.split_once(": ").unwrap_or((field, ""));
            message.is_some_and(|message| message.values(name).join("|") == value)
        };
        match expect {
            Expect::Statuses(wanted) => {
                self.finals.iter().map(Message::status).collect::<Vec<_>>() == *wanted
            }
            Expect::Interim(wanted) => self.interim == *wanted,
            Expect::Closes => last.is_some_and(Message::closes) && !self.cut,
            Expect::Cut => self.cut,
            Expect::Persists => true,
            Expect::Gets(field) => has(last, field),
            Expect::Lacks(name) => last.is_some_and(|message| message.values(name).is_empty()),
            Expect::Body(body) => last.is_some_and(|message| message.text() == *body),
            Expect::Forwarded(count) => self.seen.len() == *count,
            Expect::Line(line) => seen.is_some_and(|message| message.start == *line),
            Expect::Sees(field) => has(seen, field),
            Expect::Misses(name) => seen.is_some_and(|message| message.values(name).is_empty()),
            Expect::SeesBody(body) => seen.is_some_and(|message| message.text() == *body),
            Expect::SeesTrailer(name, value) => {
                seen.is_some_and(|message| message.trailer(name) == *value)
            }
        }
    }
}

/// The gateway, the upstream behind it, and what that one answers next.
struct Bench {
    gateway: Gateway,
    upstream: Upstream,
    next: Arc<Mutex<Answer>>,
}

impl Bench {
    fn new() -> Self {
        let next = Arc::new(Mutex::new(row("", "", "").answer));
        let answers = Arc::clone(&next);
        let upstream = Upstream::script(move |conversation| {
            while conversation.request().is_some() {
                let answer = answers.lock().unwrap_or_else(PoisonError::into_inner).clone();
                conversation.send(&answer.bytes);
                if answer.closes {
                    return;
                }
            }
        });
        let node = upstream.node();
        let gateway = Setup::new(format!(
            "routes:
  - {{uri: /local, plugins: {{fault-injection: {{abort: {{http_status: 200, body: here}}}}}}}}
  - {{uri: /ws, enable_websocket: true, upstream: {{nodes: {{\"{node}\": 1}}}}}}
  - {{uris: [/*, '*'], upstream: {{nodes: {{\"{node}\": 1}}}}}}"
        ));
        Self { gateway: gateway.driver(drivers()[0]).start(), upstream, next }
    }

    /// Runs a row; what is wrong, if something is.
    fn run(&self, row: &Row) -> Result<(), String> {
        if let Some(story) = row.story {
            let told = std::panic::AssertUnwindSafe(|| story(&self.gateway, &self.upstream));
            return std::panic::catch_unwind(told).map_err(|_| "the story above".to_owned());
        }
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = row.answer.clone();
        let before = self.upstream.requests().len();
        let mut client = self.gateway.client();
        client.send(&row.sends);
        let mut came = Came::default();
        let persists = row.expects.iter().any(|expect| matches!(expect, Expect::Persists));
        let wanted = row.expects.iter().find_map(|expect| match expect {
            Expect::Statuses(statuses) => Some(statuses.len()),
            _ => None,
        });
        read(&mut client, row, wanted.unwrap_or(1), &mut came);
        came.seen = self.upstream.requests().split_off(before);
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) =
            Answer { bytes: OK.as_bytes().to_vec(), closes: false };
        if persists && !came.cut && client.get("/after").status() != 200 {
            return Err("the connection does not persist".to_owned());
        }
        if row.expects.iter().any(|expect| matches!(expect, Expect::Closes)) {
            client.expect_end();
        }
        match row.expects.iter().all(|expect| came.check(expect)) {
            true => Ok(()),
            false => Err(format!("{came:#?}")),
        }
    }
}

/// Reads as many final responses as are wanted.
fn read(client: &mut Client, row: &Row, wanted: usize, came: &mut Came) {
    while came.finals.len() < wanted {
        match client.outcome(row.to_head) {
            Ok(message) if message.status() < 200 => came.interim.push(message.status()),
            Ok(message) => came.finals.push(message),
            Err(cut) => {
                came.cut = true;
                if !cut.message.start.is_empty() {
                    came.finals.push(cut.message);
                }
                return;
            }
        }
    }
}

fn all() -> Vec<Row> {
    let mut rows = Vec::new();
    rows.extend(messages::rows());
    rows.extend(fields::rows());
    rows.extend(framing::rows());
    rows.extend(running::rows());
    rows.extend(routing::rows());
    rows.extend(semantics::rows());
    rows
}

#[test]
fn every_rule_holds() {
    let bench = Bench::new();
    let mut sections: BTreeMap<(String, u32), (usize, usize)> = BTreeMap::new();
    let mut failures = Vec::new();
    for row in all() {
        let (document, section) = row.section.split_once(" §").expect("a document and a section");
        let number = section.split('.').next().and_then(|number| number.parse().ok());
        let key = (document.to_owned(), number.expect("a section's number"));
        let (rules, failing) = sections.entry(key).or_default();
        *rules += 1;
        let checked = std::panic::AssertUnwindSafe(|| bench.run(&row));
        let outcome = std::panic::catch_unwind(checked);
        let outcome = outcome.unwrap_or_else(|_| Err("it panicked, see above".to_owned()));
        if let Err(why) = outcome {
            *failing += 1;
            let sends = String::from_utf8_lossy(&row.sends).into_owned();
            failures.push(format!("RFC {}: {}\n{sends:?}\n{why}", row.section, row.rule));
        }
    }
    let mut report = String::new();
    for ((document, section), (rules, failing)) in &sections {
        report +=
            &format!("conformance: RFC {document} §{section}: {rules} rules, {failing} failing\n");
    }
    // Past the capture of libtest: a run shows it.
    let _ = std::io::stderr().write_all(report.as_bytes());
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}
