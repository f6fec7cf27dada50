//! Random tunnels from seeds: whatever the pieces, their order and who fails, each ends once, and
//! the bytes that come out are those that went in, all of them unless somebody failed.
//!
//! `RINGGATE_TUNNEL_SEED=n` plays one seed and prints it.

use super::case::{Case, Outcome, run};
use super::double::{Effect, Phase, Scripted, edit};
use super::script::{Answers, Connects, Fate, Takes, Then};
use crate::exchange::Ending;
use crate::limits;
use fastrand::Rng;

const SEEDS: u64 = 12_000;

const ASKS: &str =
    "GET /a HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const SWITCHES: &str = "HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n";
const DECLINES: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno";

/// What becomes of the heads.
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\n\
    Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nServer: ringgate\r\nVia: 1.1 ringgate\r\n\
    Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
const HINTED: &str = "HTTP/1.1 103 Early Hints\r\nLink: a\r\nVia: 1.1 ringgate\r\n\r\n";

/// More than a head has, either way.
const HEAD_BYTES: usize = 600;

/// How a side stops taking bytes, and after how many; or it never does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stops {
    Never,
    Fails(usize),
    Stalls(usize),
}

/// What the model knows before a tunnel begins.
#[derive(Clone, Debug)]
struct Plan {
    says: String,
    answers: String,
    client_closes: bool,
    then: Then,
    client: Stops,
    peer: Stops,
    hints: bool,
    declines: bool,
    reused: bool,
    plugins: usize,
    early: usize,
}

#[test]
fn random_tunnels() {
    if let Some(seed) = std::env::var("RINGGATE_TUNNEL_SEED").ok().and_then(|n| n.parse().ok()) {
        let mut random = Rng::with_seed(seed);
        let plan = plan(&mut random);
        println!("{plan:?}");
        return verify(&plan, &play(&plan, &mut random));
    }
    let (mut whole, mut broken) = (0, 0);
    for seed in 0..SEEDS {
        let played = std::panic::catch_unwind(|| {
            let mut random = Rng::with_seed(seed);
            let plan = plan(&mut random);
            let outcome = play(&plan, &mut random);
            verify(&plan, &outcome);
            outcome.ending
        });
        match played {
            Ok(Ending::Abort) => broken += 1,
            Ok(_) => whole += 1,
            Err(_) => panic!("play it again with RINGGATE_TUNNEL_SEED={seed}"),
        }
    }
    assert!(whole > SEEDS / 4 && broken > SEEDS / 10, "of both kinds: {whole}, {broken}");
}

fn plan(random: &mut Rng) -> Plan {
    let (says, answers) = (text(random), text(random));
    let stops = |random: &mut Rng, bytes: usize| {
        let after = HEAD_BYTES + random.usize(..=bytes);
        match random.u8(..8) {
            0 => Stops::Fails(after),
            1 => Stops::Stalls(after),
            _ => Stops::Never,
        }
    };
    Plan {
        client: stops(random, answers.len()),
        peer: stops(random, says.len()),
        client_closes: random.bool(),
        then: [Then::Waits, Then::Closes, Then::Closes, Then::Breaks][random.usize(..4)],
        hints: random.u8(..8) == 0,
        declines: random.u8(..16) == 0,
        reused: random.bool(),
        plugins: random.usize(..3),
        early: random.usize(..=says.len().min(200)),
        says,
        answers,
    }
}

/// Some bytes, mostly few; now and then more than may wait for the other side.
fn text(random: &mut Rng) -> String {
    let bytes = match random.u8(..100) {
        0 => limits::BACKLOG_BYTES_MAX * 3,
        1..20 => 0,
        _ => random.usize(..300),
    };
    (0..bytes).map(|_| random.lowercase()).collect()
}

fn play(plan: &Plan, random: &mut Rng) -> Outcome {
    let (hints, switches) = (if plan.hints { HINTS } else { "" }, SWITCHES);
    let answer = match plan.declines {
        true => format!("{hints}{DECLINES}"),
        false => format!("{hints}{switches}{}", plan.answers),
    };
    let mut case = Case::new(&format!("{ASKS}{}", plan.says))
        .with(|setup| setup.upgrades = true)
        .peer(&answer)
        .answers(Answers::AfterHead)
        .connects(if plan.reused { Connects::Reused } else { Connects::New })
        .then(if plan.declines { Then::Waits } else { plan.then })
        .client(|client| {
            client.closes = plan.client_closes;
            client.early = plan.early;
            client.takes = match plan.client {
                Stops::Never => None,
                Stops::Fails(after) => Some((after, true)),
                Stops::Stalls(after) => Some((after, false)),
            };
        });
    match plan.peer {
        Stops::Never => {}
        Stops::Fails(after) => case = case.takes(after, Takes::ThenFails),
        Stops::Stalls(after) => case = case.takes(after, Takes::ThenStalls),
    }
    // They see the request and the end; what they do to bodies does not touch a tunnel.
    for at in 0..plan.plugins {
        let plugin = Scripted::new(&format!("p{at}"))
            .on(Phase::RequestBody, &[edit(Effect::Upper)])
            .on(Phase::ResponseBody, &[edit(Effect::Upper)]);
        case = case.plugin(plugin);
    }
    // Much comes in large pieces: there is a bound of steps.
    let small = plan.says.len().max(plan.answers.len()) < 10_000 && random.bool();
    run(case, &mut |n| if small && n > 8 { random.usize(..8) } else { random.usize(..n) })
}

fn verify(plan: &Plan, outcome: &Outcome) {
    let link = outcome.links.first().expect("a connection");
    assert_eq!((outcome.links.len(), link.fate == Fate::Open), (1, false));
    let status = if plan.declines { 200 } else { 101 };
    let logs = outcome.calls.iter().filter(|call| call.contains(" log "));
    let logs: Vec<_> = logs.map(|call| call.rsplit(' ').next().unwrap_or_default()).collect();
    assert_eq!(logs, vec![status.to_string(); plan.plugins], "each is told of the end once");
    let up = behind(&String::from_utf8_lossy(&link.received), "\r\n\r\n");
    if plan.declines {
        assert_eq!((up.as_deref(), outcome.used), (Some(""), ASKS.len()), "no tunnel");
        return;
    }
    let (up, down) = (up.expect("a request"), behind(&outcome.text, SWITCHED));
    let broken = outcome.ending == Ending::Abort;
    // A 101 that the client did not take any more is a tunnel without bytes.
    let down = down.unwrap_or_else(|| if broken { String::new() } else { panic!("no 101") });
    assert!(plan.says.starts_with(&up), "other bytes went up");
    assert!(plan.answers.starts_with(&down), "other bytes came down");
    let (fails, stalls) = (plan.reaches(outcome, true), plan.reaches(outcome, false));
    if !broken {
        assert_eq!(outcome.ending, Ending::Close);
        assert_eq!((up.len(), down.len()), (plan.says.len(), plan.answers.len()), "all of it");
    }
    if !stalls {
        assert_eq!(broken, fails, "a failure looks like an end, or the other way round");
    }
    if fails || stalls {
        return;
    }
    let closes = plan.then == Then::Closes;
    assert_eq!((link.told, outcome.client_told), (plan.client_closes, closes));
    // Time passes only when nothing else can happen.
    let both = plan.client_closes && closes;
    assert_eq!(outcome.ms, if both { 0 } else { 3_000 });
}

impl Plan {
    /// Whether a side comes to fail (or to stall) if nothing else ends the tunnel before.
    fn reaches(&self, outcome: &Outcome, failing: bool) -> bool {
        let of = |stops: Stops, bytes: usize| match stops {
            Stops::Fails(after) if failing => bytes > after,
            Stops::Stalls(after) if !failing => bytes > after,
            _ => false,
        };
        let received = String::from_utf8_lossy(&outcome.links[0].received);
        let up = received.find("\r\n\r\n").map_or(0, |end| end + 4) + self.says.len();
        let hints = if self.hints { HINTED.len() } else { 0 };
        let down = hints + SWITCHED.len() + self.answers.len();
        let breaks = failing && self.then == Then::Breaks;
        breaks || of(self.peer, up) || of(self.client, down)
    }
}

/// What follows this, where it is first.
fn behind(text: &str, what: &str) -> Option<String> {
    text.split_once(what).map(|(_, behind)| behind.to_owned())
}
