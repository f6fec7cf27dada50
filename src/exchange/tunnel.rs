//! Another protocol on the same two connections, after a 101 (RFC 9110 §7.8).
//!
//! ```text
//! client ─ read ─► upstream.out ─ send ─► upstream        each way by itself: it is read while
//! client ◄─ send ─ response.out ◄─ read ─ upstream        what waits is within its bound
//!
//! an end on one side ─► what waits is sent ─► the other side is told, and may still send
//! both ends, a broken connection, nothing at all for the read timeout ─► over
//! ```
//!
//! Which routes allow it the configuration says. Protocols that would carry HTTP requests past the
//! gateway's eyes are not offered to the upstream, whatever the route allows.

use super::outgoing::write_tunnel_head;
use super::{Command, Cx, Ending, Exchange, Stage, Timer};
use crate::http::{Headers, Known, list_members};
use crate::limits;

/// A tunnel's two ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tunnel {
    /// The driver knows.
    known: bool,
    client: End,
    upstream: End,
}

/// Whether that side still sends, and whether the other one knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum End {
    #[default]
    Sends,
    /// What it sent last may still wait.
    Ended,
    Told,
}

/// The protocols that a client's request offers, without those that are HTTP again (`h2c`, RFC 9113
/// §3.1) or end encryption here (`TLS`, RFC 2817): what they carry would be requests unseen.
pub(super) fn offered(headers: &Headers) -> impl Iterator<Item = &[u8]> {
    headers
        .values_known(Known::Upgrade)
        .flat_map(list_members)
        .filter(|protocol| !is_http(protocol))
}

fn is_http(protocol: &[u8]) -> bool {
    let name = protocol.split(|byte| *byte == b'/').next().unwrap_or_default();
    [&b"h2c"[..], b"h2", b"h3", b"http", b"https", b"tls"]
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known))
}

impl Exchange {
    /// Whether what the client offers is offered to the upstream, and so may be accepted by it.
    pub(super) fn offers_upgrade(&self) -> bool {
        self.request.may_upgrade
            && self.chosen_route().upgrades
            && offered(&self.message.request.headers).next().is_some()
    }

    /// Whether a 101 accepts what was offered, and says so in both fields.
    fn accepts(&self, bytes: &[u8]) -> bool {
        let mut protocols = 0;
        let mut known = true;
        let mut option = false;
        for field in &self.reply.fields {
            let value = field.value.of(bytes);
            if field.known == Known::Upgrade {
                for protocol in list_members(value) {
                    protocols += 1;
                    let same = |offer: &[u8]| offer.eq_ignore_ascii_case(protocol);
                    known &= offered(&self.message.request.headers).any(same);
                }
            }
            option |= field.known == Known::Connection
                && list_members(value).any(|member| member.eq_ignore_ascii_case(b"upgrade"));
        }
        self.upstream.offered_upgrade && option && known && protocols > 0
    }

    /// A 101 from the upstream, whose head is in `bytes`: both sides speak another protocol from
    /// here on. False: nobody asked for it. Like other 1xx it passes by the plugins, which have
    /// seen the request and will see the end.
    pub(super) fn begin_tunnel(&mut self, bytes: &[u8], cx: &mut Cx<'_>) -> bool {
        if !self.accepts(bytes) || !self.upstream.is_served() {
            return false;
        }
        let via = self.rules().via;
        self.adopt_reply(bytes);
        let headers = &self.message.response.headers;
        write_tunnel_head(&mut self.response.out, headers, cx.date.as_bytes(), via);
        self.message.attempts.head_ns = self.now_ns(cx);
        self.message.attempts.received_ns = self.message.attempts.head_ns;
        self.response.set_begun();
        self.upstream.keeps = false;
        self.timers.clear();
        self.stage = Stage::Tunnel(Tunnel::default());
        self.arm_tunnel(cx);
        true
    }

    /// Whether both sides speak another protocol.
    #[must_use]
    pub fn is_tunnel(&self) -> bool {
        matches!(self.stage, Stage::Tunnel(_))
    }

    /// Something moved.
    pub(super) fn arm_tunnel(&mut self, cx: &Cx<'_>) {
        self.arm_upstream(Timer::UpstreamRead, cx);
    }

    pub(super) fn poll_tunnel(&mut self, mut tunnel: Tunnel, cx: &mut Cx<'_>) -> Option<Command> {
        let command = self.next_of_tunnel(&mut tunnel);
        if self.is_tunnel() {
            self.stage = Stage::Tunnel(tunnel);
        }
        let ends = (tunnel.client, tunnel.upstream);
        if ends == (End::Told, End::Told) && command.is_none() {
            self.stage = Stage::Ending(Ending::Close);
            return self.poll(cx);
        }
        command
    }

    fn next_of_tunnel(&mut self, tunnel: &mut Tunnel) -> Option<Command> {
        if !std::mem::replace(&mut tunnel.known, true) {
            return Some(Command::Switch);
        }
        if self.response.wants_sending() {
            return Some(Command::SendDownstream(self.response.begin_sending()));
        }
        if let Some(bytes) = self.upstream.take_output() {
            return Some(Command::SendUpstream(bytes));
        }
        if tunnel.upstream == End::Ended && !self.response.sending {
            tunnel.upstream = End::Told;
            return Some(Command::EndDownstream);
        }
        if tunnel.client == End::Ended && !self.upstream.sending {
            tunnel.client = End::Told;
            return Some(Command::EndUpstream);
        }
        let room = |waiting: usize| waiting < limits::BACKLOG_BYTES_MAX;
        let (up, down) = (self.upstream.backlog(), self.response.out.len());
        if tunnel.client == End::Sends && !self.request.reading && room(up) {
            self.request.reading = true;
            return Some(Command::ReadDownstream);
        }
        if tunnel.upstream == End::Sends && !self.upstream.reading && room(down) {
            self.upstream.reading = true;
            return Some(Command::ReadUpstream);
        }
        None
    }

    /// Bytes of the client, all for the upstream.
    pub(super) fn tunnel_up(&mut self, bytes: &[u8], cx: &mut Cx<'_>) -> usize {
        self.request.reading = false;
        self.message.request_bytes += bytes.len() as u64;
        self.upstream.add_output(bytes);
        self.arm_tunnel(cx);
        bytes.len()
    }

    /// Bytes of the upstream, all for the client.
    pub(super) fn tunnel_down(&mut self, bytes: &[u8], cx: &mut Cx<'_>) -> usize {
        self.upstream.reading = false;
        self.message.response_bytes += bytes.len() as u64;
        self.response.out.extend_from_slice(bytes);
        self.arm_tunnel(cx);
        bytes.len()
    }

    /// The client will send nothing more.
    pub(super) fn end_tunnel_up(&mut self) {
        self.request.reading = false;
        if let Stage::Tunnel(tunnel) = &mut self.stage {
            tunnel.client = End::Ended;
        }
    }

    /// The upstream will send nothing more.
    pub(super) fn end_tunnel_down(&mut self) {
        self.upstream.reading = false;
        if let Stage::Tunnel(tunnel) = &mut self.stage {
            tunnel.upstream = End::Ended;
        }
    }

    /// Nothing moved for the time that the upstream has for its next byte (nginx's
    /// `proxy_read_timeout`, which APISIX sets to the route's `timeout.read`). If a side does not
    /// take what waits for it, that is lost, and the end must not look like one; nor may anything
    /// be sent behind a piece that the kernel has taken a part of.
    pub(super) fn on_tunnel_due(&mut self, cx: &Cx<'_>) {
        if self.timers.take_due(cx.locals.now_ms).is_some() {
            let down = self.response.sending || !self.response.out.is_empty();
            let up = self.upstream.sending || self.upstream.backlog() > 0;
            self.stage = Stage::Ending(if down || up { Ending::Abort } else { Ending::Close });
        }
    }

    /// One side took what was sent to it, or is gone.
    pub(super) fn on_tunnel_sent(&mut self, sent: bool, cx: &Cx<'_>) {
        if sent {
            self.arm_tunnel(cx);
        } else {
            self.break_tunnel();
        }
    }

    /// A side is gone: the other one sees its connection reset, not ended.
    pub(super) fn break_tunnel(&mut self) {
        self.stage = Stage::Ending(Ending::Abort);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_is_not_offered() {
        let mut headers = Headers::new();
        headers.append(b"Upgrade", b"h2c, websocket, HTTP/2.0");
        headers.append(b"upgrade", b"TLS/1.0, foo/2, H2C, ,");
        let offers: Vec<&[u8]> = offered(&headers).collect();
        assert_eq!(offers, [&b"websocket"[..], b"foo/2"]);
    }
}
