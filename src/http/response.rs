//! Response heads from upstreams (RFC 9112 §4 to §6). Whatever is not clear is a 502: a guess here
//! would let one exchange's bytes become another's.

use super::fields::{content_length, field_of, lines_end_in_crlf, list_members};
use super::request::HeadLimits;
use super::{BodyLength, Field, Known, ResponseError, Version};
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
        let mut table = [const { MaybeUninit::uninit() }; limits::HEADERS_CEILING];
        let table = &mut table[..limits.fields.min(limits::HEADERS_CEILING)];
        let mut parsed = httparse::Response::new(&mut []);
        let outcome = httparse::ParserConfig::default()
            .parse_response_with_uninit_headers(&mut parsed, within, table)
            .map_err(classify)?;
        let httparse::Status::Complete(len) = outcome else {
            let full = input.len() >= limits.bytes;
            return if full { Err(ResponseError("the head is too large")) } else { Ok(false) };
        };
        let (Some(status), Some(version)) = (parsed.code, parsed.version) else {
            return Err(ResponseError("a status line without its parts"));
        };
        let head = &within[..len];
        if !lines_end_in_crlf(head, &head[..0], parsed.headers) {
            return Err(ResponseError("a line ends in a bare LF"));
        }
        if !(100..=999).contains(&status) {
            return Err(ResponseError("a status below 100"));
        }
        self.len = len;
        self.status = status;
        self.version = if version == 0 { Version::Http10 } else { Version::Http11 };
        self.read_fields(head, parsed.headers, to_head)?;
        Ok(true)
    }

    /// Whether this head only announces: another one follows (RFC 9110 §15.2). 101 is final.
    #[must_use]
    pub fn is_interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }

    fn read_fields(
        &mut self,
        head: &[u8],
        headers: &[httparse::Header<'_>],
        to_head: bool,
    ) -> Result<(), ResponseError> {
        let mut facts = Facts::default();
        self.fields.clear();
        for header in headers {
            let field = field_of(head, header);
            facts.note(field.known, header.value)?;
            self.fields.push(field);
        }
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

#[derive(Default)]
struct Facts {
    content_length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    nominates: bool,
}

impl Facts {
    fn note(&mut self, known: Known, value: &[u8]) -> Result<(), ResponseError> {
        match known {
            Known::Connection => {
                for option in list_members(value) {
                    match option.len() {
                        5 if option.eq_ignore_ascii_case(b"close") => self.close = true,
                        10 if option.eq_ignore_ascii_case(b"keep-alive") => self.keep_alive = true,
                        _ => self.nominates = true,
                    }
                }
            }
            Known::ContentLength => {
                let length = content_length(value);
                let length = length.ok_or(ResponseError("an invalid Content-Length"))?;
                if self.content_length.replace(length).is_some() {
                    return Err(ResponseError("more than one Content-Length"));
                }
            }
            Known::TransferEncoding => {
                if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
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
