//! Callbacks on root contexts, and the waiting streams they reach.

use super::guest::{Arg, OUT, OUT_LEN};
use super::{Guest, Rig, lines, pairs, settings};
use crate::plugin::{
    Action, Ask, CallFailure, CallTarget, Chore, Errand, GrpcEvent, HeldBody, Hold, HttpCall,
    HttpReply, ReplyTo,
};
use crate::proxy_wasm::{Isolation, OnError, PluginSettings};

const OK: u32 = 0;
const BAD_ARGUMENT: u32 = 2;
const PARSE_FAILURE: u32 = 4;
const FAILED: u32 = 10;

fn said() -> Vec<String> {
    lines().iter().map(|line| line.replace("INFO [p] ", "")).collect()
}

fn set_tick(guest: &mut Guest, ms: u32) -> String {
    let call = guest.call("env.proxy_set_tick_period_milliseconds", &[Arg::W(ms)]);
    format!("(drop {call})")
}

/// The only errand, a timer: when, and whom to call.
fn timer(rig: &mut Rig) -> (u64, ReplyTo) {
    match &mut rig.errands()[..] {
        [Errand::Timer { to, after_ms }] => (*after_ms, to.clone()),
        other => panic!("one timer, not {other:?}"),
    }
}

fn due(rig: &mut Rig, to: &ReplyTo) {
    to.root.upgrade().expect("the entry").on_timer(to.id, &mut rig.locals);
}

#[test]
fn only_the_instance_that_works_ticks_and_ticks_do_not_pile_up() {
    let mut guest = Guest::new();
    let configure = set_tick(&mut guest, 70);
    guest.on("configure", &configure, 1);
    let tick = guest.say_params("tick", 1);
    guest.on("tick", &tick, 0);
    let later = set_tick(&mut guest, 9);
    guest.on("request_headers", &later, 0);
    let stop = set_tick(&mut guest, 0);
    guest.on("response_headers", &stop, 0);
    let mut rig = Rig::new(&guest.text());
    let (after_ms, first) = timer(&mut rig);
    assert_eq!(after_ms, 70, "one of two instances");
    due(&mut rig, &first);
    assert_eq!(said(), ["tick 1"]);
    let (after_ms, second) = timer(&mut rig);
    assert_eq!((after_ms, second.id), (70, first.id), "a root has one timer");
    // A period set from a stream belongs to its root and takes the old one's place.
    rig.request_headers();
    let (after_ms, third) = timer(&mut rig);
    assert_eq!((after_ms, third.id), (9, first.id));
    due(&mut rig, &third);
    assert_eq!(said(), ["tick 1"]);
    timer(&mut rig);
    rig.response_headers();
    let (after_ms, stopped) = timer(&mut rig);
    assert_eq!((after_ms, stopped.id), (0, first.id));
    due(&mut rig, &stopped);
    assert!(said().is_empty() && rig.errands().is_empty(), "0 stops");
}

#[test]
fn a_period_set_a_thousand_times_is_one_timer_and_ends_with_its_instance() {
    let mut guest = Guest::new();
    let set = set_tick(&mut guest, 70_000);
    guest.on("request_headers", &set.repeat(1_000), 0);
    guest.on("response_headers", "unreachable", 0);
    let mut rig = Rig::new(&guest.text());
    rig.request_headers();
    let (after_ms, first) = timer(&mut rig);
    assert_eq!(after_ms, 70_000);
    rig.response_headers();
    let (after_ms, last) = timer(&mut rig);
    assert_eq!((after_ms, last.id), (0, first.id));
}

#[test]
fn a_period_set_in_a_tick_counts() {
    let mut guest = Guest::new();
    let configure = set_tick(&mut guest, 5);
    guest.on("configure", &configure, 1);
    let again = set_tick(&mut guest, 500);
    guest.on("tick", &again, 0);
    let mut rig = Rig::new(&guest.text());
    let (_, to) = timer(&mut rig);
    due(&mut rig, &to);
    assert_eq!(timer(&mut rig).0, 500, "set once, armed once");
}

#[test]
fn with_an_instance_for_each_request_one_more_works_for_the_roots() {
    let mut guest = Guest::new();
    let configure = set_tick(&mut guest, 5);
    guest.on("configure", &configure, 1);
    let tick = guest.say("tick");
    guest.on("tick", &tick, 0);
    let mut rig =
        Rig::with(PluginSettings { isolation: Isolation::Request, ..settings(&guest.text()) });
    let (_, to) = timer(&mut rig);
    rig.request_headers();
    assert!(rig.errands().is_empty(), "a request's instance does not tick");
    rig.log();
    due(&mut rig, &to);
    assert_eq!(said(), ["tick"]);
}

const HEAD: [(&str, &str); 4] =
    [(":method", "POST"), (":path", "/check?a"), (":authority", "auth.example"), ("x-a", "1")];

/// An HTTP call; its token goes to `24`.
fn http_call(guest: &mut Guest, upstream: &str, head: &[(&str, &str)], timeout: u32) -> String {
    let upstream = guest.bytes(upstream.as_bytes());
    let head = pairs(head);
    let head = guest.bytes(&head);
    let body = guest.bytes(b"body");
    let words = [upstream.0, upstream.1, head.0, head.1, body.0, body.1, 0, 0, timeout, 24];
    guest.call("env.proxy_http_call", &words.map(Arg::W))
}

fn map_value(guest: &mut Guest, map: u32, key: &str) -> String {
    let (at, len) = guest.bytes(key.as_bytes());
    let args = [map, at, len, OUT, OUT_LEN].map(Arg::W);
    guest.call("env.proxy_get_header_map_value", &args)
}

fn become_context(guest: &mut Guest, context: u32) -> String {
    let call = guest.call("env.proxy_set_effective_context", &[Arg::W(context)]);
    format!("(drop {call})")
}

/// The only errand, an HTTP call.
fn the_call(rig: &mut Rig) -> Box<HttpCall> {
    match rig.errands().pop() {
        Some(Errand::HttpCall(call)) => call,
        other => panic!("a call, not {other:?}"),
    }
}

fn reply(rig: &mut Rig, call: &HttpCall, mut reply: HttpReply) {
    let root = call.to.root.upgrade().expect("the entry");
    root.on_http_reply(call.to.id, &mut reply, &mut rig.locals);
}

fn response() -> HttpReply {
    let mut reply = HttpReply { status: 403, body: b"denied".to_vec(), ..HttpReply::default() };
    reply.headers.append(b"X-Reason", b"no");
    reply.trailers.append(b"x-sum", b"7");
    reply
}

/// Calls `auth` from request headers and waits; `then` runs when the reply is there.
fn caller(then: impl FnOnce(&mut Guest) -> String) -> Guest {
    let mut guest = Guest::new();
    let call = http_call(&mut guest, "auth", &HEAD, 250);
    guest.on("request_headers", &format!("(drop {call})"), 1);
    let said = guest.say_params("reply", 5);
    let then = then(&mut guest);
    guest.on("http_call_response", &format!("{said} {then}"), 0);
    guest
}

#[test]
fn a_call_is_what_the_guest_said_and_its_reply_what_the_peer_said() {
    let guest = caller(|guest| {
        let mut code = String::new();
        for (map, key) in [(6, ":status"), (6, "X-Reason"), (7, "x-sum"), (6, "none"), (0, ":path")]
        {
            let call = map_value(guest, map, key);
            code += &guest.say_answer(&call);
        }
        let body = guest.call("env.proxy_get_buffer_bytes", &[4, 0, 100, OUT, OUT_LEN].map(Arg::W));
        code += &guest.say_answer(&body);
        let status = guest.call("env.proxy_get_status", &[28, OUT, OUT_LEN].map(Arg::W));
        code + &guest.say_answer(&status)
    });
    let mut rig = Rig::new(&guest.text());
    assert_eq!(rig.request_headers(), Action::Pause(Hold::All));
    let call = the_call(&mut rig);
    assert_eq!(call.upstream, CallTarget::Upstream(b"auth"[..].into()));
    assert_eq!(
        [&call.method, &call.target, &call.authority, &call.body].map(|b| &b[..]),
        [&b"POST"[..], b"/check?a", b"auth.example", b"body"]
    );
    assert_eq!((call.headers.get(b"x-a"), call.headers.len()), (Some(&b"1"[..]), 1));
    assert_eq!((call.timeout_ms, call.trailers.len()), (250, 0));
    lines();
    reply(&mut rig, &call, response());
    // Root 1, token 4, two headers with the status, six bytes, one trailer. The stream's own
    // headers are not the root's to read.
    let expected = [
        "reply 14261",
        "0",
        "403",
        "0",
        "no",
        "0",
        "7",
        "1",
        "7",
        "2",
        "7",
        "0",
        "denied",
        "0",
        "",
    ];
    assert_eq!(said(), expected);
    reply(&mut rig, &call, response());
    assert!(said().is_empty(), "a token has one reply");
}

#[test]
fn a_failed_call_has_nothing_but_a_status() {
    let guest = caller(|guest| {
        let pairs = guest.call("env.proxy_get_header_map_pairs", &[6, OUT, OUT_LEN].map(Arg::W));
        let mut code = guest.say_answer(&pairs);
        let status = guest.call("env.proxy_get_status", &[28, OUT, OUT_LEN].map(Arg::W));
        code += &guest.say_answer(&status);
        code + "(if (i32.ne (i32.load (i32.const 28)) (i32.const 11)) (then unreachable))"
    });
    let mut rig = Rig::new(&guest.text());
    rig.request_headers();
    let call = the_call(&mut rig);
    lines();
    reply(&mut rig, &call, HttpReply::failed(CallFailure::Timeout));
    assert_eq!(said(), ["reply 14000", "0", "", "0", "timeout"]);
}

#[test]
fn a_reply_reaches_the_stream_that_waits() {
    let guest = caller(|guest| {
        let become_stream = become_context(guest, 2);
        let (key, value) = (guest.bytes(b"x-user"), guest.bytes(b"alice"));
        let add = guest.call(
            "env.proxy_add_header_map_value",
            &[0, key.0, key.1, value.0, value.1].map(Arg::W),
        );
        let path = map_value(guest, 0, ":path");
        let path = guest.say_answer(&path);
        let go_on = guest.call("env.proxy_continue_stream", &[Arg::W(0)]);
        format!("{become_stream} (drop {add}) {path} (drop {go_on})")
    });
    let mut rig = Rig::new(&guest.text());
    rig.request_headers();
    let call = the_call(&mut rig);
    rig.park();
    lines();
    reply(&mut rig, &call, response());
    assert_eq!(said(), ["reply 14261", "0", "/a?b=c"]);
    let asks = rig.unpark();
    assert!(matches!(asks[..], [Ask::ResumeRequest]), "{asks:?}");
    assert_eq!(rig.message.request.headers.get(b"x-user"), Some(&b"alice"[..]));
    assert!(!rig.message.resume_request, "it was asked for, not left lying");
}

#[test]
fn a_reply_can_answer_or_close_the_stream() {
    for (call, asked) in [("respond", "[Respond]"), ("close", "[Close]")] {
        let guest = caller(|guest| {
            let become_stream = become_context(guest, 2);
            let body = guest.bytes(b"denied");
            let call = if call == "respond" {
                let words = [403, 0, 0, body.0, body.1, 0, 0, u32::MAX];
                guest.call("env.proxy_send_local_response", &words.map(Arg::W))
            } else {
                guest.call("env.proxy_close_stream", &[Arg::W(0)])
            };
            format!("{become_stream} (drop {call})")
        });
        let mut rig = Rig::new(&guest.text());
        rig.request_headers();
        let call = the_call(&mut rig);
        rig.park();
        reply(&mut rig, &call, response());
        let asks = rig.unpark();
        assert_eq!(format!("{asks:?}"), asked);
        if asked == "[Respond]" {
            assert_eq!(rig.message.local.status, 403);
            assert_eq!(rig.message.local.body.as_deref(), Some(&b"denied"[..]));
        }
    }
}

/// A denial stays one, whatever else a later reply says.
#[test]
fn the_first_answer_of_a_waiting_stream_counts() {
    let mut guest = Guest::new();
    let calls = [1, 2].map(|_| http_call(&mut guest, "auth", &HEAD, 250));
    guest.on("request_headers", &calls.map(|call| format!("(drop {call})")).concat(), 1);
    let become_stream = become_context(&mut guest, 2);
    let [deny, pass] = [403, 200].map(|status| {
        let words = [status, 0, 0, 0, 0, 0, 0, u32::MAX];
        let call = guest.call("env.proxy_send_local_response", &words.map(Arg::W));
        format!("(drop {call})")
    });
    let which = format!("(if (i32.eq (local.get 1) (i32.const 4)) (then {deny}) (else {pass}))");
    guest.on("http_call_response", &format!("{become_stream} {which}"), 0);
    let mut rig = Rig::new(&guest.text());
    rig.request_headers();
    let errands = rig.errands();
    rig.park();
    for errand in &errands {
        let Errand::HttpCall(call) = errand else { panic!("a call, not {errand:?}") };
        reply(&mut rig, call, response());
    }
    let asks = rig.unpark();
    assert!(matches!(asks[..], [Ask::Respond]), "{asks:?}");
    assert_eq!(rig.message.local.status, 403);
}

#[test]
fn trailers_that_wait_can_be_read_and_edited() {
    let guest = caller(|guest| {
        let become_stream = become_context(guest, 2);
        let look = map_value(guest, 1, "x-sig");
        let look = guest.say_answer(&look);
        let (key, len) = guest.bytes(b"x-sig");
        let set =
            guest.call("env.proxy_replace_header_map_value", &[1, key, len, key, len].map(Arg::W));
        format!("{become_stream} {look} (drop {set})")
    });
    for with_trailers in [true, false] {
        let mut rig = Rig::new(&guest.text());
        rig.message.request.trailers.append(b"X-Sig", b"bad");
        rig.request_headers();
        let call = the_call(&mut rig);
        rig.message.held_body = Some(HeldBody { step: 0, of_response: false, with_trailers });
        rig.park();
        lines();
        reply(&mut rig, &call, response());
        rig.unpark();
        let expected = if with_trailers { ["0", "bad"] } else { ["2", ""] };
        assert_eq!(said()[1..], expected);
        let kept: &[u8] = if with_trailers { b"x-sig" } else { b"bad" };
        assert_eq!(rig.message.request.trailers.get(b"x-sig"), Some(kept));
    }
}

/// Copies are not in the guest's memory, so they have a bound of their own.
#[test]
fn callouts_have_a_bound_on_what_they_send() {
    let mut guest = Guest::new();
    let (upstream, head) = (guest.bytes(b"auth"), guest.bytes(&pairs(&HEAD)));
    let words = [upstream.0, upstream.1, head.0, head.1, 0, 20 << 20, 0, 0, 250, 24];
    let call = guest.call("env.proxy_http_call", &words.map(Arg::W));
    let four = guest.say_answer(&call).repeat(4);
    guest.on("request_headers", &format!("(drop (memory.grow (i32.const 400))) {four}"), 1);
    let mut rig = Rig::new(&guest.text());
    rig.request_headers();
    assert_eq!(rig.errands().len(), 3, "60 MiB");
    // Statuses are digits: 10 is the one after 9.
    let complaint = "WARN [p] has more to send in callouts than one plugin may";
    assert_eq!(said(), ["0", "", "0", "", "0", "", complaint, ":", ""]);
}

#[test]
fn a_reply_after_the_stream_comes_to_the_root_alone() {
    let guest = caller(|guest| {
        let gone = guest.call("env.proxy_set_effective_context", &[Arg::W(2)]);
        guest.say_answer(&gone)
    });
    let mut rig = Rig::new(&guest.text());
    rig.request_headers();
    let call = the_call(&mut rig);
    rig.log();
    lines();
    reply(&mut rig, &call, response());
    assert_eq!(said()[..2], ["reply 14261".to_owned(), BAD_ARGUMENT.to_string()]);
}

#[test]
fn a_trap_in_a_reply_is_told_to_all_streams_of_the_instance() {
    for on_error in [OnError::Closed, OnError::Open] {
        let guest = caller(|_| "unreachable".to_owned());
        let mut rig = Rig::with(PluginSettings { on_error, ..settings(&guest.text()) });
        rig.request_headers();
        let call = the_call(&mut rig);
        rig.park();
        reply(&mut rig, &call, response());
        let asks = rig.unpark();
        assert!(matches!(asks[..], [Ask::Lost]), "{asks:?}");
        let log = lines();
        assert!(log.iter().any(|line| line.contains("proxy_on_http_call_response trapped")));
        let (plugin, mut stream) = rig.stream();
        let action = plugin.on_lost(&mut stream);
        match on_error {
            OnError::Closed => assert_eq!(action, Action::Respond),
            OnError::Open => assert_eq!(action, Action::Continue),
        }
    }
}

/// What starting one call answers in request headers.
fn status_of(settings_of: impl FnOnce(&str) -> PluginSettings, call: CallBuilder) -> (u32, usize) {
    let mut guest = Guest::new();
    let call = call(&mut guest);
    let report = guest.report(&call);
    guest.on("request_headers", &report, 0);
    let mut rig = Rig::with(settings_of(&guest.text()));
    rig.request_headers();
    (rig.reported().0, rig.errands().len())
}

type CallBuilder = Box<dyn FnOnce(&mut Guest) -> String>;

#[test]
fn calls_that_can_not_be_made() {
    let without = |name: &'static str| -> Vec<(&'static str, &'static str)> {
        HEAD.into_iter().filter(|(key, _)| *key != name).collect()
    };
    let with = |name, value| -> Vec<(&'static str, &'static str)> {
        without(name).into_iter().chain([(name, value)]).collect()
    };
    for (upstream, head, timeout, status) in [
        ("auth", HEAD.to_vec(), 0, OK),
        ("auth", HEAD.to_vec(), i32::MAX as u32, OK),
        ("auth", HEAD.to_vec(), u32::MAX, BAD_ARGUMENT),
        ("nobody", HEAD.to_vec(), 0, BAD_ARGUMENT),
        ("", HEAD.to_vec(), 0, BAD_ARGUMENT),
        ("10.0.0.1:80", HEAD.to_vec(), 0, BAD_ARGUMENT),
        ("auth", without(":method"), 0, BAD_ARGUMENT),
        ("auth", without(":path"), 0, BAD_ARGUMENT),
        ("auth", without(":authority"), 0, BAD_ARGUMENT),
        ("auth", with(":path", "no-slash"), 0, BAD_ARGUMENT),
        ("auth", with(":path", "/a b"), 0, BAD_ARGUMENT),
        ("auth", with(":method", "A B"), 0, BAD_ARGUMENT),
        ("auth", with(":authority", "a\r\nb: c"), 0, BAD_ARGUMENT),
        ("auth", with("bad name", "v"), 0, BAD_ARGUMENT),
        ("auth", with("x", "v\r\ny: z"), 0, BAD_ARGUMENT),
        ("auth", with(":scheme", "https"), 0, OK),
    ] {
        let shown = format!("{upstream} {head:?} {timeout}");
        let call = Box::new(move |guest: &mut Guest| http_call(guest, upstream, &head, timeout));
        let found = status_of(settings, call);
        assert_eq!(found, (status, usize::from(status == OK)), "{shown}");
    }
}

#[test]
fn where_calls_may_go() {
    let allow = |names: &[&str]| Some(names.iter().map(|&name| name.to_owned()).collect());
    for (direct, allowed, upstream, status) in [
        (true, None, "10.0.0.1:80", OK),
        (true, None, "auth", OK),
        (true, allow(&["10.0.0.1:80"]), "10.0.0.1:80", OK),
        (true, allow(&["10.0.0.1"]), "10.0.0.1:81", OK),
        (true, allow(&["10.0.0.1:80"]), "10.0.0.1:81", BAD_ARGUMENT),
        (false, allow(&["10.0.0.1:80"]), "10.0.0.1:80", BAD_ARGUMENT),
        (false, allow(&["other"]), "auth", BAD_ARGUMENT),
        (false, allow(&["auth"]), "auth", OK),
    ] {
        let shown = format!("{direct} {allowed:?} {upstream}");
        let settings_of = |text: &str| PluginSettings {
            callouts_direct: direct,
            callouts_allow: allowed,
            ..settings(text)
        };
        let call = Box::new(move |guest: &mut Guest| http_call(guest, upstream, &HEAD, 0));
        assert_eq!(status_of(settings_of, call).0, status, "{shown}");
    }
}

#[test]
fn an_instance_has_a_bounded_number_of_calls_running() {
    let guest = caller(|_| String::new());
    let mut rig = Rig::with(PluginSettings { callouts_max: 2, ..settings(&guest.text()) });
    for expected in [1, 1, 0] {
        rig.request_headers();
        rig.next();
        assert_eq!(rig.errands().len(), expected);
    }
    let warned = lines().iter().filter(|line| line.contains("`limits.callouts`")).count();
    assert_eq!(warned, 1);
    let call = Box::new(|guest: &mut Guest| http_call(guest, "auth", &HEAD, 0));
    let none = |text: &str| PluginSettings { callouts_max: 0, ..settings(text) };
    assert_eq!(status_of(none, call), (FAILED, 0));
}

#[test]
fn what_is_asked_while_a_conf_is_tried_is_not_done() {
    let mut guest = Guest::new();
    let call = http_call(&mut guest, "anything", &HEAD, 0);
    let report = format!("(if {call} (then unreachable))");
    guest.on("configure", &report, 1);
    // On the control side any name will do; on the worker it is not known.
    let host = super::host();
    let plugins = host.load(vec![settings(&guest.text())]).expect("loaded");
    let tried = plugins.plugin("p", &serde_json::json!({"conf": "c"}));
    assert!(tried.is_ok(), "{tried:?}");

    let mut guest = Guest::new();
    let call = http_call(&mut guest, "auth", &HEAD, 0);
    guest.on("configure", &format!("(drop {call})"), 1);
    let says = guest.say_params("reply", 5);
    guest.on("http_call_response", &says, 0);
    let mut rig = Rig::new(&guest.text());
    let call = the_call(&mut rig);
    reply(&mut rig, &call, HttpReply::failed(CallFailure::Connect));
    assert_eq!(said(), ["reply 14000"], "of two instances the one that works called");
}

#[test]
fn queues_tell_the_root_that_registered_them() {
    let mut guest = Guest::new();
    let name = guest.bytes(b"q");
    let register = guest.call("env.proxy_register_shared_queue", &[name.0, name.1, 24].map(Arg::W));
    guest.on("configure", &format!("(drop {register})"), 1);
    let item = guest.bytes(b"item");
    let enqueue = guest.call("env.proxy_enqueue_shared_queue", &[1, item.0, item.1].map(Arg::W));
    guest.on("request_headers", &format!("(drop {enqueue}) (drop {enqueue})"), 0);
    let ready = guest.say_params("ready", 2);
    let take = guest.call("env.proxy_dequeue_shared_queue", &[1, OUT, OUT_LEN].map(Arg::W));
    let take = guest.say_answer(&take);
    guest.on("queue_ready", &format!("{ready} {take}"), 0);
    let mut rig = Rig::new(&guest.text());
    rig.request_headers();
    assert!(said().is_empty(), "never inside the callback that put the item in");
    let letters = std::mem::take(&mut *rig.letters.0.lock().expect("one thread"));
    assert_eq!(letters.len(), 2, "one for each item");
    for to in letters {
        to.root.upgrade().expect("the entry").on_post(to.id, &mut rig.locals);
        assert_eq!(said(), ["ready 11", "0", "item"]);
    }
}

fn grpc(guest: &mut Guest, stream: bool, upstream: &[u8]) -> String {
    let upstream = guest.bytes(upstream);
    let (service, method) = (guest.bytes(b"pkg.Service"), guest.bytes(b"Method"));
    let metadata = pairs(&[("x-m", "1")]);
    let (metadata, message) = (guest.bytes(&metadata), guest.bytes(b"message"));
    let mut words = vec![upstream, service, method, metadata];
    if !stream {
        words.push(message);
    }
    let mut words: Vec<u32> = words.into_iter().flat_map(|(at, len)| [at, len]).collect();
    words.extend(if stream { vec![24] } else { vec![900, 24] });
    let words: Vec<Arg> = words.into_iter().map(Arg::W).collect();
    guest.call(if stream { "env.proxy_grpc_stream" } else { "env.proxy_grpc_call" }, &words)
}

#[test]
fn grpc_streams_from_open_to_close() {
    let mut guest = Guest::new();
    let open = grpc(&mut guest, true, b"auth");
    guest.on("request_headers", &format!("(drop {open})"), 0);
    let words = guest.bytes(b"ping");
    let send = guest.call("env.proxy_grpc_send", &[6, words.0, words.1, 0].map(Arg::W));
    guest.on("request_body", &format!("(drop {send})"), 0);
    let close = guest.call("env.proxy_grpc_close", &[Arg::W(6)]);
    guest.on("response_headers", &format!("(drop {close})"), 0);
    for (name, map) in [("receive_initial_metadata", 4), ("receive_trailing_metadata", 5)] {
        let said = guest.say_params(name, 3);
        let value = map_value(&mut guest, map, "x-n");
        let value = guest.say_answer(&value);
        guest.on(&format!("grpc_{name}"), &format!("{said} {value}"), 0);
    }
    let said_message = guest.say_params("receive", 3);
    let bytes = guest.call("env.proxy_get_buffer_bytes", &[5, 0, 100, OUT, OUT_LEN].map(Arg::W));
    let bytes = guest.say_answer(&bytes);
    guest.on("grpc_receive", &format!("{said_message} {bytes}"), 0);
    let said_close = guest.say_params("close", 3);
    let status = guest.call("env.proxy_get_status", &[28, OUT, OUT_LEN].map(Arg::W));
    let status = guest.say_answer(&status);
    guest.on("grpc_close", &format!("{said_close} {status}"), 0);
    let mut rig = Rig::new(&guest.text());
    rig.request_headers();
    let Some(Errand::GrpcOpen(open)) = rig.errands().pop() else { panic!("an opening") };
    assert_eq!(open.upstream, CallTarget::Upstream(b"auth"[..].into()));
    assert_eq!((&open.service[..], &open.method[..]), (&b"pkg.Service"[..], &b"Method"[..]));
    assert_eq!((open.metadata.get(b"x-m"), open.message.as_deref()), (Some(&b"1"[..]), None));
    rig.request_body(b"x", true);
    let sent = format!("{:?}", rig.errands());
    assert!(sent.contains("GrpcSend") && sent.contains("end: false"), "{sent}");
    let root = open.to.root.upgrade().expect("the entry");
    let tell = |rig: &mut Rig, event| root.on_grpc(open.to.id, event, &mut rig.locals);
    let mut fields = crate::http::Headers::new();
    fields.append(b"x-n", b"v");
    lines();
    tell(&mut rig, GrpcEvent::InitialMetadata(fields.clone()));
    tell(&mut rig, GrpcEvent::Message(b"pong".to_vec()));
    tell(&mut rig, GrpcEvent::TrailingMetadata(fields));
    rig.response_headers();
    let closed = format!("{:?}", rig.errands());
    assert!(closed.contains("message: None, end: true"), "{closed}");
    tell(&mut rig, GrpcEvent::Closed { status: 5, message: "gone".to_owned() });
    let expected = [
        "receive_initial_metadata 161",
        "0",
        "v",
        "receive 164",
        "0",
        "pong",
        "receive_trailing_metadata 161",
        "0",
        "v",
        "close 165",
        "0",
        "gone",
    ];
    assert_eq!(said(), expected);
    tell(&mut rig, GrpcEvent::Message(b"late".to_vec()));
    assert!(said().is_empty(), "nothing after the end");
}

#[test]
fn a_unary_call_ends_with_its_message_or_a_status() {
    let mut guest = Guest::new();
    let open = grpc(&mut guest, false, b"\x0a\x06\x0a\x04auth");
    guest.on("request_headers", &format!("(drop {open})"), 0);
    let receive = guest.say_params("receive", 3);
    guest.on("grpc_receive", &receive, 0);
    let close = guest.say_params("close", 3);
    guest.on("grpc_close", &close, 0);
    let mut rig = Rig::new(&guest.text());
    let closed = |status| GrpcEvent::Closed { status, message: String::new() };
    for (events, expected) in [
        (vec![GrpcEvent::Message(b"hi".to_vec()), closed(0)], vec!["receive 152"]),
        (vec![closed(4)], vec!["close 194"]),
    ] {
        rig.request_headers();
        rig.next();
        let Some(Errand::GrpcOpen(open)) = rig.errands().pop() else { panic!("an opening") };
        assert_eq!(open.upstream, CallTarget::Upstream(b"auth"[..].into()), "in a GrpcService");
        assert_eq!((open.message.as_deref(), open.timeout_ms), (Some(&b"message"[..]), 900));
        lines();
        let root = open.to.root.upgrade().expect("the entry");
        events.into_iter().for_each(|event| root.on_grpc(open.to.id, event, &mut rig.locals));
        assert_eq!(said(), expected);
    }
    let call = Box::new(|guest: &mut Guest| grpc(guest, false, b"nobody"));
    assert_eq!(status_of(settings, call), (PARSE_FAILURE, 0));
}

#[test]
fn calls_of_a_dropped_instance_are_cancelled() {
    let mut guest = Guest::new();
    let open = grpc(&mut guest, true, b"auth");
    guest.on("request_headers", &format!("(drop {open})"), 0);
    let settings = PluginSettings { isolation: Isolation::Request, ..settings(&guest.text()) };
    let mut rig = Rig::with(settings);
    rig.request_headers();
    assert!(matches!(rig.errands()[..], [Errand::GrpcOpen(_)]));
    rig.log();
    // Instances are dropped between requests.
    rig.locals.do_chores(Chore::BetweenRequests);
    assert!(matches!(rig.errands()[..], [Errand::GrpcCancel { .. }]));
}
