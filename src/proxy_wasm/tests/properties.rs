//! Properties through the ABI: paths, encodings, presence by phase, set and read back.

use super::super::pairs::encode_exact;
use super::super::{Node, PluginSettings};
use super::guest::{Arg, OUT, OUT_LEN};
use super::{Guest, Rig, settings};
use crate::http::BodyLength;
use crate::plugin::{Message, Properties, PropertyTraits, ResponseFlags, RouteFacts};
use std::rc::Rc;
use std::sync::Arc;

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
    let mut node = Node { id: "n1".to_owned(), region: "r".to_owned(), ..Node::default() };
    node.add_metadata(&["NAME"], "pod");
    node.add_metadata(&["LABELS", "app"], "shop");
    let mut rig = Rig::on_node(settings, node);
    fill(&mut rig.message);
    rig.keep("note", b"kept");
    rig.keep("kuadrant.auth.identity", b"who");
    rig
}

fn fill(message: &mut Message) {
    message.connection.peer = "192.0.2.1:5000".parse().expect("address");
    message.connection.local = "[::1]:9080".parse().expect("address");
    message.connection.id = 7;
    message.started_ns = 1_000;
    message.request.body = BodyLength::Known(11);
    for (name, value) in [("Referer", "r"), ("X-Many", "1"), ("x-many", "2"), ("x.dots", "d")] {
        message.request.headers.append(name.as_bytes(), value.as_bytes());
    }
    let labels = |of: &str| {
        let mut labels = Properties::default();
        let traits = PropertyTraits::default();
        labels.set(b"apisix\0team", of.as_bytes(), traits).expect("room");
        labels
    };
    message.route = Some(Rc::new(Arc::new(RouteFacts {
        route_id: "r1".to_owned(),
        service_id: "s1".to_owned(),
        service_name: "shop".to_owned(),
        upstream_name: "up".to_owned(),
        labels: labels("route"),
        service_labels: labels("service"),
        upstream_labels: labels("upstream"),
        ..RouteFacts::default()
    })));
    let traits = PropertyTraits::default();
    message.metadata.set(b"ns\0key", b"value", traits).expect("room");
    message.metadata.set(b"ns\0deep\0er", b"leaf", traits).expect("room");
    message.filter_state.set(b"envoy.key", b"raw", traits).expect("room");
}

/// The headers that a guest counts then, names and values.
const HEADERS: &str = ":authorityhost.example:path/a?b=c:methodGET:schemehttp\
    User-AgenttestRefererrX-Many1x-many2x.dotsd";

/// What an exchange knows of its upstream once it was asked.
fn proxied(message: &mut Message) {
    message.upstream = Some("192.0.2.2:80".parse().expect("address"));
    message.attempts.count = 2;
    message.attempts.endpoints = 3;
    message.attempts.local = Some("192.0.2.9:4000".parse().expect("address"));
    message.attempts.failure = b"refused".to_vec();
    (message.attempts.wanted_ns, message.attempts.ready_ns) = (1_000, 4_000);
    (message.attempts.sent_ns, message.attempts.received_ns) = (5_000, 12_000);
    message.response.details = b"via_upstream".to_vec();
    message.response.flags = ResponseFlags::NO_ROUTE | ResponseFlags::UPSTREAM_CONNECTION_FAILURE;
    message.response_bytes = 5;
    message.request_bytes = 11;
}

fn ask(phase: &str, path: &str) -> Option<Vec<u8>> {
    let mut rig = asking(phase, path);
    rig.request_headers();
    if phase != "request_headers" {
        proxied(&mut rig.message);
        rig.response_headers();
    }
    if phase == "log" {
        rig.message.response.headers.append(b"grpc-status", b"3");
        rig.message.response.trailers.append(b"X-Trailer", b"t");
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

fn map(pairs: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_exact(|| pairs.iter().map(|(key, value)| (key.as_bytes(), *value)), &mut out);
    out
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
        ("request\0headers_bytes", int(HEADERS.len() as u64)),
        ("request\0time", int(1_000)),
        ("request\0size", int(11)),
        ("source\0address", b"192.0.2.1:5000".to_vec()),
        ("source\0port", int(5_000)),
        ("destination\0address", b"[::1]:9080".to_vec()),
        ("destination\0port", int(9_080)),
        ("connection\0id", int(7)),
        ("connection_id", int(7)),
        ("connection\0mtls", vec![0]),
        ("plugin_name", b"p".to_vec()),
        ("plugin_root_id", b"p".to_vec()),
        ("plugin_vm_id", b"vm".to_vec()),
        ("route_name", b"r1".to_vec()),
        ("xds\0route_name", b"r1".to_vec()),
        ("cluster_name", b"up".to_vec()),
        ("xds\0cluster_name", b"up".to_vec()),
        ("xds\0virtual_host_name", b"shop".to_vec()),
        ("xds\0listener_direction", int(1)),
        ("listener_direction", int(1)),
        ("note", b"kept".to_vec()),
        ("note\0below", b"kept".to_vec()),
        ("filter_state\0wasm.note", b"kept".to_vec()),
        ("filter_state\0wasm.kuadrant.auth.identity", b"who".to_vec()),
        ("filter_state\0envoy.key", b"raw".to_vec()),
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

/// Metadata of all kinds: leaves, maps, maps in maps, and whole messages.
#[test]
fn trees() {
    let field = |number: u8, bytes: &[u8]| [&[number << 3 | 2, bytes.len() as u8], bytes].concat();
    let entry = |key: &str, value: &[u8]| [field(1, key.as_bytes()), field(2, value)].concat();
    let labels = field(1, &entry("team", &field(3, b"route")));
    let locality = field(1, b"r");
    let app = field(5, &field(1, &entry("app", &field(3, b"shop"))));
    let fields =
        [field(1, &entry("NAME", &field(3, b"pod"))), field(1, &entry("LABELS", &app))].concat();
    let version = env!("CARGO_PKG_VERSION").as_bytes();
    let node = [
        field(1, b"n1"),
        field(3, &fields),
        field(4, &locality),
        field(6, b"ringgate"),
        field(7, version),
    ];
    let deep = map(&[("er", b"leaf")]);
    let namespace = map(&[("key", b"value"), ("deep", &deep)]);
    for (path, value) in [
        ("metadata\0filter_metadata\0ns\0key", b"value".to_vec()),
        ("metadata\0filter_metadata\0ns\0deep\0er", b"leaf".to_vec()),
        ("metadata\0filter_metadata\0ns\0deep", deep),
        ("metadata\0filter_metadata\0ns", namespace.clone()),
        ("metadata\0filter_metadata", map(&[("ns", &namespace)])),
        ("xds\0route_metadata\0filter_metadata\0apisix\0team", b"route".to_vec()),
        ("route_metadata\0filter_metadata\0apisix\0team", b"route".to_vec()),
        ("route_metadata\0filter_metadata\0apisix", map(&[("team", b"route")])),
        ("xds\0route_metadata", field(1, &entry("apisix", &labels))),
        ("cluster_metadata\0filter_metadata\0apisix\0team", b"upstream".to_vec()),
        ("xds\0virtual_host_metadata\0filter_metadata\0apisix\0team", b"service".to_vec()),
        ("xds\0node\0id", b"n1".to_vec()),
        ("node\0id", b"n1".to_vec()),
        ("node\0metadata\0NAME", b"pod".to_vec()),
        ("node\0metadata\0LABELS\0app", b"shop".to_vec()),
        ("node\0metadata\0LABELS", map(&[("app", b"shop")])),
        ("node\0locality\0region", b"r".to_vec()),
        ("node\0locality", locality),
        ("node\0user_agent_name", b"ringgate".to_vec()),
        ("node\0user_agent_version", version.to_vec()),
        ("xds\0node\0metadata\0NAME", b"pod".to_vec()),
        ("xds\0node\0locality\0region", b"r".to_vec()),
        ("xds\0cluster_metadata\0filter_metadata\0apisix\0team", b"upstream".to_vec()),
        ("node", node.concat()),
        ("xds\0node", node.concat()),
        (
            "filter_state",
            map(&[
                ("envoy.key", b"raw"),
                ("wasm.note", b"kept"),
                ("wasm.kuadrant.auth.identity", b"who"),
            ]),
        ),
    ] {
        assert_eq!(ask("request_headers", path), Some(value), "{path:?}");
    }
}

#[test]
fn what_is_not_there_is_not_found() {
    for path in [
        "",
        "\0",
        "response",
        "request\0nothing",
        "request\0headers\0x-missing",
        "request\0id",
        "request\0duration",
        "request\0total_size",
        "response\0code",
        "response\0code_details",
        "response\0flags",
        "response\0size",
        "response\0headers",
        "upstream\0address",
        "upstream\0local_address",
        "upstream\0request_attempt_count",
        "upstream\0num_endpoints",
        "upstream\0cx_pool_ready_duration",
        "upstream\0locality",
        "upstream\0tls_version",
        "connection\0requested_server_name",
        "connection\0tls_version",
        "connection\0subject_peer_certificate",
        "connection\0uri_san_peer_certificate",
        "connection\0dns_san_local_certificate",
        "connection\0sha256_peer_certificate_digest",
        "connection\0transport_failure_reason",
        "connection\0termination_details",
        "xds\0listener_metadata",
        "listener_metadata",
        "upstream_host_metadata",
        "xds\0upstream_host_metadata",
        "xds\0filter_chain_name",
        "node\0cluster",
        "node\0metadata\0OTHER",
        "metadata\0filter_metadata\0other",
        "metadata\0filter_metadata\0ns\0key\0below",
        "metadata\0typed_filter_metadata",
        "route_metadata\0filter_metadata\0istio",
        "filter_state\0wasm.other",
        "filter_state\0note",
        "upstream_filter_state",
        "nothing",
        "\u{fc}",
    ] {
        assert_eq!(ask("request_headers", path), None, "{path:?}");
    }
}

#[test]
fn values_once_there_is_a_response() {
    for (path, value) in [
        ("response\0code", int(200)),
        ("response\0code_details", b"via_upstream".to_vec()),
        ("response\0flags", int(0x120)),
        ("response\0size", int(5)),
        ("response\0headers\0server", b"up".to_vec()),
        ("response\0headers_bytes", int(":status200Serverup".len() as u64)),
        ("response\0trailers", b"".to_vec()),
        ("response\0backend_latency", int(7_000)),
        ("upstream\0address", b"192.0.2.2:80".to_vec()),
        ("upstream\0port", int(80)),
        ("upstream\0local_address", b"192.0.2.9:4000".to_vec()),
        ("upstream\0local_port", int(4_000)),
        ("upstream\0request_attempt_count", int(2)),
        ("upstream\0num_endpoints", int(3)),
        ("upstream\0cx_pool_ready_duration", int(3_000)),
        ("upstream\0transport_failure_reason", b"refused".to_vec()),
        ("request\0path", b"/a?b=c".to_vec()),
    ] {
        assert_eq!(ask("response_headers", path), Some(value), "{path:?}");
    }
    for path in ["request\0duration", "response\0total_size", "response\0grpc_status"] {
        assert_eq!(ask("response_headers", path), None, "{path:?}");
    }
}

#[test]
fn values_when_all_is_over() {
    let response = ":status200Serverupgrpc-status3X-Trailert";
    for (path, value) in [
        ("response\0code", int(200)),
        ("response\0flags", int(0x120)),
        ("response\0size", int(5)),
        ("response\0headers\0server", b"up".to_vec()),
        ("response\0trailers\0x-trailer", b"t".to_vec()),
        ("response\0trailers", map(&[("x-trailer", b"t")])),
        ("response\0grpc_status", int(3)),
        ("request\0total_size", int(11 + HEADERS.len() as u64)),
        ("response\0total_size", int(5 + response.len() as u64)),
        ("request\0path", b"/a?b=c".to_vec()),
    ] {
        assert_eq!(ask("log", path), Some(value), "{path:?}");
    }
    assert_eq!(ask("log", "request\0duration").expect("a duration").len(), 8);
    assert_eq!(ask("log", "response\0headers\0none"), None);
}

#[test]
fn trailers_of_a_request() {
    for (path, value) in [("x-sum", Some(b"s".to_vec())), ("x-other", None)] {
        let mut rig = asking("request_trailers", &format!("request\0trailers\0{path}"));
        rig.request_headers();
        rig.message.request.trailers.append(b"X-Sum", b"s");
        rig.request_trailers();
        let (status, bytes) = rig.reported();
        assert_eq!((status == 0).then_some(bytes), value, "{path}");
    }
}

/// Of a request that got no response it is still known why.
#[test]
fn what_went_wrong_without_a_response() {
    for (path, value) in [
        ("response\0flags", Some(int(0x4000))),
        ("response\0code_details", Some(b"downstream_remote_disconnect".to_vec())),
        ("response\0code", None),
        ("response\0headers", None),
    ] {
        let mut rig = asking("log", path);
        rig.request_headers();
        rig.message.response.flags = ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION;
        rig.message.response.details = b"downstream_remote_disconnect".to_vec();
        rig.log();
        let (status, bytes) = rig.reported();
        assert_eq!((status == 0).then_some(bytes), value, "{path:?}");
    }
}

/// The query is text even where there is none, as in Envoy.
#[test]
fn a_request_without_a_query() {
    let mut rig = asking("request_headers", "request\0query");
    rig.message.request.target = b"/a".to_vec();
    rig.request_headers();
    assert_eq!(rig.reported(), (0, vec![]));
}

/// Sets one property and keeps the status.
fn setting(path: &str, value: &[u8], writable: bool) -> (Rig, u32) {
    setting_in("request_headers", path, value, writable)
}

/// The same in another callback; that of the response comes when an upstream was asked.
fn setting_in(callback: &str, path: &str, value: &[u8], writable: bool) -> (Rig, u32) {
    let mut guest = Guest::new();
    let (path, value) = (guest.bytes(path.as_bytes()), guest.bytes(value));
    let set = guest.call("env.proxy_set_property", &[path.0, path.1, value.0, value.1].map(Arg::W));
    let report = guest.report(&set);
    guest.on(callback, &report, 0);
    let settings = PluginSettings { writable_properties: writable, ..settings(&guest.text()) };
    let mut rig = Rig::with(settings);
    rig.message.response.status = 200;
    rig.request_headers();
    if callback == "response_headers" {
        rig.message.attempts.count = 1;
        rig.response_headers();
    } else if callback == "log" {
        rig.log();
    }
    let (status, _) = rig.reported();
    (rig, status)
}

#[test]
fn attributes_change_only_where_they_may() {
    let (rig, status) = setting("request\0path", b"/b", false);
    assert_eq!((status, rig.kept("request\0path")), (0, Some(b"/b".to_vec())));
    assert_eq!(rig.message.request.target, b"/a?b=c");
    for (path, value, target) in [
        ("request\0path", "/x/../y%41?z", "/x/../y%41?z"),
        ("request\0path\0", "/b", "/b"),
        ("request\0url_path", "/b", "/b?b=c"),
        ("request\0query", "d=e", "/a?d=e"),
        ("request\0query", "", "/a"),
    ] {
        let (rig, status) = setting(path, value.as_bytes(), true);
        assert_eq!((status, &rig.message.request.target[..]), (0, target.as_bytes()), "{path:?}");
        assert_eq!(rig.kept(path), None);
    }
    let (rig, _) = setting("request\0path", b"/x/../y%41?z", true);
    assert_eq!(rig.message.request.path, b"/yA");
    let (rig, status) = setting("request\0host", b"b.example", true);
    assert_eq!((status, &rig.message.request.authority[..]), (0, &b"b.example"[..]));
    let (rig, status) = setting("request\0method", b"PUT", true);
    assert_eq!((status, &rig.message.request.method[..]), (0, &b"PUT"[..]));
    let (rig, status) = setting("request\0scheme", b"https", true);
    assert_eq!((status, &rig.message.request.scheme[..]), (0, &b"https"[..]));
    let (rig, status) = setting("request\0headers\0x-new", b"v", true);
    assert_eq!((status, rig.message.request.headers.get(b"x-new")), (0, Some(&b"v"[..])));
    let (rig, status) = setting("response\0headers\0x-new", b"v", true);
    assert_eq!((status, rig.message.response.headers.get(b"x-new")), (0, Some(&b"v"[..])));
    for code in [&404_u64.to_le_bytes()[..], b"404"] {
        let (rig, status) = setting("response\0code", code, true);
        assert_eq!((status, rig.message.response.status), (0, 404));
    }
    for (path, value) in [("code", "404"), ("headers\0x-new", "v"), ("code_details", "because")] {
        let path = format!("response\0{path}");
        let (rig, status) = setting_in("response_headers", &path, value.as_bytes(), true);
        let response = &rig.message.response;
        let changed = response.status == 404
            || response.headers.get(b"x-new").is_some()
            || response.details == b"because";
        assert_eq!((status, changed), (0, true), "{path:?} of an upstream's response");
        assert_eq!(setting_in("log", &path, value.as_bytes(), true).1, 2, "{path:?} afterwards");
    }
    let late = setting_in("response_headers", "request\0path", b"/b", true);
    assert_eq!(late.1, 2, "the request is upstream already");
    let (rig, status) = setting("response\0code_details", b"because", true);
    assert_eq!((status, &rig.message.response.details[..]), (0, &b"because"[..]));
    let (rig, status) = setting("metadata\0filter_metadata\0ns\0key", b"v", true);
    assert_eq!(status, 0);
    assert_eq!(rig.message.metadata.get(b"ns\0key").expect("set").value, b"v");
    // What is no attribute is kept as ever.
    let (rig, status) = setting("note", b"v", true);
    assert_eq!((status, rig.kept("note")), (0, Some(b"v".to_vec())));
}

#[test]
fn bad_values_are_bad_arguments() {
    for (path, value) in [
        ("", &b"v"[..]),
        ("request\0path", b"no slash"),
        ("request\0path", b""),
        ("request\0url_path", b"/a?b"),
        ("request\0query", b"a b"),
        ("request\0host", b"a\r\nb: c"),
        ("request\0method", b"GET /"),
        ("request\0scheme", b""),
        ("request\0headers\0a b", b"v"),
        ("request\0headers\0a", b"v\n"),
        ("response\0code", b""),
        ("response\0code", b"99"),
        ("response\0code", &99_u64.to_le_bytes()),
        ("response\0code", &u64::MAX.to_le_bytes()),
        ("metadata\0filter_metadata\0ns", b"v"),
        ("metadata\0filter_metadata\0ns\0\0key", b"v"),
        ("metadata\0other", b"v"),
    ] {
        assert_eq!(setting(path, value, true).1, 2, "{path:?} {value:?}");
    }
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
    assert_eq!(rig.kept("a\0b"), Some(b"value".to_vec()));
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
