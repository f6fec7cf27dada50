//! The strict layer over httparse's tokens that requests, responses and trailers share.
//!
//! httparse finds names and values and refuses control characters; it accepts bare LF as a line
//! end. What is left to check is here, each rule with its section.

use super::{Field, Known, Span};

/// Whether every LF of a head follows a CR. RFC 9112 §2.2 lets a recipient accept a bare LF;
/// parsers that disagree about it are how requests are smuggled, so we do not.
///
/// httparse has found the lines: each but the first begins where a field's name begins, so their
/// ends need not be searched for. Only what may stand before the start line is looked through.
pub(super) fn lines_end_in_crlf(
    head: &[u8],
    start: &[u8],
    fields: &[httparse::Header<'_>],
) -> bool {
    let ends_well = |next: usize| next >= 2 && head[next - 2] == b'\r';
    let begins = span_of(head, start).start as usize;
    head[..begins].chunks(2).all(|pair| pair == b"\r\n")
        && fields.iter().all(|f| ends_well(span_of(head, f.name.as_bytes()).start as usize))
        && ends_well(head.len())
        && ends_well(head.len() - 2)
}

/// The field of one httparse header, as offsets into `head`.
pub(super) fn field_of(head: &[u8], header: &httparse::Header<'_>) -> Field {
    let name = header.name.as_bytes();
    let known = Known::of_token(name);
    Field { name: span_of(head, name), value: span_of(head, header.value), known }
}

/// Where `part`, a slice of `head`, lies in it.
pub(super) fn span_of(head: &[u8], part: &[u8]) -> Span {
    let start = part.as_ptr() as usize - head.as_ptr() as usize;
    debug_assert!(start + part.len() <= head.len());
    Span::new(start, start + part.len())
}

/// Whether a field name is `lower`, which is written in lower case: names compare without case
/// (RFC 9110 §5.1). For names that were parsed or checked, so that they are tokens: setting bit 5
/// folds letters, and no other `tchar` becomes a letter, a digit or `-` by it.
#[inline]
pub(super) fn is_name(name: &[u8], lower: &[u8]) -> bool {
    const FOLD: u64 = 0x2020_2020_2020_2020;
    debug_assert!(lower.iter().all(|b| *b == b'-' || b.is_ascii_digit() || b.is_ascii_lowercase()));
    if name.len() != lower.len() {
        return false;
    }
    let ((name, name_rest), (lower, lower_rest)) = (name.as_chunks::<8>(), lower.as_chunks::<8>());
    let same_word = |(name, lower): (&[u8; 8], &[u8; 8])| {
        u64::from_ne_bytes(*name) | FOLD == u64::from_ne_bytes(*lower)
    };
    name.iter().zip(lower).all(same_word)
        && name_rest.iter().zip(lower_rest).all(|(name, lower)| name | 0x20 == *lower)
}

/// A `Content-Length` value: digits only, no sign, no list, no overflow (RFC 9110 §8.6), not even
/// of the signed numbers of those who read it next: 18 digits at most.
#[must_use]
pub fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 18 {
        return None;
    }
    value.iter().try_fold(0_u64, |sum, digit| {
        digit.is_ascii_digit().then(|| sum * 10 + u64::from(digit - b'0'))
    })
}

/// The comma-separated members of a list field, trimmed, empty ones left out (RFC 9110 §5.6.1).
pub fn list_members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

/// Whether all bytes are `tchar` and there is at least one (RFC 9110 §5.6.2).
#[must_use]
#[inline]
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|b| is_tchar(*b))
}

/// Whether a field value may be sent: no CR, LF, NUL or other control but tab (RFC 9110 §5.5).
#[must_use]
pub fn is_field_value(bytes: &[u8]) -> bool {
    bytes.iter().all(|b| *b == b'\t' || (*b >= 0x20 && *b != 0x7f))
}

/// A byte of a token (RFC 9110 §5.6.2).
#[inline]
pub(super) fn is_tchar(b: u8) -> bool {
    TCHARS[b as usize]
}

const TCHARS: [bool; 256] = {
    let (mut table, mut byte) = ([false; 256], 0);
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let (marks, mut at) = (b"!#$%&'*+-.^_`|~", 0);
    while at < marks.len() {
        table[marks[at] as usize] = true;
        at += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_lengths() {
        let good: [(&[u8], u64); 4] =
            [(b"0", 0), (b"007", 7), (b"42", 42), (b"999999999999999999", 999_999_999_999_999_999)];
        for (value, expected) in good {
            assert_eq!(content_length(value), Some(expected));
        }
        for bad in ["", "+1", "-1", "1 ", "1,1", "0x1", "1e3", "9223372036854775808", "1\t"] {
            assert_eq!(content_length(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn lists() {
        let members = |v: &'static str| {
            list_members(v.as_bytes())
                .map(|m| String::from_utf8_lossy(m).into_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(members("close"), ["close"]);
        assert_eq!(members(" a ,, b,\tc "), ["a", "b", "c"]);
        assert!(members(" , ").is_empty());
    }

    #[test]
    fn names_compare_without_case() {
        let lower: [&[u8]; 5] =
            [b"te", b"host", b"x-real-ip", b"content-length", b"sec-websocket-key1"];
        for name in lower {
            assert!(is_name(name, name) && is_name(&name.to_ascii_uppercase(), name));
            for at in 0..name.len() {
                // Every other token byte in every place, and every other length.
                for byte in (0..=u8::MAX).filter(|byte| is_tchar(*byte)) {
                    let mut other = name.to_vec();
                    other[at] = byte;
                    assert_eq!(is_name(&other, name), other.eq_ignore_ascii_case(name), "{byte}");
                }
                assert!(!is_name(&name[at..][1..], name) && !is_name(&name[..at], name));
            }
        }
    }

    #[test]
    fn tokens_and_values() {
        assert!(is_token(b"x-a_b!") && !is_token(b"") && !is_token(b"a b") && !is_token(b"a:"));
        assert!(is_field_value(b"a\tb \xff") && !is_field_value(b"a\r") && !is_field_value(b"\0"));
    }
}
