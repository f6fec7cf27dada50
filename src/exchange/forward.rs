//! The request's head as it goes upstream: the client's, with framing re-made, hop-by-hop fields
//! removed and the forwarding fields set (APISIX reference §5).

use super::body::Encoder;
use super::outgoing::write_via;
use super::tunnel::offered;
use crate::http::{Headers, Known, KnownSet, list_members, write_field, write_number_field};
use crate::plugin::Message;
use crate::upstream::{HostPolicy, Peer, Upstream};
use std::io::Write;
use std::net::IpAddr;

/// Where a request goes, and how.
pub(super) struct Hop<'a> {
    pub(super) upstream: &'a Upstream,
    pub(super) peer: Option<&'a Peer>,
    /// This gateway names itself.
    pub(super) via: bool,
    /// What the client offers of other protocols is offered.
    pub(super) upgrades: bool,
}

/// The forwarding fields that were written last: a gateway's requests come from a few clients and
/// for a few hosts, so the next ones are the same, mostly.
#[derive(Debug, Default)]
pub(super) struct Forwarding {
    /// What they were made for; requests that were forwarded to us are not remembered, nor those
    /// with an authority that is no name: an exchange is kept for as long as its worker.
    peer: Option<IpAddr>,
    port: u16,
    authority: Vec<u8>,
    text: Vec<u8>,
}

/// Writes request line and fields, the empty line included.
pub(super) fn write_request_head(
    out: &mut Vec<u8>,
    message: &Message,
    hop: &Hop<'_>,
    framing: Encoder,
    forwarding: &mut Forwarding,
) {
    let request = &message.request;
    out.extend_from_slice(&request.method);
    out.push(b' ');
    out.extend_from_slice(&request.target);
    out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    out.extend_from_slice(host(message, hop.upstream, hop.peer));
    forwarding.write(out, message);
    let mut takes_trailers = false;
    request.headers.write_lines(out, |line| {
        takes_trailers |= line.known() == Known::Te && names_trailers(line.value());
        !REMADE.has(line.known())
    });
    if hop.via {
        write_via(out, request.version);
    }
    write_hop_fields(out, takes_trailers, hop.upgrades.then_some(&request.headers));
    match framing {
        Encoder::Length(bytes) => write_number_field(out, b"Content-Length", bytes),
        Encoder::Chunked => write_field(out, b"Transfer-Encoding", b"chunked"),
        Encoder::None | Encoder::UntilClose => {}
    }
    out.extend_from_slice(b"\r\n");
}

/// The fields of this hop alone, and the options that say so (RFC 9110 §7.6.1).
fn write_hop_fields(out: &mut Vec<u8>, takes_trailers: bool, upgrade: Option<&Headers>) {
    if takes_trailers {
        out.extend_from_slice(b"TE: trailers\r\n");
    }
    if let Some(headers) = upgrade {
        write_list(out, b"Upgrade", offered(headers));
    }
    let options: &[u8] = match (takes_trailers, upgrade) {
        (false, None) => return,
        (true, None) => b"TE",
        (false, Some(_)) => b"Upgrade",
        (true, Some(_)) => b"TE, Upgrade",
    };
    write_field(out, b"Connection", options);
}

fn write_list<'a>(out: &mut Vec<u8>, name: &[u8], members: impl Iterator<Item = &'a [u8]>) {
    out.extend_from_slice(name);
    let mut before: &[u8] = b": ";
    for member in members {
        out.extend_from_slice(before);
        out.extend_from_slice(member);
        before = b", ";
    }
    out.extend_from_slice(b"\r\n");
}

/// A client that takes trailers gets them: they are passed on (RFC 9110 §10.1.4).
fn names_trailers(te: &[u8]) -> bool {
    list_members(te).any(|member| member.eq_ignore_ascii_case(b"trailers"))
}

fn host<'a>(message: &'a Message, upstream: &'a Upstream, peer: Option<&'a Peer>) -> &'a [u8] {
    match (&upstream.host, peer) {
        (HostPolicy::Rewrite(host), _) => host,
        (HostPolicy::Node, Some(peer)) => &peer.host,
        (HostPolicy::Pass, _) if !message.request.upstream_host.is_empty() => {
            &message.request.upstream_host
        }
        // An HTTP/1.0 client may name none, but the upstream is spoken to in 1.1.
        (HostPolicy::Pass, Some(peer)) if message.request.authority.is_empty() => &peer.host,
        _ => &message.request.authority,
    }
}

/// The longest name there can be (RFC 1035 §2.3.4), with a port.
const REMEMBERED_BYTES_MAX: usize = 255 + 6;

impl Forwarding {
    fn write(&mut self, out: &mut Vec<u8>, message: &Message) {
        let (peer, port) = (message.connection.peer.ip(), message.connection.local.port());
        let authority = &message.request.authority;
        let said = message.request.headers.has_any(SAID);
        if said || authority.len() > REMEMBERED_BYTES_MAX {
            return write_forwarding_fields(out, message);
        }
        if self.peer != Some(peer) || self.port != port || self.authority != *authority {
            self.text.clear();
            write_forwarding_fields(&mut self.text, message);
            self.authority.clone_from(authority);
            (self.peer, self.port) = (Some(peer), port);
        }
        out.extend_from_slice(&self.text);
    }
}

/// `X-Real-IP`, `X-Forwarded-*`: what we observed; `X-Forwarded-For` is continued, and what is said
/// already of the other three stays ([`drop_claims`]). Ends the line before them.
fn write_forwarding_fields(out: &mut Vec<u8>, message: &Message) {
    let headers = &message.request.headers;
    out.extend_from_slice(b"\r\nX-Real-IP: ");
    let from = out.len();
    write_ip(out, message.connection.peer.ip());
    let peer = from..out.len();
    out.extend_from_slice(b"\r\nX-Forwarded-For: ");
    for value in headers.values_known(Known::XForwardedFor) {
        out.extend_from_slice(value);
        out.extend_from_slice(b", ");
    }
    out.extend_from_within(peer);
    out.extend_from_slice(b"\r\n");
    if headers.get_known(Known::XForwardedProto).is_none() {
        out.extend_from_slice(b"X-Forwarded-Proto: http\r\n");
    }
    if headers.get_known(Known::XForwardedHost).is_none() {
        let authority = &message.request.authority;
        write_field(out, b"X-Forwarded-Host", &authority[..host_len(authority)]);
    }
    if headers.get_known(Known::XForwardedPort).is_none() {
        let port = message.connection.local.port();
        write_number_field(out, b"X-Forwarded-Port", u64::from(port));
    }
}

/// Takes away what a client says of how its request came to it, if nobody trusts it to know: then
/// what is there later was written by a plugin, and else what we observe goes upstream.
#[cold]
pub(super) fn drop_claims(headers: &mut Headers) {
    headers.remove_if(|_, line| CLAIMS.has(line.known()));
}

/// Bytes of an authority without its port.
fn host_len(authority: &[u8]) -> usize {
    let end = if authority.first() == Some(&b'[') { b']' } else { b':' };
    let at = authority.iter().position(|byte| *byte == end);
    at.map_or(authority.len(), |at| at + usize::from(end == b']'))
}

fn write_ip(out: &mut Vec<u8>, ip: IpAddr) {
    let IpAddr::V4(v4) = ip.to_canonical() else {
        // Writing to a vector can't fail.
        let _ = write!(out, "{ip}");
        return;
    };
    // All four with their dots, and the room the last one's copy takes.
    let (mut text, mut end) = ([b'.'; 16], 0);
    for octet in v4.octets() {
        let (digits, len) = OCTETS[usize::from(octet)];
        text[end..end + 3].copy_from_slice(&digits);
        end += usize::from(len);
        text[end] = b'.';
        end += 1;
    }
    out.extend_from_slice(&text[..end - 1]);
}

/// Each octet in decimal: its digits, and how many of them there are.
const OCTETS: [([u8; 3], u8); 256] = {
    let mut octets = [([b'0'; 3], 1); 256];
    let mut octet = 0;
    while octet < 256 {
        let (a, b, c) = (octet / 100, octet / 10 % 10, octet % 10);
        let digits = [b'0' + a as u8, b'0' + b as u8, b'0' + c as u8];
        octets[octet] = match octet {
            0..10 => ([digits[2], 0, 0], 1),
            10..100 => ([digits[1], digits[2], 0], 2),
            _ => (digits, 3),
        };
        octet += 1;
    }
    octets
};

/// What a client says of how its request came to it, believed only if it is trusted.
pub(super) const CLAIMS: KnownSet = KnownSet::of(&[
    Known::Forwarded,
    Known::XForwardedHost,
    Known::XForwardedPort,
    Known::XForwardedProto,
]);

/// With any of these the forwarding fields are no longer those of the next request.
const SAID: KnownSet = CLAIMS.and(&[Known::XForwardedFor]);

/// Fields that are written from what we know, or answered by us, and those of the client's hop.
const REMADE: KnownSet = KnownSet::HOP_BY_HOP.and(&[
    Known::ContentLength,
    Known::Expect,
    Known::Host,
    Known::XForwardedFor,
    Known::XRealIp,
]);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::{Balancer, Board};

    fn message() -> Message {
        let mut message = Message::default();
        message.connection.peer = ([10, 0, 0, 1], 5000).into();
        message.connection.local = ([10, 0, 0, 2], 9080).into();
        message.request.method = b"GET".to_vec();
        message.request.target = b"/a?b".to_vec();
        message.request.authority = b"shop.example:8080".to_vec();
        message
    }

    fn upstream(host: HostPolicy) -> Upstream {
        Upstream { host, ..Upstream::new(Board::new("u"), vec![], Balancer::default()) }
    }

    fn written(message: &Message, host: HostPolicy, framing: Encoder) -> String {
        let node = Board::new("u").node("node", 81);
        let peer = Peer { node, host: b"node:81".to_vec(), weight: 1, priority: 0 };
        let mut out = Vec::new();
        let upstream = upstream(host);
        let hop = Hop { upstream: &upstream, peer: Some(&peer), via: true, upgrades: false };
        write_request_head(&mut out, message, &hop, framing, &mut Forwarding::default());
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_plain_head() {
        let expected = "GET /a?b HTTP/1.1\r\nHost: shop.example:8080\r\nX-Real-IP: 10.0.0.1\r\n\
            X-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Proto: http\r\n\
            X-Forwarded-Host: shop.example\r\nX-Forwarded-Port: 9080\r\n\
            Via: 1.1 ringgate\r\n\r\n";
        assert_eq!(written(&message(), HostPolicy::Pass, Encoder::None), expected);
    }

    #[test]
    fn hosts() {
        let table = [
            (HostPolicy::Pass, "Host: shop.example:8080\r\n"),
            (HostPolicy::Node, "Host: node:81\r\n"),
            (HostPolicy::Rewrite(b"x.y".to_vec()), "Host: x.y\r\n"),
        ];
        for (policy, line) in table {
            assert!(written(&message(), policy, Encoder::None).contains(line), "{line}");
        }
        let mut rewritten = message();
        rewritten.request.upstream_host = b"inner:81".to_vec();
        let head = written(&rewritten, HostPolicy::Pass, Encoder::None);
        assert!(head.contains("Host: inner:81\r\n"), "{head}");
        assert!(head.contains("X-Forwarded-Host: shop.example\r\n"), "what the client asked for");
        assert!(written(&rewritten, HostPolicy::Node, Encoder::None).contains("Host: node:81\r\n"));
    }

    #[test]
    fn what_is_left_out_and_what_is_remade() {
        let mut message = message();
        for (name, value) in [
            ("Connection", "close"),
            ("HTTP2-Settings", "AAMAAABkAAQAAP__"),
            ("Via", "1.0 fred"),
            ("Keep-Alive", "1"),
            ("TE", "trailers"),
            ("Upgrade", "h2c"),
            ("Transfer-Encoding", "chunked"),
            ("Content-Length", "9"),
            ("Expect", "100-continue"),
            ("Proxy-Authorization", "x"),
            ("X-Forwarded-For", "1.1.1.1"),
            ("X-Forwarded-Proto", "https"),
            ("Forwarded", "for=1"),
            ("X-Kept", "yes"),
        ] {
            message.request.headers.append(name.as_bytes(), value.as_bytes());
        }
        drop_claims(&mut message.request.headers);
        let head = written(&message, HostPolicy::Pass, Encoder::Length(3));
        let fields: Vec<&str> = head.lines().skip(1).collect();
        assert_eq!(
            fields,
            [
                "Host: shop.example:8080",
                "X-Real-IP: 10.0.0.1",
                "X-Forwarded-For: 1.1.1.1, 10.0.0.1",
                "X-Forwarded-Proto: http",
                "X-Forwarded-Host: shop.example",
                "X-Forwarded-Port: 9080",
                "Via: 1.0 fred",
                "X-Kept: yes",
                "Via: 1.1 ringgate",
                "TE: trailers",
                "Connection: TE",
                "Content-Length: 3",
                ""
            ]
        );
    }

    #[test]
    fn what_a_trusted_client_says_stays() {
        let mut message = message();
        let upstream = upstream(HostPolicy::Pass);
        let fields = |message: &Message| {
            let hop = Hop { upstream: &upstream, peer: None, via: false, upgrades: false };
            let (mut out, mut forwarding) = (Vec::new(), Forwarding::default());
            write_request_head(&mut out, message, &hop, Encoder::None, &mut forwarding);
            let head = String::from_utf8(out).expect("text");
            head.lines().skip(2).map(str::to_owned).collect::<Vec<_>>()
        };
        let observed = [
            "X-Real-IP: 10.0.0.1",
            "X-Forwarded-For: 10.0.0.1",
            "X-Forwarded-Proto: http",
            "X-Forwarded-Host: shop.example",
            "X-Forwarded-Port: 9080",
            "",
        ];
        assert_eq!(fields(&message), observed, "it says nothing");
        for (name, value) in [
            ("X-Real-IP", "9.9.9.9"),
            ("X-Forwarded-For", "1.1.1.1"),
            ("X-Forwarded-Proto", "https"),
            ("Forwarded", "for=1.1.1.1"),
            ("X-Forwarded-Host", "outside.example"),
            ("X-Forwarded-Port", "443"),
        ] {
            message.request.headers.append(name.as_bytes(), value.as_bytes());
        }
        let said = [
            "X-Real-IP: 10.0.0.1",
            "X-Forwarded-For: 1.1.1.1, 10.0.0.1",
            "X-Forwarded-Proto: https",
            "Forwarded: for=1.1.1.1",
            "X-Forwarded-Host: outside.example",
            "X-Forwarded-Port: 443",
            "",
        ];
        assert_eq!(fields(&message), said);
        // What nobody trusts goes, and what a plugin writes stays; the host is the one asked for
        // now, whether the client claimed one or not.
        drop_claims(&mut message.request.headers);
        message.request.headers.append(b"x-forwarded-proto", b"wss");
        message.request.authority = b"inner".to_vec();
        let corrected = [
            "X-Real-IP: 10.0.0.1",
            "X-Forwarded-For: 1.1.1.1, 10.0.0.1",
            "X-Forwarded-Host: inner",
            "X-Forwarded-Port: 9080",
            "x-forwarded-proto: wss",
            "",
        ];
        assert_eq!(fields(&message), corrected);
    }

    #[test]
    fn offers_of_other_protocols() {
        let mut message = message();
        message.request.headers.append(b"Upgrade", b"h2c, websocket");
        message.request.headers.append(b"Upgrade", b"foo/1");
        message.request.headers.append(b"TE", b"trailers");
        let upstream = upstream(HostPolicy::Pass);
        let hop = Hop { upstream: &upstream, peer: None, via: false, upgrades: true };
        let mut out = Vec::new();
        write_request_head(&mut out, &message, &hop, Encoder::None, &mut Forwarding::default());
        let head = String::from_utf8(out).expect("text");
        let end = "TE: trailers\r\nUpgrade: websocket, foo/1\r\nConnection: TE, Upgrade\r\n\r\n";
        assert!(head.ends_with(end), "{head}");
    }

    #[test]
    fn forwarding_fields_are_those_of_each_request() {
        let mut forwarding = Forwarding::default();
        let mut check = |message: &Message| {
            let (mut remembered, mut anew) = (Vec::new(), Vec::new());
            forwarding.write(&mut remembered, message);
            write_forwarding_fields(&mut anew, message);
            assert_eq!(remembered, anew);
        };
        let mut message = message();
        check(&message);
        check(&message);
        message.request.authority = b"other.example".to_vec();
        check(&message);
        message.connection.peer = ([10, 0, 0, 9], 5000).into();
        check(&message);
        message.request.authority = vec![b'x'; REMEMBERED_BYTES_MAX + 1];
        check(&message);
        message.connection.local = ([10, 0, 0, 2], 80).into();
        check(&message);
        let mut forwarded = Message { connection: message.connection, ..Message::default() };
        forwarded.request.authority.clone_from(&message.request.authority);
        forwarded.request.headers.append(b"X-Forwarded-For", b"1.1.1.1");
        check(&forwarded);
        check(&message);
    }

    #[test]
    fn hosts_without_ports() {
        for (authority, host) in
            [("a:1", "a"), ("a", "a"), ("[::1]:1", "[::1]"), ("[::1]", "[::1]")]
        {
            assert_eq!(&authority[..host_len(authority.as_bytes())], host);
        }
    }
}
