//! Each check finds what it is for, and nothing else.

use super::*;

fn page(rows: &str) -> String {
    format!(
        "# x\n<!-- rooms -->\n| room | may use |\n|---|---|\n{rows}<!-- /rooms -->\n| a | b |\n"
    )
}

fn small() -> Table {
    table(&page("| low | |\n| `high` | low |\n| main | high |\n")).expect("a table")
}

#[test]
fn tables_are_read() {
    let table = small();
    assert_eq!(table.len(), 3);
    assert!(table["low"].is_empty() && table["high"].contains("low"));
    for (rows, why) in [
        ("", "an empty table"),
        ("| a | b |\n", "b is used and has no row"),
        ("| a | |\n| a | |\n", "a is there twice"),
        ("| a | | |\n", "not two columns"),
    ] {
        let error = super::table(&page(rows)).expect_err(rows);
        assert!(error.contains(why), "{error}");
    }
    assert!(super::table("| a | |").is_err());
}

#[test]
fn loops_are_found() {
    assert!(loops(&small()).is_empty());
    let round = table(&page("| a | b |\n| b | c |\n| c | a |\n| d | a |\n")).expect("a table");
    assert_eq!(loops(&round).len(), 3);
}

#[test]
fn arrows_are_found() {
    let found = |name: &str, text: &str| arrows(&Source::new(name, text), &small());
    assert!(found("src/high/mod.rs", "use crate::low::A;\nuse crate::high::B;\n").is_empty());
    assert_eq!(
        found("src/low/a.rs", "//! x\nuse crate::high::A;\n"),
        ["src/low/a.rs:2: the table has no arrow from low to high"]
    );
    assert_eq!(found("src/low/a.rs", "use crate::{high::{A, B}, low};\n").len(), 1);
    assert_eq!(found("src/low/a.rs", "fn f() { crate::high::g() }\n").len(), 1);
    assert_eq!(found("src/low/mod.rs", "use super::high::A;\n").len(), 1);
    assert_eq!(found("src/main.rs", "use ringgate::{high, low::A};\n").len(), 1);
    for text in [
        "// use crate::high::A;\n",
        "const A: &str = \"crate::high\";\n",
        "use crate::unknown::A;\n",
        "use other_crate::high::A;\n",
        "#[cfg(test)]\nmod tests {\n    use crate::high::A;\n}\n",
    ] {
        assert!(found("src/low/a.rs", text).is_empty(), "{text}");
    }
}

#[test]
fn outside_crates_are_found() {
    let found = |name: &str, text: &str| outside(&Source::new(name, text)).len();
    assert_eq!(found("src/http/a.rs", "use httparse::Header;\n"), 0);
    assert_eq!(found("src/route/a.rs", "use httparse::Header;\n"), 1);
    assert_eq!(found("src/route/a.rs", "fn f() -> wasmtime::Result<()> {}\n"), 1);
    assert_eq!(found("src/route/a.rs", "use crate::wat::A;\nuse my_wat::B;\n"), 0);
    let manifest = "[package]\nname = \"x\"\n\n[dependencies]\n# core\nlog = \"1\"\n\
                    new-crate = { version = \"1\" }\n\n[lints]\na = \"b\"\n";
    assert_eq!(undecided(manifest), ["Cargo.toml: new_crate is in neither list of t/tidy.rs"]);
}

#[test]
fn cards_are_asked_for() {
    let found = |name: &str, text: &str| card(&Source::new(name, text)).len();
    let whole = "//! Room `a`: x.\n//!\n//! In: b.\n//! Out: c.\n//! May not know: d.\n";
    assert_eq!(found("src/a/mod.rs", whole), 0);
    assert_eq!(found("src/b/mod.rs", whole), 1);
    assert_eq!(found("src/a/mod.rs", "//! Room `a`\nmod x;\n//! In: y\n"), 3);
    assert_eq!(found("src/a/b/mod.rs", ""), 0);
    assert_eq!(found("src/a/b.rs", ""), 0);
}

#[test]
fn long_lines_are_found() {
    let found = |text: &str| columns(&Source::new("src/a.rs", text)).len();
    assert_eq!(found(&"x".repeat(100)), 0);
    assert_eq!(found(&"ü".repeat(100)), 0);
    assert_eq!(found(&"x".repeat(101)), 1);
    assert_eq!(found(&format!("// {}", "x".repeat(98))), 1);
    assert_eq!(found(&format!("    (b\"{}\", 400),", "x".repeat(200))), 0);
}

#[test]
fn long_files_and_functions_are_found() {
    let function = |lines: usize| format!("fn long() {{\n{}}}\n", "    x();\n".repeat(lines - 2));
    let found = |text: &str| lengths(&Source::new("src/a.rs", text), 700).len();
    assert_eq!(found(&function(70)), 0);
    assert_eq!(found(&function(71)), 1);
    assert_eq!(found(&format!("impl A {{\n    pub(crate) const {}}}\n", function(71))), 1);
    assert_eq!(found(&format!("#[cfg(test)]\nmod tests {{\n{}}}\n", function(90))), 0);
    assert_eq!(found(&"// x\n".repeat(700)), 0);
    assert_eq!(found(&"// x\n".repeat(701)), 1);
}

#[test]
fn functions_are_measured() {
    let code = "trait T { fn none(&self); }\nfn one() {}\nfn two(a: [u8; 2]) -> u8\nwhere\n    A: B,\n\
                {\n    if x { y() }\n}\nlet f: fn (u8) = g;\n";
    let found: Vec<_> = functions(code).into_iter().map(|f| (f.name, f.line, f.lines)).collect();
    assert_eq!(found, [("one".to_owned(), 2, 1), ("two".to_owned(), 3, 6)]);
}

#[test]
fn leftovers_are_found() {
    let found = |text: &str| leftovers(&Source::new("src/a.rs", text)).len();
    assert_eq!(found("todo!();\ndbg!(x);\n// FIXME later\n// XXX\nunimplemented!()\n"), 5);
    assert_eq!(found("let s = \"todo!\";\nmy_todo!();\n// XXXL\n"), 0);
}

#[test]
fn unsafe_without_a_reason_is_found() {
    let found = |text: &str| safety(&Source::new("src/a.rs", text)).len();
    for good in [
        "// SAFETY: fine\nunsafe { x() }\n",
        "// SAFETY: fine,\n// and more\nlet a =\n    unsafe { x() };\n",
        "unsafe { x() } // SAFETY: fine\n",
        "unsafe fn f() {}\n",
        "/// # Safety\n/// Be careful.\nunsafe impl A for B {}\n",
        "// unsafe\nlet s = \"unsafe\";\n#![deny(unsafe_op_in_unsafe_fn)]\n",
    ] {
        assert_eq!(found(good), 0, "{good}");
    }
    assert_eq!(found("unsafe { x() }\n"), 1);
    assert_eq!(found("// SAFETY: of another\nunsafe { x() }\n\nunsafe impl Send for A {}\n"), 1);
}

#[test]
fn strings_and_comments_are_told_apart() {
    let code = |text: &str| Source::new("src/a.rs", text).everything;
    assert_eq!(code("a(\"b // c\"); // d\n"), "a(\"\"); \n");
    assert_eq!(code("a('\"', '\\'', b'x'); 'l: loop {}"), "a(\"\", \"\", b\"\"); 'l: loop {}");
    assert_eq!(code("r#\"a \" b\"# c"), "\"\" c");
    assert_eq!(code("br\"\\\" c"), "b\"\" c");
    assert_eq!(code("/* a /* b */ c */ d"), " d");
    assert_eq!(code("\"a\\\"b\" c \"\nd\""), "\"\" c \"\"\n");
    assert_eq!(code("for<'a> fn(&'a str) -> x"), "for<'a> fn(&'a str) -> x");
}

#[test]
fn files_of_modules_are_found() {
    let root = Source::new("src/a/mod.rs", "mod b;\n#[cfg(test)]\nmod tests;\npub mod c;\n");
    assert_eq!(root.test_modules(), ["src/a/tests.rs", "src/a/tests/mod.rs"]);
    assert!(root.modules().contains(&"src/a/c.rs".to_owned()));
    let other = Source::new("src/a/b.rs", "#[cfg(test)]\n#[path = \"b_tests.rs\"]\nmod tests;\n");
    assert_eq!(other.test_modules(), ["src/a/b_tests.rs"]);
    let of_tests: BTreeSet<String> = root.test_modules().into_iter().collect();
    let below = |name: &str| Source::new(name, "").known_as_test_by(&of_tests).is_test;
    assert!(below("src/a/tests.rs") && below("src/a/tests/rig.rs") && !below("src/a/b.rs"));
}
