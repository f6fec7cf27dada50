//! `response-rewrite`: another status, other fields, another body.
//!
//! As APISIX's plugin of that name (`apisix/plugins/response-rewrite.lua`). Filters look at bodies
//! as they are and at those that gzip compressed, which then go on as they were before that; bodies
//! in another coding pass.

use super::body;
use super::fields::{self, FieldEdits};
use super::proxy_rewrite::read_rule;
use crate::expr::{Expr, Pattern, Replacement};
use crate::http::base64;
use crate::limits::HELD_BODY_BYTES_MAX;
use crate::plugin::{Action, Hold, Hooks, Message, Plugin, Stream, compile_rule};
use crate::schema::{Object, Reader};
use flate2::bufread::MultiGzDecoder;
use std::io::Read;
use std::sync::Arc;

pub(super) const NAME: &str = "response-rewrite";

#[derive(Debug)]
struct ResponseRewrite {
    when: Option<Expr>,
    status: Option<u16>,
    fields: FieldEdits,
    body: Option<NewBody>,
}

#[derive(Debug)]
enum NewBody {
    Whole(Vec<u8>),
    Filtered(Vec<Filter>),
}

#[derive(Debug)]
struct Filter {
    pattern: Pattern,
    replacement: Replacement,
    all: bool,
}

/// In the exchange's word: the body is to be changed.
const CHANGES_BODY: u64 = 1;

/// The same, and it is compressed.
const CHANGES_GZIP: u64 = 2;

impl Plugin for ResponseRewrite {
    fn name(&self) -> &str {
        NAME
    }

    fn hooks(&self) -> Hooks {
        match self.body {
            Some(_) => Hooks::RESPONSE_HEADERS | Hooks::RESPONSE_BODY | Hooks::RESPONSE_TRAILERS,
            None => Hooks::RESPONSE_HEADERS,
        }
    }

    fn on_response_headers(&self, stream: &mut Stream<'_>, _end_of_stream: bool) -> Action {
        let message: &mut Message = stream.message;
        if self.when.as_ref().is_some_and(|rule| !rule.matches(message)) {
            return Action::Continue;
        }
        if let Some(status) = self.status {
            message.response.status = status;
        }
        match (&self.body, coding(message)) {
            (Some(NewBody::Filtered(_)), Coding::Other) => {
                log::info!("response-rewrite: a body in another coding than gzip is not filtered");
            }
            (Some(new), coding) => {
                let gzip = coding == Coding::Gzip && matches!(new, NewBody::Filtered(_));
                *stream.state = if gzip { CHANGES_GZIP } else { CHANGES_BODY };
                body::forget_fields(message);
                if let NewBody::Whole(bytes) = new {
                    body::announce(message, bytes.len());
                }
            }
            (None, _) => {}
        }
        self.edit_fields(message, &mut stream.locals.scratch);
        Action::Continue
    }

    fn on_response_body(&self, stream: &mut Stream<'_>, end_of_stream: bool) -> Action {
        if *stream.state == 0 {
            return Action::Continue;
        }
        let body = &mut stream.message.body;
        match &self.body {
            Some(NewBody::Whole(bytes)) => {
                body.clear();
                if end_of_stream {
                    body.extend_from_slice(bytes);
                }
            }
            Some(NewBody::Filtered(_)) if !end_of_stream => return Action::Pause(Hold::Body),
            Some(NewBody::Filtered(filters)) => {
                let out = &mut stream.locals.scratch;
                if *stream.state == CHANGES_GZIP {
                    if !decompress(body, out) {
                        log::warn!("response-rewrite: a body that is no gzip, or too much of it");
                        stream.message.respond(500, None);
                        return Action::Respond;
                    }
                    std::mem::swap(body, out);
                }
                for filter in filters {
                    out.clear();
                    filter.pattern.replace(body, &filter.replacement, filter.all, out);
                    std::mem::swap(body, out);
                }
            }
            None => {}
        }
        Action::Continue
    }

    /// The body ended without saying so.
    fn on_response_trailers(&self, stream: &mut Stream<'_>) -> Action {
        self.on_response_body(stream, true)
    }
}

impl ResponseRewrite {
    fn edit_fields(&self, message: &mut Message, scratch: &mut Vec<u8>) {
        for (name, template) in &self.fields.add {
            fields::render(template, &*message, scratch);
            message.response.headers.append(name, scratch);
        }
        for (name, template) in &self.fields.set {
            fields::render(template, &*message, scratch);
            fields::set_or_remove(&mut message.response.headers, name, scratch);
        }
        for name in &self.fields.remove {
            message.response.headers.remove(name);
        }
    }
}

/// What was done to a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Nothing,
    Gzip,
    Other,
}

fn coding(message: &Message) -> Coding {
    let mut codings = message.response.headers.values(b"content-encoding");
    match (codings.next(), codings.next()) {
        (None, _) => Coding::Nothing,
        (Some(only), None) if only.eq_ignore_ascii_case(b"identity") => Coding::Nothing,
        // `x-gzip` is the same (RFC 9110 §8.4.1.3).
        (Some(only), None) if only.eq_ignore_ascii_case(b"gzip") => Coding::Gzip,
        (Some(only), None) if only.eq_ignore_ascii_case(b"x-gzip") => Coding::Gzip,
        _ => Coding::Other,
    }
}

/// Puts what gzip made `body` of into `out`; `false`: it is none, or becomes larger than a body
/// that is held may be.
fn decompress(body: &[u8], out: &mut Vec<u8>) -> bool {
    out.clear();
    let most = HELD_BODY_BYTES_MAX as u64;
    let read = MultiGzDecoder::new(body).take(most + 1).read_to_end(out);
    body.is_empty() || read.is_ok_and(|bytes| bytes as u64 <= most)
}

/// Reads the configuration. Unknown keys are allowed, as APISIX allows them.
pub(super) fn read(conf: Reader<'_>) -> Option<Arc<dyn Plugin>> {
    let mut object = conf.object()?;
    if object.has("body") && object.has("filters") {
        object.error("`body` and `filters` exclude each other");
    }
    let fields =
        object.get("headers").and_then(|reader| FieldEdits::read(reader, fields::read_lines));
    let whole = read_body(&mut object).map(NewBody::Whole);
    let filters = object.get("filters").and_then(|reader| reader.list_of(1..=usize::MAX, filter));
    let plugin = ResponseRewrite {
        when: object.get("vars").and_then(|reader| compile_rule(&reader)),
        status: object.integer("status_code", 200..=598).map(|status| status as u16),
        fields: fields.unwrap_or_default(),
        body: whole.or(filters.map(NewBody::Filtered)),
    };
    object.allow_unknown();
    Some(Arc::new(plugin))
}

fn read_body(object: &mut Object<'_>) -> Option<Vec<u8>> {
    let is_base64 = object.boolean("body_base64").unwrap_or(false);
    let Some(reader) = object.get("body") else {
        if is_base64 {
            object.error("invalid base64 content");
        }
        return None;
    };
    let text = reader.string(0..=usize::MAX)?.as_bytes();
    if !is_base64 {
        return Some(text.to_vec());
    }
    let mut bytes = Vec::new();
    let decoded = base64::decode(text, &mut bytes).filter(|()| !text.is_empty());
    if decoded.is_none() {
        reader.error("invalid base64 content");
    }
    Some(bytes)
}

fn filter(reader: Reader<'_>) -> Option<Filter> {
    let mut object = reader.object()?;
    let scopes = [("once", false), ("global", true)];
    let all = object.one_of("scope", &scopes).unwrap_or(false);
    let options = object.string("options", 0..=usize::MAX).unwrap_or("jo");
    let (pattern, replacement) = (object.need("regex"), object.need("replace"));
    object.allow_unknown();
    let (pattern, replacement) = (pattern?, replacement?);
    let (_, made) = read_rule(&pattern, &replacement)?;
    match Pattern::compile(pattern.string(1..=usize::MAX)?, options) {
        Ok(pattern) => Some(Filter { pattern, replacement: made, all }),
        Err(why) => {
            pattern.error(why);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin::testing::{Run, plugin, refused, request, response_field};
    use crate::http::BodyLength;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use serde_json::json;
    use std::io::Write;

    fn upstream_answer() -> Box<Message> {
        let mut message = request("GET", "/hello");
        message.response.status = 200;
        for (name, value) in [("Content-Length", "11"), ("ETag", "x"), ("X-A", "1"), ("X-B", "1")] {
            message.response.headers.append(name.as_bytes(), value.as_bytes());
        }
        message
    }

    #[test]
    fn status_and_fields() {
        let conf = json!({
            "status_code": 403,
            "headers": {
                "add": ["X-A: 2", "Set-Cookie: a=$remote_addr; Path=/a:b"],
                "set": { "X-Status": "$status", "X-Gone": "", "X-Uri": "$uri" },
                "remove": ["X-B"],
            },
        });
        let plugin = plugin(read, &conf);
        assert_eq!(plugin.hooks(), Hooks::RESPONSE_HEADERS);
        let mut run = Run::new(&*plugin, upstream_answer());
        assert_eq!(run.response(&["hello world"]), "hello world");
        let field = |name: &str| response_field(&run.message, name);
        assert_eq!(run.message.response.status, 403);
        assert_eq!(run.message.response.headers.values(b"x-a").count(), 2);
        assert_eq!(field("set-cookie").as_deref(), Some("a=127.0.0.1; Path=/a:b"));
        assert_eq!(field("x-status").as_deref(), Some("403"));
        assert_eq!(field("x-uri").as_deref(), Some("/hello"));
        assert_eq!((field("x-b"), field("x-gone")), (None, None));
        assert_eq!(field("content-length").as_deref(), Some("11"), "the body is the same");
    }

    #[test]
    fn bodies() {
        let filters = |filters: serde_json::Value| json!({ "filters": filters });
        let (hello, none): (&[&str], &[&str]) = (&["hello", " ", "world"], &[]);
        for (conf, pieces, expected) in [
            (json!({ "body": "new" }), hello, "new"),
            (json!({ "body": "new" }), none, "new"),
            (json!({ "body": "" }), hello, ""),
            (json!({ "body": "bmV3", "body_base64": true }), hello, "new"),
            (filters(json!([{ "regex": "o", "replace": "0" }])), hello, "hell0 world"),
            (
                filters(json!([{ "regex": "o", "replace": "0", "scope": "global" }])),
                hello,
                "hell0 w0rld",
            ),
            (
                filters(json!([
                    { "regex": "(HELLO) (w)", "replace": "$2 $1", "options": "i" },
                    { "regex": "w", "replace": "W" },
                ])),
                hello,
                "W helloorld",
            ),
            (filters(json!([{ "regex": "x", "replace": "y" }])), none, ""),
            (json!({ "body": "new", "vars": [["status", "==", 500]] }), hello, "hello world"),
            (json!({ "body": "new", "vars": [["status", "==", 200]] }), hello, "new"),
        ] {
            let plugin = plugin(read, &conf);
            let mut run = Run::new(&*plugin, upstream_answer());
            assert_eq!(run.response(pieces), expected, "{conf}");
            let changed = expected != "hello world";
            let kept = response_field(&run.message, "content-length");
            assert_eq!(kept.is_none() && response_field(&run.message, "etag").is_none(), changed);
            let mut run = Run::new(&*plugin, upstream_answer());
            assert_eq!(run.response_with_trailers(pieces), expected, "{conf}, with trailers");
        }
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).expect("memory takes all");
        encoder.finish().expect("memory takes all")
    }

    /// Gives the action at the end of the body, and the body then.
    fn filtered(coding: &str, body: &[u8]) -> (Action, Vec<u8>, Option<String>) {
        let plugin = plugin(read, &json!({ "filters": [{ "regex": "o", "replace": "0" }] }));
        let mut message = upstream_answer();
        message.response.headers.append(b"Content-Encoding", coding.as_bytes());
        message.response.body = BodyLength::Known(body.len() as u64);
        let mut run = Run::new(&*plugin, message);
        assert_eq!(run.response_headers(), Action::Continue);
        run.message.body = body.to_vec();
        let action = run.response_body(true);
        let coding = response_field(&run.message, "content-encoding");
        (action, std::mem::take(&mut run.message.body), coding)
    }

    #[test]
    fn compressed_bodies_are_filtered_as_what_they_are() {
        for coding in ["gzip", "GZIP", "x-gzip"] {
            let made = filtered(coding, &gzip(b"foobar"));
            assert_eq!(made, (Action::Continue, b"f0obar".to_vec(), None), "{coding}");
        }
        let two = [gzip(b"foo"), gzip(b"bar")].concat();
        assert_eq!(filtered("gzip", &two).1, b"f0obar", "two members are one body");
        assert_eq!(filtered("gzip", b"").0, Action::Continue);
        let fits = filtered("gzip", &gzip(&vec![b'o'; HELD_BODY_BYTES_MAX]));
        assert_eq!((fits.0, fits.1.len()), (Action::Continue, HELD_BODY_BYTES_MAX));
    }

    #[test]
    fn what_is_no_gzip_or_too_much_of_it_is_a_500() {
        let whole = gzip(b"foobar");
        let mut flipped = whole.clone();
        flipped[whole.len() - 6] ^= 1;
        let bomb = gzip(&vec![b'o'; HELD_BODY_BYTES_MAX + 1]);
        for body in [&b"foobar"[..], &whole[..whole.len() - 1], &flipped, &bomb] {
            assert_eq!(filtered("gzip", body).0, Action::Respond);
        }
    }

    #[test]
    fn bodies_in_other_codings_are_not_filtered() {
        for coding in ["br", "gzip, br", "deflate"] {
            let (action, body, kept) = filtered(coding, b"foobar");
            assert_eq!((action, &body[..]), (Action::Continue, &b"foobar"[..]));
            assert_eq!(kept.as_deref(), Some(coding));
        }
        assert_eq!(filtered("identity", b"foobar").1, b"f0obar");
    }

    #[test]
    fn configurations_refused() {
        for (conf, start) in [
            (json!({ "status_code": 199 }), "p.status_code: "),
            (json!({ "status_code": 599 }), "p.status_code: "),
            (json!({ "body": 1 }), "p.body: "),
            (json!({ "body": "?", "body_base64": true }), "p.body: invalid base64 content"),
            (json!({ "body": "", "body_base64": true }), "p.body: invalid base64 content"),
            (json!({ "body_base64": true }), "p: invalid base64 content"),
            (json!({ "body": "", "filters": [] }), "p: `body` and `filters` exclude each other"),
            (json!({ "filters": [] }), "p.filters: "),
            (json!({ "filters": [{ "regex": "a" }] }), "p.filters[0]: missing key `replace`"),
            (json!({ "filters": [{ "regex": "(", "replace": "" }] }), "p.filters[0].regex: "),
            (
                json!({ "filters": [{ "regex": "a", "replace": "", "options": "q" }] }),
                "p.filters[0].regex: regular expressions have no option 'q'",
            ),
            (json!({ "headers": { "add": ["a"] } }), "p.headers.add[0]: "),
            (json!({ "headers": { "add": [" : b"] } }), "p.headers.add[0]: "),
            (json!({ "headers": { "a": [] } }), "p.headers.a: "),
            (json!({ "vars": [["a", "!=", "b"]] }), "p.vars[0][1]: invalid operator"),
        ] {
            refused(read, &conf, start);
        }
    }
}
