//! Every host function: what it answers in which callback, and with what it will not be fooled.

use super::guest::{Arg, MEMORY_END, OUT, OUT_LEN};
use super::{Guest, Rig, lines};
use crate::plugin::Action;

const OK: u32 = 0;
const NOT_FOUND: u32 = 1;
const BAD_ARGUMENT: u32 = 2;
const PARSE_FAILURE: u32 = 4;
const BAD_MEMORY: u32 = 6;
const EMPTY: u32 = 7;
const CAS_MISMATCH: u32 = 8;

/// The callbacks of an exchange, for tables.
const PHASES: [&str; 7] = [
    "request_headers",
    "request_body",
    "request_trailers",
    "response_headers",
    "response_body",
    "response_trailers",
    "log",
];

/// Plays a whole exchange; after each callback, what the guest kept of its call in it.
fn play(rig: &mut Rig) -> Vec<(&'static str, Action)> {
    let mut actions = vec![("request_headers", rig.request_headers())];
    actions.push(("request_body", rig.request_body(b"request", true)));
    rig.message.body.clear();
    rig.message.request.trailers.append(b"t", b"1");
    actions.push(("request_trailers", rig.request_trailers()));
    actions.push(("response_headers", rig.response_headers()));
    actions.push(("response_body", rig.response_body(b"response", true)));
    rig.message.body.clear();
    rig.message.response.trailers.append(b"u", b"2");
    actions.push(("response_trailers", rig.response_trailers()));
    rig.log();
    actions.push(("log", Action::Continue));
    actions
}

/// What one call answers in one callback of a played exchange.
fn ask(phase: &str, build: impl FnOnce(&mut Guest) -> String) -> (u32, Vec<u8>) {
    let mut rig = asking(phase, build);
    play(&mut rig);
    rig.reported()
}

fn asking(phase: &str, build: impl FnOnce(&mut Guest) -> String) -> Rig {
    let mut guest = Guest::new();
    let call = build(&mut guest);
    let report = guest.report(&call);
    guest.on(phase, &report, 0);
    Rig::new(&guest.text())
}

fn get_header(map: u32, key: &str) -> impl FnOnce(&mut Guest) -> String {
    move |guest| {
        let (at, len) = guest.bytes(key.as_bytes());
        let args = [map, at, len, OUT, OUT_LEN].map(Arg::W);
        guest.call("env.proxy_get_header_map_value", &args)
    }
}

#[test]
fn header_values_in_every_callback() {
    // By map: a key, its value, and the status in each callback.
    let bad = BAD_ARGUMENT;
    for (map, key, value, statuses) in [
        (0, "User-AGENT", "test", [0, 0, 0, 0, 0, 0, 0]),
        (0, ":path", "/a?b=c", [0, 0, 0, 0, 0, 0, 0]),
        (0, "x-missing", "", [1, 1, 1, 1, 1, 1, 1]),
        (1, "t", "1", [bad, 1, 0, 0, 0, 0, 0]),
        (2, "server", "up", [bad, bad, bad, 0, 0, 0, 0]),
        (2, ":status", "200", [bad, bad, bad, 0, 0, 0, 0]),
        (3, "u", "2", [bad, bad, bad, bad, 1, 0, 0]),
        (4, "x", "", [bad; 7]),
        (8, "x", "", [bad; 7]),
    ] {
        for (phase, status) in PHASES.into_iter().zip(statuses) {
            let expected = if status == 0 { value.as_bytes() } else { b"" };
            let found = ask(phase, get_header(map, key));
            assert_eq!(found, (status, expected.to_vec()), "map {map} {key} in {phase}");
        }
    }
}

#[test]
fn absent_maps_are_only_missing_when_all_is_over() {
    let mut rig = asking("log", get_header(2, "server"));
    rig.request_headers();
    rig.log();
    assert_eq!(rig.reported().0, NOT_FOUND);
    let mut rig = asking("done", get_header(1, "t"));
    rig.request_headers();
    rig.log();
    assert_eq!(rig.reported().0, NOT_FOUND);
}

fn edit(
    function: &'static str,
    map: u32,
    key: &'static str,
    value: &'static str,
) -> impl FnOnce(&mut Guest) -> String {
    move |guest| {
        let (key, value) = (guest.bytes(key.as_bytes()), guest.bytes(value.as_bytes()));
        let args = [map, key.0, key.1, value.0, value.1].map(Arg::W);
        let args = if function == "remove" { &args[..3] } else { &args[..] };
        guest.call(&format!("env.proxy_{function}_header_map_value"), args)
    }
}

#[test]
fn header_edits() {
    let mut rig = asking("request_headers", edit("add", 0, "X", "1"));
    rig.request_headers();
    assert_eq!(rig.message.request.headers.get(b"x"), Some(&b"1"[..]));
    let mut rig = asking("request_headers", edit("replace", 0, "user-agent", "new"));
    rig.request_headers();
    assert_eq!(rig.message.request.headers.get(b"User-Agent"), Some(&b"new"[..]));
    let mut rig = asking("response_headers", edit("remove", 2, "SERVER", ""));
    rig.request_headers();
    rig.response_headers();
    assert!(rig.message.response.headers.is_empty());

    for (function, map, key, value, status) in [
        ("remove", 0, "x-missing", "", OK),
        ("remove", 0, ":path", "", BAD_ARGUMENT),
        ("add", 0, "a", "b\r\nc: d", BAD_ARGUMENT),
        ("add", 0, "", "", BAD_ARGUMENT),
        ("replace", 0, ":method", "a c", BAD_ARGUMENT),
        ("add", 2, "a", "b", BAD_ARGUMENT),
        ("add", 6, "a", "b", BAD_ARGUMENT),
        ("add", 9, "a", "b", BAD_ARGUMENT),
    ] {
        let found = ask("request_headers", edit(function, map, key, value)).0;
        assert_eq!(found, status, "{function} {map} {key}");
    }
    let phases = ["request_body", "request_trailers", "response_trailers"];
    for (phase, map) in phases.into_iter().zip([1, 1, 3]) {
        assert_eq!(ask(phase, edit("add", map, "a", "b")).0, OK, "{phase}");
    }
    assert_eq!(ask("log", edit("add", 0, "a", "b")).0, BAD_ARGUMENT, "read only");
}

#[test]
fn whole_maps() {
    let pairs = |map: u32| {
        move |guest: &mut Guest| {
            guest.call("env.proxy_get_header_map_pairs", &[map, OUT, OUT_LEN].map(Arg::W))
        }
    };
    let (status, bytes) = ask("response_headers", pairs(2));
    let mut expected = Vec::new();
    for word in [2_u32, 7, 3, 6, 2] {
        expected.extend_from_slice(&word.to_le_bytes());
    }
    expected.extend_from_slice(b":status\x00200\0server\0up\0");
    assert_eq!((status, bytes), (OK, expected));
    for (map, status) in [(1, OK), (2, OK), (7, OK), (8, BAD_ARGUMENT)] {
        assert_eq!(ask("request_headers", pairs(map)), (status, Vec::new()), "map {map}");
    }

    let mut rig = asking("request_headers", |guest| {
        let mut map = Vec::new();
        for word in [1_u32, 1, 2] {
            map.extend_from_slice(&word.to_le_bytes());
        }
        map.extend_from_slice(b"n\0vv\0");
        let (at, len) = guest.bytes(&map);
        guest.call("env.proxy_set_header_map_pairs", &[0, at, len].map(Arg::W))
    });
    rig.request_headers();
    assert_eq!(rig.reported().0, OK);
    assert_eq!(rig.message.request.headers.len(), 1);
    assert_eq!(rig.message.request.headers.get(b"n"), Some(&b"vv"[..]));

    let size =
        |guest: &mut Guest| guest.call("env.proxy_get_header_map_size", &[0, 24].map(Arg::W));
    assert_eq!(ask("request_headers", size).0, OK);
}

#[test]
fn nothing_is_allocated_for_nothing() {
    // The allocator of these guests traps when asked for 0 bytes.
    let mut rig = asking("request_headers", get_header(0, "x-empty"));
    rig.message.request.headers.append(b"X-Empty", b"");
    rig.request_headers();
    assert_eq!(rig.reported(), (OK, Vec::new()));
    assert_eq!(lines(), [""; 0]);
}

fn get_buffer(buffer: u32, start: u32, len: u32) -> impl FnOnce(&mut Guest) -> String {
    move |guest| {
        guest.call("env.proxy_get_buffer_bytes", &[buffer, start, len, OUT, OUT_LEN].map(Arg::W))
    }
}

#[test]
fn buffers_are_read() {
    for (phase, buffer, start, len, status, bytes) in [
        ("request_body", 0, 0, u32::MAX, OK, "request"),
        ("request_body", 0, 2, 3, OK, "que"),
        ("request_body", 0, 7, 1, OK, ""),
        ("request_body", 0, 99, 1, OK, ""),
        ("request_body", 0, 5, u32::MAX, OK, "st"),
        ("request_body", 0, 0, 0, OK, ""),
        ("request_body", 1, 0, 1, NOT_FOUND, ""),
        ("request_headers", 0, 0, 1, NOT_FOUND, ""),
        ("response_body", 1, 0, 8, OK, "response"),
        ("response_body", 0, 0, 8, NOT_FOUND, ""),
        ("log", 1, 0, 8, NOT_FOUND, ""),
        ("request_headers", 6, 0, u32::MAX, OK, ""),
        ("request_headers", 7, 0, u32::MAX, NOT_FOUND, ""),
        ("request_headers", 4, 0, 1, NOT_FOUND, ""),
        ("request_headers", 8, 0, 1, NOT_FOUND, ""),
        ("request_headers", 9, 0, 1, BAD_ARGUMENT, ""),
    ] {
        let found = ask(phase, get_buffer(buffer, start, len));
        assert_eq!(found, (status, bytes.into()), "{phase} {buffer} {start} {len}");
    }
    for (buffer, status) in [(0, OK), (1, NOT_FOUND), (9, BAD_ARGUMENT)] {
        let status_of = move |guest: &mut Guest| {
            guest.call("env.proxy_get_buffer_status", &[buffer, 24, 28].map(Arg::W))
        };
        assert_eq!(ask("request_body", status_of).0, status, "{buffer}");
    }
}

#[test]
fn buffers_are_changed() {
    let set = |buffer: u32, start: u32, len: u32, bytes: &'static str| {
        move |guest: &mut Guest| {
            let (at, size) = guest.bytes(bytes.as_bytes());
            guest.call("env.proxy_set_buffer_bytes", &[buffer, start, len, at, size].map(Arg::W))
        }
    };
    for (start, len, bytes, body) in [
        (0, 0, "a ", "a request"),
        (0, u32::MAX, "all", "all"),
        (i32::MAX as u32, 0, "!", "request!"),
        (2, 3, "", "rest"),
        (1, 0, "-", "r-equest"),
    ] {
        let mut rig = asking("request_body", set(0, start, len, bytes));
        rig.request_headers();
        rig.request_body(b"request", true);
        assert_eq!(rig.reported().0, OK);
        assert_eq!(String::from_utf8_lossy(&rig.message.body), body);
    }
    for (phase, buffer, status) in [
        ("request_body", 1, NOT_FOUND),
        ("request_headers", 0, NOT_FOUND),
        ("request_body", 2, BAD_ARGUMENT),
        ("request_body", 7, BAD_ARGUMENT),
        ("request_body", 99, BAD_ARGUMENT),
    ] {
        assert_eq!(ask(phase, set(buffer, 0, 0, "x")).0, status, "{phase} {buffer}");
    }
    let mut guest = Guest::new();
    let call = set(0, 0, 0, "more than it may")(&mut guest);
    let report = guest.report(&call);
    guest.on("request_body", &report, 0);
    let mut small = super::settings(&guest.text());
    small.body_bytes_max = 10;
    let mut rig = Rig::with(small);
    rig.request_headers();
    rig.request_body(b"x", true);
    assert_eq!((rig.reported().0, &rig.message.body[..]), (BAD_ARGUMENT, &b"x"[..]));
}

/// `proxy_send_local_response` with a map of one header.
fn respond(
    status: u32,
    header: (&'static str, &'static str),
    grpc: u32,
) -> impl FnOnce(&mut Guest) -> String {
    move |guest| {
        let mut map = 1_u32.to_le_bytes().to_vec();
        map.extend_from_slice(&(header.0.len() as u32).to_le_bytes());
        map.extend_from_slice(&(header.1.len() as u32).to_le_bytes());
        map.extend_from_slice(format!("{}\0{}\0", header.0, header.1).as_bytes());
        let (map, body) = (guest.bytes(&map), guest.bytes(b"body"));
        let args = [status, 0, 0, body.0, body.1, map.0, map.1, grpc].map(Arg::W);
        guest.call("env.proxy_send_local_response", &args)
    }
}

#[test]
fn local_responses() {
    let mut rig = asking("request_headers", respond(403, ("X-A", "b"), 7));
    assert_eq!(rig.request_headers(), Action::Respond);
    let local = &rig.message.local;
    assert_eq!((local.status, local.body.as_deref()), (403, Some(&b"body"[..])));
    let fields: Vec<_> = local.headers.iter().collect();
    assert_eq!(fields, [(&b"X-A"[..], &b"b"[..]), (b"grpc-status", b"7")]);
    assert!(local.verbatim);

    for (status, header, answer, action) in [
        (200, ("a", "b"), OK, Action::Respond),
        (999, ("a", "b"), OK, Action::Respond),
        (200, (":status", "404"), OK, Action::Respond),
        (199, ("a", "b"), BAD_ARGUMENT, Action::Continue),
        (1000, ("a", "b"), BAD_ARGUMENT, Action::Continue),
        (200, ("a b", "c"), BAD_ARGUMENT, Action::Continue),
        (200, ("a", "b\nc"), BAD_ARGUMENT, Action::Continue),
    ] {
        let mut rig = asking("request_headers", respond(status, header, u32::MAX));
        assert_eq!(rig.request_headers(), action, "{status} {header:?}");
        assert_eq!(rig.reported().0, answer, "{status} {header:?}");
        assert_eq!(rig.message.local.headers.get(b"grpc-status"), None);
    }
    for phase in &PHASES[..6] {
        let mut rig = asking(phase, respond(403, ("a", "b"), u32::MAX));
        let answered: Vec<_> =
            play(&mut rig).into_iter().filter(|(_, action)| *action == Action::Respond).collect();
        assert_eq!(answered, [(*phase, Action::Respond)]);
    }
    let (status, _) = ask("log", respond(403, ("a", "b"), u32::MAX));
    assert_eq!(status, OK, "nobody to answer, nothing to panic about");
}

#[test]
fn the_first_local_response_counts() {
    let mut guest = Guest::new();
    let first = respond(401, ("a", "b"), u32::MAX)(&mut guest);
    let second = respond(402, ("a", "b"), u32::MAX)(&mut guest);
    guest.on("request_headers", &format!("(drop {first}) (drop {second})"), 0);
    let mut rig = Rig::new(&guest.text());
    assert_eq!(rig.request_headers(), Action::Respond);
    assert_eq!(rig.message.local.status, 401);
    assert_eq!(rig.message.local.headers.len(), 1);
}

#[test]
fn streams_are_resumed_and_closed() {
    for (call, args, status, action, resumed) in [
        ("proxy_continue_stream", &[0][..], OK, Action::Continue, (true, false)),
        ("proxy_continue_stream", &[1], OK, Action::Continue, (false, true)),
        ("proxy_continue_stream", &[2], OK, Action::Continue, (false, false)),
        ("proxy_continue_stream", &[4], BAD_ARGUMENT, Action::Continue, (false, false)),
        ("proxy_continue_request", &[], OK, Action::Continue, (true, false)),
        ("proxy_continue_response", &[], OK, Action::Continue, (false, true)),
        ("proxy_close_stream", &[1], OK, Action::Close, (false, false)),
        ("proxy_close_stream", &[4], BAD_ARGUMENT, Action::Continue, (false, false)),
        ("proxy_clear_route_cache", &[], OK, Action::Continue, (false, false)),
    ] {
        let args: Vec<Arg> = args.iter().copied().map(Arg::W).collect();
        let mut rig = asking("request_headers", |g| g.call(&format!("env.{call}"), &args));
        assert_eq!(rig.request_headers(), action, "{call} {args:?}");
        assert_eq!(rig.reported().0, status, "{call} {args:?}");
        let message = &rig.message;
        assert_eq!((message.resume_request, message.resume_response), resumed, "{call} {args:?}");
    }
}

#[test]
fn contexts_timers_and_calls_that_go_nowhere() {
    for (call, args, status) in [
        ("proxy_set_effective_context", &[0][..], OK),
        ("proxy_set_effective_context", &[2], OK),
        ("proxy_set_effective_context", &[99], BAD_ARGUMENT),
        ("proxy_done", &[], NOT_FOUND),
        ("proxy_set_tick_period_milliseconds", &[100], OK),
        ("proxy_call_foreign_function", &[0, 4, 0, 0, OUT, OUT_LEN], NOT_FOUND),
        ("proxy_http_call", &[0; 10], BAD_ARGUMENT),
        ("proxy_grpc_call", &[0; 12], PARSE_FAILURE),
        ("proxy_grpc_call", &[0; 10], PARSE_FAILURE),
        ("proxy_grpc_stream", &[0; 9], PARSE_FAILURE),
        ("proxy_grpc_stream", &[0; 7], PARSE_FAILURE),
        ("proxy_grpc_send", &[5, 0, 0, 1], BAD_ARGUMENT),
        ("proxy_grpc_send", &[6, 0, 0, 1], NOT_FOUND),
        ("proxy_grpc_cancel", &[6], NOT_FOUND),
        ("proxy_grpc_close", &[5], NOT_FOUND),
        ("proxy_grpc_close", &[6], NOT_FOUND),
        ("proxy_get_status", &[24, OUT, OUT_LEN], OK),
        ("proxy_get_log_level", &[24], OK),
        ("proxy_get_current_time_nanoseconds", &[25], OK),
        ("proxy_log", &[6, 0, 0], BAD_ARGUMENT),
        ("proxy_set_active_span_tag", &[0; 4], OK),
    ] {
        let args: Vec<Arg> = args.iter().copied().map(Arg::W).collect();
        let found = ask("request_headers", |guest| guest.call(&format!("env.{call}"), &args)).0;
        assert_eq!(found, status, "{call}");
    }
}

#[test]
fn other_contexts_have_no_stream() {
    // As the root context, which is 1: no headers, no response, no property to set.
    let mut guest = Guest::new();
    let become_root = guest.call("env.proxy_set_effective_context", &[Arg::W(1)]);
    let calls = [
        (get_header(0, ":path")(&mut guest), BAD_ARGUMENT),
        (respond(200, ("a", "b"), u32::MAX)(&mut guest), BAD_ARGUMENT),
        (get_buffer(0, 0, 1)(&mut guest), NOT_FOUND),
    ];
    let mut code = format!("(drop {become_root})");
    for (at, (call, _)) in calls.iter().enumerate() {
        code += &format!("(i32.store (i32.const {}) {call})", 64 + at * 4);
    }
    let back = guest.call("env.proxy_set_effective_context", &[Arg::W(0)]);
    let report = guest.report("(i32.const 0)");
    let out = format!(
        "(i32.store (i32.const {OUT}) (i32.const 64))
         (i32.store (i32.const {OUT_LEN}) (i32.const 12))"
    );
    guest.on("request_headers", &format!("{code} (drop {back}) {out} {report}"), 0);
    let mut rig = Rig::new(&guest.text());
    assert_eq!(rig.request_headers(), Action::Continue);
    let expected: Vec<u8> = calls.iter().flat_map(|(_, status)| status.to_le_bytes()).collect();
    assert_eq!(rig.reported().1, expected);
}

#[test]
fn shared_data_and_queues_and_metrics() {
    let mut guest = Guest::new();
    let (key, value) = (guest.bytes(b"key"), guest.bytes(b"value"));
    let set = |guest: &mut Guest, cas: u32| {
        let args = [key.0, key.1, value.0, value.1, cas].map(Arg::W);
        guest.call("env.proxy_set_shared_data", &args)
    };
    let get = |guest: &mut Guest| {
        let args = [key.0, key.1, OUT, OUT_LEN, 24].map(Arg::W);
        guest.call("env.proxy_get_shared_data", &args)
    };
    let words = |args: &[u32]| args.iter().copied().map(Arg::W).collect::<Vec<_>>();
    let mut steps = vec![
        (get(&mut guest), NOT_FOUND),
        (set(&mut guest, 0), OK),
        (set(&mut guest, 9), CAS_MISMATCH),
        (get(&mut guest), OK),
    ];
    for (call, args, status) in [
        ("proxy_resolve_shared_queue", words(&[0, 0, key.0, key.1, 24]), NOT_FOUND),
        ("proxy_register_shared_queue", words(&[key.0, key.1, 24]), OK),
        ("proxy_resolve_shared_queue", words(&[0, 0, key.0, key.1, 24]), OK),
        ("proxy_dequeue_shared_queue", words(&[1, OUT, OUT_LEN]), EMPTY),
        ("proxy_enqueue_shared_queue", words(&[1, value.0, value.1]), OK),
        ("proxy_enqueue_shared_queue", words(&[2, value.0, value.1]), NOT_FOUND),
        ("proxy_define_metric", words(&[3, key.0, key.1, 24]), BAD_ARGUMENT),
        ("proxy_define_metric", words(&[0, key.0, key.1, 24]), OK),
        ("proxy_define_metric", words(&[2, key.0, key.1, 24]), OK),
        ("proxy_increment_metric", vec![Arg::W(0), Arg::L(5)], OK),
        ("proxy_increment_metric", vec![Arg::W(0), Arg::L(0)], BAD_ARGUMENT),
        ("proxy_increment_metric", vec![Arg::W(99), Arg::L(1)], NOT_FOUND),
        ("proxy_record_metric", vec![Arg::W(6), Arg::L(5)], OK),
        ("proxy_record_metric", vec![Arg::W(7), Arg::L(5)], NOT_FOUND),
        ("proxy_get_metric", words(&[0, 25]), OK),
        ("proxy_get_metric", words(&[6, 25]), BAD_ARGUMENT),
        ("proxy_dequeue_shared_queue", words(&[1, OUT, OUT_LEN]), OK),
    ] {
        steps.push((guest.call(&format!("env.{call}"), &args), status));
    }
    let mut code = String::new();
    for (at, (call, _)) in steps.iter().enumerate() {
        code += &format!("(i32.store8 (i32.const {}) {call})", 64 + at);
    }
    let report = guest.report("(i32.load (i32.const 25))");
    let keep = {
        let (statuses, len) = guest.bytes(b"statuses");
        format!(
            "(drop (call $env.proxy_set_property (i32.const {statuses}) (i32.const {len})
                (i32.const 64) (i32.const {})))",
            steps.len()
        )
    };
    guest.on("request_headers", &format!("{code} {keep} {report}"), 0);
    let mut rig = Rig::new(&guest.text());
    rig.request_headers();
    assert_eq!(rig.reported(), (5, b"value".to_vec()), "the counter, the item");
    let statuses = rig.kept("statuses").expect("kept");
    let expected: Vec<u8> = steps.iter().map(|(_, status)| *status as u8).collect();
    assert_eq!(statuses, expected);
    assert_eq!(rig.host.metrics().len(), 2);
}

#[test]
fn get_metric_with_a_wide_pointer_links() {
    let (status, _) = ask("request_headers", |guest| {
        guest.call("env.proxy_get_metric", &[Arg::W(0), Arg::L(24)])
    });
    assert_eq!(status, NOT_FOUND);
    let (status, _) = ask("request_headers", |guest| {
        guest.call("env.proxy_get_metric", &[Arg::W(0), Arg::L(1 << 32)])
    });
    assert_eq!(status, BAD_MEMORY);
}

/// One of each pair is bad: a pointer at the end with a length above 0, a length that leaves the
/// memory, one that wraps around; places for answers that don't fit.
#[test]
fn no_pointer_leaves_the_memory() {
    // P and L: the pointer and length of bytes to read. O: where four bytes are written.
    // T: where eight are. Digits: that number.
    let calls = [
        "proxy_log 2PL",
        "proxy_get_log_level O",
        "proxy_get_current_time_nanoseconds T",
        "proxy_get_header_map_pairs 0OO",
        "proxy_set_header_map_pairs 0PL",
        "proxy_get_header_map_value 0PLOO",
        "proxy_add_header_map_value 0PLPL",
        "proxy_replace_header_map_value 0PLPL",
        "proxy_remove_header_map_value 0PL",
        "proxy_get_header_map_size 0O",
        "proxy_get_buffer_bytes 609OO",
        "proxy_get_buffer_status 6OO",
        "proxy_set_buffer_bytes 000PL",
        "proxy_get_configuration OO",
        "proxy_get_property PLOO",
        "proxy_set_property PLPL",
        "proxy_send_local_response 9PLPLPL0",
        "proxy_call_foreign_function PLPL00",
        "proxy_get_shared_data PLOOO",
        "proxy_set_shared_data PLPL0",
        "proxy_register_shared_queue PLO",
        "proxy_resolve_shared_queue PLPLO",
        "proxy_enqueue_shared_queue 1PL",
        "proxy_dequeue_shared_queue 1OO",
        "proxy_define_metric 0PLO",
        "proxy_get_metric 0T",
        "proxy_http_call PLPLPLPL0O",
        "proxy_grpc_call PLPLPLPLPL0O",
        "proxy_grpc_stream PLPLPLPLO",
        "proxy_grpc_send 0PL0",
        "proxy_get_status OOO",
        "proxy_set_active_span_tag PLPL",
    ];
    let mut rows = 0;
    for call in calls {
        let (name, letters) = call.split_once(' ').expect("a space");
        for (slot, letter) in letters.char_indices() {
            let bad: &[u32] = match letter {
                'P' => &[MEMORY_END - 3, MEMORY_END, u32::MAX],
                'L' => &[MEMORY_END, u32::MAX],
                'O' => &[MEMORY_END - 3, MEMORY_END, u32::MAX],
                'T' => &[MEMORY_END - 7, u32::MAX],
                _ => continue,
            };
            for value in bad {
                rows += 1;
                one_bad_pointer(name, letters, slot, *value);
            }
        }
    }
    println!("{rows} rows of host functions with bad pointers");
    assert!(rows > 200);
}

fn one_bad_pointer(name: &str, letters: &str, slot: usize, value: u32) {
    let mut guest = Guest::new();
    // Readable as a property and as a header name, so that the answer's place is reached.
    let path = guest.bytes(b"uri");
    let args: Vec<Arg> = letters
        .char_indices()
        .map(|(at, letter)| match letter {
            _ if at == slot => value,
            'P' => path.0,
            // A length that is fine elsewhere must be above 0 beside a bad pointer.
            'L' => 3 + u32::from(at == slot + 1),
            'O' | 'T' => 40,
            digit => digit.to_digit(10).expect("a digit"),
        })
        .map(Arg::W)
        .collect();
    // Queue 1 has an item, metric 0 is a counter, the key is set.
    let mut before = String::new();
    for (call, args) in [
        ("env.proxy_register_shared_queue", vec![path.0, 3, 40]),
        ("env.proxy_enqueue_shared_queue", vec![1, path.0, 3]),
        ("env.proxy_define_metric", vec![0, path.0, 3, 40]),
        ("env.proxy_set_shared_data", vec![path.0, 3, path.0, 3, 0]),
        ("env.proxy_add_header_map_value", vec![0, path.0, 3, path.0, 3]),
    ] {
        let args: Vec<Arg> = args.into_iter().map(Arg::W).collect();
        before += &format!("(drop {})", guest.call(call, &args));
    }
    let call = guest.call(&format!("env.{name}"), &args);
    let report = guest.report(&call);
    let phase = if name == "proxy_set_buffer_bytes" { "request_body" } else { "request_headers" };
    guest.on(phase, &format!("{before} {report}"), 0);
    let mut rig = Rig::new(&guest.text());
    rig.request_headers();
    rig.request_body(b"body", true);
    assert_eq!(rig.reported().0, BAD_MEMORY, "{name} {letters} slot {slot} = {value:#x}");
    assert_eq!(lines(), [""; 0], "{name}");
}

#[test]
fn wasi_says_what_runtimes_expect() {
    let mut rows = 0;
    for module in ["wasi_snapshot_preview1", "wasi_unstable"] {
        for (name, args, errno) in [
            ("args_get", &[0, 0][..], 0),
            ("args_sizes_get", &[24, 28], 0),
            ("args_sizes_get", &[24, MEMORY_END], 21),
            ("environ_sizes_get", &[24, 28], 0),
            ("environ_get", &[0, 0], 0),
            ("clock_res_get", &[0, 24], 0),
            ("fd_write", &[1, 0, 0, 24], 0),
            ("fd_write", &[3, 0, 0, 24], 8),
            ("fd_write", &[1, MEMORY_END, 1, 24], 21),
            ("fd_write", &[1, 0, u32::MAX, 24], 28),
            ("fd_write", &[2, 0, 0, MEMORY_END], 21),
            ("fd_fdstat_get", &[1, 24], 0),
            ("fd_fdstat_get", &[0, 24], 8),
            ("fd_fdstat_set_flags", &[1, 0], 52),
            ("fd_prestat_get", &[3, 24], 8),
            ("fd_prestat_dir_name", &[3, 24, 1], 52),
            ("fd_read", &[0, 0, 0, 0], 52),
            ("fd_close", &[1], 0),
            ("fd_sync", &[1], 0),
            ("fd_sync", &[5], 8),
            ("fd_tell", &[1, 24], 0),
            ("fd_tell", &[4, 24], 8),
            ("fd_renumber", &[1, 2], 58),
            ("path_unlink_file", &[3, 0, 0], 58),
            ("poll_oneoff", &[0, 0, 1, 24], 0),
            ("random_get", &[24, 8], 0),
            ("random_get", &[MEMORY_END - 7, 8], 21),
            ("random_get", &[0, 65_537], 28),
            ("sched_yield", &[], 0),
            ("sock_shutdown", &[3, 0], 58),
        ] {
            let args: Vec<Arg> = args.iter().copied().map(Arg::W).collect();
            let call = format!("{module}.{name}");
            let found = ask("request_headers", |guest| guest.call(&call, &args)).0;
            assert_eq!(found, errno, "{call} {args:?}");
            rows += 1;
        }
        let clock = |id| {
            ask("request_headers", |guest| {
                let args = [Arg::W(id), Arg::L(1), Arg::W(24)];
                guest.call(&format!("{module}.clock_time_get"), &args)
            })
        };
        assert_eq!([clock(0).0, clock(1).0, clock(2).0], [0, 0, 58]);
    }
    println!("{rows} rows of WASI");
}

#[test]
fn output_becomes_log_lines() {
    let mut guest = Guest::new();
    let text = guest.bytes(b"one line\n");
    let mut slices = Vec::new();
    for word in [text.0, 4, text.0 + 4, 5] {
        slices.extend_from_slice(&word.to_le_bytes());
    }
    let slices = guest.bytes(&slices);
    let mut code = String::new();
    for fd in [1, 2] {
        let args = [fd, slices.0, 2, 24].map(Arg::W);
        code += &format!("(drop {})", guest.call("wasi_snapshot_preview1.fd_write", &args));
    }
    let report = guest.report("(i32.load (i32.const 24))");
    guest.on("request_headers", &format!("{code} {report}"), 0);
    let mut rig = Rig::new(&guest.text());
    rig.request_headers();
    assert_eq!(lines(), ["INFO [p] one line", "ERROR [p] one line"]);
    assert_eq!(rig.reported().0, 9);
}

#[test]
fn an_allocator_may_grow_log_and_fail() {
    let with = |allocator: &str| {
        let mut guest = Guest::new();
        let call = get_header(0, "user-agent")(&mut guest);
        let log = guest.say("allocating");
        let report = guest.report(&call);
        guest.on("request_headers", &report, 0);
        let body = allocator.replace("LOG", &log);
        let text =
            guest.text_with(&format!("(func (export \"malloc\") (param i32) (result i32) {body})"));
        let mut rig = Rig::new(&text);
        let action = rig.request_headers();
        (rig, action)
    };
    let (mut rig, _) = with("LOG (drop (memory.grow (i32.const 1))) (i32.const 65536)");
    assert_eq!(rig.reported(), (OK, b"test".to_vec()), "in the page that was just made");
    assert_eq!(lines(), ["INFO [p] allocating"]);
    let (mut rig, _) = with("(i32.const 0)");
    assert_eq!(rig.reported().0, BAD_MEMORY);
    let (mut rig, _) = with("(i32.const 65534)");
    assert_eq!(rig.reported().0, BAD_MEMORY);
    let (mut rig, _) = with("(i32.const -1)");
    assert_eq!(rig.reported().0, BAD_MEMORY);
    let (_, action) = with("unreachable");
    assert_eq!(action, Action::Respond);
    assert!(lines()[0].contains("unreachable"));
}
