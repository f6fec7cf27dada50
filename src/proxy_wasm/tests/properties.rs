//! Properties through the ABI: paths, encodings, presence by phase, set and read back.

use super::guest::{Arg, OUT, OUT_LEN};
use super::{Guest, Rig, settings};
use crate::http::BodyLength;
use crate::plugin::RouteFacts;
use std::rc::Rc;

fn get(guest: &mut Guest, path: &str) -> String {
    let (at, len) = guest.bytes(path.as_bytes());
    guest.call("env.proxy_get_property", &[at, len, OUT, OUT_LEN].map(Arg::W))
}

/// A rig whose guest asks for one property in one callback.
fn asking(phase: &str, path: &str) -> Rig {
    let mut guest = Guest::new();
    let call = get(&mut guest, path);
    let report = guest.report(&call);
    guest.on(phase, &report, 0);
    let mut settings = settings(&guest.text());
    settings.vm_id = "vm".to_owned();
    let mut rig = Rig::with(settings);
    let message = &mut rig.message;
    message.connection.peer = "192.0.2.1:5000".parse().expect("address");
    message.connection.local = "[::1]:9080".parse().expect("address");
    message.connection.id = 7;
    message.started_ns = 1_000;
    message.request.body = BodyLength::Known(11);
    message.request.headers.append(b"Referer", b"r");
    message.request.headers.append(b"X-Many", b"1");
    message.request.headers.append(b"x-many", b"2");
    message.request.headers.append(b"x.dots", b"d");
    message.route = Some(Rc::new(RouteFacts {
        route_id: "r1".to_owned(),
        upstream_name: "up".to_owned(),
        ..RouteFacts::default()
    }));
    message.upstream = Some("192.0.2.2:80".parse().expect("address"));
    message.properties.push((b"note".to_vec(), b"kept".to_vec()));
    rig
}

fn ask(phase: &str, path: &str) -> Option<Vec<u8>> {
    let mut rig = asking(phase, path);
    rig.request_headers();
    if phase != "request_headers" {
        rig.response_headers();
        rig.message.response_bytes = 5;
        rig.message.response.headers.append(b"grpc-status", b"3");
        rig.log();
    }
    let (status, bytes) = rig.reported();
    match status {
        0 => Some(bytes),
        1 => None,
        other => panic!("{path}: status {other}"),
    }
}

fn int(value: u64) -> Vec<u8> {
    value.to_le_bytes().to_vec()
}

#[test]
fn values_while_the_request_is_there() {
    for (path, value) in [
        ("request\0path", b"/a?b=c".to_vec()),
        ("request\0path\0", b"/a?b=c".to_vec()),
        ("request\0url_path", b"/a".to_vec()),
        ("request\0query", b"b=c".to_vec()),
        ("request\0host", b"host.example".to_vec()),
        ("request\0scheme", b"http".to_vec()),
        ("request\0method", b"GET".to_vec()),
        ("request\0protocol", b"HTTP/1.1".to_vec()),
        ("request\0referer", b"r".to_vec()),
        ("request\0useragent", b"test".to_vec()),
        ("request\0headers\0x-many", b"1,2".to_vec()),
        ("request\0headers\0x.dots", b"d".to_vec()),
        ("request\0headers\0:path", b"/a?b=c".to_vec()),
        ("request\0time", int(1_000)),
        ("request\0size", int(11)),
        ("source\0address", b"192.0.2.1:5000".to_vec()),
        ("source\0port", int(5_000)),
        ("destination\0address", b"[::1]:9080".to_vec()),
        ("destination\0port", int(9_080)),
        ("upstream\0address", b"192.0.2.2:80".to_vec()),
        ("upstream\0port", int(80)),
        ("connection\0id", int(7)),
        ("connection_id", int(7)),
        ("connection\0mtls", vec![0]),
        ("plugin_name", b"p".to_vec()),
        ("plugin_root_id", b"p".to_vec()),
        ("plugin_vm_id", b"vm".to_vec()),
        ("route_name", b"r1".to_vec()),
        ("xds\0route_name", b"r1".to_vec()),
        ("cluster_name", b"up".to_vec()),
        ("xds\0listener_direction", int(1)),
        ("note", b"kept".to_vec()),
        ("note\0below", b"kept".to_vec()),
        ("filter_state\0wasm.note", b"kept".to_vec()),
        ("uri", b"/a".to_vec()),
        ("arg_b", b"c".to_vec()),
    ] {
        assert_eq!(ask("request_headers", path), Some(value), "{path:?}");
    }
    let memory = ask("request_headers", "plugin_vm_memory");
    assert_eq!(memory, Some(int(65_536)));
    let map = ask("request_headers", "request\0headers").expect("a map");
    assert_eq!(map[..4], 9_u32.to_le_bytes());
}

#[test]
fn what_is_not_there_is_not_found() {
    for path in [
        "",
        "\0",
        "request\0nothing",
        "request\0headers\0x-missing",
        "request\0id",
        "request\0duration",
        "request\0total_size",
        "response\0code",
        "response\0headers",
        "upstream\0local_address",
        "connection\0requested_server_name",
        "xds\0node",
        "node",
        "filter_state",
        "filter_state\0wasm.other",
        "nothing",
        "\u{fc}",
    ] {
        assert_eq!(ask("request_headers", path), None, "{path:?}");
    }
}

#[test]
fn values_when_all_is_over() {
    for (path, value) in [
        ("response\0code", int(200)),
        ("response\0flags", int(0)),
        ("response\0size", int(5)),
        ("response\0headers\0server", b"up".to_vec()),
        ("response\0grpc_status", int(3)),
        ("request\0path", b"/a?b=c".to_vec()),
    ] {
        assert_eq!(ask("log", path), Some(value), "{path:?}");
    }
    for path in ["request\0duration", "request\0total_size", "response\0total_size"] {
        assert_eq!(ask("log", path).expect(path).len(), 8, "{path:?}");
    }
    assert_eq!(ask("log", "response\0headers\0none"), None);
}

#[test]
fn what_is_set_is_read_back() {
    let mut guest = Guest::new();
    let (path, value) = (guest.bytes(b"a\0b"), guest.bytes(b"value"));
    let set = guest.call("env.proxy_set_property", &[path.0, path.1, value.0, value.1].map(Arg::W));
    let call = get(&mut guest, "a\0b\0");
    let report = guest.report(&call);
    guest.on("request_headers", &format!("(drop {set}) {report}"), 0);
    let mut rig = Rig::new(&guest.text());
    rig.request_headers();
    assert_eq!(rig.reported(), (0, b"value".to_vec()));
    assert_eq!(rig.message.properties, [(b"a\0b".to_vec(), b"value".to_vec())]);
}

#[test]
fn root_contexts_know_only_their_plugin() {
    let mut guest = Guest::new();
    let root_id = get(&mut guest, "plugin_root_id");
    let log = format!(
        "(drop (call $env.proxy_log (i32.const 2)
            (i32.load (i32.const {OUT})) (i32.load (i32.const {OUT_LEN}))))"
    );
    let path = get(&mut guest, "request\0path");
    let (name, len) = guest.bytes(b"x");
    let set = guest.call("env.proxy_set_property", &[name, len, name, len].map(Arg::W));
    guest.on("context_create", &format!("(if (i32.eqz {root_id}) (then {log}))"), 0);
    guest.on(
        "configure",
        &format!(
            "(if (i32.ne (i32.const 1) {path}) (then unreachable))
                  (if (i32.ne (i32.const 1) {set}) (then unreachable))"
        ),
        1,
    );
    let mut settings = settings(&guest.text());
    settings.root_id = Some("root".to_owned());
    let host = super::host();
    let plugins = host.load(vec![settings]).expect("loaded");
    plugins.plugin("p", &serde_json::json!({"conf": "c"})).expect("configured");
    assert_eq!(super::lines(), ["INFO [p] root"]);
}
