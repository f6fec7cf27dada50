//! What the host of Proxy-Wasm plugins costs a request.
//!
//! `cargo bench --bench wasm` prints nanoseconds (best of several rounds) and allocations for:
//!
//! - minimal: a guest in text form; a request makes five callbacks (create, request headers, done,
//!   log, delete) and three host calls (two header values, each with a call of the guest's
//!   allocator, and a local response);
//! - rust: the Rust example plugin, which answers every request;
//! - each-text, each-rust: the same, with an instance for each request that is set back after it;
//! - new-rust: an instance made, configured and dropped for each, as its random numbers are seeded
//!   while it is configured.
//!
//! A name as argument runs only what has it in its name. With `--check` more than 300 ns for the
//! minimal guest, or any allocation of it, fails.

use ringgate::plugin::{Locals, Message, Plugin, Stream};
use ringgate::proxy_wasm::{Host, Isolation, JOINS, PluginSettings, Source};
use ringgate::vm::{Engine, EngineSettings};
use serde_json::{Value, json};
use std::alloc::{GlobalAlloc, Layout, System};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

const ROUNDS: usize = 400;
const REQUESTS: u32 = 2_000;
const INSTANCES: u32 = 50;
const MINIMAL_NS_MAX: f64 = 300.0;

const MINIMAL: &str = r#"(module
    (import "env" "proxy_send_local_response"
        (func $respond (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_get_header_map_value"
        (func $get (param i32 i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 64) "hello from a plugin:pathuser-agent")
    (func (export "proxy_abi_version_0_2_1"))
    (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 1024))
    (func (export "proxy_on_context_create") (param i32 i32))
    (func (export "proxy_on_vm_start") (param i32 i32) (result i32) (i32.const 1))
    (func (export "proxy_on_configure") (param i32 i32) (result i32) (i32.const 1))
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (drop (call $get (i32.const 0) (i32.const 83) (i32.const 5) (i32.const 16) (i32.const 20)))
        (drop (call $get (i32.const 0) (i32.const 88) (i32.const 10) (i32.const 16) (i32.const 20)))
        (drop (call $respond (i32.const 200) (i32.const 0) (i32.const 0) (i32.const 64)
            (i32.const 19) (i32.const 0) (i32.const 0) (i32.const -1)))
        (i32.const 1))
    (func (export "proxy_on_done") (param i32) (result i32) (i32.const 1))
    (func (export "proxy_on_log") (param i32))
    (func (export "proxy_on_delete") (param i32)))"#;

/// Counts allocations of the host; the guests' own are in their memories.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller's promises are handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A plugin on one worker, with a request that comes again and again.
struct Bench {
    plugin: Arc<dyn Plugin>,
    locals: Locals,
    message: Box<Message>,
    _host: Host,
}

impl Bench {
    fn new(settings: PluginSettings, conf: &Value) -> Self {
        let engine = EngineSettings { joins: JOINS, ..EngineSettings::default() };
        let host = Host::new(Engine::new(&engine).expect("engine"));
        let plugins = host.load(vec![settings]).expect("loaded");
        let plugin = plugins.plugin("p", &json!({ "conf": conf })).expect("configured");
        let mut locals = Locals::new(0);
        plugin.prepare(&mut locals).expect("prepared");
        Self { plugin, locals, message: request(), _host: host }
    }

    fn request(&mut self) {
        let mut state = 0;
        let (message, locals) = (&mut self.message, &mut self.locals);
        let mut stream = Stream { message, state: &mut state, locals, key: None };
        self.plugin.on_request_headers(&mut stream, true);
        self.plugin.on_log(&mut stream);
    }

    /// Nanoseconds of the best round, and allocations of all.
    fn run(&mut self, each_round: u32) -> (f64, usize) {
        (0..each_round).for_each(|_| self.request());
        let (mut best, before) = (f64::MAX, ALLOCATIONS.load(Relaxed));
        for _ in 0..ROUNDS {
            let start = Instant::now();
            (0..each_round).for_each(|_| self.request());
            best = best.min(start.elapsed().as_nanos() as f64 / f64::from(each_round));
        }
        (best, ALLOCATIONS.load(Relaxed) - before)
    }
}

/// What a browser behind a load balancer sends.
fn request() -> Box<Message> {
    let mut message = Box::<Message>::default();
    let request = &mut message.request;
    request.method.extend_from_slice(b"GET");
    request.target.extend_from_slice(b"/v2/catalog/items/17?lang=en");
    request.authority.extend_from_slice(b"shop.example.com");
    for (name, value) in [
        ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
        ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
        ("Accept-Language", "en-US,en;q=0.5"),
        ("Accept-Encoding", "gzip, deflate, br, zstd"),
        ("X-Forwarded-For", "192.0.2.1"),
        ("Cookie", "session=0123456789abcdef"),
    ] {
        request.headers.append(name.as_bytes(), value.as_bytes());
    }
    message
}

fn minimal() -> PluginSettings {
    PluginSettings::new("p", 0, Source::Bytes(MINIMAL.as_bytes().into()))
}

fn rust() -> PluginSettings {
    let path =
        concat!(env!("CARGO_MANIFEST_DIR"), "/examples/plugins/dist/fault_injection_rust.wasm");
    PluginSettings::new("p", 0, Source::File(path.into()))
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let is_asked =
        |name: &&&str| arguments.iter().all(|a| a.starts_with('-') || name.contains(&**a));
    let conf = json!({"http_status": 200, "body": "hello from a plugin"});
    let isolated = |settings| PluginSettings { isolation: Isolation::Request, ..settings };
    let mut good = true;
    for name in ["minimal", "rust", "each-text", "each-rust", "new-rust"].iter().filter(is_asked) {
        let mut conf = conf.clone();
        let (settings, each_round) = match *name {
            "minimal" => (minimal(), REQUESTS),
            "rust" => (rust(), REQUESTS),
            "each-text" => (isolated(minimal()), INSTANCES),
            "each-rust" => (isolated(rust()), INSTANCES),
            _ => {
                conf["percentage"] = json!(99);
                (isolated(rust()), INSTANCES)
            }
        };
        let (ns, allocations) = Bench::new(settings, &conf).run(each_round);
        println!("{name:16} {ns:8.0} ns/request {allocations:8} allocations");
        good &= *name != "minimal" || (ns <= MINIMAL_NS_MAX && allocations == 0);
    }
    if !good && arguments.iter().any(|argument| argument == "--check") {
        eprintln!("the minimal guest may cost {MINIMAL_NS_MAX} ns and no allocation");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
