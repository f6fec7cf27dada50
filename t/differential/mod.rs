//! The same odd requests to ringgate, nginx and HAProxy, each before an upstream that records every
//! byte, and to a reader written for this test alone.
//!
//! ```text
//!             ┌─► ringgate ─► bytes ─┬─► any reader, with any mistakes: one request, the same body
//! a case ─────┼─► nginx ───► bytes   └─► nginx, HAProxy: the same
//!             ├─► HAProxy ─► bytes
//!             └─► naive: what the RFCs say
//! ```
//!
//! Where they differ, `docs/HTTP.md` has a line that says who is right; a difference without one
//! fails. `RINGGATE_DIFFERENTIAL_SECONDS=n` runs for longer, `RINGGATE_DIFFERENTIAL_SEED=n` runs
//! the same cases again.

mod grammar;
mod naive;
mod peers;

use grammar::Case;
use naive::{Rules, Verdict};
use peers::{Made, Peer};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::time::{Duration, Instant};

/// Readers with mistakes that each forwarded request is shown to.
const READERS: usize = 40;

/// What ringgate did with a case, as another peer sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Difference {
    /// It forwarded less.
    Stricter,
    /// It forwarded more.
    Looser,
    /// Both forwarded, and not the same.
    Other,
}

impl Difference {
    fn of(ours: &[(String, Vec<u8>)], theirs: &[(String, Vec<u8>)]) -> Option<Self> {
        // Whoever closes behind the first request read it as we did.
        let first = ours.split_last().filter(|(last, _)| last.0 == "/after").map(|(_, rest)| rest);
        let same = |first: &[_]| !first.is_empty() && first == theirs;
        if ours == theirs || first.is_some_and(same) {
            None
        } else if theirs.starts_with(ours) {
            Some(Self::Stricter)
        } else if ours.starts_with(theirs) {
            Some(Self::Looser)
        } else {
            Some(Self::Other)
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Stricter => "stricter",
            Self::Looser => "looser",
            Self::Other => "other",
        }
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Whatever ringgate forwarded, every reader takes for the same one request, or for the same
/// beginning of one.
fn check_bytes(made: &Made, random: &mut fastrand::Rng, case: &str) {
    for raw in &made.raw {
        let strict = naive::read(raw, Rules::default());
        assert_ne!(strict, Verdict::Invalid, "{case}\nforwarded {:?}", shown(raw));
        if let Verdict::Whole(request) = &strict {
            assert_eq!(request.len, raw.len(), "{case}\nbytes behind {:?}", shown(raw));
        }
        for _ in 0..READERS {
            let rules = Rules::random(random);
            let verdict = naive::read(raw, rules);
            assert_eq!(verdict, strict, "{case}\n{rules:?} reads {:?}", shown(raw));
        }
    }
}

/// Ringgate's verdict is that of the RFCs, or a refusal.
fn check_verdict(made: &Made, case: &Case, text: &str) {
    let forwarded = made.forwarded();
    let read = naive::read_all(&case.bytes, Rules::default());
    let read: Vec<Vec<u8>> = read.into_iter().map(|request| request.body).collect();
    let bodies: Vec<Vec<u8>> = forwarded.into_iter().map(|(_, body)| body).collect();
    assert!(read.starts_with(&bodies), "{text}\nforwarded {bodies:?}\nread as {read:?}");
    let refused = ["HTTP/1.1 4", "HTTP/1.1 5"].iter().any(|error| made.answered.contains(error));
    if case.oddity == "nothing" {
        assert!(bodies == read && !refused, "{text}\n{}", made.answered);
    }
    let answers = made.answered.matches("HTTP/1.1 200").count();
    assert_eq!(answers, bodies.len(), "{text}\nan answer for each: {}", made.answered);
    let incomplete = naive::read_all(&case.bytes, Rules::default()).len() == bodies.len();
    assert!(refused || incomplete, "{text}\nneither forwarded nor refused: {}", made.answered);
}

/// A live peer takes what ringgate forwarded for one request with that body, if it takes it.
fn check_replay(made: &Made, peer: &Peer, case: &str) {
    for raw in &made.raw {
        if let Verdict::Whole(request) = naive::read(raw, Rules::default()) {
            let mut again = peer.ask(&[raw, grammar::AFTER].concat()).forwarded();
            again.retain(|(target, _)| target != "/after");
            assert!(again.len() <= 1, "{case}\n{} reads two in {:?}", peer.name, shown(raw));
            let same = again.iter().all(|(_, body)| *body == request.body);
            assert!(same, "{case}\n{} reads another body in {:?}", peer.name, shown(raw));
        }
    }
}

fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// The differences that `docs/HTTP.md` judges: oddity, peer, difference.
fn judged() -> BTreeSet<(String, String, String)> {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/HTTP.md");
    let text = std::fs::read_to_string(docs).expect("docs/HTTP.md");
    let table = text.split("<!-- differences -->").nth(1).expect("its table of differences");
    let mut judged = BTreeSet::new();
    for line in table.lines().filter(|line| line.starts_with("| `")) {
        let mut cells = line.split('|').map(str::trim).skip(1);
        let oddity = cells.next().unwrap_or_default().trim_matches('`').to_owned();
        for peer in ["nginx", "HAProxy"] {
            for word in cells.next().unwrap_or_default().split(", ") {
                judged.insert((oddity.clone(), peer.to_owned(), word.to_owned()));
            }
        }
    }
    judged
}

#[test]
fn nothing_is_forwarded_that_anybody_reads_differently() {
    let seed = setting("RINGGATE_DIFFERENTIAL_SEED", fastrand::u64(..));
    let lasts = Duration::from_secs(setting("RINGGATE_DIFFERENTIAL_SECONDS", 6));
    let mut random = fastrand::Rng::with_seed(seed);
    let ringgate = Peer::ringgate();
    let others: Vec<Peer> = [Peer::nginx(), Peer::haproxy()].into_iter().flatten().collect();
    let judged = judged();
    let mut found: BTreeMap<(String, String, String), (u64, String)> = BTreeMap::new();
    let (start, mut cases, mut forwarded) = (Instant::now(), 0, 0);
    while start.elapsed() < lasts {
        let case = grammar::case(&mut random, cases);
        cases += 1;
        let text = format!("seed {seed} case {cases} {}: {}", case.oddity, shown(&case.bytes));
        let made = ringgate.ask(&case.bytes);
        check_bytes(&made, &mut random, &text);
        check_verdict(&made, &case, &text);
        let ours = made.forwarded();
        forwarded += ours.len();
        for peer in &others {
            check_replay(&made, peer, &text);
            let theirs = peer.ask(&case.bytes).forwarded();
            if let Some(difference) = Difference::of(&ours, &theirs) {
                let class = [case.oddity, peer.name, difference.word()].map(str::to_owned);
                let first = || (0, format!("{text}\n  {theirs:?}"));
                found.entry(class.into()).or_insert_with(first).0 += 1;
            }
        }
    }
    let line = format!(
        "differential: {cases} cases to ringgate and {} others (seed {seed}), {forwarded} requests \
         forwarded, 0 read as two, {} kinds of differences\n",
        others.len(),
        found.len()
    );
    // Past the capture of libtest: a run shows it.
    let _ = std::io::stderr().write_all(line.as_bytes());
    let unknown: Vec<String> = found
        .iter()
        .filter(|(class, _)| !judged.contains(*class))
        .map(|(class, (count, first))| format!("{class:?} {count} times, first {first}"))
        .collect();
    assert!(unknown.is_empty(), "docs/HTTP.md does not judge\n{}", unknown.join("\n"));
}
