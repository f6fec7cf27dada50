//! The upstream side: a peer, a connection to it, what it is sent, and trying again.
//!
//! ```text
//! None ─ headers through ─► Wanted ─ pick ─► Connecting ─► Open ─► Released | Closed
//!                             ▲                  │ failed     │ no response, safe to send again
//!                             └──────────────────┴────────────┘
//! ```

use super::body::Encoder;
use super::flow::Direction;
use super::{Command, Cx, Exchange, Timer, forward};
use crate::http::BodyLength;
use crate::limits;
use crate::plugin::{Hooks, ResponseSource};
use crate::snapshot::Target;
use crate::upstream::{Timeouts, Upstream};
use std::net::SocketAddr;

/// How far the upstream side is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    #[default]
    None,
    Wanted,
    Connecting,
    Open,
    /// Given back, closed, or never to be asked.
    Done,
}

#[derive(Debug, Default)]
pub(super) struct UpstreamSide {
    pub(super) state: State,
    upstream: usize,
    address: Option<SocketAddr>,
    /// Peers that failed this request.
    tried: Vec<usize>,
    tries: u32,
    first_try_ms: u64,
    /// The connection carried another request before: it may be stale.
    reused: bool,
    /// The next connection must not be an idle one.
    fresh: bool,
    out: Vec<u8>,
    sending: bool,
    pub(super) reading: bool,
    encoder: Encoder,
    head_written: bool,
    all_written: bool,
    body_sent: bool,
    pub(super) got_bytes: bool,
    /// Whether the connection may carry another request, as far as is known.
    pub(super) keeps: bool,
    close_wanted: bool,
}

impl UpstreamSide {
    pub(super) fn clear(&mut self) {
        let (mut out, mut tried) = (std::mem::take(&mut self.out), std::mem::take(&mut self.tried));
        out.clear();
        out.shrink_to(limits::POOLED_BUFFER_BYTES_MAX);
        tried.clear();
        *self = Self { out, tried, ..Self::default() };
    }

    /// Bytes waiting to be sent upstream.
    pub(super) fn backlog(&self) -> usize {
        self.out.len()
    }

    /// Nothing more will be asked of an upstream.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.state, State::None | State::Done)
    }

    /// The connection must not be used again.
    pub(super) fn spoil(&mut self) {
        match self.state {
            State::Connecting | State::Open => {
                self.close_wanted = true;
                self.state = State::Done;
            }
            State::None | State::Wanted => self.state = State::Done,
            State::Done => {}
        }
    }

    fn begin_connection(&mut self) {
        self.out.clear();
        self.sending = false;
        self.reading = false;
        self.head_written = false;
        self.all_written = false;
        self.got_bytes = false;
    }
}

impl Exchange {
    /// The request's headers are through their chain: it goes to its target.
    pub(super) fn want_upstream(&mut self, cx: &mut Cx<'_>) {
        match self.route().target {
            Target::Upstream(upstream) => {
                self.upstream.upstream = upstream;
                self.upstream.state = State::Wanted;
                self.upstream.first_try_ms = cx.locals.now_ms;
            }
            Target::Status(status) => self.answer(status, ResponseSource::Gateway, cx),
            Target::NoRoute => self.answer(404, ResponseSource::Gateway, cx),
        }
    }

    /// A connection is there; `reused`: it was idle.
    pub fn on_connected(&mut self, reused: bool, cx: &mut Cx<'_>) {
        let _ = cx;
        self.timers.disarm(Timer::Connect);
        if self.upstream.state != State::Connecting {
            return;
        }
        self.upstream.begin_connection();
        self.upstream.state = State::Open;
        self.upstream.reused = reused;
        self.upstream.keeps = true;
    }

    /// No connection could be made.
    pub fn on_connect_failed(&mut self, why: &str, cx: &mut Cx<'_>) {
        self.timers.disarm(Timer::Connect);
        if self.upstream.state == State::Connecting {
            self.on_no_response(502, why, cx);
        }
    }

    /// The upstream took everything, or not; the buffer comes back.
    pub fn on_upstream_sent(&mut self, mut buffer: Vec<u8>, sent: bool, cx: &mut Cx<'_>) {
        let _ = cx;
        self.upstream.sending = false;
        self.timers.disarm(Timer::UpstreamSend);
        if self.upstream.out.is_empty() {
            buffer.clear();
            self.upstream.out = buffer;
        }
        if !sent {
            // What went wrong is for the read to tell: the upstream may have answered before.
            self.upstream.keeps = false;
        }
    }

    /// A timer of this exchange is due.
    pub fn on_due(&mut self, cx: &mut Cx<'_>) {
        while let Some(timer) = self.timers.take_due(cx.locals.now_ms) {
            match timer {
                Timer::DownstreamRead => {
                    self.request.refuse_rest();
                    if self.response.has_begun() {
                        self.abort_unless_complete();
                    } else {
                        self.upstream.spoil();
                        self.answer(408, ResponseSource::Gateway, cx);
                    }
                }
                Timer::DownstreamSend => self.abort(),
                Timer::Connect => self.on_no_response(504, "did not accept in time", cx),
                Timer::UpstreamRead if !self.upstream.all_written => {
                    // It can't answer before it has the whole request, unless it wants to.
                    self.arm_upstream(Timer::UpstreamRead, cx);
                }
                Timer::UpstreamSend | Timer::UpstreamRead => self.on_upstream_stalled(cx),
                Timer::Hold => {
                    log::warn!("a plugin held a message for too long");
                    if self.response.has_begun() {
                        self.abort();
                    } else {
                        self.answer(504, ResponseSource::Gateway, cx);
                    }
                }
            }
        }
    }

    /// A sleep that a plugin asked for is over.
    pub fn on_slept(&mut self, cx: &mut Cx<'_>) {
        match self.pass_after_sleep(cx) {
            Some((Direction::Request, passed)) => self.on_request_passed(passed, cx),
            Some((Direction::Response, passed)) => self.on_response_headers_passed(passed, cx),
            None => {}
        }
    }

    /// Whether a message of that direction has a head only.
    pub(super) fn ends_with_headers(&self, direction: Direction) -> bool {
        match direction {
            Direction::Request => self.request.length == BodyLength::None,
            Direction::Response => self.message.response.body == BodyLength::None,
        }
    }

    pub(super) fn poll_upstream(&mut self, cx: &mut Cx<'_>) -> Option<Command> {
        if std::mem::take(&mut self.upstream.close_wanted) {
            return Some(Command::CloseUpstream);
        }
        match self.upstream.state {
            State::Wanted => self.pick(cx),
            State::Open => self.poll_open(cx),
            State::None | State::Connecting | State::Done => None,
        }
    }

    /// Before the exchange ends, its connection is kept or closed.
    pub(super) fn part_with_upstream(&mut self) -> Option<Command> {
        if std::mem::take(&mut self.upstream.close_wanted) {
            return Some(Command::CloseUpstream);
        }
        let state = std::mem::replace(&mut self.upstream.state, State::Done);
        let side = &self.upstream;
        match state {
            State::Open => {
                let clean = side.keeps && side.all_written && !side.sending && !side.reading;
                match side.address.filter(|_| clean && self.response.is_complete()) {
                    Some(address) => {
                        let policy = self.upstream_of(side.upstream).keep_alive;
                        Some(Command::ReleaseUpstream { address, policy })
                    }
                    None => Some(Command::CloseUpstream),
                }
            }
            State::Connecting => Some(Command::CloseUpstream),
            State::None | State::Wanted | State::Done => None,
        }
    }

    fn pick(&mut self, cx: &mut Cx<'_>) -> Option<Command> {
        let pinned = std::rc::Rc::clone(self.pinned());
        let picked = pinned.pick(self.upstream.upstream, &self.upstream.tried);
        let Some((number, address)) = picked.and_then(|(at, peer)| Some((at, peer.address?)))
        else {
            log::warn!(
                "no peer of upstream {} is left",
                self.upstream_of(self.upstream.upstream).name
            );
            self.upstream.state = State::Done;
            self.answer(502, ResponseSource::Gateway, cx);
            return None;
        };
        let side = &mut self.upstream;
        side.tried.push(number);
        side.tries += 1;
        side.address = Some(address);
        side.state = State::Connecting;
        self.message.upstream = Some(address);
        self.arm_upstream(Timer::Connect, cx);
        Some(Command::Connect { address, fresh: self.upstream.fresh })
    }

    fn poll_open(&mut self, cx: &mut Cx<'_>) -> Option<Command> {
        if !self.upstream.sending {
            self.write_upstream(cx);
        }
        if !self.upstream.sending && !self.upstream.out.is_empty() && self.upstream.keeps {
            self.upstream.sending = true;
            self.arm_upstream(Timer::UpstreamSend, cx);
            return Some(Command::SendUpstream(std::mem::take(&mut self.upstream.out)));
        }
        if self.upstream.head_written && !self.upstream.reading && self.response.wants_reading() {
            self.upstream.reading = true;
            self.arm_upstream(Timer::UpstreamRead, cx);
            return Some(Command::ReadUpstream);
        }
        None
    }

    /// Writes what is ready for the upstream: the head once, then body pieces, then the end.
    fn write_upstream(&mut self, cx: &mut Cx<'_>) {
        let through = self.request.is_through();
        if !self.upstream.head_written {
            let edits = self.route().chain.hooks().has(Hooks::REQUEST_BODY);
            let waits = edits && !through && self.request.released.is_empty();
            if waits {
                return;
            }
            self.write_upstream_head(through);
        }
        if self.upstream.all_written {
            return;
        }
        let (side, request) = (&mut self.upstream, &mut self.request);
        side.body_sent |= !request.released.is_empty();
        let mut wrote = side.encoder.write(&mut side.out, &request.released);
        request.released.clear();
        if through && wrote.is_ok() {
            wrote = side.encoder.finish(&mut side.out, &self.message.request.trailers);
            side.all_written = true;
        }
        if wrote.is_err() {
            log::warn!("a plugin changed a request body's length after its head was sent");
            self.upstream.spoil();
            if self.response.has_begun() {
                self.abort();
            } else {
                self.answer(500, ResponseSource::Gateway, cx);
            }
        }
    }

    fn write_upstream_head(&mut self, through: bool) {
        let kept = self.message.request.headers.get(b"content-length").is_some();
        self.upstream.encoder = match self.request.length {
            BodyLength::None if self.request.released.is_empty() => Encoder::None,
            _ if through => Encoder::Length(self.request.released.len() as u64),
            BodyLength::Known(bytes) if kept => Encoder::Length(bytes),
            _ => Encoder::Chunked,
        };
        let pinned = std::rc::Rc::clone(self.pinned());
        let upstream = &pinned.snapshot.upstreams[self.upstream.upstream];
        let peer = self.upstream.tried.last().map(|at| &upstream.peers[*at]);
        let side = &mut self.upstream;
        forward::write_request_head(&mut side.out, &self.message, upstream, peer, side.encoder);
        side.head_written = true;
    }

    /// The peer gave no response: another try where that is safe, else `status`.
    pub(super) fn on_no_response(&mut self, status: u16, why: &str, cx: &mut Cx<'_>) {
        let address = self.upstream.address;
        let connecting = self.upstream.state == State::Connecting;
        self.upstream.spoil();
        if self.may_try_again(connecting, cx) {
            log::info!("upstream {address:?} {why}; trying again");
            if self.upstream.reused && !connecting {
                // An idle connection that had gone stale is not the peer's failure.
                self.upstream.tried.pop();
                self.upstream.fresh = true;
                self.upstream.tries -= 1;
            }
            self.upstream.reused = false;
            self.upstream.state = State::Wanted;
            return;
        }
        log::warn!("upstream {address:?} {why}");
        self.answer(status, ResponseSource::Gateway, cx);
    }

    /// A request may be sent again if nothing of it can have had an effect: no connection was made,
    /// or its method is idempotent (RFC 9110 §9.2.2), and no body was used up.
    fn may_try_again(&self, connecting: bool, cx: &Cx<'_>) -> bool {
        let side = &self.upstream;
        if side.got_bytes && !connecting || side.body_sent || self.response.has_begun() {
            return false;
        }
        if !connecting && !self.request.method.is_idempotent() {
            return false;
        }
        if side.reused && !connecting {
            return true;
        }
        let upstream = self.upstream_of(side.upstream);
        let since = cx.locals.now_ms.saturating_sub(side.first_try_ms);
        let in_time = upstream.retry_ms == 0 || since < upstream.retry_ms;
        side.tries <= upstream.retries && in_time
    }

    fn on_upstream_stalled(&mut self, cx: &mut Cx<'_>) {
        log::warn!("upstream {:?} did not go on in time", self.upstream.address);
        self.upstream.spoil();
        if self.response.has_begun() {
            return self.abort();
        }
        self.answer(504, ResponseSource::Gateway, cx);
    }

    fn abort_unless_complete(&mut self) {
        if !self.response.is_complete() {
            self.abort();
        }
    }

    fn arm_upstream(&mut self, timer: Timer, cx: &Cx<'_>) {
        let Timeouts { connect_ms, send_ms, read_ms } = self
            .route()
            .timeouts
            .unwrap_or_else(|| self.upstream_of(self.upstream.upstream).timeouts);
        let after = match timer {
            Timer::Connect => connect_ms,
            Timer::UpstreamSend => send_ms,
            _ => read_ms,
        };
        self.timers.arm(timer, cx.locals.now_ms, after);
    }

    fn upstream_of(&self, number: usize) -> &Upstream {
        &self.pinned().snapshot.upstreams[number]
    }
}
