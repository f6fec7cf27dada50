//! The upstream side: a peer, a connection to it, and what it is sent.
//!
//! ```text
//! None ─ headers through ─► Wanted ─ pick ─► Connecting ─► Open ─► Done: kept or closed
//!                             ▲                  │ failed     │ no response, safe to send again
//!                             └──────────────────┴────────────┘ (super::retry)
//! ```

use super::body::Encoder;
use super::cause::Cause;
use super::flow::Direction;
use super::forward::{self, Forwarding};
use super::outgoing::trusted_length;
use super::retry::Named;
use super::{Carries, Command, Cx, Exchange, Timer};
use crate::http::{BodyLength, Known, Method};
use crate::limits;
use crate::plugin::{Connection, Hooks, LogFormat};
use crate::proxy_protocol;
use crate::snapshot::Target;
use crate::upstream::{Address, Ask, Balancer, KeepAlive, Timeouts, Upstream, hash_of};
use std::net::SocketAddr;
use std::rc::Rc;

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
    pub(super) upstream: usize,
    pub(super) address: Option<Address>,
    /// Peers that failed this request, and the one in use.
    pub(super) tried: Vec<usize>,
    pub(super) tries: u32,
    pub(super) first_try_ms: u64,
    /// The peer in use has this request among those in flight.
    counted: bool,
    terms: Terms,
    /// The connection carried another request before: it may be stale.
    pub(super) reused: bool,
    /// The last connection was stale: the same peer is asked again, not over an idle one.
    pub(super) fresh: bool,
    out: Vec<u8>,
    /// The other output buffer, while one is being sent.
    spare: Vec<u8>,
    pub(super) sending: bool,
    /// A send failed: the peer takes nothing more, but may have answered.
    pub(super) send_failed: bool,
    pub(super) reading: bool,
    encoder: Encoder,
    head_written: bool,
    pub(super) all_written: bool,
    pub(super) body_sent: bool,
    pub(super) got_bytes: bool,
    /// The driver has bytes of this connection that the exchange did not use.
    pub(super) leftover: bool,
    /// Whether the connection may carry another request, as far as is known.
    pub(super) keeps: bool,
    close_wanted: bool,
    /// It was asked to switch protocols, and may.
    pub(super) offered_upgrade: bool,
    forwarding: Forwarding,
}

/// What the upstream and the route say of every attempt, looked up once.
#[derive(Clone, Copy, Debug, Default)]
struct Terms {
    /// The route's, or else the upstream's.
    timeouts: Timeouts,
    keep_alive: KeepAlive,
    /// Somebody wants to know how long things take.
    timed: bool,
    /// New connections begin with who they are made for.
    introduces: bool,
    endpoints: u32,
}

impl UpstreamSide {
    pub(super) fn clear(&mut self) {
        let mut out = std::mem::take(&mut self.out);
        let mut spare = std::mem::take(&mut self.spare);
        let mut tried = std::mem::take(&mut self.tried);
        let forwarding = std::mem::take(&mut self.forwarding);
        tried.clear();
        for buffer in [&mut out, &mut spare] {
            buffer.clear();
            buffer.shrink_to(limits::POOLED_BUFFER_BYTES_MAX);
        }
        *self = Self { out, spare, tried, forwarding, ..Self::default() };
    }

    /// Bytes waiting to be sent upstream.
    pub(super) fn backlog(&self) -> usize {
        self.out.len()
    }

    /// Adds to what waits to be sent.
    pub(super) fn add_output(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// What waits, to be sent now, unless a send runs or nothing waits.
    pub(super) fn take_output(&mut self) -> Option<Vec<u8>> {
        if self.sending || self.out.is_empty() || self.send_failed {
            return None;
        }
        self.sending = true;
        Some(std::mem::replace(&mut self.out, std::mem::take(&mut self.spare)))
    }

    /// Nothing more will be asked of an upstream.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.state, State::None | State::Done)
    }

    /// How its connections are kept.
    pub(super) fn keep_alive(&self) -> KeepAlive {
        self.terms.keep_alive
    }

    /// Nothing is left to do about its connection either.
    pub(super) fn is_left(&self) -> bool {
        self.is_done() && !self.close_wanted
    }

    /// The peer has the whole request, as far as we are concerned.
    pub(super) fn is_served(&self) -> bool {
        self.all_written && !self.sending && self.out.is_empty() || self.send_failed
    }

    fn begin_connection(&mut self, reused: bool) {
        self.state = State::Open;
        self.reused = reused;
        self.out.clear();
        self.sending = false;
        self.send_failed = false;
        self.reading = false;
        self.head_written = false;
        self.all_written = false;
        self.got_bytes = false;
        self.leftover = false;
        self.keeps = true;
    }
}

impl Exchange {
    /// The request's headers are through their chain: it goes to its target.
    pub(super) fn want_upstream(&mut self, cx: &mut Cx<'_>) {
        self.choose_route_again();
        match self.chosen_route().target {
            Target::Upstream(upstream) => {
                if !self.count_forward(cx) {
                    return;
                }
                self.upstream.upstream = upstream;
                self.upstream.terms = self.terms(self.upstream_of(upstream));
                self.upstream.state = State::Wanted;
                self.upstream.first_try_ms = cx.locals.now_ms;
            }
            Target::Status(status) => self.answer(status, Cause::NoUpstream, cx),
            Target::NoRoute => self.answer(404, Cause::NoRoute, cx),
        }
    }

    fn terms(&self, upstream: &Upstream) -> Terms {
        Terms {
            timeouts: self.chosen_route().timeouts.unwrap_or(upstream.timeouts),
            keep_alive: upstream.keep_alive,
            timed: self.steps.len() > 0
                || upstream.balancer == Balancer::Ewma
                || self.pinned().snapshot.access_log.as_ref().is_some_and(LogFormat::is_timed),
            introduces: upstream.proxy_protocol.is_some(),
            endpoints: u32::try_from(upstream.peers.len()).unwrap_or(u32::MAX),
        }
    }

    /// A connection is there; `reused`: it was idle. `local` is our end of it, if that is known.
    pub fn on_connected(&mut self, reused: bool, local: Option<SocketAddr>, cx: &mut Cx<'_>) {
        debug_assert_eq!(self.upstream.state, State::Connecting);
        self.timers.disarm(Timer::Connect);
        self.upstream.begin_connection(reused);
        self.message.attempts.ready_ns = self.now_ns(cx);
        self.message.attempts.local = local;
        self.message.attempts.failure.clear();
        if !reused {
            self.introduce_client();
        }
    }

    /// A new connection begins with who it is made for, where the upstream wants to know: the ends
    /// of the client's connection, whatever address a plugin took for the client's. Those of a unix
    /// socket have no port, and no address to tell.
    fn introduce_client(&mut self) {
        let Some(version) = self.upstream_of(self.upstream.upstream).proxy_protocol else { return };
        let Connection { peer, local, .. } = self.message.connection;
        let peer = self.message.direct_peer.unwrap_or(peer);
        match local.port() {
            0 => proxy_protocol::write_own(&mut self.upstream.out, version),
            _ => proxy_protocol::write(&mut self.upstream.out, version, peer, local),
        }
    }

    /// Whose requests the connections of the upstream in use carry.
    pub(super) fn carries(&self) -> Carries {
        if self.upstream.terms.introduces { Carries::OneClients } else { Carries::All }
    }

    /// The upstream took a part of what is sent to it: its time begins anew.
    pub fn on_upstream_takes(&mut self, cx: &Cx<'_>) {
        if self.is_tunnel() {
            return self.arm_tunnel(cx);
        }
        self.arm_upstream(Timer::UpstreamSend, cx);
    }

    /// The upstream took everything, or not; the buffer comes back.
    pub fn on_upstream_sent(&mut self, mut buffer: Vec<u8>, sent: bool, cx: &mut Cx<'_>) {
        self.upstream.sending = false;
        self.timers.disarm(Timer::UpstreamSend);
        buffer.clear();
        self.upstream.spare = buffer;
        if !sent {
            // What went wrong is for the read to tell: the upstream may have answered before.
            self.upstream.send_failed = true;
            self.upstream.keeps = false;
        }
        if self.is_tunnel() {
            return self.on_tunnel_sent(sent, cx);
        }
        if self.upstream.reading && self.upstream.is_served() {
            // Its time to answer begins when it has the request.
            self.arm_upstream(Timer::UpstreamRead, cx);
        }
    }

    /// Whether a message of that direction has a head only.
    pub(super) fn ends_with_headers(&self, direction: Direction) -> bool {
        match direction {
            Direction::Request => self.request.length == BodyLength::None,
            Direction::Response => self.message.response.body == BodyLength::None,
        }
    }

    /// The connection must not be used again.
    pub(super) fn spoil_upstream(&mut self) {
        if matches!(self.upstream.state, State::Connecting | State::Open) {
            self.upstream.close_wanted = true;
        }
        self.upstream.state = State::Done;
        for timer in [Timer::Connect, Timer::UpstreamSend, Timer::UpstreamRead] {
            self.timers.disarm(timer);
        }
    }

    pub(super) fn poll_upstream(&mut self, cx: &mut Cx<'_>) -> Option<Command> {
        if self.upstream.close_wanted || self.response.is_complete() {
            return self.part_with_upstream();
        }
        match self.upstream.state {
            State::Wanted => self.pick(cx),
            State::Open => self.poll_open(cx),
            State::None | State::Connecting | State::Done => None,
        }
    }

    /// The connection is kept or closed; a connection that is being made is given up.
    pub(super) fn part_with_upstream(&mut self) -> Option<Command> {
        if std::mem::take(&mut self.upstream.close_wanted) {
            return Some(Command::CloseUpstream);
        }
        let side = &mut self.upstream;
        let whole = self.response.is_complete() && side.is_served();
        let clean = side.keeps && !side.reading && !side.leftover;
        let kept = side.state == State::Open && whole && clean;
        self.spoil_upstream();
        if kept {
            self.upstream.close_wanted = false;
            return Some(Command::ReleaseUpstream);
        }
        std::mem::take(&mut self.upstream.close_wanted).then_some(Command::CloseUpstream)
    }

    fn pick(&mut self, cx: &mut Cx<'_>) -> Option<Command> {
        if self.waits_for_body() {
            return None;
        }
        let again = self.upstream.address.take_if(|_| self.upstream.fresh);
        let Some(address) = again.or_else(|| self.pick_peer(cx)) else {
            let Upstream { name, peers, .. } = self.upstream_of(self.upstream.upstream);
            log::warn!("{}no peer of upstream {name} is left", Named(&self.message));
            // As in APISIX (reference §5.2).
            let status = if peers.is_empty() { 503 } else { 502 };
            self.upstream.state = State::Done;
            self.answer(status, Cause::NoPeer, cx);
            return None;
        };
        let fresh = std::mem::take(&mut self.upstream.fresh);
        let side = &mut self.upstream;
        side.tries += u32::from(!fresh);
        side.state = State::Connecting;
        let inet = address.inet();
        side.address = Some(address);
        self.note_attempt(inet, cx);
        self.arm_upstream(Timer::Connect, cx);
        Some(Command::Connect { fresh })
    }

    /// One that was not tried yet.
    fn pick_peer(&mut self, cx: &mut Cx<'_>) -> Option<Address> {
        let pinned = Rc::clone(self.pinned());
        let number = self.upstream.upstream;
        let upstream = pinned.upstream(number);
        let balancer = &upstream.balancer;
        let hash = match balancer {
            Balancer::Hash(key) => {
                let scratch = &mut cx.locals.scratch;
                scratch.clear();
                key.write(&*self.message, scratch);
                hash_of(scratch)
            }
            _ => 0,
        };
        let now_ns = if upstream.is_timed() { (cx.locals.clock)() } else { 0 };
        let tried = &self.upstream.tried;
        let picked =
            pinned.pick(number, Ask { tried, hash, now_ns, random: &mut cx.locals.random })?;
        self.upstream.tried.push(picked.peer);
        if *balancer == Balancer::LeastConn {
            pinned.begin(number, picked.peer);
            self.upstream.counted = true;
        }
        Some(picked.address)
    }

    /// The peer in use has nothing more to do for this request.
    pub(super) fn leave_peer(&mut self) {
        let Some(peer) = self.upstream.tried.last() else { return };
        if std::mem::take(&mut self.upstream.counted) {
            self.pinned().end(self.upstream.upstream, *peer);
        }
        let attempts = &self.message.attempts;
        if attempts.received_ns == 0 {
            return;
        }
        let upstream = self.upstream_of(self.upstream.upstream);
        if upstream.balancer == Balancer::Ewma {
            // What nginx calls connect time and response time; both begin with the connecting.
            let until_ready = attempts.until_ready_ns().unwrap_or(0);
            let until_received = attempts.received_ns.saturating_sub(attempts.wanted_ns);
            let seconds = (until_ready + until_received) as f64 / 1e9;
            upstream.record_latency(*peer, seconds, attempts.received_ns);
        }
    }

    /// A peer is asked, for the first time or again.
    fn note_attempt(&mut self, address: Option<SocketAddr>, cx: &Cx<'_>) {
        let wanted_ns = self.now_ns(cx);
        self.message.upstream = address;
        let attempts = &mut self.message.attempts;
        attempts.count += 1;
        attempts.endpoints = self.upstream.terms.endpoints;
        attempts.local = None;
        attempts.wanted_ns = wanted_ns;
        (attempts.ready_ns, attempts.sent_ns) = (0, 0);
        (attempts.head_ns, attempts.received_ns) = (0, 0);
    }

    /// The driver's clock, where somebody may ask.
    pub(super) fn now_ns(&self, cx: &Cx<'_>) -> u64 {
        if self.upstream.terms.timed { (cx.locals.clock)() } else { 0 }
    }

    /// Where plugins may change the body, the head waits for its first piece: with the whole body
    /// in one piece its length is known.
    fn waits_for_body(&self) -> bool {
        let edits = self.hooks.has(Hooks::REQUEST_BODY);
        edits && !self.request.is_through() && self.request.released.is_empty()
    }

    fn poll_open(&mut self, cx: &mut Cx<'_>) -> Option<Command> {
        if !self.upstream.sending {
            self.write_upstream(cx);
        }
        if self.upstream.state != State::Open {
            return None;
        }
        if let Some(bytes) = self.upstream.take_output() {
            if self.message.attempts.sent_ns == 0 {
                self.message.attempts.sent_ns = self.now_ns(cx);
            }
            self.arm_upstream(Timer::UpstreamSend, cx);
            return Some(Command::SendUpstream(bytes));
        }
        let side = &mut self.upstream;
        if side.head_written && !side.reading && self.response.wants_reading() {
            side.reading = true;
            self.arm_upstream(Timer::UpstreamRead, cx);
            return Some(Command::ReadUpstream);
        }
        None
    }

    /// Writes what is ready for the upstream: the head once, then body pieces, then the end.
    fn write_upstream(&mut self, cx: &mut Cx<'_>) {
        let through = self.request.is_through();
        if !self.upstream.head_written {
            self.write_upstream_head(through);
        }
        if self.upstream.all_written {
            return;
        }
        let (side, request) = (&mut self.upstream, &mut self.request);
        side.body_sent |= !request.released.is_empty();
        let end = through.then_some(&self.message.request.trailers);
        let wrote = side.encoder.write(&mut side.out, &mut request.released, end);
        side.all_written = through && wrote.is_ok();
        if wrote.is_err() {
            log::warn!("a plugin changed a request body's length after its head was sent");
            self.answer(500, Cause::LengthChanged, cx);
        }
    }

    fn write_upstream_head(&mut self, through: bool) {
        let edits = self.hooks.has(Hooks::REQUEST_BODY);
        let kept = self.message.request.headers.get_known(Known::ContentLength);
        let (length, released) = (self.request.length, self.request.released.len() as u64);
        let trailers = !self.message.request.trailers.is_empty();
        self.upstream.encoder = match trusted_length(length, kept, edits) {
            // A request that said its body is empty goes on saying so (RFC 9110 §8.6).
            _ if length == BodyLength::None && released == 0 && kept.is_none() => Encoder::None,
            _ if through && !trailers => Encoder::Length(released),
            BodyLength::Known(bytes) => Encoder::Length(bytes),
            _ => Encoder::Chunked,
        };
        let pinned = Rc::clone(self.pinned());
        let upstream = pinned.upstream(self.upstream.upstream);
        let peer = self.upstream.tried.last().map(|at| &upstream.peers[*at]);
        let upgrades = self.offers_upgrade();
        let side = &mut self.upstream;
        let rules = &pinned.snapshot.rules;
        let hop = forward::Hop { upstream, peer, via: rules.via, upgrades };
        let (out, forwarding) = (&mut side.out, &mut side.forwarding);
        forward::write_request_head(out, &self.message, &hop, side.encoder, forwarding);
        side.head_written = true;
        side.offered_upgrade = upgrades;
        // A plugin may have changed it: what may be sent again, and whether the response has a
        // body, goes by the method the upstream was asked with.
        self.request.method = Method::from_bytes(&self.message.request.method);
    }

    pub(super) fn arm_upstream(&mut self, timer: Timer, cx: &Cx<'_>) {
        let Timeouts { connect_ms, send_ms, read_ms } = self.upstream.terms.timeouts;
        let after = match timer {
            Timer::Connect => connect_ms,
            Timer::UpstreamSend => send_ms,
            _ => read_ms,
        };
        self.timers.arm(timer, cx.locals.now_ms, after);
    }

    pub(super) fn upstream_of(&self, number: usize) -> &Upstream {
        self.pinned().upstream(number)
    }
}
