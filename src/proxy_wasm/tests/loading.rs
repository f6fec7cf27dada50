//! What is refused, and how it is said.

use super::super::{PluginSettings, Reason, Source, inspect};
use super::lifecycle::MINIMAL;
use super::{Guest, Rig, host, lines, settings};
use crate::plugin::Loader;
use crate::schema::{Path, Problems, Reader};
use crate::vm::LoadError;
use serde_json::{Value, json};

fn refusal(text: &str) -> Reason {
    match host().load(vec![settings(text)]) {
        Ok(_) => panic!("loaded:\n{text}"),
        Err(mut errors) => errors.remove(0).reason,
    }
}

#[test]
fn modules_that_can_not_be_plugins() {
    let memory = "(memory (export \"memory\") 1)";
    let abi = "(func (export \"proxy_abi_version_0_2_0\"))";
    let malloc = "(func (export \"malloc\") (param i32) (result i32) (i32.const 0))";
    for (text, message) in [
        (format!("(module {abi} {malloc})"), "no memory is exported under the name \"memory\""),
        (
            format!("(module {abi} {malloc} (func (export \"memory\")))"),
            "no memory is exported under the name \"memory\"",
        ),
        (
            format!("(module {abi} {malloc} (memory (export \"memory\") i64 1))"),
            "its memory has 64-bit addresses; the ABI has 32-bit ones",
        ),
        (
            format!(
                "(module {memory} {malloc}
                 (global (export \"proxy_abi_version_0_2_1\") i32 (i32.const 0)))"
            ),
            "not a Proxy-Wasm plugin: no export proxy_abi_version_0_1_0, _0_2_0 or _0_2_1",
        ),
        (format!("(module {memory} {abi})"), "no export proxy_on_memory_allocate or malloc"),
        (
            format!(
                "(module (import \"env\" \"table\" (table 1 funcref)) {memory} {abi} {malloc})"
            ),
            "imports the table env.table; only functions can be imported",
        ),
        (
            format!(
                "(module {memory} {abi} {malloc} (func (export \"proxy_on_log\") (param i64)))"
            ),
            "export proxy_on_log has type (i64), expected (i32)",
        ),
        (
            format!(
                "(module {memory} {abi} {malloc} (func (export \"proxy_on_request_headers\") \
                 (param i32) (result i32 i32) (i32.const 0) (i32.const 0)))"
            ),
            "export proxy_on_request_headers has type (i32) -> (i32, i32), \
             expected (i32, i32) -> i32 or (i32, i32, i32) -> i32",
        ),
        (
            format!(
                "(module {memory} {abi} {malloc} (func (export \"proxy_on_done\") (param i32)))"
            ),
            "export proxy_on_done has type (i32), expected (i32) -> i32",
        ),
        (
            format!(
                "(module {memory} {abi} {malloc} (global (export \"_start\") i32 (i32.const 0)))"
            ),
            "export _start has type no function, expected ()",
        ),
    ] {
        assert_eq!(refusal(&text).to_string(), message, "{text}");
    }
    assert!(matches!(refusal("junk"), Reason::Load(LoadError::NotWasm(_))));
    let nowhere = Source::File("/nowhere/x.wasm".into());
    let errors = host().load(vec![PluginSettings::new("p", 0, nowhere)]).expect_err("no file");
    assert!(errors[0].to_string().starts_with("plugin p: can't be read: "), "{}", errors[0]);
}

#[test]
fn all_entries_are_looked_at() {
    let named = |name: &str, text: &str| PluginSettings { name: name.to_owned(), ..settings(text) };
    let entries =
        vec![named("a", "junk"), named("b", MINIMAL), named("b", MINIMAL), named("c", "(module)")];
    let errors = host().load(entries).expect_err("three are wrong");
    let names: Vec<_> = errors.iter().map(|error| error.plugin.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(errors[1].reason, Reason::Duplicate);
    assert!(errors[0].hint().is_some());
}

#[test]
fn confs_are_a_string_or_an_object_with_something_in_it() {
    let rig = Rig::new(MINIMAL);
    let bad = "property \"conf\" validation failed: \
               value should match only one schema, but matches none";
    for (conf, message) in [
        (json!({}), "property \"conf\" is required"),
        (json!({"config": "x"}), "property \"conf\" is required"),
        (json!("x"), "property \"conf\" is required"),
        (json!({"conf": ""}), bad),
        (json!({"conf": {}}), bad),
        (json!({"conf": []}), bad),
        (json!({"conf": [1]}), bad),
        (json!({"conf": 1}), bad),
        (json!({"conf": null}), bad),
        (json!({"conf": true}), bad),
    ] {
        let error = rig.plugins.plugin("p", &conf).expect_err("refused");
        assert_eq!(error.reason.to_string(), message, "{conf}");
    }
    let unknown = rig.plugins.plugin("q", &json!({"conf": "x"})).expect_err("no such entry");
    assert_eq!(unknown.reason, Reason::Unknown);
}

#[test]
fn confs_reach_the_guest_as_they_are() {
    let mut guest = Guest::new();
    let get = guest.call(
        "env.proxy_get_buffer_bytes",
        &[7.into(), 0.into(), u32::MAX.into(), 16.into(), 20.into()],
    );
    let log = "(drop (call $env.proxy_log (i32.const 2)
        (i32.load (i32.const 16)) (i32.load (i32.const 20))))";
    guest.on("configure", &format!("(drop {get}) {log}"), 1);
    let rig = Rig::new(&guest.text());
    for (conf, seen) in [
        (json!({"conf": " {\"a\" : 1}\u{0} "}), " {\"a\" : 1}\0 "),
        (json!({"conf": {"b": 1, "a": "ü"}}), "{\"b\":1,\"a\":\"ü\"}"),
    ] {
        rig.plugins.plugin("p", &conf).expect("configured");
        assert_eq!(lines(), [format!("INFO [p] {seen}")]);
    }
}

#[test]
fn a_guest_that_refuses_is_quoted() {
    let mut guest = Guest::new();
    let (at, len) = guest.bytes(b"percentage must be a number");
    let say =
        format!("(drop (call $env.proxy_log (i32.const 4) (i32.const {at}) (i32.const {len})))");
    guest.on("configure", &say, 0);
    let refused = refused(&guest.text());
    assert_eq!(refused, "proxy_on_configure returned false; it said: percentage must be a number");

    let mut guest = Guest::new();
    guest.on("vm_start", "", 0).on("configure", "unreachable", 1);
    assert_eq!(self::refused(&guest.text()), "proxy_on_vm_start returned false");

    let mut guest = Guest::new();
    guest.on("configure", &format!("{say} (call $boom)"), 1);
    let (at_, len_) = guest.bytes(b"percentage must be a number");
    assert_eq!((at, len), (at_, len_));
    let text = guest.text().replace("(global $top", "(func $boom unreachable) (global $top");
    let refused = self::refused(&text);
    assert!(refused.starts_with("failed while being configured; it said: percentage"), "{refused}");
    assert!(refused.contains("unreachable") && refused.contains("proxy_on_configure"), "{refused}");

    let text = MINIMAL.replacen(
        "(func (export",
        "(func (export \"_start\") unreachable) (func (export",
        1,
    );
    assert!(self::refused(&text).starts_with("failed to start: "));
}

fn refused(text: &str) -> String {
    match Rig::try_with(settings(text)) {
        Ok(_) => panic!("configured:\n{text}"),
        Err(errors) => errors[0].reason.to_string(),
    }
}

#[test]
fn as_a_loader_it_points_at_the_conf() {
    let mut rig = Rig::new(MINIMAL);
    assert_eq!(rig.plugins.names(), ["p"]);
    let load = |rig: &mut Rig, value: &Value| {
        let problems = Problems::default();
        let loaded = rig.plugins.load("p", Reader::new(value, Path::root().key("p"), &problems));
        let (errors, _) = problems.into_parts();
        (loaded.is_some(), errors.into_iter().map(|e| (e.at.to_string(), e.on_key)).next())
    };
    assert_eq!(load(&mut rig, &json!({"conf": "c"})), (true, None));
    assert_eq!(load(&mut rig, &json!({"conf": 1})), (false, Some(("p.conf".to_owned(), false))));
    assert_eq!(load(&mut rig, &json!({})), (false, Some(("p".to_owned(), true))));
}

#[test]
fn unknown_imports_are_stubs_that_say_what_is_missing() {
    let mut guest = Guest::new();
    let missing = guest.call("env.proxy_teleport", &[1.into(), super::guest::Arg::L(2)]);
    guest.on("request_headers", &format!("(drop {missing})"), 0);
    let other_type = guest.call("env.proxy_get_log_level", &[1.into(), 2.into()]);
    guest.on("request_body", &format!("(drop {other_type})"), 0);
    let mut rig = Rig::new(&guest.text());
    rig.request_headers();
    let line = lines().remove(0);
    let what =
        "the guest called env.proxy_teleport (i32, i64) -> i32, which this host does not have";
    assert!(line.contains(what), "{line}");

    let module = rig.plugins_module();
    let found = inspect(&module);
    assert_eq!(found.unknown_imports, ["env.proxy_teleport", "env.proxy_get_log_level"]);
    assert_eq!(found.imports, ["env.proxy_log", "env.proxy_set_property"]);
    assert_eq!((found.abi, found.problem), (Some("0.2.1"), None));
    assert!(found.callbacks.contains(&"proxy_on_request_body".to_owned()));
}
