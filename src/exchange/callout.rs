//! A plugin's own HTTP request, without I/O: its bytes, and its reply from the bytes that come.

use super::body::{Decoder, Encoder};
use crate::http::{
    BodyLength, HeadLimits, Known, KnownSet, ResponseHead, write_field, write_number_field,
};
use crate::plugin::{CallFailure, HttpCall, HttpReply};

/// Reads the response to one [`HttpCall`].
#[derive(Debug)]
pub struct CalloutReader {
    head: ResponseHead,
    head_read: bool,
    decoder: Decoder,
    to_head: bool,
    body_bytes_max: usize,
    reply: HttpReply,
}

/// Fields that are written from what we know, or not at all.
const REMADE: KnownSet =
    KnownSet::HOP_BY_HOP.and(&[Known::Host, Known::ContentLength, Known::Expect]);

/// Writes the whole request.
pub fn write_call(out: &mut Vec<u8>, call: &HttpCall) {
    for part in [&call.method[..], b" ", &call.target, b" HTTP/1.1\r\nHost: ", &call.authority] {
        out.extend_from_slice(part);
    }
    out.extend_from_slice(b"\r\n");
    call.headers.write_lines(out, |line| !REMADE.has(line.known()));
    let mut body = call.body.clone();
    let mut framing = framing_of(call);
    match framing {
        Encoder::Length(bytes) => write_number_field(out, b"Content-Length", bytes),
        Encoder::Chunked => write_field(out, b"Transfer-Encoding", b"chunked"),
        Encoder::None | Encoder::UntilClose => {}
    }
    out.extend_from_slice(b"\r\n");
    let wrote = framing.write(out, &mut body, Some(&call.trailers));
    debug_assert!(wrote.is_ok(), "the length is the body's own");
}

/// A request without a body says so only where its method makes one expect it (RFC 9110 §8.6).
fn framing_of(call: &HttpCall) -> Encoder {
    let expects = matches!(&call.method[..], b"POST" | b"PUT" | b"PATCH");
    match call.body.len() {
        _ if !call.trailers.is_empty() => Encoder::Chunked,
        0 if !expects => Encoder::None,
        bytes => Encoder::Length(bytes as u64),
    }
}

impl CalloutReader {
    /// For the response to `call`.
    #[must_use]
    pub fn new(call: &HttpCall) -> Self {
        Self {
            head: ResponseHead::default(),
            head_read: false,
            decoder: Decoder::default(),
            to_head: call.method == b"HEAD",
            body_bytes_max: call.body_bytes_max,
            reply: HttpReply::default(),
        }
    }

    /// Reads from `input` what is there and removes it; true once the response is complete.
    ///
    /// # Errors
    /// It is no response, or too large a one.
    pub fn read(&mut self, input: &mut Vec<u8>) -> Result<bool, CallFailure> {
        while !self.head_read {
            let limits = HeadLimits::default();
            let parsed = self.head.parse(input, limits, self.to_head);
            if !parsed.map_err(|_| CallFailure::Garbage)? {
                return Ok(false);
            }
            self.on_head(input)?;
        }
        if !self.decoder.is_done() {
            self.on_body(input)?;
        }
        Ok(self.decoder.is_done())
    }

    /// The connection has ended: whether that completes the response.
    pub fn on_end(&mut self) -> bool {
        self.head_read && (self.decoder.is_done() || self.decoder.ends_with_connection())
    }

    /// The complete reply, and whether its connection may carry another request.
    #[must_use]
    pub fn into_reply(self) -> (HttpReply, bool) {
        (self.reply, self.head.keep_alive)
    }

    fn on_head(&mut self, input: &mut Vec<u8>) -> Result<(), CallFailure> {
        // A 101 was not asked for.
        if self.head.status == 101 {
            return Err(CallFailure::Garbage);
        }
        if !self.head.is_interim() {
            self.head_read = true;
            self.reply.status = self.head.status;
            self.reply.headers.adopt(&input[..self.head.len], &self.head.fields);
            self.decoder.begin(self.head.body);
            if let BodyLength::Known(bytes) = self.head.body
                && bytes > self.body_bytes_max as u64
            {
                return Err(CallFailure::TooLarge);
            }
        }
        input.drain(..self.head.len);
        Ok(())
    }

    fn on_body(&mut self, input: &mut Vec<u8>) -> Result<(), CallFailure> {
        let progress = self.decoder.decode(input, &mut self.reply.body);
        let progress = progress.map_err(|_| CallFailure::Garbage)?;
        input.drain(..progress.consumed);
        if self.reply.body.len() > self.body_bytes_max {
            return Err(CallFailure::TooLarge);
        }
        if progress.done && self.head.body == BodyLength::Chunked {
            let trailers = self.decoder.trailers(&mut self.reply.trailers);
            trailers.map_err(|_| CallFailure::Garbage)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Headers;
    use crate::plugin::{CallTarget, ReplyTo, Root};
    use std::sync::Weak;

    #[derive(Debug)]
    struct Nobody;

    impl Root for Nobody {}

    fn call(method: &str, body: &str) -> HttpCall {
        HttpCall {
            to: ReplyTo { root: Weak::<Nobody>::new(), id: 0 },
            upstream: CallTarget::Upstream(b"u"[..].into()),
            method: method.into(),
            target: b"/a?b".to_vec(),
            authority: b"auth.example".to_vec(),
            headers: Headers::new(),
            body: body.into(),
            trailers: Headers::new(),
            timeout_ms: 0,
            body_bytes_max: 10,
        }
    }

    fn written(call: &HttpCall) -> String {
        let mut out = Vec::new();
        write_call(&mut out, call);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn requests() {
        let mut get = call("GET", "");
        for (name, value) in [("content-length", "7"), ("te", "x"), ("host", "h"), ("x-a", "1")] {
            get.headers.append(name.as_bytes(), value.as_bytes());
        }
        let head = "GET /a?b HTTP/1.1\r\nHost: auth.example\r\nx-a: 1\r\n\r\n";
        assert_eq!(written(&get), head);
        let length = "POST /a?b HTTP/1.1\r\nHost: auth.example\r\nContent-Length: ";
        assert_eq!(written(&call("POST", "abc")), format!("{length}3\r\n\r\nabc"));
        assert_eq!(written(&call("POST", "")), format!("{length}0\r\n\r\n"));
        let mut with_trailers = call("PUT", "abc");
        with_trailers.trailers.append(b"x-sum", b"1");
        assert!(
            written(&with_trailers).ends_with("chunked\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n")
        );
    }

    /// Reads the response in pieces of `size` bytes.
    fn reply(method: &str, response: &str, size: usize) -> Result<Option<HttpReply>, CallFailure> {
        let mut reader = CalloutReader::new(&call(method, ""));
        let mut input = Vec::new();
        for piece in response.as_bytes().chunks(size) {
            input.extend_from_slice(piece);
            if reader.read(&mut input)? {
                return Ok(Some(reader.into_reply().0));
            }
        }
        Ok(if reader.on_end() { Some(reader.into_reply().0) } else { None })
    }

    #[test]
    fn replies() {
        let table = [
            ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "200 ok "),
            ("GET", "HTTP/1.1 200 OK\r\n\r\nok", "200 ok "),
            ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "200  "),
            ("GET", "HTTP/1.1 204 No\r\n\r\n", "204  "),
            (
                "GET",
                "HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 403 No\r\nContent-Length: 1\r\n\r\nn",
                "403 n ",
            ),
            (
                "GET",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nt: 1\r\n\r\n",
                "200 ok 1",
            ),
        ];
        for (method, response, expected) in table {
            for size in [1, 7, 1000] {
                let reply = reply(method, response, size).expect("valid").expect("complete");
                let trailer = reply.trailers.get(b"t").unwrap_or_default();
                let [body, trailer] = [&reply.body[..], trailer].map(String::from_utf8_lossy);
                assert_eq!(format!("{} {body} {trailer}", reply.status), expected, "{response}");
            }
        }
    }

    #[test]
    fn failures() {
        let cut = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok";
        assert!(reply("GET", cut, 9).expect("valid so far").is_none());
        for (response, failure) in [
            ("HTTP/1.1 101 Switch\r\n\r\n", CallFailure::Garbage),
            ("SSH-2.0-x\r\n\r\n", CallFailure::Garbage),
            ("HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n", CallFailure::TooLarge),
            ("HTTP/1.1 200 OK\r\n\r\n12345678901", CallFailure::TooLarge),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", CallFailure::Garbage),
        ] {
            assert_eq!(reply("GET", response, 1000).expect_err("bad"), failure, "{response}");
        }
    }
}
