//! The response side: from the upstream's bytes, or a local response, to what the client gets.

use super::body::{Decoder, Encoder};
use super::flow::{Direction, Flow, Passed};
use super::{Arrival, Cx, Exchange, Timer};
use crate::http::{
    BodyLength, Method, Version, write_field, write_number_field, write_status_line,
};
use crate::limits;
use crate::plugin::ResponseSource;
use crate::snapshot::{has_length, write_local_head};

/// What has arrived of the response, and what of it went out.
///
/// ```text
/// Waiting ─ a head, or a local response ─► Passing ─ first byte to the client ─► Begun ─► Complete
/// ```
#[derive(Debug, Default)]
pub(super) struct ResponseSide {
    pub(super) flow: Flow,
    stage: Stage,
    decoder: Decoder,
    encoder: Encoder,
    /// The connection's output: earlier responses of the batch, then this one.
    pub(super) out: Vec<u8>,
    /// A send is running.
    pub(super) sending: bool,
    /// The body of a local response until its headers are through.
    pub(super) local_body: Vec<u8>,
    local: bool,
    /// The local body is the gateway's page.
    html: bool,
    to_head: bool,
    version: Version,
    pub(super) keeps_connection: bool,
    length: BodyLength,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Waiting,
    Passing,
    Begun,
    Complete,
}

impl ResponseSide {
    pub(super) fn begin(&mut self, arrival: &Arrival<'_>, out: Vec<u8>) {
        self.flow.clear();
        self.stage = Stage::Waiting;
        self.out = out;
        self.sending = false;
        self.local = false;
        self.html = false;
        self.length = BodyLength::None;
        self.decoder.begin(BodyLength::None);
        self.to_head = arrival.head.method == Method::Head;
        self.version = arrival.head.version;
        self.keeps_connection = arrival.head.keep_alive && !arrival.closing;
    }

    pub(super) fn begin_local(&mut self, html: bool) {
        self.stage = Stage::Passing;
        self.flow.clear();
        self.local = true;
        self.html = html;
    }

    pub(super) fn is_complete(&self) -> bool {
        self.stage == Stage::Complete
    }

    /// Whether the response is in its chain, and nothing of it went to the client.
    pub(super) fn is_passing(&self) -> bool {
        self.stage == Stage::Passing
    }

    /// Whether some of it is in the output: it can only be finished or cut off.
    pub(super) fn has_begun(&self) -> bool {
        matches!(self.stage, Stage::Begun | Stage::Complete)
    }

    /// Output is sent at once while more is to come from elsewhere, and left to be gathered with the
    /// next response when this one is complete.
    pub(super) fn wants_sending(&self) -> bool {
        !self.sending && !self.out.is_empty()
    }

    pub(super) fn begin_sending(&mut self) -> Vec<u8> {
        self.sending = true;
        std::mem::take(&mut self.out)
    }

    /// Whether the upstream may be read further.
    pub(super) fn wants_reading(&self) -> bool {
        match self.stage {
            Stage::Waiting => true,
            Stage::Passing | Stage::Begun => {
                !self.local && self.flow.takes_body() && self.out.len() < limits::BACKLOG_BYTES_MAX
            }
            Stage::Complete => false,
        }
    }
}

impl Exchange {
    /// Bytes from the upstream. Gives how many were used; others stay with the driver until the
    /// next [`Command::ReadUpstream`](super::Command::ReadUpstream).
    pub fn on_upstream(&mut self, bytes: &[u8], cx: &mut Cx<'_>) -> usize {
        self.upstream.reading = false;
        self.timers.disarm(Timer::UpstreamRead);
        let mut used = 0;
        while self.response.stage == Stage::Waiting {
            match self.on_upstream_head(&bytes[used..], cx) {
                Some(len) => used += len,
                None => return used,
            }
        }
        if self.response.local || !self.response.flow.takes_body() || self.response.is_complete() {
            return self.leave_rest(bytes, used);
        }
        used += self.on_upstream_body(&bytes[used..], cx);
        self.leave_rest(bytes, used)
    }

    /// The upstream closed, or the connection broke.
    pub fn on_upstream_end(&mut self, cx: &mut Cx<'_>) {
        self.upstream.reading = false;
        self.upstream.spoil();
        self.timers.disarm(Timer::UpstreamRead);
        match self.response.stage {
            Stage::Waiting => self.on_no_response(502, "closed before its response", cx),
            Stage::Passing | Stage::Begun if self.response.decoder.ends_with_connection() => {
                self.message.body.clear();
                self.pass_response_piece(true, cx);
            }
            Stage::Passing | Stage::Begun => {
                let upstream = self.message.upstream;
                log::warn!("upstream {upstream:?} closed in the middle of its response");
                self.abort_cut_off(cx);
            }
            Stage::Complete => {}
        }
    }

    /// The client took everything; the buffer comes back.
    pub fn on_downstream_sent(&mut self, mut buffer: Vec<u8>, sent: bool, cx: &mut Cx<'_>) {
        let _ = cx;
        self.response.sending = false;
        self.timers.disarm(Timer::DownstreamSend);
        if self.response.out.is_empty() {
            buffer.clear();
            self.response.out = buffer;
        }
        if !sent {
            self.response.out.clear();
            self.request.refuse_rest();
            self.abort();
        }
    }

    /// A head may be there. Gives the bytes it took, or `None` if more are needed or it was refused.
    fn on_upstream_head(&mut self, bytes: &[u8], cx: &mut Cx<'_>) -> Option<usize> {
        let limits = self.rules().head;
        match self.reply.parse(bytes, limits, self.response.to_head) {
            Ok(true) => {}
            Ok(false) => {
                self.upstream.got_bytes |= !bytes.is_empty();
                return None;
            }
            Err(rule) => {
                log::warn!("upstream {:?} refused: {rule}", self.message.upstream);
                self.upstream.got_bytes = true;
                self.on_no_response(502, "sent an invalid response", cx);
                return None;
            }
        }
        self.upstream.got_bytes = true;
        let len = self.reply.len;
        if self.reply.is_interim() {
            self.pass_interim(bytes);
            return Some(len);
        }
        if self.reply.status == 101 {
            self.on_no_response(502, "switched protocols unasked", cx);
            return None;
        }
        self.take_upstream_head(bytes);
        let end = self.response.length == BodyLength::None;
        let passed = self.pass_headers(Direction::Response, 0, end, cx);
        self.on_response_headers_passed(passed, cx);
        Some(len)
    }

    fn take_upstream_head(&mut self, bytes: &[u8]) {
        self.response.stage = Stage::Passing;
        self.response.decoder.begin(self.reply.body);
        self.response.length = self.reply.body;
        self.upstream.keeps &= self.reply.keep_alive;
        let response = &mut self.message.response;
        response.status = self.reply.status;
        response.source = ResponseSource::Upstream;
        response.headers.adopt(&bytes[..self.reply.len], &self.reply.fields);
        response.body = self.reply.body;
    }

    /// 1xx responses pass by the plugins (Proxy-Wasm reference §9). 100 is ours: we answered the
    /// client's expectation ourselves. HTTP/1.0 clients know none (RFC 9110 §15.2).
    fn pass_interim(&mut self, bytes: &[u8]) {
        if self.reply.status == 100 || self.response.version == Version::Http10 {
            return;
        }
        let out = &mut self.response.out;
        write_status_line(out, self.reply.status);
        for field in &self.reply.fields {
            let (name, value) = (field.name.of(bytes), field.value.of(bytes));
            if !is_hop_by_hop(name) {
                write_field(out, name, value);
            }
        }
        out.extend_from_slice(b"\r\n");
    }

    fn on_upstream_body(&mut self, bytes: &[u8], cx: &mut Cx<'_>) -> usize {
        if self.response.decoder.is_done() {
            return 0;
        }
        self.message.body.clear();
        let progress = match self.response.decoder.decode(bytes, &mut self.message.body) {
            Ok(progress) => progress,
            Err(rule) => {
                log::warn!("upstream {:?} sent a bad body: {rule}", self.message.upstream);
                self.upstream.spoil();
                self.abort_cut_off(cx);
                return bytes.len();
            }
        };
        if progress.done && self.response.length == BodyLength::Chunked {
            // The decoder has checked the trailer section already.
            let _ = self.response.decoder.trailers(&mut self.message.response.trailers);
        }
        if progress.done || !self.message.body.is_empty() {
            self.pass_response_piece(progress.done, cx);
        }
        progress.consumed
    }

    fn pass_response_piece(&mut self, done: bool, cx: &mut Cx<'_>) {
        let end = done && self.message.response.trailers.is_empty();
        let mut passed = Passed::Through;
        if self.has_response_body_hooks() {
            passed = self.pass_body(Direction::Response, 0, end, cx);
        } else {
            self.response.flow.end_through |= end;
        }
        if matches!(passed, Passed::Through | Passed::Held) && done && !end {
            if passed == Passed::Through {
                self.write_response_piece(false, cx);
            }
            passed = self.pass_trailers(Direction::Response, cx);
        }
        self.on_response_body_passed(passed, cx);
    }

    /// What follows once the response's headers went through, as far as they did.
    pub(super) fn on_response_headers_passed(&mut self, passed: Passed, cx: &mut Cx<'_>) {
        match passed {
            Passed::Through => {
                self.timers.disarm(Timer::Hold);
                self.on_response_headers_through(cx);
            }
            Passed::Held => {}
            Passed::Respond(step) => self.respond(Some(step), cx),
            Passed::Close | Passed::TooMuch => self.abort(),
        }
    }

    fn on_response_headers_through(&mut self, cx: &mut Cx<'_>) {
        if self.response.local {
            return self.pass_local_body(cx);
        }
        if self.response.length == BodyLength::None {
            self.response.flow.end_through = true;
            self.message.body.clear();
            return self.write_response_piece(true, cx);
        }
        if !self.has_response_body_hooks() {
            // Nobody can change the body: the head need not wait for it.
            self.write_response_head(None, cx);
        }
    }

    pub(super) fn on_response_body_passed(&mut self, passed: Passed, cx: &mut Cx<'_>) {
        match passed {
            Passed::Through => self.write_response_piece(self.response.flow.end_through, cx),
            Passed::Held => {}
            Passed::Respond(step) if !self.response.has_begun() => self.respond(Some(step), cx),
            Passed::Respond(_) | Passed::Close => self.abort(),
            Passed::TooMuch => self.on_held_too_much(cx),
        }
    }

    /// A plugin holds back more of the response than it may (Proxy-Wasm reference §9).
    fn on_held_too_much(&mut self, cx: &mut Cx<'_>) {
        log::warn!("a plugin holds back more of a response than its limit");
        self.message.body.clear();
        if self.response.has_begun() {
            return self.abort();
        }
        self.message.respond(500, None);
        self.message.response.source = ResponseSource::Gateway;
        self.respond(None, cx);
    }

    /// Writes the piece in `message.body`, the head before it if that is still to come, and the end.
    pub(super) fn write_response_piece(&mut self, end: bool, cx: &mut Cx<'_>) {
        if !end && self.message.body.is_empty() {
            return;
        }
        if !self.response.has_begun() {
            let whole = end.then_some(self.message.body.len() as u64);
            self.write_response_head(whole, cx);
        }
        let bytes = self.message.body.len() as u64;
        let mut encoder = self.response.encoder;
        let body = if self.response.to_head { &[][..] } else { &self.message.body[..] };
        let mut wrote = encoder.write(&mut self.response.out, body);
        if end && wrote.is_ok() && !self.response.to_head {
            wrote = encoder.finish(&mut self.response.out, &self.message.response.trailers);
        }
        self.response.encoder = encoder;
        self.message.body.clear();
        if wrote.is_err() {
            log::warn!("a plugin changed a body's length after its head was sent");
            return self.abort();
        }
        self.message.response_bytes += bytes;
        if end {
            self.complete_response();
        }
    }

    fn complete_response(&mut self) {
        self.response.stage = Stage::Complete;
        self.timers.disarm(Timer::Hold);
        if !self.request.is_complete() {
            self.request.drop_rest();
        }
    }

    /// Writes the head. `whole`: the body's length if all of it is here.
    fn write_response_head(&mut self, whole: Option<u64>, cx: &mut Cx<'_>) {
        self.response.stage = Stage::Begun;
        if !self.request.is_complete() && self.upstream.is_done() {
            self.request.drop_rest();
        }
        let (response, message) = (&mut self.response, &*self.message);
        let out = &mut response.out;
        let status = message.response.status;
        let headers = &message.response.headers;
        if response.local {
            write_local_head(out, status, headers, response.html, cx.date);
        } else {
            write_status_line(out, status);
            write_upstream_fields(out, headers, cx.date.as_bytes());
            if status >= 500 {
                write_number_field(out, b"X-APISIX-Upstream-Status", u64::from(status));
            }
        }
        let kept = message.response.headers.get(b"content-length");
        response.encoder = choose_framing(
            response.to_head,
            response.version,
            response.length,
            status,
            whole,
            kept,
        );
        match (response.to_head && response.local, whole) {
            (true, Some(bytes)) if has_length(status) => {
                write_number_field(out, b"Content-Length", bytes);
            }
            _ => write_framing(out, response.encoder, status, response.to_head, kept),
        }
        if response.encoder == Encoder::UntilClose {
            response.keeps_connection = false;
        }
        response.keeps_connection &= self.request.can_keep();
        if !response.keeps_connection {
            write_field(out, b"Connection", b"close");
        } else if response.version == Version::Http10 {
            write_field(out, b"Connection", b"keep-alive");
        }
        out.extend_from_slice(b"\r\n");
    }

    /// The response can't be completed. What the client has must not look whole.
    fn abort_cut_off(&mut self, cx: &mut Cx<'_>) {
        if self.response.has_begun() {
            return self.abort();
        }
        self.message.body.clear();
        self.message.respond(502, None);
        self.message.response.source = ResponseSource::Gateway;
        self.respond(None, cx);
    }

    /// Bytes after a complete response belong to nobody: the connection can't be trusted.
    fn leave_rest(&mut self, bytes: &[u8], used: usize) -> usize {
        if self.response.is_complete() && !self.response.local && used < bytes.len() {
            log::warn!("upstream {:?} sent more than it declared", self.message.upstream);
            self.upstream.spoil();
        }
        used
    }
}

/// How the body goes out: by its length where that is known, else chunked, else until the connection
/// ends (HTTP/1.0). A length a plugin left in the headers of a body in pieces is trusted and checked.
fn choose_framing(
    to_head: bool,
    version: Version,
    length: BodyLength,
    status: u16,
    whole: Option<u64>,
    kept: Option<&[u8]>,
) -> Encoder {
    if to_head || status == 204 || status == 304 {
        return Encoder::None;
    }
    match (whole, length, kept) {
        (Some(bytes), ..) => Encoder::Length(bytes),
        (None, BodyLength::Known(bytes), Some(_)) => Encoder::Length(bytes),
        _ if version == Version::Http11 => Encoder::Chunked,
        _ => Encoder::UntilClose,
    }
}

fn write_framing(
    out: &mut Vec<u8>,
    encoder: Encoder,
    status: u16,
    to_head: bool,
    kept: Option<&[u8]>,
) {
    match encoder {
        Encoder::Length(bytes) => write_number_field(out, b"Content-Length", bytes),
        Encoder::Chunked => write_field(out, b"Transfer-Encoding", b"chunked"),
        Encoder::UntilClose => {}
        // To HEAD and in a 304 the length is what a GET would have got (RFC 9110 §8.6).
        Encoder::None if to_head || status == 304 => {
            if let Some(length) = kept {
                write_field(out, b"Content-Length", length);
            }
        }
        Encoder::None => {}
    }
}

/// The upstream's fields without those of its connection; our Server, its Date or ours.
fn write_upstream_fields(out: &mut Vec<u8>, headers: &crate::http::Headers, date: &[u8]) {
    let mut dated = false;
    let nominated = headers.get(b"connection").filter(|value| names_fields(value));
    for (name, value) in headers.iter() {
        let dropped = is_hop_by_hop(name)
            || name.eq_ignore_ascii_case(b"content-length")
            || name.eq_ignore_ascii_case(b"server")
            || nominated.is_some_and(|options| is_nominated(options, name));
        if dropped {
            continue;
        }
        dated |= name.eq_ignore_ascii_case(b"date");
        write_field(out, name, value);
    }
    if !dated {
        write_field(out, b"Date", date);
    }
    write_field(out, b"Server", b"ringgate");
}

/// Whether a Connection value has options beside `close` and `keep-alive`.
pub(super) fn names_fields(value: &[u8]) -> bool {
    crate::http::list_members(value).any(|option| {
        !option.eq_ignore_ascii_case(b"close") && !option.eq_ignore_ascii_case(b"keep-alive")
    })
}

/// Whether a Connection value names that field (RFC 9110 §7.6.1).
pub(super) fn is_nominated(options: &[u8], name: &[u8]) -> bool {
    crate::http::list_members(options).any(|option| option.eq_ignore_ascii_case(name))
}

/// Fields that belong to one connection only (RFC 9110 §7.6.1).
pub(super) fn is_hop_by_hop(name: &[u8]) -> bool {
    match name.len() {
        2 => name.eq_ignore_ascii_case(b"te"),
        7 => name.eq_ignore_ascii_case(b"upgrade"),
        10 => name.eq_ignore_ascii_case(b"connection") || name.eq_ignore_ascii_case(b"keep-alive"),
        16 => name.eq_ignore_ascii_case(b"proxy-connection"),
        17 => name.eq_ignore_ascii_case(b"transfer-encoding"),
        19 => name.eq_ignore_ascii_case(b"proxy-authorization"),
        _ => false,
    }
}
