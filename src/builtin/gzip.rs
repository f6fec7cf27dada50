//! `gzip`: compresses responses on their way out.
//!
//! As APISIX's plugin of that name (`apisix/plugins/gzip.lua`, nginx's `ngx_http_gzip_filter`).
//! Each piece of a body is sent on as soon as it comes, compressed. Compressors are the worker's:
//! one that is free is used again, so nothing is allocated once there are enough.

use crate::http::{Headers, Version, list_members};
use crate::plugin::{Action, Hooks, Message, Plugin, SlotId, SlotIds, Stream};
use crate::schema::{Object, Reader};
use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use std::sync::{Arc, LazyLock};

pub(super) const NAME: &str = "gzip";

/// Free compressors of one level that a worker keeps; each has some 270 KB.
const FREE_MAX: usize = 16;

#[derive(Debug)]
struct Gzip {
    /// `None`: all.
    types: Option<Vec<Vec<u8>>>,
    min_length: u64,
    level: u32,
    version: Version,
    vary: bool,
}

/// All plugins of this kind share one place on a worker.
static SLOT: LazyLock<SlotId> = LazyLock::new(|| SlotIds::process().next());

impl Plugin for Gzip {
    fn name(&self) -> &str {
        NAME
    }

    fn hooks(&self) -> Hooks {
        let body = Hooks::RESPONSE_BODY | Hooks::RESPONSE_TRAILERS;
        Hooks::RESPONSE_HEADERS | body | Hooks::LOG
    }

    /// Other plugins see, and change, the body as it is.
    fn is_last_in_response(&self) -> bool {
        true
    }

    fn on_response_headers(&self, stream: &mut Stream<'_>, end_of_stream: bool) -> Action {
        let message: &mut Message = stream.message;
        if end_of_stream || !self.fits(message) {
            return Action::Continue;
        }
        if stream.locals.get_mut::<Compressors>(*SLOT).is_none() {
            stream.locals.insert(*SLOT, Compressors::default());
        }
        if let Some(compressors) = stream.locals.get_mut::<Compressors>(*SLOT) {
            *stream.state = compressors.take(self.level);
            announce(&mut message.response.headers, self.vary, &mut stream.locals.scratch);
        }
        Action::Continue
    }

    fn on_response_body(&self, stream: &mut Stream<'_>, end_of_stream: bool) -> Action {
        let mut out = std::mem::take(&mut stream.locals.scratch);
        let compressors = stream.locals.get_mut::<Compressors>(*SLOT);
        if let Some(running) = compressors.and_then(|all| all.running(*stream.state)) {
            let body = &mut stream.message.body;
            out.clear();
            if end_of_stream || !body.is_empty() {
                running.write(body, end_of_stream, &mut out);
            }
            std::mem::swap(body, &mut out);
        }
        stream.locals.scratch = out;
        Action::Continue
    }

    /// The body ended without saying so. What came last is here, compressed already.
    fn on_response_trailers(&self, stream: &mut Stream<'_>) -> Action {
        let compressors = stream.locals.get_mut::<Compressors>(*SLOT);
        if let Some(running) = compressors.and_then(|all| all.running(*stream.state)) {
            running.write(&[], true, &mut stream.message.body);
        }
        Action::Continue
    }

    fn on_log(&self, stream: &mut Stream<'_>) {
        let place = std::mem::take(stream.state);
        if let Some(compressors) = stream.locals.get_mut::<Compressors>(*SLOT) {
            compressors.give_back(place);
        }
    }
}

impl Gzip {
    /// Whether a response is compressed (nginx `ngx_http_gzip_header_filter`).
    fn fits(&self, message: &Message) -> bool {
        let (request, response) = (&message.request, &message.response);
        let field = |name| response.headers.get(name);
        let kind = field(&b"content-type"[..]).unwrap_or_default();
        let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let is_kind = |known: &Vec<u8>| known.eq_ignore_ascii_case(kind);
        let of_kind = self.types.as_ref().is_none_or(|types| types.iter().any(is_kind));
        let length = field(b"content-length").and_then(crate::http::content_length);
        matches!(response.status, 200 | 403 | 404)
            && !kind.is_empty()
            && of_kind
            && field(b"content-encoding").is_none()
            && length.is_none_or(|bytes| bytes >= self.min_length)
            && request.version >= self.version
            && accepts_gzip(&request.headers)
    }
}

/// Whether the client takes gzip (RFC 9110 §12.5.3). A `*` alone is not taken for it, as in nginx.
fn accepts_gzip(headers: &Headers) -> bool {
    headers.values(b"accept-encoding").flat_map(list_members).any(|member| {
        let mut parts = member.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let is_gzip = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(b"gzip"));
        let refuses = |weight: &[u8]| {
            let zero = |byte: &u8| matches!(byte, b'0' | b'.');
            matches!(weight, [b'q' | b'Q', b'=', rest @ ..] if rest.iter().all(zero))
        };
        is_gzip && !parts.any(refuses)
    })
}

fn announce(headers: &mut Headers, vary: bool, scratch: &mut Vec<u8>) {
    headers.set(b"Content-Encoding", b"gzip");
    headers.remove(b"content-length");
    headers.remove(b"accept-ranges");
    // Other bytes with the same meaning: a weak validator (RFC 9110 §8.8.1).
    if let Some(tag) = headers.get(b"etag").filter(|tag| tag.starts_with(b"\"")) {
        scratch.clear();
        scratch.extend_from_slice(b"W/");
        scratch.extend_from_slice(tag);
        headers.set(b"ETag", scratch);
    }
    if vary {
        headers.append(b"Vary", b"Accept-Encoding");
    }
}

/// One worker's compressors.
#[derive(Debug, Default)]
struct Compressors {
    /// By the place in an exchange's word, which counts from 1.
    running: Vec<Option<Compressor>>,
    /// By level.
    free: [Vec<Compressor>; 10],
}

impl Compressors {
    /// Takes a compressor; gives its place.
    fn take(&mut self, level: u32) -> u64 {
        let free = self.free[level as usize].pop();
        let compressor = free.unwrap_or_else(|| Compressor::new(level));
        let place = self.running.iter().position(Option::is_none).unwrap_or_else(|| {
            self.running.push(None);
            self.running.len() - 1
        });
        self.running[place] = Some(compressor);
        place as u64 + 1
    }

    fn running(&mut self, place: u64) -> Option<&mut Compressor> {
        self.running.get_mut(usize::try_from(place).ok()?.checked_sub(1)?)?.as_mut()
    }

    fn give_back(&mut self, place: u64) {
        let Some(at) = (place as usize).checked_sub(1) else { return };
        let Some(mut compressor) = self.running.get_mut(at).and_then(Option::take) else { return };
        let free = &mut self.free[compressor.level as usize];
        if free.len() < FREE_MAX {
            compressor.reset();
            free.push(compressor);
        }
    }
}

/// Makes one gzip member (RFC 1952).
#[derive(Debug)]
struct Compressor {
    level: u32,
    deflate: Compress,
    sum: Crc,
    begun: bool,
}

impl Compressor {
    fn new(level: u32) -> Self {
        let deflate = Compress::new(Compression::new(level), false);
        Self { level, deflate, sum: Crc::new(), begun: false }
    }

    fn reset(&mut self) {
        self.deflate.reset();
        self.sum.reset();
        self.begun = false;
    }

    /// Compresses a piece so that all of it can be read at the other end.
    fn write(&mut self, mut piece: &[u8], end: bool, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.begun, true) {
            // Deflate, no name, no time, an unknown system.
            out.extend_from_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]);
        }
        self.sum.update(piece);
        let flush = if end { FlushCompress::Finish } else { FlushCompress::Sync };
        loop {
            out.reserve(piece.len() / 2 + 64);
            let before = self.deflate.total_in();
            let status = self.deflate.compress_vec(piece, out, flush);
            piece = &piece[(self.deflate.total_in() - before) as usize..];
            let is_through = match status {
                Ok(Status::StreamEnd) | Err(_) => true,
                // A flush is complete once it leaves room.
                Ok(_) => !end && piece.is_empty() && out.len() < out.capacity(),
            };
            if is_through {
                break;
            }
        }
        if end {
            out.extend_from_slice(&self.sum.sum().to_le_bytes());
            out.extend_from_slice(&self.sum.amount().to_le_bytes());
        }
    }
}

/// Reads the configuration. Unknown keys are allowed, as APISIX allows them.
pub(super) fn read(conf: Reader<'_>) -> Option<Arc<dyn Plugin>> {
    let mut object = conf.object()?;
    let types = read_types(&mut object);
    let min_length = object.integer("min_length", 1..=i64::MAX).unwrap_or(20) as u64;
    let level = object.integer("comp_level", 1..=9).unwrap_or(1) as u32;
    let version = match object.number("http_version", 1.0..=1.1) {
        Some(1.0) => Version::Http10,
        _ => Version::Http11,
    };
    let vary = object.boolean("vary").unwrap_or(false);
    if let Some(mut buffers) = object.get("buffers").and_then(Reader::object) {
        // Pieces are as large as they come.
        for key in ["number", "size"] {
            let _ = buffers.integer(key, 1..=i64::MAX);
        }
        buffers.allow_unknown();
    }
    object.allow_unknown();
    Some(Arc::new(Gzip { types, min_length, level, version, vary }))
}

/// `None`: all.
fn read_types(object: &mut Object<'_>) -> Option<Vec<Vec<u8>>> {
    let Some(reader) = object.get("types") else { return Some(vec![b"text/html".to_vec()]) };
    if reader.value() == "*" {
        return None;
    }
    let read = |kind: Reader<'_>| Some(kind.string(1..=usize::MAX)?.as_bytes().to_vec());
    reader.list_of(1..=usize::MAX, read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin::testing::{plugin, refused, request, response_field};
    use crate::plugin::Locals;
    use serde_json::{Value, json};
    use std::io::Read;

    /// A response with these pieces; what goes out, and the fields.
    fn answer(
        conf: &Value,
        fields: &[(&str, &str)],
        pieces: &[&[u8]],
    ) -> (Vec<Vec<u8>>, Box<Message>) {
        answer_before(false, conf, fields, pieces)
    }

    /// The same, with trailers behind the last piece or none.
    fn answer_before(
        trailers: bool,
        conf: &Value,
        fields: &[(&str, &str)],
        pieces: &[&[u8]],
    ) -> (Vec<Vec<u8>>, Box<Message>) {
        let plugin = plugin(read, conf);
        let mut message = request("GET", "/");
        message.request.headers.append(b"Accept-Encoding", b"br, gzip");
        message.response.status = 200;
        message.response.headers.append(b"Content-Type", b"text/html; charset=utf-8");
        for (name, value) in fields {
            match name.strip_prefix('>') {
                Some(name) => message.request.headers.set(name.as_bytes(), value.as_bytes()),
                None => message.response.headers.set(name.as_bytes(), value.as_bytes()),
            }
        }
        let (mut locals, mut state, mut out) = (Locals::new(0), 0, Vec::new());
        // Twice, so that a compressor is used again.
        for _ in 0..2 {
            out.clear();
            message.response.headers.remove(b"content-encoding");
            let mut stream =
                Stream { message: &mut message, state: &mut state, locals: &mut locals, key: None };
            plugin.on_response_headers(&mut stream, pieces.is_empty());
            for (at, piece) in pieces.iter().enumerate() {
                stream.message.body = piece.to_vec();
                let last = at + 1 == pieces.len();
                plugin.on_response_body(&mut stream, last && !trailers);
                if last && trailers {
                    plugin.on_response_trailers(&mut stream);
                }
                out.push(stream.message.body.clone());
            }
            plugin.on_log(&mut stream);
        }
        (out, message)
    }

    fn unpacked(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut decoder = flate2::read::MultiGzDecoder::new(bytes);
        decoder.read_to_end(&mut out).expect("a whole gzip member");
        out
    }

    #[test]
    fn bodies_come_out_as_they_went_in() {
        let mut random = fastrand::Rng::with_seed(3);
        let noise: Vec<u8> = (0..200_000).map(|_| random.u8(..)).collect();
        let text = b"hello hello hello ".repeat(20_000);
        let cases: [&[&[u8]]; 6] = [
            &[b"hello"],
            &[b"hello ", b"", b"world", b""],
            &[b""],
            &[&text],
            &[&noise],
            &[&noise[..70_000], &text, &noise[70_000..]],
        ];
        for pieces in cases {
            for level in [1, 6, 9] {
                for trailers in [false, true] {
                    let conf = json!({ "comp_level": level });
                    let (out, message) = answer_before(trailers, &conf, &[], pieces);
                    assert_eq!(unpacked(&out.concat()), pieces.concat(), "{trailers}");
                    let coding = response_field(&message, "content-encoding");
                    assert_eq!(coding.as_deref(), Some("gzip"));
                }
            }
        }
        let (out, _) = answer(&json!({}), &[], &[&text]);
        assert!(out.concat().len() < text.len() / 50);
    }

    #[test]
    fn each_piece_can_be_read_when_it_comes() {
        let (out, _) = answer(&json!({}), &[], &[b"first", b"", b"second", b"third"]);
        let mut decoder = flate2::write::GzDecoder::new(Vec::new());
        for (piece, seen) in out.iter().zip(["first", "first", "firstsecond"]) {
            std::io::Write::write_all(&mut decoder, piece).expect("good so far");
            std::io::Write::flush(&mut decoder).expect("good so far");
            assert_eq!(decoder.get_ref(), seen.as_bytes());
        }
        assert!(out[1].is_empty());
    }

    #[test]
    fn which_responses() {
        let (none, all) = (json!({}), json!({ "types": "*", "http_version": 1.0 }));
        let json = json!({ "types": ["text/plain", "application/json"] });
        for (conf, fields, compressed) in [
            (&none, &[][..], true),
            (&none, &[("Content-Type", "TEXT/HTML")], true),
            (&none, &[("Content-Type", "application/json")], false),
            (&json, &[("Content-Type", "application/json;x=y")], true),
            (&json, &[("Content-Type", "")], false),
            (&all, &[("Content-Type", "image/png")], true),
            (&all, &[("Content-Type", "")], false),
            (&none, &[("Content-Length", "19")], false),
            (&none, &[("Content-Length", "20")], true),
            (&none, &[(">Accept-Encoding", "gzip;q=0.5")], true),
            (&none, &[(">Accept-Encoding", "gzip;q=0")], false),
            (&none, &[(">Accept-Encoding", "gzip; Q=0.000")], false),
            (&none, &[(">Accept-Encoding", "br")], false),
            (&none, &[(">Accept-Encoding", "*")], false),
            (&none, &[(">Accept-Encoding", "xgzip")], false),
        ] {
            let (out, _) = answer(conf, fields, &[b"hello hello hello hello"]);
            assert_eq!(out[0].starts_with(&[0x1f, 0x8b]), compressed, "{conf} {fields:?}");
        }
        let coded = plugin(read, &none);
        for (name, value, version, status, compressed) in [
            ("X-A", "b", Version::Http11, 200, true),
            ("X-A", "b", Version::Http11, 404, true),
            ("X-A", "b", Version::Http11, 500, false),
            ("X-A", "b", Version::Http10, 200, false),
            ("Content-Encoding", "br", Version::Http11, 200, false),
        ] {
            let mut message = request("GET", "/");
            message.request.version = version;
            message.request.headers.append(b"Accept-Encoding", b"gzip");
            message.response.status = status;
            message.response.headers.append(b"Content-Type", b"text/html");
            message.response.headers.append(name.as_bytes(), value.as_bytes());
            let (mut locals, mut state) = (Locals::new(0), 0);
            let mut stream =
                Stream { message: &mut message, state: &mut state, locals: &mut locals, key: None };
            coded.on_response_headers(&mut stream, false);
            assert_eq!(state != 0, compressed, "{name} {version:?} {status}");
        }
    }

    #[test]
    fn fields() {
        let sent = [("Content-Length", "99"), ("ETag", "\"x\""), ("Accept-Ranges", "bytes")];
        let (_, message) = answer(&json!({ "vary": true }), &sent, &[b"x"]);
        let field = |name: &str| response_field(&message, name);
        assert_eq!((field("content-length"), field("accept-ranges")), (None, None));
        assert_eq!(field("etag").as_deref(), Some("W/\"x\""));
        assert_eq!(field("vary").as_deref(), Some("Accept-Encoding"));
        let (_, message) = answer(&json!({}), &[], &[]);
        assert_eq!(response_field(&message, "content-encoding"), None, "there is no body");
    }

    #[test]
    fn configurations_refused() {
        for (conf, start) in [
            (json!({ "types": [] }), "p.types: "),
            (json!({ "types": [""] }), "p.types[0]: "),
            (json!({ "min_length": 0 }), "p.min_length: "),
            (json!({ "comp_level": 10 }), "p.comp_level: "),
            (json!({ "http_version": 2 }), "p.http_version: "),
            (json!({ "buffers": { "number": 0 } }), "p.buffers.number: "),
            (json!({ "vary": 1 }), "p.vary: "),
        ] {
            refused(read, &conf, start);
        }
    }
}
