//! Weighted round robin as APISIX's balancer does it (reference §5.1): interleaved, not smooth.

use super::Peer;

/// One worker's place in the rounds of one upstream.
///
/// A level starts at the highest weight. Nodes are walked in order and those of at least that
/// weight are chosen; after each pass the level sinks by the common divisor of all weights. Weights
/// 3 and 1 give A A A B.
#[derive(Clone, Debug, Default)]
pub struct RoundRobin {
    level: u32,
    /// The node chosen last; `None` before the first pick.
    last: Option<usize>,
}

impl RoundRobin {
    /// A place at a random node, so that workers do not all begin with the same one.
    #[must_use]
    pub fn starting_at(node: usize) -> Self {
        Self { level: 0, last: Some(node) }
    }

    /// The next peer that is not in `tried`, of the highest priority that has one left.
    pub fn pick(&mut self, peers: &[Peer], tried: &[usize]) -> Option<usize> {
        if let [only] = peers {
            // A single node is used directly, its weight ignored, and tried again on itself.
            return only.address.map(|_| 0);
        }
        let open = |at: usize| peers[at].address.is_some() && !tried.contains(&at);
        let priority =
            (0..peers.len()).filter(|at| open(*at)).map(|at| peers[at].priority).max()?;
        let usable = |at: usize| open(at) && peers[at].priority == priority;
        self.walk(peers, &usable)
    }

    fn walk(&mut self, peers: &[Peer], usable: &dyn Fn(usize) -> bool) -> Option<usize> {
        let weights = || (0..peers.len()).filter(|at| usable(*at)).map(|at| peers[at].weight);
        let highest = weights().max()?;
        if highest == 0 {
            return self.next_usable(peers.len(), usable);
        }
        let step = weights().fold(0, gcd);
        self.level = if self.level == 0 { highest } else { self.level.min(highest) };
        let mut at = self.last.unwrap_or(peers.len() - 1);
        loop {
            at += 1;
            if at >= peers.len() {
                at = 0;
                self.level = if self.level > step { self.level - step } else { highest };
            }
            if usable(at) && peers[at].weight >= self.level {
                self.last = Some(at);
                return Some(at);
            }
        }
    }

    /// All weights are 0: all are equal.
    fn next_usable(&mut self, count: usize, usable: &dyn Fn(usize) -> bool) -> Option<usize> {
        let start = self.last.map_or(0, |last| last + 1);
        let at = (start..start + count).map(|at| at % count).find(|at| usable(*at))?;
        self.last = Some(at);
        Some(at)
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(weights: &[u32]) -> Vec<Peer> {
        let address = Some(([127, 0, 0, 1], 80).into());
        weights.iter().map(|w| Peer { address, host: vec![], weight: *w, priority: 0 }).collect()
    }

    fn picks(weights: &[u32], count: usize) -> String {
        let (peers, mut robin) = (peers(weights), RoundRobin::default());
        let pick = |_| robin.pick(&peers, &[]).map_or('-', |at| (b'A' + at as u8) as char);
        (0..count).map(pick).collect()
    }

    #[test]
    fn rounds() {
        let table: [(&[u32], &str); 7] = [
            (&[1, 1], "ABABAB"),
            (&[3, 1], "AAABAAAB"),
            (&[4, 2, 2], "AABCAABC"),
            (&[1, 0, 1], "ACAC"),
            (&[0, 0], "ABAB"),
            (&[0], "AA"),
            (&[], "-"),
        ];
        for (weights, expected) in table {
            // The first pass begins behind the last node, one level down from the top.
            let picked = picks(weights, expected.len() * 3);
            for letter in ['A', 'B', 'C'] {
                let count = |text: &str| text.matches(letter).count();
                assert_eq!(count(&picked), count(expected) * 3, "{weights:?} {picked}");
            }
        }
        assert_eq!(picks(&[1, 1], 4), "ABAB");
    }

    #[test]
    fn heavy_nodes_come_in_runs() {
        let picked = picks(&[3, 1], 12);
        assert!(picked.contains("AAAB"), "interleaved, not smooth: {picked}");
    }

    #[test]
    fn tried_and_unresolved_nodes_are_left_out() {
        let mut peers = peers(&[1, 1, 1]);
        let mut robin = RoundRobin::default();
        peers[1].address = None;
        assert_eq!(robin.pick(&peers, &[0]), Some(2));
        assert_eq!(robin.pick(&peers, &[0, 2]), None);
        let single = vec![peers[0].clone()];
        assert_eq!(robin.pick(&single, &[0]), Some(0), "a single node is tried on itself");
    }

    #[test]
    fn priorities_go_down_when_a_level_is_used_up() {
        let mut peers = peers(&[1, 1, 1]);
        peers[0].priority = -1;
        peers[2].priority = 5;
        let mut robin = RoundRobin::default();
        assert_eq!(robin.pick(&peers, &[]), Some(2));
        assert_eq!(robin.pick(&peers, &[2]), Some(1));
        assert_eq!(robin.pick(&peers, &[2, 1]), Some(0));
    }
}
