//! Runners that fail: hostile ones, dead ones, hung ones, ones that are killed.

use crate::harness::runner::{
    Came, PREPARE, REQUEST, RESPONSE, Runner, refused, request_body, response_body, stop, token,
};
use crate::harness::{Gateway, Setup, Successor, Upstream, drivers, eventually, is_alive, skipped};
use crate::i00_runners::setup;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const PRE: &str = "ext-plugin-pre-req: {conf: [{name: say, value: '{}'}]}";
const POST: &str = "ext-plugin-post-resp: {conf: [{name: say, value: '{}'}]}";
const OPEN: &str = "ext-plugin-pre-req: {allow_degradation: true}";

/// A route with a plugin whose runner has these settings.
fn gateway_with(plugins: &str, settings: &str, upstream: &Upstream) -> (Setup, PathBuf, String) {
    let (setup, socket) = setup(plugins, upstream);
    let path = format!("ext-plugin: {{path_for_test: {}", socket.display());
    let config = setup.write_with(&format!("{path}}}"), &format!("{path}, {settings}}}"));
    (setup, socket, config)
}

/// What a hostile runner sends in place of its answer to a request.
fn hostile() -> Vec<(&'static str, Vec<u8>)> {
    let frame = |kind: u8, payload: &[u8]| {
        let [_, high, middle, low] = (payload.len() as u32).to_be_bytes();
        [&[kind, high, middle, low], payload].concat()
    };
    let good = stop(200, &[], b"opened");
    let cut = &frame(REQUEST, &good)[..good.len() / 2];
    vec![
        ("nothing", Vec::new()),
        ("half a header", vec![2, 0]),
        ("no HTTP either", b"HTTP/1.1 200 OK\r\n\r\n".to_vec()),
        ("a truncated frame", cut.to_vec()),
        ("an empty frame", frame(REQUEST, b"")),
        ("garbage", frame(REQUEST, b"\xff\xff\xff\x7fgarbage and more")),
        ("offsets out of bounds", frame(REQUEST, &[0xfe; 64])),
        ("zeros", frame(REQUEST, &[0; 4096])),
        ("the wrong type", frame(PREPARE, &token(1))),
        ("a response's type", frame(RESPONSE, &good)),
        ("an unknown type", frame(200, &good)),
        ("16 MB of nothing", frame(REQUEST, &vec![0; (1 << 24) - 1])),
        ("an error in a reply's clothes", frame(REQUEST, &refused(1))),
        ("a status that is none", frame(REQUEST, &stop(42, &[], b""))),
        ("a split response", frame(REQUEST, &stop(200, &[("X", Some("a\r\n\r\nb"))], b""))),
    ]
}

#[test]
fn hostile_runners_open_nothing() {
    for driver in drivers() {
        for (what, bytes) in hostile() {
            let upstream = Upstream::hello();
            let (setup, socket) = setup(PRE, &upstream);
            let _runner = Runner::script(&socket, move |talk| {
                while let Some(came) = talk.receive() {
                    if came.kind != PREPARE {
                        talk.raw(&bytes);
                        return;
                    }
                    talk.send(PREPARE, &token(1));
                }
            });
            let gateway = setup.driver(*driver).start();
            let mut client = gateway.client();
            let answer = client.get("/");
            assert_eq!(answer.status(), 503, "{what}");
            assert!(answer.text().contains("503 Service Unavailable"), "{what}");
            assert!(upstream.requests().is_empty(), "{what}");
            gateway.wait_for_log("RPC_HTTP_REQ_CALL");
            // And once more, over the client's same connection.
            assert_eq!(client.get("/").status(), 503, "{what}");
        }
    }
}

#[test]
fn frames_that_never_end_are_given_up() {
    let upstream = Upstream::hello();
    let (setup, socket, config) = gateway_with(PRE, "call_timeout: 300ms", &upstream);
    let _runner = Runner::answering(&socket, |talk, _| {
        talk.raw(&[REQUEST, 0xff, 0xff, 0xff]);
        for _ in 0..1000 {
            talk.raw(&[0; 16]);
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let gateway = setup.start_written(&config);
    let begun = Instant::now();
    assert_eq!(gateway.get("/").status(), 503);
    assert!(begun.elapsed() < Duration::from_secs(5));
    gateway.wait_for_log("RPC_HTTP_REQ_CALL: timeout");
}

#[test]
fn refusals_and_broken_preparations() {
    type Script = fn(&mut crate::harness::runner::Talk, &Came);
    let table: [(&str, Script); 4] = [
        ("RPC_PREPARE_CONF: bad request", |talk, _| talk.send(0, &refused(0))),
        ("RPC_PREPARE_CONF: service unavailable", |talk, _| talk.send(0, &refused(1))),
        ("RPC_PREPARE_CONF: closed", |talk, _| talk.raw(&[1, 0])),
        ("RPC_PREPARE_CONF: unexpected type 2", |talk, _| talk.send(2, &token(1))),
    ];
    for (words, script) in table {
        let upstream = Upstream::hello();
        let (setup, socket) = setup(PRE, &upstream);
        let _runner = Runner::script(&socket, move |talk| {
            if let Some(came) = talk.receive() {
                script(talk, &came);
            }
        });
        let gateway = setup.start();
        assert_eq!(gateway.get("/").status(), 503, "{words}");
        gateway.wait_for_log(words);
    }
}

#[test]
fn a_runner_that_closes_in_the_middle() {
    let upstream = Upstream::hello();
    let (setup, socket) = setup(PRE, &upstream);
    let _runner = Runner::answering(&socket, |talk, _| {
        talk.ask(&request_body());
        talk.raw(b"");
        // The connection closes with the script.
        panic_free_end(talk);
    });
    let gateway = setup.start();
    assert_eq!(gateway.get("/").status(), 503);
    gateway.wait_for_log("failed to receive RPC_HTTP_REQ_CALL");
}

/// Sends an unknown type: the gateway hangs up.
fn panic_free_end(talk: &mut crate::harness::runner::Talk) {
    talk.send(99, b"");
    talk.stall();
}

#[test]
fn a_socket_that_nobody_listens_on() {
    for (plugins, status) in [(PRE, 503), (OPEN, 200)] {
        let upstream = Upstream::hello();
        let (setup, socket, config) = gateway_with(plugins, "start_timeout: 0", &upstream);
        let gateway = setup.start_written(&config);
        let mut client = gateway.client();
        for _ in 0..3 {
            assert_eq!(client.get("/").status(), status);
        }
        let words = format!("failed to connect to the unix socket unix:{}", socket.display());
        gateway.wait_for_log(&words);
        gateway.wait_for_log("is the runner started");
        // It comes after all.
        let _runner =
            Runner::answering(&socket, |talk, _| talk.send(REQUEST, &stop(201, &[], b"")));
        eventually("the runner is found", || client.get("/").status() == 201);
    }
}

#[test]
fn calls_wait_for_a_runner_that_starts() {
    let upstream = Upstream::hello();
    let (setup, socket, config) = gateway_with(PRE, "start_timeout: 20s", &upstream);
    let gateway = setup.start_written(&config);
    let mut clients: Vec<_> = (0..8).map(|_| gateway.client()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    gateway.wait_for_log("is down");
    let _runner = Runner::answering(&socket, |talk, _| talk.send(REQUEST, &stop(201, &[], b"")));
    for client in &mut clients {
        assert_eq!(client.response().status(), 201);
    }
}

#[test]
fn a_socket_that_is_not_ours() {
    if rustix::process::geteuid().is_root() {
        return skipped("root may connect to every socket");
    }
    let upstream = Upstream::hello();
    let (setup, socket) = setup(PRE, &upstream);
    let _runner = Runner::answering(&socket, |_, _| {});
    let none = std::os::unix::fs::PermissionsExt::from_mode(0o000);
    std::fs::set_permissions(&socket, none).expect("a socket of our own");
    let gateway = setup.start();
    assert_eq!(gateway.get("/").status(), 503);
    gateway.wait_for_log("run the runner as the gateway's user");
}

#[test]
fn a_runner_that_hangs_is_left_alone() {
    let upstream = Upstream::hello();
    let (setup, socket, config) = gateway_with(PRE, "call_timeout: 200ms", &upstream);
    let calls = std::sync::Arc::new(AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&calls);
    let _runner = Runner::answering(&socket, move |talk, _| {
        counted.fetch_add(1, Ordering::Relaxed);
        talk.stall();
    });
    let gateway = setup.start_written(&config);
    let mut clients: Vec<_> = (0..16).map(|_| gateway.client()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    for client in &mut clients {
        assert_eq!(client.response().status(), 503);
    }
    gateway.wait_for_log("is left alone for a second");
    let asked = calls.load(Ordering::Relaxed);
    let begun = Instant::now();
    for client in &mut clients {
        assert_eq!(client.get("/").status(), 503);
    }
    if begun.elapsed() < Duration::from_millis(700) {
        assert!(calls.load(Ordering::Relaxed) <= asked + 1, "nobody asked meanwhile");
    }
    gateway.wait_for_log("the runner is down");
}

#[test]
fn a_full_queue_is_an_answer() {
    let upstream = Upstream::hello();
    let settings = "connections: 1, queue: 2, call_timeout: 2s";
    let (setup, socket, config) = gateway_with(PRE, settings, &upstream);
    let _runner = Runner::answering(&socket, |talk, _| talk.stall());
    let gateway = setup.start_written(&config);
    let mut clients: Vec<_> = (0..6).map(|_| gateway.client()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    for client in &mut clients {
        assert_eq!(client.response().status(), 503);
    }
    gateway.wait_for_log("too many calls wait for the runner");
}

#[test]
fn bodies_larger_than_a_frame() {
    let upstream = Upstream::script(|conversation| {
        while conversation.request().is_some() {
            conversation.answer(&"y".repeat(17_000_000));
        }
    });
    let (setup, socket) = setup(&format!("{PRE}, {POST}"), &upstream);
    let _runner = Runner::answering(&socket, |talk, came| match came.kind {
        RESPONSE => {
            talk.send(3, &response_body());
            talk.stall();
        }
        _ if came.payload.windows(4).any(|bytes| bytes == b"/ask") => {
            talk.send(3, &request_body());
            talk.stall();
        }
        _ => talk.send(REQUEST, &crate::harness::runner::unchanged(came.id())),
    });
    let gateway = setup.start();
    let mut client = gateway.client();
    client.send("POST /ask HTTP/1.1\r\nHost: a\r\nContent-Length: 17000000\r\n\r\n");
    assert_eq!(client.response().status(), 413);
    let answer = gateway.get("/");
    assert_eq!(answer.status(), 503);
    gateway.wait_for_log("is larger than the");
}

/// A folder with the answers of `fixed_runner.py`; `None` if there is no Python.
fn fixed_runner(folder: &Path) -> Option<String> {
    let found = Command::new("python3").arg("-V").stdout(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        skipped("no python3");
        return None;
    }
    let answers = folder.join("answers");
    std::fs::create_dir_all(&answers).expect("a folder");
    std::fs::write(answers.join("1"), token(7)).expect("a file");
    std::fs::write(answers.join("2"), stop(299, &[], b"from the runner")).expect("a file");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("t/fixtures/fixed_runner.py");
    Some(format!("[python3, -u, {}, {}]", script.display(), answers.display()))
}

/// A gateway that starts its runner itself.
fn managed(plugins: &str, settings: &str, upstream: &Upstream) -> Option<Gateway> {
    let (setup, socket) = setup(plugins, upstream);
    let cmd = fixed_runner(setup.folder().path())?;
    let path = format!("ext-plugin: {{path_for_test: {}", socket.display());
    let config =
        setup.write_with(&format!("{path}}}"), &format!("{path}, cmd: {cmd}, {settings}}}"));
    Some(setup.start_written(&config))
}

/// The process that was started last, once the log has its line.
fn runner_pid(gateway: &Gateway) -> i32 {
    let mut pid = None;
    eventually("the runner's pid in the log", || {
        pid = last_pid(&gateway.log());
        pid.is_some()
    });
    pid.expect("it was there")
}

fn last_pid(log: &str) -> Option<i32> {
    let (_, rest) = log.rsplit_once("started with pid ")?;
    let (pid, _) = rest.split_once('\n')?;
    pid.trim().parse().ok()
}

#[test]
fn a_runner_is_started_logged_and_stopped() {
    let upstream = Upstream::hello();
    let Some(gateway) = managed(PRE, "start_timeout: 20s", &upstream) else { return };
    let answer = gateway.get("/");
    assert_eq!((answer.status(), answer.text().as_str()), (299, "from the runner"));
    gateway.wait_for_log("the runner starts");
    gateway.wait_for_log("conf expires in 3600");
    let pid = runner_pid(&gateway);
    assert!(is_alive(pid));
    let ended = gateway.stop();
    assert_eq!(ended.code, Some(0));
    eventually("the runner ends with the gateway", || !is_alive(pid));
}

/// An upgrade starts another runner on the socket that the configuration names; the old one serves
/// the old gateway until that has ended, and takes nothing away from the new one.
#[test]
fn an_upgrade_has_a_runner_of_its_own() {
    let upstream = Upstream::hello();
    let Some(mut gateway) = managed(PRE, "start_timeout: 20s", &upstream) else { return };
    let answers = || gateway.get("/").status();
    assert_eq!(answers(), 299);
    let old = runner_pid(&gateway);
    let next = Successor::of(&gateway, None);
    assert_eq!(answers(), 299);
    eventually("the log has another runner", || runner_pid(&gateway) != old);
    let new = runner_pid(&gateway);
    assert!(is_alive(new));
    assert_eq!(gateway.code(), Some(0));
    eventually("the old runner ends", || !is_alive(old));
    assert_eq!(gateway.get("/").status(), 299);
    // A connection of its own to the socket, which is still there.
    gateway.wait_for_log("the runner starts");
    drop(next);
    eventually("the new runner ends with its gateway", || !is_alive(new));
}

#[test]
fn a_runner_ends_with_a_gateway_that_is_killed() {
    let upstream = Upstream::hello();
    let Some(mut gateway) = managed(PRE, "start_timeout: 20s", &upstream) else { return };
    assert_eq!(gateway.get("/").status(), 299);
    let pid = runner_pid(&gateway);
    gateway.process().signal(rustix::process::Signal::KILL);
    gateway.end();
    eventually("the runner ends with the gateway", || !is_alive(pid));
}

#[test]
fn an_unkillable_runner_does_not_hold_the_gateway() {
    let upstream = Upstream::hello();
    let (setup, socket) = setup(OPEN, &upstream);
    let path = format!("ext-plugin: {{path_for_test: {}", socket.display());
    let script = "trap '' TERM; echo stubborn; while :; do sleep 1; done";
    let cmd = format!("{path}, cmd: [sh, -c, \"{script}\"], start_timeout: 0}}");
    let config = setup.write_with(&format!("{path}}}"), &cmd);
    let gateway = setup.start_written(&config);
    gateway.wait_for_log("stubborn");
    let pid = runner_pid(&gateway);
    let begun = Instant::now();
    assert_eq!(gateway.stop().code, Some(0));
    assert!(begun.elapsed() < Duration::from_secs(10));
    eventually("it was killed", || !is_alive(pid));
}

#[test]
fn a_command_that_is_not_there() {
    let upstream = Upstream::hello();
    let (setup, socket) = setup(OPEN, &upstream);
    let path = format!("ext-plugin: {{path_for_test: {}", socket.display());
    let cmd = format!("{path}, cmd: [/nowhere/runner], start_timeout: 0}}");
    let config = setup.write_with(&format!("{path}}}"), &cmd);
    let gateway = setup.start_written(&config);
    gateway.wait_for_log("can't be started: No such file");
    assert_eq!(gateway.get("/").status(), 200);
}

/// Every second, under load. Every request gets an answer within its deadline, and nothing is left
/// behind.
pub(crate) fn killed_every_second(kills: u32) {
    const CALL: Duration = Duration::from_secs(20);
    let upstream = Upstream::hello();
    let settings = format!("start_timeout: 10s, call_timeout: {}s", CALL.as_secs());
    let Some(gateway) = managed(PRE, &settings, &upstream) else { return };
    assert_eq!(gateway.get("/").status(), 299);
    let done = AtomicBool::new(false);
    let (answered, lost) = (AtomicU32::new(0), AtomicU32::new(0));
    let longest = Mutex::new(Duration::ZERO);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = gateway.client();
                let mut slowest = Duration::ZERO;
                while !done.load(Ordering::Acquire) {
                    let asked = Instant::now();
                    match client.get("/").status() {
                        299 => answered.fetch_add(1, Ordering::Relaxed),
                        503 => lost.fetch_add(1, Ordering::Relaxed),
                        other => panic!("{other}"),
                    };
                    slowest = slowest.max(asked.elapsed());
                }
                let mut longest = longest.lock().expect("no panic");
                *longest = longest.max(slowest);
            });
        }
        let begun = Instant::now();
        let mut killed = 0;
        for kill in 1..=kills {
            let mut pid = 0;
            eventually("another runner", || {
                pid = last_pid(&gateway.log()).unwrap_or(killed);
                pid != killed && is_alive(pid)
            });
            let seen = answered.load(Ordering::Relaxed);
            eventually("the runner serves", || answered.load(Ordering::Relaxed) > seen);
            // The pace is what this is about.
            std::thread::sleep((Duration::from_secs(1) * kill).saturating_sub(begun.elapsed()));
            killed = pid;
            let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
            // One that has just ended needs no kill.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        done.store(true, Ordering::Release);
    });
    let (answered, lost) = (answered.into_inner(), lost.into_inner());
    let longest = longest.into_inner().expect("no panic");
    println!("{kills} kills under {answered} requests, {lost} lost; the longest took {longest:?}");
    // A call is begun once more when the runner dies under it; only two deaths in a row end it.
    assert!(answered >= kills && lost * 100 <= answered.max(kills * 100), "{lost} of {answered}");
    assert!(longest < CALL, "{longest:?}");
    assert_eq!(gateway.get("/").status(), 299);
    let open = std::fs::read_dir(format!("/proc/{}/fd", gateway.process().id())).expect("it runs");
    assert!(open.count() < 100, "descriptors are left behind");
}

#[test]
fn a_runner_that_is_killed_again_and_again() {
    killed_every_second(15);
}
