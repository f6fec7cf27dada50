//! The request path allocates nothing once its buffers are warm: a counting allocator around 1,000
//! exchanges of each kind.

mod instant;

use instant::{Driver, snapshot};
use ringgate::builtin::Builtins;
use ringgate::expr::Template;
use ringgate::plugin::{
    Action, Consumer, Hooks, Loader, Plugin, RequestPhase,
    RequestPhase::{Access, Rewrite},
    Stream,
};
use ringgate::schema::{Path, Problems, Reader};
use ringgate::snapshot::{Brought, Chain, ConsumerPlugins, Pinned, Step};
use ringgate::upstream::{Balancer, HashKey};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

struct Counting;

thread_local! {
    /// This thread's: libtest has others, which allocate when they like.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

fn count() {
    // A thread that ends has no counter any more.
    let _ = ALLOCATIONS.try_with(|made| made.set(made.get() + 1));
}

// SAFETY: every call is passed on to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Answers every request, as a native plugin does, and changes a field of the response.
#[derive(Debug)]
struct Answers;

impl Plugin for Answers {
    fn name(&self) -> &str {
        "answers"
    }

    fn hooks(&self) -> Hooks {
        Hooks::REQUEST_HEADERS | Hooks::RESPONSE_HEADERS | Hooks::RESPONSE_BODY | Hooks::LOG
    }

    fn on_request_headers(&self, stream: &mut Stream<'_>, _end: bool) -> Action {
        stream.message.respond(403, Some(b"not you"));
        stream.message.local.headers.append(b"X-Why", b"because");
        Action::Respond
    }

    fn on_response_headers(&self, stream: &mut Stream<'_>, _end: bool) -> Action {
        stream.message.response.headers.set(b"X-Seen", b"1");
        Action::Continue
    }
}

fn pinned(plugins: Vec<Arc<dyn Plugin>>) -> Rc<Pinned> {
    balanced(plugins, Balancer::RoundRobin)
}

fn balanced(plugins: Vec<Arc<dyn Plugin>>, balancer: Balancer) -> Rc<Pinned> {
    let chain = Chain::new(plugins.into_iter().map(|plugin| step(plugin, Access)).collect());
    snapshot(chain, ConsumerPlugins::default(), balancer)
}

fn step(plugin: Arc<dyn Plugin>, phase: RequestPhase) -> Step {
    Step {
        hooks: plugin.hooks(),
        plugin,
        filter: None,
        error_response: None,
        phase,
        global: false,
        priority: 0,
        own_priority: 0,
    }
}

/// Native plugins with these configurations; the consumer `jack` has the key `k`.
fn native(plugins: &[(&str, &str)]) -> Rc<Pinned> {
    pinned(made(plugins))
}

/// The same, where the plugins from `own` on are what `jack` brings along.
fn brought(plugins: &[(&str, &str)], own: usize) -> Rc<Pinned> {
    let mut plugins = made(plugins);
    let of_jack = plugins.split_off(own).into_iter().map(|plugin| step(plugin, Access)).collect();
    let chain = Chain::new(plugins.into_iter().map(|plugin| step(plugin, Rewrite)).collect());
    let mut consumers = ConsumerPlugins::default();
    consumers.add("jack", Brought::Steps(of_jack));
    snapshot(chain, consumers, Balancer::RoundRobin)
}

fn made(plugins: &[(&str, &str)]) -> Vec<Arc<dyn Plugin>> {
    let problems = Problems::new();
    let mut builtins = Builtins::default();
    let jack = Consumer { username: "jack".to_owned(), ..Consumer::default() };
    let key = serde_json::json!({ "key": "k" });
    let credential = Reader::new(&key, Path::root(), &problems);
    builtins.add_credential("key-auth", credential, &Arc::new(jack));
    let made = plugins.iter().map(|(name, conf)| {
        let conf = serde_json::from_str(conf).expect("JSON");
        let reader = Reader::new(&conf, Path::root(), &problems);
        builtins.load(name, reader).expect("a good configuration").plugin
    });
    let made = made.collect();
    assert!(problems.is_ok());
    made
}

/// One of each that looks at a request and lets it pass, or edits it.
const ON_THE_WAY: &[(&str, &str)] = &[
    ("real-ip", r#"{"source": "http_x_forwarded_for", "trusted_addresses": ["0.0.0.0/0"]}"#),
    ("client-control", r#"{"max_body_size": 1000000}"#),
    ("request-id", "{}"),
    ("cors", r#"{"allow_origins": "**"}"#),
    ("ip-restriction", r#"{"whitelist": ["0.0.0.0/0"]}"#),
    ("ua-restriction", r#"{"denylist": ["bot[0-9]+"]}"#),
    ("referer-restriction", r#"{"blacklist": ["evil.example"], "bypass_missing": true}"#),
    ("uri-blocker", r#"{"block_rules": ["root.exe", "select.+from"]}"#),
    ("key-auth", "{}"),
    ("proxy-rewrite", r#"{"uri": "/b$uri", "headers": {"set": {"X-From": "$remote_addr"}}}"#),
    ("limit-conn", r#"{"conn": 9, "burst": 0, "default_conn_delay": 1, "key": "remote_addr"}"#),
    ("limit-count", r#"{"count": 99999, "time_window": 60, "key": "consumer_name"}"#),
    ("limit-req", r#"{"rate": 1e9, "burst": 9, "key": "uri"}"#),
    ("response-rewrite", r#"{"body": "other", "headers": {"X-Uri": "$uri"}}"#),
    ("echo", r#"{"after_body": "!"}"#),
];

/// A name, the configuration, the request with its body, the upstream's answer in pieces.
type Kind<'a> = (&'a str, &'a Rc<Pinned>, &'a [u8], &'a [&'a [u8]]);

#[test]
fn warm_exchanges_allocate_nothing() {
    let proxied = pinned(vec![]);
    let answered = pinned(vec![Arc::new(Answers)]);
    let get = b"GET /a HTTP/1.1\r\nHost: h\r\nUser-Agent: x\r\nAccept: */*\r\n\r\n".as_slice();
    let mut post = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n".to_vec();
    post.resize(post.len() + 100_000, b'x');
    let chunked = b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
        3\r\nabc\r\n0\r\n\r\n";
    let small = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi".as_slice();
    let large = [b'y'; 60_000];
    let in_pieces = [b"HTTP/1.1 200 OK\r\nContent-Length: 120000\r\n\r\n", &large[..], &large];
    let coded =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n".as_slice();
    let (passing, turned_away) =
        (native(ON_THE_WAY), native(&[("ip-restriction", r#"{"blacklist": ["0.0.0.0/0"]}"#)]));
    let elsewhere = native(&[("redirect", r#"{"uri": "https://$host$uri"}"#)]);
    let compressed = native(&[("gzip", r#"{"types": "*"}"#)]);
    let known = b"GET /a HTTP/1.1\r\nHost: h\r\nUser-Agent: x\r\nAccept-Encoding: gzip\r\n\
        X-Forwarded-For: 10.0.0.9\r\nOrigin: http://o\r\napikey: k\r\n\r\n";
    let typed = [
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 60000\r\n\r\n",
        &large[..],
    ];
    let key = HashKey::Template(Template::compile("$uri$remote_addr$http_user_agent"));
    let (hashed, least, faster) = (
        balanced(vec![], Balancer::Hash(key)),
        balanced(vec![], Balancer::LeastConn),
        balanced(vec![], Balancer::Ewma),
    );
    let of_jack = brought(ON_THE_WAY, 9);
    let kinds: [Kind<'_>; 14] = [
        ("a small proxied GET", &proxied, get, &[small]),
        ("a GET by hash", &hashed, get, &[small]),
        ("a GET to the least busy", &least, get, &[small]),
        ("a GET to the faster of two", &faster, get, &[small]),
        ("a large answer", &proxied, get, &in_pieces),
        ("a chunked answer", &proxied, get, &[coded]),
        ("a large POST", &proxied, &post, &[small]),
        ("a chunked POST", &proxied, chunked, &[small]),
        ("a plugin's answer", &answered, get, &[]),
        ("native plugins on the way", &passing, known, &[small]),
        ("a consumer's own plugins", &of_jack, known, &[small]),
        ("turned away by a native plugin", &turned_away, known, &[]),
        ("sent elsewhere by a native plugin", &elsewhere, known, &[]),
        ("compressed", &compressed, known, &typed),
    ];
    for (name, pinned, request, pieces) in kinds {
        let mut driver = Driver::new();
        let mut run = |count| {
            for _ in 0..count {
                driver.run(pinned, request, pieces);
            }
        };
        run(20);
        let before = ALLOCATIONS.get();
        run(1_000);
        let made = ALLOCATIONS.get() - before;
        assert_eq!(made, 0, "{name}: allocations in 1,000 exchanges");
    }
}
