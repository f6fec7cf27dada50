//! Weighted round robin as APISIX's balancer does it (reference §5.1): interleaved, not smooth.

use super::weights::common_divisor;

/// One worker's place in the rounds of some peers.
///
/// A level starts at the highest weight. Nodes are walked in order and those of at least that
/// weight are chosen; after each pass the level sinks by the common divisor of all weights. Weights
/// 3 and 1 give A A A B. Nodes of weight 0 are not chosen, unless all have it: then all are equal.
#[derive(Clone, Debug, Default)]
pub(super) struct RoundRobin {
    shares: Vec<Share>,
    highest: u32,
    step: u32,
    level: u32,
    /// The place in `shares` after the one chosen last.
    next: usize,
}

#[derive(Clone, Copy, Debug)]
struct Share {
    peer: u32,
    weight: u32,
}

impl RoundRobin {
    /// A place at a random node, so that workers do not all begin with the same one.
    pub(super) fn starting_at(next: usize) -> Self {
        Self { next, ..Self::default() }
    }

    /// Goes on with these peers and weights, about where it was.
    pub(super) fn set(&mut self, members: impl Iterator<Item = (u32, u32)>) {
        self.shares.clear();
        self.shares.extend(members.map(|(peer, weight)| Share { peer, weight }));
        if self.shares.iter().all(|share| share.weight == 0) {
            self.shares.iter_mut().for_each(|share| share.weight = 1);
        }
        self.shares.retain(|share| share.weight > 0);
        let weights = || self.shares.iter().map(|share| share.weight);
        self.highest = weights().max().unwrap_or(0);
        self.step = weights().fold(0, common_divisor);
        self.level = if self.level == 0 { self.highest } else { self.level.min(self.highest) };
        self.next = self.next.checked_rem(self.shares.len()).unwrap_or(0);
    }

    /// The next peer that is not in `tried`.
    pub(super) fn pick(&mut self, tried: &[usize]) -> Option<usize> {
        if !tried.is_empty() {
            // Levels at which nobody is left are passed at once.
            let left = self.shares.iter().filter(|share| !tried.contains(&(share.peer as usize)));
            self.level = self.level.min(left.map(|share| share.weight).max()?);
        }
        self.highest.checked_sub(1)?;
        loop {
            if self.next >= self.shares.len() {
                self.next = 0;
                self.level =
                    if self.level > self.step { self.level - self.step } else { self.highest };
            }
            let Share { peer, weight } = self.shares[self.next];
            self.next += 1;
            if weight >= self.level && !tried.contains(&(peer as usize)) {
                return Some(peer as usize);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(weights: &[u32]) -> impl Iterator<Item = (u32, u32)> {
        (0..).zip(weights.iter().copied())
    }

    fn robin(weights: &[u32]) -> RoundRobin {
        let mut robin = RoundRobin::default();
        robin.set(members(weights));
        robin
    }

    fn picks(robin: &mut RoundRobin, count: usize) -> String {
        let letter = |at| (b'A' + at as u8) as char;
        (0..count).map(|_| robin.pick(&[]).map_or('-', letter)).collect()
    }

    #[test]
    fn rounds() {
        let table: [(&[u32], &str); 8] = [
            (&[1, 1], "ABABAB"),
            (&[3, 1], "AAABAAAB"),
            (&[1, 3], "BBABBBAB"),
            (&[4, 2, 2], "AABCAABC"),
            (&[1, 0, 1], "ACAC"),
            (&[0, 0], "ABAB"),
            (&[0], "AA"),
            (&[], "-"),
        ];
        for (weights, expected) in table {
            assert_eq!(picks(&mut robin(weights), expected.len()), expected, "{weights:?}");
        }
    }

    /// The published algorithm, word by word: LVS's "weighted round-robin scheduling".
    #[test]
    fn the_order_is_that_of_the_published_algorithm() {
        let mut random = fastrand::Rng::with_seed(5);
        for _ in 0..200 {
            let weights: Vec<u32> = (0..random.usize(1..8)).map(|_| random.u32(0..9)).collect();
            let max = weights.iter().copied().max().unwrap_or(0);
            if max == 0 {
                continue;
            }
            let divisor = weights.iter().copied().fold(0, common_divisor) as i64;
            let (mut at, mut level) = (usize::MAX, i64::from(max));
            let mut robin = robin(&weights);
            for _ in 0..100 {
                let wanted = loop {
                    at = at.wrapping_add(1);
                    if at == weights.len() {
                        at = 0;
                        level -= divisor;
                        level = if level <= 0 { i64::from(max) } else { level };
                    }
                    if i64::from(weights[at]) >= level && weights[at] > 0 {
                        break at;
                    }
                };
                assert_eq!(robin.pick(&[]), Some(wanted), "{weights:?}");
            }
        }
    }

    #[test]
    fn shares_are_exact_over_whole_rounds_wherever_it_begins() {
        for start in 0..3 {
            let mut robin = RoundRobin::starting_at(start);
            robin.set(members(&[5, 3, 2]));
            picks(&mut robin, 100);
            let round = picks(&mut robin, 1000);
            let counts = ['A', 'B', 'C'].map(|letter| round.matches(letter).count());
            assert_eq!(counts, [500, 300, 200]);
        }
    }

    #[test]
    fn tried_nodes_are_left_out() {
        let mut robin = robin(&[1, 1, 1]);
        assert_eq!(robin.pick(&[0, 1]), Some(2));
        assert_eq!(robin.pick(&[0, 1, 2]), None);
        assert_eq!(
            self::robin(&[1_000_000_000, 1]).pick(&[0]),
            Some(1),
            "without a billion passes"
        );
        assert_eq!(self::robin(&[1, 0]).pick(&[0]), None, "a weight of 0 is no reserve");
    }

    #[test]
    fn nodes_may_come_and_go() {
        let mut robin = robin(&[2, 2, 1]);
        picks(&mut robin, 2);
        robin.set([(0, 2), (2, 1)].into_iter());
        let six = picks(&mut robin, 6);
        assert_eq!((six.matches('A').count(), six.matches('C').count()), (4, 2), "{six}");
        robin.set([].into_iter());
        assert_eq!(robin.pick(&[]), None);
        robin.set(members(&[2, 2, 1]));
        assert!(robin.pick(&[]).is_some());
    }
}
