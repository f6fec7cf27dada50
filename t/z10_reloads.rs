//! Reloads by the hundred under load, every other one of a broken file: nothing is lost.
//!
//! ```sh
//! cargo test --release --test t z10_reloads -- --ignored --nocapture --test-threads 1
//! ```
//!
//! Every `cargo test` runs a small version.

use crate::harness::{Client, Gateway, Setup, Upstream, eventually};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

fn resources(word: &str, upstream: &Upstream) -> String {
    format!(
        "routes:\n\
         - {{id: fixed, uri: /fixed, plugins: {{fault-injection: {{abort: {{http_status: 200, body: {word}}}}}}}}}\n\
         - {{id: proxied, uri: /proxied, upstream: {{nodes: {{\"{}\": 1}}}}}}\n\
         - {{id: held, uri: /held, plugins: {{fault-injection: {{delay: {{duration: 1}}, abort: \
         {{http_status: 200, body: held}}}}}}}}\n",
        upstream.node()
    )
}

/// What clients saw.
#[derive(Default)]
struct Seen {
    stop: AtomicBool,
    good: AtomicUsize,
    lost: AtomicUsize,
    held: AtomicUsize,
}

/// Asks for a path again and again on one connection; how long each answer took.
fn ask(seen: &Seen, address: SocketAddr, path: &str, counter: &AtomicUsize) -> Vec<Duration> {
    let (mut client, mut took) = (Client::connect(address), Vec::new());
    while !seen.stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        match client.outcome(false) {
            Ok(response) if response.status() == 200 => counter.fetch_add(1, Ordering::Relaxed),
            _ => seen.lost.fetch_add(1, Ordering::Relaxed),
        };
        took.push(asked.elapsed());
    }
    took
}

/// The times of ordinary requests while `work` runs.
fn under_load(gateway: &Gateway, seen: &Seen, work: impl FnOnce()) -> Vec<Duration> {
    let address = gateway.address;
    seen.stop.store(false, Ordering::Relaxed);
    let mut took = std::thread::scope(|scope| {
        let asking = ["/fixed", "/proxied", "/fixed", "/proxied"];
        let asking = asking.map(|path| scope.spawn(move || ask(seen, address, path, &seen.good)));
        let held = scope.spawn(move || ask(seen, address, "/held", &seen.held));
        work();
        seen.stop.store(true, Ordering::Relaxed);
        held.join().expect("it asks");
        asking.into_iter().flat_map(|asked| asked.join().expect("it asks")).collect::<Vec<_>>()
    });
    took.sort_unstable();
    took
}

fn p99(sorted: &[Duration]) -> Duration {
    sorted[(sorted.len() - 1) * 99 / 100]
}

fn resident(gateway: &Gateway) -> u64 {
    let path = format!("/proc/{}/status", gateway.process().id());
    let status = std::fs::read_to_string(path).expect("the process runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line of proc(5)");
    let kib = line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
    kib.expect("a number") << 10
}

fn loads(gateway: &Gateway) -> f64 {
    let of = |result: &str| gateway.metric(&format!("ringgate_loads_total{{result=\"{result}\"}}"));
    of("good").unwrap_or_default() + of("refused").unwrap_or_default()
}

/// What the resident memory was in the middle and at the end.
fn reloads(count: usize, quiet: Duration) -> (Gateway, Seen, [Duration; 2], [u64; 2]) {
    let upstream = Upstream::hello();
    let setup = Setup::new(resources("w", &upstream)).ringgate("watch: true").metrics();
    let gateway = setup.start();
    let seen = Seen::default();
    let before = under_load(&gateway, &seen, || std::thread::sleep(quiet));
    let mut middle = 0;
    let during = under_load(&gateway, &seen, || {
        for round in 0..count {
            let good = format!("{}#END\n", resources(&format!("w{round}"), &upstream));
            let text = if round % 2 == 0 { good } else { good.replace("uri", "url") };
            let expected = loads(&gateway) + 1.0;
            let new = gateway.folder().write("apisix.yaml.new", text);
            std::fs::rename(new, gateway.folder().path().join("apisix.yaml")).expect("renamed");
            eventually("the file is taken or refused", || loads(&gateway) >= expected);
            if round == count / 2 {
                middle = resident(&gateway);
            }
        }
    });
    let memory = [middle, resident(&gateway)];
    println!(
        "{count} reloads, half of them refused, among {} requests and {} held ones: {} lost\n  \
         99 % took {:.1?} without and {:.1?} with them; resident {} KiB in the middle, {} KiB at the end",
        seen.good.load(Ordering::Relaxed),
        seen.held.load(Ordering::Relaxed),
        seen.lost.load(Ordering::Relaxed),
        p99(&before),
        p99(&during),
        memory[0] >> 10,
        memory[1] >> 10,
    );
    (gateway, seen, [p99(&before), p99(&during)], memory)
}

#[test]
fn reloads_lose_nothing() {
    let (gateway, seen, ..) = reloads(12, Duration::from_millis(200));
    assert_eq!(seen.lost.into_inner(), 0);
    assert!(seen.good.into_inner() > 100 && seen.held.into_inner() > 0);
    assert_eq!(gateway.metric("ringgate_loads_total{result=\"refused\"}"), Some(6.0));
}

#[test]
#[ignore = "minutes; make soak"]
fn soak() {
    let (_gateway, seen, [without, with], [middle, end]) = reloads(1_000, Duration::from_secs(10));
    assert_eq!(seen.lost.into_inner(), 0);
    assert!(with <= without * 2, "99 % took {with:?} with reloads and {without:?} without");
    assert!(end <= middle + middle / 50 + (1 << 20), "{middle} bytes, then {end}");
}
