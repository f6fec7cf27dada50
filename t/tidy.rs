//! The rules of the house that no lint knows. Each check has a test of its own at the end.
//!
//! `docs/ARCHITECTURE.md` has the table of rooms; everything else a check needs is on this page.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

#[path = "tidy/rust.rs"]
mod rust;

use rust::{Source, functions};

/// Rooms that may name an outside crate. A crate that is in neither list fails: where it belongs is
/// a decision, and this is where it is written down.
const OUTSIDE: &[(&str, &[&str])] = &[
    ("arc_swap", &["worker", "control"]),
    ("cel", &["proxy_wasm"]),
    ("chrono", &["proxy_wasm"]),
    ("clap", &["main", "plugin_tool"]),
    ("clap_complete", &["main"]),
    ("clap_mangen", &["main"]),
    ("crossbeam", &["worker", "control"]),
    ("axum", &["control"]),
    ("bytes", &["net", "worker"]),
    ("etcd_client", &["control"]),
    ("flate2", &["builtin", "proxy_wasm"]),
    ("flatbuffers", &["runner"]),
    ("h2", &["net", "worker"]),
    ("hickory_resolver", &["control"]),
    ("http_types", &["worker"]),
    ("httparse", &["http"]),
    ("io_uring", &["net"]),
    ("mimalloc", &["main"]),
    ("monoio", &["net", "worker", "main"]),
    ("monoio_compat", &["net"]),
    ("nix", &["control", "main"]),
    ("notify", &["control"]),
    ("p256", &["proxy_wasm"]),
    ("p384", &["proxy_wasm"]),
    ("p521", &["proxy_wasm"]),
    ("regex", &["expr", "proxy_wasm", "control"]),
    ("redb", &["control"]),
    ("rsa", &["proxy_wasm"]),
    ("libc", &["control"]),
    ("rustix", &["net", "worker", "control", "main", "vm"]),
    ("saphyr_parser", &["conf"]),
    ("sd_notify", &["control"]),
    ("serde", &["conf", "schema"]),
    ("serde_yaml", &["conf"]),
    ("sha1", &["proxy_wasm"]),
    ("sha2", &["vm", "proxy_wasm", "control"]),
    ("slab", &["time", "runner"]),
    ("strsim", &["schema"]),
    ("subtle", &["control"]),
    ("tokio", &["control"]),
    ("tokio_rustls", &["control"]),
    ("wasmparser", &["vm"]),
    ("wasmtime", &["vm", "proxy_wasm"]),
    ("wat", &["vm", "proxy_wasm"]),
];

/// Crates that any room may use: values and algorithms without I/O.
const ANYWHERE: &[&str] =
    &["fastrand", "ipnet", "itoa", "log", "memchr", "rustc_hash", "serde_json"];

/// What must not be left in a source file.
const LEFTOVERS: &[&str] = &["todo!", "dbg!", "unimplemented!", "FIXME", "XXX"];

const COLUMNS_MAX: usize = 100;
const SOURCE_LINES_MAX: usize = 700;
const CASE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;

/// Functions that may be longer, each with a reason: `("src/room/file.rs", "function", "why")`.
const LONG_FUNCTIONS: &[(&str, &str, &str)] = &[];

/// The rooms each room may use, by the table in `docs/ARCHITECTURE.md`.
type Table = BTreeMap<String, BTreeSet<String>>;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files of a folder, by their path from the repository's root, without those of tests and
/// those that a program wrote.
fn sources(folder: &str) -> Vec<Source> {
    let mut paths = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of the repository") {
            let path: PathBuf = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !is_made(&path)
            {
                paths.push(path);
            }
        }
    }
    paths.sort();
    let read = |path: &PathBuf| {
        let name = path.strip_prefix(root()).expect("below the root").display().to_string();
        Source::new(&name, &std::fs::read_to_string(path).expect("a text"))
    };
    let all: Vec<Source> = paths.iter().map(read).collect();
    let of_tests: BTreeSet<String> = all.iter().flat_map(Source::test_modules).collect();
    all.into_iter().map(|source| source.known_as_test_by(&of_tests)).collect()
}

fn is_made(path: &Path) -> bool {
    path.to_string_lossy().ends_with("_generated.rs")
}

#[track_caller]
fn none(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

/// Runs a check on the files of `src`, tests left out.
#[track_caller]
fn on_sources(check: impl Fn(&Source) -> Vec<String>) {
    none(sources("src").iter().filter(|source| !source.is_test).flat_map(check).collect());
}

#[test]
fn rooms_use_only_rooms_the_table_allows() {
    let page = std::fs::read_to_string(root().join("docs/ARCHITECTURE.md")).expect("the page");
    let table = table(&page).unwrap_or_else(|why| panic!("docs/ARCHITECTURE.md: {why}"));
    none(loops(&table));
    let rooms: BTreeSet<String> =
        sources("src").iter().map(Source::room).filter(|room| room != "lib").collect();
    let named: BTreeSet<String> = table.keys().cloned().collect();
    assert_eq!(rooms, named, "rooms of src/ and rooms of the table");
    on_sources(|source| arrows(source, &table));
}

#[test]
fn outside_crates_stay_in_their_rooms() {
    on_sources(outside);
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml");
    none(undecided(&manifest));
}

#[test]
fn every_room_has_its_card() {
    on_sources(card);
}

#[test]
fn every_file_says_what_it_is() {
    let files = sources("src").into_iter().chain(sources("t"));
    none(
        files
            .filter(|file| !file.text.starts_with("//!"))
            .map(|file| format!("{}:1: a file begins with `//!` and what it is", file.name))
            .collect(),
    );
}

#[test]
fn lines_are_not_too_long() {
    none(sources("src").iter().chain(&sources("t")).flat_map(columns).collect());
}

#[test]
fn files_and_functions_are_not_too_long() {
    on_sources(|source| lengths(source, SOURCE_LINES_MAX));
    none(sources("t").iter().flat_map(|source| lengths(source, CASE_LINES_MAX)).collect());
    for (file, function, why) in LONG_FUNCTIONS {
        assert!(!why.is_empty(), "{file}: {function} is excused without a reason");
        let long = sources("src").iter().any(|source| source.name == *file);
        assert!(long, "{file}: {function} is excused and gone");
    }
}

#[test]
fn nothing_is_left_over() {
    let files = sources("src").into_iter().chain(sources("t"));
    none(files.filter(|file| file.name != "t/tidy.rs").flat_map(|file| leftovers(&file)).collect());
}

#[test]
fn every_unsafe_says_why_it_is_safe() {
    none(sources("src").iter().chain(&sources("t")).flat_map(safety).collect());
}

#[test]
fn every_file_is_part_of_the_crate() {
    let all = sources("src");
    let declared: BTreeSet<String> = all.iter().flat_map(Source::modules).collect();
    let lost = all.iter().filter(|source| {
        !["src/lib.rs", "src/main.rs"].contains(&source.name.as_str())
            && !declared.contains(&source.name)
    });
    none(lost.map(|source| format!("{}: no `mod` names this file", source.name)).collect());
    let main = std::fs::read_to_string(root().join("t/main.rs")).expect("t/main.rs");
    let cases = sources("t").into_iter().filter_map(|source| {
        let name = source.name.strip_prefix("t/")?.strip_suffix(".rs")?.to_owned();
        let is_case = name.as_bytes().get(1).is_some_and(u8::is_ascii_digit);
        (is_case && !main.contains(&format!("mod {name};"))).then_some(source.name)
    });
    none(cases.map(|name| format!("{name}: t/main.rs does not name it")).collect());
}

/// Reads the table between `<!-- rooms -->` and `<!-- /rooms -->`: `| room | may use |`.
fn table(page: &str) -> Result<Table, String> {
    let (_, rest) = page.split_once("<!-- rooms -->").ok_or("no `<!-- rooms -->`")?;
    let (table, _) = rest.split_once("<!-- /rooms -->").ok_or("no `<!-- /rooms -->`")?;
    let mut rooms = Table::new();
    for line in table.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [room, uses] = cells[..] else { return Err(format!("not two columns: {line}")) };
        if room == "room" || room.starts_with("--") {
            continue;
        }
        let name = |cell: &str| cell.trim().trim_matches('`').to_owned();
        let uses = uses.split(',').map(name).filter(|name| !name.is_empty()).collect();
        if rooms.insert(name(room), uses).is_some() {
            return Err(format!("{room} is there twice"));
        }
    }
    let unknown = rooms.values().flatten().find(|room| !rooms.contains_key(*room));
    match unknown {
        Some(room) => Err(format!("{room} is used and has no row")),
        None if rooms.is_empty() => Err("an empty table".to_owned()),
        None => Ok(rooms),
    }
}

/// Arrows point down only: a room that reaches itself is in a loop.
fn loops(table: &Table) -> Vec<String> {
    let reaches = |start: &String| {
        let mut seen = BTreeSet::new();
        let mut next: Vec<&String> = table[start].iter().collect();
        while let Some(room) = next.pop() {
            if seen.insert(room) {
                next.extend(&table[room]);
            }
        }
        seen.contains(start)
    };
    let in_loops = table.keys().filter(|room| reaches(room));
    in_loops.map(|room| format!("{room} reaches itself over the table's arrows")).collect()
}

/// Uses of rooms that the table does not allow.
fn arrows(source: &Source, table: &Table) -> Vec<String> {
    let room = source.room();
    let Some(allowed) = table.get(&room) else { return Vec::new() };
    let used = source.rooms_used();
    let wrong = used
        .into_iter()
        .filter(|(_, used)| *used != room && table.contains_key(used) && !allowed.contains(used));
    wrong
        .map(|(line, used)| {
            format!("{}:{line}: the table has no arrow from {room} to {used}", source.name)
        })
        .collect()
}

/// Outside crates in rooms they do not belong to.
fn outside(source: &Source) -> Vec<String> {
    let room = source.room();
    let mut problems = Vec::new();
    for (name, rooms) in OUTSIDE {
        if rooms.contains(&room.as_str()) {
            continue;
        }
        for line in source.lines_with_path(name) {
            let homes = rooms.join(", ");
            problems.push(format!("{}:{line}: {name} belongs to {homes}", source.name));
        }
    }
    problems
}

/// Dependencies nobody decided about.
fn undecided(manifest: &str) -> Vec<String> {
    let dependencies = manifest.split("\n[dependencies]\n").nth(1).unwrap_or_default();
    let dependencies = dependencies.split("\n[").next().unwrap_or_default();
    let names = dependencies.lines().filter_map(|line| line.split_once(" = "));
    names
        .map(|(name, _)| name.trim().replace('-', "_"))
        .filter(|name| !name.starts_with('#') && !ANYWHERE.contains(&name.as_str()))
        .filter(|name| !OUTSIDE.iter().any(|(known, _)| known == name))
        .map(|name| format!("Cargo.toml: {name} is in neither list of t/tidy.rs"))
        .collect()
}

/// The card on top of a room: what comes in, what goes out, what it may not know.
fn card(source: &Source) -> Vec<String> {
    let parts: Vec<&str> = source.name.split('/').collect();
    if parts.len() != 3 || parts[2] != "mod.rs" {
        return Vec::new();
    }
    let head: Vec<&str> = source.text.lines().take_while(|line| line.starts_with("//!")).collect();
    let title = format!("//! Room `{}`", parts[1]);
    let mut missing = Vec::new();
    if !head.first().is_some_and(|line| line.starts_with(&title)) {
        missing.push(title);
    }
    for part in ["//! In:", "//! Out:", "//! May not know:"] {
        if !head.iter().any(|line| line.starts_with(part)) {
            missing.push(part.to_owned());
        }
    }
    missing.iter().map(|part| format!("{}:1: its card has no `{part}`", source.name)).collect()
}

/// Lines that are too long; what a string holds does not count, it may be bytes that must not be
/// broken.
fn columns(source: &Source) -> Vec<String> {
    let long = source.without_strings.lines().enumerate();
    long.filter(|(_, line)| line.chars().count() > COLUMNS_MAX)
        .map(|(at, _)| format!("{}:{}: over {COLUMNS_MAX} columns", source.name, at + 1))
        .collect()
}

fn lengths(source: &Source, lines_max: usize) -> Vec<String> {
    let mut problems = Vec::new();
    let lines = source.code.lines().count();
    if lines > lines_max {
        problems.push(format!("{}: {lines} lines, at most {lines_max}", source.name));
    }
    for function in functions(&source.code) {
        let excused = LONG_FUNCTIONS
            .iter()
            .any(|(file, name, _)| *file == source.name && *name == function.name);
        if function.lines > FUNCTION_LINES_MAX && !excused {
            problems.push(format!(
                "{}:{}: {} has {} lines, at most {FUNCTION_LINES_MAX}",
                source.name, function.line, function.name, function.lines
            ));
        }
    }
    problems
}

fn leftovers(source: &Source) -> Vec<String> {
    let mut problems = Vec::new();
    for (at, line) in source.without_strings.lines().enumerate() {
        for leftover in LEFTOVERS {
            let words = line.split(|c: char| !(c.is_alphanumeric() || "_!".contains(c)));
            if words.into_iter().any(|word| word == *leftover) {
                problems.push(format!("{}:{}: {leftover} is left", source.name, at + 1));
            }
        }
    }
    problems
}

/// Each `unsafe` has a `SAFETY:` on its line or in the comment above its statement.
fn safety(source: &Source) -> Vec<String> {
    let lines: Vec<&str> = source.text.lines().collect();
    let mut problems = Vec::new();
    for (at, code) in source.everything.lines().enumerate() {
        let words: Vec<&str> = code.split(|c: char| !(c.is_alphanumeric() || c == '_')).collect();
        // The contract of an `unsafe fn` is its trait's or in its docs; what uses it must say why.
        let uses = words.iter().zip(words.iter().skip(1).chain([&"{"]));
        let mut uses = uses.filter(|(word, next)| **word == "unsafe" && **next != "fn");
        if uses.next().is_none() || code.trim_start().starts_with('#') {
            continue;
        }
        let above = lines[..at].iter().rev().map(|line| line.trim_start());
        // The statement may have begun some lines before.
        let statement = above.take(8).take_while(|line| !line.is_empty());
        let said = |line: &str| line.contains("SAFETY:") || line.contains("# Safety");
        if !said(lines[at]) && !statement.into_iter().any(said) {
            problems.push(format!("{}:{}: `unsafe` without `SAFETY:`", source.name, at + 1));
        }
    }
    problems
}

#[cfg(test)]
#[path = "tidy/tests.rs"]
mod tests;
