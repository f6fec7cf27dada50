//! A newer binary takes over (SIGUSR2): nothing is lost, or nothing happens.

use crate::harness::{
    Admin, Client, Driver, Folder, Gateway, Manager, Message, Setup, Successor, Upstream, drivers,
    eventually, get, is_alive,
};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const UPGRADES: u64 = 3;

fn routes(upstream: &Upstream, echo: &Upstream) -> String {
    let (node, echo) = (upstream.node(), echo.node());
    format!(
        "routes:
  - {{uri: /fixed, plugins: {{fault-injection: {{abort: {{http_status: 200, body: fixed}}}}}}}}
  - {{uri: /proxied, upstream: {{nodes: {{\"{node}\": 1}}}}}}
  - {{uri: /held, plugins: {{fault-injection: {{delay: {{duration: 0.2}}, abort: {{http_status: 200}}}}}}}}
  - {{uri: /ws, enable_websocket: true, upstream: {{nodes: {{\"{echo}\": 1}}}}}}"
    )
}

/// Switches, then gives every byte back.
fn echo() -> Upstream {
    Upstream::script(|conversation| {
        if conversation.request().is_none() {
            return;
        }
        let switches = "HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: foo/2\r\n\r\n";
        conversation.send(switches);
        while let Some(bytes) = conversation.wire.some() {
            conversation.send(bytes);
        }
    })
}

fn tunnel(gateway: &Gateway) -> Client {
    let mut client = gateway.client();
    client.send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: foo/2\r\n\r\n");
    assert_eq!(client.response().status(), 101);
    client
}

fn goes_on(tunnel: &mut Client) {
    tunnel.send("still there?");
    assert_eq!(tunnel.wire().exactly(12), b"still there?");
}

/// What clients saw.
#[derive(Default)]
struct Seen {
    stop: AtomicBool,
    good: AtomicUsize,
    lost: Mutex<Vec<String>>,
}

/// Asks again and again; on the same connection until it is told that it closes.
fn ask(seen: &Seen, address: SocketAddr, path: &str, field: &str, pause: Duration) {
    let mut client = Client::connect(address);
    while !seen.stop.load(Ordering::Relaxed) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n{field}\r\n");
        let outcome = match client.wire().send(request) {
            true => client.outcome(false).map_err(|cut| format!("{path}: {cut:?}")),
            false => Err(format!("{path}: the connection takes nothing")),
        };
        let closes = match outcome {
            Ok(answer) if answer.status() == 200 => {
                seen.good.fetch_add(1, Ordering::Relaxed);
                answer.closes()
            }
            Ok(answer) => {
                seen.lost.lock().expect("no panic").push(answer.start);
                true
            }
            Err(why) => {
                seen.lost.lock().expect("no panic").push(why);
                true
            }
        };
        if closes {
            client = Client::connect(address);
        }
        std::thread::sleep(pause);
    }
}

/// Runs `work` while clients of several kinds ask.
fn under_load(address: SocketAddr, work: impl FnOnce(&Seen)) {
    let seen = Seen::default();
    std::thread::scope(|scope| {
        let none = Duration::ZERO;
        for (path, field, pause) in [
            ("/fixed", "", none),
            ("/proxied", "", none),
            ("/fixed", "Connection: close\r\n", none),
            ("/held", "", none),
            ("/proxied", "", Duration::from_millis(30)),
        ] {
            let seen = &seen;
            scope.spawn(move || ask(seen, address, path, field, pause));
        }
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&seen)));
        seen.stop.store(true, Ordering::Relaxed);
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
    let lost = seen.lost.into_inner().expect("no panic");
    assert!(lost.is_empty(), "{} lost: {:?}", lost.len(), &lost[..lost.len().min(3)]);
}

fn unix_answer(path: &Path) -> String {
    let mut stream = UnixStream::connect(path).expect("it listens");
    let request = b"GET /fixed HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    stream.write_all(request).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

fn page(address: SocketAddr, path: &str) -> Value {
    let answer: Message = get(address, path);
    serde_json::from_str(&answer.text()).expect("JSON")
}

fn upgrades_lose_nothing(driver: Driver) {
    let (upstream, echo) = (Upstream::hello(), echo());
    let home = Folder::new();
    let socket = home.path().join("http.sock");
    let listen = format!("listen: [{{address: \"unix:{}\"}}]", socket.display());
    let setup = Setup::new(routes(&upstream, &echo)).driver(driver).workers(2).ringgate(&listen);
    let mut gateway = setup.metrics().operators().start();
    let mut held = tunnel(&gateway);
    let mut last: Option<Successor> = None;
    let mut before = Vec::new();
    under_load(gateway.address, |seen| {
        for number in 1..=UPGRADES {
            let good = seen.good.load(Ordering::Relaxed);
            let next = Successor::of(&gateway, last.as_ref());
            goes_on(&mut held);
            assert!(unix_answer(&socket).ends_with("\r\n\r\nfixed"));
            let counted = gateway.metric("ringgate_upgrades_total{result=\"good\"}");
            assert_eq!(counted, Some(number as f64));
            let served = || seen.good.load(Ordering::Relaxed) >= good + 100;
            eventually("clients are served", served);
            before.extend(last.replace(next));
        }
    });
    // Processes without work left have ended; the first has a tunnel.
    eventually("the others ended", || before.iter().all(|old| !is_alive(old.0)));
    goes_on(&mut held);
    let pid = i32::try_from(gateway.process().id()).expect("an id");
    assert!(is_alive(pid));
    drop(held);
    assert_eq!(gateway.code(), Some(0));
    assert_eq!(page(gateway.page("status"), "/status")["upgrades"]["good"], json!(UPGRADES));
    let last = last.expect("there were some");
    last.signal(Signal::TERM);
    eventually("the last one ends", || !is_alive(last.0));
}

#[test]
fn upgrades_lose_nothing_on_a_ring() {
    if drivers().contains(&Driver::Uring) {
        upgrades_lose_nothing(Driver::Uring);
    }
}

#[test]
fn upgrades_lose_nothing_on_epoll() {
    upgrades_lose_nothing(Driver::Epoll);
}

/// A tunnel that does not end holds the old process as long as a drain may take.
#[test]
fn the_drain_of_the_old_one_has_a_bound() {
    let (upstream, echo) = (Upstream::hello(), echo());
    let setup = Setup::new(routes(&upstream, &echo)).ringgate("timeouts: {drain: 2s}");
    let mut gateway = setup.start();
    let mut held = tunnel(&gateway);
    let begun = Instant::now();
    let _next = Successor::of(&gateway, None);
    goes_on(&mut held);
    assert_eq!(gateway.code(), Some(0));
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
    gateway.wait_for_log("cut off after the drain timeout");
    held.expect_end();
}

/// Puts a program in the place of the one that the gateway was started as.
fn replace(program: &Path, script: &str) {
    std::fs::remove_file(program).expect("it is there");
    std::fs::write(program, format!("#!/bin/sh\n{script}\n")).expect("a file");
    std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755)).expect("a program");
}

/// Whatever the new one lacks, the old one serves on and says why.
#[test]
fn what_does_not_become_ready_changes_nothing() {
    let (upstream, echo) = (Upstream::hello(), echo());
    let home = Folder::new();
    let program = home.path().join("ringgate");
    symlink(env!("CARGO_BIN_EXE_ringgate"), &program).expect("a link");
    let setup = Setup::new(routes(&upstream, &echo)).program(&program).workers(2);
    let setup = setup.metrics().operators().ringgate("timeouts: {upgrade: 10s}");
    let mut gateway = setup.start();
    let status = gateway.page("status");
    let config = gateway.folder().path().join("config.yaml");
    let good = std::fs::read_to_string(&config).expect("config.yaml");
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let another =
        good.replace("port: 0}]", &format!("port: 0}}, {{ip: 127.0.0.1, port: {port}}}]"));
    let mut held = tunnel(&gateway);
    let mut refused = 0;
    let mut refuses = |gateway: &Gateway, why: &str| {
        gateway.process().signal(Signal::USR2);
        refused += 1;
        let counted = || gateway.metric("ringgate_upgrades_total{result=\"refused\"}");
        eventually("it is refused", || counted() == Some(f64::from(refused)));
        let said = page(status, "/status")["upgrades"]["last_refused"]["why"].to_string();
        assert!(said.contains(why), "{said}");
        gateway.wait_for_log(why);
    };
    under_load(gateway.address, |_| {
        for (text, why) in [
            (good.replace("ringgate:\n", "ringgate:\n  wokers: 1\n"), "did you mean `workers`?"),
            (another, "is in use"),
            (good.replace("driver:", "driver: 7 #"), "exit status: 1"),
        ] {
            std::fs::write(&config, text).expect("written");
            refuses(&gateway, why);
        }
        std::fs::write(&config, &good).expect("written");
        replace(&program, "exit 7");
        refuses(&gateway, "exit status: 7");
        replace(&program, "kill -SEGV $$");
        refuses(&gateway, "SIGSEGV");
        std::fs::remove_file(&program).expect("it is there");
        refuses(&gateway, "No such file or directory");
        std::fs::write(&program, "no program").expect("written");
        refuses(&gateway, "Permission denied");
    });
    goes_on(&mut held);
    std::fs::remove_file(&program).expect("it is there");
    symlink(env!("CARGO_BIN_EXE_ringgate"), &program).expect("a link");
    let _next = Successor::of(&gateway, None);
    drop(held);
    assert_eq!(gateway.code(), Some(0));
}

/// A program that does not say a word is not waited for without end.
#[test]
fn a_new_one_has_its_time() {
    let home = Folder::new();
    let program = home.path().join("ringgate");
    symlink(env!("CARGO_BIN_EXE_ringgate"), &program).expect("a link");
    let setup = Setup::new("routes: []").program(&program).ringgate("timeouts: {upgrade: 300ms}");
    let gateway = setup.start();
    replace(&program, "exec sleep 600");
    gateway.process().signal(Signal::USR2);
    gateway.wait_for_log("it was not ready within 300ms (killed); this process serves on");
    assert_eq!(gateway.get("/").status(), 404);
    // Files may change again.
    let says =
        "routes: [{uri: /a, plugins: {fault-injection: {abort: {http_status: 299}}}}]\n#END\n";
    gateway.folder().write("apisix.yaml", says);
    gateway.process().signal(Signal::HUP);
    eventually("the new route serves", || gateway.get("/a").status() == 299);
}

fn route(word: &str) -> String {
    json!({"uri": format!("/{word}"), "plugins": {"fault-injection": {"abort": {
        "http_status": 200, "body": word}}}})
    .to_string()
}

/// Resources that came by the Admin API are the new one's, and no acknowledged write is lost;
/// writes in between are refused, not lost.
#[test]
fn the_store_is_handed_over() {
    let mut gateway = Setup::new("").admin("role: traditional").start();
    let admin = gateway.admin();
    let (stop, written) = (AtomicBool::new(false), AtomicUsize::new(0));
    let writes = |admin: &Admin| {
        let mut good = Vec::new();
        let mut n = 0;
        while !stop.load(Ordering::Relaxed) {
            n += 1;
            let (status, answer) =
                admin.ask("PUT", &format!("/routes/{n}"), route(&format!("r{n}")));
            match status {
                201 => good.push(n),
                503 => assert!(answer.to_string().contains("taking over"), "{answer}"),
                other => panic!("{other} {answer}"),
            }
            written.store(good.len(), Ordering::Relaxed);
        }
        good
    };
    let mut last = None;
    let good = std::thread::scope(|scope| {
        let writing = scope.spawn(|| writes(&admin));
        for _ in 0..2 {
            let before = written.load(Ordering::Relaxed);
            let more = || written.load(Ordering::Relaxed) > before + 2;
            eventually("some are written", more);
            let next = Successor::of(&gateway, last.as_ref());
            last = Some(next);
            let before = written.load(Ordering::Relaxed);
            let more = || written.load(Ordering::Relaxed) > before + 2;
            eventually("some more are written", more);
        }
        stop.store(true, Ordering::Relaxed);
        writing.join().expect("it wrote")
    });
    for n in good {
        assert_eq!(gateway.get(&format!("/r{n}")).text(), format!("r{n}"));
        assert_eq!(admin.ask("GET", &format!("/routes/{n}"), "").0, 200);
    }
    assert_eq!(gateway.code(), Some(0));
}

/// Resources that are in no file go over as they are.
#[test]
fn resources_in_memory_are_handed_over() {
    let provider = "role: traditional\n  role_traditional: {config_provider: yaml}";
    let mut gateway = Setup::new("").admin(provider).start();
    let admin = gateway.admin();
    let all = json!({"routes": [serde_json::from_str::<Value>(&route("kept")).expect("JSON")]});
    let key =
        format!("X-API-KEY: {}\r\nX-Digest: one\r\nContent-Type: application/json\r\n", Admin::KEY);
    let (status, answer) = admin.ask_with(&key, "PUT", "/configs", all.to_string());
    assert_eq!(status, 202, "{answer}");
    assert_eq!(gateway.get("/kept").text(), "kept");
    let _next = Successor::of(&gateway, None);
    assert_eq!(gateway.code(), Some(0));
    assert_eq!(gateway.get("/kept").text(), "kept");
    let key = key.replace("one", "two");
    let all = all.to_string().replace("kept", "changed");
    assert_eq!(admin.ask_with(&key, "PUT", "/configs", all).0, 202);
    assert_eq!(gateway.get("/changed").text(), "changed");
}

/// An upgrade that is refused gives the store back.
#[test]
fn the_store_comes_back() {
    let mut gateway = Setup::new("").admin("role: traditional").start();
    let admin = gateway.admin();
    admin.put("/routes/1", route("one"));
    let config = gateway.folder().path().join("config.yaml");
    let good = std::fs::read_to_string(&config).expect("config.yaml");
    // What it lacks is found after the store was opened: a folder is no file.
    let folder = gateway.folder().path().display();
    let bad = good.replace("  http:\n", &format!("  http:\n    access_log: {folder}\n"));
    std::fs::write(&config, bad).expect("written");
    gateway.process().signal(Signal::USR2);
    gateway.wait_for_log("upgrade refused");
    eventually("writes are taken", || admin.ask("PUT", "/routes/2", route("two")).0 == 201);
    std::fs::write(&config, good).expect("written");
    let _next = Successor::of(&gateway, None);
    assert_eq!(gateway.code(), Some(0));
    assert_eq!(
        (gateway.get("/one").text(), gateway.get("/two").text()),
        ("one".into(), "two".into())
    );
}

/// A global rule that only the old one can use is no reason to answer 503 to everybody.
#[test]
fn one_that_would_be_closed_does_not_take_over() {
    let setup = Setup::new("").admin("role: traditional").wasm("mine", "t/plugins/third.wat", "");
    let mut gateway = setup.start();
    let admin = gateway.admin();
    admin.put("/routes/1", route("one"));
    let rule = json!({"plugins": {"mine": {"conf": "long enough"}}});
    admin.put("/global_rules/1", rule.to_string());
    let config = gateway.folder().path().join("config.yaml");
    let good = std::fs::read_to_string(&config).expect("config.yaml");
    let bad = good.replace("name: mine", "name: another");
    assert_ne!(good, bad);
    std::fs::write(&config, bad).expect("written");
    gateway.process().signal(Signal::USR2);
    gateway.wait_for_log("upgrade refused");
    gateway.wait_for_log("a global rule is left out");
    assert_eq!(gateway.get("/one").text(), "one");
    eventually("writes are taken", || admin.ask("PUT", "/routes/2", route("two")).0 == 201);
    std::fs::write(&config, good).expect("written");
    let _next = Successor::of(&gateway, None);
    assert_eq!(gateway.code(), Some(0));
    assert_eq!(gateway.get("/one").text(), "one");
}

/// systemd learns which process is the service now, and that from the one it knows.
#[test]
fn a_service_manager_learns_the_new_pid() {
    let manager = Manager::new();
    let mut gateway = manager.of(Setup::new("routes: []")).start();
    assert_eq!(manager.hear(), "READY=1");
    let next = Successor::of(&gateway, None);
    assert_eq!(manager.hear(), format!("MAINPID={}", next.0));
    assert_eq!(gateway.code(), Some(0));
    next.signal(Signal::TERM);
    assert_eq!(manager.hear(), "STOPPING=1");
}
