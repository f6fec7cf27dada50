//! What the parts of a request cost that do no I/O: reading a head, and a whole exchange.
//!
//! `cargo bench --no-default-features --bench exchange` prints nanoseconds for each, the best of
//! several rounds. For instructions, run the program it names under callgrind, with the name of one
//! part and a number of rounds: `valgrind --tool=callgrind PROGRAM proxied 10000`, twice with
//! different numbers; the difference of the totals is what that many more cost.

#[path = "../t/instant.rs"]
mod instant;

use instant::{Driver, snapshot};
use ringgate::http::{HeadLimits, RequestHead, ResponseHead};
use ringgate::snapshot::{Chain, ConsumerPlugins};
use ringgate::upstream::Balancer;
use std::hint::black_box;
use std::time::Instant;

const REQUEST: &[u8] = b"GET /proxied HTTP/1.1\r\nHost: 127.0.0.1:9080\r\n\r\n";
const BROWSER: &[u8] = b"GET /proxied?page=2&sort=name HTTP/1.1\r\nHost: shop.example.org\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
    Connection: keep-alive\r\nCookie: session=0123456789abcdef; theme=dark\r\n\
    Upgrade-Insecure-Requests: 1\r\nSec-Fetch-Dest: document\r\nPriority: u=0, i\r\n\r\n";
const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\n\
    Date: Thu, 26 Nov 2026 21:00:00 GMT\r\nContent-Type: application/octet-stream\r\n\
    Content-Length: 1024\r\nConnection: keep-alive\r\n\r\n";

const ROUNDS: usize = 15;
const TURNS: usize = 20_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut parts = parts();
    if let [name, turns] = arguments.as_slice()
        && let Ok(turns) = turns.parse()
    {
        let part = parts.iter_mut().find(|(known, _)| known == name).expect("a part's name");
        return (part.1)(turns);
    }
    for (name, part) in &mut parts {
        let best = (0..ROUNDS).map(|_| {
            let began = Instant::now();
            part(TURNS);
            began.elapsed().as_nanos() as f64 / TURNS as f64
        });
        println!("{name:<9} {:>7.1} ns", best.fold(f64::INFINITY, f64::min));
    }
}

type Part = Box<dyn FnMut(usize)>;

fn parts() -> [(&'static str, Part); 6] {
    let response = [HEAD, &[b'x'; 1024]].concat();
    // A line or two of each is another one than that of the one before.
    let others = [
        BROWSER.to_vec(),
        replaced(BROWSER, &[("/proxied?page=2", "/other?page=31"), ("0123456789abcdef", "fedcba")]),
    ];
    let other_responses =
        [HEAD.to_vec(), replaced(HEAD, &[("21:00:00", "21:00:01"), ("1024", "100")])];
    let pinned = snapshot(Chain::default(), ConsumerPlugins::default(), Balancer::RoundRobin);
    let mut driver = Driver::new();
    let mut proxy = move || driver.run(&pinned, black_box(REQUEST), &[&response]);
    [
        ("request", Box::new(|turns| parse_requests(&[REQUEST], turns))),
        ("browser", Box::new(|turns| parse_requests(&[BROWSER], turns))),
        ("browsers", Box::new(move |turns| parse_requests(&others, turns))),
        ("response", Box::new(|turns| parse_responses(&[HEAD], turns))),
        ("responses", Box::new(move |turns| parse_responses(&other_responses, turns))),
        ("proxied", Box::new(move |turns| (0..turns).for_each(|_| proxy()))),
    ]
}

fn replaced(head: &[u8], pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut text = String::from_utf8_lossy(head).into_owned();
    for (from, to) in pairs {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    text.into_bytes()
}

fn parse_requests(heads: &[impl AsRef<[u8]>], turns: usize) {
    let mut head = RequestHead::default();
    for bytes in heads.iter().cycle().take(turns) {
        let bytes = black_box(bytes.as_ref());
        assert_eq!(head.parse(bytes, HeadLimits::default()), Ok(true));
    }
}

fn parse_responses(heads: &[impl AsRef<[u8]>], turns: usize) {
    let mut head = ResponseHead::default();
    for bytes in heads.iter().cycle().take(turns) {
        let bytes = black_box(bytes.as_ref());
        assert_eq!(head.parse(bytes, HeadLimits::default(), false), Ok(true));
    }
}
