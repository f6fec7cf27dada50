//! Consistent hashing with the ring of nginx's `hash … consistent` (ketama), which APISIX's `chash`
//! has too (reference §5.1): most keys stay where they are when a node comes or goes.

use super::Peer;
use super::weights::common_divisor;

/// Points of a node of weight 1.
pub(super) const POINTS: usize = 160;

/// A point of the ring and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Point {
    hash: u32,
    peer: u32,
}

/// All points of some peers, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Ring {
    points: Box<[Point]>,
}

impl Ring {
    /// The ring of those peers. Weights count in relation to each other; 0 gives no point, unless
    /// all are 0.
    pub(super) fn of(peers: &[Peer], members: &[u32]) -> Self {
        let weight = |peer: &u32| peers[*peer as usize].weight;
        let divisor = members.iter().map(weight).fold(0, common_divisor);
        let mut points = Vec::new();
        for member in members {
            let shares = weight(member).checked_div(divisor).unwrap_or(1);
            add_points(&mut points, &peers[*member as usize], *member, shares as usize * POINTS);
        }
        points.sort_unstable();
        // Of points at the same place nginx keeps one.
        points.dedup_by_key(|point| point.hash);
        Self { points: points.into() }
    }

    /// The first acceptable peer from the place of a hash on.
    pub(super) fn find(&self, hash: u32, accept: impl Fn(usize) -> bool) -> Option<usize> {
        let from = self.points.partition_point(|point| point.hash < hash);
        let (before, after) = self.points.split_at(from);
        let peers = after.iter().chain(before).map(|point| point.peer as usize);
        peers.into_iter().find(|peer| accept(*peer))
    }
}

/// The points of one node: each hash goes on from the node's name with the hash before it.
fn add_points(points: &mut Vec<Point>, peer: &Peer, number: u32, count: usize) {
    let mut base = Crc32::new();
    let (host, port) = (&peer.node.host, peer.node.port);
    base.add(host.strip_prefix("unix:").unwrap_or(host).as_bytes());
    base.add(&[0]);
    if port != 0 {
        base.add(itoa::Buffer::new().format(port).as_bytes());
    }
    let mut previous = 0_u32;
    for _ in 0..count {
        let mut hash = base;
        hash.add(&previous.to_le_bytes());
        previous = hash.finish();
        points.push(Point { hash: previous, peer: number });
    }
}

/// Where a key is on the ring.
#[must_use]
pub fn hash_of(key: &[u8]) -> u32 {
    let mut crc = Crc32::new();
    crc.add(key);
    crc.finish()
}

/// CRC-32 as in zlib and nginx, half done.
#[derive(Clone, Copy, Debug)]
struct Crc32(u32);

impl Crc32 {
    const fn new() -> Self {
        Self(!0)
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let at = (self.0 ^ u32::from(*byte)) & 0xff;
            self.0 = TABLE[at as usize] ^ (self.0 >> 8);
        }
    }

    fn finish(self) -> u32 {
        !self.0
    }
}

const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let mut value = at as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { 0xedb8_8320 ^ (value >> 1) } else { value >> 1 };
            bit += 1;
        }
        table[at] = value;
        at += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::testing::peers;

    fn ring(weights: &[u32]) -> (Ring, Vec<Peer>) {
        let peers = peers(weights);
        let members: Vec<u32> = (0..weights.len() as u32).collect();
        (Ring::of(&peers, &members), peers)
    }

    fn found(ring: &Ring, key: usize) -> usize {
        ring.find(hash_of(key.to_string().as_bytes()), |_| true).expect("a peer")
    }

    #[test]
    fn crc_is_the_usual_one() {
        assert_eq!(hash_of(b"123456789"), 0xcbf4_3926);
        assert_eq!(hash_of(b""), 0);
    }

    /// The chain of hashes, computed the slow way: from the whole text each time.
    #[test]
    fn points_are_those_of_nginx() {
        let (ring, peers) = ring(&[1, 2]);
        let mut wanted = Vec::new();
        for (number, peer) in peers.iter().enumerate() {
            let mut previous = [0; 4];
            for _ in 0..160 * peer.weight {
                let text = [peer.node.host.as_bytes(), b"\0", b"80", &previous].concat();
                previous = hash_of(&text).to_le_bytes();
                wanted.push(Point { hash: u32::from_le_bytes(previous), peer: number as u32 });
            }
        }
        wanted.sort_unstable();
        wanted.dedup_by_key(|point| point.hash);
        assert_eq!(*ring.points, wanted[..]);
    }

    #[test]
    fn keys_spread_by_weight() {
        let (ring, _) = ring(&[10, 20, 30]);
        let mut counts = [0_usize; 3];
        (0..60_000).for_each(|key| counts[found(&ring, key)] += 1);
        for (count, wanted) in counts.into_iter().zip([10_000, 20_000, 30_000]) {
            assert!(count.abs_diff(wanted) < wanted / 5, "{counts:?}");
        }
    }

    /// The point of it all: of the keys of other nodes none moves when a node is left out.
    #[test]
    fn keys_stay_when_a_node_goes() {
        let (ring, _) = ring(&[1, 1, 1, 1]);
        let mut moved = 0;
        for key in 0..10_000 {
            let hash = hash_of(key.to_string().as_bytes());
            let (before, after) = (found(&ring, key), ring.find(hash, |peer| peer != 2));
            if before == 2 {
                moved += 1;
                assert!(after.is_some_and(|peer| peer != 2));
            } else {
                assert_eq!(after, Some(before));
            }
        }
        assert!((1_500..3_500).contains(&moved), "a fourth, about: {moved}");
    }

    #[test]
    fn weights_of_zero() {
        let (ring, _) = ring(&[0, 3]);
        assert!((0..100).all(|key| found(&ring, key) == 1));
        let (ring, _) = self::ring(&[0, 0]);
        assert_eq!((0..100).map(|key| found(&ring, key)).max(), Some(1), "all are equal then");
        assert_eq!(ring.find(7, |_| false), None);
        assert_eq!(Ring::default().find(7, |_| true), None);
    }
}
