//! A hundred thousand routes: what a reload takes, what one PUT takes, and whether workers notice.
//!
//! ```sh
//! cargo test --test t z30_many_routes -- --ignored --nocapture --test-threads 1
//! ```
//!
//! `RINGGATE_BINARY=rel/release/ringgate` measures another build than the tests' own. Every
//! `cargo test` runs a small version of each, without bounds on the time.

use crate::harness::{Admin, Client, Gateway, Setup, eventually};
use redb::{Database, TableDefinition};
use serde_json::{Value, json};
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const MANY: usize = 100_000;
const PUTS: usize = 50;

/// What the issue asks for.
const RELOAD_MAX: Duration = Duration::from_secs(3);
const PUT_MAX: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_millis(1);

/// One of ten kinds of routes: exact paths and prefixes, with and without hosts, with an upstream
/// of their own, a shared one, or an answer.
fn route(n: usize) -> Value {
    let answer =
        json!({"fault-injection": {"abort": {"http_status": 200, "body": format!("r{n}")}}});
    match n % 10 {
        0..3 => json!({"host": format!("shop-{}.example.com", n % 997),
            "uri": format!("/v2/catalog/items/{n}"), "upstream_id": "shared"}),
        3 => json!({"host": format!("shop-{}.example.com", n % 997),
            "uri": format!("/v2/accounts/{n}/*"), "service_id": "shop"}),
        4..7 => json!({"uri": format!("/api/v1/tenant-{n}/orders"), "plugins": answer}),
        7 => json!({"uri": format!("/api/v1/tenant-{n}/files/*"), "plugins": answer}),
        8 => json!({"uri": format!("/api/v1/tenant-{n}/files/*"),
            "upstream": {"nodes": {format!("127.0.0.1:{}", 1024 + n % 60_000): 1}}}),
        _ => json!({"host": format!("*.region-{}.example.net", n % 101),
            "uri": format!("/assets/{n}/*"), "plugins": {"proxy-rewrite": {"uri": "/x"}},
            "upstream_id": "shared"}),
    }
}

/// A path that the route `n` answers by itself, and its answer.
fn answered(n: usize) -> (String, String) {
    let n = n / 10 * 10 + 4;
    (format!("/api/v1/tenant-{n}/orders"), format!("r{n}"))
}

fn others() -> [(&'static str, Value); 2] {
    let nodes = json!({"nodes": {"127.0.0.1:1": 1, "127.0.0.1:2": 1}});
    [("upstreams/shared", nodes), ("services/shop", json!({"upstream_id": "shared"}))]
}

/// `apisix.yaml` without its end. `round` stands in one route.
fn file(count: usize, round: usize) -> String {
    let mut text = String::from("upstreams:\n- {id: shared, nodes: {\"127.0.0.1:1\": 1}}\n");
    text.push_str("services:\n- {id: shop, upstream_id: shared}\nroutes:\n");
    let _ = writeln!(
        text,
        "- id: round\n  uri: /round\n  plugins: {{fault-injection: {{abort: {{http_status: 200, body: r{round}}}}}}}"
    );
    for n in 0..count {
        let _ = writeln!(text, "- id: r{n}");
        for (key, value) in route(n).as_object().expect("an object") {
            let _ = writeln!(text, "  {key}: {value}");
        }
    }
    text
}

/// The embedded store as a gateway would have written it.
fn write_store(dir: &Path, count: usize) {
    const ITEMS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("items");
    const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
    std::fs::create_dir_all(dir).expect("a folder");
    let database = Database::create(dir.join("resources.redb")).expect("a store");
    let write = database.begin_write().expect("to be written");
    {
        let mut items = write.open_table(ITEMS).expect("a table");
        let routes = (0..count).map(|n| (format!("routes/r{n}"), route(n)));
        let others = others().map(|(key, value)| (key.to_owned(), value));
        for (key, value) in others.into_iter().chain(routes) {
            let item = json!({"value": value, "created": 1, "modified": 1, "expires": null});
            items.insert(&*key, item.to_string().as_bytes()).expect("an item");
        }
        write.open_table(META).expect("a table").insert("revision", 1).expect("a revision");
    }
    write.commit().expect("written");
}

/// Asks for all that routes answer by themselves, one after the other; the longest time an answer
/// took.
fn ask(address: SocketAddr, count: usize, stop: &AtomicBool) -> (usize, Duration) {
    let (mut client, mut longest, mut asked) = (Client::connect(address), Duration::ZERO, 0);
    while !stop.load(Ordering::Relaxed) {
        let (path, answer) = answered(asked * 7919 % count);
        let begun = Instant::now();
        assert_eq!(client.get(&path).text(), answer);
        longest = longest.max(begun.elapsed());
        asked += 1;
    }
    (asked, longest)
}

/// The longest that a worker ever took to take a snapshot.
fn take_max(gateway: &Gateway) -> Option<Duration> {
    let of = |worker| {
        let name = "ringgate_worker_snapshot_take_seconds_max";
        gateway.metric(&format!("{name}{{worker=\"{worker}\"}}")).map(Duration::from_secs_f64)
    };
    (0..2).filter_map(of).max()
}

struct Figures {
    /// Sorted.
    took: Vec<Duration>,
    pause: Duration,
}

impl Figures {
    fn median(&self) -> Duration {
        self.took[self.took.len() / 2]
    }

    fn longest(&self) -> Duration {
        self.took[self.took.len() - 1]
    }
}

/// Does `work` so many times while clients ask.
fn figures(
    gateway: &Gateway,
    count: usize,
    times: usize,
    mut work: impl FnMut(usize) -> Duration,
) -> Figures {
    let (address, stop) = (gateway.address, AtomicBool::new(false));
    let mut took: Vec<Duration> = Vec::new();
    let (mut asked, mut longest) = (0, Duration::ZERO);
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..2).map(|_| scope.spawn(|| ask(address, count, &stop))).collect();
        took.extend((0..times).map(&mut work));
        stop.store(true, Ordering::Relaxed);
        for one in asking {
            let (requests, time) = one.join().expect("all are answered");
            (asked, longest) = (asked + requests, longest.max(time));
        }
    });
    took.sort_unstable();
    let figures = Figures { took, pause: take_max(gateway).unwrap_or_default() };
    println!(
        "  {times} times: median {:.1?}, longest {:.1?}; {asked} requests meanwhile, the longest \
         took {longest:.1?}; the longest pause of a worker: {:.1?}",
        figures.median(),
        figures.longest(),
        figures.pause,
    );
    figures
}

fn reloads(count: usize, times: usize) -> Figures {
    let begun = Instant::now();
    let gateway = Setup::new(file(count, 0)).workers(2).metrics().start();
    println!("{count} routes of a file: started in {:.1?}; reloads:", begun.elapsed());
    assert!(take_max(&gateway).is_some(), "workers say how long they paused");
    figures(&gateway, count, times, |round| {
        gateway.folder().write("apisix.yaml", format!("{}\n#END\n", file(count, round + 1)));
        let begun = Instant::now();
        gateway.process().signal(rustix::process::Signal::HUP);
        let mut client = gateway.client();
        let answer = format!("r{}", round + 1);
        eventually("the reload is live", || client.get("/round").text() == answer);
        begun.elapsed()
    })
}

fn puts(count: usize, times: usize) -> Figures {
    let setup = Setup::new("").admin("role: traditional").workers(2).metrics();
    write_store(&setup.folder().path().join("store"), count);
    let begun = Instant::now();
    let gateway = setup.start();
    println!("{count} routes of the store: started in {:.1?}; PUTs:", begun.elapsed());
    let admin: Admin = gateway.admin();
    figures(&gateway, count, times, |round| {
        // One of those that are there and that nobody asks for, or a new one.
        let (id, path) = match round % 2 {
            0 => (format!("r{}", 5 + round * 10), format!("/api/v1/new-{round}")),
            _ => (format!("new-{round}"), format!("/api/v1/new-{round}/*")),
        };
        let value = json!({"uri": path, "plugins": {"fault-injection": {"abort": {
            "http_status": 200, "body": format!("put {round}")}}}});
        let begun = Instant::now();
        admin.put(&format!("/routes/{id}"), value.to_string());
        let took = begun.elapsed();
        let asked = path.replace('*', "x");
        assert_eq!(gateway.get(&asked).text(), format!("put {round}"));
        took
    })
}

#[test]
fn some_routes_are_reloaded() {
    reloads(300, 2);
}

#[test]
fn routes_are_put_among_some() {
    puts(300, 6);
}

#[test]
#[ignore = "for a quiet machine"]
fn a_file_of_100_000_routes() {
    let figures = reloads(MANY, 5);
    assert!(figures.median() <= RELOAD_MAX, "a reload took {:?}", figures.median());
    assert!(figures.pause <= PAUSE_MAX, "a worker paused for {:?}", figures.pause);
}

#[test]
#[ignore = "for a quiet machine"]
fn puts_among_100_000_routes() {
    let figures = puts(MANY, PUTS);
    assert!(figures.median() <= PUT_MAX, "a PUT took {:?}", figures.median());
    assert!(figures.pause <= PAUSE_MAX, "a worker paused for {:?}", figures.pause);
}
