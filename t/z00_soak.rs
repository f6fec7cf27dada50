//! Misbehaving plugins and changed configurations by the thousand, under load, with the figures.
//!
//! ```sh
//! cargo test --release --test t z00_soak -- --ignored --nocapture --test-threads 1
//! ```
//!
//! It takes minutes; every `cargo test` runs a small version of each.

use crate::any::{self, FREE, Program};
use crate::harness::{Client, Gateway, Setup, eventually};
use rustix::process::Signal;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

const ISOLATIONS: [&str; 2] = ["shared", "request"];

/// A guest that answers 200, but does something else when a request has the field `bad`.
fn guest(bad: impl FnOnce(&mut any::Section)) -> Program {
    let (key, body, out) = (FREE, FREE + 16, FREE + 32);
    let mut program = Program::new();
    let section = program.on("request_headers").poke(key, b"bad").poke(body, b"good");
    section.call("env.proxy_get_header_map_value", &[0, key, 3, out, out + 4]).when(0, bad);
    let answer = [200, 0, 0, body, 4, 0, 0, u32::MAX];
    section.call("env.proxy_send_local_response", &answer);
    program
}

fn start(program: &Program, keys: &str) -> Gateway {
    let setup = Setup::new("routes: [{uri: /*, plugins: {any: {conf: c}}}]");
    let file = setup.folder().write("any.wat", any::text());
    let keys = format!("{keys}, vm_config: \"{}\"", program.text());
    setup.wasm("any", file.to_str().expect("a path of text"), &keys).start()
}

/// Sends a request and reads the answer: its status, or nothing if it was lost. A connection that
/// ended is made anew.
fn ask(client: &mut Client, address: SocketAddr, fields: &str) -> Option<(u16, Vec<u8>)> {
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    match client.outcome(false) {
        Ok(response) => {
            let answer = (response.status(), response.body.clone());
            if response.closes() {
                *client = Client::connect(address);
            }
            Some(answer)
        }
        Err(_) => {
            *client = Client::connect(address);
            None
        }
    }
}

fn quantile(sorted: &[Duration], of_thousand: usize) -> Duration {
    sorted[(sorted.len() - 1) * of_thousand / 1000]
}

fn told(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let [median, most, max] = [500, 990, 1000].map(|q| quantile(times, q));
    format!("median {median:.1?}, 99 % {most:.1?}, longest {max:.1?}")
}

/// Resident bytes of a process, now and at most.
fn resident(gateway: &Gateway) -> (u64, u64) {
    let path = format!("/proc/{}/status", gateway.process().id());
    let status = std::fs::read_to_string(path).expect("the process runs");
    let kib = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).expect("a line of proc(5)");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number")
    };
    (kib("VmRSS:") << 10, kib("VmHWM:") << 10)
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// Requests that loop without end, each among so many good ones on other connections of the worker.
fn endless_loops(isolation: &str, looping: usize, good_each: usize) {
    let program = guest(|section| _ = section.forever());
    let keys = format!("isolation: {isolation}, pool: 4, limits: {{deadline_ms: 10}}");
    let gateway = start(&program, &keys);
    let address = gateway.address;
    let (lost, good) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let stop = AtomicBool::new(false);
    let (due, dues) = mpsc::channel();
    let mut took = Vec::new();
    let mut good_took: Vec<Duration> = std::thread::scope(|scope| {
        let serve = || {
            let due = due.clone();
            let (lost, good, stop) = (&lost, &good, &stop);
            scope.spawn(move || {
                let (mut client, mut took) = (Client::connect(address), Vec::new());
                while !stop.load(Ordering::Relaxed) {
                    let asked = Instant::now();
                    let answer = ask(&mut client, address, "");
                    took.push(asked.elapsed());
                    if answer.is_none_or(|answer| answer != (200, b"good".to_vec())) {
                        lost.fetch_add(1, Ordering::Relaxed);
                    }
                    if good.fetch_add(1, Ordering::Relaxed) % good_each == 0 {
                        due.send(()).expect("somebody waits");
                    }
                }
                took
            })
        };
        let serving: Vec<_> = std::iter::repeat_with(serve).take(4).collect();
        let mut client = Client::connect(address);
        for _ in 0..looping {
            dues.recv().expect("good requests go on");
            let asked = Instant::now();
            let answer = ask(&mut client, address, "bad: 1\r\n");
            took.push(asked.elapsed());
            assert_eq!(answer.map(|answer| answer.0), Some(503), "what loops is ended");
        }
        stop.store(true, Ordering::Relaxed);
        serving.into_iter().flat_map(|served| served.join().expect("it serves")).collect()
    });
    let (good, lost) = (good.into_inner(), lost.into_inner());
    println!(
        "isolation {isolation}: {looping} endless loops with a deadline of 10 ms among {good} good \
         requests, {lost} lost\n  loops: {}\n  good:  {}",
        told(&mut took),
        told(&mut good_took)
    );
    assert_eq!(lost, 0, "of {good} good requests");
    assert!(quantile(&took, 0) >= Duration::from_millis(9), "a loop lasts until its deadline");
}

/// Each trap is followed by a good request: a plugin that does nothing but trap is left alone.
fn trap(ask_all: &mut impl FnMut(usize, &str, u16), count: usize) {
    for _ in 0..count {
        ask_all(1, "bad: 1\r\n", 503);
        ask_all(1, "", 200);
    }
}

/// Requests that take memory up to the limit, touch it, want more, and trap.
fn traps(isolation: &str, count: usize) {
    const LIMIT: u64 = 8 << 20;
    let program = guest(|section| {
        for mib in 1..9 {
            section.grow(16);
            section.copy((mib << 20) - 0x8_0000, 0, 0x8_0000).copy(mib << 20, 0, 0x8_0000);
        }
    });
    let gateway = start(&program, &format!("isolation: {isolation}, limits: {{memory_mb: 8}}"));
    let mut client = gateway.client();
    let mut ask_all = |requests: usize, fields: &str, wanted: u16| {
        for _ in 0..requests {
            let answer = ask(&mut client, gateway.address, fields);
            assert_eq!(answer.map(|answer| answer.0), Some(wanted));
        }
    };
    ask_all(1_000, "", 200);
    let (fresh, _) = resident(&gateway);
    // The slots of instances keep some of what was once used (`KEEP_RESIDENT_BYTES` of room `vm`).
    trap(&mut ask_all, 20);
    ask_all(1_000, "", 200);
    let (before, _) = resident(&gateway);
    trap(&mut ask_all, count);
    gateway.wait_for_log("wanted more than 8 MiB");
    ask_all(1_000, "", 200);
    let (after, most) = resident(&gateway);
    println!(
        "isolation {isolation}: {count} traps at a limit of {}: resident {} at first, {} before, \
         {} after, {} at most",
        mib(LIMIT),
        mib(fresh),
        mib(before),
        mib(after),
        mib(most)
    );
    assert!(after * 100 <= before * 110, "within a tenth: {} {}", mib(before), mib(after));
    // One instance has its memory, another one may not have given its back yet.
    assert!(most <= before + 2 * LIMIT + (4 << 20), "stopped at the limit: {}", mib(most));
}

/// What a hot swap changes.
#[derive(Clone, Copy, Debug)]
enum Swap {
    /// The conf, and with it which of two plugins answers.
    Conf,
    /// The file of the plugin's module: one in C, in Rust, in C++, and one that never was before.
    /// The conf too; the new module knows only the number it was made with.
    Module,
}

/// A module that answers with its number, whatever its conf.
fn numbered(number: usize) -> Vec<u8> {
    let text = include_str!("../examples/plugins/fixtures/minimal.wat");
    let text = text.replace("minimal\\n", &format!("{number:08}"));
    text.into_bytes()
}

/// The module of a swap, and what it answers.
fn module_of(number: usize) -> (Vec<u8>, String) {
    let file = match number % 4 {
        0 => return (numbered(number), format!("{number:08}")),
        1 => "fault_injection_c.wasm",
        2 => "fault_injection_rust.wasm",
        _ => "fault_injection_cpp.wasm",
    };
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/plugins/dist/");
    (std::fs::read(format!("{folder}{file}")).expect("a module"), number.to_string())
}

/// Routes to a plugin that answers with the number, if its module takes it from the conf.
fn answering(plugin: &str, number: usize) -> String {
    let conf = format!("{{http_status: 200, body: \"{number}\"}}");
    format!("routes: [{{uri: /*, plugins: {{{plugin}: {{conf: {conf}}}}}}}]")
}

/// Changed confs or modules, by SIGHUP, under load.
fn hot_swaps(swap: Swap, isolation: &str, count: usize) {
    let with = |number: usize| match swap {
        Swap::Conf => answering(["c", "rust"][number % 2], number),
        Swap::Module => answering("changing", number),
    };
    let keys = format!("isolation: {isolation}");
    let setup = Setup::new(with(0));
    let file = setup.folder().write("changing.wasm", module_of(0).0);
    let gateway = setup
        .wasm("c", "dist/fault_injection_c.wasm", &keys)
        .wasm("rust", "dist/fault_injection_rust.wasm", &keys)
        .wasm("changing", file.to_str().expect("a path of text"), &keys)
        .start();
    // Makes the next state of the files, whole ones at once; what will be answered then.
    let change = |number: usize| {
        let mut wanted = number.to_string();
        if matches!(swap, Swap::Module) {
            let (module, answer) = module_of(number);
            let aside = gateway.folder().write("changing.next", module);
            std::fs::rename(aside, &file).expect("the same folder");
            wanted = answer;
        }
        gateway.folder().write("apisix.yaml", format!("{}\n#END\n", with(number)));
        wanted
    };
    let address = gateway.address;
    let (lost, good) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let stop = AtomicBool::new(false);
    let (mut took, mut residents) = (Vec::new(), Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut client = Client::connect(address);
                while !stop.load(Ordering::Relaxed) {
                    let answer = ask(&mut client, address, "");
                    if answer.is_none_or(|answer| answer.0 != 200) {
                        lost.fetch_add(1, Ordering::Relaxed);
                    }
                    good.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut client = Client::connect(address);
        for number in 1..=count {
            let asked = Instant::now();
            let wanted = Some((200, change(number).into_bytes()));
            gateway.process().signal(Signal::HUP);
            eventually("the new one answers", || ask(&mut client, address, "") == wanted);
            took.push(asked.elapsed());
            residents.push(resident(&gateway).0);
        }
        stop.store(true, Ordering::Relaxed);
    });
    let (good, lost) = (good.into_inner(), lost.into_inner());
    let mean = |part: &[u64]| part.iter().sum::<u64>() / part.len() as u64;
    let tenths: Vec<u64> = residents.chunks(count.div_ceil(10)).map(mean).collect();
    println!(
        "{swap:?}, isolation {isolation}: {count} hot swaps under {good} requests, {lost} lost; \
         {}\n  resident, by tenths: {}",
        told(&mut took),
        tenths.iter().copied().map(mib).collect::<Vec<_>>().join(", ")
    );
    assert_eq!(lost, 0, "of {good} requests");
    if count >= 500 {
        check_flat(&tenths);
    }
}

/// The first hundreds warm up what later ones use again. What a swap leaves is given back in steps
/// of 2 MiB, so one tenth may stand a step above its neighbours; a leak is in both of the last.
fn check_flat(tenths: &[u64]) {
    let (sixth, last) = (tenths[tenths.len() / 2], &tenths[tenths.len() - 2..]);
    let last = last.iter().copied().min().unwrap_or_default();
    assert!(last * 100 <= sixth * 103, "flat: {} {}", mib(sixth), mib(last));
}

#[test]
fn a_few_endless_loops() {
    ISOLATIONS.into_iter().for_each(|isolation| endless_loops(isolation, 10, 100));
}

#[test]
fn a_few_traps() {
    ISOLATIONS.into_iter().for_each(|isolation| traps(isolation, 100));
}

#[test]
fn a_few_hot_swaps() {
    hot_swaps(Swap::Conf, "shared", 20);
    ISOLATIONS.into_iter().for_each(|isolation| hot_swaps(Swap::Module, isolation, 12));
}

#[test]
#[ignore = "a minute"]
fn a_thousand_endless_loops_among_a_hundred_thousand_requests() {
    ISOLATIONS.into_iter().for_each(|isolation| endless_loops(isolation, 1_000, 100));
}

#[test]
#[ignore = "a minute"]
fn ten_thousand_traps() {
    ISOLATIONS.into_iter().for_each(|isolation| traps(isolation, 10_000));
}

#[test]
#[ignore = "minutes"]
fn a_thousand_hot_swaps() {
    hot_swaps(Swap::Conf, "shared", 1_000);
}

#[test]
#[ignore = "minutes"]
fn a_thousand_hot_swaps_of_modules() {
    ISOLATIONS.into_iter().for_each(|isolation| hot_swaps(Swap::Module, isolation, 1_000));
}

#[test]
#[ignore = "a minute"]
fn a_runner_is_killed_sixty_times_in_a_minute() {
    crate::i10_runner_faults::killed_every_second(60);
}
