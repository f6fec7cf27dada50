//! One worker's choices among the nodes of one upstream.
//!
//! ```text
//! Upstream ─ levels: nodes of one priority, highest first ─┐
//! Board ─ version: did health or an address change? ───────┴─► Balance ─ pick ─► Picked
//! ```

use super::in_flight::{InFlight, Requests};
use super::round_robin::RoundRobin;
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
    /// For [`Balancer::Ewma`]: nanoseconds since the epoch.
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
            in_flight: counts.then(|| in_flight.of(&peer.node)),
        };
        let level = |members: &Vec<u32>| {
            let start = random.usize(0..members.len().max(1));
            Level { robin: RoundRobin::starting_at(start), last: start, ..Level::default() }
        };
        Self {
            version: 0,
            peers: upstream.peers.iter().map(seen).collect(),
            levels: upstream.levels().iter().map(|level| &level.members).map(level).collect(),
        }
    }

    /// The next peer: of the highest priority that has one left that was not tried. A single peer
    /// is asked again and again, its weight and health ignored.
    pub fn pick(&mut self, upstream: &Upstream, ask: Ask<'_>) -> Option<Picked> {
        let version = upstream.board.version();
        if version != self.version {
            self.look(upstream);
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
            Balancer::LeastConn => self.least_busy(at, &upstream.peers, tried),
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
    fn look(&mut self, upstream: &Upstream) {
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
        for (level, all) in self.levels.iter_mut().zip(upstream.levels()) {
            let usable = |peer: &u32| self.peers[*peer as usize].usable;
            level.usable.clear();
            level.usable.extend(all.members.iter().copied().filter(usable));
            level.robin.set(&upstream.peers, level.usable.iter().map(|peer| *peer as usize));
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
    fn least_busy(&mut self, level: usize, peers: &[Peer], tried: &[usize]) -> Option<usize> {
        let Level { usable, last, .. } = &mut self.levels[level];
        let open = |at: &usize| !tried.contains(&(usable[*at] as usize));
        let requests = |at: usize| {
            let peer = usable[at] as usize;
            let in_flight = self.peers[peer].in_flight.as_ref().map_or(0, |all| all.get());
            (1 + u64::from(in_flight), u64::from(peers[peer].weight))
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
        Some(if score(first) <= score(second) { first } else { second })
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
