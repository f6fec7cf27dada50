//! The example plugins, as their toolchains made them.

use super::super::{OnError, PluginSettings, Source};
use super::{Rig, lines};
use crate::plugin::Action;
use serde_json::{Value, json};
use std::path::PathBuf;

/// The settings of an example plugin; none if it has not been built.
fn example(name: &str) -> Option<PluginSettings> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let path = root.join("examples/plugins/dist").join(name);
    if !path.exists() {
        println!("skipped: {} is not there", path.display());
        return None;
    }
    Some(PluginSettings::new("p", 0, Source::File(path)))
}

fn rig(settings: PluginSettings, conf: &Value) -> Rig {
    try_rig(settings, conf).unwrap_or_else(|error| panic!("{error}"))
}

fn try_rig(settings: PluginSettings, conf: &Value) -> Result<Rig, String> {
    let host = super::host();
    let plugins = host.load(vec![settings]).map_err(|errors| errors[0].to_string())?;
    let plugin = plugins.plugin("p", &json!({ "conf": conf })).map_err(|e| e.to_string())?;
    Rig::of(host, plugins, plugin)
}

#[test]
fn fault_injection_in_three_languages() {
    for name in ["fault_injection_rust.wasm", "fault_injection_as.wasm", "fault_injection_c.wasm"] {
        let Some(settings) = example(name) else { continue };
        let mut one = rig(settings.clone(), &json!({"http_status": 503, "body": "try later\n"}));
        for _ in 0..100 {
            assert_eq!(one.request_headers(), Action::Respond, "{name}");
            assert_eq!(one.message.local.status, 503, "{name}");
            assert_eq!(one.message.local.body.as_deref(), Some(&b"try later\n"[..]), "{name}");
            one.log();
            one.next();
        }
        let mut never = rig(settings.clone(), &json!({"http_status": 503, "percentage": 0}));
        assert_eq!(never.request_headers(), Action::Continue, "{name}");
        let mut no_body = rig(settings.clone(), &json!({"http_status": 401}));
        assert_eq!(no_body.request_headers(), Action::Respond, "{name}");
        assert_eq!(no_body.message.local.body, None, "{name}");
        let bad = json!({"http_status": 503, "percentage": "all"});
        let error = try_rig(settings, &bad).map(|_| ()).expect_err(name);
        assert!(error.contains("proxy_on_configure returned false"), "{name}: {error}");
        assert!(error.contains("percentage"), "{name}: {error}");
    }
    lines();
}

#[test]
fn headers_in_rust() {
    let Some(settings) = example("header_rust.wasm") else { return };
    let conf = json!({"request": {"x-a": "1"}, "response": {"x-b": "2"}});
    let mut rig = rig(settings, &conf);
    assert_eq!(rig.request_headers(), Action::Continue);
    assert_eq!(rig.response_headers(), Action::Continue);
    assert_eq!(rig.message.request.headers.get(b"x-a"), Some(&b"1"[..]));
    assert_eq!(rig.message.response.headers.get(b"x-b"), Some(&b"2"[..]));
    rig.log();
    assert!(!lines().iter().any(|line| line.starts_with("ERROR")));
}

#[test]
fn bodies_in_rust() {
    let Some(settings) = example("body_rust.wasm") else { return };
    let conf =
        json!({"request": {"from": "aa", "to": "b"}, "response": {"from": "x", "to": "yyy"}});
    let mut rig = rig(settings, &conf);
    rig.message.request.headers.append(b"content-length", b"6");
    rig.request_headers();
    let action = rig.request_body(b"1aa", false);
    assert!(matches!(action, Action::Pause(_)), "{action:?}");
    assert_eq!(rig.request_body(b"2aa", true), Action::Continue);
    assert_eq!(rig.message.body, b"1b2b");
    rig.message.body.clear();
    rig.response_headers();
    rig.response_body(b"axb", true);
    assert_eq!(rig.message.body, b"ayyyb");
    rig.log();
    assert!(!lines().iter().any(|line| line.starts_with("ERROR")));
}

#[test]
fn the_trap_fixture_fails_wherever_it_is_told() {
    let Some(mut settings) = example("trap.wasm") else { return };
    settings.deadline_ms = 20;
    settings.memory_bytes_max = 4 << 20;
    // Keeps the compiled module for all rigs.
    let _loaded = super::host().load(vec![settings.clone()]).expect("loaded");
    let callbacks = [
        "on_stream_create",
        "on_request_headers",
        "on_request_body",
        "on_request_trailers",
        "on_response_headers",
        "on_response_body",
        "on_response_trailers",
        "on_done",
        "on_log",
        "on_delete",
    ];
    let mut rows = 0;
    for on_error in [OnError::Closed, OnError::Open] {
        settings.on_error = on_error;
        for what in ["trap", "loop", "recurse"] {
            for callback in callbacks {
                let mut rig = rig(settings.clone(), &json!(format!("{what}={callback}")));
                rig.request_headers();
                rig.request_body(b"x", true);
                rig.request_trailers();
                rig.response_headers();
                rig.response_body(b"x", true);
                rig.response_trailers();
                rig.log();
                let said =
                    lines().iter().filter(|line| line.starts_with("ERROR [p] proxy_on")).count();
                assert_eq!(said, 1, "{what}={callback}");
                rows += 1;
            }
        }
    }
    for what in ["trap", "recurse", "false"] {
        let conf = json!(format!("{what}=on_configure"));
        assert!(try_rig(settings.clone(), &conf).is_err(), "{what}=on_configure");
        rows += 1;
    }
    println!("{rows} rows of the trap fixture");
    let mut oob = rig(settings.clone(), &json!("oob=on_request_headers"));
    assert_eq!(oob.request_headers(), Action::Respond);
    let body =
        String::from_utf8_lossy(oob.message.local.body.as_deref().unwrap_or_default()).into_owned();
    assert!(body.split_whitespace().all(|pair| pair.ends_with("=6")), "{body}");
    let mut grow = rig(settings, &json!("grow=on_request_headers"));
    assert_eq!(grow.request_headers(), Action::Respond);
    let body = String::from_utf8_lossy(grow.message.local.body.as_deref().unwrap_or_default())
        .into_owned();
    assert!(body.contains("pages=64"), "{body}");
    lines();
}

#[test]
fn the_probe_fixture_sees_the_request() {
    let Some(settings) = example("probe.wasm") else { return };
    let mut rig = rig(settings, &json!("anything"));
    rig.message.request.target = b"/probe/x?y=z".to_vec();
    assert_eq!(rig.request_headers(), Action::Respond);
    let body = rig.message.local.body.as_deref().unwrap_or_default();
    let body = String::from_utf8_lossy(body).into_owned();
    for line in [
        ":path: /probe/x?y=z",
        "user-agent: test",
        "set probe.note status=0",
        "prop probe.note=written by the plugin",
    ] {
        assert!(body.contains(line), "no {line:?} in\n{body}");
    }
    println!("{body}");
}
