//! Base64 as configurations and `Authorization` fields carry it (RFC 4648 §4).

/// Decodes the standard alphabet; padding may be there or not, nothing else may.
#[must_use]
pub fn decode(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let digits = match text {
        [rest @ .., b'=', b'='] | [rest @ .., b'='] if text.len().is_multiple_of(4) => rest,
        _ => text,
    };
    if digits.len() % 4 == 1 {
        return None;
    }
    for group in digits.chunks(4) {
        let mut bits = 0_u32;
        for digit in group {
            bits = bits << 6 | u32::from(value(*digit)?);
        }
        bits <<= 6 * (4 - group.len());
        out.extend_from_slice(&bits.to_be_bytes()[1..group.len()]);
    }
    Some(())
}

/// User and password of an `Authorization` field of the scheme Basic (RFC 7617 §2), decoded into
/// `out`, which is empty.
#[must_use]
pub fn credentials<'o>(field: &[u8], out: &'o mut Vec<u8>) -> Option<(&'o [u8], &'o [u8])> {
    let (scheme, rest) = field.split_at_checked(5)?;
    let text = rest.trim_ascii();
    if !scheme.eq_ignore_ascii_case(b"basic") || rest.len() == text.len() {
        return None;
    }
    decode(text, out)?;
    let colon = memchr::memchr(b':', out)?;
    Some((&out[..colon], &out[colon + 1..]))
}

fn value(digit: u8) -> Option<u8> {
    Some(match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_decode() {
        for (text, expected) in [
            ("", Some("")),
            ("Zg==", Some("f")),
            ("Zm8=", Some("fo")),
            ("Zm9v", Some("foo")),
            ("Zm9vYg", Some("foob")),
            ("Zm9vYmE", Some("fooba")),
            ("Zm9vYmFy", Some("foobar")),
            ("/+Aw", Some("\u{fffd}\u{fffd}0")),
            ("Z", None),
            ("Zg=", None),
            ("Z===", None),
            ("Zg==Zg==", None),
            ("Zm9v\n", None),
            ("Zm-_", None),
        ] {
            let mut out = Vec::new();
            let decoded = decode(text.as_bytes(), &mut out).map(|()| String::from_utf8_lossy(&out));
            assert_eq!(decoded.as_deref(), expected, "{text}");
        }
    }
}
