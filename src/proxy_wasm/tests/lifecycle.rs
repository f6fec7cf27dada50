//! The order of callbacks and what their return values do.

use super::super::pool;
use super::{Guest, Rig, lines, settings};
use crate::plugin::{Action, Hold, Hooks, Locals};
use serde_json::json;

/// Answers every request with 418.
pub(super) const MINIMAL: &str = r#"(module
    (import "env" "proxy_send_local_response"
        (func $respond (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 64) "short and stout")
    (func (export "proxy_abi_version_0_2_1"))
    (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 1024))
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (call $respond (i32.const 418) (i32.const 0) (i32.const 0) (i32.const 64) (i32.const 15)
            (i32.const 0) (i32.const 0) (i32.const -1))))"#;

#[test]
fn a_minimal_plugin_answers() {
    let mut rig = Rig::new(MINIMAL);
    assert_eq!(rig.request_headers(), Action::Respond);
    assert_eq!(rig.message.local.status, 418);
    assert_eq!(rig.message.local.body.as_deref(), Some(&b"short and stout"[..]));
    rig.log();
    assert_eq!(lines(), [""; 0]);
}

/// Says every callback with its context.
fn tracer() -> Guest {
    let mut guest = Guest::new();
    for name in [
        "context_create",
        "vm_start",
        "configure",
        "request_headers",
        "request_body",
        "request_trailers",
        "response_headers",
        "response_body",
        "response_trailers",
        "done",
        "log",
        "delete",
    ] {
        let say = guest.say_context(name);
        let result = u32::from(matches!(name, "vm_start" | "configure" | "done"));
        guest.on(name, &say, result);
    }
    guest
}

fn said() -> Vec<String> {
    lines().iter().map(|line| line.replace("INFO [p] ", "")).collect()
}

#[test]
fn callbacks_come_in_the_order_of_the_abi() {
    let mut rig = Rig::new(&tracer().text());
    for _ in 0..2 {
        rig.request_headers();
        rig.request_body(b"x", false);
        rig.request_body(b"x", true);
        rig.request_trailers();
        rig.response_headers();
        rig.response_body(b"x", true);
        rig.response_trailers();
        rig.log();
        rig.next();
    }
    let stream = |id: u32| {
        let names = "context_create request_headers request_body request_body request_trailers \
            response_headers response_body response_trailers done log delete";
        names.split_whitespace().map(|name| format!("{name} {id}")).collect::<Vec<_>>()
    };
    assert_eq!(said(), [stream(2), stream(3)].concat());
}

#[test]
fn every_way_to_start() {
    let root = ["context_create 1", "vm_start 1", "configure 1"];
    let with = |more: &dyn Fn(&mut Guest) -> String, expected: &[&str]| {
        let mut guest = tracer();
        let start = more(&mut guest);
        let settings = settings(&guest.text_with(&format!(
            "{start} (func (export \"malloc\") (param i32) (result i32) (i32.const 4096))"
        )));
        let host = super::host();
        let plugins = host.load(vec![settings]).expect("loaded");
        lines();
        plugins.plugin("p", &json!({"conf": "c"})).expect("configured");
        assert_eq!(said(), [expected, &root].concat());
    };
    with(&|_| String::new(), &[]);
    with(
        &|guest| {
            let (init, main) = (guest.say("_initialize"), guest.say("main"));
            let never = guest.say("_start");
            format!(
                "(func (export \"_initialize\") {init}) (func (export \"_start\") {never})
                 (func (export \"main\") (param i32 i32) (result i32) {main} (i32.const 0))
                 (func (export \"__main_void\") (result i32) unreachable)"
            )
        },
        &["_initialize", "main"],
    );
    with(
        &|guest| {
            let main = guest.say("__main_void");
            format!(
                "(func (export \"_initialize\"))
                 (func (export \"__main_void\") (result i32) {main} (i32.const 0))"
            )
        },
        &["__main_void"],
    );
    with(
        &|guest| {
            let start = guest.say("_start");
            format!("(func (export \"_start\") {start})")
        },
        &["_start"],
    );
    with(
        &|guest| {
            let start = guest.say("start section");
            format!("(func $top {start}) (start $top)")
        },
        &["start section"],
    );
}

#[test]
fn a_command_that_exits_with_0_has_started() {
    let exit = |code: u32| {
        let text = MINIMAL.replace(
            "(memory",
            r#"(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32))) (memory"#,
        );
        let start = format!(
            r#"(func (export "_start") (call $exit (i32.const {code})) unreachable)
               (func (export "proxy_abi"#
        );
        text.replacen(r#"(func (export "proxy_abi"#, &start, 1)
    };
    assert_eq!(Rig::new(&exit(0)).request_headers(), Action::Respond);
    assert!(Rig::try_with(settings(&exit(1))).is_err());
}

#[test]
fn version_0_1_0_has_two_arguments_and_empty_headers() {
    let mut guest = Guest::new();
    guest.abi = "proxy_abi_version_0_1_0";
    let key = guest.bytes(b"x-missing");
    let get = guest.call(
        "env.proxy_get_header_map_value",
        &[0.into(), key.0.into(), key.1.into(), 16.into(), 20.into()],
    );
    let report = guest.report(&get);
    guest.export(
        "proxy_on_request_headers",
        "(param i32 i32) (result i32)",
        &format!("{report} (i32.const 0)"),
    );
    let mut rig = Rig::new(&guest.text());
    assert_eq!(rig.request_headers(), Action::Continue);
    assert_eq!(rig.reported(), (0, Vec::new()));
}

#[test]
fn arity_comes_from_the_export_whatever_the_marker_says() {
    let text = tracer().text().replace("proxy_abi_version_0_2_1", "proxy_abi_version_0_1_0");
    assert_eq!(Rig::new(&text).request_headers(), Action::Continue);
}

#[test]
fn return_values_hold() {
    let returning = |callback: &str, value: u32| {
        let mut guest = Guest::new();
        guest.on(callback, "", value);
        guest.text()
    };
    let all = Action::Pause(Hold::All);
    let body = Action::Pause(Hold::Body);
    let headers =
        [(0, Action::Continue), (1, all), (2, Action::Continue), (3, all), (4, all), (99, all)];
    for (value, action) in headers {
        assert_eq!(Rig::new(&returning("request_headers", value)).request_headers(), action);
    }
    for (value, action) in [(0, Action::Continue), (1, body), (2, body), (3, body), (99, body)] {
        let mut rig = Rig::new(&returning("request_body", value));
        rig.request_headers();
        assert_eq!(rig.request_body(b"bytes", false), action);
        let kept: &[u8] = if value > 2 { b"" } else { b"bytes" };
        assert_eq!(rig.message.body, kept, "{value}");
    }
    for (value, action) in [(0, Action::Continue), (1, all)] {
        let mut rig = Rig::new(&returning("response_trailers", value));
        rig.request_headers();
        assert_eq!(rig.response_trailers(), action);
    }

    let text = returning("request_headers", 1);
    let mut own = settings(&text);
    own.pause = Hold::Body;
    assert_eq!(Rig::with(own).request_headers(), body, "by the setting");
    let higress = text.replace("0_2_1", "0_2_100");
    assert_eq!(Rig::new(&higress).request_headers(), body, "by the version");
}

#[test]
fn missing_callbacks_go_on_and_are_not_asked_for() {
    let mut rig = Rig::new(&Guest::new().text());
    let always = Hooks::REQUEST_HEADERS | Hooks::LOG | Hooks::WAITS;
    assert_eq!(rig.plugin.hooks(), always);
    assert_eq!(rig.request_headers(), Action::Continue);
    assert_eq!(rig.response_body(b"x", true), Action::Continue);
    rig.log();

    let mut guest = Guest::new();
    guest.on("response_body", "", 0);
    let hooks = Rig::new(&guest.text()).plugin.hooks();
    assert!(hooks.has(Hooks::RESPONSE_BODY) && !hooks.has(Hooks::REQUEST_BODY));
}

#[test]
fn requests_that_never_came_are_shown_only_to_guests_that_log() {
    let mut rig = Rig::new(&tracer().text());
    rig.log();
    assert_eq!(said(), ["context_create 2", "done 2", "log 2", "delete 2"]);

    let mut guest = Guest::new();
    let say = guest.say("done");
    guest.on("done", &say, 1);
    let mut rig = Rig::new(&guest.text());
    rig.log();
    assert_eq!(said(), [""; 0]);
}

#[test]
fn equal_confs_share_a_root_context() {
    let mut rig = Rig::new(&tracer().text());
    let ask = |conf| rig.plugins.plugin("p", &conf).expect("configured");
    let same = ask(json!({"conf": "c", "other": 1}));
    assert!(std::sync::Arc::ptr_eq(&same, &rig.plugin));
    let object = ask(json!({"conf": {"b": 1, "a": [true]}}));
    assert!(std::sync::Arc::ptr_eq(&object, &ask(json!({"conf": {"b": 1, "a": [true]}}))));
    assert!(!std::sync::Arc::ptr_eq(&object, &rig.plugin));

    lines();
    same.prepare(&mut rig.locals).expect("ready");
    assert_eq!(said(), [""; 0], "nothing new");
    object.prepare(&mut rig.locals).expect("ready");
    let root = ["context_create 2", "vm_start 2", "configure 2"];
    assert_eq!(said(), [root, root].concat(), "one more root context in both instances");
    rig.request_headers();
    rig.log();
    assert_eq!(said()[0], "context_create 3", "streams and roots share one count");
}

#[test]
fn the_root_context_of_a_conf_ends_with_its_last_use() {
    let mut rig = Rig::new(&tracer().text());
    let other = rig.plugins.plugin("p", &json!({"conf": "d"})).expect("configured");
    other.prepare(&mut rig.locals).expect("ready");
    drop(other);
    lines();
    rig.plugin.maintain(&mut rig.locals);
    assert_eq!(said(), ["done 2", "delete 2", "done 2", "delete 2"], "in both instances");
    rig.plugin.maintain(&mut rig.locals);
    assert_eq!(said(), [""; 0]);
}

#[test]
fn a_root_context_may_take_its_time() {
    let mut guest = Guest::new();
    let done = guest.call("env.proxy_done", &[]);
    let (delete, tell) = (guest.say_context("delete"), guest.say("done?"));
    guest.on("done", &format!("{tell} (drop {done})"), 0);
    guest.on("delete", &delete, 0);
    guest.on("request_headers", "", 0);
    let mut one = settings(&guest.text());
    one.pool = 1;
    let mut rig = Rig::with(one);
    let other = rig.plugins.plugin("p", &json!({"conf": "d"})).expect("configured");
    other.prepare(&mut rig.locals).expect("ready");
    drop(other);
    lines();
    for _ in 0..3 {
        rig.plugin.maintain(&mut rig.locals);
    }
    // It said no, and it was not yet waiting when the guest called proxy_done inside of it.
    assert_eq!(said(), ["done?"]);
}

#[test]
fn a_conf_may_come_back_while_its_root_context_is_ending() {
    let mut guest = Guest::new();
    let create = guest.say_params("context_create", 2);
    let (asked, deleted) = (guest.say_context("done"), guest.say_context("delete"));
    // A request of the other conf tells that the root context 2 has finished.
    let become_ending = guest.call("env.proxy_set_effective_context", &[2.into()]);
    let done = guest.call("env.proxy_done", &[]);
    guest.on("context_create", &create, 0);
    guest.on("done", &asked, 0);
    guest.on("delete", &deleted, 0);
    guest.on("request_headers", &format!("(drop {become_ending}) (drop {done})"), 0);
    let mut one = settings(&guest.text());
    one.pool = 1;
    let mut rig = Rig::with(one);
    let other = |rig: &mut Rig| {
        let other = rig.plugins.plugin("p", &json!({"conf": "d"})).expect("configured");
        lines();
        other.prepare(&mut rig.locals).expect("ready");
        other
    };
    drop(other(&mut rig));
    rig.plugin.maintain(&mut rig.locals);
    assert_eq!(said(), ["context_create 20", "done 2"]);
    let back = other(&mut rig);
    assert_eq!(said(), ["context_create 30"], "a root context of its own");
    rig.plugin.maintain(&mut rig.locals);
    assert_eq!(said(), [""; 0], "the old one waits for the guest");
    rig.request_headers();
    assert_eq!(said(), ["context_create 41"]);
    rig.plugin.maintain(&mut rig.locals);
    assert_eq!(said(), ["delete 2"]);
    rig.log();
    rig.next();
    lines();
    // The new one serves on.
    rig.plugin = back;
    rig.request_headers();
    assert_eq!(said(), ["context_create 53"]);
}

#[test]
fn pools_of_entries_that_are_gone_are_swept() {
    let Rig { host: _host, plugins, plugin, mut locals, .. } = Rig::new(&tracer().text());
    lines();
    pool::sweep(&mut locals);
    assert_eq!(said(), [""; 0], "it is in use");
    drop((plugins, plugin));
    pool::sweep(&mut locals);
    assert_eq!(said(), ["done 1", "delete 1", "done 1", "delete 1"]);
}

#[test]
fn an_unchanged_entry_keeps_its_plugins() {
    let rig = Rig::new(MINIMAL);
    let again = rig.host.load(vec![settings(MINIMAL)]).expect("loaded");
    let plugin = again.plugin("p", &json!({"conf": "c"})).expect("configured");
    assert!(std::sync::Arc::ptr_eq(&plugin, &rig.plugin));
    let mut changed = settings(MINIMAL);
    changed.pool = 3;
    let again = rig.host.load(vec![changed]).expect("loaded");
    let plugin = again.plugin("p", &json!({"conf": "c"})).expect("configured");
    assert!(!std::sync::Arc::ptr_eq(&plugin, &rig.plugin));
    plugin.prepare(&mut Locals::new(0)).expect("ready");
}
