//! `ringgate plugin check` and `bench`: what is said of a plugin before a gateway runs it.

use crate::harness::{Ended, Folder, module, ringgate};
use serde_json::Value;
use std::path::Path;

const PLUGIN: &str = r#"(module
    (import "env" "proxy_log" (func (param i32 i32 i32) (result i32)))
    (import "env" "proxy_teleport" (func (param i64)))
    (memory (export "memory") 2 8)
    (func (export "proxy_abi_version_0_2_0"))
    (func (export "malloc") (param i32) (result i32) (i32.const 1024))
    (func $start (export "_start"))
    (func (export "proxy_on_context_create") (param i32 i32))
    (func (export "proxy_on_configure") (param i32 i32) (result i32)
        (i32.gt_u (local.get 1) (i32.const 2)))
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (i32.const 0))
    (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32) (i32.const 0))
    (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) (i32.const 0))
    (func (export "proxy_on_log") (param i32)))"#;

fn tool(arguments: &[&str]) -> Ended {
    ringgate(["plugin"].iter().chain(arguments).copied())
}

fn written(folder: &Folder, text: &str) -> String {
    let path = folder.write("plugin.wat", text);
    path.to_str().expect("a path of text").to_owned()
}

fn json(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
}

#[test]
fn check_says_what_a_plugin_is() {
    let folder = Folder::new();
    let ended = tool(&["check", &written(&folder, PLUGIN)]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for line in [
        "  runs here     yes",
        "  ABI           0.2.0",
        "  made by       unknown",
        "  memory        128 KiB at start, at most 512 KiB",
        "  imports       env.proxy_log",
        "  stubbed       env.proxy_teleport",
        "  callbacks     _start",
        "  other exports memory",
    ] {
        assert!(ended.stdout.lines().any(|found| found == line), "{line:?} in {}", ended.stdout);
    }
    for start in ["  compiled in   ", "  started in    "] {
        assert!(ended.stdout.lines().any(|line| line.starts_with(start)), "{}", ended.stdout);
    }
}

#[test]
fn check_for_programs() {
    let folder = Folder::new();
    let found = json(&tool(&["check", "--json", &written(&folder, PLUGIN)]));
    assert_eq!(found["runs"], true);
    assert_eq!(found["problem"], Value::Null);
    assert_eq!(found["abi"], "0.2.0");
    assert_eq!(found["memory_pages"], 2);
    assert_eq!(found["memory_pages_max"], 8);
    assert_eq!(found["stubbed_imports"], serde_json::json!(["env.proxy_teleport"]));
    assert!(found["compile_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{found}");
    assert!(found["start_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{found}");
}

/// What can't run here is 1, with the reason, and all else that is known of it.
#[test]
fn check_says_why_not() {
    for (from, to, why) in [
        ("proxy_abi_version_0_2_0", "abi", "not a Proxy-Wasm plugin: no export proxy_abi_version"),
        ("\"malloc\"", "\"new\"", "no export proxy_on_memory_allocate or malloc"),
        (
            "(func $start (export \"_start\"))",
            "(func (export \"_start\") unreachable)",
            "unreachable",
        ),
        ("(memory (export \"memory\")", "(memory (export \"heap\")", "no memory is exported"),
    ] {
        let folder = Folder::new();
        let file = written(&folder, &PLUGIN.replace(from, to));
        let ended = tool(&["check", &file]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let line = ended.stdout.lines().find(|line| line.starts_with("  runs here     no: "));
        assert!(ended.stdout.contains(why) && line.is_some(), "{why}: {ended:?}");
        assert_eq!(json(&tool(&["check", "--json", &file]))["runs"], false);
    }
    let folder = Folder::new();
    for (text, why) in [("(module (oops))", "not a WebAssembly module"), ("", "not a WebAssembly")]
    {
        let ended = tool(&["check", &written(&folder, text)]);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
        assert!(ended.stderr.contains(why), "{ended:?}");
    }
    let ended = tool(&["check", "/nowhere/plugin.wasm"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("/nowhere/plugin.wasm: can't be read"), "{ended:?}");
}

#[test]
fn sdks_are_guessed() {
    for (file, sdk) in [
        ("dist/fault_injection_rust.wasm", "Rust SDK (proxy-wasm)"),
        ("dist/fault_injection_as.wasm", "AssemblyScript SDK"),
        ("dist/fault_injection_c.wasm", "C, no SDK"),
    ] {
        let path = module(file);
        let found = json(&tool(&["check", "--json", path_text(&path)]));
        assert_eq!((&found["sdk"], &found["runs"]), (&sdk.into(), &true.into()), "{found}");
    }
}

fn path_text(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

#[test]
fn bench_times_the_callbacks_there_are() {
    let folder = Folder::new();
    let file = written(&folder, PLUGIN);
    let arguments = ["bench", &file, "--conf", "{\"a\": 1}", "--streams", "50", "--instances", "3"];
    let ended = tool(&arguments);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("the request went on"), "{ended:?}");
    let found = json(&tool(&[&arguments[..], &["--json"]].concat()));
    let steps = found["steps"].as_array().expect("steps");
    let steps: Vec<_> =
        steps.iter().map(|step| (step["step"].as_str(), step["times"].as_u64())).collect();
    assert_eq!(
        steps,
        [
            (Some("start an instance"), Some(3)),
            (Some("configure it"), Some(3)),
            (Some("context_create"), Some(50)),
            (Some("request_headers"), Some(50)),
            (Some("request_body"), Some(50)),
            (Some("response_headers"), Some(50)),
            (Some("done, log, delete"), Some(50)),
            (Some("a stream as it runs"), Some(50)),
            (Some("drop it"), Some(3)),
        ]
    );
    let no_body = json(&tool(&[&arguments[..], &["--json", "--body", "0"]].concat()));
    assert_eq!(no_body["steps"].as_array().map(Vec::len), Some(8), "{no_body}");
}

#[test]
fn bench_says_what_went_wrong() {
    let folder = Folder::new();
    let log = "(func (export \"proxy_on_log\") (param i32)";
    let trap = PLUGIN.replace(log, &format!("{log} unreachable"));
    assert_ne!(trap, PLUGIN);
    for (text, conf, why) in [
        (PLUGIN, "x", "proxy_on_configure returned false"),
        (PLUGIN, "@/nowhere/conf.json", "/nowhere/conf.json: can't be read"),
        (&trap, "{\"a\": 1}", "unreachable"),
        ("(module)", "{\"a\": 1}", "no memory is exported"),
    ] {
        let ended = tool(&["bench", &written(&folder, text), "--conf", conf]);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
        assert!(ended.stderr.contains(why), "{why}: {ended:?}");
    }
}
