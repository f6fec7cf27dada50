//! When a peer gives no response: another try where that is safe.

use super::cause::Cause;
use super::upstream::State;
use super::{Cx, Exchange, Timer};
use crate::plugin::{Message, ResponseFlags};
use crate::upstream::{Address, Report};
use std::fmt;

/// How a peer failed before its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// No connection could be made: nothing was sent.
    Connect,
    /// It closed the connection.
    Closed,
    /// It let a timeout pass.
    Stalled,
    /// It sent what is no response.
    Garbage,
}

impl Failure {
    fn cause(self) -> Cause {
        match self {
            Self::Connect => Cause::ConnectFailed,
            Self::Closed => Cause::UpstreamClosed,
            Self::Stalled => Cause::UpstreamStalled,
            Self::Garbage => Cause::UpstreamMalformed,
        }
    }

    /// What it says about the peer's health.
    fn report(self) -> Report {
        match self {
            Self::Stalled => Report::Timeout,
            Self::Connect | Self::Closed | Self::Garbage => Report::TcpFailure,
        }
    }
}

impl Exchange {
    /// No connection could be made.
    pub fn on_connect_failed(&mut self, why: &str, cx: &mut Cx<'_>) {
        debug_assert_eq!(self.upstream.state, State::Connecting);
        self.timers.disarm(Timer::Connect);
        self.upstream.state = State::Wanted;
        let failure = &mut self.message.attempts.failure;
        failure.clear();
        failure.extend_from_slice(why.as_bytes());
        self.on_no_response(Failure::Connect, why, cx);
    }

    /// The peer gave no response: another try where that is safe, else a 502, or a 504 where it was
    /// too slow.
    pub(super) fn on_no_response(&mut self, failure: Failure, why: &str, cx: &mut Cx<'_>) {
        let address = shown(self.upstream.address.as_ref());
        let connecting = self.upstream.state == State::Connecting;
        let unsent = connecting || failure == Failure::Connect;
        let stale = self.upstream.reused && failure == Failure::Closed;
        self.spoil_upstream();
        if !stale {
            self.note_failure(failure);
        }
        let again = self.may_send_again(unsent) && (stale || self.has_tries_left());
        let late = !stale && self.is_too_late(cx);
        if again && !late {
            log::info!("{}upstream {address} {why}; trying again", Named(&self.message));
            // An idle connection that had gone stale is not the peer's failure.
            self.upstream.fresh = stale;
            self.upstream.state = State::Wanted;
            return;
        }
        log::warn!("{}upstream {address} {why}", Named(&self.message));
        // Another try that comes too late is a 502, whatever went before (APISIX reference §5).
        let status = if failure == Failure::Stalled && !again { 504 } else { 502 };
        if !again && self.upstream.tries > 1 {
            self.message.response.flags |= ResponseFlags::UPSTREAM_RETRY_LIMIT;
        }
        self.answer(status, failure.cause(), cx);
    }

    /// The peer is done with, and it is known how it failed.
    fn note_failure(&mut self, failure: Failure) {
        self.leave_peer();
        if let Some(peer) = self.upstream.tried.last() {
            self.upstream_of(self.upstream.upstream).report(*peer, failure.report());
        }
    }

    /// The peer in use has answered: its status counts for its health.
    pub(super) fn note_status(&self) {
        let upstream = self.upstream_of(self.upstream.upstream);
        if upstream.checks.is_some()
            && let Some(peer) = self.upstream.tried.last()
        {
            upstream.report_status(*peer, self.message.response.status);
        }
    }

    /// A request may be sent again if nothing of it can have had an effect: nothing was sent, or
    /// its method is idempotent (RFC 9110 §9.2.2), no body was used up and no response has begun.
    fn may_send_again(&self, unsent: bool) -> bool {
        let side = &self.upstream;
        let harmless = self.request.method.is_idempotent() && !side.got_bytes;
        self.response.is_waiting() && !side.body_sent && (unsent || harmless)
    }

    fn has_tries_left(&self) -> bool {
        self.upstream.tries <= self.upstream_of(self.upstream.upstream).retries
    }

    fn is_too_late(&self, cx: &Cx<'_>) -> bool {
        let retry_ms = self.upstream_of(self.upstream.upstream).retry_ms;
        let since = cx.locals.now_ms.saturating_sub(self.upstream.first_try_ms);
        retry_ms != 0 && since >= retry_ms
    }
}

/// What a request calls itself, in front of a line of the log: its `X-Request-Id`, if its client or
/// the plugin `request-id` gave it one. Its number is in every line of its own already.
pub(super) struct Named<'a>(pub(super) &'a Message);

/// An id that a client made up may be long.
const NAME_BYTES_MAX: usize = 128;

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(id) = self.0.request.headers.get(b"x-request-id") else { return Ok(()) };
        let shown = &id[..id.len().min(NAME_BYTES_MAX)];
        write!(f, "request_id={} ", shown.escape_ascii())
    }
}

/// An address for the log.
pub(super) fn shown(address: Option<&Address>) -> String {
    address.map_or_else(|| "nobody".to_owned(), Address::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_named_if_they_have_a_name() {
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        let cut = format!("request_id={} ", &long[1..]);
        for (id, name) in [
            (None, ""),
            (Some("abc-1"), "request_id=abc-1 "),
            (Some("a\tb\u{7f}"), "request_id=a\\tb\\x7f "),
            (Some(&*long), &*cut),
        ] {
            let mut message = Message::default();
            if let Some(id) = id {
                message.request.headers.set(b"X-Request-Id", id.as_bytes());
            }
            assert_eq!(Named(&message).to_string(), name);
        }
    }
}
