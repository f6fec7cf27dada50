//! The response as it goes to the client: the head with framing re-made, then the body.

use super::body::Encoder;
use super::cause::Cause;
use super::{Cx, Exchange, Timer};
use crate::http::{
    BodyLength, Headers, Known, KnownSet, ResponseHead, Version, content_length, list_members,
    write_field, write_number_field, write_status_line,
};
use crate::snapshot::{has_length, write_local_head};

impl Exchange {
    /// Writes the piece in `message.body`, the head before it if that is still to come, and the
    /// end.
    pub(super) fn write_response_piece(&mut self, end: bool, cx: &mut Cx<'_>) {
        if !end && self.message.body.is_empty() {
            return;
        }
        if !self.response.has_begun() {
            let whole = end.then_some(self.message.body.len() as u64);
            self.write_response_head(whole, cx);
        }
        let (response, message) = (&mut self.response, &mut *self.message);
        let wrote = if response.encoder == Encoder::None {
            // No body follows: it answers HEAD, or a plugin made it a 204 or 304.
            message.body.clear();
            Ok(())
        } else {
            message.response_bytes += message.body.len() as u64;
            let end = end.then_some(&message.response.trailers);
            response.encoder.write(&mut response.out, &mut message.body, end)
        };
        if wrote.is_err() {
            return self.on_length_broken();
        }
        if end {
            self.complete_response();
        }
    }

    #[cold]
    pub(super) fn on_length_broken(&mut self) {
        log::warn!("a plugin changed a body's length after its head was sent");
        self.abort(Cause::LengthChanged);
    }

    pub(super) fn complete_response(&mut self) {
        self.response.set_complete();
        if !self.request.is_complete() {
            self.request.drop_rest();
        }
        for timer in [Timer::RequestHold, Timer::ResponseHold] {
            self.timers.disarm(timer);
        }
    }

    /// Writes the head. `whole`: the body's length if all of it is here.
    pub(super) fn write_response_head(&mut self, whole: Option<u64>, cx: &mut Cx<'_>) {
        self.response.set_begun();
        if !self.request.is_complete() && self.upstream.is_done() {
            self.request.drop_rest();
        }
        let edits = self.has_response_body_hooks();
        let (response, message) = (&mut self.response, &*self.message);
        let out = &mut response.out;
        let (status, headers) = (message.response.status, &message.response.headers);
        if response.local {
            write_local_head(out, status, headers, response.html, cx.date);
        } else {
            write_status_line(out, status);
            write_upstream_fields(out, headers, cx.date.as_bytes());
            if self.pinned.as_ref().is_some_and(|pinned| pinned.snapshot.rules.via) {
                write_via(out, self.reply.version);
            }
            if self.reply.status >= 500 {
                write_number_field(out, b"X-APISIX-Upstream-Status", self.reply.status.into());
            }
        }
        let kept = headers.get_known(Known::ContentLength);
        let shape = Shape {
            to_head: response.to_head,
            version: response.version,
            length: trusted_length(response.length, kept, edits),
            status,
            whole: whole.filter(|_| message.response.trailers.is_empty()),
            kept,
        };
        response.encoder = shape.framing();
        shape.write(out, response.encoder, response.local);
        response.keeps_connection &= self.request.can_keep();
        response.keeps_connection &= response.encoder != Encoder::UntilClose;
        let kept = if !response.keeps_connection {
            Some(&b"close"[..])
        } else if response.version == Version::Http10 {
            Some(&b"keep-alive"[..])
        } else {
            None
        };
        if status == 426 {
            write_required(out, headers, response.local, kept);
        } else if let Some(option) = kept {
            write_field(out, b"Connection", option);
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// Writes what a 426 must say: which protocols would do (RFC 9110 §15.5.22), those that the
/// upstream names, in a field that belongs to this hop (§7.8). A local response has written them.
#[cold]
fn write_required(out: &mut Vec<u8>, headers: &Headers, local: bool, kept: Option<&[u8]>) {
    let mut any = false;
    for protocols in headers.values(b"upgrade") {
        any = true;
        if !local {
            write_field(out, b"Upgrade", protocols);
        }
    }
    let options = [kept, any.then_some(&b"Upgrade"[..])].into_iter().flatten();
    let options = options.collect::<Vec<_>>().join(&b", "[..]);
    if !options.is_empty() {
        write_field(out, b"Connection", &options);
    }
}

/// The length of a body in pieces. Where plugins may edit it, the one they left in the headers is
/// trusted, and checked as the body goes out; without one in the headers none is announced.
pub(super) fn trusted_length(said: BodyLength, kept: Option<&[u8]>, edits: bool) -> BodyLength {
    match (kept.and_then(content_length), said) {
        (Some(bytes), _) if edits => BodyLength::Known(bytes),
        (Some(_), said) => said,
        (None, _) => BodyLength::Chunked,
    }
}

/// What framing depends on.
struct Shape<'a> {
    to_head: bool,
    version: Version,
    /// What is known of the body's length from the head.
    length: BodyLength,
    status: u16,
    /// The body's length, if all of it is here.
    whole: Option<u64>,
    /// The Content-Length among the message's fields.
    kept: Option<&'a [u8]>,
}

impl Shape<'_> {
    /// How the body goes out: by its length where that is known, else chunked, else until the
    /// connection ends (HTTP/1.0).
    fn framing(&self) -> Encoder {
        if self.to_head || !has_length(self.status) {
            return Encoder::None;
        }
        match (self.whole, self.length) {
            (Some(bytes), _) | (None, BodyLength::Known(bytes)) => Encoder::Length(bytes),
            _ if self.version == Version::Http11 => Encoder::Chunked,
            _ => Encoder::UntilClose,
        }
    }

    /// Writes the framing field. To HEAD and in a 304 the length is what a GET would have got
    /// (RFC 9110 §8.6): of a local response that is known, of the upstream's it is what that said.
    fn write(&self, out: &mut Vec<u8>, encoder: Encoder, local: bool) {
        match (encoder, self.whole, self.kept) {
            (Encoder::Length(bytes), ..) => write_number_field(out, b"Content-Length", bytes),
            (Encoder::Chunked, ..) => write_field(out, b"Transfer-Encoding", b"chunked"),
            (Encoder::UntilClose, ..) => {}
            (Encoder::None, Some(bytes), _) if local && has_length(self.status) => {
                write_number_field(out, b"Content-Length", bytes);
            }
            (Encoder::None, _, Some(length)) if self.status != 204 => {
                write_field(out, b"Content-Length", length);
            }
            (Encoder::None, ..) => {}
        }
    }
}

/// Writes a 1xx response as it came, without what may not stand in one (RFC 9110 §8.6, §15.2).
pub(super) fn write_interim(out: &mut Vec<u8>, head: &ResponseHead, bytes: &[u8], via: bool) {
    let mut headers = Headers::new();
    headers.adopt(&bytes[..head.len], &head.fields);
    if head.nominates {
        remove_nominated(&mut headers);
    }
    write_status_line(out, head.status);
    headers.write_lines(out, |line| !FRAMING.has(line.known()));
    if via {
        write_via(out, head.version);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the head of a 101 that was offered and accepted: the fields of this hop belong in it.
pub(super) fn write_tunnel_head(out: &mut Vec<u8>, headers: &Headers, date: &[u8], via: bool) {
    write_status_line(out, 101);
    write_upstream_fields(out, headers, date);
    if via {
        write_via(out, Version::Http11);
    }
    for protocol in headers.values_known(Known::Upgrade) {
        write_field(out, b"Upgrade", protocol);
    }
    out.extend_from_slice(b"Connection: Upgrade\r\n\r\n");
}

/// Adds this gateway to those that the message went through: behind the `Via` fields that are
/// there, with the version it was received in and a name instead of an address (RFC 9110 §7.6.3).
pub(super) fn write_via(out: &mut Vec<u8>, received: Version) {
    out.extend_from_slice(match received {
        Version::Http11 => b"Via: 1.1 ringgate\r\n",
        Version::Http10 => b"Via: 1.0 ringgate\r\n",
    });
}

/// Takes away the fields that Connection names (RFC 9110 §7.6.1), before a plugin adds its own: a
/// peer must not be able to take those away. Framing and what belongs to a connection anyway stay
/// for whoever deals with them.
#[cold]
pub(super) fn remove_nominated(headers: &mut Headers) {
    headers.remove_if(|headers, line| {
        !FRAMING.has(line.known()) && is_nominated(headers, line.name())
    });
}

/// The upstream's fields without those of its connection; our Server, its Date or ours.
fn write_upstream_fields(out: &mut Vec<u8>, headers: &Headers, date: &[u8]) {
    const REMADE: KnownSet = FRAMING.and(&[Known::Server]);
    let mut dated = false;
    headers.write_lines(out, |line| {
        dated |= line.known() == Known::Date;
        !REMADE.has(line.known())
    });
    if !dated {
        write_field(out, b"Date", date);
    }
    out.extend_from_slice(b"Server: ringgate\r\n");
}

/// Whether a Connection field names that field (RFC 9110 §7.6.1).
fn is_nominated(headers: &Headers, name: &[u8]) -> bool {
    let options = headers.values_known(Known::Connection).flat_map(list_members);
    options.into_iter().any(|option| option.eq_ignore_ascii_case(name))
}

/// Fields that say how a message lies in its connection.
const FRAMING: KnownSet = KnownSet::HOP_BY_HOP.and(&[Known::ContentLength]);
