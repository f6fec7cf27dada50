//! The request side: from the client's bytes to what goes upstream.

use super::body::Decoder;
use super::cause::Cause;
use super::flow::{Direction, Flow, Passed};
use super::forward::{CLAIMS, drop_claims};
use super::outgoing::remove_nominated;
use super::upstream::State;
use super::{Arrival, Cx, Exchange, Timer};
use crate::http::{BodyLength, Method, Version};
use crate::limits;

/// What has arrived of the request, and what of it is through its chain.
#[derive(Debug, Default)]
pub(super) struct RequestSide {
    pub(super) flow: Flow,
    decoder: Decoder,
    pub(super) method: Method,
    pub(super) version: Version,
    /// What the head said.
    pub(super) length: BodyLength,
    /// A read is running.
    pub(super) reading: bool,
    /// Since when, and how long all reads before it took, in milliseconds.
    pub(super) asked_ms: u64,
    pub(super) waited_ms: u64,
    /// Body bytes through the chain, not yet taken over by the upstream's output.
    pub(super) released: Vec<u8>,
    /// The client waits for a 100 and got none yet.
    expects_continue: bool,
    /// It offers another protocol, and may.
    pub(super) may_upgrade: bool,
    rest: Rest,
}

/// What becomes of request body bytes that nobody wants any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Rest {
    /// They are wanted.
    #[default]
    Wanted,
    /// They are read and thrown away, this many more.
    Discarded(u64),
    /// They are not even read: the connection closes.
    Refused,
}

impl RequestSide {
    pub(super) fn begin(&mut self, arrival: &Arrival<'_>) {
        self.flow.clear();
        self.decoder.begin(arrival.head.body);
        self.method = arrival.head.method;
        self.version = arrival.head.version;
        self.length = arrival.head.body;
        self.reading = false;
        self.waited_ms = 0;
        self.released.clear();
        self.released.shrink_to(limits::POOLED_BUFFER_BYTES_MAX);
        self.expects_continue = arrival.head.expect_continue;
        self.may_upgrade = arrival.head.upgrade && arrival.head.body == BodyLength::None;
        self.rest = Rest::Wanted;
    }

    /// Whether the whole request has been read.
    pub(super) fn is_complete(&self) -> bool {
        self.decoder.is_done()
    }

    /// Whether the end of the request is through its chain.
    pub(super) fn is_through(&self) -> bool {
        self.flow.headers_through && (self.length == BodyLength::None || self.flow.end_through)
    }

    /// Whether its bytes still have somewhere to go.
    pub(super) fn is_wanted(&self) -> bool {
        self.rest == Rest::Wanted
    }

    pub(super) fn is_discarding(&self) -> bool {
        matches!(self.rest, Rest::Discarded(_)) && !self.is_complete()
    }

    pub(super) fn wants_reading(&self, backlog: usize) -> bool {
        if self.reading || self.is_complete() {
            return false;
        }
        match self.rest {
            Rest::Wanted => {
                let waiting = backlog + self.released.len();
                self.flow.takes_body() && waiting < limits::BACKLOG_BYTES_MAX
            }
            Rest::Discarded(_) => true,
            Rest::Refused => false,
        }
    }

    /// The client is told to send its body, once.
    pub(super) fn take_continue(&mut self) -> bool {
        self.reading && std::mem::take(&mut self.expects_continue)
    }

    /// Nobody wants the rest of the body: small rests are read so that the connection can be kept.
    /// A client that still waits for a 100 may never send it (RFC 9110 §10.1.1).
    pub(super) fn drop_rest(&mut self) {
        if self.rest == Rest::Wanted {
            let small = self.decoder.left() <= limits::DISCARD_BYTES_MAX;
            let comes = small && !self.expects_continue;
            self.rest =
                if comes { Rest::Discarded(limits::DISCARD_BYTES_MAX) } else { Rest::Refused };
        }
    }

    /// Bytes were thrown away. Framing counts too: chunks of one byte must not come for free.
    fn count_discarded(&mut self, bytes: usize) {
        if let Rest::Discarded(budget) = &mut self.rest {
            *budget = budget.saturating_sub(bytes as u64);
            if *budget == 0 {
                self.refuse_rest();
            }
        }
    }

    /// Nothing more can be read from this client.
    pub(super) fn refuse_rest(&mut self) {
        self.rest = Rest::Refused;
    }

    /// Whether the connection can be kept as far as the request is concerned.
    pub(super) fn can_keep(&self) -> bool {
        self.rest != Rest::Refused
    }
}

impl Exchange {
    /// Copies the request into the message that plugins see.
    pub(super) fn fill_message(&mut self, arrival: &Arrival<'_>) {
        let facts = arrival.route.map(|number| self.pinned().facts(number));
        let message = &mut *self.message;
        message.clear();
        message.body.shrink_to(limits::POOLED_BUFFER_BYTES_MAX);
        message.connection = arrival.connection;
        message.request_number = arrival.number;
        message.started_ns = arrival.started_ns;
        message.route = facts;
        message.filter_state.inherit(arrival.kept);
        let (head, bytes) = (arrival.head, arrival.bytes);
        let request = &mut message.request;
        request.method.extend_from_slice(head.method_span.of(bytes));
        let target = head.target.of(bytes);
        match target.first() {
            // The last proxy turns an absolute-form of the server itself into `*` (RFC 9112
            // §3.2.4).
            None => request.target.push(if head.method == Method::Options { b'*' } else { b'/' }),
            Some(b'?') => request.target.push(b'/'),
            Some(_) => {}
        }
        request.target.extend_from_slice(target);
        request.path.extend_from_slice(arrival.path);
        request.authority.extend_from_slice(head.authority.of(bytes));
        request.version = head.version;
        request.headers.adopt(&bytes[..head.len], &head.fields);
        if head.nominates {
            remove_nominated(&mut request.headers);
        }
        request.body = head.body;
        if request.headers.has_any(CLAIMS) && !self.rules().trusts(self.message.sender()) {
            drop_claims(&mut self.message.request.headers);
        }
    }

    pub(super) fn on_request_head(&mut self, cx: &mut Cx<'_>) {
        let too_large = match (self.request.length, self.rules().body_bytes_max) {
            (BodyLength::Known(bytes), Some(most)) => bytes > most,
            _ => false,
        };
        if too_large {
            return self.fail_request(413, Cause::RequestTooLarge, cx);
        }
        let end = self.ends_with_headers(Direction::Request);
        let passed = self.pass_headers(Direction::Request, 0, end, cx);
        self.on_request_passed(passed, cx);
    }

    /// Bytes from the client that belong to the request's body. Gives how many were used; the
    /// others are the next request's and stay with the driver.
    pub fn on_downstream(&mut self, bytes: &[u8], cx: &mut Cx<'_>) -> usize {
        if self.is_tunnel() {
            return self.tunnel_up(bytes, cx);
        }
        self.request.reading = false;
        let took = cx.locals.now_ms.saturating_sub(self.request.asked_ms);
        self.request.waited_ms = self.request.waited_ms.saturating_add(took);
        self.request.expects_continue = false;
        self.timers.disarm(Timer::DownstreamRead);
        self.message.body.clear();
        let progress = match self.request.decoder.decode(bytes, &mut self.message.body) {
            Ok(progress) => progress,
            Err(rule) => {
                log::info!("request body refused: {rule}");
                self.fail_request(400, Cause::ClientMalformed, cx);
                return bytes.len();
            }
        };
        self.message.request_bytes += self.message.body.len() as u64;
        if !self.request.is_wanted() {
            self.message.body.clear();
            self.request.count_discarded(progress.consumed);
        } else if self.rules().body_bytes_max.is_some_and(|most| self.message.request_bytes > most)
        {
            self.fail_request(413, Cause::RequestTooLarge, cx);
        } else {
            self.on_body_piece(progress.done, cx);
        }
        progress.consumed
    }

    /// The client will send nothing more, in the middle of its request.
    pub fn on_downstream_end(&mut self, cx: &mut Cx<'_>) {
        let _ = cx;
        if self.is_tunnel() {
            return self.end_tunnel_up();
        }
        self.request.reading = false;
        self.timers.disarm(Timer::DownstreamRead);
        self.request.refuse_rest();
        if !self.response.is_complete() {
            self.abort(Cause::ClientClosed);
        }
    }

    /// The client's connection broke, or was found broken while nothing was read from it.
    pub fn on_downstream_broken(&mut self, cx: &mut Cx<'_>) {
        if self.is_tunnel() {
            return self.abort(Cause::ClientClosed);
        }
        self.on_downstream_end(cx);
    }

    fn on_body_piece(&mut self, done: bool, cx: &mut Cx<'_>) {
        if done && self.request.length == BodyLength::Chunked {
            let read = self.request.decoder.trailers(&mut self.message.request.trailers);
            if let Err(rule) = read {
                log::info!("request trailers refused: {rule}");
                return self.fail_request(400, Cause::ClientMalformed, cx);
            }
        }
        if self.message.body.is_empty() && !done {
            return;
        }
        let end = done && self.message.request.trailers.is_empty();
        let passed = self.pass_body(Direction::Request, 0, end, cx);
        let passed = match passed {
            Passed::Through | Passed::Held if done && !end => {
                self.release_request_body();
                self.pass_trailers(Direction::Request, 0, cx)
            }
            passed => passed,
        };
        self.on_request_passed(passed, cx);
    }

    /// What follows once the request went through its chain, as far as it did.
    pub(super) fn on_request_passed(&mut self, passed: Passed, cx: &mut Cx<'_>) {
        match passed {
            Passed::Through | Passed::Held => {
                self.disarm_hold(Direction::Request);
                self.release_request_body();
                if self.request.flow.headers_through && self.upstream.state == State::None {
                    self.want_upstream(cx);
                }
            }
            Passed::Respond(step) => self.respond(Some(step), cx),
            Passed::Close => self.abort(Cause::PluginClosed),
            Passed::TooMuch => self.fail_request(413, Cause::RequestTooLarge, cx),
            Passed::Fail(status) => self.answer(status, Cause::NoConsumerGroup, cx),
        }
    }

    /// The request is broken or too large: nothing after it on this connection can be trusted.
    pub(super) fn fail_request(&mut self, status: u16, cause: Cause, cx: &mut Cx<'_>) {
        self.request.refuse_rest();
        self.message.body.clear();
        if self.response.is_complete() {
            return;
        }
        self.answer(status, cause, cx);
    }

    fn release_request_body(&mut self) {
        let body = &mut self.message.body;
        if self.request.released.is_empty() {
            std::mem::swap(&mut self.request.released, body);
        } else {
            self.request.released.append(body);
        }
        body.clear();
    }
}
