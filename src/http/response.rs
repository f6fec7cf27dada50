//! Response heads from upstreams (RFC 9112 §4 to §6). Whatever is not clear is a 502: a guess here
//! would let one exchange's bytes become another's.

use super::fields::{content_length, field_of, is_name, lines_end_in_crlf, list_members};
use super::request::HeadLimits;
use super::seen::Seen;
use super::{BodyLength, Field, Known, KnownSet, ResponseError, Version, plain};
use crate::limits;
use std::mem::MaybeUninit;

/// One response's head: spans over the bytes it was parsed from.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    /// Bytes from the start of the input to the first byte of the body.
    pub len: usize,
    /// 100 to 999.
    pub status: u16,
    /// The version spoken.
    pub version: Version,
    /// All fields.
    pub fields: Vec<Field>,
    /// The body's length, for the request method it was parsed for.
    pub body: BodyLength,
    /// Whether the connection may carry another request.
    pub keep_alive: bool,
    /// Whether Connection has options that may be fields' names (RFC 9110 §7.6.1).
    pub nominates: bool,
    /// The last head's fields: most responses of an upstream repeat them.
    seen: Seen<Facts>,
}

impl ResponseHead {
    /// Parses the head that `input` begins with. `Ok(false)`: it is not complete yet. `to_head`: it
    /// answers a HEAD request, so no body follows whatever the fields say (RFC 9112 §6.3).
    ///
    /// # Errors
    /// The first rule that the head breaks.
    pub fn parse(
        &mut self,
        input: &[u8],
        limits: HeadLimits,
        to_head: bool,
    ) -> Result<bool, ResponseError> {
        let within = &input[..input.len().min(limits.bytes)];
        let most = limits.fields.min(limits::HEADERS_CEILING);
        if self.parse_plain(within, most, to_head) {
            return Ok(true);
        }
        match self.parse_closely(within, most, to_head)? {
            false if input.len() >= limits.bytes => Err(ResponseError("the head is too large")),
            complete => Ok(complete),
        }
    }

    /// Reads a head of any kind, and finds what is wrong with it.
    #[cold]
    fn parse_closely(
        &mut self,
        within: &[u8],
        most: usize,
        to_head: bool,
    ) -> Result<bool, ResponseError> {
        let mut table = [const { MaybeUninit::uninit() }; limits::HEADERS_CEILING];
        let table = &mut table[..most];
        let mut parsed = httparse::Response::new(&mut []);
        let outcome = httparse::ParserConfig::default()
            .parse_response_with_uninit_headers(&mut parsed, within, table)
            .map_err(classify)?;
        let httparse::Status::Complete(len) = outcome else {
            return Ok(false);
        };
        let (Some(status), Some(version)) = (parsed.code, parsed.version) else {
            return Err(ResponseError("a status line without its parts"));
        };
        let head = &within[..len];
        let before = head.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        if !lines_end_in_crlf(head, &head[before..], parsed.headers) {
            return Err(ResponseError("a line ends in a bare LF"));
        }
        if !(100..=999).contains(&status) {
            return Err(ResponseError("a status below 100"));
        }
        self.len = len;
        self.status = status;
        self.version = if version == 0 { Version::Http10 } else { Version::Http11 };
        let mut facts = Facts::default();
        self.fields.clear();
        for header in parsed.headers.iter() {
            self.take_field(head, field_of(head, header), &mut facts)?;
        }
        self.conclude(&facts, to_head)?;
        Ok(true)
    }

    /// The same for a head without anything unusual, and for a fraction of the price; `false`: it
    /// takes a closer look.
    fn parse_plain(&mut self, within: &[u8], most: usize, to_head: bool) -> bool {
        let Some(line) = plain::status_line(within) else { return false };
        self.version = line.version;
        self.status = line.status;
        let (fields, seen) = (&mut self.fields, &mut self.seen);
        let section = plain::section::<false, _>(within, line.end, most, fields, seen);
        let Some(section) = section else { return false };
        self.len = section.end;
        if !section.again {
            seen.facts = Facts::of(fields, section.names, within);
        }
        match seen.facts {
            Some(facts) => self.conclude(&facts, to_head).is_ok(),
            None => false,
        }
    }

    /// Whether the short way of reading a head leaves this one alone, or makes of it what the long
    /// way does: `None`, or whether that is so.
    /// `self` may have read other heads before.
    #[cfg(any(test, fuzzing))]
    #[must_use]
    pub fn reads_alike(&mut self, input: &[u8], limits: HeadLimits, to_head: bool) -> Option<bool> {
        let within = &input[..input.len().min(limits.bytes)];
        let most = limits.fields.min(limits::HEADERS_CEILING);
        let mut long = Self::default();
        self.parse_plain(within, most, to_head).then(|| {
            long.parse_closely(within, most, to_head) == Ok(true)
                && format!("{self:?}") == format!("{long:?}")
        })
    }

    /// Whether this head only announces: another one follows (RFC 9110 §15.2). 101 is final.
    #[must_use]
    pub fn is_interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }

    #[inline]
    fn take_field(
        &mut self,
        head: &[u8],
        field: Field,
        facts: &mut Facts,
    ) -> Result<(), ResponseError> {
        facts.note(field, head)?;
        self.fields.push(field);
        Ok(())
    }

    /// What all fields together come to.
    fn conclude(&mut self, facts: &Facts, to_head: bool) -> Result<(), ResponseError> {
        self.nominates = facts.nominates;
        self.body = facts.framing(self.version)?;
        if to_head || self.status < 200 || self.status == 204 || self.status == 304 {
            self.body = BodyLength::None;
        }
        let persists = match self.version {
            Version::Http11 => true,
            Version::Http10 => facts.keep_alive,
        };
        self.keep_alive = persists && !facts.close && self.body != BodyLength::UntilClose;
        Ok(())
    }
}

/// Names whose fields say something of framing or the connection.
const TELLING: KnownSet =
    KnownSet::of(&[Known::Connection, Known::ContentLength, Known::TransferEncoding]);

/// What one pass over the fields found.
#[derive(Clone, Copy, Default)]
struct Facts {
    content_length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    nominates: bool,
}

impl Facts {
    /// Those of all fields, whose names are `names`; `None`: a rule is broken.
    fn of(fields: &[Field], names: KnownSet, head: &[u8]) -> Option<Self> {
        let mut facts = Self::default();
        let mut telling = fields.iter().filter(|field| TELLING.has(field.known));
        let in_order =
            !names.meets(TELLING) || telling.all(|field| facts.note(*field, head).is_ok());
        in_order.then_some(facts)
    }

    #[inline]
    fn note(&mut self, field: Field, head: &[u8]) -> Result<(), ResponseError> {
        let value = || field.value.of(head);
        match field.known {
            // What most servers that say anything say.
            Known::Connection if is_name(value(), b"keep-alive") => self.keep_alive = true,
            Known::Connection => {
                for option in list_members(value()) {
                    match option.len() {
                        5 if option.eq_ignore_ascii_case(b"close") => self.close = true,
                        10 if option.eq_ignore_ascii_case(b"keep-alive") => self.keep_alive = true,
                        _ => self.nominates = true,
                    }
                }
            }
            Known::ContentLength => {
                let length = content_length(value());
                let length = length.ok_or(ResponseError("an invalid Content-Length"))?;
                if self.content_length.replace(length).is_some() {
                    return Err(ResponseError("more than one Content-Length"));
                }
            }
            Known::TransferEncoding => {
                if self.chunked || !value().eq_ignore_ascii_case(b"chunked") {
                    return Err(ResponseError("a transfer coding other than one chunked"));
                }
                self.chunked = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn framing(&self, version: Version) -> Result<BodyLength, ResponseError> {
        match (self.chunked, self.content_length) {
            (true, Some(_)) => Err(ResponseError("Content-Length beside Transfer-Encoding")),
            (true, None) if version == Version::Http10 => {
                Err(ResponseError("Transfer-Encoding in HTTP/1.0"))
            }
            (true, None) => Ok(BodyLength::Chunked),
            (false, Some(0)) => Ok(BodyLength::None),
            (false, Some(length)) => Ok(BodyLength::Known(length)),
            (false, None) => Ok(BodyLength::UntilClose),
        }
    }
}

fn classify(error: httparse::Error) -> ResponseError {
    ResponseError(match error {
        httparse::Error::TooManyHeaders => "the head has too many fields",
        httparse::Error::Version => "not an HTTP/1 response",
        httparse::Error::HeaderName => "an invalid field name",
        httparse::Error::HeaderValue => "an invalid field value",
        httparse::Error::NewLine => "an invalid line end",
        httparse::Error::Status | httparse::Error::Token => "an invalid status line",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(input: &str, to_head: bool) -> Result<ResponseHead, ResponseError> {
        let mut head = ResponseHead::default();
        let complete = head.parse(input.as_bytes(), HeadLimits::default(), to_head)?;
        assert!(complete, "{input:?}");
        Ok(head)
    }

    #[test]
    fn body_lengths() {
        let table = [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", BodyLength::Known(5), true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", BodyLength::None, true),
            ("HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n", BodyLength::Chunked, true),
            ("HTTP/1.1 200 OK\r\n\r\n", BodyLength::UntilClose, false),
            ("HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n", BodyLength::None, true),
            ("HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n", BodyLength::None, true),
            ("HTTP/1.1 100 Go\r\n\r\n", BodyLength::None, false),
            ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", BodyLength::Known(5), false),
            (
                "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\n",
                BodyLength::Known(5),
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\n",
                BodyLength::Known(5),
                false,
            ),
        ];
        for (input, body, keep_alive) in table {
            let head = parse(input, false).expect(input);
            assert_eq!(head.body, body, "{input:?}");
            if !head.is_interim() {
                assert_eq!(head.keep_alive, keep_alive, "{input:?}");
            }
        }
        let head = parse("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true).expect("valid");
        assert_eq!(head.body, BodyLength::None, "answers HEAD");
    }

    #[test]
    fn refused() {
        let long = format!("HTTP/1.1 200 OK\r\nA: {}", "a".repeat(40_000));
        for input in [
            "garbage\r\n\r\n",
            "HTTP/2 200 OK\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 099 OK\r\n\r\n",
            "HTTP/1.1 200 OK\nA: b\r\n\r\n",
            "\nHTTP/1.1 200 OK\r\nA: b\r\n\r\n",
            "\n\nHTTP/1.1 200 OK\r\n\r\n",
            "\r\n\nHTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            &long,
        ] {
            let outcome =
                ResponseHead::default().parse(input.as_bytes(), HeadLimits::default(), false);
            assert!(outcome.is_err(), "{:?}", &input[..input.len().min(80)]);
        }
    }
}
