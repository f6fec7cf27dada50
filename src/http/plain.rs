//! The way nearly every head takes: one pass that knows only what is plain.
//!
//! ```text
//! bytes ─► plain? ─ yes ─► start line and fields, found and checked in the same pass
//!             └ no, or not sure ─► httparse's tokens, the strict layer, and the verdict
//! ```
//!
//! What is read here is read by the long way just so; tests and fuzz targets hold one against the
//! other. Whatever is unusual is left alone: an end that is not there yet, a byte that is seldom
//! seen, a broken rule. So no error is made here, and the long way accepts whatever this one does.
//!
//! httparse looks at each byte of a name by itself, and finds lines whose ends have to be looked at
//! again. This way a request's head costs a third of it, in instructions, and a response's half.

use super::fields::is_token;
use super::scan::{Colon, Control, Question, Space, Unprintable, find, is_plain_path};
use super::seen::Seen;
use super::{Field, Known, KnownSet, Span, Version};

/// A request line.
pub(super) struct RequestLine {
    pub(super) method: Span,
    /// Printable ASCII without `#`, in origin-form.
    pub(super) target: Span,
    pub(super) path: Span,
    /// There is nothing in it that could have to be normalised.
    pub(super) path_is_plain: bool,
    pub(super) version: Version,
    /// Where the first field begins.
    pub(super) end: usize,
}

/// The request line that `bytes` begin with.
#[inline]
pub(super) fn request_line(bytes: &[u8]) -> Option<RequestLine> {
    let method = match bytes {
        [b'G', b'E', b'T', b' ', ..] => 3,
        _ => other_method(bytes)?,
    };
    let from = method + 1;
    let target = &bytes[from..];
    let path = find::<Question>(target)?;
    let length = match target[path] {
        b'?' => path + find::<Unprintable>(&target[path..])?,
        _ => path,
    };
    let path_is_plain = is_plain_path(target, path);
    let (target, rest) = target.split_at(length);
    let version = match rest.first_chunk()? {
        b" HTTP/1.1\r\n" => Version::Http11,
        b" HTTP/1.0\r\n" => Version::Http10,
        _ => return None,
    };
    target.starts_with(b"/").then(|| RequestLine {
        method: Span::new(0, method),
        target: Span::new(from, from + length),
        path: Span::new(from, from + path),
        path_is_plain,
        version,
        end: from + length + 11,
    })
}

/// Where another method than GET ends.
fn other_method(bytes: &[u8]) -> Option<usize> {
    let end = find::<Space>(bytes)?;
    (bytes[end] == b' ' && is_token(&bytes[..end])).then_some(end)
}

/// A status line.
pub(super) struct StatusLine {
    pub(super) version: Version,
    /// 100 to 999.
    pub(super) status: u16,
    /// Where the first field begins.
    pub(super) end: usize,
}

/// The status line that `bytes` begin with.
#[inline]
pub(super) fn status_line(bytes: &[u8]) -> Option<StatusLine> {
    let (start, rest) = bytes.split_first_chunk::<13>()?;
    let [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor, b' ', hundreds, tens, ones, b' '] =
        *start
    else {
        return None;
    };
    let version = match minor {
        b'1' => Version::Http11,
        b'0' => Version::Http10,
        _ => return None,
    };
    let digit = |byte: u8| byte.is_ascii_digit().then(|| u16::from(byte - b'0'));
    let status = digit(hundreds)? * 100 + digit(tens)? * 10 + digit(ones)?;
    let reason = find::<Control>(rest)?;
    let whole = status >= 100 && rest[reason..].starts_with(b"\r\n");
    whole.then_some(StatusLine { version, status, end: start.len() + reason + 2 })
}

/// What a section of fields came to.
#[derive(Default)]
pub(super) struct Section {
    /// Where the body begins.
    pub(super) end: usize,
    /// Which names are in it.
    pub(super) names: KnownSet,
    /// The values of Host, where that is kept apart: how many, and the last.
    pub(super) hosts: u32,
    pub(super) host: Span,
    /// It is that of the last head.
    pub(super) again: bool,
}

/// Reads the fields from `start` on, up to the empty line, into `fields`; not more than `most`.
#[inline]
pub(super) fn section<const HOST_APART: bool, F>(
    bytes: &[u8],
    start: usize,
    most: usize,
    fields: &mut Vec<Field>,
    seen: &mut Seen<F>,
) -> Option<Section> {
    fields.clear();
    if let Some(lines) = seen.all(bytes.get(start..)?)
        && lines.len() <= most
    {
        let mut section = Section { end: start + seen.len(), again: true, ..Section::default() };
        for line in lines {
            section.take::<HOST_APART>(line.moved(0, start), fields);
        }
        return Some(section);
    }
    let section = read_section::<HOST_APART, F>(bytes, start, most, fields, seen);
    if section.is_none() {
        seen.forget();
    }
    section
}

/// The same, when it is not the last head's.
fn read_section<const HOST_APART: bool, F>(
    bytes: &[u8],
    start: usize,
    most: usize,
    fields: &mut Vec<Field>,
    seen: &mut Seen<F>,
) -> Option<Section> {
    let (mut section, mut lines, mut at) = (Section::default(), 0, start);
    loop {
        let (run, end) = seen.run(lines, bytes.get(at..)?, at - start);
        for line in run {
            section.take::<HOST_APART>(line.moved(0, start), fields);
        }
        (lines, at) = (lines + run.len(), start + end);
        let rest = bytes.get(at..)?;
        if let [b'\r', b'\n', ..] = rest {
            section.end = at + 2;
            seen.learn(&bytes[start..section.end], lines);
            return (lines <= most).then_some(section);
        }
        let (line, length) = line(rest)?;
        seen.note(lines, line.moved(0, at - start));
        section.take::<HOST_APART>(line.moved(0, at), fields);
        lines += 1;
        if lines > most {
            return None;
        }
        at += length;
    }
}

impl Section {
    /// Takes a field in.
    #[inline]
    fn take<const HOST_APART: bool>(&mut self, field: Field, fields: &mut Vec<Field>) {
        if HOST_APART && field.known == Known::Host {
            (self.hosts, self.host) = (self.hosts + 1, field.value);
        } else {
            self.names.add(field.known);
            fields.push(field);
        }
    }
}

/// The field line that `rest` begins with, and how long it is.
#[inline]
fn line(rest: &[u8]) -> Option<(Field, usize)> {
    let colon = find::<Colon>(rest)?;
    let (name, after) = rest.split_at(colon);
    // There is no control in it, so what looks like a known name is that name.
    let known = Known::of_token(name);
    let ([b':', after @ ..], true) = (after, known != Known::Other || is_token(name)) else {
        return None;
    };
    let spaces = match after {
        [b' ', first, ..] if *first > b' ' => 1,
        _ => after.iter().position(|byte| !matches!(byte, b' ' | b'\t'))?,
    };
    let length = find::<Control>(&after[spaces..])?;
    let (value, [b'\r', b'\n', ..]) = after[spaces..].split_at(length) else { return None };
    let from = colon + 1 + spaces;
    let value = Span::new(from, from + value.trim_ascii_end().len());
    Some((Field { name: Span::new(0, colon), value, known }, from + length + 2))
}

#[cfg(test)]
mod tests {
    use crate::http::{HeadLimits, RequestHead, ResponseHead};
    use crate::limits;

    const REQUESTS: &[&str] = &[
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /a/b%20c?d=e&f HTTP/1.1\r\nHost: shop.example:8080\r\nUser-Agent: curl/8\r\n\r\nrest",
        "POST /form HTTP/1.1\r\nhost:a\r\nContent-Length:  12 \r\nConnection: keep-alive\r\n\r\n",
        "PUT /x HTTP/1.1\r\nHost: [::1]:80\r\nTransfer-Encoding: chunked\r\nTrailer: a\r\n\r\n",
        "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, x-y\r\nUpgrade: websocket\r\n\r\n",
        "OPTIONS / HTTP/1.0\r\nX-Empty:\r\nX-Tab: a\r\nExpect: 100-continue\r\n\r\n",
        "M-SEARCH /? HTTP/1.1\r\nHost: \r\nCookie: a=1; b=2\r\nX-Long-Name: \u{e9}t\u{e9}\r\n\r\n",
    ];

    const RESPONSES: &[&str] = &[
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 404 Not Found\r\nServer: nginx\r\nDate: Thu, 26 Nov 2026 21:00:00 GMT\r\n\r\n",
        "HTTP/1.0 200 \r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 304 x\r\nETag: \"a\"\r\nConnection: close, x-y\r\nX-Y: 1\r\nHost: b\r\n\r\n",
    ];

    /// What is put into heads: what framing, lines and tokens turn on.
    const BYTES: &[u8] = b"\r\n\t :,;#?%/\0\x0b\x1f\x7f\x80\xff@[]\"_-0a9GZ";

    #[test]
    fn ordinary_heads_are_plain() {
        for head in REQUESTS {
            let alike = RequestHead::default().reads_alike(head.as_bytes(), HeadLimits::default());
            assert_eq!(alike, Some(true), "{head:?}");
        }
        for head in RESPONSES {
            let mut read = ResponseHead::default();
            let alike = read.reads_alike(head.as_bytes(), HeadLimits::default(), false);
            assert_eq!(alike, Some(true), "{head:?}");
        }
    }

    #[test]
    fn what_is_plain_is_read_alike() {
        let mut random = fastrand::Rng::with_seed(9112);
        let (mut plain, mut refused) = (0, 0);
        for turn in 0..60_000 {
            let heads = if turn % 2 == 0 { REQUESTS } else { RESPONSES };
            let mut head = heads[random.usize(..heads.len())].as_bytes().to_vec();
            for _ in 0..random.usize(..4) {
                change(&mut head, &mut random);
            }
            let few = HeadLimits { bytes: random.usize(1..300), fields: random.usize(..6) };
            let limits = if random.bool() { HeadLimits::default() } else { few };
            let alike = if turn % 2 == 0 {
                RequestHead::default().reads_alike(&head, limits)
            } else {
                ResponseHead::default().reads_alike(&head, limits, random.bool())
            };
            assert_ne!(alike, Some(false), "{:?} {limits:?}", head.escape_ascii().to_string());
            if alike.is_some() { plain += 1 } else { refused += 1 }
        }
        assert!(plain > 5_000 && refused > 5_000, "{plain} plain, {refused} not");
    }

    /// Heads that are changed a little from one to the next, all read into one: what was seen
    /// before changes nothing but the cost.
    #[test]
    fn heads_are_read_alike_whatever_was_read_before() {
        let mut random = fastrand::Rng::with_seed(9110);
        let (mut plain, mut refused) = (0, 0);
        for turn in 0..4_000 {
            let of_request = turn % 2 == 0;
            let heads = if of_request { REQUESTS } else { RESPONSES };
            let (mut request, mut response) = (RequestHead::default(), ResponseHead::default());
            let mut head = heads[random.usize(..heads.len())].as_bytes().to_vec();
            for _ in 0..12 {
                match random.u8(..6) {
                    0 | 1 => {}
                    2 | 3 => change(&mut head, &mut random),
                    4 => move_line(&mut head, &mut random),
                    _ => head = heads[random.usize(..heads.len())].as_bytes().to_vec(),
                }
                let few = HeadLimits { bytes: 300, fields: random.usize(..4) };
                let limits = if random.u8(..8) > 0 { HeadLimits::default() } else { few };
                let alike = match of_request {
                    true => request.reads_alike(&head, limits),
                    false => response.reads_alike(&head, limits, random.bool()),
                };
                assert_ne!(alike, Some(false), "{:?}", head.escape_ascii().to_string());
                if alike.is_some() { plain += 1 } else { refused += 1 }
            }
        }
        assert!(plain > 10_000 && refused > 5_000, "{plain} plain, {refused} not");
    }

    /// A line goes, or comes twice, or changes places.
    fn move_line(head: &mut Vec<u8>, random: &mut fastrand::Rng) {
        let mut lines: Vec<&[u8]> = head.split_inclusive(|byte| *byte == b'\n').collect();
        if lines.is_empty() {
            return;
        }
        let (from, to) = (random.usize(..lines.len()), random.usize(..lines.len()));
        match random.u8(..3) {
            0 => drop(lines.remove(from)),
            1 => lines.insert(to, lines[from]),
            _ => lines.swap(from, to),
        }
        *head = lines.concat();
    }

    #[test]
    fn a_head_that_breaks_a_rule_breaks_it_again() {
        for fields in [
            "Host: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n",
            "Host: a\r\nTransfer-Encoding: x\r\n",
            "Host: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "Host: a\r\nContent_Length: 1\r\n",
            "Host: a\r\nHost: a\r\n",
        ] {
            let head = format!("GET / HTTP/1.1\r\n{fields}\r\n");
            let mut read = RequestHead::default();
            for _ in 0..3 {
                assert!(read.parse(head.as_bytes(), HeadLimits::default()).is_err(), "{head}");
            }
        }
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n";
        let mut read = ResponseHead::default();
        for _ in 0..3 {
            assert!(read.parse(head.as_bytes(), HeadLimits::default(), false).is_err());
        }
    }

    #[test]
    fn long_heads_are_not_kept() {
        let field = "X: 0123456789\r\n";
        let mut read = RequestHead::default();
        for lines in [1, 30, 90, 31, 32, 1, 33, 64, 5, 65, 90] {
            let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", field.repeat(lines));
            for _ in 0..3 {
                let (bytes, room) = read.kept();
                assert!(bytes <= limits::SEEN_BYTES_MAX && room <= limits::SEEN_LINES_MAX);
                let alike = read.reads_alike(head.as_bytes(), HeadLimits::default());
                assert_eq!((alike, read.fields.len()), (Some(true), lines));
            }
        }
    }

    fn change(head: &mut Vec<u8>, random: &mut fastrand::Rng) {
        let (at, byte) = (random.usize(..=head.len()), BYTES[random.usize(..BYTES.len())]);
        match random.u8(..4) {
            0 => head.insert(at, byte),
            1 if at < head.len() => head[at] = byte,
            2 if at < head.len() => drop(head.remove(at)),
            _ => head.truncate(at.max(20)),
        }
    }

    #[test]
    fn every_byte_in_every_place_is_read_alike() {
        let (mut plain, request) =
            (0, "GET /a?b HTTP/1.1\r\nHost: a:1\r\nAb-C: d e\r\nDate: x\r\n\r\n");
        let response = "HTTP/1.1 200 OK\r\nAb-C: d e\r\nDate: x\r\nContent-Length: 1\r\n\r\n";
        for (text, of_request) in [(request, true), (response, false)] {
            for at in 0..text.len() {
                for byte in 0..=u8::MAX {
                    let mut head = text.as_bytes().to_vec();
                    head[at] = byte;
                    let limits = HeadLimits::default();
                    let alike = match of_request {
                        true => RequestHead::default().reads_alike(&head, limits),
                        false => ResponseHead::default().reads_alike(&head, limits, false),
                    };
                    assert_ne!(alike, Some(false), "{:?}", head.escape_ascii().to_string());
                    plain += usize::from(alike.is_some());
                }
            }
        }
        assert!(plain > 2_000, "{plain}");
    }
}
