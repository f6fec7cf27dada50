//! One worker's choices among the nodes of one upstream.
//!
//! ```text
//! Upstream ─ levels: nodes of one priority, highest first ─┐
//! Board ─ version: did health or an address change? ───────┴─► Balance ─ pick ─► Picked
//! ```

use super::in_flight::{InFlight, Requests};
use super::round_robin::RoundRobin;
use super::warmth::{self, STAGES};
use super::{Address, Balancer, Node, Peer, Upstream};
use std::rc::Rc;
use std::sync::Arc;

/// What a choice may depend on.
#[derive(Debug)]
pub struct Ask<'a> {
    /// Peers that failed this request.
    pub tried: &'a [usize],
    /// For [`Balancer::Hash`]: [`hash_of`](super::hash_of) the request's key.
    pub hash: u32,
    /// For upstreams whose choices depend on it ([`Upstream::is_timed`]): nanoseconds since the
    /// epoch.
    pub now_ns: u64,
    /// The worker's.
    pub random: &'a mut fastrand::Rng,
}

/// What was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picked {
    /// Its place in [`Upstream::peers`].
    pub peer: usize,
    /// Where it listens.
    pub address: Address,
}

/// One worker's place in the rounds of one upstream, and its requests there.
///
/// What it knows of the nodes it looks up again only when [`Board`](super::Board)'s version has
/// changed.
#[derive(Debug, Default)]
pub struct Balance {
    version: u64,
    /// When a node that is warming up reaches its next stage, in nanoseconds since the epoch.
    stage_ns: u64,
    levels: Vec<Level>,
    peers: Vec<Seen>,
}

/// The peers of one priority.
#[derive(Debug, Default)]
struct Level {
    /// Those that may be asked.
    usable: Vec<u32>,
    robin: RoundRobin,
    /// For [`Balancer::LeastConn`]: after whom to look first among equals.
    last: usize,
}

/// A peer as this worker saw it last.
#[derive(Debug)]
struct Seen {
    node: Arc<Node>,
    addresses: Arc<[Address]>,
    /// Which of several addresses is next.
    turn: usize,
    usable: bool,
    /// How warm it is, of [`STAGES`], and its share of the requests by that.
    stage: u32,
    weight: u32,
    /// For [`Balancer::LeastConn`]: requests of this worker that it has now, also those of earlier
    /// snapshots.
    in_flight: Option<Rc<Requests>>,
}

impl Balance {
    /// The beginning. `in_flight` is what the worker has of all upstreams.
    #[must_use]
    pub fn new(upstream: &Upstream, in_flight: &InFlight, random: &mut fastrand::Rng) -> Self {
        let counts = upstream.balancer == Balancer::LeastConn;
        let seen = |peer: &Peer| Seen {
            node: Arc::clone(&peer.node),
            addresses: Arc::new([]),
            turn: 0,
            usable: false,
            stage: STAGES,
            weight: peer.weight,
            in_flight: counts.then(|| in_flight.of(&peer.node)),
        };
        let level = |members: &Vec<u32>| {
            let start = random.usize(0..members.len().max(1));
            Level { robin: RoundRobin::starting_at(start), last: start, ..Level::default() }
        };
        Self {
            version: 0,
            stage_ns: u64::MAX,
            peers: upstream.peers.iter().map(seen).collect(),
            levels: upstream.levels().iter().map(|level| &level.members).map(level).collect(),
        }
    }

    /// The next peer: of the highest priority that has one left that was not tried. A single peer
    /// is asked again and again, its weight and health ignored.
    pub fn pick(&mut self, upstream: &Upstream, ask: Ask<'_>) -> Option<Picked> {
        let version = upstream.board.version();
        if version != self.version || ask.now_ns >= self.stage_ns {
            self.look(upstream, ask.now_ns);
            self.version = version;
        }
        if self.peers.len() == 1 && upstream.balancer != Balancer::LeastConn {
            return self.picked(0);
        }
        let Ask { tried, hash, now_ns, random } = ask;
        let peer = (0..self.levels.len()).find_map(|at| match &upstream.balancer {
            Balancer::RoundRobin => self.levels[at].robin.pick(tried),
            Balancer::Hash(_) => {
                let accept = |peer: usize| self.peers[peer].usable && !tried.contains(&peer);
                upstream.levels()[at].ring.find(hash, accept)
            }
            Balancer::LeastConn => self.least_busy(at, tried),
            Balancer::Ewma => self.faster_of_two(at, tried, now_ns, random),
        })?;
        self.picked(peer)
    }

    /// A peer has one more request.
    pub fn begin(&self, peer: usize) {
        self.peers[peer].in_flight.iter().for_each(|requests| requests.up());
    }

    /// And one less.
    pub fn end(&self, peer: usize) {
        self.peers[peer].in_flight.iter().for_each(|requests| requests.down());
    }

    /// Looks at all nodes anew. Without a healthy one all are used.
    fn look(&mut self, upstream: &Upstream, now_ns: u64) {
        upstream.board.serve();
        for seen in &mut self.peers {
            seen.addresses = seen.node.addresses();
            let healthy = upstream.checks.is_none() || seen.node.health().status.is_usable();
            seen.usable = healthy && !seen.addresses.is_empty();
        }
        if !self.peers.iter().any(|seen| seen.usable) {
            if upstream.checks.is_some() {
                log::warn!("no node of {} is healthy: all are used", upstream.name);
            }
            self.peers.iter_mut().for_each(|seen| seen.usable = !seen.addresses.is_empty());
        }
        self.weigh(upstream, now_ns);
        for (level, all) in self.levels.iter_mut().zip(upstream.levels()) {
            let usable = |peer: &u32| self.peers[*peer as usize].usable;
            level.usable.clear();
            level.usable.extend(all.members.iter().copied().filter(usable));
            let share = |peer: &u32| (*peer, self.peers[*peer as usize].weight);
            level.robin.set(level.usable.iter().map(share));
        }
    }

    /// The share of each node: its weight, or as much of it as it is warm. Then all weights are
    /// multiplied, so that a part of 1 is something, and as few as need be where they are too large
    /// for that.
    fn weigh(&mut self, upstream: &Upstream, now_ns: u64) {
        self.stage_ns = u64::MAX;
        for seen in self.peers.iter_mut().filter(|seen| seen.usable) {
            let (stage, next_ns) = seen.node.warmth.stage(upstream.slow_start_ns, now_ns);
            seen.stage = stage;
            self.stage_ns = self.stage_ns.min(next_ns);
        }
        let warming = self.stage_ns != u64::MAX;
        let highest = upstream.peers.iter().map(|peer| warmth::share(peer.weight, STAGES)).max();
        let divisor = highest.unwrap_or(0) / u64::from(u32::MAX) + 1;
        for (seen, peer) in self.peers.iter_mut().zip(&upstream.peers) {
            seen.weight = match warmth::share(peer.weight, seen.stage) {
                _ if !warming => peer.weight,
                0 => 0,
                share => u32::try_from(share / divisor).unwrap_or(u32::MAX).max(1),
            };
        }
    }

    /// One after the other of a peer's addresses.
    fn picked(&mut self, peer: usize) -> Option<Picked> {
        let seen = &mut self.peers[peer];
        let address = match &*seen.addresses {
            [only] => only,
            addresses => {
                seen.turn = (seen.turn + 1).checked_rem(addresses.len())?;
                &addresses[seen.turn]
            }
        };
        Some(Picked { peer, address: address.clone() })
    }

    /// The peer with the least (1 + requests in flight) / weight; among equals the next one after
    /// the last.
    fn least_busy(&mut self, level: usize, tried: &[usize]) -> Option<usize> {
        let Level { usable, last, .. } = &mut self.levels[level];
        let open = |at: &usize| !tried.contains(&(usable[*at] as usize));
        let requests = |at: usize| {
            let seen = &self.peers[usable[at] as usize];
            let in_flight = seen.in_flight.as_ref().map_or(0, |all| all.get());
            (1 + u64::from(in_flight), u64::from(seen.weight))
        };
        // Compared without division; a weight of 0 is as if it was infinitely busy.
        let busier = |a: usize, b: usize| {
            let ((a, a_weight), (b, b_weight)) = (requests(a), requests(b));
            a * b_weight > b * a_weight || a_weight == 0 && b_weight > 0
        };
        let around = (1..=usable.len()).map(|step| (*last + step) % usable.len());
        let least = around.filter(open).reduce(|a, b| if busier(a, b) { b } else { a })?;
        *last = least;
        Some(usable[least] as usize)
    }

    /// Two different peers at random, and of these the one with the lower average.
    fn faster_of_two(
        &self,
        level: usize,
        tried: &[usize],
        now_ns: u64,
        random: &mut fastrand::Rng,
    ) -> Option<usize> {
        let usable = &self.levels[level].usable;
        let open = || usable.iter().map(|peer| *peer as usize).filter(|peer| !tried.contains(peer));
        let count = if tried.is_empty() { usable.len() } else { open().count() };
        if count < 2 {
            return open().next();
        }
        let first = random.usize(0..count);
        let mut second = random.usize(0..count - 1);
        second += usize::from(second >= first);
        let nth =
            |at: usize| if tried.is_empty() { Some(usable[at] as usize) } else { open().nth(at) };
        let (first, second) = (nth(first)?, nth(second)?);
        let score = |peer: usize| self.peers[peer].node.latency.score(now_ns);
        let (faster, other) =
            if score(first) <= score(second) { (first, second) } else { (second, first) };
        // There are no weights: one that warms up gives as many requests away as it is cold.
        let stage = self.peers[faster].stage;
        let keeps = stage == STAGES || random.u32(0..STAGES) < stage;
        Some(if keeps { faster } else { other })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::testing::{peers, upstream};
    use crate::upstream::{Checks, HashKey, Report, Thresholds, hash_of, testing};

    const LIMITS: Thresholds =
        Thresholds { successes: 1, http_failures: 1, tcp_failures: 1, timeouts: 1 };

    struct Rig {
        upstream: Upstream,
        balance: Balance,
        in_flight: InFlight,
        random: fastrand::Rng,
        now_ns: u64,
    }

    impl Rig {
        fn new(balancer: Balancer, peers: Vec<Peer>) -> Self {
            let checks: Option<Checks> = Some(testing::checks());
            let upstream = Upstream { checks, ..upstream(peers, balancer) };
            let mut random = fastrand::Rng::with_seed(3);
            let in_flight = InFlight::default();
            let balance = Balance::new(&upstream, &in_flight, &mut random);
            Self { upstream, balance, in_flight, random, now_ns: 1_000_000_000_000 }
        }

        fn of(balancer: Balancer, weights: &[u32]) -> Self {
            Self::new(balancer, peers(weights))
        }

        fn ask(&mut self, key: &str, tried: &[usize]) -> Option<usize> {
            let (hash, now_ns, random) = (hash_of(key.as_bytes()), self.now_ns, &mut self.random);
            let ask = Ask { tried, hash, now_ns, random };
            self.balance.pick(&self.upstream, ask).map(|picked| picked.peer)
        }

        fn pick(&mut self, tried: &[usize]) -> Option<usize> {
            self.ask("", tried)
        }

        fn fail(&self, peer: usize) {
            self.upstream.peers[peer].node.report(Report::TcpFailure, &LIMITS);
        }

        fn heal(&self, peer: usize) {
            self.upstream.peers[peer].node.report(Report::Success, &LIMITS);
        }
    }

    fn all() -> [Balancer; 4] {
        let key = HashKey::Variable("arg_k".into());
        [Balancer::RoundRobin, Balancer::Hash(key), Balancer::LeastConn, Balancer::Ewma]
    }

    #[test]
    fn every_balancer_leaves_out_what_was_tried_and_what_is_unhealthy() {
        for balancer in all() {
            let mut rig = Rig::of(balancer.clone(), &[1, 1, 1, 1]);
            rig.fail(2);
            for key in 0..200 {
                let picked = rig.ask(&key.to_string(), &[0]);
                assert!(matches!(picked, Some(1 | 3)), "{balancer:?}: {picked:?}");
            }
            assert_eq!(rig.pick(&[0, 3]), Some(1), "{balancer:?}");
            assert_eq!(rig.pick(&[0, 1, 3]), None, "{balancer:?}: unhealthy ones are no reserve");
            rig.heal(2);
            assert_eq!(rig.pick(&[0, 1, 3]), Some(2), "{balancer:?}");
        }
    }

    #[test]
    fn all_are_used_when_none_is_healthy() {
        for balancer in all() {
            let mut rig = Rig::of(balancer.clone(), &[1, 1, 1]);
            (0..3).for_each(|peer| rig.fail(peer));
            let mut seen = [false; 3];
            (0..200).for_each(|key| {
                let peer = rig.ask(&key.to_string(), &[]).expect("all are used");
                seen[peer] = true;
            });
            assert_eq!(seen, [true; 3], "{balancer:?}");
        }
    }

    #[test]
    fn priorities_go_down_when_a_level_is_used_up() {
        for balancer in all() {
            let mut peers = peers(&[1, 1, 1, 1]);
            for (peer, priority) in peers.iter_mut().zip([-1, 0, 5, 0]) {
                peer.priority = priority;
            }
            let mut rig = Rig::new(balancer.clone(), peers);
            (0..20).for_each(|_| assert_eq!(rig.pick(&[]), Some(2), "{balancer:?}"));
            let second = rig.pick(&[2]).expect("one of the next level");
            let third = rig.pick(&[2, second]).expect("the other one");
            assert_eq!(second.min(third), 1, "{balancer:?}");
            assert_eq!(second.max(third), 3, "{balancer:?}");
            assert_eq!(rig.pick(&[2, 1, 3]), Some(0), "{balancer:?}");
            assert_eq!(rig.pick(&[0, 1, 2, 3]), None, "{balancer:?}");
            rig.fail(2);
            assert!(matches!(rig.pick(&[]), Some(1 | 3)), "{balancer:?}");
        }
    }

    #[test]
    fn a_single_node_is_asked_again() {
        for balancer in all() {
            let mut rig = Rig::of(balancer.clone(), &[0]);
            rig.fail(0);
            let again = (balancer != Balancer::LeastConn).then_some(0);
            assert_eq!((rig.pick(&[]), rig.pick(&[0])), (Some(0), again), "{balancer:?}");
        }
    }

    #[test]
    fn least_conn_has_the_least_score() {
        let mut rig = Rig::of(Balancer::LeastConn, &[3, 2, 1, 0]);
        let mut in_flight = [0_u32; 3];
        let weights = [3.0, 2.0, 1.0];
        for turn in 0..600 {
            let picked = rig.pick(&[]).expect("a peer");
            let score = |peer: usize| (1.0 + f64::from(in_flight[peer])) / weights[peer];
            assert!((0..3).all(|other| score(picked) <= score(other) + 1e-9), "{in_flight:?}");
            rig.balance.begin(picked);
            in_flight[picked] += 1;
            if turn % 3 == 2 {
                rig.balance.end(picked);
                in_flight[picked] -= 1;
            }
        }
        for (count, wanted) in in_flight.into_iter().zip([200, 133, 67]) {
            assert!(count.abs_diff(wanted) <= 1, "by weight: {in_flight:?}");
        }
        assert_eq!(Rig::of(Balancer::LeastConn, &[1, 5]).pick(&[]), Some(1), "heavier first");
        let mut idle = Rig::of(Balancer::LeastConn, &[1, 1, 1]);
        let mut seen: Vec<_> = (0..3).map(|_| idle.pick(&[])).collect();
        seen.sort_unstable();
        assert_eq!(seen, [Some(0), Some(1), Some(2)], "equals take turns");
    }

    #[test]
    fn requests_in_flight_outlive_a_snapshot() {
        let mut rig = Rig::of(Balancer::LeastConn, &[1, 1]);
        (0..5).for_each(|_| rig.balance.begin(0));
        let balance = Balance::new(&rig.upstream, &rig.in_flight, &mut rig.random);
        let before = std::mem::replace(&mut rig.balance, balance);
        (0..5).for_each(|_| {
            assert_eq!(rig.pick(&[]), Some(1));
            rig.balance.begin(1);
        });
        (0..5).for_each(|_| before.end(0));
        assert_eq!(rig.pick(&[]), Some(0), "those of the old snapshot have ended");
    }

    /// With two random choices the better of n nodes is chosen with 1 - (r/n)·((r-1)/(n-1)), where
    /// r is how many are not better.
    #[test]
    fn ewma_takes_the_faster_of_two() {
        let mut rig = Rig::of(Balancer::Ewma, &[1, 1, 1, 1]);
        for (peer, seconds) in [0.4, 0.1, 0.2, 0.3].into_iter().enumerate() {
            rig.upstream.peers[peer].node.latency.record(seconds, rig.now_ns);
        }
        let mut counts = [0_u32; 4];
        (0..12_000).for_each(|_| counts[rig.pick(&[]).expect("a peer")] += 1);
        // Ranks 1 to 4 of 4: 6, 4, 2 and 0 of 12.
        for (count, wanted) in counts.into_iter().zip([0, 6_000, 4_000, 2_000]) {
            assert!(count.abs_diff(wanted) < 250, "{counts:?}");
        }
        // The fast one becomes slow.
        rig.upstream.peers[1].node.latency.record(60.0, rig.now_ns + 5_000_000_000);
        rig.now_ns += 5_000_000_000;
        assert!((0..100).all(|_| rig.pick(&[]) != Some(1)));
    }

    const S: u64 = 1_000_000_000;

    /// With ten seconds to warm up.
    fn slow(balancer: Balancer, weights: &[u32]) -> Rig {
        let mut rig = Rig::of(balancer, weights);
        rig.upstream.slow_start_ns = 10 * S;
        rig
    }

    /// How many of `count` requests, one after the other or all at the same time, each peer gets.
    fn counts(rig: &mut Rig, count: usize) -> Vec<usize> {
        let mut counts = vec![0; rig.upstream.peers.len()];
        for _ in 0..count {
            let peer = rig.pick(&[]).expect("a peer");
            rig.balance.begin(peer);
            counts[peer] += 1;
        }
        for (peer, count) in counts.iter().enumerate() {
            (0..*count).for_each(|_| rig.balance.end(peer));
        }
        counts
    }

    /// By weight the share is w·s / (w·s + 20·v) where s of 20 stages are reached and the others
    /// weigh v; of two equals `ewma` gives each a half, and what is cold of one half to the other.
    #[test]
    fn shares_grow_with_the_time() {
        for balancer in [Balancer::RoundRobin, Balancer::LeastConn, Balancer::Ewma] {
            let mut rig = slow(balancer.clone(), &[2, 1]);
            let begin = rig.now_ns;
            counts(&mut rig, 60);
            rig.fail(0);
            assert_eq!(counts(&mut rig, 60), [0, 60], "{balancer:?}");
            rig.heal(0);
            for (ms, stage) in
                [(0, 1), (490, 1), (600, 2), (2_600, 6), (5_100, 11), (9_600, 20), (10_000, 20)]
            {
                rig.now_ns = begin + ms * 1_000_000;
                // Whole rounds of that stage.
                let whole = 1_200 * (2 * stage + 20);
                let seen = counts(&mut rig, whole)[0];
                let ewma = balancer == Balancer::Ewma;
                let wanted = if ewma { whole * stage / 40 } else { 2_400 * stage };
                let allowed = if ewma { whole / 100 } else { 60 };
                assert!(seen.abs_diff(wanted) <= allowed, "{balancer:?} {ms}: {seen} {wanted}");
            }
            rig.now_ns = begin + 60 * S;
            let seen = counts(&mut rig, 6_000)[0];
            let wanted = if balancer == Balancer::Ewma { 3_000 } else { 4_000 };
            assert!(seen.abs_diff(wanted) < 200, "{balancer:?}: {seen}");
        }
    }

    #[test]
    fn nodes_that_come_with_a_reload_start_slowly_and_first_ones_do_not() {
        for balancer in [Balancer::RoundRobin, Balancer::LeastConn, Balancer::Ewma] {
            let mut rig = slow(balancer.clone(), &[1, 1]);
            let first = counts(&mut rig, 2_000)[0];
            assert!(first.abs_diff(1_000) < 150, "{balancer:?}: {first}");
            let board = Arc::clone(&rig.upstream.board);
            let node = board.node("10.0.0.9", 80);
            node.set_addresses(&[Address::from(([10, 0, 0, 9], 80))]);
            let mut peers = rig.upstream.peers.clone();
            peers.push(Peer { node, ..peers[0].clone() });
            let slow_start_ns = rig.upstream.slow_start_ns;
            rig.upstream =
                Upstream { slow_start_ns, ..Upstream::new(board, peers, balancer.clone()) };
            for (after, most) in [(0, 300), (10 * S, 8_000)] {
                rig.now_ns += after;
                // Another worker, or the same one after another reload, knows what has passed.
                rig.balance = Balance::new(&rig.upstream, &rig.in_flight, &mut rig.random);
                let third = counts(&mut rig, 4_100)[2];
                let range = if after == 0 { 50..=most } else { 1_200..=most };
                assert!(range.contains(&third), "{balancer:?} {after}: {third}");
            }
        }
    }

    #[test]
    fn weights_too_large_to_be_multiplied_are_divided() {
        let mut rig = slow(Balancer::LeastConn, &[u32::MAX, u32::MAX / 2, 1, 0]);
        counts(&mut rig, 3);
        rig.fail(0);
        counts(&mut rig, 3);
        rig.heal(0);
        counts(&mut rig, 1);
        rig.now_ns += 5 * S - S / 10;
        let seen = counts(&mut rig, 1_000);
        // Half warm it weighs as much as the second one; the third weighs next to nothing, and more
        // than the last.
        assert!(seen[0].abs_diff(500) < 20, "{seen:?}");
        assert_eq!((seen[2], seen[3]), (0, 0));
    }

    #[test]
    fn several_addresses_take_turns() {
        let mut rig = Rig::of(Balancer::RoundRobin, &[1]);
        let of = |last: u8| Address::from(([10, 1, 0, last], 80));
        rig.upstream.peers[0].node.set_addresses(&[of(1), of(2)]);
        let mut next = || {
            let ask = Ask { tried: &[], hash: 0, now_ns: 0, random: &mut rig.random };
            rig.balance.pick(&rig.upstream, ask).expect("an address").address
        };
        let (first, second) = (next(), next());
        assert_ne!(first, second);
        assert_eq!(next(), first);
        rig.upstream.peers[0].node.set_addresses(&[]);
        assert_eq!(rig.pick(&[]), None);
    }
}
