//! Random exchanges from seeds, against a small model of what may come of them.
//!
//! `RINGGATE_SIM_SEED=n` replays one seed and prints what happened; `RINGGATE_SIM_SEEDS=n` plays
//! that many instead of [`SEEDS`].

use super::case::responses;
use super::naive::{self, Parsed};
use super::plan::{Plan, plan};
use super::script::Fate;
use super::world::World;
use crate::exchange::Ending;
use crate::plugin::ResponseSource;
use fastrand::Rng;

const SEEDS: u64 = 12_000;

#[test]
fn random_exchanges() {
    let of_env = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = of_env("RINGGATE_SIM_SEED") {
        return play(seed, true);
    }
    for seed in 0..of_env("RINGGATE_SIM_SEEDS").unwrap_or(SEEDS) {
        let played = std::panic::catch_unwind(|| play(seed, false));
        assert!(played.is_ok(), "replay with RINGGATE_SIM_SEED={seed}");
    }
}

fn play(seed: u64, traced: bool) {
    let mut random = Rng::with_seed(seed);
    let (client, plan, setup, peers) = plan(&mut random);
    if traced {
        println!("{}", String::from_utf8_lossy(&client.bytes));
        setup.plugins.iter().for_each(|plugin| println!("{plugin:?}"));
        peers.iter().for_each(|peer| println!("{peer:?}"));
    }
    let mut world = World::new(client, peers);
    world.locals.random.seed(seed);
    world.trace = traced.then(Vec::new);
    let pieces = random.bool();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        world.run(setup, &mut |n| choose(&mut random, n, pieces));
    }));
    if let Some(trace) = world.trace.take() {
        println!("{}", trace.join("\n"));
        println!("the client saw {:?}", String::from_utf8_lossy(&world.seen));
    }
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
    verify(&plan, &world);
}

/// Small numbers mostly small, large ones anywhere: bytes come in large and in tiny pieces.
fn choose(random: &mut Rng, n: usize, pieces: bool) -> usize {
    if pieces && n > 8 && random.u8(..8) > 0 { random.usize(..8) } else { random.usize(..n) }
}

/// What must hold, whatever happened.
fn verify(plan: &Plan, world: &World) {
    let ending = world.ending.expect("it ended");
    let logged = world.calls.lock().expect("no panic");
    let logs = logged.iter().filter(|call| call.contains(" log ")).count();
    assert_eq!(logs, plan.plugins, "each step is logged once");
    let (_, response) = responses(&world.seen, plan.to_head);
    match (ending, &response) {
        _ if plan.client_fails => {}
        (Ending::KeepAlive, Some(response)) => assert!(response.complete),
        (Ending::KeepAlive, None) => panic!("kept without a response"),
        (Ending::Close, Some(response)) => assert!(response.complete || response.until_close),
        (Ending::Close, None) => assert!(plan.meddles || plan.body.is_none()),
        (Ending::Abort, Some(response)) => assert!(!response.complete, "cut off, yet whole"),
        (Ending::Abort, None) => {}
    }
    if plan.must_succeed {
        let source = world.exchange.message().response.source;
        assert!(ending != Ending::Abort && source == ResponseSource::Upstream, "{source:?}");
        assert_eq!(world.links.len(), 1);
    }
    verify_requests(plan, world);
    if let Some(response) = &response
        && !plan.client_fails
    {
        verify_response(plan, world, response, ending);
    }
}

/// Every peer got the beginning of a well-formed request, and a whole one if its connection is
/// kept.
fn verify_requests(plan: &Plan, world: &World) {
    for link in &world.links {
        let request = naive::request(&link.received);
        let whole = request.as_ref().is_some_and(|request| request.complete);
        if link.fate == Fate::Released {
            assert!(whole, "kept before it had the whole request");
        }
        if let Some(request) = request
            && let Some(sent) = &plan.body
        {
            assert_eq!(request.len, link.received.len(), "bytes behind the request");
            let expected = edited(sent, plan.edits_request);
            assert!(expected.starts_with(&request.body), "another body went upstream");
            assert!(!request.complete || expected == request.body, "a cut body looks whole");
        } else {
            assert!(
                !whole || plan.body.is_some() || plan.garbled,
                "a cut-off request went upstream as whole"
            );
        }
    }
}

fn verify_response(plan: &Plan, world: &World, response: &Parsed, ending: Ending) {
    let message = world.exchange.message();
    assert_eq!(response.get("server"), Some("ringgate"));
    assert!(response.get("date").is_some());
    assert_eq!(response.status(), message.response.status);
    if message.response.source != ResponseSource::Upstream {
        assert!(ending != Ending::Abort || !response.complete);
        return;
    }
    // The connection that answered is the last one; scripts are used in order.
    let used = 8 - world.peers.len();
    let answer = &plan.answers[used - 1];
    let expected = edited(&answer.body, plan.edits_response);
    assert_eq!(response.status(), answer.status);
    assert!(expected.starts_with(&response.body), "another body came back");
    if ending != Ending::Abort {
        assert!(answer.sound, "a cut-off answer looks whole");
        assert!(plan.to_head || response.body == expected, "a part of the body is missing");
    }
}

fn edited(body: &[u8], edits: bool) -> Vec<u8> {
    if edits { body.to_ascii_uppercase() } else { body.to_vec() }
}
