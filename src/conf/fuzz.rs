//! Any text whatever: an answer, never a panic.

use super::{Report, Source, process, resources};

const SEEDS: [&str; 4] = [
    "routes:\n  - id: 1\n    uri: /a*\n    hosts: [\"*.a.test\"]\n    vars: [[arg_a, \"==\", b]]\n    \
     plugins:\n      x: {conf: {a: [1, 2.5, ~]}, _meta: {disable: true}}\n    upstream: &up\n      \
     nodes: {\"127.0.0.1:1980\": 1, \"[::1]:80\": 2}\n      timeout: {connect: 1, send: 1, read: 1}\n\
     services:\n  - id: s\n    upstream: {<<: *up, retries: 2}\n#END\n",
    "apisix:\n  node_listen: [9080, {ip: \"::1\", port: ${{PORT:=1}}}]\nwasm:\n  plugins:\n    - name: a\n      \
     priority: 1\n      file: a.wasm\n      vm_config: |\n        é text\n        more\n      pool: 3\n\
     ringgate:\n  workers: [{core: 0}]\n  timeouts: {drain: 1m30s}\n",
    "{\"routes\": [{\"uri\": \"/a\", \"plugins\": {\"x\": {}}, \"remote_addr\": \"10.0.0.0/8\"}]}",
    "? complex\n: - !tag value\n  - 'it''s'\n  - >-\n    folded\n    text\n---\nb: \"\\u00e9\\n\"\n",
];

const WORDS: [&str; 24] = [
    "${{",
    "}}",
    "${{A}}",
    ":=",
    "&a ",
    "*a",
    "<<: ",
    "!x ",
    "- ",
    ": ",
    "\n",
    "\n  ",
    "\t",
    "\r",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "'",
    "#",
    "%YAML 1.1\n",
    "\u{feff}",
    "\u{85}",
];

fn mutate(random: &mut fastrand::Rng, text: &str) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for _ in 0..random.usize(1..=4) {
        let at = random.usize(0..=chars.len());
        let end = (at + random.usize(0..12)).min(chars.len());
        match random.u8(0..6) {
            0 => drop(chars.drain(at..end)),
            1 => {
                let piece = chars[at..end].to_vec();
                let to = random.usize(0..=chars.len());
                chars.splice(to..to, piece);
            }
            2 => chars.insert(at, random.char(..)),
            3 => chars.truncate(at.max(1)),
            4 => chars.insert(at, char::from(random.u8(0..128))),
            _ => {
                let word = WORDS[random.usize(0..WORDS.len())];
                chars.splice(at..at, word.chars());
            }
        }
    }
    chars.into_iter().collect()
}

fn check(text: &str, result: Result<Report, Report>) {
    let report = match result {
        Ok(report) => {
            assert!(!report.has_errors(), "{text:?}");
            report
        }
        Err(report) => {
            assert!(report.has_errors(), "{text:?}");
            report
        }
    };
    let shown = report.to_string();
    assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
    let lines = text.split('\n').count();
    for diagnostic in report.diagnostics() {
        assert!(diagnostic.line <= lines && !diagnostic.message.is_empty(), "{text:?}");
    }
}

#[test]
fn any_text_has_an_answer() {
    let mut random = fastrand::Rng::with_seed(2);
    let env = |name: &str| (name == "A").then(|| "one\ntwo: [".to_owned());
    let rounds = std::env::var("ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(600);
    for round in 0..rounds {
        let text = mutate(&mut random, SEEDS[round % SEEDS.len()]);
        let source = Source::new("f", text.as_str());
        check(&text, resources::parse(&source, &env, round % 3 == 0).map(|(_, report)| report));
        check(&text, process::parse(&source, &env).map(|(_, report)| report));
    }
}
