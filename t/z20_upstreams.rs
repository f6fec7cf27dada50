//! Upstreams that die, and upstreams that misbehave in every way, under load, with the figures.
//!
//! ```sh
//! cargo test --release --test t z20_upstreams -- --ignored --nocapture --test-threads 1
//! ```
//!
//! It takes minutes; every `cargo test` runs a small version of each.

use crate::harness::{
    Client, Conversation, Gateway, Process, Refusing, Setup, Upstream, eventually,
};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Free ports, as long as nobody else takes them.
fn ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port"));
    listeners.map(|listener| listener.local_addr().expect("an address").port())
}

/// An upstream as a process of its own, so that it can be killed.
fn spawn(port: u16) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringgate"));
    let process = Process::start(command.arg("demo-upstream").arg(format!("127.0.0.1:{port}")));
    let listens = |line: &str| line.contains("listening").then_some(());
    process.wait_for_output(listens).expect("the upstream listens");
    process
}

/// Five upstreams; each in turn is killed, and started again half a second later.
fn killed_upstreams(seconds: u64) {
    let ports = ports::<5>();
    let mut upstreams = ports.map(|port| Some(spawn(port)));
    let nodes = ports.map(|port| format!("\"127.0.0.1:{port}\": 1")).join(", ");
    let gateway = Gateway::start(format!(
        "routes: [{{uri: /*, upstream: {{retries: 1, nodes: {{{nodes}}}}}}}]"
    ));
    let address = gateway.address;
    let (stop, asked, failed) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let mut kills = 0;
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = Client::connect(address);
                while !stop.load(Ordering::Relaxed) {
                    client.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
                    let answer = client.outcome(false);
                    let good = answer.is_ok_and(|answer| {
                        answer.status() == 200 && answer.text().contains("GET /a HTTP/1.1")
                    });
                    asked.fetch_add(1, Ordering::Relaxed);
                    if !good {
                        failed.fetch_add(1, Ordering::Relaxed);
                        client = Client::connect(address);
                    }
                }
            });
        }
        let until = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < until {
            let at = kills % ports.len();
            upstreams[at] = None;
            kills += 1;
            std::thread::sleep(Duration::from_millis(500));
            upstreams[at] = Some(spawn(ports[at]));
            std::thread::sleep(Duration::from_millis(500));
        }
        stop.store(true, Ordering::Relaxed);
    });
    let (asked, failed) = (asked.into_inner(), failed.into_inner());
    let retried = gateway.log().matches("trying again").count();
    println!(
        "{kills} upstreams killed under {asked} GETs with `retries: 1`: {failed} failed, {retried} tried again"
    );
    assert_eq!(failed, 0, "of {asked} GETs");
    assert!(asked > 100 && retried > 0, "it was about something");
}

/// What a misbehaving peer answers a request with.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Whole,
    Chunked,
    Dribbled,
    UntilClose,
    CutByReset,
    CutByEnd,
    HalfClosed,
    ResetAtOnce,
    ClosedAtOnce,
    ClosedAfter,
    Stalled,
    StalledMidway,
    Garbage,
    WholeAndMore,
}

const FAULTS: [Fault; 14] = [
    Fault::Whole,
    Fault::Chunked,
    Fault::Dribbled,
    Fault::UntilClose,
    Fault::CutByReset,
    Fault::CutByEnd,
    Fault::HalfClosed,
    Fault::ResetAtOnce,
    Fault::ClosedAtOnce,
    Fault::ClosedAfter,
    Fault::Stalled,
    Fault::StalledMidway,
    Fault::Garbage,
    Fault::WholeAndMore,
];

/// The body that belongs to a target, of up to 100,000 bytes: no two are alike.
fn body_of(target: &str) -> Vec<u8> {
    let seed = target.bytes().fold(7, |seed: u64, byte| seed.wrapping_mul(31) + u64::from(byte));
    let mut random = fastrand::Rng::with_seed(seed);
    let len = if random.bool() { random.usize(1..500) } else { random.usize(500..100_000) };
    format!("{target} ").bytes().cycle().take(len).collect()
}

fn head(len: usize) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n")
}

/// Closes so that the other side sees a reset.
fn reset(conversation: &Conversation) {
    // A connection that is gone needs no reset.
    let _ =
        rustix::net::sockopt::set_socket_linger(conversation.wire.stream(), Some(Duration::ZERO));
}

/// Answers one request; tells whether another one may follow.
fn misbehave(conversation: &mut Conversation, target: &str, fault: Fault) -> bool {
    let body = body_of(target);
    let half = &body[..body.len() / 2];
    let (head, whole) = (head(body.len()), [head(body.len()).as_bytes(), &body].concat());
    match fault {
        Fault::Whole => conversation.send(&whole),
        Fault::Chunked => {
            conversation.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            for piece in body.chunks(9_000) {
                let size = format!("{:x}\r\n", piece.len());
                conversation.send([size.as_bytes(), piece, b"\r\n"].concat());
            }
            conversation.send("0\r\n\r\n");
        }
        Fault::Dribbled => {
            for piece in whole.chunks(whole.len() / 8 + 1) {
                conversation.send(piece);
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Fault::UntilClose => {
            conversation.send([b"HTTP/1.1 200 OK\r\n\r\n", &body[..]].concat());
            return false;
        }
        Fault::CutByReset => {
            conversation.send([head.as_bytes(), half].concat());
            reset(conversation);
            return false;
        }
        Fault::CutByEnd => {
            conversation.send([head.as_bytes(), half].concat());
            return false;
        }
        Fault::HalfClosed => {
            conversation.send([head.as_bytes(), half].concat());
            // The gateway may be gone.
            let _ = conversation.wire.stream().shutdown(Shutdown::Write);
            conversation.stall();
            return false;
        }
        Fault::ResetAtOnce => {
            reset(conversation);
            return false;
        }
        Fault::ClosedAtOnce => return false,
        Fault::ClosedAfter => {
            conversation.send(&whole);
            return false;
        }
        Fault::Stalled => {
            conversation.stall();
            return false;
        }
        Fault::StalledMidway => {
            conversation.send([head.as_bytes(), half].concat());
            conversation.stall();
            return false;
        }
        Fault::Garbage => {
            let bytes: Vec<u8> = (0..200).map(|_| fastrand::u8(..)).collect();
            conversation.send(bytes);
            return false;
        }
        Fault::WholeAndMore => conversation.send([&whole, &b"more"[..]].concat()),
    }
    true
}

/// A peer that behaves half of the time.
fn misbehaving() -> Upstream {
    Upstream::script(|conversation| {
        while let Some(request) = conversation.head() {
            let well = fastrand::bool();
            let fault = if well { Fault::Whole } else { FAULTS[fastrand::usize(..FAULTS.len())] };
            if !misbehave(conversation, request.target(), fault) {
                return;
            }
        }
    })
}

/// What became of requests.
#[derive(Debug, Default)]
struct Tally {
    whole: AtomicUsize,
    cut: AtomicUsize,
    refused: AtomicUsize,
    wrong: AtomicUsize,
}

impl Tally {
    fn add(counter: &AtomicUsize) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn ask(&self, client: &mut Client, address: SocketAddr, target: &str) {
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        match client.outcome(false) {
            Ok(answer) => {
                match answer.status() {
                    200 if answer.body == body_of(target) => Self::add(&self.whole),
                    502 | 504 => Self::add(&self.refused),
                    _ => Self::add(&self.wrong),
                }
                if answer.closes() {
                    *client = Client::connect(address);
                }
            }
            Err(cut) => {
                let right = body_of(target).starts_with(&cut.message.body);
                Self::add(if right { &self.cut } else { &self.wrong });
                *client = Client::connect(address);
            }
        }
    }
}

fn open_files(gateway: &Gateway) -> usize {
    let folder = format!("/proc/{}/fd", gateway.process().id());
    std::fs::read_dir(Path::new(&folder)).expect("the process runs").count()
}

fn resident(gateway: &Gateway) -> u64 {
    let path = format!("/proc/{}/statm", gateway.process().id());
    let pages = std::fs::read_to_string(path).expect("the process runs");
    let pages = pages.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.expect("pages") * 4096
}

/// Twenty peers that misbehave and one that refuses, under load.
fn fault_campaign(seconds: u64) {
    let peers: Vec<Upstream> = (0..20).map(|_| misbehaving()).collect();
    let refusing = Refusing::new();
    let nodes = peers.iter().map(Upstream::node).chain([refusing.node()]);
    let nodes: Vec<String> = nodes.map(|node| format!("\"{node}\": 1")).collect();
    let setup = Setup::new(format!(
        "routes: [{{uri: /*, upstream: {{nodes: {{{}}}, retries: 2, keepalive_pool: {{size: 4, \
         idle_timeout: 1, requests: 50}}, timeout: {{connect: 1, send: 1, read: 0.2}}}}}}]",
        nodes.join(", ")
    ));
    let gateway = setup.workers(2).metrics().ringgate("log: {level: error}").start();
    let (address, idle_files) = (gateway.address, open_files(&gateway));
    let (tally, number) = (Tally::default(), AtomicUsize::new(0));
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut residents = Vec::new();
    std::thread::scope(|scope| {
        for _ in 0..24 {
            scope.spawn(|| {
                let mut client = Client::connect(address);
                while Instant::now() < until {
                    let number = number.fetch_add(1, Ordering::Relaxed);
                    tally.ask(&mut client, address, &format!("/{number}"));
                }
            });
        }
        while Instant::now() < until {
            std::thread::sleep(Duration::from_millis(seconds * 1000 / 20));
            residents.push(resident(&gateway));
        }
    });
    let mib = |bytes: u64| bytes >> 20;
    let shown: Vec<u64> = residents.iter().copied().map(mib).collect();
    println!("{} requests in {seconds} s: {tally:?}; resident MiB: {shown:?}", number.into_inner());
    let open = |worker: usize| format!("ringgate_worker_connections_open{{worker=\"{worker}\"}}");
    eventually("all connections are closed", || {
        (0..2).all(|worker| gateway.metric(&open(worker)) == Some(0.0))
    });
    eventually("no descriptor is left", || open_files(&gateway) <= idle_files);
    let cut_off: usize = (0..2)
        .map(|worker| format!("ringgate_worker_aborted_total{{worker=\"{worker}\"}}"))
        .map(|name| gateway.metric(&name).expect("a counter") as usize)
        .sum();
    assert_eq!(tally.wrong.into_inner(), 0, "wrong answers");
    assert!(tally.whole.into_inner() > 100 && cut_off > 0, "it was about something");
    // In the first minutes the pools fill.
    let (half, last) = (residents[residents.len() / 2], residents[residents.len() - 1]);
    let flat = last <= half + half / 10 + (4 << 20);
    assert!(seconds < 300 || flat, "flat: {} {} MiB", mib(half), mib(last));
}

#[test]
fn a_few_killed_upstreams() {
    killed_upstreams(6);
}

#[test]
fn a_short_fault_campaign() {
    fault_campaign(20);
}

#[test]
#[ignore = "a minute"]
fn an_upstream_killed_every_second_for_a_minute() {
    killed_upstreams(60);
}

#[test]
#[ignore = "five minutes"]
fn five_minutes_of_faults() {
    fault_campaign(300);
}
