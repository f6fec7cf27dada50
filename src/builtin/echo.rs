//! `echo`: text before, after or instead of the response's body.
//!
//! As APISIX's plugin of that name (`apisix/plugins/echo.lua`).

use super::body;
use super::fields::{read_texts, set_or_remove};
use crate::plugin::{Action, Hooks, Plugin, Stream};
use crate::schema::Reader;
use std::sync::Arc;

pub(super) const NAME: &str = "echo";

#[derive(Debug)]
struct Echo {
    before: Option<Vec<u8>>,
    instead: Option<Vec<u8>>,
    after: Option<Vec<u8>>,
    fields: Vec<(Vec<u8>, String)>,
}

/// In the exchange's word: what comes before the body is out.
const BEGUN: u64 = 1;

impl Plugin for Echo {
    fn name(&self) -> &str {
        NAME
    }

    fn hooks(&self) -> Hooks {
        Hooks::RESPONSE_HEADERS | Hooks::RESPONSE_BODY | Hooks::RESPONSE_TRAILERS
    }

    fn on_response_headers(&self, stream: &mut Stream<'_>, _end_of_stream: bool) -> Action {
        let message = &mut **stream.message;
        body::forget_fields(message);
        let texts = [&self.before, &self.instead, &self.after];
        body::announce(message, texts.into_iter().flatten().map(Vec::len).sum());
        for (name, value) in &self.fields {
            set_or_remove(&mut message.response.headers, name, value.as_bytes());
        }
        Action::Continue
    }

    fn on_response_body(&self, stream: &mut Stream<'_>, end_of_stream: bool) -> Action {
        let body = &mut stream.message.body;
        if let Some(instead) = &self.instead {
            body.clear();
            if end_of_stream {
                body.extend_from_slice(instead);
            }
        }
        let first = *stream.state != BEGUN;
        if let Some(before) = &self.before
            && first
            && (end_of_stream || !body.is_empty())
        {
            *stream.state = BEGUN;
            body.splice(..0, before.iter().copied());
        }
        if let Some(after) = &self.after
            && end_of_stream
        {
            body.extend_from_slice(after);
        }
        Action::Continue
    }

    /// The body ended without saying so.
    fn on_response_trailers(&self, stream: &mut Stream<'_>) -> Action {
        self.on_response_body(stream, true)
    }
}

/// Reads the configuration. Unknown keys are allowed, as APISIX allows them.
pub(super) fn read(conf: Reader<'_>) -> Option<Arc<dyn Plugin>> {
    let mut object = conf.object()?;
    if !["before_body", "body", "after_body"].iter().any(|key| object.has(key)) {
        object.error("expected `before_body`, `body` or `after_body`");
    }
    let mut text = |key| object.string(key, 0..=usize::MAX).map(|text| text.as_bytes().to_vec());
    let (before, instead, after) = (text("before_body"), text("body"), text("after_body"));
    let fields = object.get("headers").and_then(read_texts).unwrap_or_default();
    object.allow_unknown();
    Some(Arc::new(Echo { before, instead, after, fields }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin::testing::{Run, plugin, refused, request, response_field};
    use serde_json::json;

    #[test]
    fn bodies() {
        let (pieces, none): (&[&str], &[&str]) = (&["", "a", "b", ""], &[]);
        for (conf, pieces, expected) in [
            (json!({ "before_body": "<" }), pieces, "<ab"),
            (json!({ "after_body": ">" }), pieces, "ab>"),
            (json!({ "body": "x" }), pieces, "x"),
            (json!({ "before_body": "<", "body": "x", "after_body": ">" }), pieces, "<x>"),
            (json!({ "before_body": "<", "after_body": ">" }), pieces, "<ab>"),
            (json!({ "before_body": "<", "after_body": ">" }), none, "<>"),
            (json!({ "body": "" }), pieces, ""),
            (json!({ "body": "" }), none, ""),
        ] {
            let plugin = plugin(read, &conf);
            let mut message = request("GET", "/");
            message.response.headers.append(b"Content-Length", b"2");
            let mut run = Run::new(&*plugin, message);
            assert_eq!(run.response(pieces), expected, "{conf} {pieces:?}");
            assert_eq!(response_field(&run.message, "content-length"), None);
            let mut run = Run::new(&*plugin, request("GET", "/"));
            assert_eq!(run.response_with_trailers(pieces), expected, "{conf}, with trailers");
        }
    }

    #[test]
    fn fields() {
        let conf = json!({ "body": "x", "headers": { "X-A": "$1", "X-N": 2, "X-Gone": "" } });
        let plugin = plugin(read, &conf);
        let mut message = request("GET", "/");
        message.response.headers.append(b"X-Gone", b"1");
        let mut run = Run::new(&*plugin, message);
        run.response(&["y"]);
        let field = |name: &str| response_field(&run.message, name);
        assert_eq!((field("x-a").as_deref(), field("x-n").as_deref()), (Some("$1"), Some("2")));
        assert_eq!(field("x-gone"), None);
    }

    #[test]
    fn configurations_refused() {
        for (conf, start) in [
            (json!({}), "p: expected `before_body`, `body` or `after_body`"),
            (json!({ "headers": { "a": "b" } }), "p: expected `before_body`"),
            (json!({ "body": 1 }), "p.body: "),
            (json!({ "body": "", "headers": {} }), "p.headers: "),
        ] {
            refused(read, &conf, start);
        }
    }
}
