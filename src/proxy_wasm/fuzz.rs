//! Any bytes from a guest: an answer, never a panic.
//!
//! Each function takes whatever a fuzzer, or the seeded tests below, gives it. `make fuzz` runs
//! them for minutes; `cargo test` for a second or two, `ROUNDS=1000000 cargo test` for longer.

use super::abi::{Abi, Phase};
use super::exports::Exports;
use super::guest::{Facts, Frame, Guest};
use super::header_map::Map;
use super::host::Entry;
use super::pairs::{Pairs, encode_exact};
use super::shared::Shared;
use super::{Host, PluginSettings, Plugins, Source, foreign, pool, property};
use crate::http::{Headers, is_field_value, is_token};
use crate::plugin::{Action, Locals, Message, Plugin, ResponseSource, Stream};
use crate::vm::{Engine, EngineSettings};
use any::{FREE, FREE_END, MEMORY_END, Program};
use serde_json::json;
use std::sync::{Arc, LazyLock, Weak};

#[path = "../../t/plugins/any.rs"]
#[allow(dead_code, reason = "it is written for other tests too")]
pub(super) mod any;

/// What is nearer to something than random bytes are: names of fields, paths of properties, values.
const WORDS: &[&[u8]] = &[
    b"host",
    b":path",
    b":method",
    b":authority",
    b":scheme",
    b":status",
    b"x-a",
    b"te",
    b"/a?b=c",
    b"GET",
    b"200",
    b"999",
    b"\r\n",
    b"\0",
    b"request\0",
    b"response\0",
    b"headers\0",
    b"trailers\0",
    b"connection\0",
    b"source\0",
    b"destination\0",
    b"upstream\0",
    b"xds\0",
    b"filter_state\0",
    b"wasm.",
    b"path",
    b"url_path",
    b"query",
    b"time",
    b"duration",
    b"total_size",
    b"size",
    b"code",
    b"address",
    b"port",
    b"id",
    b"mtls",
    b"protocol",
    b"grpc_status",
    b"plugin_root_id",
    b"metadata\0",
    b"filter_metadata\0",
    b"node\0",
    b"plugin_vm_memory",
    b"uri",
    b"args",
    b"arg_b",
    b"http_user_agent",
    b"remote_addr",
    b"q",
    b"m",
    b"compress",
    b"uncompress",
    b"sign",
    b"verify_signature",
    b"declare_property",
    b"expr_create",
    b"expr_evaluate",
    b"set_envoy_filter_state",
    b"clear_route_cache",
    b"request.path == '/a'",
    b"\x01\0\0\0\x01\0\0\0\x01\0\0\0a\0b\0",
    b"127.0.0.1:1",
    b"\x0a\x01a\x12\x01b",
];

/// A fuzzer's bytes, taken one after the other; zeros when there are no more.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn word(&mut self) -> u32 {
        u32::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        bytes
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[usize::from(self.byte()) % list.len()]
    }

    /// A few words and random bytes in a row.
    fn text(&mut self) -> Vec<u8> {
        let mut text = Vec::new();
        for _ in 0..self.byte() % 5 {
            let at = usize::from(self.byte());
            match WORDS.get(at) {
                Some(word) => text.extend_from_slice(word),
                None => text.extend_from_slice(self.bytes(at % 16)),
            }
        }
        text
    }
}

fn message() -> Box<Message> {
    let mut message = Box::<Message>::default();
    message.request.method.extend_from_slice(b"GET");
    message.request.target.extend_from_slice(b"/a?b=c");
    message.request.path.extend_from_slice(b"/a");
    message.request.authority.extend_from_slice(b"host.example");
    message.request.headers.append(b"User-Agent", b"test");
    message.request.headers.append(b"X-Some", b"1");
    message
}

fn respond(message: &mut Message) {
    message.response.status = 200;
    message.response.source = ResponseSource::Upstream;
    message.response.headers.append(b"Server", b"up");
}

/// Whatever guests did, this can be sent.
fn check_message(message: &Message) {
    let fields = |headers: &Headers| headers.iter().all(|(k, v)| is_token(k) && is_field_value(v));
    let (request, response) = (&message.request, &message.response);
    for section in [&request.headers, &request.trailers, &response.headers, &response.trailers] {
        assert!(fields(section), "{section:?}");
    }
    let visible = |bytes: &[u8]| bytes.iter().all(|b| *b > b' ' && *b != 0x7f);
    assert!(is_token(&request.method), "{:?}", request.method);
    assert!(visible(&request.target) && visible(&request.authority), "{request:?}");
    let is_path = |bytes: &[u8]| bytes.starts_with(b"/") || bytes == b"*";
    assert!(is_path(&request.target) && is_path(&request.path), "{request:?}");
}

/// A guest in the middle of a callback of that phase.
pub(super) fn midway(phase: Phase, writable: bool) -> Guest {
    let settings = PluginSettings {
        writable_properties: writable,
        ..PluginSettings::new("p", 0, Source::Bytes(Arc::default()))
    };
    let facts = Facts::new(settings, Abi::V0_2_1, Exports::default(), &Shared::default());
    let mut guest = Guest::new(Arc::new(facts), Weak::<Entry>::new(), None);
    if phase != Phase::Root {
        guest.frame = Frame::stream(phase, 1, false);
    }
    guest.message = message();
    respond(&mut guest.message);
    guest
}

/// The encoding of maps: what is decoded is encoded and decoded to the same again, and a message
/// that takes it can be sent.
pub fn pairs(data: &[u8]) {
    let Some(decoded) = Pairs::parse(data) else { return };
    let mut again = Vec::new();
    encode_exact(|| decoded.iter(), &mut again);
    let again = Pairs::parse(&again).expect("what was encoded can be decoded");
    assert!(again.iter().eq(decoded.iter()));
    for map in (0..4).filter_map(Map::from_number) {
        let mut message = message();
        respond(&mut message);
        if map.set_all(&mut message, decoded).is_err() {
            continue;
        }
        check_message(&message);
        let mut encoded = Vec::new();
        map.encode(&message, &mut encoded);
        let taken = Pairs::parse(&encoded).expect("a map");
        assert_eq!(taken.iter().count(), map.len(&message) as usize);
    }
}

/// Property paths, read and set in turn, in all phases. What was set can be read.
pub fn property(data: &[u8]) {
    const PHASES: [Phase; 8] = [
        Phase::Root,
        Phase::RequestHeaders,
        Phase::RequestBody,
        Phase::RequestTrailers,
        Phase::ResponseHeaders,
        Phase::ResponseBody,
        Phase::ResponseTrailers,
        Phase::Log,
    ];
    let mut input = Input(data);
    let mut guest = midway(Phase::Root, input.byte() % 2 == 0);
    let (mut out, mut first) = (Vec::new(), true);
    while !input.is_empty() || first {
        first = false;
        let phase = input.of(&PHASES);
        guest.frame = match phase {
            Phase::Root => Frame::root(phase, 1),
            _ => Frame::stream(phase, 2, input.byte() % 2 == 0),
        };
        let path = input.text();
        let kept = (input.byte() % 2 == 0).then(|| {
            let value = input.text();
            property::set(&mut guest, &path, &value).is_ok() && !value.is_empty()
        });
        out.clear();
        let found = property::get(&guest, &path, &mut out);
        assert!(found.is_ok() || kept != Some(true), "{path:?} was set");
        check_message(&guest.message);
    }
}

/// Calls a foreign function, a second time with what it gave: expressions give tokens.
pub fn foreign(data: &[u8]) {
    let mut input = Input(data);
    let mut guest = midway(Phase::RequestHeaders, false);
    let (name, mut out) = (input.text(), Vec::new());
    if foreign::call(&mut guest, &name, input.0, &mut out).is_ok() {
        let _ = foreign::call(&mut guest, b"expr_evaluate", &out, &mut Vec::new());
    }
}

/// A guest with hostile pointers and lengths at every host call, in every callback of an exchange.
pub fn guest(data: &[u8]) {
    static TEXT: LazyLock<Arc<[u8]>> = LazyLock::new(|| any::text().into_bytes().into());
    static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
        let joins = super::JOINS;
        let settings = EngineSettings { instances_max: 100, joins, ..EngineSettings::default() };
        Engine::new(&settings).expect("an engine")
    });
    let settings = || PluginSettings {
        pool: 1,
        deadline_ms: 200,
        memory_bytes_max: 2 << 20,
        body_bytes_max: BODY_BYTES_MAX,
        ..PluginSettings::new("p", 0, Source::Bytes(Arc::clone(&TEXT)))
    };
    /// Keeps the compiled module.
    static LOADED: LazyLock<(Host, Plugins)> = LazyLock::new(|| {
        let host = Host::new(ENGINE.clone());
        let source = Source::Bytes(Arc::clone(&TEXT));
        let plugins = host.load(vec![PluginSettings::new("p", 0, source)]).expect("a plugin");
        (host, plugins)
    });
    LazyLock::force(&LOADED);
    let mut input = Input(data);
    let way = input.byte();
    let vm_config = hostile(&mut input).text().into_bytes();
    let host = Host::new(ENGINE.clone());
    let plugins = host.load(vec![PluginSettings { vm_config, ..settings() }]).expect("a plugin");
    let Ok(plugin) = plugins.plugin("p", &json!({"conf": "c"})) else { return };
    let mut locals = Locals::new(0);
    if plugin.prepare(&mut locals).is_ok() {
        play(&*plugin, &mut locals, way);
    }
    drop((plugin, plugins));
    pool::sweep(&mut locals);
}

const BODY_BYTES_MAX: usize = 64 << 10;

/// At most this many steps: a case takes well below a millisecond.
const STEPS_MAX: usize = 100;

/// A program made of the input: in some callback, put something somewhere, call something.
fn hostile(input: &mut Input<'_>) -> Program {
    let functions: Vec<_> = any::functions().collect();
    let mut program = Program::new();
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        let callback = usize::from(input.byte());
        let section = match any::CALLBACKS.get(callback % (any::CALLBACKS.len() + 4)) {
            Some(callback) => program.on(callback.name),
            None => program.everywhere(),
        };
        let kind = input.byte();
        if kind < 64 {
            let at = FREE + input.word() % (FREE_END - FREE - 256);
            section.poke(at, &input.text());
        } else if kind < 72 {
            section.value(input.of(&[0, 1, 2, 3, u32::MAX, MEMORY_END - 1, FREE]));
        } else if kind < 76 {
            section.grow(input.of(&[0, 1, 30, 65_535, u32::MAX]));
        } else if kind == 76 {
            section.trap();
        } else {
            let (name, params, _) = &functions[usize::from(input.byte()) % functions.len()];
            section.call(name, &args(params, input));
        }
    }
    program
}

fn args(params: &str, input: &mut Input<'_>) -> Vec<u32> {
    let mut args = Vec::new();
    for param in params.chars() {
        let odd = input.word();
        let arg = match param {
            'P' | 'O' | 'T' => {
                let near = FREE + odd % 0x400;
                input.of(&[near, near, near, 0, MEMORY_END - 1, MEMORY_END - 4, MEMORY_END, odd])
            }
            'L' => input.of(&[odd % 32, odd % 32, odd % 32, 0, 1, MEMORY_END, u32::MAX, odd]),
            _ => input.of(&[odd % 10, odd % 10, odd % 10, 0, 200, i32::MAX as u32, u32::MAX, odd]),
        };
        args.push(arg);
        if param == 'D' {
            args.push(input.of(&[0, u32::MAX, i32::MAX as u32, odd]));
        }
    }
    args
}

/// Plays an exchange with all callbacks, or with some of them.
fn play(plugin: &dyn Plugin, locals: &mut Locals, way: u8) {
    let (mut message, mut state) = (message(), 0);
    let mut call = |message: &mut Box<Message>, of: &dyn Fn(&mut Stream<'_>) -> Action| {
        let action = of(&mut Stream { message, state: &mut state, key: None, locals });
        check_message(message);
        assert!(message.body.len() <= BODY_BYTES_MAX, "{} bytes", message.body.len());
        if action == Action::Respond {
            let local = &message.local;
            assert!((200..=999).contains(&local.status), "{}", local.status);
            assert!(local.headers.iter().all(|(k, v)| is_token(k) && is_field_value(v)));
        }
    };
    let (ends, responds) = (way & 1 == 0, way & 2 == 0);
    call(&mut message, &|stream| plugin.on_request_headers(stream, false));
    message.body.extend_from_slice(b"request");
    call(&mut message, &|stream| plugin.on_request_body(stream, ends));
    if !ends {
        message.request.trailers.append(b"x-a", b"1");
        call(&mut message, &|stream| plugin.on_request_trailers(stream));
    }
    message.body.clear();
    if responds {
        respond(&mut message);
        call(&mut message, &|stream| plugin.on_response_headers(stream, false));
        message.body.extend_from_slice(b"response");
        call(&mut message, &|stream| plugin.on_response_body(stream, ends));
        if !ends {
            message.response.trailers.append(b"x-a", b"1");
            call(&mut message, &|stream| plugin.on_response_trailers(stream));
        }
    }
    call(&mut message, &|stream| {
        plugin.on_log(stream);
        Action::Continue
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives `rounds` inputs to `check`, made by one seed.
    fn rounds(rounds: usize, check: fn(&[u8]), make: fn(&mut fastrand::Rng) -> Vec<u8>) {
        let asked = std::env::var("ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
        let mut random = fastrand::Rng::with_seed(7);
        for round in 0..asked.unwrap_or(rounds) {
            let data = make(&mut random);
            let ended = std::panic::catch_unwind(|| check(&data));
            assert!(ended.is_ok(), "round {round}: {data:?}");
        }
    }

    fn random_bytes(random: &mut fastrand::Rng) -> Vec<u8> {
        let len = random.usize(0..400);
        std::iter::repeat_with(|| random.u8(..)).take(len).collect()
    }

    /// An encoded map with a byte or two changed.
    fn nearly_a_map(random: &mut fastrand::Rng) -> Vec<u8> {
        let words = |random: &mut fastrand::Rng| WORDS[random.usize(0..WORDS.len())];
        let fields: Vec<_> =
            (0..random.usize(0..5)).map(|_| (words(random), words(random))).collect();
        let mut map = Vec::new();
        encode_exact(|| fields.iter().copied(), &mut map);
        for _ in 0..random.usize(0..3) {
            if let Some(byte) = random.choice(&mut map) {
                *byte = random.u8(0..20);
            }
        }
        map
    }

    #[test]
    fn any_map_has_an_answer() {
        rounds(20_000, pairs, nearly_a_map);
        rounds(20_000, pairs, random_bytes);
    }

    #[test]
    fn any_property_has_an_answer() {
        rounds(3_000, property, random_bytes);
    }

    #[test]
    fn any_foreign_call_has_an_answer() {
        rounds(3_000, foreign, random_bytes);
    }

    #[test]
    fn any_guest_is_survived() {
        rounds(400, guest, random_bytes);
    }
}
