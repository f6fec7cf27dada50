//! Responses that are ready before the request comes (DESIGN §1, fast path).

use crate::http::{
    self, Headers, Known, KnownSet, write_field, write_number_field, write_status_line,
};
use crate::plugin::LocalResponse;
use crate::time::HttpDate;

/// A whole response as bytes; only its date is patched when it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// Its status, for counters and logs.
    pub status: u16,
    bytes: Vec<u8>,
    date_at: usize,
    head_len: usize,
}

impl Prepared {
    /// Encodes a local response once.
    #[must_use]
    pub fn new(response: &LocalResponse) -> Self {
        let mut bytes = Vec::new();
        let mut page = Vec::new();
        let body = local_body(response.status, response.body.as_deref(), &mut page);
        let html = response.body.is_none() && !body.is_empty();
        let date = HttpDate::new(0);
        write_local_head(&mut bytes, response.status, &response.headers, html, &date);
        if has_length(response.status) {
            write_number_field(&mut bytes, b"Content-Length", body.len() as u64);
        }
        bytes.extend_from_slice(b"\r\n");
        let head_len = bytes.len();
        bytes.extend_from_slice(body);
        let date_at = memchr::memmem::find(&bytes, date.as_bytes()).unwrap_or(0);
        Self { status: response.status, bytes, date_at, head_len }
    }

    /// Appends the response to `out`; for HEAD its head only. Gives the body bytes written.
    pub fn write(&self, out: &mut Vec<u8>, date: &HttpDate, to_head: bool) -> usize {
        let end = if to_head { self.head_len } else { self.bytes.len() };
        let start = out.len();
        out.extend_from_slice(&self.bytes[..end]);
        let at = start + self.date_at;
        out[at..at + HttpDate::LEN].copy_from_slice(date.as_bytes());
        end - self.head_len
    }
}

/// Writes the status line and fields of a local response, all but framing and the empty line.
/// Its own Content-Length, Date and Server are left out; `html`: the body is the gateway's page.
pub fn write_local_head(
    out: &mut Vec<u8>,
    status: u16,
    headers: &Headers,
    html: bool,
    date: &HttpDate,
) {
    write_status_line(out, status);
    write_field(out, b"Date", date.as_bytes());
    write_field(out, b"Server", b"ringgate");
    if html {
        write_field(out, b"Content-Type", b"text/html; charset=utf-8");
    } else if headers.get_known(Known::ContentType).is_none() && has_length(status) {
        write_field(out, b"Content-Type", b"text/plain; charset=utf-8");
    }
    headers.write_lines(out, |line| {
        let replaced = html && line.known() == Known::ContentType;
        !replaced && !OURS.has(line.known())
    });
}

/// The body of a local response: its own, or the error page for a status of 300 and more
/// (fault-injection reference, "Response details").
pub fn local_body<'a>(status: u16, body: Option<&'a [u8]>, page: &'a mut Vec<u8>) -> &'a [u8] {
    if !has_length(status) {
        return b"";
    }
    body.unwrap_or_else(|| {
        page.clear();
        if status >= 300 {
            http::write_error_page(page, status);
        }
        page
    })
}

/// Whether responses of that status say how long their body is (RFC 9110 §8.6).
#[must_use]
pub fn has_length(status: u16) -> bool {
    status >= 200 && status != 204 && status != 304
}

/// Fields of a local response that are written from what we know.
const OURS: KnownSet = KnownSet::of(&[
    Known::Connection,
    Known::ContentLength,
    Known::Date,
    Known::KeepAlive,
    Known::Server,
    Known::TransferEncoding,
]);

#[cfg(test)]
mod tests {
    use super::*;

    fn written(response: &LocalResponse, to_head: bool) -> String {
        let mut out = b"before".to_vec();
        Prepared::new(response).write(&mut out, &HttpDate::new(784_111_777), to_head);
        String::from_utf8(out.split_off(6)).expect("text")
    }

    #[test]
    fn a_response_with_its_date() {
        let mut response =
            LocalResponse { status: 200, body: Some(b"hi".to_vec()), ..Default::default() };
        response.headers.append(b"H1", b"v1");
        response.headers.append(b"content-length", b"99");
        let expected = "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nServer: ringgate\r\n\
                        Content-Type: text/plain; charset=utf-8\r\nH1: v1\r\nContent-Length: 2\r\n\r\n";
        assert_eq!(written(&response, false), format!("{expected}hi"));
        assert_eq!(written(&response, true), expected);
    }

    #[test]
    fn bodies() {
        let with = |status, body: Option<&str>| {
            let body = body.map(|b| b.as_bytes().to_vec());
            written(&LocalResponse { status, body, ..Default::default() }, false)
        };
        assert!(with(200, None).contains("Content-Length: 0\r\n"));
        assert!(with(503, None).contains("<title>503 Service Unavailable</title>"));
        assert!(with(503, Some("")).ends_with("Content-Length: 0\r\n\r\n"));
        let empty = with(204, Some("x"));
        assert!(!empty.contains("Content-Length") && empty.ends_with("\r\n\r\n"), "{empty}");
    }
}
