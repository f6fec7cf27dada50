//! The request path allocates nothing in the steady state: native, wasm, by a runner and proxied,
//! with the access log on.
//!
//! Runs a worker in this process under an allocator that counts, warms each path up, then asks it a
//! thousand times more. Threads of the test itself are not counted.

#[path = "../perf/runner/answers.rs"]
mod answers;

use answers::Answers;
use ringgate::control::Loading;
use ringgate::limits::{ACCESS_BUFFER_BYTES, READ_BUFFER_BYTES};
use ringgate::listen::{Address, Options};
use ringgate::net::{DriverChoice, reserve};
use ringgate::stats::Counters;
use ringgate::worker::{AccessSource, Settings, Shared, Stop, access_log, start};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

/// Lines of the access log.
static LINES: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static COUNTED: Cell<bool> = const { Cell::new(true) };
}

// SAFETY: every call goes to `System` unchanged; counting touches no memory of the caller.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps `GlobalAlloc::alloc`'s contract, which is `System`'s.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: `at` came from `System` with this layout.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: `at` came from `System` with this layout.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count() {
    if COUNTED.try_with(Cell::get).unwrap_or(false) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

const WARM_UP: usize = 2_000;
const ASKED: usize = 1_000;

fn main() {
    COUNTED.set(false);
    let upstream = upstream();
    let folder = std::env::temp_dir().join(format!("ringgate-alloc-{}", std::process::id()));
    write_configuration(&folder, upstream);
    runner(&folder.join("runner.sock"));
    let mut loading =
        Loading::open(&folder.join("config.yaml"), None).expect("a good configuration");
    let (snapshot, _) = loading.snapshot().expect("good resources");
    let anywhere = Options::new(Address::Tcp(([127, 0, 0, 1], 0).into()));
    let place = reserve(&anywhere, 1).expect("a free port");
    let Address::Tcp(address) = place.options.address else { panic!("it is on TCP") };
    let shared = Shared::new(Arc::new(snapshot), Box::new(drop), loading.resolver());
    let (sink, source) = access_log();
    stock(&source);
    std::thread::spawn(move || throw_away(&source));
    let (sender, started) = crossbeam::channel::bounded(1);
    let settings = Settings {
        index: 0,
        workers: 1,
        core: None,
        ring_entries: 256,
        driver: DriverChoice::Auto,
        buffer_bytes: READ_BUFFER_BYTES,
        buffers: 0,
        listen: vec![place],
        access: Some(sink),
    };
    let counters = Arc::new(Counters::default());
    let worker = start(settings, Arc::clone(&shared), counters, sender).expect("a worker");
    started.recv().expect("a report").outcome.expect("it serves");
    shared.set_accepting(true);
    let mut failed = 0;
    let paths = [
        "/native",
        "/variable",
        "/wasm/rust",
        "/wasm/c",
        "/runner",
        "/proxied",
        "/headers",
        "/kept",
        "/none",
    ];
    for path in paths {
        let allocations = measure(address, path);
        let verdict = if allocations == 0 { "ok" } else { "FAILED" };
        println!("test {path} allocates nothing ... {verdict} ({allocations} in {ASKED} requests)");
        failed += usize::from(allocations > 0);
    }
    let counted = ALLOCATIONS.load(Ordering::Relaxed);
    assert!(counted > 0, "starting a worker allocates: the counter does not count");
    let lines = LINES.load(Ordering::Relaxed) as usize;
    assert!(lines > ASKED * paths.len(), "{lines} requests were logged");
    shared.stop(Stop::Now);
    worker.join().expect("a worker that ends well");
    let _ = std::fs::remove_dir_all(&folder);
    let passed = paths.len() - failed;
    println!("\n{passed} passed, {failed} failed");
    assert_eq!(failed, 0, "some request path allocates");
}

/// Buffers for the case that the thread which gives them back gets no time: it may be late by all
/// requests of a path.
fn stock(source: &AccessSource) {
    for _ in 0..32 {
        let buffer = Vec::with_capacity(2 * ACCESS_BUFFER_BYTES);
        source.empty.try_send(buffer).expect("there is a place for it");
    }
}

/// Takes the access log's lines as the thread that writes them does.
fn throw_away(source: &AccessSource) {
    COUNTED.set(false);
    while let Ok(mut lines) = source.full.recv() {
        assert!(lines.ends_with(b"}\n"), "whole lines of JSON");
        LINES.fetch_add(lines.split(|byte| *byte == b'\n').count() as u64 - 1, Ordering::Relaxed);
        lines.clear();
        // Nobody waits for it: there are as many places as buffers.
        let _ = source.empty.try_send(lines);
    }
}

/// Allocations of the worker while it answers, after a warm-up on the same connection.
fn measure(address: SocketAddr, path: &str) -> u64 {
    let mut client = TcpStream::connect(address).expect("the gateway");
    client.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: a\r\nX-Some: header\r\nOrigin: a.b\r\n\r\n");
    let mut ask = |times: usize| {
        for _ in 0..times {
            client.write_all(request.as_bytes()).expect("sent");
            read_response(&mut client);
        }
    };
    ask(WARM_UP);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    ask(ASKED);
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

/// Reads one response with a Content-Length.
fn read_response(client: &mut TcpStream) {
    let mut got = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let bytes = client.read(&mut piece).expect("a response");
        assert!(bytes > 0, "the gateway closed: {}", String::from_utf8_lossy(&got));
        got.extend_from_slice(&piece[..bytes]);
        let text = String::from_utf8_lossy(&got).to_ascii_lowercase();
        let Some(end) = text.find("\r\n\r\n") else { continue };
        let length =
            text.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
        let length: usize = length.expect("a length").parse().expect("a number");
        if got.len() >= end + 4 + length {
            return;
        }
    }
}

fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        COUNTED.set(false);
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream));
        }
    });
    address
}

fn serve(mut stream: TcpStream) {
    COUNTED.set(false);
    let mut got = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(bytes) = stream.read(&mut piece) {
        got.extend_from_slice(&piece[..bytes]);
        if bytes == 0 {
            return;
        }
        if got.ends_with(b"\r\n\r\n") {
            got.clear();
            let response = b"HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 5\r\n\r\nhello";
            if stream.write_all(response).is_err() {
                return;
            }
        }
    }
}

/// An external plugin runner.
fn runner(socket: &Path) {
    let listener = UnixListener::bind(socket).expect("a socket of our own");
    std::thread::spawn(move || {
        COUNTED.set(false);
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                COUNTED.set(false);
                let answers = Answers::default();
                let (mut input, mut out, mut piece) = (Vec::new(), Vec::new(), [0; 4096]);
                while let Ok(bytes @ 1..) = stream.read(&mut piece) {
                    input.extend_from_slice(&piece[..bytes]);
                    let used = answers.answer(&input, &mut out);
                    input.drain(..used);
                    stream.write_all(&out).expect("the gateway reads");
                    out.clear();
                }
            });
        }
    });
}

fn write_configuration(folder: &Path, upstream: SocketAddr) {
    std::fs::create_dir_all(folder).expect("a folder");
    let dist = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/plugins/dist");
    let cache = folder.join("cache");
    let config = format!(
        "wasm:\n  plugins:\n\
         \x20   - {{ name: rust, priority: 3, file: {dist}/fault_injection_rust.wasm }}\n\
         \x20   - {{ name: c, priority: 2, file: {dist}/fault_injection_c.wasm }}\n\
         \x20   - {{ name: headers, priority: 1, file: {dist}/header_rust.wasm }}\n\
         nginx_config: {{ http: {{ access_log: a.log, upstream: {{ keepalive_requests: 1000000 }} }} }}\n\
         ext-plugin: {{ path_for_test: {} }}\n\
         ringgate: {{ cache_dir: {} }}\n",
        folder.join("runner.sock").display(),
        cache.display()
    );
    let resources = format!(
        "routes:\n\
         - {{ uri: /native, plugins: {{ fault-injection: {{ abort: {{ http_status: 200, body: hi }} }} }} }}\n\
         - {{ uri: /variable, plugins: {{ fault-injection: {{ abort: {{ http_status: 200, body: \"$uri $remote_addr $request_id\", headers: {{ h: $method }} }} }} }} }}\n\
         - {{ uri: /wasm/rust, plugins: {{ rust: {{ conf: {{ http_status: 200, body: hi }} }} }} }}\n\
         - {{ uri: /wasm/c, plugins: {{ c: {{ conf: {{ http_status: 200, body: hi }} }} }} }}\n\
         - {{ uri: /runner, plugins: {{ ext-plugin-pre-req: {{ conf: [{{ name: a, value: b }}] }} }}, upstream: {{ nodes: {{ \"{upstream}\": 1 }} }} }}\n\
         - {{ uri: /proxied, upstream: {{ nodes: {{ \"{upstream}\": 1 }} }} }}\n\
         - {{ uri: /headers, plugins: {{ headers: {{ conf: {{ request: {{ x-a: b }}, response: {{ x-c: d }} }} }} }}, upstream: {{ nodes: {{ \"{upstream}\": 1 }} }} }}\n\
         - {{ uri: /kept, plugins: {{ cors: {{ allow_origins: \"a.b,c.d\" }}, request-id: {{}} }}, upstream: {{ nodes: {{ \"{upstream}\": 1 }} }} }}\n\
         #END\n"
    );
    std::fs::write(folder.join("config.yaml"), config).expect("written");
    std::fs::write(folder.join("apisix.yaml"), resources).expect("written");
}
