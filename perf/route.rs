//! What a route lookup costs with 10, 1,000 and 100,000 routes.
//!
//! `cargo bench --no-default-features --bench route` prints, for each number of routes:
//!
//! - hot: the same ten requests for ten routes that are in every set, over and over;
//! - uniform: requests for all routes of the set, in random order;
//! - no route: requests that nothing matches;
//! - the memory of the compiled router and the time to build it.
//!
//! Each figure is the best of several rounds that alternate between the sets. A lookup waits for
//! the one before it, as on a worker; requests lie in memory in the order they are asked. The issue
//! asks: 100,000 routes at most 1.5 times the hot figure of 10. With `--check` a greater ratio
//! fails.

use ringgate::expr::Variables;
use ringgate::http::{Method, Methods};
use ringgate::route::{Lookup, RouteMatch, Router};
use std::alloc::{GlobalAlloc, Layout, System};
use std::borrow::Cow;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

const SIZES: [usize; 3] = [10, 1_000, 100_000];
const ROUNDS: usize = 15;
const LOOKUPS: usize = 200_000;
const HOT_RATIO_MAX: f64 = 1.5;

/// Counts live bytes and allocations, to tell a router's memory and to see that lookups have none.
struct Counting;

static LIVE_BYTES: AtomicUsize = AtomicUsize::new(0);
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE_BYTES.fetch_add(layout.size(), Relaxed);
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller's promises are handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct NoVariables;

impl Variables for NoVariables {
    fn variable(&self, _: &str) -> Option<Cow<'_, [u8]>> {
        None
    }
}

/// One of ten kinds of routes: exact paths and prefixes, with and without hosts.
fn route(n: usize) -> RouteMatch {
    let (host, uri) = match n % 10 {
        0..3 => (Some(format!("shop-{}.example.com", n % 997)), format!("/v2/catalog/items/{n}")),
        3 => (Some(format!("shop-{}.example.com", n % 997)), format!("/v2/accounts/{n}/*")),
        4..7 => (None, format!("/api/v1/tenant-{n}/orders")),
        7 | 8 => (None, format!("/api/v1/tenant-{n}/files/*")),
        _ => (Some(format!("*.region-{}.example.net", n % 101)), format!("/assets/{n}/*")),
    };
    RouteMatch {
        hosts: host.into_iter().collect(),
        uris: vec![uri],
        methods: Methods::default().with(Method::Get).with(Method::Head),
        ..RouteMatch::default()
    }
}

/// Requests in one piece of memory.
#[derive(Default)]
struct Requests {
    text: String,
    ends: Vec<(usize, usize)>,
}

impl Requests {
    fn push(&mut self, host: &str, path: &str) {
        self.text.push_str(host);
        let host_end = self.text.len();
        self.text.push_str(path);
        self.ends.push((host_end, self.text.len()));
    }

    /// A request that route `n` takes.
    fn push_for(&mut self, n: usize) {
        let route = route(n);
        let host = route.hosts.first().map_or("www.example.org", String::as_str);
        self.push(&host.replace('*', "cdn"), &route.uris[0].replace('*', "a/b.png"));
    }

    /// Asks all; gives back nanoseconds a lookup and how many found a route.
    fn ask(&self, router: &Router) -> (f64, usize) {
        let text = self.text.as_bytes();
        let never = black_box(0);
        let (mut start, mut found) = (0, 0);
        let begun = Instant::now();
        for &(host_end, end) in &self.ends {
            let lookup = Lookup {
                host: &text[start..host_end],
                path: &text[host_end..end],
                method: Method::Get,
                peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
            };
            let route = router.find(&lookup, &NoVariables);
            found += usize::from(route.is_some());
            // Always `end`, but known only when the lookup is over.
            start = end + (route.unwrap_or_default() as usize & never);
        }
        (begun.elapsed().as_nanos() as f64 / self.ends.len() as f64, found)
    }
}

struct Set {
    router: Router,
    bytes: usize,
    build_ms: f64,
    requests: [Requests; 3],
    best_ns: [f64; 3],
}

const NAMES: [&str; 3] = ["hot", "uniform", "no route"];

fn set(size: usize) -> Set {
    let routes: Vec<RouteMatch> = (0..size).map(route).collect();
    let before = LIVE_BYTES.load(Relaxed);
    let given: usize = routes.iter().map(memory_of).sum::<usize>() + size * size_of::<RouteMatch>();
    let begun = Instant::now();
    let router = Router::build(routes);
    let build_ms = begun.elapsed().as_secs_f64() * 1e3;
    let bytes = LIVE_BYTES.load(Relaxed) + given - before;
    let mut random = fastrand::Rng::with_seed(size as u64);
    let mut requests = [Requests::default(), Requests::default(), Requests::default()];
    for n in 0..LOOKUPS {
        requests[0].push_for(n % 10);
        let n = random.usize(0..size);
        requests[1].push_for(n);
        let path = format!("/api/v1/tenant-{n}/nothing");
        requests[2].push(&format!("shop-{}.example.com", n % 997), &path);
    }
    Set { router, bytes, build_ms, requests, best_ns: [f64::INFINITY; 3] }
}

/// Heap bytes of a route before it is built; building frees them.
fn memory_of(route: &RouteMatch) -> usize {
    let strings = route.hosts.iter().chain(&route.uris);
    let texts: usize = strings.map(String::capacity).sum();
    texts + (route.hosts.capacity() + route.uris.capacity()) * size_of::<String>()
}

fn main() -> ExitCode {
    let mut sets: Vec<Set> = SIZES.into_iter().map(set).collect();
    let allocations = ALLOCATIONS.load(Relaxed);
    for _ in 0..ROUNDS {
        for set in &mut sets {
            for (requests, best) in set.requests.iter().zip(&mut set.best_ns) {
                let (ns, found) = requests.ask(&set.router);
                assert!(found == 0 || found == LOOKUPS, "a lookup went astray");
                *best = best.min(ns);
            }
        }
    }
    let allocations = ALLOCATIONS.load(Relaxed) - allocations;
    report(&sets);
    println!("allocations in {} lookups: {allocations}", ROUNDS * LOOKUPS * 9);
    let ratio = sets[2].best_ns[0] / sets[0].best_ns[0];
    let failed = allocations > 0 || ratio > HOT_RATIO_MAX;
    if failed && std::env::args().any(|argument| argument == "--check") {
        eprintln!("the limits are: hot ratio {HOT_RATIO_MAX}, no allocations");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn report(sets: &[Set]) {
    print!("{:>8}", "routes");
    NAMES.iter().for_each(|name| print!("{:>12} ns {:>6}", name, "ratio"));
    println!("{:>14}{:>12}", "bytes/route", "build ms");
    for (size, set) in SIZES.iter().zip(sets) {
        print!("{size:>8}");
        for (ns, of_ten) in set.best_ns.iter().zip(&sets[0].best_ns) {
            print!("{ns:>15.1} {:>6.2}", ns / of_ten);
        }
        println!("{:>14}{:>12.1}", set.bytes / size, set.build_ms);
    }
}
