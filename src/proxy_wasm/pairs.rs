//! The ABI's encoding of maps.
//!
//! ```text
//! count │ key len, value len │ ... │ key \0 value \0 │ key \0 value \0 │ ...      all u32 LE
//! ```

use crate::limits;

/// Maps above these are not believed (proxy-wasm-cpp-host's limits).
const BYTES_MAX: usize = limits::SECTION_BYTES_MAX;
const PAIRS_MAX: usize = limits::SECTION_FIELDS_MAX;

/// A checked map in guest memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pairs<'a> {
    lengths: &'a [u8],
    data: &'a [u8],
}

impl<'a> Pairs<'a> {
    const EMPTY: Self = Self { lengths: &[], data: &[] };

    /// The map, or an empty one with a warning if it is malformed: that is what plugins were tested
    /// against, and an error status would make SDKs panic.
    pub(super) fn lenient(bytes: &'a [u8], plugin: &str) -> Self {
        Self::parse(bytes).unwrap_or_else(|| {
            let len = bytes.len();
            log::warn!(target: "wasm", "[{plugin}] a bad map of {len} bytes is taken as empty");
            Self::EMPTY
        })
    }

    /// The map, if it is one. No bytes, and a single 0, are the empty map.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        if bytes.is_empty() || bytes == [0] {
            return Some(Self::EMPTY);
        }
        if bytes.len() > BYTES_MAX {
            return None;
        }
        let (count, rest) = bytes.split_first_chunk::<4>()?;
        let count = u32::from_le_bytes(*count) as usize;
        if count > PAIRS_MAX || rest.len() < count * 8 {
            return None;
        }
        let (lengths, data) = rest.split_at(count * 8);
        let pairs = Self { lengths, data };
        pairs.is_consistent().then_some(pairs)
    }

    /// All pairs in order.
    pub(super) fn iter(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone {
        let mut at = 0;
        self.lengths
            .chunks_exact(4)
            .step_by(2)
            .zip(self.lengths.chunks_exact(4).skip(1).step_by(2))
            .map(move |(key_len, value_len)| {
                let key = &self.data[at..at + read(key_len)];
                at += key.len() + 1;
                let value = &self.data[at..at + read(value_len)];
                at += value.len() + 1;
                (key, value)
            })
    }

    /// Every key and value ends inside, with its NUL, and nothing is left over.
    fn is_consistent(&self) -> bool {
        let mut at = 0_usize;
        for len in self.lengths.chunks_exact(4) {
            at = at.saturating_add(read(len));
            if self.data.get(at) != Some(&0) {
                return false;
            }
            at += 1;
        }
        at == self.data.len()
    }
}

fn read(len: &[u8]) -> usize {
    u32::from_le_bytes([len[0], len[1], len[2], len[3]]) as usize
}

/// Appends the encoded map to `out`, keys in lower case. An empty map is no bytes at all.
pub(super) fn encode<'a, I>(pairs: impl Fn() -> I, out: &mut Vec<u8>)
where
    I: Iterator<Item = (&'a [u8], &'a [u8])>,
{
    encode_with(<[u8]>::make_ascii_lowercase, pairs, out);
}

/// The same, keys as they are.
pub(super) fn encode_exact<'a, I>(pairs: impl Fn() -> I, out: &mut Vec<u8>)
where
    I: Iterator<Item = (&'a [u8], &'a [u8])>,
{
    encode_with(|_| {}, pairs, out);
}

#[inline]
fn encode_with<'a, I>(finish_key: impl Fn(&mut [u8]), pairs: impl Fn() -> I, out: &mut Vec<u8>)
where
    I: Iterator<Item = (&'a [u8], &'a [u8])>,
{
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    let mut count = 0_u32;
    for (key, value) in pairs() {
        out.extend_from_slice(&(key.len() as u32).to_le_bytes());
        out.extend_from_slice(&(value.len() as u32).to_le_bytes());
        count += 1;
    }
    if count == 0 {
        return out.truncate(start);
    }
    out[start..start + 4].copy_from_slice(&count.to_le_bytes());
    for (key, value) in pairs() {
        let at = out.len();
        out.extend_from_slice(key);
        finish_key(&mut out[at..]);
        out.push(0);
        out.extend_from_slice(value);
        out.push(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Owned = Vec<(Vec<u8>, Vec<u8>)>;

    fn decode(bytes: &[u8]) -> Option<Owned> {
        let own = |(k, v): (&[u8], &[u8])| (k.to_vec(), v.to_vec());
        Pairs::parse(bytes).map(|pairs| pairs.iter().map(own).collect())
    }

    #[test]
    fn round_trip_in_lower_case() {
        let fields: [(&[u8], &[u8]); 3] = [(b"Host", b"a"), (b"x", b""), (b"X", b"\0b")];
        let mut bytes = vec![9];
        encode(|| fields.into_iter(), &mut bytes);
        let expected = [(&b"host"[..], &b"a"[..]), (b"x", b""), (b"x", b"\0b")];
        let expected: Owned = expected.map(|(k, v)| (k.to_vec(), v.to_vec())).into();
        assert_eq!(decode(&bytes[1..]), Some(expected));
    }

    #[test]
    fn the_empty_map_has_four_spellings() {
        let mut bytes = Vec::new();
        encode(std::iter::empty, &mut bytes);
        assert!(bytes.is_empty());
        for empty in [&b""[..], &[0], &[0, 0, 0, 0]] {
            assert_eq!(decode(empty), Some(Vec::new()), "{empty:?}");
        }
    }

    #[test]
    fn malformed_maps_are_none() {
        let mut good = Vec::new();
        encode(|| [(&b"key"[..], &b"value"[..])].into_iter(), &mut good);
        assert!(decode(&good).is_some());
        for cut in 1..good.len() {
            assert_eq!(decode(&good[..cut]), None, "cut at {cut}");
        }
        let mut bad = good.clone();
        bad.push(0);
        assert_eq!(decode(&bad), None, "something left over");
        let mut bad = good.clone();
        bad[4] = 2;
        assert_eq!(decode(&bad), None, "NUL is elsewhere");
        let mut bad = good.clone();
        bad[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(decode(&bad), None, "length leaves the map");
        assert_eq!(decode(&u32::MAX.to_le_bytes()), None, "count too high");
        assert_eq!(decode(&vec![0; BYTES_MAX + 1]), None, "too large");
        for (count, good) in [(PAIRS_MAX, true), (PAIRS_MAX + 1, false)] {
            let mut many = Vec::new();
            encode(|| std::iter::repeat_n((&b"k"[..], &b""[..]), count), &mut many);
            assert_eq!(decode(&many).is_some(), good, "{count} pairs");
        }
    }

    #[test]
    fn random_bytes_never_panic() {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..100_000 {
            let len = random.usize(0..40);
            let mut bytes: Vec<u8> = (0..len).map(|_| random.u8(0..4)).collect();
            if let Some(first) = bytes.first_mut() {
                *first = random.u8(0..3);
            }
            if let Some(pairs) = Pairs::parse(&bytes) {
                assert_eq!(pairs.iter().count(), pairs.lengths.len() / 8);
            }
        }
    }
}
