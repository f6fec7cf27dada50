//! The response side: from the upstream's bytes, or a local response, to what the client gets.

use super::body::{Decoder, Encoder};
use super::cause::Cause;
use super::flow::{Direction, Flow, Passed};
use super::outgoing::{remove_nominated, write_interim};
use super::retry::{Failure, Named, shown};
use super::{Arrival, Cx, Exchange, Timer};
use crate::http::{BodyLength, Method, Version};
use crate::limits;
use crate::plugin::{Hold, ResponseSource};

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
    pub(super) encoder: Encoder,
    /// The connection's output: earlier responses of the batch, then this one.
    pub(super) out: Vec<u8>,
    /// Where this response begins in the output, while nothing of it was given to the driver.
    unsent_at: Option<usize>,
    /// The other output buffer, while one is being sent.
    spare: Vec<u8>,
    /// A send is running.
    pub(super) sending: bool,
    /// The body of a local response until it enters the chain.
    pub(super) local_body: Vec<u8>,
    /// It is still to enter the chain.
    local_body_waits: bool,
    pub(super) local: bool,
    /// The local body is the gateway's page.
    pub(super) html: bool,
    pub(super) to_head: bool,
    pub(super) version: Version,
    pub(super) keeps_connection: bool,
    pub(super) length: BodyLength,
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
        self.unsent_at = None;
        self.spare.shrink_to(limits::POOLED_BUFFER_BYTES_MAX);
        self.sending = false;
        self.local_body.clear();
        self.local_body.shrink_to(limits::POOLED_BUFFER_BYTES_MAX);
        self.local_body_waits = false;
        self.local = false;
        self.html = false;
        self.length = BodyLength::None;
        self.decoder.begin(BodyLength::None);
        self.to_head = arrival.head.method == Method::Head;
        self.version = arrival.head.version;
        self.keeps_connection = arrival.head.keep_alive && !arrival.closing;
    }

    pub(super) fn begin_local(&mut self, length: BodyLength, html: bool) {
        self.stage = Stage::Passing;
        self.flow.clear();
        self.local = true;
        self.local_body_waits = true;
        self.html = html;
        self.length = length;
    }

    /// Whether there is no response yet.
    pub(super) fn is_waiting(&self) -> bool {
        self.stage == Stage::Waiting
    }

    /// The body of a local response enters the chain, once.
    pub(super) fn take_local_body_waits(&mut self) -> bool {
        std::mem::take(&mut self.local_body_waits)
    }

    /// Its head comes next in the output.
    pub(super) fn set_begun(&mut self) {
        self.stage = Stage::Begun;
        self.unsent_at = Some(self.out.len());
    }

    /// Takes back what is in the output of a response that is not whole, if nothing of it is on its
    /// way: another one may take its place. Tells whether that was so.
    pub(super) fn take_back(&mut self) -> bool {
        let at = self.unsent_at.take().filter(|_| self.stage == Stage::Begun);
        if let Some(at) = at {
            self.out.truncate(at);
            self.stage = Stage::Passing;
        }
        at.is_some()
    }

    pub(super) fn set_complete(&mut self) {
        self.stage = Stage::Complete;
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

    /// Output is sent at once while more is to come from elsewhere, and left to be gathered with
    /// the next response when this one is complete.
    pub(super) fn wants_sending(&self) -> bool {
        !self.sending && !self.out.is_empty()
    }

    pub(super) fn begin_sending(&mut self) -> Vec<u8> {
        self.sending = true;
        self.unsent_at = None;
        std::mem::replace(&mut self.out, std::mem::take(&mut self.spare))
    }

    /// Whether the upstream may be read further.
    pub(super) fn wants_reading(&self) -> bool {
        let room = self.out.len() < limits::BACKLOG_BYTES_MAX;
        match self.stage {
            Stage::Waiting => room,
            Stage::Passing | Stage::Begun => room && self.takes_upstream_body(),
            Stage::Complete => false,
        }
    }

    fn takes_upstream_body(&self) -> bool {
        !self.local && self.flow.takes_body() && !self.decoder.is_done()
    }
}

impl Exchange {
    /// Bytes from the upstream. Gives how many were used; the others stay with the driver and are
    /// shown again, at the next [`Command::ReadUpstream`](super::Command::ReadUpstream): at once if
    /// this call used any, else with more behind them.
    pub fn on_upstream(&mut self, bytes: &[u8], cx: &mut Cx<'_>) -> usize {
        if self.is_tunnel() {
            return self.tunnel_down(bytes, cx);
        }
        self.upstream.reading = false;
        self.upstream.got_bytes |= !bytes.is_empty();
        self.timers.disarm(Timer::UpstreamRead);
        let mut used = 0;
        while self.response.is_waiting()
            && let Some(len) = self.on_upstream_head(&bytes[used..], cx)
        {
            used += len;
        }
        if self.is_tunnel() {
            return used + self.tunnel_down(&bytes[used..], cx);
        }
        if !self.response.is_waiting() && self.response.takes_upstream_body() {
            used += self.on_upstream_body(&bytes[used..], cx);
        }
        // Bytes behind a response belong to nobody: its connection can't be trusted.
        self.upstream.leftover = used < bytes.len();
        used
    }

    /// The upstream closed its connection properly.
    pub fn on_upstream_end(&mut self, cx: &mut Cx<'_>) {
        if self.is_tunnel() {
            return self.end_tunnel_down();
        }
        let ends = !self.response.is_waiting() && self.response.decoder.ends_with_connection();
        if !ends {
            return self.on_upstream_broken("closed too early", cx);
        }
        self.upstream.reading = false;
        self.spoil_upstream();
        self.message.attempts.received_ns = self.now_ns(cx);
        self.message.body.clear();
        self.pass_response_piece(true, cx);
    }

    /// The upstream's connection broke: not even a body that ends with its connection is whole.
    pub fn on_upstream_broken(&mut self, why: &str, cx: &mut Cx<'_>) {
        self.upstream.reading = false;
        self.timers.disarm(Timer::UpstreamRead);
        if self.is_tunnel() {
            return self.abort(Cause::UpstreamClosed);
        }
        if self.response.is_waiting() {
            return self.on_no_response(Failure::Closed, why, cx);
        }
        let address = shown(self.upstream.address.as_ref());
        log::warn!("{}upstream {address} {why}", Named(&self.message));
        self.spoil_upstream();
        if !self.response.is_complete() {
            self.answer(502, Cause::UpstreamClosed, cx);
        }
    }

    /// The client took a part of what is sent to it: its time begins anew.
    pub fn on_downstream_takes(&mut self, cx: &Cx<'_>) {
        if self.is_tunnel() {
            return self.arm_tunnel(cx);
        }
        self.arm_downstream_send(cx);
    }

    pub(super) fn arm_downstream_send(&mut self, cx: &Cx<'_>) {
        let send_ms = self.rules().send_ms;
        self.timers.arm(Timer::DownstreamSend, cx.locals.now_ms, send_ms);
    }

    /// The client took everything, or not; the buffer comes back.
    pub fn on_downstream_sent(&mut self, mut buffer: Vec<u8>, sent: bool, cx: &mut Cx<'_>) {
        self.response.sending = false;
        self.timers.disarm(Timer::DownstreamSend);
        buffer.clear();
        if self.response.out.capacity() == 0 {
            self.response.out = buffer;
        } else {
            self.response.spare = buffer;
        }
        if self.is_tunnel() {
            return self.on_tunnel_sent(sent, cx);
        }
        if !sent {
            self.response.out.clear();
            self.request.refuse_rest();
            self.abort(Cause::ClientClosed);
        }
    }

    /// A head may be there. Gives the bytes it took, or `None` if more are needed or it was
    /// refused.
    fn on_upstream_head(&mut self, bytes: &[u8], cx: &mut Cx<'_>) -> Option<usize> {
        let limits = self.rules().head;
        match self.reply.parse(bytes, limits, self.request.method == Method::Head) {
            Ok(true) => {}
            Ok(false) => return None,
            Err(rule) => {
                self.on_no_response(Failure::Garbage, rule.0, cx);
                return None;
            }
        }
        let len = self.reply.len;
        if self.reply.is_interim() {
            self.pass_interim(bytes);
            return Some(len);
        }
        if self.reply.status == 101 {
            if self.begin_tunnel(bytes, cx) {
                return Some(len);
            }
            self.on_no_response(Failure::Garbage, "switched protocols unasked", cx);
            return None;
        }
        self.take_upstream_head(bytes);
        self.note_status();
        let end = self.ends_with_headers(Direction::Response);
        self.message.attempts.head_ns = self.now_ns(cx);
        if end {
            self.message.attempts.received_ns = self.message.attempts.head_ns;
        }
        let passed = self.pass_headers(Direction::Response, 0, end, cx);
        self.on_response_headers_passed(passed, cx);
        Some(len)
    }

    fn take_upstream_head(&mut self, bytes: &[u8]) {
        self.response.stage = Stage::Passing;
        self.response.decoder.begin(self.reply.body);
        self.response.length = self.reply.body;
        self.upstream.keeps &= self.reply.keep_alive;
        self.adopt_reply(bytes);
        self.message.response.body = self.reply.body;
        self.message.apply_response_fields();
    }

    /// The upstream's head, which is in `bytes`, is the message's.
    pub(super) fn adopt_reply(&mut self, bytes: &[u8]) {
        let response = &mut self.message.response;
        response.status = self.reply.status;
        response.source = ResponseSource::Upstream;
        response.details.clear();
        response.details.extend_from_slice(b"via_upstream");
        response.headers.adopt(&bytes[..self.reply.len], &self.reply.fields);
        if self.reply.nominates {
            remove_nominated(&mut response.headers);
        }
    }

    /// 1xx responses pass by the plugins (Proxy-Wasm reference §9). 100 is ours: we answered the
    /// client's expectation ourselves. HTTP/1.0 clients know none (RFC 9110 §15.2).
    fn pass_interim(&mut self, bytes: &[u8]) {
        if self.reply.status == 100 || self.response.version == Version::Http10 {
            return;
        }
        let via = self.rules().via;
        write_interim(&mut self.response.out, &self.reply, bytes, via);
    }

    fn on_upstream_body(&mut self, bytes: &[u8], cx: &mut Cx<'_>) -> usize {
        if self.body_passes_by()
            && let Some((piece, done)) = self.response.decoder.plain(bytes)
        {
            self.pass_body_by(piece, done, cx);
            return piece.len();
        }
        self.message.body.clear();
        let progress = match self.response.decoder.decode(bytes, &mut self.message.body) {
            Ok(progress) => progress,
            Err(rule) => {
                let address = shown(self.upstream.address.as_ref());
                log::warn!("{}upstream {address} sent a bad body: {rule}", Named(&self.message));
                self.answer(502, Cause::UpstreamMalformed, cx);
                return bytes.len();
            }
        };
        if progress.done {
            self.message.attempts.received_ns = self.now_ns(cx);
        }
        if progress.done && self.response.length == BodyLength::Chunked {
            // The decoder has checked the trailer section already.
            let _ = self.response.decoder.trailers(&mut self.message.response.trailers);
        }
        if progress.done || !self.message.body.is_empty() {
            self.pass_response_piece(progress.done, cx);
        }
        progress.consumed
    }

    /// Whether nobody looks at the body, and its head is written: it goes to the client as it is.
    fn body_passes_by(&self) -> bool {
        self.response.has_begun()
            && self.response.encoder != Encoder::None
            && !self.has_response_body_hooks()
            && self.message.response.trailers.is_empty()
    }

    fn pass_body_by(&mut self, piece: &[u8], done: bool, cx: &mut Cx<'_>) {
        if done {
            self.message.attempts.received_ns = self.now_ns(cx);
            self.response.flow.end_through = true;
        }
        self.message.response_bytes += piece.len() as u64;
        let response = &mut self.response;
        let end = done.then_some(&self.message.response.trailers);
        if response.encoder.copy(&mut response.out, piece, end).is_err() {
            return self.on_length_broken();
        }
        if done {
            self.complete_response();
        }
    }

    fn pass_response_piece(&mut self, done: bool, cx: &mut Cx<'_>) {
        let end = done && self.message.response.trailers.is_empty();
        let mut passed = self.pass_body(Direction::Response, 0, end, cx);
        if passed.goes_on() && done && !end {
            if passed == Passed::Through {
                self.write_response_piece(false, cx);
            }
            passed = self.pass_trailers(Direction::Response, 0, cx);
        }
        self.on_response_body_passed(passed, cx);
    }

    /// What follows once the response's headers went through, as far as they did.
    pub(super) fn on_response_headers_passed(&mut self, passed: Passed, cx: &mut Cx<'_>) {
        match passed {
            Passed::Through => {
                self.disarm_hold(Direction::Response);
                self.on_response_headers_through(cx);
            }
            Passed::Held => {
                let body_goes_on = matches!(self.response.flow.held, Some((_, Hold::Body)));
                if body_goes_on && self.response.length != BodyLength::None {
                    self.pass_local_body(cx);
                }
            }
            Passed::Respond(step) => self.respond(Some(step), cx),
            Passed::Close | Passed::TooMuch | Passed::Fail(_) => self.abort(Cause::PluginClosed),
        }
    }

    fn on_response_headers_through(&mut self, cx: &mut Cx<'_>) {
        if self.response.length == BodyLength::None {
            self.message.body.clear();
            if self.message.response.body != BodyLength::None {
                // A plugin announced a body where there was none: its body callback makes it.
                let passed = self.pass_body(Direction::Response, 0, true, cx);
                return self.on_response_body_passed(passed, cx);
            }
            self.response.flow.end_through = true;
            return self.write_response_piece(true, cx);
        }
        if self.response.local {
            return self.pass_local_body(cx);
        }
        if !self.has_response_body_hooks() {
            // Nobody can change the body: the head need not wait for it.
            self.write_response_head(None, cx);
        }
    }

    pub(super) fn on_response_body_passed(&mut self, passed: Passed, cx: &mut Cx<'_>) {
        match passed {
            Passed::Through => {
                self.disarm_hold(Direction::Response);
                self.write_response_piece(self.response.flow.end_through, cx);
            }
            Passed::Held => self.disarm_hold(Direction::Response),
            Passed::Respond(step) => self.respond(Some(step), cx),
            Passed::Close | Passed::Fail(_) => self.abort(Cause::PluginClosed),
            Passed::TooMuch => {
                // Proxy-Wasm reference §9.
                log::warn!("a plugin holds back more of a response than its limit");
                self.answer(500, Cause::ResponseTooLarge, cx);
            }
        }
    }
}
