//! Request targets: path and query, the normalised path, percent-encoding, the host of an
//! authority.
//!
//! The normalised path is what nginx calls `$uri` and what APISIX routes on: percent-encodings are
//! decoded, `.` and `..` segments resolved and runs of slashes merged, in that order, so that
//! `%2e%2e` climbs and `%2F` separates (nginx `ngx_http_parse_complex_uri`; RFC 3986 §5.2.4).
//!
//! ```text
//! /a%20b//./c/../d?x=1#top      target
//! └───── path ───┘ └┬┘          split
//! /a b/d           query        normalise
//! ```

use memchr::{memchr, memchr2, memchr3, memrchr};
use std::borrow::Cow;
use std::error::Error;
use std::fmt;

/// Why a path has no normalised form. Each is answered with 400, as nginx does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UriError {
    /// The path does not start with `/`.
    NotAbsolute,
    /// A `%` without two hexadecimal digits after it.
    BadEncoding,
    /// A NUL byte, as such or as `%00`.
    Nul,
    /// A `..` segment climbs above the root.
    AboveRoot,
}

impl fmt::Display for UriError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAbsolute => "the path does not start with a slash",
            Self::BadEncoding => "a percent sign is not followed by two hexadecimal digits",
            Self::Nul => "the path contains a NUL byte",
            Self::AboveRoot => "a '..' segment climbs above the root",
        })
    }
}

impl Error for UriError {}

/// An origin-form target in its parts, still encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// Everything before `?`.
    pub path: &'a [u8],
    /// Everything after the first `?`; `Some` and empty if nothing follows it.
    pub query: Option<&'a [u8]>,
}

/// Splits path and query; a fragment, which no client should send, is cut off.
#[must_use]
pub fn split(target: &[u8]) -> Target<'_> {
    match memchr2(b'?', b'#', target) {
        None => Target { path: target, query: None },
        Some(at) if target[at] == b'#' => Target { path: &target[..at], query: None },
        Some(at) => {
            let query = &target[at + 1..];
            let end = memchr(b'#', query).unwrap_or(query.len());
            Target { path: &target[..at], query: Some(&query[..end]) }
        }
    }
}

/// Whether [`normalise`] would give back exactly these bytes, so that no copy is needed.
#[must_use]
pub fn is_normal(path: &[u8]) -> bool {
    let (Some(b'/'), Some(&last)) = (path.first(), path.last()) else { return false };
    // One pass without branches (the compiler makes it vector code): nearly every path ends here.
    let odd = |byte: u8| (byte == b'%') | (byte == b'#') | (byte == 0);
    let pairs = path.iter().zip(&path[1..]);
    let suspect = pairs.fold(odd(last), |suspect, (&a, &b)| {
        suspect | odd(a) | ((a == b'/') & ((b == b'/') | (b == b'.')))
    });
    !suspect || is_normal_by_segments(path)
}

/// The exact answer for a path that has a dot after a slash, like `/.well-known/x`.
#[cold]
fn is_normal_by_segments(path: &[u8]) -> bool {
    if memchr3(b'%', b'#', 0, path).is_some() {
        return false;
    }
    let mut segments = path[1..].split(|&byte| byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        let empty_inside = segment.is_empty() && segments.peek().is_some();
        if empty_inside || segment == b"." || segment == b".." {
            return false;
        }
    }
    true
}

/// Puts the normalised form of `path` (without query) into `out`, which is cleared first.
///
/// `+` stays. A decoded `%`, `?` or `#` is a plain byte of the result and decoded only once.
///
/// # Errors
/// See [`UriError`]; `out` then holds nothing of use.
pub fn normalise(path: &[u8], out: &mut Vec<u8>) -> Result<(), UriError> {
    out.clear();
    if path.first() != Some(&b'/') {
        return Err(UriError::NotAbsolute);
    }
    let path = &path[..memchr(b'#', path).unwrap_or(path.len())];
    let mut at = 0;
    while at < path.len() {
        let mut byte = path[at];
        at += 1;
        if byte == b'%' {
            byte = path.get(at..at + 2).and_then(hex_pair).ok_or(UriError::BadEncoding)?;
            at += 2;
        }
        match byte {
            0 => return Err(UriError::Nul),
            b'/' => {
                end_segment(out)?;
                if out.last() != Some(&b'/') {
                    out.push(b'/');
                }
            }
            _ => out.push(byte),
        }
    }
    end_segment(out)
}

/// Resolves the last segment of `out` if it is `.` or `..`; `out` then ends with a slash.
fn end_segment(out: &mut Vec<u8>) -> Result<(), UriError> {
    if out.ends_with(b"/.") {
        out.pop();
    } else if out.ends_with(b"/..") {
        out.truncate(out.len() - 3);
        let parent = memrchr(b'/', out).ok_or(UriError::AboveRoot)?;
        out.truncate(parent + 1);
    }
    Ok(())
}

/// Decodes `%XX`; a `%` without two hexadecimal digits stays, and so does `+`.
#[must_use]
pub fn percent_decode(bytes: &[u8]) -> Cow<'_, [u8]> {
    match memchr(b'%', bytes) {
        None => Cow::Borrowed(bytes),
        Some(_) => Cow::Owned(decode(bytes, false)),
    }
}

/// Decodes one name or value of a query as a form does: `%XX`, and `+` as a space. A `%` without
/// two hexadecimal digits stays (OpenResty's `ngx.req.get_uri_args`).
#[must_use]
pub fn decode_component(bytes: &[u8]) -> Cow<'_, [u8]> {
    match memchr2(b'%', b'+', bytes) {
        None => Cow::Borrowed(bytes),
        Some(_) => Cow::Owned(decode(bytes, true)),
    }
}

fn decode(bytes: &[u8], plus_is_space: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let decoded = match bytes[at] {
            b'%' => bytes.get(at + 1..at + 3).and_then(hex_pair),
            b'+' if plus_is_space => {
                out.push(b' ');
                at += 1;
                continue;
            }
            _ => None,
        };
        out.push(decoded.unwrap_or(bytes[at]));
        at += if decoded.is_some() { 3 } else { 1 };
    }
    out
}

/// Appends a path for a request line: what may not stand there as it is is percent-encoded, `%`,
/// `?` and `#` too, so that it is read back as the same path (nginx `ngx_escape_uri`).
pub fn escape_path(path: &[u8], out: &mut Vec<u8>) {
    escape(path, |byte| byte <= b' ' || byte >= 0x7f || b"\"#%<>?\\^`{|}".contains(&byte), out);
}

/// Appends a target or a query for a request line: only what would end it is percent-encoded, `#`
/// too, for the rest is taken to be encoded already.
pub fn escape_target(text: &[u8], out: &mut Vec<u8>) {
    escape(text, |byte| byte <= b' ' || byte >= 0x7f || byte == b'#', out);
}

/// Appends a URI for a header field: only what would end it is percent-encoded.
pub fn escape_controls(text: &[u8], out: &mut Vec<u8>) {
    escape(text, |byte| byte <= b' ' || byte >= 0x7f, out);
}

fn escape(bytes: &[u8], is_odd: impl Fn(u8) -> bool, out: &mut Vec<u8>) {
    for &byte in bytes {
        if is_odd(byte) {
            let digit = |at: u8| b"0123456789ABCDEF"[usize::from(at)];
            out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 15)]);
        } else {
            out.push(byte);
        }
    }
}

fn hex_pair(digits: &[u8]) -> Option<u8> {
    let high = char::from(digits[0]).to_digit(16)?;
    let low = char::from(digits[1]).to_digit(16)?;
    Some(((high << 4) | low) as u8)
}

/// The host of a Host header or authority: without port and without the root's trailing dot; the
/// brackets of an IPv6 literal stay (nginx `$host`, `ngx_http_validate_host`). Case is kept.
#[must_use]
pub fn host_of(authority: &[u8]) -> &[u8] {
    if authority.first() == Some(&b'[') {
        let end = memchr(b']', authority).map_or(authority.len(), |at| at + 1);
        return &authority[..end];
    }
    let host = &authority[..memchr(b':', authority).unwrap_or(authority.len())];
    host.strip_suffix(b".").unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::UriError::{AboveRoot, BadEncoding, NotAbsolute, Nul};
    use super::*;

    #[test]
    fn targets_split() {
        let cases: [(&str, &str, Option<&str>); 9] = [
            ("/a", "/a", None),
            ("/a?", "/a", Some("")),
            ("/a?b=c", "/a", Some("b=c")),
            ("/a?b?c", "/a", Some("b?c")),
            ("/a#f", "/a", None),
            ("/a#f?b", "/a", None),
            ("/a?b#f", "/a", Some("b")),
            ("/a?#f", "/a", Some("")),
            ("?b", "", Some("b")),
        ];
        for (target, path, query) in cases {
            let expected = Target { path: path.as_bytes(), query: query.map(str::as_bytes) };
            assert_eq!(split(target.as_bytes()), expected, "{target}");
        }
    }

    /// A path and what it becomes.
    type Row = (&'static [u8], Result<&'static [u8], UriError>);

    const NORMALISED: [Row; 49] = [
        // nothing to do
        (b"/", Ok(b"/")),
        (b"/hello", Ok(b"/hello")),
        (b"/hello/", Ok(b"/hello/")),
        (b"/a+b", Ok(b"/a+b")),
        (b"/file:listX", Ok(b"/file:listX")),
        (b"/.well-known/x", Ok(b"/.well-known/x")),
        (b"/...", Ok(b"/...")),
        (b"/a/..b/.c./d..", Ok(b"/a/..b/.c./d..")),
        (b"/\xc3\xa9", Ok(b"/\xc3\xa9")),
        (b"/a\\b", Ok(b"/a\\b")),
        (b"/a?b", Ok(b"/a?b")),
        // decoding
        (b"/a%20b", Ok(b"/a b")),
        (b"/%41%6a%4A", Ok(b"/AjJ")),
        (b"/%c3%A9", Ok(b"/\xc3\xa9")),
        (b"/a%2Bb", Ok(b"/a+b")),
        (b"/a%0a", Ok(b"/a\n")),
        (b"/%2541", Ok(b"/%41")),
        (b"/a%3Fb%23c", Ok(b"/a?b#c")),
        (b"/a%2Fb", Ok(b"/a/b")),
        (b"/a%2f%2Fb", Ok(b"/a/b")),
        (b"/a/%2fb", Ok(b"/a/b")),
        // slashes
        (b"//", Ok(b"/")),
        (b"//a///b//", Ok(b"/a/b/")),
        // dots
        (b"/.", Ok(b"/")),
        (b"/./", Ok(b"/")),
        (b"/a/.", Ok(b"/a/")),
        (b"/a/./b", Ok(b"/a/b")),
        (b"/a/..", Ok(b"/")),
        (b"/a/../", Ok(b"/")),
        (b"/a/b/..", Ok(b"/a/")),
        (b"/a/b/../c", Ok(b"/a/c")),
        (b"/a/b/../../c", Ok(b"/c")),
        (b"/a//../b", Ok(b"/b")),
        (b"/a/b//./../c", Ok(b"/a/c")),
        (b"/a/%2e%2E/b", Ok(b"/b")),
        (b"/a/.%2e", Ok(b"/")),
        (b"/a%2F..%2Fb", Ok(b"/b")),
        (b"/a/%2e", Ok(b"/a/")),
        // a fragment is cut
        (b"/a#b/../..", Ok(b"/a")),
        (b"/a/..#b", Ok(b"/")),
        // errors
        (b"", Err(NotAbsolute)),
        (b"a/b", Err(NotAbsolute)),
        (b"%2Fa", Err(NotAbsolute)),
        (b"/..", Err(AboveRoot)),
        (b"/a/../../b", Err(AboveRoot)),
        (b"/%", Err(BadEncoding)),
        (b"/a%2", Err(BadEncoding)),
        (b"/a%g0%20", Err(BadEncoding)),
        (b"/a%00b", Err(Nul)),
    ];

    #[test]
    fn paths_normalise_as_in_nginx() {
        let mut out = b"old".to_vec();
        for (path, expected) in NORMALISED {
            let name = String::from_utf8_lossy(path);
            let result = normalise(path, &mut out).map(|()| &out[..]);
            assert_eq!(result, expected, "{name}");
            assert_eq!(is_normal(path), expected == Ok(path), "{name}");
        }
        assert_eq!(normalise(b"/a\0", &mut out), Err(Nul));
        assert!(!is_normal(b"/a\0") && !is_normal(b"/a\0b"));
    }

    #[test]
    fn normal_means_unchanged() {
        let mut random = fastrand::Rng::with_seed(11);
        let mut out = Vec::new();
        for _ in 0..50_000 {
            let len = random.usize(0..24);
            let path: Vec<u8> = std::iter::once(b'/')
                .chain((0..len).map(|_| *random.choice(b"//..a%2e").expect("not empty")))
                .collect();
            let same = normalise(&path, &mut out).is_ok() && out == path;
            assert_eq!(is_normal(&path), same, "{}", String::from_utf8_lossy(&path));
        }
    }

    #[test]
    fn percent_encodings_decode() {
        for (text, plain, form) in [
            ("", "", ""),
            ("abc", "abc", "abc"),
            ("a+b", "a+b", "a b"),
            ("a%20b%2B", "a b+", "a b+"),
            ("%", "%", "%"),
            ("%4", "%4", "%4"),
            ("%zz%41", "%zzA", "%zzA"),
            ("%%41", "%A", "%A"),
            ("100%+", "100%+", "100% "),
        ] {
            assert_eq!(percent_decode(text.as_bytes()), plain.as_bytes(), "{text}");
            assert_eq!(decode_component(text.as_bytes()), form.as_bytes(), "{text}");
        }
        assert!(matches!(percent_decode(b"a+b"), Cow::Borrowed(_)));
        assert!(matches!(decode_component(b"ab"), Cow::Borrowed(_)));
    }

    #[test]
    fn paths_are_escaped_and_read_back() {
        let escaped = |path: &[u8]| {
            let mut out = b"x".to_vec();
            escape_path(path, &mut out);
            String::from_utf8(out.split_off(1)).expect("ASCII")
        };
        for (path, expected) in [
            ("/a/b", "/a/b"),
            ("/a b?c#d%e", "/a%20b%3Fc%23d%25e"),
            ("/\r\n\0", "/%0D%0A%00"),
            ("/é", "/%C3%A9"),
            ("/a:b@c!$&'()*+,;=~-._[]", "/a:b@c!$&'()*+,;=~-._[]"),
            ("/<\"\\^`{|}>", "/%3C%22%5C%5E%60%7B%7C%7D%3E"),
        ] {
            assert_eq!(escaped(path.as_bytes()), expected);
            assert_eq!(percent_decode(expected.as_bytes()), path.as_bytes());
        }
        let mut out = Vec::new();
        escape_controls("a=1 b%20\r\n?#é".as_bytes(), &mut out);
        assert_eq!(out, b"a=1%20b%20%0D%0A?#%C3%A9");
        out.clear();
        escape_target(b"/a?b#c d%20", &mut out);
        assert_eq!(out, b"/a?b%23c%20d%20");
    }

    #[test]
    fn hosts_have_no_port() {
        for (authority, host) in [
            ("", ""),
            ("a.com", "a.com"),
            ("A.com:80", "A.com"),
            ("a.com.", "a.com"),
            ("a.com.:80", "a.com"),
            ("[::1]", "[::1]"),
            ("[::1]:9080", "[::1]"),
            ("[::1", "[::1"),
            ("1.2.3.4:80", "1.2.3.4"),
        ] {
            assert_eq!(host_of(authority.as_bytes()), host.as_bytes(), "{authority}");
        }
    }
}
