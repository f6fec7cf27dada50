//! Every host function in every callback, with good and with bad arguments: one row each.
//!
//! [`calls`] says how each function is called and how its answer follows from the place. Bad
//! pointers and lengths are made from the first of its calls. What is answered must be what the
//! [`model`](super::model) of the ABI reference says.

use super::super::Plugins;
use super::any::{self, MEMORY_END, Program, Section};
use super::model::{
    BAD_ARGUMENT, CAS_MISMATCH, EMPTY, Expect, NOT_FOUND, OK, PARSE_FAILURE, Place, Way,
};
use super::{Rig, lines, pairs, settings};
use crate::http::Headers;
use crate::plugin::{Errand, GrpcEvent, HttpReply};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use Expect::{
    Always, Buffer, Change, Live, Missing, OnRoot, OnStream, Pairs, SetBuffer, Size, Value,
};

/// Bytes that lie in the guest's memory.
#[derive(Clone, Copy)]
struct Bytes(u32, &'static [u8]);

/// The name of a field that every map has, of one that none has, and a value.
const HERE: Bytes = Bytes(0x100, b"x-here");
const NOT_HERE: Bytes = Bytes(0x110, b"x-not-here");
const VALUE: Bytes = Bytes(0x120, b"value");
/// A map of one pair, and one that is none: it is taken as empty (§7).
const MAP: Bytes = Bytes(0x130, b"\x01\0\0\0\x06\0\0\0\x01\0\0\0x-here\0v\0");
const NO_MAP: Bytes = Bytes(0x150, b"\xff\0\0\0\xff");
const NOTHING: Bytes = Bytes(MEMORY_END, b"");
const ROOT_ID: Bytes = Bytes(0x160, b"plugin_root_id");
const METHOD: Bytes = Bytes(0x170, b"request\0method");
const OWN: Bytes = Bytes(0x180, b"own");
const BAD_NAME: Bytes = Bytes(0x190, b"a b");
const MISSING_KEY: Bytes = Bytes(0x1a0, b"no such key");

const ALL: [Bytes; 11] =
    [HERE, NOT_HERE, VALUE, MAP, NO_MAP, NOTHING, ROOT_ID, METHOD, OWN, BAD_NAME, MISSING_KEY];

static TEXT: LazyLock<String> = LazyLock::new(any::text);

/// Where answers are written.
const OUT: u32 = 0x1000;

/// One call: its bytes, its other words, what it answers.
#[derive(Clone)]
struct Call {
    bytes: Vec<Bytes>,
    words: Vec<u32>,
    expect: Expect,
}

fn call(bytes: &[Bytes], words: &[u32], expect: Expect) -> Call {
    Call { bytes: bytes.to_vec(), words: words.to_vec(), expect }
}

/// A call for each map or buffer there is, and for numbers that none has.
fn each(last: u32, bytes: &[Bytes], more: &[u32], expect: fn(u32) -> Expect) -> Vec<Call> {
    let numbers = (0..=last + 1).chain([u32::MAX]);
    numbers.map(|number| call(bytes, &[&[number], more].concat(), expect(number))).collect()
}

/// How a function is called. The first call is good, where its place allows it.
fn calls(function: &str) -> Vec<Call> {
    let ok = Always(OK);
    match function {
        "proxy_log" => vec![
            // Below what is written, so that no line of it is heard.
            call(&[VALUE], &[0], ok),
            call(&[VALUE], &[5], ok),
            call(&[NOTHING], &[0], ok),
            call(&[VALUE], &[6], Always(BAD_ARGUMENT)),
        ],
        "proxy_get_header_map_pairs" => each(7, &[], &[], Pairs),
        "proxy_get_header_map_value" => {
            let missing = each(7, &[NOT_HERE], &[], Missing);
            each(7, &[HERE], &[], Value).into_iter().chain(missing).collect()
        }
        "proxy_get_header_map_size" => each(7, &[], &[], Size),
        "proxy_add_header_map_value" | "proxy_replace_header_map_value" => {
            let mut calls = each(7, &[HERE, VALUE], &[], Change);
            calls.push(call(&[HERE, NOTHING], &[0], Change(0)));
            calls.push(call(&[BAD_NAME, VALUE], &[0], Always(BAD_ARGUMENT)));
            calls.push(call(&[NOTHING, VALUE], &[0], Always(BAD_ARGUMENT)));
            calls
        }
        "proxy_remove_header_map_value" => {
            let absent = each(7, &[NOT_HERE], &[], Change);
            // Last: trailers whose only field is gone are as if there had never been any.
            absent.into_iter().chain(each(7, &[HERE], &[], Change)).collect()
        }
        "proxy_set_header_map_pairs" => {
            let lenient = each(7, &[NO_MAP], &[], Change);
            each(7, &[MAP], &[], Change).into_iter().chain(lenient).collect()
        }
        "proxy_get_buffer_bytes" => {
            let beyond = each(8, &[], &[u32::MAX, 0], Buffer);
            let mut calls = each(8, &[], &[0, u32::MAX], Buffer);
            // The configuration of this plugin is always there, and never of that length.
            calls.insert(0, call(&[], &[6, 0, 9], ok));
            calls.into_iter().chain(beyond).collect()
        }
        "proxy_get_buffer_status" => each(8, &[], &[], Buffer),
        "proxy_set_buffer_bytes" => {
            let append = each(8, &[VALUE], &[i32::MAX as u32, 0], SetBuffer);
            each(8, &[VALUE], &[0, 0], SetBuffer).into_iter().chain(append).collect()
        }
        _ => other_calls(function),
    }
}

/// Functions that work on no map and no buffer.
fn other_calls(function: &str) -> Vec<Call> {
    let ok = Always(OK);
    let bad = Always(BAD_ARGUMENT);
    match function {
        "proxy_get_property" => vec![
            call(&[ROOT_ID], &[], ok),
            call(&[METHOD], &[], OnStream(NOT_FOUND)),
            call(&[NOT_HERE], &[], Always(NOT_FOUND)),
            call(&[NOTHING], &[], Always(NOT_FOUND)),
        ],
        "proxy_set_property" => vec![call(&[OWN, VALUE], &[], OnStream(NOT_FOUND))],
        "proxy_continue_stream" | "proxy_close_stream" => {
            let closed = if function == "proxy_close_stream" { OnStream(BAD_ARGUMENT) } else { ok };
            let known = (0..=3).map(|stream| call(&[], &[stream], closed));
            known.chain([4, u32::MAX].map(|stream| call(&[], &[stream], bad))).collect()
        }
        "proxy_send_local_response" => vec![
            call(&[VALUE, VALUE, MAP], &[403, 7], OnStream(BAD_ARGUMENT)),
            call(&[NOTHING, NOTHING, NOTHING], &[200, u32::MAX], OnStream(BAD_ARGUMENT)),
            call(&[NOTHING, NOTHING, NO_MAP], &[200, 17], OnStream(BAD_ARGUMENT)),
            call(&[VALUE, VALUE, MAP], &[0, 0], bad),
            call(&[VALUE, VALUE, MAP], &[65_536 + 200, 0], bad),
        ],
        "proxy_http_call" => vec![call(&[HERE, MAP, VALUE, MAP], &[1_000], bad)],
        "proxy_grpc_call" => {
            vec![call(&[NOTHING, HERE, HERE, MAP, VALUE], &[1_000], Always(PARSE_FAILURE))]
        }
        "proxy_grpc_stream" => vec![call(&[NOTHING, HERE, HERE, MAP], &[], Always(PARSE_FAILURE))],
        "proxy_grpc_send" => {
            vec![call(&[VALUE], &[98, 0], Always(NOT_FOUND)), call(&[VALUE], &[97, 0], bad)]
        }
        "proxy_grpc_cancel" | "proxy_grpc_close" => vec![call(&[], &[99], Always(NOT_FOUND))],
        "proxy_call_foreign_function" => {
            vec![call(&[NOT_HERE, VALUE], &[], Always(NOT_FOUND))]
        }
        "proxy_set_effective_context" => vec![
            call(&[], &[1], Live),
            call(&[], &[0], ok),
            call(&[], &[4_000], bad),
            call(&[], &[u32::MAX], bad),
        ],
        "proxy_done" => vec![call(&[], &[], Always(NOT_FOUND))],
        "proxy_set_tick_period_milliseconds" => {
            vec![call(&[], &[10], OnRoot(BAD_ARGUMENT)), call(&[], &[0], OnRoot(BAD_ARGUMENT))]
        }
        "proxy_set_active_span_tag" => vec![call(&[OWN, VALUE], &[], ok)],
        "proxy_get_log_level" | "proxy_get_current_time_nanoseconds" | "proxy_get_status" => {
            vec![call(&[], &[], ok)]
        }
        "proxy_get_configuration" | "proxy_continue_request" | "proxy_continue_response" => {
            vec![call(&[], &[], ok)]
        }
        "proxy_clear_route_cache" => vec![call(&[], &[], ok)],
        _ => shared_calls(function),
    }
}

/// What all contexts share: it can be had everywhere. [`setting`] has made key, queue and metrics.
fn shared_calls(function: &str) -> Vec<Call> {
    let ok = Always(OK);
    let (bad, unknown) = (Always(BAD_ARGUMENT), Always(NOT_FOUND));
    match function {
        "proxy_set_shared_data" => vec![
            call(&[OWN, VALUE], &[0], ok),
            call(&[OWN, NOTHING], &[0], ok),
            call(&[OWN, VALUE], &[u32::MAX], Always(CAS_MISMATCH)),
        ],
        "proxy_get_shared_data" => {
            vec![call(&[OWN], &[], ok), call(&[MISSING_KEY], &[], unknown)]
        }
        "proxy_register_shared_queue" => {
            vec![call(&[OWN], &[], ok), call(&[NOTHING], &[], ok)]
        }
        "proxy_resolve_shared_queue" => vec![
            // The VM's own id, by its name and by none.
            call(&[OWN, OWN], &[], ok),
            call(&[NOTHING, OWN], &[], ok),
            call(&[NOTHING, MISSING_KEY], &[], unknown),
            call(&[MISSING_KEY, OWN], &[], unknown),
        ],
        "proxy_enqueue_shared_queue" => vec![
            call(&[VALUE], &[1], ok),
            call(&[NOTHING], &[1], ok),
            call(&[VALUE], &[0], unknown),
            call(&[VALUE], &[99], unknown),
        ],
        "proxy_dequeue_shared_queue" => {
            vec![call(&[], &[1], ok), call(&[], &[1], Always(EMPTY)), call(&[], &[99], unknown)]
        }
        "proxy_define_metric" => vec![
            call(&[OWN], &[0], ok),
            call(&[OWN], &[1], ok),
            call(&[OWN], &[2], ok),
            call(&[OWN], &[3], bad),
        ],
        // A counter, a gauge, a histogram.
        "proxy_increment_metric" => vec![
            call(&[], &[COUNTER, 1, 0], ok),
            call(&[], &[COUNTER, 0, 0], bad),
            call(&[], &[COUNTER, u32::MAX, u32::MAX], bad),
            call(&[], &[GAUGE, u32::MAX, u32::MAX], ok),
            call(&[], &[HISTOGRAM, 1, 0], bad),
            call(&[], &[99, 1, 0], unknown),
        ],
        "proxy_record_metric" => vec![
            call(&[], &[COUNTER, 1, 0], ok),
            call(&[], &[GAUGE, 1, 0], ok),
            call(&[], &[HISTOGRAM, 1, 0], ok),
            call(&[], &[99, 1, 0], unknown),
        ],
        "proxy_get_metric" => vec![
            call(&[], &[COUNTER], ok),
            call(&[], &[GAUGE], ok),
            call(&[], &[HISTOGRAM], bad),
            call(&[], &[99], unknown),
        ],
        _ => panic!("{function} is in no table: how is it called?"),
    }
}

/// Functions of WASI, with error numbers for answers (§18).
fn wasi_calls(function: &str) -> Vec<Call> {
    const BADF: u32 = 8;
    const NOSYS: u32 = 52;
    const NOTSUP: u32 = 58;
    let one = |words: &[u32], errno: u32| call(&[], words, Always(errno));
    // Standard output and error against other files, with more words behind the file's number.
    let files = |more: &[u32], output: u32, other: u32| {
        let of = |(fd, errno): (u32, u32)| one(&[&[fd], more].concat(), errno);
        [(1, output), (2, output), (0, other), (3, other), (u32::MAX, other)].map(of).to_vec()
    };
    let zeros = |params: &str| vec![0; params.len() + params.matches('D').count()];
    match function {
        "clock_time_get" => [(0, 0), (1, 0), (2, NOTSUP), (u32::MAX, NOTSUP)]
            .map(|(id, errno)| one(&[id, 1, 0], errno))
            .to_vec(),
        "fd_write" | "fd_pwrite" => {
            let offset: &[u32] = if function == "fd_pwrite" { &[0, 0] } else { &[] };
            let with =
                |fd, slices, count, errno| one(&[&[fd, slices, count], offset].concat(), errno);
            vec![
                with(1, OUT, 0, 0),
                with(2, OUT, 0, 0),
                with(0, OUT, 0, BADF),
                with(3, OUT, 1, BADF),
                with(1, MEMORY_END - 7, 1, FAULT),
                with(1, MEMORY_END, 1, FAULT),
                with(1, u32::MAX, 1, FAULT),
            ]
        }
        "fd_fdstat_get" => {
            let mut calls = files(&[OUT], 0, BADF);
            calls.extend([MEMORY_END - 23, u32::MAX].map(|at| one(&[1, at], FAULT)));
            calls
        }
        "fd_allocate" | "fd_fdstat_set_rights" => files(&[0; 4], 0, BADF),
        "fd_datasync" | "fd_sync" => files(&[], 0, BADF),
        "fd_filestat_set_size" => files(&[0; 2], 0, BADF),
        "fd_filestat_set_times" => files(&[0; 5], 0, BADF),
        "fd_tell" => files(&[], 0, BADF),
        "fd_renumber" => files(&[2], NOTSUP, BADF),
        "random_get" => [
            (OUT, 8, 0),
            (OUT, 0, 0),
            (MEMORY_END - 7, 8, FAULT),
            (u32::MAX, 1, FAULT),
            (OUT, 65_537, 28),
        ]
        .map(|(at, len, errno)| one(&[at, len], errno))
        .to_vec(),
        "args_sizes_get" | "environ_sizes_get" => vec![one(&[], 0)],
        "clock_res_get" => vec![one(&[0], 0)],
        "poll_oneoff" => vec![one(&[0, 0, 1], 0)],
        _ => {
            let errno = match function {
                "args_get" | "environ_get" | "fd_advise" | "fd_close" | "fd_seek" => 0,
                "sched_yield" => 0,
                "fd_filestat_get" | "fd_prestat_get" => BADF,
                "fd_pread" | "fd_prestat_dir_name" | "fd_read" => NOSYS,
                "fd_fdstat_set_flags" => NOSYS,
                "fd_readdir" => 20,
                "path_open" => 44,
                _ if function.starts_with("path_") || function.starts_with("sock_") => NOTSUP,
                "proc_raise" => NOTSUP,
                _ => panic!("{function} is in no table: how is it called?"),
            };
            let (_, params, _) = any::WASI.iter().find(|f| f.0 == function).expect("a function");
            vec![one(&zeros(params), errno)]
        }
    }
}

/// WASI's word for a pointer that leaves the memory.
const FAULT: u32 = 21;

/// Ids: the type in the low bits, counted above (§14).
const COUNTER: u32 = 0;
const GAUGE: u32 = 5;
const HISTOGRAM: u32 = 10;

/// What must be there before any call: bytes in memory, a key, an item in queue 1, three metrics.
fn setting(section: &mut Section) -> usize {
    for Bytes(at, bytes) in ALL {
        if !bytes.is_empty() {
            section.poke(at, bytes);
        }
    }
    let (Bytes(own, own_bytes), Bytes(value, value_bytes)) = (OWN, VALUE);
    let (own_len, len) = (own_bytes.len() as u32, value_bytes.len() as u32);
    section.call("env.proxy_set_shared_data", &[own, own_len, value, len, 0]);
    section.call("env.proxy_register_shared_queue", &[own, own_len, OUT]);
    section.call("env.proxy_enqueue_shared_queue", &[1, value, len]);
    for kind in 0..3 {
        section.call("env.proxy_define_metric", &[kind, own, own_len, OUT]);
    }
    6
}

/// A row of one function: its arguments, and its answers by place.
struct Row {
    args: Vec<u32>,
    expect: Expect,
    bad_memory: bool,
}

/// The arguments in the order of the parameters.
fn args(params: &str, call: &Call) -> Vec<u32> {
    let (mut bytes, mut words, mut out) = (call.bytes.iter(), call.words.iter(), OUT);
    let mut len = 0;
    let mut args = Vec::new();
    for param in params.chars() {
        match param {
            'P' => {
                let Bytes(at, bytes) = bytes.next().expect("bytes for each P");
                len = bytes.len() as u32;
                args.push(*at);
            }
            'L' => args.push(len),
            'O' | 'T' => {
                args.push(out);
                out += 8;
            }
            _ => args.push(*words.next().expect("a word for each W")),
        }
        if param == 'D' {
            args.push(*words.next().expect("two words for each D"));
        }
    }
    assert!(bytes.next().is_none() && words.next().is_none(), "{params}: something is left");
    args
}

/// All rows of a function: its calls, then the first of them with each pointer and length bad.
fn rows(params: &str, calls: &[Call]) -> Vec<Row> {
    let good = calls.iter().map(|call| Row {
        args: args(params, call),
        expect: call.expect,
        bad_memory: false,
    });
    let (first, expect) = (args(params, &calls[0]), calls[0].expect);
    let places = params.chars().flat_map(|p| if p == 'D' { vec!['D', 'd'] } else { vec![p] });
    let bad = places.enumerate().flat_map(|(at, param)| {
        let values: &[u32] = match param {
            'P' | 'O' => &[MEMORY_END - 2, MEMORY_END, u32::MAX],
            'L' => &[MEMORY_END, u32::MAX],
            'T' => &[MEMORY_END - 7, MEMORY_END, u32::MAX],
            _ => &[],
        };
        let first = first.clone();
        values.iter().map(move |value| {
            let mut args = first.clone();
            args[at] = *value;
            Row { args, expect, bad_memory: true }
        })
    });
    good.chain(bad).collect()
}

fn program(name: &str, rows: &[Row], way: Way) -> (Program, usize) {
    let mut program = Program::new();
    let mut before = 0;
    let mut make_calls = |section: &mut Section| {
        before = setting(section);
        if way == Way::Visiting {
            section.call("env.proxy_set_effective_context", &[STREAM]);
            before += 1;
        }
        rows.iter().for_each(|row| _ = section.call(name, &row.args));
        section.say_answers();
    };
    match way {
        Way::Allocator => make_calls(program.on("allocate")),
        Way::Roots | Way::Visiting => {
            way.places().iter().for_each(|place| make_calls(program.on(place.callback)));
            ask_for_callbacks(&mut program);
        }
        Way::WithTrailers | Way::WithoutTrailers | Way::WithoutResponse => {
            make_calls(program.everywhere());
        }
    }
    if way == Way::Allocator {
        let Bytes(at, key) = HERE;
        let section = program.on("request_headers").poke(at, key);
        let args = [0, at, key.len() as u32, OUT, OUT + 8];
        section.call("env.proxy_get_header_map_value", &args);
    }
    (program, before)
}

/// The stream of a rig: the second context, after the root.
const STREAM: u32 = 2;

/// Has everything come to the root that can: ticks, an item, the replies to two calls. The stream
/// waits meanwhile.
fn ask_for_callbacks(program: &mut Program) {
    const TARGET: Bytes = Bytes(0x200, b"auth");
    const HEAD: [(&str, &str); 3] = [(":method", "GET"), (":path", "/"), (":authority", "a")];
    let (head_at, head) = (0x210, pairs(&HEAD));
    let Bytes(own, own_bytes) = OWN;
    let Bytes(target, target_bytes) = TARGET;
    let (own_len, target_len) = (own_bytes.len() as u32, target_bytes.len() as u32);
    program
        .on("configure")
        .poke(own, own_bytes)
        .call("env.proxy_set_tick_period_milliseconds", &[10])
        .call("env.proxy_register_shared_queue", &[own, own_len, OUT]);
    let to_target = [target, target_len];
    let http = [&to_target[..], &[head_at, head.len() as u32, 0, 0, 0, 0, 1_000, OUT]].concat();
    let grpc = [&to_target[..], &[own, own_len, own, own_len, 0, 0, OUT]].concat();
    program
        .on("request_headers")
        .poke(own, own_bytes)
        .poke(target, target_bytes)
        .poke(head_at, &head)
        .call("env.proxy_enqueue_shared_queue", &[1, own, own_len])
        .call("env.proxy_dequeue_shared_queue", &[1, OUT, OUT + 8])
        .call("env.proxy_http_call", &http)
        .call("env.proxy_grpc_stream", &grpc)
        .value(1);
}

/// Gives the root what it asked for.
fn play_roots(rig: &mut Rig) {
    let fields = || {
        let mut fields = Headers::new();
        fields.append(b"X-Here", b"v");
        fields
    };
    rig.message.request.headers = fields();
    rig.request_headers();
    let errands = rig.errands();
    rig.park();
    for mut errand in errands {
        let Some(to) = errand.reply_to_mut().cloned() else { continue };
        let root = to.root.upgrade().expect("the entry");
        match errand {
            Errand::Timer { .. } => root.on_timer(to.id, &mut rig.locals),
            Errand::HttpCall(_) => {
                let (headers, trailers) = (fields(), fields());
                let body = b"body".to_vec();
                let mut reply =
                    HttpReply { status: 200, headers, body, trailers, ..HttpReply::default() };
                root.on_http_reply(to.id, &mut reply, &mut rig.locals);
            }
            Errand::GrpcOpen(_) => {
                for event in [
                    GrpcEvent::InitialMetadata(fields()),
                    GrpcEvent::Message(b"message".to_vec()),
                    GrpcEvent::TrailingMetadata(fields()),
                    GrpcEvent::Closed { status: 0, message: String::new() },
                ] {
                    root.on_grpc(to.id, event, &mut rig.locals);
                }
            }
            _ => {}
        }
    }
    // Callbacks post further ones.
    let letters = std::mem::take(&mut *rig.letters.0.lock().expect("one thread"));
    for to in letters {
        to.root.upgrade().expect("the entry").on_post(to.id, &mut rig.locals);
    }
    rig.unpark();
    rig.log();
}

/// Plays an exchange. Before each callback all maps are as they were, whatever the guest did.
fn play(rig: &mut Rig, way: Way) {
    let trailers = way == Way::WithTrailers;
    let fill = |rig: &mut Rig, maps: usize| {
        let (request, response) = (&mut rig.message.request, &mut rig.message.response);
        let sections = [
            (&mut request.headers, true),
            (&mut request.trailers, trailers),
            (&mut response.headers, true),
            (&mut response.trailers, trailers),
        ];
        for (at, (section, there)) in sections.into_iter().enumerate() {
            section.clear();
            if there && at < maps {
                section.append(b"X-Here", b"v");
            }
        }
        rig.message.body.clear();
    };
    fill(rig, 1);
    rig.request_headers();
    let mut filled = 1;
    if matches!(way, Way::WithTrailers | Way::WithoutTrailers) {
        fill(rig, 1);
        rig.request_body(b"request", !trailers);
        if trailers {
            fill(rig, 2);
            rig.request_trailers();
        }
        fill(rig, 3);
        rig.response_headers();
        fill(rig, 3);
        rig.response_body(b"response", !trailers);
        if trailers {
            fill(rig, 4);
            rig.response_trailers();
        }
        filled = 4;
    }
    fill(rig, filled);
    rig.log();
}

/// Runs a program on a way of a stream; what it said in each callback.
fn heard(program: &Program, way: Way) -> BTreeMap<&'static str, Vec<Vec<u32>>> {
    lines();
    let mut settings = settings(&TEXT);
    settings.vm_config = program.text().into_bytes();
    settings.vm_id = "own".to_owned();
    settings.pool = 1;
    let mut rig = Rig::hearing(settings).unwrap_or_else(|errors| panic!("{errors:?}"));
    match way {
        Way::Roots | Way::Visiting => play_roots(&mut rig),
        _ => play(&mut rig, way),
    }
    rig.end();
    let mut said: BTreeMap<&'static str, Vec<Vec<u32>>> = BTreeMap::new();
    for line in lines() {
        let Some((callback, bytes)) = any::heard(&line) else { continue };
        let words = bytes.chunks_exact(4).map(|word| word.try_into().expect("four bytes"));
        said.entry(callback).or_default().push(words.map(u32::from_le_bytes).collect());
    }
    said
}

/// Compares what one function answered in one callback; how many rows that were.
fn compare(name: &str, rows: &[Row], place: &Place, answers: &[u32]) -> Result<usize, String> {
    let wasi = name.starts_with("wasi");
    if answers.len() != rows.len() {
        return Err(format!("{name} in {}: {} answers", place.callback, answers.len()));
    }
    let mut wrong = String::new();
    for (row, answer) in rows.iter().zip(answers) {
        let allowed = match row.bad_memory {
            true if wasi => vec![FAULT],
            true => place.answers_to_bad_memory(row.expect).to_vec(),
            false => vec![place.answer(row.expect)],
        };
        if !allowed.contains(answer) {
            let (args, callback) = (&row.args, place.callback);
            wrong += &format!("{name} {args:x?} in {callback}: {answer}, not {allowed:?}\n");
        }
    }
    if wrong.is_empty() { Ok(rows.len()) } else { Err(wrong) }
}

/// Runs all rows of a function on a way, and compares.
fn run(name: &str, rows: &[Row], way: Way) -> Result<usize, String> {
    let (program, before) = program(name, rows, way);
    compare_all(name, rows, way, &program, before)
}

/// Runs a program and compares the answers after the first `before` in every callback.
fn compare_all(
    name: &str,
    rows: &[Row],
    way: Way,
    program: &Program,
    before: usize,
) -> Result<usize, String> {
    let said = heard(program, way);
    let (mut count, mut wrong) = (0, String::new());
    for place in way.places() {
        let Some(answers) = said.get(place.callback) else {
            wrong += &format!("{name}: {} was not called, {way:?}\n", place.callback);
            continue;
        };
        for answers in answers {
            match compare(name, rows, &place, answers.get(before..).unwrap_or_default()) {
                Ok(rows) => count += rows,
                Err(rows) => wrong += &rows,
            }
        }
    }
    if wrong.is_empty() { Ok(count) } else { Err(wrong) }
}

/// Adds up rows, and the lines of those that are wrong, each once.
#[derive(Default)]
struct Sum {
    rows: usize,
    wrong: BTreeSet<String>,
}

impl Sum {
    fn add(&mut self, result: Result<usize, String>) {
        match result {
            Ok(rows) => self.rows += rows,
            Err(wrong) => self.wrong.extend(wrong.lines().map(str::to_owned)),
        }
    }

    fn tell(&self, what: &str, rows_min: usize) {
        println!("{} rows: {what}", self.rows);
        assert!(self.wrong.is_empty(), "{:#?}", self.wrong);
        assert!(self.rows >= rows_min, "{} rows: {what}", self.rows);
    }
}

/// Keeps the compiled module for all rigs of a test.
fn loaded() -> Plugins {
    super::host().load(vec![settings(&TEXT)]).expect("loaded")
}

#[test]
fn every_function_in_every_callback() {
    let (_loaded, mut sum) = (loaded(), Sum::default());
    let abi = any::FUNCTIONS.iter().filter(|(name, ..)| name.starts_with("proxy_"));
    for (name, params, _) in abi {
        let calls = calls(name);
        for way in Way::ALL {
            if way == Way::Visiting && *name == "proxy_set_effective_context" {
                // It ends the visit.
                continue;
            }
            let mut rows = rows(params, &calls);
            // Maps and buffers differ between ways; memory does not.
            rows.retain(|row| way == Way::WithTrailers || !row.bad_memory);
            sum.add(run(&format!("env.{name}"), &rows, way));
        }
    }
    sum.tell("every host function in every callback", 21_000);
}

#[test]
fn every_function_of_wasi_in_every_callback() {
    let (_loaded, mut sum) = (loaded(), Sum::default());
    for module in any::WASI_MODULES {
        // Exiting is no answer.
        for (name, params, _) in any::WASI.iter().filter(|(name, ..)| *name != "proc_exit") {
            let rows = rows(params, &wasi_calls(name));
            for way in [Way::WithTrailers, Way::Allocator] {
                sum.add(run(&format!("{module}.{name}"), &rows, way));
            }
        }
    }
    sum.tell("every function of WASI in every callback", 5_000);
}

/// What a function gives must lie where the allocator says, and that must be inside (§6).
#[test]
fn every_answer_when_the_allocator_fails() {
    let (_loaded, mut sum) = (loaded(), Sum::default());
    let gives = [
        ("proxy_get_header_map_value", call(&[HERE], &[0], Value(0))),
        ("proxy_get_buffer_bytes", call(&[], &[6, 0, 9], Always(OK))),
        ("proxy_get_property", call(&[ROOT_ID], &[], Always(OK))),
        ("proxy_get_shared_data", call(&[OWN], &[], Always(OK))),
        ("proxy_dequeue_shared_queue", call(&[], &[1], Always(OK))),
        ("proxy_get_configuration", call(&[], &[], Always(OK))),
    ];
    for (name, call) in gives {
        let name = format!("env.{name}");
        let args = args(any::params(&name), &call);
        let rows = [Row { args, expect: call.expect, bad_memory: true }];
        for block in [0, MEMORY_END, u32::MAX] {
            let (mut program, before) = program(&name, &rows, Way::WithTrailers);
            program.on("allocate").value(block);
            sum.add(compare_all(&name, &rows, Way::WithTrailers, &program, before));
        }
    }
    sum.tell("answers in blocks that are none", 300);
}
