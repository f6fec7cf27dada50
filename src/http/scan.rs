//! Finding the byte that ends a part of a head, sixteen bytes at a time where the CPU can.
//!
//! ```text
//! Host: shop.example\r\n        each look gives one bit for each of sixteen bytes;
//! ....^.............^           the lowest bit that is set is the answer
//! ```

/// Which bytes end a part.
pub(super) trait Stop {
    /// Whether this one does.
    fn is(byte: u8) -> bool;

    /// The same for sixteen of them, a bit each.
    #[cfg(target_arch = "x86_64")]
    fn among(bytes: Sixteen) -> u32;
}

/// What ends a value or a reason: a control (a tab, too, though values may have some), or DEL.
pub(super) struct Control;

/// What ends a name: a colon, or a control.
pub(super) struct Colon;

/// What ends a method: a space, or a control.
pub(super) struct Space;

/// What ends a target: anything but printable ASCII, and `#`.
pub(super) struct Unprintable;

/// What ends its path: the same, or the query.
pub(super) struct Question;

/// Where the first byte is that stops.
#[inline(always)]
pub(super) fn find<S: Stop>(bytes: &[u8]) -> Option<usize> {
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(first) = bytes.first_chunk() {
            let marks = S::among(Sixteen::of(first));
            if marks != 0 {
                return Some(marks.trailing_zeros() as usize);
            }
            return find_further::<S>(bytes);
        }
    }
    bytes.iter().position(|byte| S::is(*byte))
}

/// The same, when it is none of the first sixteen.
#[cfg(target_arch = "x86_64")]
#[inline(never)]
fn find_further<S: Stop>(bytes: &[u8]) -> Option<usize> {
    let mut at = 16;
    while let Some(chunk) = bytes.get(at..)?.first_chunk() {
        let marks = S::among(Sixteen::of(chunk));
        if marks != 0 {
            return Some(at + marks.trailing_zeros() as usize);
        }
        at += 16;
    }
    // The last sixteen, without those that were looked at.
    let left = bytes.len() - at;
    let marks = S::among(Sixteen::of(bytes.last_chunk()?)) >> (16 - left);
    (marks != 0).then(|| at + marks.trailing_zeros() as usize)
}

/// How many bytes both begin with.
#[inline]
pub(super) fn common(one: &[u8], other: &[u8]) -> usize {
    let at = common_sixteens(one, other);
    let rest = one[at..].iter().zip(&other[at..]);
    at + rest.take_while(|(a, b)| a == b).count()
}

/// The same, but for the last few: by sixteen for as long as both have as many.
#[cfg(target_arch = "x86_64")]
#[inline]
fn common_sixteens(one: &[u8], other: &[u8]) -> usize {
    let mut at = 0;
    while let (Some(a), Some(b)) = (one[at..].first_chunk(), other[at..].first_chunk()) {
        let differs = !Sixteen::of(a).same(Sixteen::of(b)) & 0xffff;
        if differs != 0 {
            return at + differs.trailing_zeros() as usize;
        }
        at += 16;
    }
    at
}

#[cfg(not(target_arch = "x86_64"))]
fn common_sixteens(_: &[u8], _: &[u8]) -> usize {
    0
}

/// Whether the first `len` bytes of `bytes`, a path without unprintable bytes, have nothing in them
/// that could have to be normalised: neither an encoded byte nor a slash before a slash or a dot.
/// `false`: perhaps. There are some bytes behind a path in a head, so most are one look.
#[inline]
pub(super) fn is_plain_path(bytes: &[u8], len: usize) -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        let (mut at, mut slash_before) = (0, 0);
        while at < len {
            let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk) else { return false };
            let sixteen = Sixteen::of(chunk);
            let (slashes, dots) = (sixteen.equal(b'/'), sixteen.equal(b'.'));
            let suspect = sixteen.equal(b'%') | (slashes << 1 | slash_before) & (slashes | dots);
            let of_path = u32::MAX >> (32 - (len - at).min(16));
            if suspect & of_path != 0 {
                return false;
            }
            slash_before = slashes >> 15;
            at += 16;
        }
        true
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let path = &bytes[..len];
        let odd = |pair: &[u8]| pair[0] == b'/' && matches!(pair[1], b'/' | b'.');
        !path.contains(&b'%') && !path.windows(2).any(odd)
    }
}

impl Stop for Control {
    #[inline]
    fn is(byte: u8) -> bool {
        byte < b' ' || byte == 0x7f
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    fn among(bytes: Sixteen) -> u32 {
        bytes.up_to(b' ' - 1) | bytes.equal(0x7f)
    }
}

impl Stop for Colon {
    #[inline]
    fn is(byte: u8) -> bool {
        byte < b' ' || byte == b':'
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    fn among(bytes: Sixteen) -> u32 {
        bytes.up_to(b' ' - 1) | bytes.equal(b':')
    }
}

impl Stop for Space {
    #[inline]
    fn is(byte: u8) -> bool {
        byte <= b' '
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    fn among(bytes: Sixteen) -> u32 {
        bytes.up_to(b' ')
    }
}

impl Stop for Unprintable {
    #[inline]
    fn is(byte: u8) -> bool {
        byte <= b' ' || byte >= 0x7f || byte == b'#'
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    fn among(bytes: Sixteen) -> u32 {
        bytes.up_to(b' ') | bytes.from(0x7f) | bytes.equal(b'#')
    }
}

impl Stop for Question {
    #[inline]
    fn is(byte: u8) -> bool {
        byte == b'?' || Unprintable::is(byte)
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    fn among(bytes: Sixteen) -> u32 {
        bytes.equal(b'?') | Unprintable::among(bytes)
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use lanes::Sixteen;

#[cfg(target_arch = "x86_64")]
mod lanes {
    use std::arch::x86_64::{
        __m128i, _mm_cmpeq_epi8, _mm_movemask_epi8, _mm_set_epi64x, _mm_set1_epi8, _mm_subs_epu8,
    };

    /// Sixteen bytes that are looked at together.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Sixteen(__m128i);

    // SAFETY, of all calls below: they take and give plain values, and ask for nothing but SSE2,
    // which every CPU of this architecture has.
    impl Sixteen {
        #[inline]
        pub(super) fn of(bytes: &[u8; 16]) -> Self {
            let number = u128::from_le_bytes(*bytes);
            // SAFETY: as above.
            Self(unsafe { _mm_set_epi64x((number >> 64) as i64, number as i64) })
        }

        /// A bit for each that is this byte.
        #[inline]
        pub(super) fn equal(self, byte: u8) -> u32 {
            // SAFETY: as above.
            unsafe { _mm_movemask_epi8(_mm_cmpeq_epi8(self.0, all(byte))) as u32 }
        }

        /// A bit for each that is the same in both.
        #[inline]
        pub(super) fn same(self, other: Self) -> u32 {
            // SAFETY: as above.
            unsafe { _mm_movemask_epi8(_mm_cmpeq_epi8(self.0, other.0)) as u32 }
        }

        /// A bit for each that is not above it.
        #[inline]
        pub(super) fn up_to(self, most: u8) -> u32 {
            // SAFETY: as above.
            Self(unsafe { _mm_subs_epu8(self.0, all(most)) }).equal(0)
        }

        /// A bit for each that is not below it.
        #[inline]
        pub(super) fn from(self, least: u8) -> u32 {
            // SAFETY: as above.
            Self(unsafe { _mm_subs_epu8(all(least), self.0) }).equal(0)
        }
    }

    #[inline]
    fn all(byte: u8) -> __m128i {
        // SAFETY: as above.
        unsafe { _mm_set1_epi8(byte as i8) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_are_plain_need_no_normalising() {
        let mut plain = 0;
        for len in 1..40 {
            for at in 1..len {
                for pair in [*b"//", *b"/.", *b"./", *b"a%", *b"/a", *b"aa", *b"%2", *b".."] {
                    let mut bytes = [vec![b'a'; len], b" HTTP/1.1\r\n/./%".to_vec()].concat();
                    bytes[0] = b'/';
                    bytes[at] = pair[0];
                    if at + 1 < len {
                        bytes[at + 1] = pair[1];
                    }
                    let path = &bytes[..len];
                    let is_plain = is_plain_path(&bytes, len);
                    assert!(!is_plain || crate::http::uri::is_normal(path), "{path:x?}");
                    let odd = path.windows(2).any(|pair| pair == b"//" || pair == b"/.");
                    assert_eq!(is_plain, !odd && !path.contains(&b'%'), "{path:x?}");
                    plain += usize::from(is_plain);
                }
            }
        }
        assert!(plain > 1_000, "{plain}");
    }

    #[test]
    fn what_both_begin_with() {
        for len in 0..70 {
            for other_len in [0, 1, 15, 16, 17, 31, 48, 69] {
                for at in 0..len.min(other_len) + 1 {
                    let (one, mut other) = (vec![b'a'; len], vec![b'a'; other_len]);
                    let shorter = len.min(other_len);
                    if at < shorter {
                        other[at] = b'b';
                    }
                    assert_eq!(common(&one, &other), at.min(shorter));
                }
            }
        }
    }

    #[test]
    fn stops_are_found_in_any_place_and_nothing_else_is() {
        fn check<S: Stop>(bytes: &[u8]) {
            let expected = bytes.iter().position(|byte| S::is(*byte));
            assert_eq!(find::<S>(bytes), expected, "{bytes:x?}");
        }
        for byte in 0..=u8::MAX {
            for len in [0, 1, 2, 7, 15, 16, 17, 31, 32, 33, 40] {
                for at in 0..len {
                    let mut bytes = vec![b'a'; len];
                    bytes[at] = byte;
                    for from in [0, at / 2, at, at + 1] {
                        check::<Control>(&bytes[from..]);
                        check::<Colon>(&bytes[from..]);
                        check::<Space>(&bytes[from..]);
                        check::<Unprintable>(&bytes[from..]);
                        check::<Question>(&bytes[from..]);
                    }
                }
            }
        }
    }
}
